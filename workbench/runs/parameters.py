"""The `parameters` cell of a notebook, read without running it, and the values that `-p name=value`
may give.

papermill only warns about a name it does not know and passes any text on; here both are refused
before anything runs. One assignment a line: `temperature: float = 0.8  # of sampling`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

TYPES = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One knob of a notebook; `optional` ones also accept None."""

    name: str
    type: str
    default: object
    optional: bool = False

    @property
    def accepts(self) -> str:
        return self.type + (" or none" if self.optional else "")


def parameter_cell(notebook):
    """The cell tagged `parameters`, or None."""
    return next(
        (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])), None
    )


def read_parameters(notebook) -> dict[str, Parameter]:
    """The knobs that a notebook declares. ValueError for a line that is not `name: type = literal`."""
    cell = parameter_cell(notebook)
    if cell is None:
        return {}
    found = [_parameter(node) for node in ast.parse(cell.source).body]
    return {parameter.name: parameter for parameter in found}


def _parameter(node: ast.stmt) -> Parameter:
    line = ast.unparse(node)
    if (
        not isinstance(node, ast.AnnAssign)
        or not isinstance(node.target, ast.Name)
        or node.value is None
    ):
        raise ValueError(f"parameters cell: {line!r}, write `name: type = value`")
    kind, optional = _kind(node.annotation)
    if kind not in TYPES:
        raise ValueError(f"parameters cell: {line!r}, the type must be one of {', '.join(TYPES)}")
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        raise ValueError(f"parameters cell: {line!r}, the value must be a literal") from None
    if not (default is None and optional) and not _fits(default, kind):
        raise ValueError(f"parameters cell: {line!r}, {default!r} is no {kind}")
    return Parameter(node.target.id, kind, default, optional)


def _kind(annotation: ast.expr) -> tuple[str, bool]:
    """`int | None`, `None | int` and `Optional[int]` all read ("int", True)."""
    text = ast.unparse(annotation)
    if text.startswith("Optional["):
        return text.removeprefix("Optional[").removesuffix("]"), True
    names = [part.strip() for part in text.split("|")]
    kinds = [name for name in names if name != "None"]
    return (kinds[0] if len(kinds) == 1 else text), len(kinds) < len(names)


def _fits(value: object, kind: str) -> bool:
    if kind == "float" and type(value) is int:
        return True
    return type(value) is TYPES[kind]


def parse_value(parameter: Parameter, text: str) -> object:
    """The value that `text` from the command line stands for. ValueError if it is not of the
    parameter's type."""
    if parameter.optional and text.lower() == "none":
        return None
    if parameter.type == "bool":
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ValueError(f"-p {parameter.name}={text}: must be true or false")
    try:
        value = TYPES[parameter.type](text)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"-p {parameter.name}={text}: must be {parameter.accepts}")
    return value


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """`["seed=3", ...]` as a dictionary. ValueError for anything without a name and `=`, or a name
    given twice."""
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


def values_for(
    knobs: Mapping[str, Parameter], given: Mapping[str, str], profile: str
) -> dict[str, object]:
    """Every parameter value of one notebook: its defaults, the profile, and those of the `given`
    texts it knows."""
    values = {name: knob.default for name, knob in knobs.items()}
    values |= {
        name: parse_value(knobs[name], text) for name, text in given.items() if name in knobs
    }
    return values | {"profile": profile}
