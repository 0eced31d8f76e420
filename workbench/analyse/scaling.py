"""Test-time scaling curves from one pool of samples: expectation over all k-subsets, 95 % bands
over problems.

A curve is a list of rows {method, budget, value, low, high}, which `show.plots.scaling_plot` draws
and a CSV keeps. Every budget uses the whole pool (the unbiased estimators of `metrics`), never only
its first k samples, and the bootstrap draws whole problems. `values_at` gives what stands behind
one point of a curve, a value per problem, for paired tests. Only the weighted vote has no closed
form: it is a mean over random k-subsets, the same ones for every method, and over all k-subsets
where these are few. Taught in notebooks 06 and 03.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from workbench.analyse.metrics import (
    _group,
    aggregate,
    best_of_n_at_k,
    bootstrap,
    majority_at_k,
    pass_at_k,
)
from workbench.problems import answer_of
from workbench.problems.grading import is_equal
from workbench.types import SearchResult

Row = dict[str, Any]
Answers = Sequence[Sequence[str | None]]  # (problems, n)

SELECTIONS = tuple(
    f"prm_{how}_{rule}" for rule in ("max", "vote") for how in ("min", "last", "prod", "mean")
)


def doublings(n: int) -> list[int]:
    """The budgets 1, 2, 4 ... up to n.

    >>> doublings(20)
    [1, 2, 4, 8, 16]
    """
    return [2**i for i in range(n.bit_length()) if 2**i <= n]


def answers_of(results: Sequence[SearchResult]) -> list[list[str | None]]:
    """The final answer of every solution of every problem; None for a solution that says none."""
    return [[answer_of(rollout) for rollout in result.rollouts] for result in results]


def correctness(results: Sequence[SearchResult]) -> np.ndarray:
    """Which solutions end in the right answer, (problems, n) of bool; ValueError unless all pools
    are of one size."""
    sizes = {len(result.rollouts) for result in results}
    if len(sizes) != 1:
        raise ValueError(
            f"pools of {sorted(sizes)} samples: need the same number for every problem"
        )
    rows = zip(results, answers_of(results))
    return np.array(
        [[is_equal(result.problem.answer, answer) for answer in row] for result, row in rows]
    )


def curve(
    method: str, budgets: Sequence[int], values: np.ndarray, *, seed: int, **more: Any
) -> list[Row]:
    """Rows of one method from its value per problem and budget, (problems, budgets); `more` goes
    into every row."""
    low, high = bootstrap(values, seed=seed)
    means = values.mean(0)
    return [
        {"method": method, "budget": b, "value": m, "low": lo, "high": hi, **more}
        for b, m, lo, hi in zip(budgets, means, low, high)
    ]


def interval(values: np.ndarray, *, seed: int) -> Row:
    """Mean of one value per problem with its 95 % bootstrap interval: {value, low, high}."""
    low, high = bootstrap(values, seed=seed)
    return {"value": float(np.mean(values)), "low": low, "high": high}


def pass_curve(correct: np.ndarray, *, seed: int, method: str = "pass@k", **more: Any) -> list[Row]:
    """pass@k over k from a pool. correct (problems, n) of bool."""
    budgets = doublings(correct.shape[1])
    return curve(method, budgets, _pass_values(correct, budgets), seed=seed, **more)


def majority_curve(
    answers: Answers, golds: Sequence[str], *, seed: int, method: str = "majority", **more: Any
) -> list[Row]:
    """Majority vote over k from a pool: one row of answers and one gold answer per problem."""
    budgets = doublings(len(answers[0]))
    return curve(method, budgets, _majority_values(answers, golds, budgets), seed=seed, **more)


# -- selection by scores ---------------------------------------------------------------------------


def best_of_curve(
    scores: ArrayLike, correct: ArrayLike, *, seed: int, method: str, **more: Any
) -> list[Row]:
    """The highest-scored of k samples, exact: scores (problems, n), one number per solution, and
    correct, the same."""
    budgets = doublings(np.shape(scores)[1])
    return curve(method, budgets, _best_values(scores, correct, budgets), seed=seed, **more)


def vote_curve(
    answers: Answers,
    scores: ArrayLike,
    golds: Sequence[str],
    *,
    seed: int,
    method: str,
    draws: int = 200,
    **more: Any,
) -> list[Row]:
    """Weighted vote over k: answers and scores (problems, n), one gold per problem; see
    `weighted_vote_at_k`."""
    budgets = doublings(np.shape(scores)[1])
    values = _vote_values(answers, scores, golds, budgets, seed=seed, draws=draws)
    return curve(method, budgets, values, seed=seed, **more)


def selection_curves(
    answers: Answers,
    correct: ArrayLike,
    golds: Sequence[str],
    step_scores: Sequence[Sequence[Any]],
    *,
    seed: int,
    names: Sequence[str] = SELECTIONS,
    **more: Any,
) -> list[Row]:
    """One curve per name, all from the same pool; what the arguments are: see `values_at`."""
    budgets = doublings(len(answers[0]))
    rows = []
    for name in names:
        values = _values(name, budgets, answers, correct, golds, step_scores, seed=seed)
        rows += curve(name, budgets, values, seed=seed, **more)
    return rows


def values_at(
    name: str,
    k: int,
    answers: Answers,
    correct: ArrayLike,
    golds: Sequence[str],
    step_scores: Sequence[Sequence[Any]] | None = None,
    *,
    seed: int,
) -> np.ndarray:
    """Expected correctness per problem, (problems,), of one way to choose among k samples: a point
    of its curve.

    `name` is prm_{min,last,prod,mean,max,sum}_{max,vote}, with step_scores[problem][sample] a list
    of step scores; orm_max or orm_vote, with one score per sample; or majority or pass@k, with
    none. A solution without an answer (unfinished) never wins a vote; chosen by its score it counts
    as wrong. ValueError for pools that don't fit.
    """
    return _values(name, [k], answers, correct, golds, step_scores, seed=seed)[:, 0]


def weighted_vote_at_k(
    answers: Sequence[str | None],
    scores: Sequence[float],
    gold: str,
    k: int,
    *,
    seed: Any,
    draws: int = 200,
) -> float:
    """Expected correctness of the answer with the largest summed score among k samples drawn from a
    pool.

    Missing answers never win; tied ones share, and sums tie when they agree to 9 digits. The mean
    is over all k-subsets if there are at most `draws` of them (or n), else over `draws` random
    ones, which `seed` alone decides.

    >>> weighted_vote_at_k(["1", "2", "1", "2"], [0.9, 0.6, 0.2, 0.6], "1", 3, seed=0)  # 1 wins if both of it are drawn
    0.5
    """
    scores = np.asarray(scores, float)
    if scores.shape != (len(answers),) or np.isnan(scores).any() or not 1 <= k <= len(answers):
        raise ValueError(
            f"scores {scores.tolist()} of {len(answers)} answers, k = {k}: need a number each, 1 <= k <= n"
        )
    group, right = _groups(tuple(answers), gold)
    member = group[:, None] == np.arange(len(right))  # (n, V)
    drawn = _subsets(len(answers), k, draws, seed)  # (draws, n)
    total = np.where(drawn @ member > 0, drawn @ (member * scores[:, None]), -np.inf)  # (draws, V)
    best = total.max(1, keepdims=True, initial=-np.inf)
    wins = (total > -np.inf) & (total >= best - 1e-9 * np.abs(best))
    return float(np.mean((wins & right).sum(1) / np.maximum(wins.sum(1), 1)))


@lru_cache(maxsize=1 << 12)
def _groups(answers: tuple[str | None, ...], gold: str) -> tuple[np.ndarray, np.ndarray]:
    """For each answer the index of its value, -1 where missing, (n,); and which values are right,
    (V,)."""
    values, group = _group(answers, is_equal)
    return group, np.array([is_equal(gold, value) for value in values], bool)


def _subsets(n: int, k: int, draws: int, seed: Any) -> np.ndarray:
    """k-subsets of n samples as rows of ones and zeros: all of them if they are few, else random
    ones."""
    if comb(n, k) > max(draws, n):
        rows = np.broadcast_to(np.arange(n) < k, (draws, n))
        return np.random.default_rng(seed).permuted(rows, axis=1).astype(float)
    chosen = np.zeros((comb(n, k), n))
    np.put_along_axis(chosen, np.array(list(combinations(range(n), k))), 1.0, axis=1)
    return chosen


# -- what stands behind the curves: a value per problem and budget, (problems, budgets) ------------


def _values(name, budgets, answers, correct, golds, step_scores, *, seed: int) -> np.ndarray:
    _check_pool(answers, correct, golds)
    if name == "pass@k":
        return _pass_values(np.asarray(correct), budgets)
    if name == "majority":
        return _majority_values(answers, golds, budgets)
    scores = _solution_scores(name, step_scores, np.shape(correct))
    if name.endswith("_max"):
        return _best_values(scores, correct, budgets)
    return _vote_values(answers, scores, golds, budgets, seed=seed)


def _solution_scores(name: str, step_scores, shape: tuple[int, int]) -> np.ndarray:
    """One number per solution, (problems, n), as the name of the method says."""
    kind, *how, rule = name.split("_")
    if (kind, len(how)) not in (("prm", 1), ("orm", 0)) or rule not in ("max", "vote"):
        raise ValueError(
            f"selection {name!r}: use {', '.join(SELECTIONS)}, orm_max, orm_vote, majority or pass@k"
        )
    if step_scores is None or [len(row) for row in step_scores] != [shape[1]] * shape[0]:
        raise ValueError(f"{name}: need scores for {shape[0]} problems of {shape[1]} samples each")
    if how:
        return np.array([[aggregate(scores, *how) for scores in row] for row in step_scores])
    if {np.size(scores) for row in step_scores for scores in row} != {1}:
        raise ValueError(f"{name}: need one score per solution, for step scores use a prm_ name")
    return np.array(step_scores, float).reshape(shape)


def _check_pool(answers: Answers, correct: ArrayLike, golds: Sequence[str]) -> None:
    shape = np.shape(correct)
    if (
        len(shape) != 2
        or len(golds) != shape[0]
        or [len(row) for row in answers] != [shape[1]] * shape[0]
    ):
        sizes = f"{sorted({len(row) for row in answers})} answers to {len(answers)} problems, {len(golds)} golds"
        raise ValueError(
            f"{sizes}, correct of shape {shape}: need (problems, n) and one gold per problem"
        )
    for row, flags in zip(answers, np.asarray(correct, bool)):
        if any(flag and answer is None for answer, flag in zip(row, flags)):
            raise ValueError(
                "a solution without an answer is marked correct: it must count as wrong"
            )


def _pass_values(correct: np.ndarray, budgets: Sequence[int]) -> np.ndarray:
    return np.stack([pass_at_k(correct.shape[1], correct.sum(1), k) for k in budgets], 1)


def _majority_values(answers: Answers, golds: Sequence[str], budgets: Sequence[int]) -> np.ndarray:
    return np.array(
        [[majority_at_k(row, gold, k) for k in budgets] for row, gold in zip(answers, golds)]
    )


def _best_values(scores: ArrayLike, correct: ArrayLike, budgets: Sequence[int]) -> np.ndarray:
    if np.shape(scores) != np.shape(correct):
        raise ValueError(
            f"scores of shape {np.shape(scores)}, correct of {np.shape(correct)}: need the same"
        )
    return np.array([[best_of_n_at_k(s, c, k) for k in budgets] for s, c in zip(scores, correct)])


def _vote_values(
    answers: Answers, scores: ArrayLike, golds, budgets, *, seed: int, draws: int = 200
) -> np.ndarray:
    if not len(answers) == len(scores) == len(golds):
        raise ValueError(
            f"{len(answers)} rows of answers, {len(scores)} of scores, {len(golds)} golds: need as many"
        )
    return np.array(
        [
            [weighted_vote_at_k(row, s, gold, k, seed=[seed, i], draws=draws) for k in budgets]
            for i, (row, s, gold) in enumerate(zip(answers, scores, golds))
        ]
    )
