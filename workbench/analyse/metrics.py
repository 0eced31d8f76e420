r"""What is measured on recorded samples: votes, pass@k, best-of-n, step aggregates, F1 of first
errors, intervals.

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

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, binomtest

from workbench.problems.grading import is_equal

Equal = Callable[[str, str], bool]


# -- from one pool of n samples to the expectation at k --------------------------------------------


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> float | np.ndarray:
    """Chance that k of n samples, c of them right, contain a right one; numbers or arrays of one
    shape.

    >>> round(float(pass_at_k(10, 3, 5)), 10), pass_at_k(256, [1, 0, 250], 16).tolist()
    (0.9166666667, [0.0625, 0.0, 1.0])
    """
    n, c, k = np.broadcast_arrays(n, c, k)
    if np.any((c < 0) | (c > n) | (k < 1) | (k > n)):
        raise ValueError(
            f"pass@k of n={n.tolist()}, c={c.tolist()}, k={k.tolist()}: need 0 <= c <= n and 1 <= k <= n"
        )
    rows = zip(n.flat, c.flat, k.flat)
    miss = [np.prod(1 - k / np.arange(n - c + 1, n + 1)) if n - c >= k else 0.0 for n, c, k in rows]
    return 1 - (np.reshape(miss, n.shape) if n.ndim else miss[0])


def best_of_n_at_k(scores: Sequence[float], correct: Sequence[float], k: int) -> float:
    """Expected correctness of the highest-scored of k samples drawn from a pool; tied scores share.

    >>> best_of_n_at_k([0.1, 0.9, 0.5], [1, 0, 1], 2)  # the pairs' best: 0.9, 0.5 and 0.9
    0.3333333333333333
    """
    _same_length("scores", scores, "correct", correct)
    scores, correct, n = np.asarray(scores, float), np.asarray(correct, float), len(scores)
    _check_k(k, n)
    if np.isnan(scores).any():
        raise ValueError(f"scores {scores.tolist()} hold NaN, need numbers")
    _, group, size = np.unique(scores, return_inverse=True, return_counts=True)  # ascending
    shared = (np.bincount(group, correct) / size)[np.sort(group)]  # (n,) by rank, ties averaged
    rank = np.arange(n, k - 1, -1)  # n, n-1, ..., k: others can't be the best of k
    chance = k / n * np.cumprod(np.append(1.0, (rank[:-1] - k) / (rank[:-1] - 1)))
    return float(shared[rank - 1] @ chance)


def majority_at_k(
    answers: Sequence[str | None], gold: str, k: int, *, equal: Equal = is_equal
) -> float:
    """Expected correctness of the most frequent of k answers drawn from a pool; ties share, missing
    ones never win.

    >>> round(majority_at_k(["7"] * 6 + ["8"] * 4, "7.0", 3), 4), majority_at_k(["1/2", "0.5", "2", None], "0.5", 4)
    (0.6667, 1.0)
    """
    n = len(answers)
    _check_k(k, n)
    values, group = _group(answers, equal)
    counts = np.bincount(group[group >= 0], minlength=len(values))
    right = [i for i, value in enumerate(values) if equal(gold, value)]
    missing = n - counts.sum()
    return sum(_chance_to_win(counts[i], np.delete(counts, i), missing, k) for i in right)


def _chance_to_win(own: int, others: np.ndarray, missing: int, k: int) -> float:
    """Expected share of the win of an answer that is `own` of the pool, when k are drawn.

    Were each sample drawn with chance k/n, the counts of the answers would be independent
    binomials; given that k are drawn in all, they are the counts of a k-subset. `ways[t, s]`: s
    drawn so far, t other answers level with ours.
    """
    n, drawn = own + others.sum() + missing, np.arange(k + 1)
    # (answers, k + 1)
    chance = binom.pmf(drawn, np.array([own, missing, n, *others])[:, None], k / n)
    total = 0.0
    for v in range(1, min(own, k) + 1):  # ours is drawn v times
        ways = np.zeros((min(k // v, 1 + np.sum(others >= v)), k + 1))
        ways[0, v:] = chance[0, v] * chance[1, : k + 1 - v]
        for of_other in chance[3:]:
            level = np.zeros_like(ways)
            level[1:, v:] = ways[:-1, :-v] * of_other[v]
            ways = np.array([np.convolve(row, of_other[:v])[: k + 1] for row in ways]) + level
        total += ways[:, k] @ (1 / np.arange(1, len(ways) + 1))
    return float(total / chance[2, k])


# -- votes: functions over one pool ----------------------------------------------------------------


def tally(
    answers: Sequence[str | None],
    weights: Sequence[float] | None = None,
    *,
    equal: Equal = is_equal,
) -> dict[str, float]:
    """Summed weight (1 each, if not given) of every distinct value, named as it first appeared;
    missing ones left out.

    >>> tally(["1/2", "3", "0.5", None])
    {'1/2': 2.0, '3': 1.0}
    """
    weights = np.ones(len(answers)) if weights is None else np.asarray(weights, float)
    _same_length("weights", weights, "answers", answers)
    values, group = _group(answers, equal)
    kept = group >= 0
    return dict(zip(values, np.bincount(group[kept], weights[kept], len(values)).tolist()))


def majority_vote(answers: Sequence[str | None], *, equal: Equal = is_equal) -> str | None:
    """The most frequent answer by value, of several the one seen first; None if all are missing.

    >>> majority_vote(["2", "1/2", None, None, None, "0.5"])
    '1/2'
    """
    votes = tally(answers, equal=equal)
    return max(votes, key=votes.get, default=None)


def weighted_vote(
    answers: Sequence[str | None], scores: Sequence[float], *, equal: Equal = is_equal
) -> str | None:
    """The answer with the largest summed score, of several the one seen first; None if all are
    missing.

    >>> weighted_vote(["A", "B", "A", "B"], [0.9, 0.6, 0.2, 0.6])
    'B'
    """
    votes = tally(answers, scores, equal=equal)
    return max(votes, key=votes.get, default=None)


def _group(answers: Sequence[str | None], equal: Equal) -> tuple[list[str], np.ndarray]:
    """Distinct values, and for each answer the index of its value, -1 where it is missing or blank."""
    values, index = [], {}
    for answer in answers:
        if answer is None or answer in index or not answer.strip():
            continue
        index[answer] = next(
            (i for i, value in enumerate(values) if equal(value, answer)), len(values)
        )
        if index[answer] == len(values):
            values.append(answer)
    return values, np.array([index.get(answer, -1) for answer in answers], int)


# -- steps -----------------------------------------------------------------------------------------

AGGREGATES = {
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


class FirstErrors(NamedTuple):
    """Shares of exact hits among solutions with an error and among those without, and their
    harmonic mean."""

    error: float
    correct: float
    f1: float


def first_error_scores(
    predicted: Sequence[int | None], labels: Sequence[int | None]
) -> FirstErrors:
    """Exact-index accuracies and F1 of ProcessBench (arXiv 2412.06559); NaN for a kind of which
    there is no solution.

    Both hold one 0-based index of the first wrong step per solution, -1 or None where there is
    none.
    """
    _same_length("predictions", predicted, "labels", labels)
    guess, truth = ([-1 if i is None else int(i) for i in row] for row in (predicted, labels))
    hits = {False: [], True: []}
    for g, t in zip(guess, truth):
        hits[t == -1].append(g == t)
    error, correct = (
        float(np.mean(hits[kind])) if hits[kind] else float("nan") for kind in (False, True)
    )
    return FirstErrors(error, correct, harmonic_mean(error, correct))


def processbench_f1(predicted: Sequence[int | None], labels: Sequence[int | None]) -> float:
    """F1 of `first_error_scores`, in [0, 1].

    >>> processbench_f1([2, 0, -1, -1], [2, 1, -1, -1])  # half of the errors, all of the correct ones
    0.6666666666666666
    """
    return first_error_scores(predicted, labels).f1


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b), and 0 where both are 0.

    >>> round(harmonic_mean(32.4, 91.7), 2)
    47.88
    """
    return 2 * a * b / (a + b) if a or b else 0.0


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


