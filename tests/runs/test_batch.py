"""Real papermill runs of tiny notebooks: each way to fail, side by side, resume, stop."""

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser

import psutil
import pytest
from little_repository import FAILURES

from workbench.__main__ import main
from workbench.claims import claimed
from workbench.runs import manifest
from workbench.runs.batch import Kernels, longest_first, plan, run_batch
from workbench.runs.environment import cores
from workbench.runs.report import write_report

pytestmark = pytest.mark.slow
GOOD = ("00_good", "07_reader", "08_meets", "09_meets")


def test_failures_are_found_and_named(batch):
    outcomes = manifest.outcomes(manifest.read(batch.folder))
    assert batch.code == 1
    ended = {name: record["event"] for name, record in outcomes.items()}
    assert ended == dict.fromkeys(GOOD, "completed") | dict.fromkeys(FAILURES, "failed")
    errors = {name: outcomes[name]["error"] for name in FAILURES}
    assert errors["01_raises"] == "cell [5]: RuntimeError: no <luck>"
    assert errors["02_exits"] == "cell [5]: SystemExit: 0"
    assert "died" in errors["03_dies"].lower()
    for name in ("04_unfinished", "05_misnamed"):
        assert f'must call start("{name}", ...) and end with run.finish()' in errors[name]


def test_two_at_once_meet_and_share_the_cores(batch):
    outcomes = manifest.outcomes(manifest.read(batch.folder))
    for name in ("08_meets", "09_meets"):
        assert outcomes[name]["metrics"] == {"threads": 3, "rate": 0.25, "seed": 7}
        assert outcomes[name]["threads"] == 3


def test_results_lie_in_the_folder(batch):
    folder, figures = batch.folder, batch.folder / "figures/00_good"
    assert {path.name for path in figures.iterdir()} == {"line.png", "line.csv", "metrics.json"}
    metrics = json.loads((folder / "figures/08_meets/metrics.json").read_text())
    assert metrics == {"threads": 3, "rate": 0.25, "seed": 7}
    assert (folder / "files/08_meets/here").read_text() == "kept"
    assert "RuntimeError" in json.dumps(batch.repository.read("01_raises", str(folder)).cells)


