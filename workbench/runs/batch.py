"""Batches of notebooks: `plan` checks everything that can be checked beforehand, `run_batch`
executes and reports.

papermill runs the notebooks; what it lacks is added here. Unknown or wrongly typed parameters are
refused, several notebooks can run at once, and a stopped batch can be resumed. Each notebook runs
alone, so the others go on when one fails. Used by `python -m workbench run`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from workbench.runs import manifest
from workbench.runs.job import Job, is_done, load, outcome_line, run_job
from workbench.runs.parallel import side_by_side
from workbench.runs.parameters import read_parameters, values_for
from workbench.runs.report import write_report


def available(base: Path) -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted((base / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def select(base: Path, wanted: Sequence[str]) -> list[Path]:
    """The notebooks that `wanted` names: numbers (06 or 6), whole names, or `all`. ValueError for
    anything else."""
    notebooks = available(base)
    if not notebooks:
        raise ValueError("there are no notebooks (notebooks/NN_name.ipynb) to run")
    if not wanted or "all" in wanted:
        return notebooks
    return sorted({_find(notebooks, name) for name in wanted})


def _find(notebooks: Sequence[Path], name: str) -> Path:
    stem = Path(name).name.removesuffix(".ipynb")
    number = re.fullmatch(r"\d{1,2}", stem)
    matches = [
        p
        for p in notebooks
        if p.stem == stem or (number and p.stem.startswith(f"{int(stem):02d}_"))
    ]
    if len(matches) != 1:
        names = ", ".join(p.stem for p in matches or notebooks)
        problem = "names several" if matches else "no such notebook"
        raise ValueError(
            f"{name}: {problem}; there {'are' if len(matches or notebooks) > 1 else 'is'} {names}"
        )
    return matches[0]


def plan(notebooks: Sequence[Path], *, profile: str, given: Mapping[str, str]) -> list[Job]:
    """The jobs of a batch. ValueError for a notebook that can't be read, or a `given` name that
    none of them knows."""
    knobs = {path: _knobs(path) for path in notebooks}
    known = sorted({name for names in knobs.values() for name in names if name != "profile"})
    for name in given:
        if name not in known:
            raise ValueError(
                f"-p {name}: unknown parameter; known are {', '.join(known) or 'none'}"
            )
    return [Job(path, values_for(knobs[path], given, profile)) for path in notebooks]


def _knobs(path: Path):
    knobs = read_parameters(load(path))
    if missing := {"profile", "seed"} - set(knobs):
        raise ValueError(f"{path.stem}: its parameters cell lacks {' and '.join(sorted(missing))}")
    return knobs


def open_folder(base: Path, output: Path | None, profile: str) -> Path:
    """The folder of a new batch, made. ValueError if it exists and is not empty, or can't be made."""
    folder = output or base / "runs" / f"{datetime.now():%Y%m%d-%H%M%S}-{profile}"
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty: continue it with --resume {folder}, or name another --output"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output {folder}: {error.strerror}") from None
    return folder


def run_batch(
    jobs: Sequence[Job],
    folder: Path,
    base: Path,
    *,
    profile: str,
    at_once: int = 1,
    say: Callable = print,
) -> list[dict]:
    """Execute the jobs into `folder`, skipping those already completed there with the same code;
    returns the outcomes.

    An outcome is the manifest's record with `status` (completed, failed or skipped), in the order
    of `jobs`. With `at_once` above 1, so many run side by side (see `workbench.runs.parallel`).
    KeyboardInterrupt passes through.
    """
    if at_once < 1:
        raise ValueError(f"at_once={at_once}: run 1 or more notebooks at once")
    earlier = manifest.outcomes(manifest.read(folder))
    done = [
        job.name
        for job in jobs
        if job.name in earlier and is_done(earlier[job.name], job, folder, base)
    ]
    results = {name: {**earlier[name], "status": "skipped"} for name in done}
    for name in done:
        say(f"{name:<28} skipped, completed before", flush=True)
    waiting = [job for job in jobs if job.name not in results]
    if at_once == 1:
        records = one_by_one(waiting, folder, base, say=say)
    else:
        records = side_by_side(waiting, folder, base, at_once=at_once, say=say)
    results |= {record["notebook"]: {**record, "status": record["event"]} for record in records}
    ordered = [results[job.name] for job in jobs]
    write_report(folder, ordered, profile)
    return ordered


def one_by_one(jobs: Sequence[Job], folder: Path, base: Path, *, say: Callable) -> list[dict]:
    """Execute the jobs one after the other; returns their outcomes."""
    records = []
    for job in jobs:
        say(f"{job.name:<28} ", end="", flush=True)
        records.append(run_job(job, folder, base))
        say(outcome_line(records[-1], folder), flush=True)
    return records
