r"""What is measured on recorded samples: votes, pass@k, step aggregates, first errors, intervals.

Everything here works on **one** pool of n samples per problem and gives the exact expectation over
its k-subsets, so a curve over budgets needs no second run and no resampling:

- pass@k: $1 - \binom{n-c}{k} / \binom{n}{k}$ (Chen et al. 2021, arXiv 2107.03374), as a product
  that can't overflow;
- best-of-k: sorted by score, rank i is the best of a k-subset with probability $\binom{i-1}{k-1} /
  \binom{n}{k}$;
- majority@k (Wang et al. 2022, 2203.11171): how often each answer is drawn is multivariate
  hypergeometric, that is independent binomials given their sum; the sum over all such draws is a
  product of polynomials.

Deviations from common code: answers are grouped by **equality of value** (1/2 = 0.5); an answer
that is missing counts among the n drawn but never wins; a tie is shared in equal parts instead of
going to the first; a number of scores that differs from the number of answers is an error.
Intervals are 95 % and over problems. Taught in notebook 01.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, binomtest

from workbench.problems.grading import is_equal

Equal = Callable[[str, str | None], bool]
Gold = str | tuple[str, ...]  # the right answer, or all right answers where there are several
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
AnswerRow = Sequence[str | None]  # (n,): of one problem's samples, None where there is none
StepRows = Sequence[Sequence[float]]  # (solutions,): of each a score per step
ErrorSteps = Sequence[int | None]  # (solutions,): first wrong step, 0-based; -1 or None: no error
ROUNDING = 1e-9  # results no further apart than this are equal


# -- from one pool of n samples to the expectation at k --------------------------------------------


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> float | Floats:
    """Chance that k of n samples, c of them right, contain a right one; numbers or arrays.

    >>> round(float(pass_at_k(10, 3, 5)), 10), pass_at_k(256, [1, 0, 250], 16).tolist()
    (0.9166666667, [0.0625, 0.0, 1.0])
    """
    n, c, k = np.broadcast_arrays(n, c, k)
    if np.any((c < 0) | (c > n) | (k < 1) | (k > n)):
        given = f"pass@k of n={n.tolist()}, c={c.tolist()}, k={k.tolist()}"
        raise ValueError(f"{given}: need 0 <= c <= n and 1 <= k <= n")
    rows = zip(n.flat, c.flat, k.flat)
    miss = [np.prod(1 - k / np.arange(n - c + 1, n + 1)) if n - c >= k else 0.0 for n, c, k in rows]
    return 1 - (np.reshape(miss, n.shape) if n.ndim else float(miss[0]))


def best_of_n_at_k(scores: ArrayLike, correct: ArrayLike, k: int) -> float:
    """Expected correctness of the highest-scored of k samples drawn from a pool; tied scores share.

    >>> best_of_n_at_k([0.1, 0.9, 0.5], [1, 0, 1], 2)  # the pairs' best: 0.9, 0.5 and 0.9
    0.3333333333333333
    """
    scores, correct = np.asarray(scores, float), np.asarray(correct, float)
    same_length("scores", scores, "correct", correct)
    n = len(scores)
    _check_k(k, n)
    if np.isnan(scores).any():
        raise ValueError(f"scores {scores.tolist()} hold NaN, need numbers")
    _, group, size = np.unique(scores, return_inverse=True, return_counts=True)  # ascending
    shared = (np.bincount(group, correct) / size)[np.sort(group)]  # (n,) by rank, ties averaged
    rank = np.arange(n, k - 1, -1)  # n, n-1, ..., k: others can't be the best of k
    chance = k / n * np.cumprod(np.append(1.0, (rank[:-1] - k) / (rank[:-1] - 1)))
    return float(shared[rank - 1] @ chance)


def majority_at_k(answers: AnswerRow, gold: Gold, k: int, *, equal: Equal = is_equal) -> float:
    """Expected correctness of the most frequent of k answers drawn from a pool; ties share.

    Missing answers never win. Each of several right answers has its own votes.

    >>> round(majority_at_k(["7"] * 6 + ["8"] * 4, "7.0", 3), 4)
    0.6667
    >>> majority_at_k(["1/2", "0.5", "2", None], "0.5", 4)
    1.0
    >>> round(majority_at_k(["1", "2", "3", "3", "3"], ("1", "2"), 1), 4)
    0.4
    """
    n = len(answers)
    _check_k(k, n)
    values, group = group_by_value(answers, equal)
    counts = np.bincount(group[group >= 0], minlength=len(values))
    right = [i for i, value in enumerate(values) if equals_gold(gold, value, equal)]
    missing = n - int(counts.sum())
    return sum(_chance_to_win(counts[i], np.delete(counts, i), missing, k) for i in right)


def _chance_to_win(own: int, others: Ints, missing: int, k: int) -> float:
    """Expected share of the win of an answer that is `own` of the pool, when k are drawn.

    Were each sample drawn with chance k/n, the counts of the answers would be independent
    binomials; given that k are drawn in all, they are the counts of a k-subset. `ways[t, s]`: s
    drawn so far, t other answers level with ours.
    """
    n = own + int(others.sum()) + missing
    sizes = np.array([own, missing, n, *others])[:, None]
    chance = binom.pmf(np.arange(k + 1), sizes, k / n)  # (3 + other answers, k + 1)
    total: Any = 0.0
    for v in range(1, min(own, k) + 1):  # ours is drawn v times
        ways = np.zeros((min(k // v, 1 + int(np.sum(others >= v))), k + 1))
        ways[0, v:] = chance[0, v] * chance[1, : k + 1 - v]
        for of_other in chance[3:]:
            level = np.zeros_like(ways)
            level[1:, v:] = ways[:-1, :-v] * of_other[v]
            ways = np.array([np.convolve(row, of_other[:v])[: k + 1] for row in ways]) + level
        total += ways[:, k] @ (1 / np.arange(1, len(ways) + 1))
    return float(total / chance[2, k])


# -- votes: functions over one pool ----------------------------------------------------------------


def tally(
    answers: AnswerRow, weights: ArrayLike | None = None, *, equal: Equal = is_equal
) -> dict[str, float]:
    """Summed weight (1 each, if not given) of every distinct value, named as it first appeared.

    Missing answers are left out.

    >>> tally(["1/2", "3", "0.5", None])
    {'1/2': 2.0, '3': 1.0}
    """
    weights = np.ones(len(answers)) if weights is None else np.asarray(weights, float)
    same_length("weights", weights, "answers", answers)
    values, group = group_by_value(answers, equal)
    kept = group >= 0
    return dict(zip(values, np.bincount(group[kept], weights[kept], len(values)).tolist()))


def majority_vote(answers: AnswerRow, *, equal: Equal = is_equal) -> str | None:
    """The most frequent answer by value, of several the one seen first; None if all are missing.

    >>> majority_vote(["2", "1/2", None, None, None, "0.5"])
    '1/2'
    """
    votes = tally(answers, equal=equal)
    return max(votes, key=votes.__getitem__, default=None)


def weighted_vote(answers: AnswerRow, scores: ArrayLike, *, equal: Equal = is_equal) -> str | None:
    """The answer with the largest summed score, the first of several; None if all are missing.

    >>> weighted_vote(["A", "B", "A", "B"], [0.9, 0.6, 0.2, 0.6])
    'B'
    """
    votes = tally(answers, scores, equal=equal)
    return max(votes, key=votes.__getitem__, default=None)


def group_by_value(answers: AnswerRow, equal: Equal = is_equal) -> tuple[list[str], Ints]:
    """The distinct values, and for each answer the index of its value, -1 if missing or blank.

    >>> values, index = group_by_value(["1/2", None, "3", "0.5"])
    >>> values, index.tolist()
    (['1/2', '3'], [0, -1, 1, 0])
    """
    values: list[str] = []
    index: dict[str | None, int] = {}
    for answer in answers:
        if answer is None or answer in index or not answer.strip():
            continue
        known = (i for i, value in enumerate(values) if equal(value, answer))
        index[answer] = next(known, len(values))
        if index[answer] == len(values):
            values.append(answer)
    return values, np.array([index.get(answer, -1) for answer in answers], int)


def equals_gold(gold: Gold, value: str, equal: Equal = is_equal) -> bool:
    """Is this value a right answer? Of several right ones any will do."""
    return any(equal(g, value) for g in (gold if isinstance(gold, tuple) else (gold,)))


# -- steps -----------------------------------------------------------------------------------------

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "last": lambda scores: scores[-1],
    "prod": prod,
    "mean": lambda scores: sum(scores) / len(scores),
    "max": max,
    "sum": sum,
}


def aggregate(step_scores: Sequence[float], how: str) -> float:
    """One number for a solution from its step scores; `how` is min, last, prod, mean, max or sum.

    >>> [round(aggregate([0.9, 0.5, 0.8], how), 4) for how in AGGREGATES]
    [0.5, 0.8, 0.36, 0.7333, 0.9, 2.2]
    """
    if how not in AGGREGATES:
        raise ValueError(f"aggregate {how!r}: use {', '.join(AGGREGATES)}")
    if len(step_scores) == 0:
        raise ValueError("no step scores to aggregate, need at least one")
    return float(AGGREGATES[how](step_scores))


# -- first errors ----------------------------------------------------------------------------------


def processbench_f1(predicted: ErrorSteps, labels: ErrorSteps) -> float:
    """F1 of ProcessBench (arXiv 2412.06559), in [0, 1]: see `hit_rates`.

    Both hold one 0-based index of the first wrong step per solution, -1 or None if there is none.

    >>> processbench_f1([2, 0, -1, -1], [2, 1, -1, -1])  # half of the errors, all correct ones
    0.6666666666666666
    """
    return float(hit_rates(first_error_counts(predicted, labels).sum(0))[2])


def first_error_counts(predicted: ErrorSteps, labels: ErrorSteps) -> Floats:
    """Per solution 1 or 0: is it an error hit, an error, a clean one passed, a clean one?

    Shape (solutions, 4).

    >>> first_error_counts([2, 0, -1], [2, 1, None]).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    """
    same_length("predictions", predicted, "labels", labels)
    guess, truth = (np.array([-1 if i is None else i for i in row]) for row in (predicted, labels))
    error, hit = truth != -1, guess == truth  # (solutions,)
    return np.stack([error & hit, error, ~error & hit, ~error], 1).astype(float)


def hit_rates(sums: ArrayLike) -> Floats:
    """Accuracy with an error, without one, and F1: (..., 3) of sums of `first_error_counts`.

    NaN for a kind of which there is no solution, and then F1 is NaN, too; F1 is 0 where both are 0.

    >>> hit_rates([[324, 1000, 917, 1000], [0, 5, 0, 5], [5, 5, 0, 0]]).round(4).tolist()
    [[0.324, 0.917, 0.4788], [0.0, 0.0, 0.0], [1.0, nan, nan]]
    """
    error_hit, error, passed, clean = np.moveaxis(np.asarray(sums, float), -1, 0)
    with np.errstate(invalid="ignore"):  # 0 / 0: none of this kind
        a, b = error_hit / error, passed / clean
    return np.stack([a, b, harmonic_mean(a, b)], -1)


def harmonic_mean(a: ArrayLike, b: ArrayLike) -> Floats:
    """2ab / (a + b), and 0 where both are 0; numbers or arrays.

    >>> harmonic_mean([32.4, 0.0], [91.7, 0.0]).round(2).tolist()
    [47.88, 0.0]
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    mean: Floats = 2 * a * b / np.where(a + b == 0, 1, a + b)
    return mean


