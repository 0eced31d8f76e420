"""Test-time scaling curves from one pool of samples: expectation over all k-subsets, 95 % bands over problems.

A curve is a list of rows {method, budget, value, low, high}, which `show.plots.scaling_plot` draws and a CSV keeps.
Every budget uses the whole pool (the unbiased estimators of `metrics`), never only its first k samples, and the
bootstrap draws whole problems. Taught in notebook 06.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.analyse.metrics import bootstrap, majority_at_k, pass_at_k
from workbench.problems import answer_of
from workbench.problems.grading import is_equal
from workbench.types import SearchResult

Row = dict[str, Any]


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
    """Which solutions end in the right answer, (problems, n) of bool; ValueError unless all pools are of one size."""
    sizes = {len(result.rollouts) for result in results}
    if len(sizes) != 1:
        raise ValueError(f"pools of {sorted(sizes)} samples: need the same number for every problem")
    rows = zip(results, answers_of(results))
    return np.array([[is_equal(result.problem.answer, answer) for answer in row] for result, row in rows])


def curve(method: str, budgets: Sequence[int], values: np.ndarray, *, seed: int, **more: Any) -> list[Row]:
    """Rows of one method from its value per problem and budget, (problems, budgets); `more` goes into every row."""
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
    values = np.stack([pass_at_k(correct.shape[1], correct.sum(1), k) for k in budgets], 1)
    return curve(method, budgets, values, seed=seed, **more)


def majority_curve(
    answers: Sequence[Sequence[str | None]], golds: Sequence[str], *, seed: int, method: str = "majority", **more: Any
) -> list[Row]:
    """Majority vote over k from a pool: one row of answers and one gold answer per problem."""
    budgets = doublings(len(answers[0]))
    values = np.array([[majority_at_k(row, gold, k) for k in budgets] for row, gold in zip(answers, golds)])
    return curve(method, budgets, values, seed=seed, **more)
