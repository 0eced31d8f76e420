"""Do committed notebooks still belong to today's code, and does another run agree with what they
measured?

`check` looks at structure, the stored hash, the code shown by `source(...)`, and figures; `compare`
holds the metrics of a batch (say, a quick run) against the recorded ones. Both return {notebook:
what is wrong}.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import workbench
from workbench.runs import content, manifest
from workbench.runs.batch import available, load
from workbench.runs.report import metric_text
from workbench.runs.rules import structure_problems


def check(base: Path) -> dict[str, list[str]]:
    """For each committed notebook what breaks a rule or is stale; an empty list means fresh."""
    found = {}
    for path in available(base):
        notebook = load(path)
        found[path.stem] = [
            *structure_problems(notebook, path.stem),
            *freshness_problems(notebook, path.stem, base),
        ]
    return found


def freshness_problems(notebook, name: str, base: Path) -> list[str]:
    """What no longer fits between a committed notebook's outputs and the code, data and figures of
    today."""
    stored = notebook.metadata.get("workbench")
    if not stored:
        return ["never recorded: run it, then `python -m workbench record`"]
    return [
        *_stale_hash(notebook, stored, base),
        *_stale_sources(notebook),
        *_missing_figures(stored, name, base),
    ]


def _stale_hash(notebook, stored: Mapping, base: Path) -> Iterator[str]:
    if stored["package_version"] != workbench.__version__:
        yield f"stale: recorded with version {stored['package_version']}, this is {workbench.__version__}"
        return
    then, today = stored["data"], content.data_today(base, stored)
    changed = sorted(name for name in {*then, *today} if today.get(name) != then.get(name))
    if changed:
        yield f"stale: changed since recording: {', '.join(changed)}"
    elif content.content_hash(notebook, stored["parameters"], then) != stored["hash"]:
        yield "stale: code cells or parameters changed since recording"


def _stale_sources(notebook) -> Iterator[str]:
    """Package code that an output shows and that reads differently today."""
    for cell in content.code_cells(notebook):
        for output in cell.outputs:
            shown = output.get("metadata", {}).get("workbench_source")
            if shown and package_source(shown) != "".join(output.data["text/plain"]):
                yield f"stale: shows the code of {shown}, which changed since recording"


def package_source(name: str) -> str | None:
    """The code of `module:qualified.name` of the package, read from its file without importing it."""
    module, _, qualified = name.partition(":")
    stem = content.root() / Path(*module.split("."))
    path = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
    if not path.is_file():
        return None
    text = path.read_text()
    node = ast.parse(text)
    for part in filter(None, qualified.split(".")):
        node = next((n for n in node.body if getattr(n, "name", None) == part), None)
        if node is None:
            return None
    return textwrap.dedent(_lines(text, node)).rstrip()


def _lines(text: str, node: ast.AST) -> str:
    if isinstance(node, ast.Module):
        return text
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def _missing_figures(stored: Mapping, name: str, base: Path) -> Iterator[str]:
    files = [f"{figure}.{kind}" for figure in stored["figures"] for kind in ("png", "csv")]
    missing = [
        file for file in [*files, "metrics.json"] if not (base / "figures" / name / file).is_file()
    ]
    if missing:
        yield f"figures/{name} lacks {', '.join(missing)}"


def compare(base: Path, folder: Path) -> dict[str, list[str]]:
    """For each notebook completed in `folder`: the metrics whose interval misses the recorded one.

    Only metrics that both sides log as (value, low, high) are compared. ValueError if nothing
    completed there.
    """
    outcomes = {
        n: r
        for n, r in manifest.outcomes(manifest.read(folder)).items()
        if r["event"] == "completed"
    }
    if not outcomes:
        raise ValueError(f"{folder} holds no completed notebooks")
    recorded = {
        path.stem: load(path).metadata.get("workbench", {}).get("metrics", {})
        for path in available(base)
    }
    return {
        name: _disagreements(recorded.get(name, {}), outcome["metrics"])
        for name, outcome in outcomes.items()
    }


def _disagreements(recorded: Mapping, measured: Mapping) -> list[str]:
    shared = [
        n for n in measured if isinstance(measured[n], list) and isinstance(recorded.get(n), list)
    ]
    apart = [
        n for n in shared if measured[n][1] > recorded[n][2] or measured[n][2] < recorded[n][1]
    ]
    return [
        f"{n} is {metric_text(measured[n])}, recorded {metric_text(recorded[n])}" for n in apart
    ]