# -- intervals and tests, over problems ------------------------------------------------------------


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a share, also right near 0 and 1.

    >>> [round(end, 6) for end in wilson(375, 500)]
    [0.710236, 0.785952]
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes of {n}: need n >= 1 and 0 <= successes <= n")
    low, high = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def resample(
    values: ArrayLike, *, seed: Any, statistic: Callable[..., Any] = np.mean, draws: int = 2000
) -> Floats:
    """A statistic of problems drawn with replacement, once per draw: (draws,) or (draws, columns).

    `values` is (problems,) or (problems, columns). Whole rows are drawn, so that what belongs to a
    problem stays together; `statistic` takes `axis=0`. ValueError without a problem.
    """
    values = np.asarray(values, float)
    if values.ndim not in (1, 2) or not len(values):
        raise ValueError(f"values of shape {values.shape}: need (problems,) or (problems, columns)")
    rng, n = np.random.default_rng(seed), len(values)
    return np.array([statistic(values[rng.integers(n, size=n)], axis=0) for _ in range(draws)])


def with_interval(value: float | Floats, drawn: ArrayLike) -> dict[str, float]:
    """{value, low, high}: a value with the 95 % interval of its draws, (draws,).

    Draws without a value (NaN) are left out; a value that is NaN has no interval.
    """
    ends = np.full(2, np.nan)
    if not np.isnan(value):
        ends = np.nanpercentile(np.asarray(drawn), [2.5, 97.5])
    return {"value": float(value), "low": float(ends[0]), "high": float(ends[1])}


