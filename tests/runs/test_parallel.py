"""Real papermill runs side by side: they meet, share the cores, fail alone, resume, and end with
their parent."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from workbench.__main__ import main
from workbench.runs import environment, manifest
from workbench.runs.batch import plan, run_batch
from workbench.runs.parallel import longest_first, threads_each

MEET = """import os, time
run.path("here").write_text(str(os.getpid()))
other = run.folder / "files" / {other!r} / "here"
deadline = time.monotonic() + 120
while not other.exists() and time.monotonic() < deadline:
    time.sleep(0.05)
assert other.exists(), "the other one never ran beside this one"
run.log(threads=int(os.environ["OMP_NUM_THREADS"]), rate=rate)"""
NOTEBOOKS = {
    "00_meets": MEET.format(other="03_meets"),
    "01_fails": "raise RuntimeError('no luck')",
    "02_takes_all_down": "import os\nos.kill(os.getppid(), 9)\nos._exit(0)",
    "03_meets": MEET.format(other="00_meets"),
}


@pytest.fixture(scope="module")
def batch(shared_repository):
    """Four notebooks, two at once on six cores; 00 and 03 wait for each other, so they were
    recorded as the longest."""
    for name, work in NOTEBOOKS.items():
        notebook = shared_repository.read(shared_repository.add(name, work).stem)
        notebook.metadata["workbench"] = {"seconds": 9.0 if name.endswith("meets") else 1.0}
        shared_repository.write(name, notebook)
    folder = shared_repository.base / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "cores", lambda: 6)
        patch.setenv("OMP_NUM_THREADS", "7")
        words = ["run", "all", "--jobs", "2", "-p", "rate=0.25", "--output", str(folder)]
        code = main(words, shared_repository.base)
    return shared_repository, folder, code


def test_two_at_once_and_failures_stay_alone(batch):
    _, folder, code = batch
    outcomes = manifest.outcomes(manifest.read(folder))
    assert code == 1 and {name: r["event"] for name, r in outcomes.items()} == {
        "00_meets": "completed",
        "01_fails": "failed",
        "02_takes_all_down": "failed",
        "03_meets": "completed",
    }
    assert outcomes["01_fails"]["error"] == "cell [5]: RuntimeError: no luck"
    assert (
        outcomes["02_takes_all_down"]["error"] == "its process ended with code -9, see kernel.log"
    )
    for name in ("00_meets", "03_meets"):
        assert (
            outcomes[name]["metrics"] == {"threads": 3, "rate": 0.25}
            and outcomes[name]["threads"] == 3
        )
    names = [
        line.split(" | ")[0]
        for line in (folder / "report.md").read_text().splitlines()
        if line[:3] == "| 0"
    ]
    assert names == [f"| {name}" for name in NOTEBOOKS]


def test_resume_runs_side_by_side_what_is_left(batch, capsys):
    repository, folder, _ = batch
    repository.add("01_fails", MEET.format(other="02_takes_all_down"))
    repository.add("02_takes_all_down", MEET.format(other="01_fails"))
    assert main(["run", "--resume", str(folder), "--jobs", "2"], repository.base) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"4 notebooks, quick profile, 2 at once, results in {folder}"
    assert [line.split()[1] for line in lines[1:7]] == [
        "skipped,",
        "skipped,",
        "started",
        "started",
        "ok",
        "ok",
    ]
    assert [line.split()[0] for line in lines[1:5]] == [
        "00_meets",
        "03_meets",
        "01_fails",
        "02_takes_all_down",
    ]


def test_order_of_start(repository):
    for name, seconds in (("00_a", 5.0), ("01_b", None), ("02_c", 9.5), ("03_d", None)):
        notebook = repository.read(repository.add(name).stem)
        notebook.metadata["workbench"] = {"seconds": seconds} if seconds else {}
        repository.write(name, notebook)
    jobs = plan(sorted((repository.base / "notebooks").iterdir()), profile="quick", given={})
    assert [job.name for job in longest_first(jobs)] == ["01_b", "03_d", "02_c", "00_a"]


def test_cores_are_shared_out(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "cores", lambda: 5)
    assert [threads_each(n) for n in (1, 2, 3, 5, 9)] == [5, 2, 1, 1, 1]
    with pytest.raises(ValueError, match="at_once=0"):
        run_batch([], tmp_path, tmp_path, profile="quick", at_once=0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_kernel_outlives_the_batch(repository, how):
    for name in ("00_slow", "01_slow"):
        repository.add(
            name, "import os, time\nrun.path('here').write_text(str(os.getpid()))\ntime.sleep(300)"
        )
    folder, base = repository.base / "out", repository.base
    code = "import sys; from pathlib import Path; from workbench.__main__ import main; "
    code += (
        f"sys.exit(main(['run', '--jobs', '2', '--output', {str(folder)!r}], Path({str(base)!r})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    places = [folder / "files" / name / "here" for name in ("00_slow", "01_slow")]
    wait(lambda: all(place.exists() and place.read_text() for place in places), 120)
    kernels = [psutil.Process(int(place.read_text())) for place in places]
    workers = [kernel.parent() for kernel in kernels]
    assert (
        process.poll() is None and len({os.getpid(), process.pid, *(w.pid for w in workers)}) == 4
    )
    os.killpg(process.pid, how)  # as Ctrl-C in a terminal: to all processes of the group
    assert process.wait(60) == (130 if how == signal.SIGINT else -9)
    wait(lambda: not any(map(alive, [*kernels, *workers])), 60)
    assert manifest.outcomes(manifest.read(folder)) == {}
    if how == signal.SIGINT:
        error = process.stderr.read()
        assert (
            f"go on with: python -m workbench run --resume {folder} --jobs 2" in error
            and "Traceback" not in error
        )


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
