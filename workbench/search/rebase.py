r"""REBASE: reward-balanced search, in which a better prefix gets more children.

Wu et al. 2024, arXiv 2408.00724. Of the W children to draw at a step, the open prefixes, the best
first, get

    n_i = ceil( W_left * e^{s_i / T} / Z_left ),   Z_left = sum of e^{s_j / T} over j >= i,

where W_left is what those before have left over: so the sum is W, and the worst get none. A
solution that ends leaves the search and takes its one of W with it.

Deviations: a prefix's score s is the `aggregate` of its step scores, of which theirs is `last`; the
choice is the highest score, and the vote weighted by scores that they prefer is a function of the
result. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import accumulate
from math import ceil, exp, isfinite

from workbench.search.stepwise import Beam, check, grown, judged, ranked, result
from workbench.types import Prefix, Problem, Reply, Request, SearchResult, Stopped


def allocate(scores: Sequence[float], width: int, *, temperature: float) -> list[int]:
    """How many of `width` children each score gets; ValueError where they can't be shared out.

    >>> allocate([0.9, 0.5, 0.1], 8, temperature=1), allocate([0.1, 0.9], 3, temperature=0.01)
    ([4, 3, 1], [0, 3])
    """
    if not (temperature > 0 and width >= 0 and scores and all(map(isfinite, scores))):
        given = f"{width} children for scores {list(scores)!r:.60} at temperature {temperature}"
        need = "width >= 0, finite scores, at least one, and a temperature above 0"
        raise ValueError(f"{given}: need {need}")
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    shares = [0] * len(scores)
    for place, i in enumerate(order):
        z = sum(exp((scores[j] - scores[i]) / temperature) for j in order[place:])  # own weight: 1
        shares[i] = ceil(round((width - sum(shares)) / z, 9))  # rounded: 2.0000000000000004 is 2
    return shares


def rebase(
    problem: Problem,
    *,
    width: int = 16,
    balance: float = 0.2,
    max_steps: int = 16,
    aggregate: str = "min",
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Grow `width` solutions, a step at a time, shared out among the prefixes by their scores.

    `balance` is T of the equation: large shares evenly, near 0 all go to the best. Returns what
    ended, best first, which is the choice; when the budget ends, also the open prefixes. ValueError
    on sizes below 1, an unknown aggregate, or a balance that is not above 0.
    """
    check(aggregate, width=width, max_steps=max_steps)
    growing, ended = [Beam(0.0, Prefix(problem))], list[Beam]()
    try:
        for _ in range(max_steps):
            if not growing or len(ended) >= width:
                break
            growing = ranked(growing)
            scores = [beam.score for beam in growing]
            shares = allocate(scores, width - len(ended), temperature=balance)
            parents = [beam.prefix for beam, n in zip(growing, shares) for _ in range(n)]
            children = yield from grown(parents, temperature=temperature)
            # what a reply that the budget cut short does not reach
            starts = zip(growing, shares, accumulate(shares, initial=0))
            missed = [beam for beam, n, start in starts if n and start >= len(children)]
            scored = yield from judged(children, aggregate)
            ended += [beam for beam in scored if beam.prefix.ended]
            growing = [*(beam for beam in scored if not beam.prefix.ended), *missed]
    except Stopped as stop:
        return result(problem, [*ended, *growing], stop)
    return result(problem, ended)
