"""Make a finished batch the recorded run: its outputs go into notebooks/, its figures and metrics
into figures/.

Everything is checked before anything is written. The committed notebook keeps today's text cells
and receives the outputs of the executed one; its metadata say under `workbench` what they belong to
(see `workbench.runs.check`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat

from workbench.runs import content, manifest
from workbench.runs.batch import load
from workbench.runs.kernel import unfinished
from workbench.runs.rules import structure_problems

KEPT = (
    "profile",
    "parameters",
    "hash",
    "read",
    "data",
    "package_version",
    "threads",
    "seconds",
    "metrics",
    "figures",
)


def record(folder: Path, base: Path) -> list[str]:
    """Record the batch in `folder`; returns the names of the notebooks recorded.

    ValueError, and nothing is written, if the batch is incomplete, a notebook failed or breaks a
    rule, or code changed.
    """
    records = manifest.read(folder)
    asked = manifest.header(records)
    if asked is None:
        raise ValueError(
            f"{folder} is no batch of `python -m workbench run` (its manifest.jsonl says nothing of one)"
        )
    outcomes = manifest.outcomes(records)
    ready = {name: _recorded(folder, base, name, outcomes.get(name)) for name in asked["notebooks"]}
    for name, notebook in ready.items():
        _copy_results(folder, base, name, outcomes[name])
        _write(notebook, base / "notebooks" / f"{name}.ipynb")
    return list(ready)


def _recorded(folder: Path, base: Path, name: str, outcome: Mapping | None):
    """The notebook as it will be committed, or a ValueError that says why it can't be."""
    if outcome is None:
        raise ValueError(f"{name} has not run yet: finish with --resume {folder}")
    if outcome["event"] == "failed":
        raise ValueError(f"{name} failed: {outcome['error']}")
    source, executed = load(base / "notebooks" / f"{name}.ipynb"), load(folder / f"{name}.ipynb")
    if (
        content.content_hash(source, outcome["parameters"], content.data_today(base, outcome))
        != outcome["hash"]
    ):
        raise ValueError(
            f"{name}: its code cells, the data or the package version changed since the run"
        )
    if changed := content.changed_modules(outcome["modules"]):
        raise ValueError(f"{name}: changed since the run: {', '.join(changed)}")
    missing = [path.name for path, _ in _results(folder, base, name, outcome) if not path.is_file()]
    if missing or unfinished(executed):
        raise ValueError(
            f"{name}: the run is incomplete: {unfinished(executed) or 'no ' + ', '.join(missing)}"
        )
    notebook = merge(source, executed, outcome)
    if problems := structure_problems(notebook, name):
        raise ValueError(f"{name} breaks the rules of committed notebooks: {'; '.join(problems)}")
    return notebook


def merge(source, executed, outcome: Mapping):
    """Today's notebook with the outputs of the executed one, without what papermill or the machine
    left behind."""
    notebook = nbformat.from_dict(source)
    for count, (cell, done) in enumerate(
        zip(content.code_cells(notebook), content.code_cells(executed)), start=1
    ):
        cell.outputs = [_numbered(output, count) for output in done.outputs]
        cell.execution_count = count
    notebook.cells = [
        c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
            "workbench": {**{key: outcome[key] for key in KEPT}, "recorded_at": manifest.now()},
        }
    )
    return notebook


def _numbered(output, count: int):
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def _results(folder: Path, base: Path, name: str, outcome: Mapping) -> list[tuple[Path, Path]]:
    """(from, to) of each figure, its CSV, and the metrics."""
    target = base / "figures" / name
    files = [f"{figure}.{kind}" for figure in outcome["figures"] for kind in ("png", "csv")]
    pairs = [(folder / "figures" / name / file, target / file) for file in files]
    return [*pairs, (folder / "metrics" / f"{name}.json", target / "metrics.json")]


def _copy_results(folder: Path, base: Path, name: str, outcome: Mapping) -> None:
    target = base / "figures" / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for origin, place in _results(folder, base, name, outcome):
        shutil.copyfile(origin, place)


def _write(notebook, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    nbformat.write(notebook, part)
    os.replace(part, path)
