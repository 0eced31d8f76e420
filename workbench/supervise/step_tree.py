"""OmegaPRM's rows in other shapes: with every step valued, and as the tree that they came from.

Rows in, rows or a tree out; nothing is sampled here. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from workbench.tree import Node, grow
from workbench.types import LabelledSolution, Step


def segments(rows: Sequence[LabelledSolution]) -> list[LabelledSolution]:
    """The rows with every step valued: one without a value is joined to the next that has one.

    So `process_data.write` can store them as MATH-APS, whose nodes, too, may hold several steps,
    divided by newlines. A label is value > 0.
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


def as_tree(rows: Sequence[LabelledSolution]) -> Node:
    """The tree of the rows of one problem; `right` says of a step what its label says.

    ValueError unless the rows are those of one problem from `omegaprm`.
    """
    found = {(row.problem.id, row.source) for row in rows}
    if len(found) != 1 or rows[0].source != "omegaprm":
        need = "need those of one problem from omegaprm, at least one"
        raise ValueError(f"rows of {sorted(found)}: {need}")
    root = Node(Step(rows[0].problem.question), **rows[0].meta["question"])
    for row in rows:
        _, *path = grow(root, [Step(text) for text in row.steps], end=True)
        for node, value, visits, label in zip(path, row.values, row.meta["visits"], row.labels):
            node.value, node.visits = value, visits or 0
            node.right = None if label is None else label == 1
    return root