def interval_of_sums(
    sums: ArrayLike, statistic: Callable[[Floats], Floats], *, seed: Any
) -> dict[str, float]:
    """{value, low, high} of a statistic of sums over problems, which are drawn as by `resample`.

    `sums` has a row a problem, (problems, columns); the statistic takes (..., columns).
    """
    sums = np.asarray(sums, float)
    drawn = resample(sums, seed=seed, statistic=np.sum)  # (draws, columns)
    return with_interval(statistic(sums.sum(0)), statistic(drawn))


class Comparison(NamedTuple):
    """Mean difference a - b over the same problems, its 95 % interval, and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


def paired_bootstrap(a: ArrayLike, b: ArrayLike, *, seed: int, draws: int = 10_000) -> Comparison:
    """Is a better than b on the same problems? Resamples problems, each with both of its results.

    >>> paired_bootstrap([1, 1, 1, 0], [0, 1, 1, 0], seed=0).difference
    0.25
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    same_length("a", a, "b", b)
    difference = a - b  # (problems,)
    if difference.ndim != 1 or not len(difference):
        raise ValueError(f"results of shape {difference.shape}, need (problems,), at least one")
    if not np.isfinite(difference).all():
        raise ValueError("results hold NaN or infinity: need a number for each problem")
    difference[np.abs(difference) <= ROUNDING] = 0.0  # else equal methods are surely different
    means = resample(difference, seed=seed, draws=draws)
    means[np.abs(means) <= ROUNDING] = 0.0
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min(np.sum(means <= 0), np.sum(means >= 0))
    p = min(1.0, 2 * (1 + int(tail)) / (1 + draws))
    return Comparison(float(difference.mean()), float(low), float(high), p)


def same_length(name: str, row: Sized, other_name: str, other: Sized) -> None:
    """ValueError unless there are as many of both."""
    if len(row) != len(other):
        raise ValueError(f"{len(row)} {name} for {len(other)} {other_name}, need as many")


def _check_k(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} of a pool of {n}: need 1 <= k <= {n}")
