"""A notebook on disk: its code, the `parameters` cell with the values for it, and is it complete?

papermill only warns about a parameter that it does not know and passes any text on; here both are
refused before anything runs. One assignment a line: `temperature: float = 0.8  # of sampling`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

from workbench.runs.manifest import code_hash, short_hash

TYPES = {"int": int, "float": float, "str": str, "bool": bool}
YES_OR_NO = {"true": True, "false": False}


def available(base: Path) -> list[Path]:
    """The numbered notebooks of a repository, in order."""
    return sorted((base / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def load(path: Path):
    """Read a notebook. ValueError if it is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own kinds for JSON, schema and version
        problem = first_line(str(error))[:100]
        raise ValueError(f"{path.name} can't be read as a notebook: {problem}") from None


def first_line(text: str) -> str:
    """The first line of a text that is not blank."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def code_cells(notebook) -> list:
    """The notebook's own code cells: without the one that papermill injects."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [c for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]


def shown_sizes(notebook) -> dict[str, str]:
    """The sizes that a notebook ran at, from the table of them that `Run.sizes` shows."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    tables = ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs]
    shown = next((table for table in tables if re.match("size .*this run", table)), "")
    column = -1 if "full (this run)" in shown else -2
    rows = [re.split(" {2,}", line) for line in shown.split("\n")[1:]]
    return {row[0]: row[column] for row in rows}


def content_hash(notebook, parameters: Mapping[str, object], data: Mapping[str, str]) -> str:
    """Hash of what a notebook's code cells do, its parameter values, and its data's hashes."""
    code = [code_hash(cell.source) for cell in code_cells(notebook)]
    return short_hash({"code": code, "parameters": dict(parameters), "data": dict(data)})


def unfinished(executed) -> str | None:
    """Why an executed notebook is not complete: a cell failed, or never ran (after sys.exit(0))."""
    cells = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
    for cell, output in [(c, output) for c in cells for output in c.outputs]:
        if output.output_type == "error":
            problem = f"{output.ename}: {first_line(output.evalue)}"
            return f"cell [{cell.execution_count}]: {problem}"
    pending = sum(cell.execution_count is None for cell in cells)
    return f"{pending} of {len(cells)} code cells were not executed" if pending else None


def read_parameters(notebook) -> dict[str, object]:
    """The knobs of a notebook with their defaults. ValueError for a line that declares none."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return dict(map(_parameter, ast.parse(cells[0].source).body if cells else []))


def _parameter(node: ast.stmt) -> tuple[str, object]:
    line = f"parameters cell: {ast.unparse(node)!r}"
    if not isinstance(node, ast.AnnAssign) or node.value is None:
        raise ValueError(f"{line}, write `name: type = value`")
    kind = ast.unparse(node.annotation)
    if kind not in TYPES:  # papermill does not find `int | None`
        raise ValueError(f"{line}, the type must be one of {', '.join(TYPES)}")
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        raise ValueError(f"{line}, the value must be a literal") from None
    if kind == "float" and type(default) is int:
        default = float(default)
    if type(default) is not TYPES[kind]:
        raise ValueError(f"{line}, {default!r} is no {kind}")
    return ast.unparse(node.target), default


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """`["seed=3", ...]` as a dictionary. ValueError for what is no `name=value`, or given twice."""
    pairs: dict[str, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"-p {assignment}: write -p name=value")
        if name == "profile":
            raise ValueError(f"-p {assignment}: use --profile {text or 'quick|full'}")
        if name in pairs:
            raise ValueError(f"-p {assignment}: {name} is given twice")
        pairs[name] = text
    return pairs


def parse_value(name: str, text: str, kind: type) -> object:
    """What `text` from the command line stands for. ValueError if it is not of that kind."""
    try:
        value = YES_OR_NO[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        accepted = "true or false" if kind is bool else kind.__name__
        raise ValueError(f"-p {name}={text}: must be {accepted}")
    return value