class Page(HTMLParser):
    """Collects links, images, headings and text; fails on tags that are not closed in order."""

    def __init__(self, path):
        super().__init__()
        self.open, self.links, self.images, self.headings, self.text = [], [], {}, [], ""
        self.feed(path.read_text())
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.images[found["src"]] = found["alt"]
        if tag == "h2":
            self.headings.append(found["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_report_is_a_page_with_a_section_for_each_notebook(batch):
    page = Page(batch.folder / "report.html")
    names = sorted([*GOOD, *FAILURES])
    assert page.headings == names
    assert page.links == [f"#{name}" for name in names] + [f"{name}.ipynb" for name in names]
    assert all((batch.folder / link).is_file() for link in page.links if link[0] != "#")
    assert page.images == {"figures/00_good/line.png": "00_good: line"}
    assert "cell [5]: RuntimeError: no <luck>" in page.text  # escaped, so that it is text
    assert "eval/accuracy" in page.text


def test_metrics_that_texts_state_come_first_and_the_rest_is_folded(tmp_path):
    (tmp_path / "README.md").write_text("<!--m:05_little/told:.0%-->?<!--/m--> <!--m:06_x/n:d-->")
    metrics = {f"m{i}": i for i in range(14)} | {"told": 0.5}
    record = {"notebook": "05_little", "status": "completed", "seconds": 1.0, "metrics": metrics}
    page = write_report(tmp_path, [record], "quick", claimed(tmp_path)).read_text()
    shown, folded = page.split("<details>")
    assert shown.index("told") < shown.index("m0") and "m10" in shown and "m11" not in shown
    assert "3 more metrics" in folded and "m13" in folded and "told" not in folded


def test_outputs_are_what_a_reader_sees(batch):
    cells = batch.repository.read("00_good", str(batch.folder)).cells
    card, sizes, work, shown = [c.outputs for c in cells if c.cell_type == "code"][2:6]
    html = "".join(card[0].data["text/html"])
    assert all(word in html for word in ("00_good", "quick", "seed", "rate", "0.25", "git", "CPU"))
    assert "quick (this run)" in sizes[0].data["text/html"]
    assert len(work) == 2 and "image/png" in work[0].data
    assert work[1].data["text/html"].startswith('<div><progress value="2" max="2"')
    assert shown[0].data["text/markdown"].startswith("```python\ndef parse_value(")
    assert shown[0].metadata["workbench_source"] == "workbench.runs.notebook:parse_value"


def test_resume_redoes_what_failed_or_changed_and_skips_the_rest(batch, tmp_path, capsys):
    folder = batch.of(tmp_path / "out", "00_good", "01_raises", "02_exits")
    resume, base = ["run", "--jobs", "2", "--resume", str(folder)], batch.repository.base
    (folder / manifest.NAME).open("a").write('{"half a li')
    try:
        batch.repository.add("02_exits", "run.log(a=1)")
        assert main(resume, base) == 1
        out = capsys.readouterr().out
        assert out.startswith(f"3 notebooks, quick profile, 2 at once, results in {folder}\n")
        assert out.count("skipped, completed before") == 1 and out.count(" ok  ") == 1
        again = f"python -m workbench run --resume {folder} --jobs 2"
        assert f"failed: 01_raises; repair, then: {again}" in out
        batch.repository.add("01_raises", "run.log(a=2)")
        assert main(resume, base) == 0
        out = capsys.readouterr().out
        assert out.count("skipped, completed before") == 2
        assert "01_raises                    ok" in out
    finally:
        for name in ("01_raises", "02_exits"):
            batch.repository.add(name, FAILURES[name])


def test_order_of_start(repository):
    for name, seconds in (("00_a", 5.0), ("01_b", None), ("02_c", 9.5), ("03_d", None)):
        repository.add(name)
        repository.recorded(name, **({"seconds": seconds} if seconds else {}))
    jobs = plan(sorted((repository.base / "notebooks").iterdir()), profile="quick", given={})
    assert [job.name for job in longest_first(jobs)] == ["01_b", "03_d", "02_c", "00_a"]


def test_cores_are_shared_out(monkeypatch, tmp_path):
    monkeypatch.setattr("workbench.runs.environment.cores", lambda: 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    threads = [Kernels(tmp_path, tmp_path, n).environment["OMP_NUM_THREADS"] for n in (1, 2, 3, 9)]
    assert threads == ["4", "2", "1", "1"] and cores() >= 1
    with pytest.raises(ValueError, match="max_workers"):
        run_batch([], tmp_path, tmp_path, profile="quick", at_once=0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_kernel_outlives_the_batch(repository, how):
    """Ctrl-C says how to go on, even where SIGINT came ignored, as after `nohup make run &`."""
    slow = "import os, time\nrun.path('here').write_text(str(os.getpid()))\n"
    names = ["00_slow", "01_slow"]
    for name in names:
        repository.add(name, slow + "time.sleep(300)")
        repository.recorded(name, seconds=1.0)
    repository.add("02_quick", "run.log(a=1)")  # of unknown length: the first
    folder, base = repository.base / "out", repository.base
    words = ["run", "--jobs", "2", "--output", str(folder)]
    code = "import sys; from pathlib import Path; from workbench.__main__ import main; "
    code += f"sys.exit(main({words!r}, Path({str(base)!r})))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    places = [folder / "files" / name / "here" for name in names]
    wait(lambda: all(place.exists() and place.read_text() for place in places), 120)
    kernels = [psutil.Process(int(place.read_text())) for place in places]
    assert (
        process.poll() is None and len({os.getpid(), process.pid, *(k.pid for k in kernels)}) == 4
    )
    os.killpg(process.pid, how)  # as Ctrl-C in a terminal: to all processes of the group
    assert process.wait(60) == (130 if how == signal.SIGINT else -9)
    wait(lambda: not any(map(alive, kernels)), 60)
    assert list(manifest.outcomes(manifest.read(folder))) == ["02_quick"]
    if how == signal.SIGINT:
        error = process.stderr.read()
        assert f"go on with: python -m workbench run --resume {folder} --jobs 2" in error
        assert "Traceback" not in error


def alive(process):
    try:
        return process.is_running() and process.status() != "zombie"
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def wait(until, seconds):
    """Wait until something is so; fail if it is not in time."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)
