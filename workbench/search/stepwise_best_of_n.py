"""Step-wise best-of-n: draw n next steps, keep the best one, go on from there.

Best-of-n with a choice after every step instead of one at the end: beam search of width 1, and with
`n` 1 plain sampling. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator

from workbench.search.beam import beam_search
from workbench.types import Problem, Reply, Request, SearchResult


def stepwise_best_of_n(
    problem: Problem,
    *,
    n: int = 16,
    max_steps: int = 16,
    aggregate: str = "min",
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """One solution, each of whose steps scored best of `n`.

    When the budget ends: the solution as it is. ValueError on sizes below 1 or an unknown
    aggregate.
    """
    if n < 1:
        raise ValueError(f"n={n} steps to choose from: need at least 1")
    return (
        yield from beam_search(
            problem, beam_width=1, expand=n, max_steps=max_steps, aggregate=aggregate,
            temperature=temperature,
        )
    )  # fmt: skip
