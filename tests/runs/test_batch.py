"""Real papermill runs of tiny notebooks: success and each way to fail, the wrong kernel, resume,
interrupt."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from workbench.__main__ import main
from workbench.runs import manifest

FAILURES = {
    "01_raises": "raise RuntimeError('no luck\\nsecond line')",
    "02_exits": "import sys\nsys.exit(0)",
    "03_dies": "import os\nos._exit(3)",
    "04_unfinished": "run.finish = lambda: None",
    "05_misnamed": "run.name = '06_other'",
}
CHECKS = """import os, sys
assert sys.executable == {python!r}
assert os.environ["HF_HUB_OFFLINE"] == "1" and os.environ["TOKENIZERS_PARALLELISM"] == "false"
assert os.getcwd() == {folder!r} and "torch" not in sys.modules
run.path("note.txt").write_text("kept")
run.log(rate=rate, seed=seed)"""


@pytest.fixture(scope="module")
def batch(shared_repository):
    """A batch of one good notebook and five bad ones; JUPYTER_PATH holds a broken `python3` kernel."""
    base = shared_repository.base
    kernel = base / "jupyter/kernels/python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"})
    )
    shared_repository.add("00_good")
    for name, work in FAILURES.items():
        shared_repository.add(name, work)
    shared_repository.add(
        "06_checks", CHECKS.format(python=sys.executable, folder=str(base / "notebooks"))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(base / "jupyter"))
        before = dict(os.environ)
        code = main(
            ["run", "all", "-p", "rate=0.25", "-p", "seed=7", "--output", str(base / "out {x}")],
            base,
        )
        assert dict(os.environ) == before
    return shared_repository, base / "out {x}", code


def test_failures_are_found_and_named(batch):
    _, folder, code = batch
    outcomes = manifest.outcomes(manifest.read(folder))
    assert code == 1
    assert {name: r["event"] for name, r in outcomes.items()} == {
        "00_good": "completed",
        **dict.fromkeys(FAILURES, "failed"),
        "06_checks": "completed",
    }
    errors = {name: outcomes[name]["error"] for name in FAILURES}
    assert errors["01_raises"] == "cell [5]: RuntimeError: no luck"
    assert errors["02_exits"] == "cell [5]: SystemExit: 0"
    assert "died" in errors["03_dies"].lower()
    assert errors["04_unfinished"] == errors["05_misnamed"].replace("05_misnamed", "04_unfinished")
    assert (
        'must call start("04_unfinished", ...) and end with run.finish()' in errors["04_unfinished"]
    )


def test_results_lie_in_the_folder(batch):
    repository, folder, _ = batch
    assert (folder / "figures/00_good/line.png").is_file() and (
        folder / "figures/00_good/line.csv"
    ).is_file()
    assert json.loads((folder / "metrics/06_checks.json").read_text()) == {"rate": 0.25, "seed": 7}
    assert (folder / "files/06_checks/note.txt").read_text() == "kept"
    report = (folder / "report.md").read_text()
    assert (
        "| 00_good | completed |" in report
        and "![00_good: line](figures/00_good/line.png)" in report
    )
    assert "eval/accuracy 0.4 [0.3, 0.5]" in report and "**01_raises** failed: cell [5]" in report
    assert "RuntimeError" in json.dumps(repository.read("01_raises", str(folder)).cells)


def test_outputs_are_what_a_reader_sees(batch):
    repository, folder, _ = batch
    cells = [c for c in repository.read("00_good", str(folder)).cells if c.cell_type == "code"]
    card, sizes, work, shown = (cells[i].outputs for i in (2, 3, 4, 5))
    html = "".join(card[0].data["text/html"])
    assert all(word in html for word in ("00_good", "quick", "seed", "rate", "0.25", "git", "CPU"))
    assert "quick (this run)" in sizes[0].data["text/html"]
    assert [list(output.data)[-1] for output in work] and "image/png" in work[0].data
    assert (
        work[1].data["text/html"].startswith('<div><progress value="2" max="2"') and len(work) == 2
    )
    assert shown[0].data["text/markdown"].startswith("```python\ndef parse_value(")
    assert shown[0].metadata["workbench_source"] == "workbench.runs.parameters:parse_value"


def test_resume_redoes_what_failed_or_changed_and_skips_the_rest(batch, capsys):
    repository, folder, _ = batch
    for name in ("02_exits", "03_dies", "04_unfinished", "05_misnamed"):
        repository.add(name, "run.log(a=1)")
    (folder / manifest.NAME).open("a").write('{"half a li')
    assert main(["run", "--resume", str(folder)], repository.base) == 1
    out = capsys.readouterr().out
    assert out.count("skipped, completed before") == 2 and out.count(" ok  ") == 4
    assert f"failed: 01_raises; repair, then: python -m workbench run --resume {folder}" in out
    repository.add("01_raises", "run.log(a=2)")
    assert main(["run", "--resume", str(folder)], repository.base) == 0
    out = capsys.readouterr().out
    assert out.count("skipped, completed before") == 6 and "01_raises                    ok" in out


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(repository):
    repository.add("00_first", "run.log(a=1)")
    repository.add("01_slow", "import time\nrun.path('here').write_text('x')\ntime.sleep(60)")
    folder = repository.base / "out"
    code = (
        f"import sys; from pathlib import Path; from workbench.__main__ import main; sys.exit(main(['run', '--output', \
{str(folder)!r}], Path({str(repository.base)!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not (folder / "files/01_slow/here").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    error = process.stderr.read()
    assert (
        f"stopped; go on with: python -m workbench run --resume {folder}" in error
        and "Traceback" not in error
    )
    assert list(manifest.outcomes(manifest.read(folder))) == ["00_first"]
