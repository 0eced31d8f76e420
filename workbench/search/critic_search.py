r"""Critique and rewrite: keep the steps before the first one in doubt, write the rest anew.

After the critic search that was proposed to OpenR (pull request 44, never merged), where a model
reviews an answer and another draft is written with the review in view; see also Self-Refine (Madaan
et al. 2023, arXiv 2303.17651). One round:

1. Of the best solution so far find the first step t whose score is below `threshold`. Without one,
   stop.
2. With `critique=True` the policy says what is wrong with that step (template `critique`).
3. Draw `expand` solutions from the steps before t, by the template `rewrite`, which tells the
   critique; without one by the plain question.
4. Keep the better: the solution with the highest aggregate of all so far, of equals the one that
   comes into doubt last.

Deviations: the verifier decides where to begin, the critique is only read, and there is no tree of
drafts. Models that follow instructions have the templates (`models.prompts`); the embedded
policies were not taught them and rewrite without. A verifier of whole solutions doubts all or
nothing: then everything is written anew. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial

from workbench.search.stepwise import Beam, check, judged, result
from workbench.types import Prefix, Problem, Reply, Request, Sample, SearchResult, Stopped


def critic_search(
    problem: Problem,
    *,
    n: int = 4,
    rounds: int = 4,
    expand: int = 4,
    threshold: float = 0.5,
    critique: bool = False,
    aggregate: str = "min",
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Draw `n` solutions, then rewrite the best one up to `rounds` times, in `expand` ways each.

    Returns all solutions, best first. When the budget ends: those so far, without scores where it
    ends before they are judged. ValueError for options that cannot be.
    """
    check(aggregate, n=n, expand=expand)
    if rounds < 0 or not 0 <= threshold <= 1:
        given = f"rounds={rounds}, threshold={threshold}"
        raise ValueError(f"{given}: need rounds >= 0 and 0 <= threshold <= 1")
    draw = partial(Sample, temperature=temperature)
    request, pool = draw([Prefix(problem)], n=n, scored_by="verifier"), list[Beam]()
    try:
        for left in range(rounds, -1, -1):
            drawn = yield request
            pool += yield from judged(drawn, aggregate)
            best = max(pool, key=lambda beam: (beam.score, _doubt(beam, threshold)))
            at = _doubt(best, threshold)
            if at == len(best.steps) or not left:
                break
            start = Prefix(problem, best.prefix.steps[:at])
            request = draw([start], n=expand, scored_by="verifier")
            if critique:
                words = [{"attempt": "\n".join(best.prefix.texts[: at + 1])}]
                (note,) = yield draw([Prefix(problem)], prompt="critique", words=words)
                words = [{"critique": note.text}]
                request = replace(request, prompt="rewrite", words=words)
    except Stopped as stop:
        return result(problem, pool, stop)
    return result(problem, pool)


def _doubt(beam: Beam, threshold: float) -> int:
    """The index of the first step in doubt, or the number of steps."""
    return next((t for t, score in enumerate(beam.steps) if score < threshold), len(beam.steps))
