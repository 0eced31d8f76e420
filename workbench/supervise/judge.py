"""An untrained judge: step labels from a model's opinion instead of completions.

"LLM-as-a-judge". Whatever answers `Score` requests may judge: a general model that is prompted to
check each step, a public PRM, or the likelihoods of a language model that was never trained to
verify (notebook 04 shows how far these alone go). One reading of a solution costs what one
completion costs, so it is by far the cheapest labeller. The judge sees no answer.

A score above `threshold` is a good step; the scores stay as `values`. A threshold that needs no
truth lets as many solutions pass as end right: `threshold_of`. See "The Lessons of
Developing PRMs" (Zhang et al. 2025, arXiv 2501.07301), where solutions on which a judge and
Monte-Carlo labels agree train better than either.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from workbench.types import (
    LabelledSolution,
    Prefix,
    Problem,
    Reply,
    Request,
    Sample,
    Score,
    SearchResult,
    Stopped,
    sees_answer,
)


@sees_answer
def judge(
    problem: Problem,
    *,
    solutions: int = 8,
    temperature: float | None = None,
    by: str = "verifier",
    threshold: float = 0.5,
) -> Generator[Request, Reply, SearchResult]:
    """Sample `solutions` from the policy and let the verifier `by` judge their steps."""
    pool = yield Sample([Prefix(problem)], n=solutions, temperature=temperature)
    rows = yield from label(problem, pool, by=by, threshold=threshold)
    return SearchResult(problem, tuple(pool), labelled=tuple(rows))


def label(
    problem: Problem, pool: Sequence[Prefix], *, by: str = "verifier", threshold: float = 0.5
) -> Generator[Request, Reply, list[LabelledSolution]]:
    """Label the steps of given solutions; yields one request, returns a row for each.

    When the budget ends before it, no step has a label. ValueError unless the threshold lies in
    [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold}: need 0 <= threshold <= 1")
    try:
        scores = yield Score([replace(one, problem=problem.blind()) for one in pool], by=by)
    except Stopped:
        scores = [[None] * len(one.steps) for one in pool]
    meta = {"by": by, "threshold": threshold}
    rows = []
    for one, row in zip(pool, scores):
        values = tuple(None if s is None else float(s) for s in row)
        labels = _above(row, threshold)
        rows.append(LabelledSolution(problem, one.texts, labels, values, "judge", meta))
    return rows


def threshold_of(rows: Sequence[LabelledSolution], right: Sequence[bool]) -> float:
    """The threshold by which as large a share of judged solutions passes as ends right.

    `right[i]`: does row i end in the right answer? ValueError for no rows, or rows without values.

    >>> rows = [LabelledSolution(Problem("p", "math", "?"), ("a",), (1,), (v,)) for v in (0.1, 0.9)]
    >>> threshold_of(rows, [False, True])
    0.5
    """
    lowest = [min(row.values) for row in rows if row.values and None not in row.values]
    if not lowest or len(lowest) != len(rows) or len(right) != len(rows):
        given = f"{len(rows)} rows, {len(lowest)} of them judged, {len(right)} endings"
        raise ValueError(f"{given}: need one or more, all judged, and an ending each")
    return float(np.quantile(lowest, 1 - np.mean(right)))


def at_threshold(rows: Sequence[LabelledSolution], threshold: float) -> list[LabelledSolution]:
    """Judged rows with the labels that another threshold gives them."""
    return [replace(row, labels=_above(row.values or (), threshold)) for row in rows]


def _above(values: Sequence[float | None], threshold: float) -> tuple[int | None, ...]:
    return tuple(None if value is None else int(value > threshold) for value in values)
