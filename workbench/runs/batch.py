"""Batches of notebooks: `plan` checks all that can be checked beforehand, `run_batch` executes.

papermill runs the notebooks, each in a kernel of this interpreter that imports this checkout;
several at once are threads that wait for their kernels. What papermill lacks is added: a notebook
is done only if all cells ran and `run.finish()` wrote its record, one that fails leaves the others
alone, and a stopped batch can be resumed. No kernel outlives the batch: an interrupt kills them,
one whose parent is gone ends by itself. What they write to the terminal goes to kernel.log.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

import workbench
from workbench.claims import claimed
from workbench.models import smollm2
from workbench.runs import environment, manifest, notebook
from workbench.runs.report import write_report
from workbench.show.progress import duration

COMMAND = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    # other people's bars would stay in the outputs; ours are shown by `run.track`
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",
}


ON_SMOLLM2 = {"10_real_model"}  # what they need is optional: `make run SMOLLM2=no`


@dataclass(frozen=True)
class Job:
    """One notebook to run, with every parameter value; `title` is what the terminal calls it."""

    path: Path
    parameters: Mapping[str, object]
    title: str = ""

    @property
    def name(self) -> str:
        return self.path.stem


def select(base: Path, wanted: Sequence[str], *, to_run: bool = False) -> list[Path]:
    """The notebooks that `wanted` names: numbers (06 or 6), names, or `all`; else ValueError.

    `to_run`: of all of them, what lacks SmolLM2 is left out, and the terminal says so.
    """
    notebooks = notebook.available(base)
    if not notebooks:
        raise ValueError("there are no notebooks (notebooks/NN_name.ipynb) to run")
    if not wanted or "all" in wanted:
        lacking = ON_SMOLLM2 if to_run and not smollm2.is_here() else set()
        for name in sorted(lacking & {path.stem for path in notebooks}):
            print(f"{name:<28} left out: SmolLM2 is not here ({smollm2.GET_IT})", flush=True)
        return [path for path in notebooks if path.stem not in lacking]
    return sorted({_find(notebooks, name) for name in wanted})


def _find(notebooks: Sequence[Path], name: str) -> Path:
    stem = Path(name).stem
    start = f"{int(stem):02d}_" if re.fullmatch(r"\d{1,2}", stem) else f"{stem}."
    matches = [path for path in notebooks if path.name.startswith(start)]
    if len(matches) != 1:
        problem = "names several of" if matches else "no such notebook among"
        raise ValueError(f"{name}: {problem} {', '.join(p.stem for p in matches or notebooks)}")
    return matches[0]


def plan(notebooks: Sequence[Path], *, profile: str, given: Mapping[str, str]) -> list[Job]:
    """The jobs of a batch. ValueError for a notebook without profile and seed, or a wrong value."""
    defaults = {path: notebook.read_parameters(notebook.load(path)) for path in notebooks}
    for path, names in defaults.items():
        if missing := {"profile", "seed"} - set(names):
            lacks = " and ".join(sorted(missing))
            raise ValueError(f"{path.stem}: its parameters cell lacks {lacks}")
    known = sorted({name for names in defaults.values() for name in names} - {"profile"})
    for name in given:
        if name not in known:
            raise ValueError(f"-p {name}: unknown parameter; known are {', '.join(known)}")
    jobs = []
    for path, own in defaults.items():
        mine = {name: text for name, text in given.items() if name in own}
        values = {n: notebook.parse_value(n, text, type(own[n])) for n, text in mine.items()}
        jobs.append(Job(path, {**own, **values, "profile": profile}))
    return jobs


def open_folder(base: Path, output: Path | None, profile: str) -> Path:
    """The folder of a new batch, made. ValueError if it is not empty or can't be made."""
    folder = output or base / "runs" / f"{datetime.now():%Y%m%d-%H%M%S}-{profile}"
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: go on by --resume, or name another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output {folder}: {error.strerror}") from None
    return folder


def run_batch(
    jobs: Sequence[Job], folder: Path, base: Path, *, profile: str, at_once: int = 1
) -> list[dict]:
    """Execute the jobs into `folder`, `at_once` at a time, but those completed there by equal code.

    Returns the manifest's record of each job, with its `status` (completed, failed or skipped).
    KeyboardInterrupt passes through; the jobs that it stopped leave no record.
    """
    # 1. skip what was done before
    results = {job.name: record for job in jobs if (record := skipped(job, folder, base))}
    # 2. execute the others
    waiting = [job for job in jobs if job.name not in results]
    kernels = Kernels(folder.resolve(), base.resolve(), at_once)
    order = waiting if at_once == 1 else longest_first(waiting)
    work = {job.name: partial(run_job, job, kernels) for job in order}
    records = all_of(work, at_once, [kernels])
    # 3. report
    results |= {name: {**record, "status": record["event"]} for name, record in records.items()}
    ordered = [results[job.name] for job in jobs]
    write_report(folder, ordered, profile, claimed(base))
    return ordered


