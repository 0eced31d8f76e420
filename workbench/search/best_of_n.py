"""Best-of-n: draw n whole solutions, let the verifier judge them, keep the best (Cobbe et al.
2021). Notebook 06."""

from __future__ import annotations

from workbench.analyse.metrics import aggregate as combine
from workbench.types import Prefix, Problem, Sample, Score, SearchResult


def best_of_n(
    problem: Problem, *, n: int = 16, aggregate: str = "min", temperature: float | None = None
):
    """The solution of `n` whose step scores, put together by `aggregate`, are highest; of several
    the first.

    Votes over the same pool are functions of the result's `step_scores` (`analyse.scaling`), no
    further runs.
    """
    rollouts = yield Sample([Prefix(problem)], n=n, temperature=temperature)
    steps = yield Score(rollouts)
    scores = tuple(combine(row, aggregate) for row in steps)
    best = rollouts[scores.index(max(scores))]
    return SearchResult(
        problem, tuple(rollouts), scores, best, step_scores=tuple(map(tuple, steps))
    )
