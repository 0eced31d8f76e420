"""The recorded run: `record` makes a finished batch it, `check` says whether it still is.

`record` checks everything before it writes anything. The committed notebook keeps today's text and
receives the outputs of the executed one; its metadata say under `workbench` what they belong to.
`check` holds that against today. What surely makes outputs wrong is an error: changed code cells,
parameters or data, missing figures. What may change them is a note: package code, its version.
`compare` holds the metrics of another batch (say, a quick run) against the recorded ones, and says
at which other sizes those were measured that differ.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import nbformat

import workbench
from workbench.runs import manifest
from workbench.runs.notebook import (
    available,
    code_cells,
    content_hash,
    load,
    shown_sizes,
    unfinished,
)
from workbench.runs.run import source_text
from workbench.show.cards import cell_text

OF_THE_RUN = {"event", "notebook", "error", "at"}  # what a record need not keep
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


@dataclass(frozen=True)
class Findings:
    """What `check` found in one notebook: errors, which make it stale, and notes."""

    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def record(folder: Path, base: Path) -> list[str]:
    """Record the batch in `folder`; returns the names of the notebooks recorded.

    ValueError, and nothing is written, if a notebook has not run, failed, or changed since.
    """
    records = manifest.read(folder)
    asked, outcomes = manifest.header(records), manifest.outcomes(records)
    if asked is None:
        raise ValueError(f"{folder} is no batch of `python -m workbench run`")
    ready = {name: _recorded(folder, base, name, outcomes.get(name)) for name in asked["notebooks"]}
    for name, notebook in ready.items():
        figures = base / "figures" / name
        shutil.rmtree(figures, ignore_errors=True)
        figures.mkdir(parents=True)
        for file in _results(outcomes[name]):
            shutil.copyfile(folder / "figures" / name / file, figures / file)
        nbformat.write(notebook, base / "notebooks" / f"{name}.ipynb")
    return list(ready)


def _recorded(folder: Path, base: Path, name: str, outcome: Mapping | None):
    """The notebook as it will be committed, or a ValueError that says why it can't be."""
    if outcome is None:
        raise ValueError(f"{name} has not run yet: finish with --resume {folder}")
    if outcome["event"] == "failed":
        raise ValueError(f"{name} failed: {outcome['error']}")
    source, executed = load(base / "notebooks" / f"{name}.ipynb"), load(folder / f"{name}.ipynb")
    data = manifest.data_today(base, outcome)
    if content_hash(source, outcome["parameters"], data) != outcome["hash"]:
        raise ValueError(f"{name}: its code cells or the data changed since the run")
    if changed := manifest.changed_modules(outcome["modules"]):
        raise ValueError(f"{name}: changed since the run: {', '.join(changed)}")
    figures = folder / "figures" / name
    missing = [file for file in _results(outcome) if not (figures / file).is_file()]
    if missing or unfinished(executed):
        problem = unfinished(executed) or f"no {', '.join(missing)}"
        raise ValueError(f"{name}: the run is incomplete: {problem}")
    return merge(source, executed, outcome)


def merge(source, executed, outcome: Mapping):
    """Today's notebook with the outputs of the executed one, without what papermill left behind."""
    notebook = nbformat.from_dict(source)
    pairs = zip(code_cells(notebook), code_cells(executed))
    for count, (cell, done) in enumerate(pairs, start=1):
        cell.outputs, cell.execution_count = done.outputs, count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    kept = {k: v for k, v in outcome.items() if k not in OF_THE_RUN}
    kept["recorded_at"] = manifest.now()
    notebook.metadata = nbformat.from_dict(metadata | {"workbench": kept})
    return notebook


def _results(record: Mapping) -> list[str]:
    """The files that a recorded notebook has in figures/<name>."""
    figures = [f"{figure}.{kind}" for figure in record["figures"] for kind in ("png", "csv")]
    return [*figures, "metrics.json"]


def check(base: Path) -> dict[str, Findings]:
    """For each committed notebook what no longer fits its outputs."""
    return {path.stem: freshness(load(path), path.stem, base) for path in available(base)}


