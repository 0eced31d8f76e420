"""First wrong steps found by a threshold, as in ProcessBench: choose it, cross it, compare two.

A solution's predicted first error is its first step with score < threshold (Zheng et al. 2024,
arXiv 2412.06559); what counts as found is defined in `metrics.hit_rates`. Deviation: the threshold
is chosen exactly, not on a grid. Intervals are 95 %, over problems: whole problems are drawn, with
all their solutions. Taught in notebook 03.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from workbench.analyse import metrics
from workbench.analyse.metrics import ErrorSteps, Floats, StepRows


def first_errors(step_scores: Iterable[Sequence[float]], threshold: float) -> list[int]:
    """Per solution the 0-based index of the first step with score < threshold, -1 if there is none.

    >>> first_errors([[0.9, 0.3, 0.2], [0.9, 0.5]], 0.5)
    [1, -1]
    """
    return [
        next((i for i, score in enumerate(scores) if score < threshold), -1)
        for scores in step_scores
    ]


# -- thresholds ------------------------------------------------------------------------------------


def best_threshold(step_scores: StepRows, labels: ErrorSteps) -> float:
    """The threshold with the largest F1, the lowest of several; use it on another split.

    `labels` are 0-based first errors, -1 or None where there is none. Exact: an error at step t is
    hit by thresholds in (score of t, lowest score before t], a correct solution by those up to its
    lowest score; so both hit rates change only at such ends, and one threshold between each two
    neighbours is enough. ValueError unless there are solutions with an error and without.

    >>> best_threshold([[0.9, 0.2], [0.8, 0.6]], [1, -1])
    0.4
    """
    low, high, clean = _hit_ranges(step_scores, labels)
    errors = sum(t is not None and t != -1 for t in labels)
    if not errors or not len(clean):
        found = f"{errors} solutions with an error, {len(clean)} without"
        raise ValueError(f"{found}: need both to choose a threshold")
    ends = np.unique(np.concatenate([low, high[np.isfinite(high)], clean]))
    middles = (ends[1:] + ends[:-1]) / 2
    middles = np.where(middles > ends[:-1], middles, ends[1:]) if len(middles) else ends
    error = (np.searchsorted(low, middles) - np.searchsorted(high, middles)) / errors
    correct = 1 - np.searchsorted(clean, middles) / len(clean)  # (middles,)
    return float(middles[np.argmax(metrics.harmonic_mean(error, correct))])


def _hit_ranges(step_scores: StepRows, labels: ErrorSteps) -> tuple[Floats, Floats, Floats]:
    """Sorted ends of the ranges (low, high] that hit an error; lowest scores of clean solutions."""
    metrics.same_length("solutions", step_scores, "labels", labels)
    ranges, clean = [], []
    for scores, label in zip(step_scores, labels):
        t, n = -1 if label is None else label, len(scores)
        if not -1 <= t < n or not n or any(score != score for score in scores):
            found = f"first error {t} with scores {list(scores)}"
            raise ValueError(f"{found}: need -1 to {n - 1}, and a number per step")
        if t == -1:
            clean.append(min(scores))
        elif scores[t] < (before := min(scores[:t], default=np.inf)):
            ranges.append((scores[t], before))
    low, high = np.array(ranges, float).reshape(-1, 2).T
    return np.sort(low), np.sort(high), np.sort(np.array(clean, float))


# -- F1 with its interval --------------------------------------------------------------------------


def f1_interval(
    problems: Sequence[str], predicted: ErrorSteps, labels: ErrorSteps, *, seed: int
) -> dict[str, float]:
    """ProcessBench F1 of first errors with its 95 % interval over problems: {value, low, high}.

    One entry per solution in each: the id of its problem, and 0-based first errors, -1 or None
    where there is none. NaN without solutions of both kinds; draws without both are left out.
    """
    hits = first_error_hits(problems, predicted, labels)
    return metrics.interval_of_sums(hits, _f1, seed=seed)


def first_error_hits(
    problems: Sequence[str], predicted: ErrorSteps, labels: ErrorSteps
) -> pd.DataFrame:
    """The sums of `first_error_counts` per problem, (problems, 4)."""
    if not len(problems) == len(predicted) == len(labels) > 0:
        given = f"{len(problems)} problems, {len(predicted)} predictions, {len(labels)} labels"
        raise ValueError(f"{given}: need as many, at least one")
    return sums_by(problems, metrics.first_error_counts(predicted, labels))


def f1_gain(one: pd.DataFrame, other: pd.DataFrame, *, seed: int) -> dict[str, float]:
    """F1 of `one` minus F1 of `other`, {value, low, high}; both are `first_error_hits`.

    Problems are drawn for both together. ValueError if they are not the same.
    """
    if not one.index.equals(other.index):
        raise ValueError(f"first errors of {len(one)} and {len(other)} problems: need the same")
    both = np.hstack([one.to_numpy(), other.to_numpy()])  # (problems, 8)
    return metrics.interval_of_sums(both, lambda x: _f1(x[..., :4]) - _f1(x[..., 4:]), seed=seed)


def sums_by(groups: Sequence[object], counts: ArrayLike) -> pd.DataFrame:
    """Rows of counts summed by group, in the order of the groups' names: (groups, columns)."""
    return pd.DataFrame(np.asarray(counts)).groupby(np.asarray(groups, object)).sum()


def _f1(sums: Floats) -> Floats:
    return metrics.hit_rates(sums)[..., 2]