def bootstrap(
    values: ArrayLike, *, seed: int, statistic: Callable = np.mean, draws: int = 2000
) -> tuple[np.ndarray | float, np.ndarray | float]:
    """95 % percentile band (low, high) of a statistic over problems: `values` is (problems,) or
    (problems, budgets).

    Whole rows are drawn, so that the budgets of a problem stay together; `statistic` takes
    `axis=0`.

    >>> low, high = bootstrap([[0, 1], [1, 1], [0, 1], [1, 1]], seed=0)
    >>> low.tolist(), high.tolist()
    ([0.0, 1.0], [1.0, 1.0])
    """
    values = np.asarray(values, float)
    if values.ndim not in (1, 2) or not len(values):
        raise ValueError(
            f"values of shape {values.shape}, need (problems,) or (problems, budgets), at least one problem"
        )
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(values[rng.integers(len(values), size=len(values))], axis=0) for _ in range(draws)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return low, high


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
    _same_length("a", a, "b", b)
    difference = np.asarray(a, float) - np.asarray(b, float)  # (problems,)
    if difference.ndim != 1 or not len(difference):
        raise ValueError(f"results of shape {difference.shape}, need (problems,), at least one")
    rng = np.random.default_rng(seed)
    means = np.array(
        [
            difference[rng.integers(len(difference), size=len(difference))].mean()
            for _ in range(draws)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min(np.sum(means <= 0), np.sum(means >= 0))
    return Comparison(
        float(difference.mean()),
        float(low),
        float(high),
        float(min(1, 2 * (1 + tail) / (1 + draws))),
    )


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """Exact two-sided p-value for two methods, right (1) or wrong (0) on the same problems.

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    0.0625
    """
    _same_length("a", a, "b", b)
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def _same_length(name: str, row: Sequence, other_name: str, other: Sequence) -> None:
    if len(row) != len(other):
        raise ValueError(f"{len(row)} {name} for {len(other)} {other_name}, need as many")


def _check_k(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} of a pool of {n}: need 1 <= k <= {n}")
