"""Test-time scaling curves from one pool of samples: expectations over k-subsets, 95 % bands.

A curve is a list of points {method, budget, value, low, high}, which `show.plots.scaling_plot`
draws and a CSV keeps. Every budget uses the whole pool (the unbiased estimators of `metrics`),
never only its first k samples, and the bootstrap draws whole problems. `values_at` gives what
stands behind one point of a curve, a value per problem, for paired tests. Only the weighted
vote has no closed form: it is a mean over random k-subsets, the same ones for every method, and
over all k-subsets where these are few. Taught in notebooks 09 and 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from workbench.analyse import metrics
from workbench.analyse.metrics import AnswerRow, Flags, Floats, Gold, Ints
from workbench.problems import answer_of, is_right
from workbench.types import SearchResult

CurvePoint = dict[str, Any]
Answers = Sequence[AnswerRow]  # (problems, n)
PoolScores = Sequence[Sequence[Any]]  # (problems, n): a list of step scores, or one score, each


class PoolParts(NamedTuple):
    """What `values_at` takes of a pool, a row a problem."""

    answers: Answers
    correct: ArrayLike  # (problems, n) of bool
    golds: Sequence[Gold]
    step_scores: PoolScores | None = None


SELECTIONS = tuple(
    f"prm_{how}_{rule}" for rule in ("max", "vote") for how in ("min", "last", "prod", "mean")
)


def doublings(n: int) -> list[int]:
    """The budgets 1, 2, 4 ... up to n.

    >>> doublings(20)
    [1, 2, 4, 8, 16]
    """
    return [2**i for i in range(n.bit_length()) if 2**i <= n]


def half_doublings(n: int) -> list[int]:
    """The budgets 1, 2, 3, 4, 6, 8, 12 ... up to n: each, from 2 on, at most half more.

    >>> half_doublings(20)
    [1, 2, 3, 4, 6, 8, 12, 16]
    """
    return sorted({*doublings(n), *(3 * k for k in doublings(n // 3))})


def answers_of(results: Sequence[SearchResult]) -> list[list[str | None]]:
    """The final answer of every solution of every problem; None for a solution that says none."""
    return [[answer_of(rollout) for rollout in result.rollouts] for result in results]


def correctness(results: Sequence[SearchResult]) -> Flags:
    """Which solutions end in the right answer: (problems, n).

    ValueError unless all pools are of one size and all problems have their answer.
    """
    sizes = {len(result.rollouts) for result in results}
    if len(sizes) != 1:
        raise ValueError(f"pools of {sorted(sizes)} samples: need as many for every problem")
    return np.array([[is_right(r.problem, one) for one in r.rollouts] for r in results], bool)


def pool_parts(results: Sequence[SearchResult]) -> tuple[list[list[str | None]], Flags, list[str]]:
    """Answers, correctness and gold answers of a pool: what `values_at` and the curves take."""
    correct = correctness(results)
    return answers_of(results), correct, [str(result.problem.answer) for result in results]


def curve(
    method: str, budgets: Sequence[int], values: Floats, *, seed: int, **more: Any
) -> list[CurvePoint]:
    """Points of a method from its values, (problems, budgets); `more` goes into every point."""
    columns = zip(budgets, values.mean(0), metrics.resample(values, seed=seed).T)
    found = ((k, metrics.with_interval(mean, drawn)) for k, mean, drawn in columns)
    return [{"method": method, "budget": k, **own, **more} for k, own in found]


def interval(values: ArrayLike, *, seed: int) -> dict[str, float]:
    """Mean of one value per problem with its 95 % bootstrap interval: {value, low, high}."""
    values = np.asarray(values, float)
    return metrics.with_interval(values.mean(), metrics.resample(values, seed=seed))


def pass_curve(
    correct: Flags, *, seed: int, method: str = "pass@k", **more: Any
) -> list[CurvePoint]:
    """pass@k over k from a pool. correct (problems, n) of bool."""
    budgets = doublings(correct.shape[1])
    return curve(method, budgets, _pass_values(correct, budgets), seed=seed, **more)


def majority_curve(
    answers: Answers, golds: Sequence[Gold], *, seed: int, method: str = "majority", **more: Any
) -> list[CurvePoint]:
    """Majority vote over k from a pool: one row of answers and one gold answer per problem."""
    budgets = doublings(len(answers[0]))
    return curve(method, budgets, _majority_values(answers, golds, budgets), seed=seed, **more)


# -- selection by scores ---------------------------------------------------------------------------


def selection_curves(
    answers: Answers,
    correct: ArrayLike,
    golds: Sequence[Gold],
    step_scores: PoolScores,
    *,
    seed: int,
    names: Sequence[str] = SELECTIONS,
    **more: Any,
) -> list[CurvePoint]:
    """One curve per name, all from the same pool; what the arguments are: see `values_at`."""
    budgets, pool = doublings(len(answers[0])), PoolParts(answers, correct, golds, step_scores)
    points = []
    for name in names:
        values = _values(name, budgets, pool, seed=seed)
        points += curve(name, budgets, values, seed=seed, **more)
    return points


def values_at(
    name: str,
    k: int,
    answers: Answers,
    correct: ArrayLike,
    golds: Sequence[Gold],
    step_scores: PoolScores | None = None,
    *,
    seed: int,
) -> Floats:
    """Expected correctness per problem, (problems,), of one way to choose among k samples.

    That is what stands behind a point of its curve. `name` is
    prm_{min,last,prod,mean,max,sum}_{max,vote}, with step_scores[problem][sample] a list of step
    scores; orm_max or orm_vote, with one score per sample; or majority or pass@k, with none. Where
    several answers to a problem are right, its entry of `golds` is a tuple of them. A solution
    without an answer (unfinished) never wins a vote; chosen by its score it counts as
    wrong. ValueError for pools that don't fit.
    """
    return _values(name, [k], PoolParts(answers, correct, golds, step_scores), seed=seed)[:, 0]


def weighted_vote_at_k(
    answers: AnswerRow, scores: ArrayLike, gold: Gold, k: int, *, seed: Any, draws: int = 200
) -> float:
    """Expected correctness of the answer with the largest summed score of k samples from a pool.

    Missing answers never win; tied ones share, and sums tie when they agree to 9 digits. The mean
    is over all k-subsets if there are at most `draws` of them (or n), else over `draws` random
    ones, which `seed` alone decides.

    >>> weighted_vote_at_k(["1", "2", "1", "2"], [0.9, 0.6, 0.2, 0.6], "1", 3, seed=0)
    0.5
    """
    scores = np.asarray(scores, float)
    if scores.shape != (len(answers),) or np.isnan(scores).any() or not 1 <= k <= len(answers):
        given = f"scores {scores.tolist()} of {len(answers)} answers, k = {k}"
        raise ValueError(f"{given}: need a number each, 1 <= k <= n")
    group, right = _groups(tuple(answers), gold)
    member = group[:, None] == np.arange(len(right))  # (n, V)
    drawn = _subsets(len(answers), k, draws, seed)  # (draws, n)
    total = np.where(drawn @ member > 0, drawn @ (member * scores[:, None]), -np.inf)  # (draws, V)
    best = total.max(1, keepdims=True, initial=-np.inf)
    wins = (total > -np.inf) & (total >= best - 1e-9 * np.abs(best))
    return float(np.mean((wins & right).sum(1) / np.maximum(wins.sum(1), 1)))


@lru_cache(maxsize=1 << 12)
def _groups(answers: tuple[str | None, ...], gold: Gold) -> tuple[Ints, Flags]:
    """For each answer the index of its value, -1 if missing, (n,); which values are right, (V,)."""
    values, group = metrics.group_by_value(answers)
    return group, np.array([metrics.equals_gold(gold, value) for value in values], bool)


def _subsets(n: int, k: int, draws: int, seed: Any) -> Floats:
    """k-subsets of n samples as rows of ones and zeros: all if they are few, else random ones."""
    if comb(n, k) > max(draws, n):
        rows = np.broadcast_to(np.arange(n) < k, (draws, n))
        return np.random.default_rng(seed).permuted(rows, axis=1).astype(float)
    chosen = np.zeros((comb(n, k), n))
    np.put_along_axis(chosen, np.array(list(combinations(range(n), k))), 1.0, axis=1)
    return chosen


# -- what stands behind the curves: a value per problem and budget, (problems, budgets) ------------


def _values(name: str, budgets: Sequence[int], pool: PoolParts, *, seed: int) -> Floats:
    answers, correct, golds, step_scores = pool
    _check_pool(answers, correct, golds)
    if name == "pass@k":
        return _pass_values(np.asarray(correct), budgets)
    if name == "majority":
        return _majority_values(answers, golds, budgets)
    scores = _solution_scores(name, step_scores, np.shape(correct))
    if name.endswith("_max"):
        pairs = zip(scores, np.asarray(correct))
        return np.array([[metrics.best_of_n_at_k(*pair, k) for k in budgets] for pair in pairs])
    rows = enumerate(zip(answers, scores, golds))
    votes = [[weighted_vote_at_k(*row, k, seed=[seed, i]) for k in budgets] for i, row in rows]
    return np.array(votes)


def _pass_values(correct: Flags, budgets: Sequence[int]) -> Floats:
    return np.stack([metrics.pass_at_k(correct.shape[1], correct.sum(1), k) for k in budgets], 1)


def _majority_values(answers: Answers, golds: Sequence[Gold], budgets: Sequence[int]) -> Floats:
    rows = zip(answers, golds)
    return np.array([[metrics.majority_at_k(row, gold, k) for k in budgets] for row, gold in rows])


def _solution_scores(name: str, step_scores: PoolScores | None, shape: tuple[int, ...]) -> Floats:
    """One number per solution, (problems, n), as the name of the method says."""
    kind, *how, rule = name.split("_") if "_" in name else (name, "", "")
    if (kind, len(how)) not in (("prm", 1), ("orm", 0)) or rule not in ("max", "vote"):
        others = "orm_max, orm_vote, majority or pass@k"
        raise ValueError(f"selection {name!r}: use {', '.join(SELECTIONS)}, {others}")
    if step_scores is None or [len(row) for row in step_scores] != [shape[1]] * shape[0]:
        raise ValueError(f"{name}: need scores for {shape[0]} problems of {shape[1]} samples each")
    if how:
        return np.array([[metrics.aggregate(own, *how) for own in row] for row in step_scores])
    if {np.size(scores) for row in step_scores for scores in row} != {1}:
        raise ValueError(f"{name}: need one score per solution, for step scores use a prm_ name")
    return np.array(step_scores, float).reshape(shape)


def _check_pool(answers: Answers, correct: ArrayLike, golds: Sequence[Gold]) -> None:
    flags, sizes = np.asarray(correct, bool), [len(row) for row in answers]
    if flags.ndim != 2 or len(golds) != len(flags) or sizes != [flags.shape[1]] * len(flags):
        given = f"{sorted(set(sizes))} answers to {len(answers)} problems, {len(golds)} golds"
        needed = "need (problems, n) and one gold per problem"
        raise ValueError(f"{given}, correct of shape {flags.shape}: {needed}")
    missing = np.array([[answer is None for answer in row] for row in answers])
    if (flags & missing).any():
        raise ValueError("a solution without an answer is marked correct: it must count as wrong")
