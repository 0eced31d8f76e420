"""Batches of notebooks: `plan` checks everything that can be checked beforehand, `run_batch` executes and reports.

papermill runs the notebooks; what it lacks is added here. Unknown or wrongly typed parameters are refused, a notebook
counts as done only if every code cell ran and `run.finish()` wrote its record, and a stopped batch can be resumed.
Each notebook runs alone, so the others go on when one fails. Used by `python -m workbench run`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nbformat

import workbench
from workbench.runs import content, kernel, manifest
from workbench.runs.parameters import read_parameters, values_for
from workbench.runs.report import write_report
from workbench.runs.track import duration


@dataclass(frozen=True)
class Job:
    """One notebook to run, with every parameter value."""

    path: Path
    parameters: Mapping[str, object]

    @property
    def name(self) -> str:
        return self.path.stem


def available(base: Path) -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted((base / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def select(base: Path, wanted: Sequence[str]) -> list[Path]:
    """The notebooks that `wanted` names: numbers (06 or 6), whole names, or `all`. ValueError for anything else."""
    notebooks = available(base)
    if not notebooks:
        raise ValueError("there are no notebooks (notebooks/NN_name.ipynb) to run")
    if not wanted or "all" in wanted:
        return notebooks
    return sorted({_find(notebooks, name) for name in wanted})


def _find(notebooks: Sequence[Path], name: str) -> Path:
    stem = Path(name).name.removesuffix(".ipynb")
    number = re.fullmatch(r"\d{1,2}", stem)
    matches = [p for p in notebooks if p.stem == stem or (number and p.stem.startswith(f"{int(stem):02d}_"))]
    if len(matches) != 1:
        names = ", ".join(p.stem for p in matches or notebooks)
        problem = "names several" if matches else "no such notebook"
        raise ValueError(f"{name}: {problem}; there {'are' if len(matches or notebooks) > 1 else 'is'} {names}")
    return matches[0]


def plan(notebooks: Sequence[Path], *, profile: str, given: Mapping[str, str]) -> list[Job]:
    """The jobs of a batch. ValueError for a notebook that can't be read, or a `given` name that none of them knows."""
    knobs = {path: _knobs(path) for path in notebooks}
    known = sorted({name for names in knobs.values() for name in names if name != "profile"})
    for name in given:
        if name not in known:
            raise ValueError(f"-p {name}: unknown parameter; known are {', '.join(known) or 'none'}")
    return [Job(path, values_for(knobs[path], given, profile)) for path in notebooks]


def _knobs(path: Path):
    knobs = read_parameters(load(path))
    if missing := {"profile", "seed"} - set(knobs):
        raise ValueError(f"{path.stem}: its parameters cell lacks {' and '.join(sorted(missing))}")
    return knobs


def load(path: Path):
    """Read a notebook. ValueError if it is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own kinds for JSON, schema and version
        raise ValueError(f"{path.name} can't be read as a notebook: {str(error).splitlines()[0][:100]}") from None


def open_folder(base: Path, output: Path | None, profile: str) -> Path:
    """The folder of a new batch, made. ValueError if it exists and is not empty, or can't be made."""
    folder = output or base / "runs" / f"{datetime.now():%Y%m%d-%H%M%S}-{profile}"
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: continue it with --resume {folder}, or name another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output {folder}: {error.strerror}") from None
    return folder


def run_batch(jobs: Sequence[Job], folder: Path, base: Path, *, profile: str, say: Callable = print) -> list[dict]:
    """Execute the jobs into `folder`, skipping those already completed there with the same code; returns the outcomes.

    An outcome is the manifest's record with `status` (completed, failed or skipped). KeyboardInterrupt passes through.
    """
    done = manifest.outcomes(manifest.read(folder))
    results = []
    for job in jobs:
        earlier = done.get(job.name)
        if earlier and is_done(earlier, job, folder, base):
            say(f"{job.name:<28} skipped, completed before")
            results.append({**earlier, "status": "skipped"})
            continue
        say(f"{job.name:<28} ", end="", flush=True)
        record = run_job(job, folder, base)
        say(_line(record, folder))
        results.append({**record, "status": record["event"]})
    write_report(folder, results, profile)
    return results


def is_done(record: Mapping, job: Job, folder: Path, base: Path) -> bool:
    """Does a manifest record still stand for what would be run now?"""
    return (
        record["event"] == "completed"
        and record["hash"] == _hash(job, content.data_hashes(base, record["data"]))
        and (folder / f"{record['notebook']}.ipynb").is_file()
        and not content.changed_modules(record["modules"])
    )


def _hash(job: Job, data: Mapping[str, str]) -> str:
    return content.content_hash(load(job.path), job.parameters, data)


def run_job(job: Job, folder: Path, base: Path) -> dict:
    """Execute one notebook and append its outcome to the manifest, last; returns that record."""
    data = content.data_hashes(base)
    key = _hash(job, data)
    before = len(manifest.read(folder))
    clock = time.monotonic()
    error = kernel.execute(job.path, folder / f"{job.name}.ipynb", job.parameters, folder)
    finished = [r for r in manifest.read(folder)[before:] if r.get("event") == "finished" and r["notebook"] == job.name]
    if error is None and not finished:
        error = f'no record: it must call start("{job.name}", ...) and end with run.finish()'
    record = {**(finished[-1] if finished else {}), "event": "failed" if error else "completed", "notebook": job.name}
    record |= {"hash": key, "data": data, "parameters": dict(job.parameters), "error": error}
    record |= {"package_version": workbench.__version__, "seconds": round(time.monotonic() - clock, 1)}
    manifest.append(folder, record)
    return record


def _line(record: Mapping, folder: Path) -> str:
    if record["event"] == "completed":
        return f"ok  {duration(record['seconds'])}"
    where = folder / f"{record['notebook']}.ipynb"
    return f"FAILED after {duration(record['seconds'])}: {record['error']} (see {where})"
