"""Independent samples: the pool from which votes, best-of-n and pass@k are computed.

Taught in notebook 09.
"""

from __future__ import annotations

from collections.abc import Generator

from workbench.types import Prefix, Problem, Reply, Request, Sample, SearchResult


def sample(
    problem: Problem, *, n: int = 16, temperature: float | None = None
) -> Generator[Request, Reply, SearchResult]:
    """`n` whole solutions, drawn independently; no choice among them is made."""
    rollouts = yield Sample([Prefix(problem)], n=n, temperature=temperature)
    return SearchResult(problem, tuple(rollouts), best=rollouts[0] if n == 1 else None)


def greedy(problem: Problem) -> Generator[Request, Reply, SearchResult]:
    """The one solution made of the most probable token at every place."""
    (solution,) = yield Sample([Prefix(problem)], temperature=0)
    return SearchResult(problem, (solution,), best=solution)