def all_of(
    work: Mapping[str, Callable[[], dict]], at_once: int, kernels: Sequence[Kernels]
) -> dict[str, dict]:
    """What each piece of work returns; a thread waits for each. If one raises, `kernels` stop."""
    with ThreadPoolExecutor(at_once) as pool:
        running = {name: pool.submit(piece) for name, piece in work.items()}
        try:
            return {name: future.result() for name, future in running.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for own in kernels:
                own.stop()
            raise


def skipped(job: Job, folder: Path, base: Path) -> dict | None:
    """The record of a job that was completed before and still stands, and say so; else None."""
    record = manifest.outcomes(manifest.read(folder)).get(job.name)
    if record is None or not is_done(record, job, folder, base):
        return None
    print(f"{job.title or job.name:<28} skipped, completed before", flush=True)
    return {**record, "status": "skipped"}


def is_done(record: Mapping, job: Job, folder: Path, base: Path) -> bool:
    """Does a manifest record still stand for what would be run now?"""
    if record["event"] != "completed" or not (folder / f"{job.name}.ipynb").is_file():
        return False
    data = manifest.data_today(base, record)
    today = notebook.content_hash(notebook.load(job.path), job.parameters, data)
    return record["hash"] == today and not manifest.changed_modules(record["modules"])


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """The jobs by recorded time, so that no long one is left for the end; unknown ones first."""
    records = {job.path: notebook.load(job.path).metadata.get("workbench", {}) for job in jobs}
    return sorted(jobs, key=lambda job: -records[job.path].get("seconds", float("inf")))


def run_job(job: Job, kernels: Kernels) -> dict:
    """Execute one notebook and append its outcome to the manifest, last; returns that record."""
    # 1. what it depends on, as it is before the run
    folder, code = kernels.folder, notebook.load(job.path)
    hashes = manifest.data_hashes(kernels.base)
    before, clock = len(manifest.read(folder)), time.monotonic()
    # 2. the run, and what the notebook says of it
    print(f"{job.title or job.name:<28} started", flush=True)
    error = execute(job, kernels)
    if kernels.stopped:
        raise InterruptedError(f"{job.name} was stopped")
    own = [r for r in manifest.read(folder)[before:] if r.get("notebook") == job.name]
    if error is None and not own:
        error = f'no record: it must call start("{job.name}", ...) and end with run.finish()'
    # 3. its outcome
    record = {"read": [], "data": {}, **(own[-1] if own else {})}
    data = {name: hashes.get(name, value) for name, value in record["data"].items()}
    record |= {"event": "failed" if error else "completed", "notebook": job.name, "error": error}
    record |= {"parameters": dict(job.parameters), "package_version": workbench.__version__}
    record |= {"data": data, "hash": notebook.content_hash(code, job.parameters, data)}
    record["seconds"] = round(time.monotonic() - clock, 1)
    manifest.append(folder, record)
    print(ending(job, record, folder), flush=True)
    return record


def ending(job: Job, record: Mapping, folder: Path) -> str:
    """How a job ended, as a line for the terminal."""
    took, error = duration(record["seconds"]), record["error"]
    failed = f"FAILED after {took}: {error} (see {folder / job.path.name})"
    return f"{job.title or job.name:<28} {failed if error else f'ok  {took}'}"


def execute(job: Job, kernels: Kernels) -> str | None:
    """Run a notebook into the batch's folder; returns None, or the error as one line."""
    import papermill

    logging.getLogger("papermill").addHandler(logging.NullHandler())  # its errors are returned
    place, literal = job.path.resolve().parent, {ord("{"): "{{", ord("}"): "}}"}
    paths = [str(folder / job.path.name).translate(literal) for folder in (place, kernels.folder)]
    settings = {"kernel_name": "python3", "language": "python", "progress_bar": False}
    settings |= {"kernel_manager_class": kernels.manager, "start_timeout": 300}
    settings |= {"resources": {"metadata": {"path": str(place)}}}  # where the kernel works
    try:
        done = papermill.execute_notebook(*paths, dict(job.parameters), **settings)
    except papermill.PapermillExecutionError as error:
        return f"cell [{error.exec_count}]: {error.ename}: {notebook.first_line(error.evalue)}"
    except Exception as error:  # a kernel that died, a notebook that is no notebook, a full disk
        return f"{type(error).__name__}: {notebook.first_line(str(error))}"
    return notebook.unfinished(done)


class Kernels:
    """The kernels of a batch: their environment, and how all of them are stopped."""

    def __init__(self, folder: Path, base: Path, at_once: int):
        self.folder, self.base, self.stopped, self.started = folder, base, False, []
        self.manager = type("Manager", (KernelManager,), {"kernels": self})  # papermill's way in
        paths = filter(None, [str(environment.root()), os.environ.get("PYTHONPATH")])
        self.environment = {**os.environ, **SETTINGS, "PYTHONPATH": os.pathsep.join(paths)}
        self.environment |= {"WORKBENCH_RUN_DIR": str(folder), "WORKBENCH_ROOT": str(base)}
        self.environment.pop("MPLBACKEND", None)  # the kernel's own default is inline
        if at_once > 1:  # each gets an equal share of the cores
            self.environment["OMP_NUM_THREADS"] = str(max(1, environment.cores() // at_once))

    def stop(self) -> None:
        """Kill all kernels with the processes that they started; later ones die as they start."""
        self.stopped = True
        for manager in self.started:
            if manager.provisioner is not None and manager.provisioner.has_process:
                with suppress(ProcessLookupError):
                    os.killpg(manager.provisioner.pid, signal.SIGKILL)


class KernelManager(AsyncKernelManager):
    """Starts a kernel of `kernels`; a `python3` kernel installed elsewhere is never looked up."""

    kernels: Kernels
    kernel_spec = KernelSpec(argv=COMMAND, display_name="Python 3", language="python")

    async def start_kernel(self, **options) -> None:
        self.kernels.started.append(self)
        with (self.kernels.folder / "kernel.log").open("ab") as log:
            options |= {"stdout": log, "stderr": log, "env": self.kernels.environment}
            await super().start_kernel(**options)
        if self.kernels.stopped:
            self.kernels.stop()
