"""OmegaPRM's rows in other shapes: with every step valued, and as the tree that they came from.

Rows in, rows or a tree out; nothing is sampled here. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.types import LabelledSolution


def segments(rows: Sequence[LabelledSolution]) -> list[LabelledSolution]:
    """The rows with every step valued: one without a value is joined to the next that has one, by a
    newline.

    So `process_data.write` can store them as MATH-APS, whose nodes, too, may hold several steps. A
    label is value > 0.
    """
    out = []
    for row in rows:
        known = [0, *(t for t, value in enumerate(row.values, start=1) if value is not None)]
        steps = tuple("\n".join(row.steps[a:b]) for a, b in pairwise(known))
        values = tuple(row.values[t - 1] for t in known[1:])
        meta = {key: value for key, value in row.meta.items() if key != "visits"}
        labels = tuple(int(value > 0) for value in values)
        out.append(LabelledSolution(row.problem, steps, labels, values, row.source, meta))
    return out


@dataclass(frozen=True)
class TreeNode:
    """A step (the root: the question) and what was written after it. None: not known, no node or no
    step."""

    text: str
    value: float | None
    visits: int | None
    label: int | None
    children: tuple[TreeNode, ...] = ()


def as_tree(rows: Sequence[LabelledSolution]) -> TreeNode:
    """Merge the rows of one problem by the steps they begin with; a last step is a leaf of its own.

    ValueError unless the rows are those of one problem from `omegaprm`.
    """
    found = {(row.problem.id, row.source) for row in rows}
    if len(found) != 1 or rows[0].source != "omegaprm":
        raise ValueError(
            f"rows of {sorted(found)}: need those of one problem from omegaprm, at least one"
        )
    return TreeNode(
        rows[0].problem.question,
        **rows[0].meta["question"],
        label=None,
        children=_children(rows, 0),
    )


def _children(rows: Sequence[LabelledSolution], depth: int) -> tuple[TreeNode, ...]:
    branches: dict[tuple[str, bool], list[LabelledSolution]] = {}
    for row in rows:
        if len(row.steps) > depth:
            branches.setdefault((row.steps[depth], len(row.steps) == depth + 1), []).append(row)
    children = []
    for (text, _), own in branches.items():
        value, visits, label = (
            row[depth] for row in (own[0].values, own[0].meta["visits"], own[0].labels)
        )
        children.append(TreeNode(text, value, visits, label, _children(own, depth + 1)))
    return tuple(children)