def freshness(notebook, name: str, base: Path) -> Findings:
    """What no longer fits between a notebook's outputs and the code, data and figures of today."""
    stored = notebook.metadata.get("workbench")
    if not stored:
        return Findings(("never recorded: run it, then `python -m workbench record`",))
    return Findings(tuple(_errors(notebook, stored, name, base)), tuple(_notes(notebook, stored)))


def _errors(notebook, stored: Mapping, name: str, base: Path) -> Iterator[str]:
    then, today = stored["data"], manifest.data_today(base, stored)
    changed = sorted(file for file in {*then, *today} if today.get(file) != then.get(file))
    if changed:
        yield f"changed since recording: {', '.join(changed)}"
    if content_hash(notebook, stored["parameters"], then) != stored["hash"]:
        yield "code cells or parameters changed since recording"
    folder = base / "figures" / name
    if missing := [file for file in _results(stored) if not (folder / file).is_file()]:
        yield f"figures/{name} lacks {', '.join(missing)}"


def _by_folder(files: Iterable[str]) -> str:
    """Modules by their names, those of a folder together: `drive; search: beam, mcts`."""
    folders: dict[str, list[str]] = {}
    for file in map(PurePosixPath, files):
        folders.setdefault("/".join(file.parent.parts[1:]), []).append(file.stem)
    return "; ".join(
        f"{f}: {', '.join(own)}" if f else ", ".join(own) for f, own in folders.items()
    )


def _notes(notebook, stored: Mapping) -> Iterator[str]:
    if stored["package_version"] != workbench.__version__:
        yield f"recorded with version {stored['package_version']}, this is {workbench.__version__}"
    if "modules" not in stored:
        yield "recorded before records held the package code that was loaded"
    elif changed := manifest.changed_modules(stored["modules"]):
        yield f"package code changed since recording: {_by_folder(changed)}"
    for output in [output for cell in code_cells(notebook) for output in cell.outputs]:
        shown = output.get("metadata", {}).get("workbench_source")
        if shown and source_text(shown) != "".join(output.data["text/plain"]):
            yield f"shows the code of {shown}, which reads differently today"
    for amendment in stored.get("amended", []):
        yield f"amended since recording: {amendment['why']} ({amendment['at']})"


def compare(base: Path, folder: Path) -> dict[str, list[str]]:
    """Metrics of a batch, by notebook, whose intervals miss the recorded ones; and what failed."""
    records = manifest.read(folder)
    outcomes = manifest.outcomes(records)
    measured = {n: r["metrics"] for n, r in outcomes.items() if r["event"] == "completed"}
    if not measured:
        raise ValueError(f"{folder} holds no completed notebooks")
    asked = (manifest.header(records) or {}).get("notebooks", outcomes)
    found = {name: [f"did not complete in {folder}"] for name in asked if name not in measured}
    for name, recorded in [(p.stem, load(p)) for p in available(base) if p.stem in measured]:
        then = recorded.metadata.get("workbench", {}).get("metrics", {})
        found[name] = list(_apart(then, measured[name]))
        if found[name]:
            found[name] += _other_sizes(recorded, load(folder / f"{name}.ipynb"))
    return found


def _apart(recorded: Mapping, measured: Mapping) -> Iterator[str]:
    both = [n for n, value in measured.items() if type(value) is type(recorded.get(n)) is list]
    for name in both:
        now, then = measured[name], recorded[name]
        if now[1] > then[2] or now[2] < then[1]:
            words = ["{} [{}, {}]".format(*map(cell_text, interval)) for interval in (now, then)]
            yield f"{name} is {words[0]}, recorded {words[1]}"


def _other_sizes(recorded, executed) -> Iterator[str]:
    """At which sizes the metrics of a notebook were measured, where they are not the recorded."""
    then, now = shown_sizes(recorded), shown_sizes(executed)
    other = [f"{n}: {now[n]}, recorded {then[n]}" for n in now if now[n] != then.get(n, now[n])]
    if other:
        yield f"measured at other sizes ({'; '.join(other)})"
