"""Several notebooks at once, each in a process of its own with its share of the cores: `run --jobs
N`.

The parent starts one process per notebook (`python -m workbench.runs.parallel`), which runs it as a
batch of one would and appends the outcome to the manifest; that is all the parent reads. Ctrl-C
reaches the parent alone. A process stops, with its kernel, when its stdin is closed: the parent
does that, and so does the parent's end, whatever its cause.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import workbench
from workbench.runs import environment, manifest
from workbench.runs.content import root
from workbench.runs.job import Job, load, outcome_line, run_job

POLL_S, STOP_S = 0.1, 60.0  # seconds between two looks; for a process to stop before it is killed


@dataclass(frozen=True)
class Worker:
    """A process that runs one notebook; `before`: records in the manifest when it started."""

    job: Job
    process: subprocess.Popen
    before: int
    started: float


def threads_each(at_once: int) -> int:
    """Threads of each of `at_once` notebooks: an equal share of the cores, at least one."""
    return max(1, environment.cores() // at_once)


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """The jobs by the time of their recorded runs, so that no long one is left for the end; unknown
    ones first."""
    seconds = {
        job.path: load(job.path).metadata.get("workbench", {}).get("seconds", math.inf)
        for job in jobs
    }
    return sorted(jobs, key=lambda job: -seconds[job.path])


def side_by_side(
    jobs: Sequence[Job], folder: Path, base: Path, *, at_once: int, say: Callable = print
) -> list[dict]:
    """Execute the jobs, `at_once` at a time, and return their outcomes in the order in which they
    ended."""
    waiting, running, records = longest_first(jobs), [], []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_launch(waiting.pop(0), folder, base, threads_each(at_once)))
                say(f"{running[-1].job.name:<28} started", flush=True)
            for worker in [one for one in running if one.process.poll() is not None]:
                running.remove(worker)
                worker.process.stdin.close()
                records.append(_outcome(worker, folder))
                say(f"{worker.job.name:<28} {outcome_line(records[-1], folder)}", flush=True)
            time.sleep(POLL_S)
    finally:
        _stop(running)
    return records


def _launch(job: Job, folder: Path, base: Path, threads: int) -> Worker:
    what = {"path": str(job.path.resolve()), "parameters": dict(job.parameters)}
    what |= {"folder": str(folder.resolve()), "base": str(base.resolve())}
    before = len(manifest.read(folder))
    with (folder / "kernel.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench.runs.parallel", json.dumps(what)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=root(),  # so that it imports this very checkout
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )
    return Worker(job, process, before, time.monotonic())


def _outcome(worker: Worker, folder: Path) -> Mapping:
    """What an ended process wrote into the manifest; if nothing, a failure, written there."""
    name = worker.job.name
    record = manifest.outcomes(manifest.read(folder)[worker.before :]).get(name)
    if record is None:
        error = f"its process ended with code {worker.process.returncode}, see kernel.log"
        record = {
            "event": "failed",
            "notebook": name,
            "error": error,
            "parameters": dict(worker.job.parameters),
        }
        record |= {
            "package_version": workbench.__version__,
            "seconds": round(time.monotonic() - worker.started, 1),
        }
        manifest.append(folder, record)
    return record


def _stop(workers: Sequence[Worker]) -> None:
    """Let processes stop their kernels and end."""
    for worker in workers:
        worker.process.stdin.close()
    for worker in workers:
        try:
            worker.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()  # its kernel notices that and ends, too
            worker.process.wait()


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing is ever written: this returns when stdin is closed
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def main(words: Sequence[str]) -> int:
    """Run the one notebook that the parent asks for: 130 if stopped, else 0, however the notebook
    ended."""
    what = json.loads(words[0])
    try:
        # may have been ignored when the batch was started
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        run_job(
            Job(Path(what["path"]), what["parameters"]), Path(what["folder"]), Path(what["base"])
        )
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
