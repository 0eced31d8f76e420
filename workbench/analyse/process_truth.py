"""Are right answers reached by right steps? Exactly known for the embedded problems.

A reward that sees only the answer is content with a solution that guesses, or whose fault does not
matter for what was asked. Process supervision is for these (Lightman et al. 2023, arXiv 2305.20050;
Uesato et al. 2022, 2211.14275, count them by hand as "trace error"). Taught in notebook 06.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from workbench.analyse.metrics import Flags, Floats, interval_of_sums
from workbench.problems import check_steps
from workbench.types import SearchResult


def wrong_steps(results: Sequence[SearchResult]) -> Flags:
    """Which solutions hold a wrong step, by the exact truth: (problems, n).

    ValueError for problems without exact truth, or unless all pools are of one size.
    """
    if len(sizes := {len(result.rollouts) for result in results}) != 1:
        raise ValueError(f"pools of {sorted(sizes)} samples: need as many for every problem")
    rows = (result.rollouts for result in results)
    return np.array([[not all(check_steps(s.problem, s.texts)) for s in row] for row in rows])


def trace_error(right: ArrayLike, wrong: ArrayLike, *, seed: int) -> dict[str, float]:
    """The share of right answers that were reached by a wrong step: value, low, high.

    `right` and `wrong` (problems, n) say which samples end right, and which hold a wrong step
    (`scaling.correctness`, `wrong_steps`). The interval is over problems. NaN without a right one.

    >>> found = trace_error([[1, 1, 0], [1, 1, 1]], [[1, 0, 1], [0, 0, 0]], seed=0)
    >>> found["value"]
    0.2
    """
    return interval_of_sums(_counts(right, wrong), _share, seed=seed)


def trace_error_ratio(
    ours: tuple[ArrayLike, ArrayLike], theirs: tuple[ArrayLike, ArrayLike], *, seed: int
) -> dict[str, float]:
    """Our `trace_error` over that of another policy on the same problems: value, low, high.

    Each is (right, wrong), (problems, n) both; samples may be more for one than for the other.
    """
    counts = np.concatenate([_counts(*ours), _counts(*theirs)], 1)  # (problems, 4)
    return interval_of_sums(counts, lambda x: _share(x[..., :2]) / _share(x[..., 2:]), seed=seed)


def _counts(right: ArrayLike, wrong: ArrayLike) -> Floats:
    """Of each problem, how many samples are right, and right by a wrong step. (problems, 2)"""
    right, wrong = np.asarray(right, bool), np.asarray(wrong, bool)
    if right.shape != wrong.shape:
        raise ValueError(f"right {right.shape} and wrong {wrong.shape}: need one shape")
    return np.stack([right.sum(1), (right & wrong).sum(1)], 1).astype(float)


def _share(sums: Floats) -> Floats:
    """Of rows (right, right by wrong steps), (..., 2), the second over the first; NaN for none."""
    return np.where(sums[..., 0] > 0, sums[..., 1] / np.maximum(sums[..., 0], 1), np.nan)
