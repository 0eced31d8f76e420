"""One notebook of a batch: run it, append its outcome to the manifest, and say whether an earlier
outcome still stands.

A notebook counts as done only if every code cell ran and `run.finish()` wrote its record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat

import workbench
from workbench.runs import content, kernel, manifest
from workbench.runs.track import duration


@dataclass(frozen=True)
class Job:
    """One notebook to run, with every parameter value."""

    path: Path
    parameters: Mapping[str, object]

    @property
    def name(self) -> str:
        return self.path.stem


def load(path: Path):
    """Read a notebook. ValueError if it is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own kinds for JSON, schema and version
        raise ValueError(
            f"{path.name} can't be read as a notebook: {str(error).splitlines()[0][:100]}"
        ) from None


def is_done(record: Mapping, job: Job, folder: Path, base: Path) -> bool:
    """Does a manifest record still stand for what would be run now?"""
    return (
        record["event"] == "completed"
        and record["hash"]
        == content.content_hash(load(job.path), job.parameters, content.data_today(base, record))
        and (folder / f"{record['notebook']}.ipynb").is_file()
        and not content.changed_modules(record["modules"])
    )


def run_job(job: Job, folder: Path, base: Path) -> dict:
    """Execute one notebook and append its outcome to the manifest, last; returns that record."""
    notebook, hashes = load(job.path), content.data_hashes(base)
    before = len(manifest.read(folder))
    clock = time.monotonic()
    error = kernel.execute(job.path, folder / f"{job.name}.ipynb", job.parameters, folder)
    finished = [
        r
        for r in manifest.read(folder)[before:]
        if r.get("event") == "finished" and r["notebook"] == job.name
    ]
    if error is None and not finished:
        error = f'no record: it must call start("{job.name}", ...) and end with run.finish()'
    record = {"read": [], "data": {}, **(finished[-1] if finished else {})}
    # as they were at the beginning
    data = {name: hashes.get(name, value) for name, value in record["data"].items()}
    record |= {
        "event": "failed" if error else "completed",
        "notebook": job.name,
        "error": error,
        "data": data,
    }
    record |= {
        "hash": content.content_hash(notebook, job.parameters, data),
        "parameters": dict(job.parameters),
    }
    record |= {
        "package_version": workbench.__version__,
        "seconds": round(time.monotonic() - clock, 1),
    }
    manifest.append(folder, record)
    return record


def outcome_line(record: Mapping, folder: Path) -> str:
    """How a notebook ended, for the terminal."""
    if record["event"] == "completed":
        return f"ok  {duration(record['seconds'])}"
    where = folder / f"{record['notebook']}.ipynb"
    return f"FAILED after {duration(record['seconds'])}: {record['error']} (see {where})"
