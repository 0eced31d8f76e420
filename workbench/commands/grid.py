"""The grid of a sweep: every combination of the values given, the last parameter changing fastest.

All names and values are checked before anything runs. A comma always separates two values, so no
value can hold one. A single value (`lr=0.001`) is set in all points.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from workbench.runs.batch import Job, plan
from workbench.runs.notebook import parse_assignments, parse_value

COLUMNS = ("metric", "value", "low", "high")  # of sweep.csv, behind the parameters
FOLDER_LETTERS = 80  # of a name at most


@dataclass(frozen=True)
class Point:
    """One run of the grid: the folder it has to itself, its job, and the values that were given."""

    name: str
    job: Job
    values: Mapping[str, object]


def grid(path: Path, *, profile: str, given: Sequence[str]) -> list[Point]:
    """The points of `-p name=a,b ...`, in order; ValueError for a wrong name, type or repetition.

    Equal arguments give equal points, folders included: by that a sweep is resumed.
    """
    texts = {name: text.split(",") for name, text in parse_assignments(given).items()}
    if not texts:
        raise ValueError("a sweep needs values to try: -p name=a,b")
    if taken := sorted(texts.keys() & {*COLUMNS}):
        raise ValueError(f"-p {taken[0]}: sweep.csv has a column of its own with this name")
    first = plan([path], profile=profile, given={name: row[0] for name, row in texts.items()})[0]
    values = {name: _typed(name, row, type(first.parameters[name])) for name, row in texts.items()}
    points = []
    for number, combination in enumerate(product(*values.values()), start=1):
        chosen = dict(zip(values, combination))
        name = _folder(number, chosen)
        points.append(Point(name, Job(path, {**first.parameters, **chosen}, name), chosen))
    return points


def _typed(name: str, texts: Sequence[str], kind: type) -> list[object]:
    values = [parse_value(name, text, kind) for text in texts]
    for i, value in enumerate(values):
        if value in values[:i]:
            raise ValueError(f"-p {name}={','.join(texts)}: {value} is given twice")
    return values


def _folder(number: int, values: Mapping[str, object]) -> str:
    """`002_seed=0_beta=0.04`; the number keeps names apart whose values had to be changed."""
    words = [f"{name}={re.sub(r'[^a-zA-Z0-9.+-]', '-', str(v))}" for name, v in values.items()]
    return "_".join([f"{number:03d}", *words])[:FOLDER_LETTERS]


def swept(points: Sequence[Point]) -> dict[str, list]:
    """The values of each parameter that has two or more; numbers ascending, others as given."""
    found = {}
    for name in points[0].values:
        values = list(dict.fromkeys(point.values[name] for point in points))
        if len(values) > 1:
            found[name] = values if isinstance(values[0], str) else sorted(values)
    return found
