"""Fewer and better labels: what labellers agree on, or what one is likely to have got right.

- `agree`, between labellers: "solutions" keeps those for which all find the same first error
  (consensus filtering, Zhang et al. 2025, arXiv 2501.07301, between Monte-Carlo labels and a
  judge); "steps" keeps every solution and only the labels that all give.
- `agree_with_endings`, between a labeller and the final answer: keeps a solution without a bad
  step if it ends right, and one with a bad step if it ends wrong. Costs nothing.
- `denoise`, within Monte-Carlo labels, after SCAN (Ding et al. 2025, arXiv 2509.16548). Its
  findings: where the completer seldom solves the problem, it fails from good steps, too, and the
  error is seen too early; where it is strong, it repairs bad steps and the error is seen a little
  too late. So problems of low confidence are left out, and the steps just before the error that was
  seen carry no label.

Deviation from SCAN: it gives the steps before the error soft targets and weighs rows by confidence;
here the steps carry no label and rows are kept or not. Nothing is sampled here: rows in, rows out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Literal

from workbench.types import LabelledSolution


def agree(
    *labellings: Sequence[LabelledSolution], keep: Literal["solutions", "steps"] = "solutions"
) -> list[LabelledSolution]:
    """What labellers of the same solutions agree on; `values` and `meta` are those of the first.

    A step that one of them does not label gets no label. Raises ValueError unless all label the
    same solutions in the same order.

    >>> from workbench.types import Problem
    >>> one = LabelledSolution(Problem("p", "math", "?"), ("a", "b"), (1, 0))
    >>> other = replace(one, labels=(1, 1))
    >>> agree([one], [other]), agree([one], [other], keep="steps")[0].labels
    ([], (1, None))
    """
    if keep not in ("solutions", "steps"):
        raise ValueError(f"keep={keep!r}: use 'solutions' or 'steps'")
    if len({tuple((row.problem.id, row.steps) for row in rows) for rows in labellings}) != 1:
        given = f"{len(labellings)} labellings of different solutions"
        raise ValueError(f"{given}: need the same ones in the same order")
    out = []
    for rows in zip(*labellings):
        if keep == "solutions" and len({row.first_error for row in rows}) > 1:
            continue
        given = zip(*(row.labels for row in rows))
        labels = tuple(own[0] if len(set(own)) == 1 else None for own in given)
        out.append(_with(rows[0], labels, "consensus"))
    return out


def agree_with_endings(
    rows: Sequence[LabelledSolution], right: Sequence[bool]
) -> list[LabelledSolution]:
    """The rows that have a bad step if and only if they end wrong.

    `right[i]`: does row i end in the right answer? ValueError unless each row has an ending.

    >>> from workbench.types import Problem
    >>> row = LabelledSolution(Problem("p", "math", "?"), ("a", "b"), (1, 0))
    >>> len(agree_with_endings([row, row], [False, True]))
    1
    """
    if len(rows) != len(right):
        raise ValueError(f"{len(right)} endings for {len(rows)} rows: need one each")
    kept = [row for row, ok in zip(rows, right) if (row.first_error is None) == bool(ok)]
    return [replace(row, source="consensus") for row in kept]


def denoise(
    rows: Sequence[LabelledSolution], *, confidence: float = 0.5, slack: int = 1
) -> list[LabelledSolution]:
    """Rows of problems solved often enough, with no label on the `slack` steps before an error.

    Often enough: a share of at least `confidence`. It is read off the problem's rows, those whose
    last step is labelled good: so there must be one row per solution that the completer sampled
    from the question. Raises ValueError unless 0 <= confidence <= 1 and slack >= 0.
    """
    if not 0 <= confidence <= 1 or slack < 0:
        given = f"confidence={confidence}, slack={slack}"
        raise ValueError(f"{given}: need 0 <= confidence <= 1 and slack >= 0")
    solved: dict[str, list[bool]] = {}
    for row in rows:
        solved.setdefault(row.problem.id, []).append(row.labels[-1:] == (1,))
    kept = [row for row in rows if fmean(solved[row.problem.id]) >= confidence]
    return [_with(row, _without(row, slack), "denoised") for row in kept]


def _with(row: LabelledSolution, labels: tuple[int | None, ...], source: str) -> LabelledSolution:
    """The row with other labels; a step without one loses its value, too, else a soft target."""
    pairs = zip(row.values or (), labels)
    values = row.values and tuple(None if label is None else v for v, label in pairs)
    return replace(row, labels=labels, values=values, source=source)


def _without(row: LabelledSolution, slack: int) -> tuple[int | None, ...]:
    error = row.first_error
    doubtful = () if error is None else range(error - slack, error)
    return tuple(None if t in doubtful else label for t, label in enumerate(row.labels))
