"""Beam search over steps: expand every open beam, score all, keep the best few.

Snell et al. 2024, arXiv 2408.03314. As in OpenR, every open beam draws `expand` children, also the
first, and a beam that ends keeps its place for good: nothing is drawn in its stead. With `refill`
each step draws beam_width * expand, shared out among the open beams, and ended ones have to hold
their place against what grows. That costs about twice the tokens and was not better where we
measured (4 x 4, base with prm_base, 40 problems), so it is off.

Deviation: equal candidates are kept once, an ended one before one that goes on, so that a beam
holds different solutions. Beam width 1 with expand 1 is plain sampling. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable
from math import ceil

from workbench.search.stepwise import Beam, check, grown, judged, ranked, result
from workbench.types import Prefix, Problem, Reply, Request, SearchResult, Stopped


def beam_search(
    problem: Problem,
    *,
    beam_width: int = 4,
    expand: int = 4,
    max_steps: int = 16,
    aggregate: str = "min",
    temperature: float | None = None,
    refill: bool = False,
    judge: Callable[..., Generator[Request, Reply, list[Beam]]] = judged,
) -> Generator[Request, Reply, SearchResult]:
    """Grow `beam_width` solutions step by step, each tried `expand` ways; `judge` scores them.

    Returns all finished beams, best first, which is the choice. When the budget ends: the beams as
    they are, unfinished ones, too, and, where it ends before they are scored, the candidates.
    ValueError on sizes below 1 or an unknown aggregate.
    """
    check(aggregate, beam_width=beam_width, expand=expand, max_steps=max_steps)
    ended, growing = list[Beam](), [Beam(0.0, Prefix(problem))]
    try:
        for _ in range(max_steps):
            if not growing:
                break
            n = max(expand, beam_width * expand // len(growing)) if refill else expand
            open_ = [beam.prefix for beam in growing]
            children = yield from grown(open_, n, temperature=temperature)
            missed = growing[ceil(len(children) / n) :]  # by a reply that the budget cut short
            new = _distinct(children, {beam.prefix.texts for beam in ended})
            scored = ranked((yield from judge(new, aggregate)))
            if refill:
                beams = ranked([*ended, *scored])[:beam_width]
            else:
                beams = [*ended, *scored][:beam_width]
            ended = [beam for beam in beams if beam.prefix.ended]
            growing = [*(beam for beam in beams if not beam.prefix.ended), *missed]
    except Stopped as stop:
        return result(problem, [*ended, *growing], stop)
    return result(problem, ended)


def _distinct(children: Iterable[Prefix], known: Container[tuple[str, ...]]) -> list[Prefix]:
    """One child of each text that is not known: one that has ended, where texts are equal."""
    new: dict[tuple[str, ...], Prefix] = {}
    for child in children:
        twin = new.get(child.texts)
        if child.texts not in known and not (twin and twin.ended and not child.ended):
            new[child.texts] = child
    return list(new.values())
