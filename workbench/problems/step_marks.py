"""What files say of a step, as labels and values: for the readers and writers of `process_data`."""

from __future__ import annotations

import re
from numbers import Real
from typing import Any

from workbench.types import LabelledSolution, Problem

TAG = "ки"  # Math-Shepherd's step tag; OpenR's is five newlines


def as_value(value: Any) -> float:
    """A Monte-Carlo value; ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"{value!r:.60} is neither a label nor a value from 0 to 1")
    return float(value)


def marked(
    problem: Problem, steps: list, marks: list, threshold: float, source: str, meta: dict
) -> LabelledSolution:
    """A solution from a mark per step: `+` or `-`, true or false, 1 or 0; any other is a value."""
    if not isinstance(steps, list) or len(steps) != len(marks):
        given = f"{len(marks)} labels for steps {steps!r:.60}"
        raise ValueError(f"{given}, need a list and one label per step")
    hard = [mark in ("+", "-") or (isinstance(mark, int) and mark in (0, 1)) for mark in marks]
    values = tuple(None if known else as_value(mark) for mark, known in zip(marks, hard))
    rows = zip(marks, values)
    labels = tuple(int(mark in ("+", 1) if v is None else v > threshold) for mark, v in rows)
    kept = None if all(hard) else values
    return LabelledSolution(problem, tuple(steps), labels, kept, source, meta)


def hard_labels(row: LabelledSolution) -> list[bool]:
    """The labels of a solution, all of them; ValueError where one is missing."""
    for number, label in enumerate(row.labels, start=1):
        if label not in (0, 1):
            given = f"step {number} has label {label!r}"
            raise ValueError(f"{row.problem.id}: {given}, the formats hold only 0 and 1")
    return [bool(label) for label in row.labels]


def cut(process: str, tag: str) -> list[str]:
    """The steps of a text in which a tag follows each of them."""
    *steps, rest = re.split(tag, process)
    if rest.strip() or not steps:
        raise ValueError(f"no step tag after {rest[-60:]!r}")
    return [step.strip() for step in steps]
