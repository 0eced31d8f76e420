"""Look-ahead search: beam search that judges a step by where it leads.

Snell et al. 2024, arXiv 2408.03314. Each candidate is continued greedily (temperature 0) by up to
`depth` steps, less where it ends, and the verifier's word on the continuation is the candidate's
score. The continuation serves for this alone: the next step is sampled afresh from the candidate.
With `depth` 0 it is beam search. Deviation: the scores of all steps are put together by `aggregate`
as everywhere here; `last` is theirs. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

from workbench.search.beam import beam_search
from workbench.search.stepwise import Beam, Unscored, grown, judged
from workbench.types import Prefix, Problem, Reply, Request, SearchResult, Stopped


def lookahead(
    problem: Problem,
    *,
    depth: int = 1,
    beam_width: int = 4,
    expand: int = 4,
    max_steps: int = 16,
    aggregate: str = "min",
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Beam search whose candidates are scored after `depth` more greedy steps.

    Sizes and result as of `beam_search`; the step scores are those of the solutions' own steps.
    ValueError for a depth below 0 and as there.
    """
    if depth < 0:
        raise ValueError(f"depth={depth}: need at least 0 steps to look ahead")
    return (
        yield from beam_search(
            problem, beam_width=beam_width, expand=expand, max_steps=max_steps,
            aggregate=aggregate, temperature=temperature, judge=partial(judged_ahead, depth=depth),
        )
    )  # fmt: skip


def judged_ahead(
    prefixes: Sequence[Prefix], aggregate: str, *, depth: int
) -> Generator[Request, Reply, list[Beam]]:
    """The prefixes with the scores of what they lead to greedily, as far as the budget looks."""
    ahead = list(prefixes)
    try:
        for _ in range(depth):
            open_ = [i for i, prefix in enumerate(ahead) if not prefix.ended]
            if not open_:
                break
            longer = yield from grown([ahead[i] for i in open_], temperature=0)
            for i, prefix in zip(open_, longer):
                ahead[i] = prefix
    except Stopped as stop:
        if stop.reason != "budget":  # of a budget that has ended scores may still be asked for
            raise Unscored(stop.reason, prefixes) from None
    try:
        scored = yield from judged(ahead, aggregate)
    except Stopped as stop:
        raise Unscored(stop.reason, prefixes) from None
    pairs = zip(prefixes, scored)
    return [Beam(seen.score, own, seen.steps[: len(own.steps)]) for own, seen in pairs]
