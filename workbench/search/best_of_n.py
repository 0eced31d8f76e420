"""Best-of-n: draw n whole solutions, let the verifier judge them, keep the best.

Cobbe et al. 2021, arXiv 2110.14168. Taught in notebook 09.
"""

from __future__ import annotations

from collections.abc import Generator

from workbench.analyse.metrics import aggregate as combine
from workbench.types import Prefix, Problem, Reply, Request, Sample, Score, SearchResult, Stopped


def best_of_n(
    problem: Problem, *, n: int = 16, aggregate: str = "min", temperature: float | None = None
) -> Generator[Request, Reply, SearchResult]:
    """The solution of `n` whose step scores, put together by `aggregate`, are highest.

    Of several the first. Votes over the same pool are functions of the result's `step_scores`
    (`analyse.scaling`), no further runs. When the budget ends before the scores: the first.
    ValueError unless n >= 1, and for an unknown aggregate.
    """
    combine([1.0], aggregate)  # before anything is paid
    if n < 1:
        raise ValueError(f"n={n} solutions to choose from: need at least 1")
    rollouts = yield Sample([Prefix(problem)], n=n, temperature=temperature, scored_by="verifier")
    try:
        steps = yield Score(rollouts)
    except Stopped:
        return SearchResult(problem, tuple(rollouts), best=rollouts[0])
    scores = tuple(combine(row, aggregate) for row in steps)
    best = rollouts[scores.index(max(scores))]
    step_scores = tuple(map(tuple, steps))
    return SearchResult(problem, tuple(rollouts), scores, best, step_scores=step_scores)
