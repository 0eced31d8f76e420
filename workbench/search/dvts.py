"""Diverse verifier tree search: several narrow searches that know nothing of each other.

Beeching, Tunstall and Rush 2024, "Scaling test-time compute with open models" (search-and-learn): n
samples a step are split into n/m independent subtrees of width m. Each draws m steps, keeps the
best one and goes on from there; so no subtree is crowded out by another's higher scores, as happens
to beams. Here `subtrees` is n/m and `expand` is m.

Deviations: whatever ends becomes a candidate for the choice, also where its subtree goes on from a
better-scored sibling; theirs keeps the m siblings of the last round. Their aggregate is `last`.
Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator

from workbench.search.stepwise import Beam, check, grown, judged, ranked, result
from workbench.types import Prefix, Problem, Reply, Request, SearchResult, Stopped


def dvts(
    problem: Problem,
    *,
    subtrees: int = 4,
    expand: int = 4,
    max_steps: int = 16,
    aggregate: str = "min",
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Grow `subtrees` solutions, each by the best of `expand` steps at a time.

    Returns all that ended, best first, which is the choice. When the budget ends: these and the
    subtrees as they are. ValueError on sizes below 1 or an unknown aggregate.
    """
    check(aggregate, subtrees=subtrees, expand=expand, max_steps=max_steps)
    heads = [Beam(0.0, Prefix(problem))] * subtrees
    ended: list[Beam] = []
    try:
        for _ in range(max_steps):
            if not heads:
                break
            open_ = [head.prefix for head in heads]
            children = yield from grown(open_, expand, temperature=temperature)
            scored = yield from judged(children, aggregate)
            ended += [child for child in scored if child.prefix.ended]
            families = [scored[i : i + expand] for i in range(0, len(scored), expand)]
            bests = [ranked(family)[0] for family in families]
            # a reply that the budget cut short does not reach all
            heads = [*(best for best in bests if not best.prefix.ended), *heads[len(families) :]]
    except Stopped as stop:
        return result(problem, [*ended, *heads], stop)
    return result(problem, ended)
