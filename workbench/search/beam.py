"""Beam search over steps: expand every open beam, score all, keep the best few.

Snell et al. 2024, arXiv 2408.03314. Deviations: equal candidates are kept once, so that a beam
holds different solutions, and the children of a step are shared out among the beams still growing,
however few; a finished beam keeps its place as long as its score does and is not written on. Beam
width 1 with expand 1 is plain sampling. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from workbench.analyse.metrics import aggregate as combine
from workbench.types import Prefix, Problem, Reply, Request, Sample, Score, SearchResult, Stopped


class Beam(NamedTuple):
    """A prefix, the scores of its steps, and what they amount to."""

    score: float
    prefix: Prefix
    steps: tuple[float, ...] = ()


def beam_search(
    problem: Problem,
    *,
    beam_width: int = 4,
    expand: int = 4,
    max_steps: int = 16,
    aggregate: str = "min",
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Grow `beam_width` solutions step by step, each tried `expand` ways.

    Returns all finished beams, best first, which is the choice. When the budget ends: the beams as
    they are, unfinished ones, too, or, where it ends before they are scored, the candidates.
    ValueError on sizes below 1.
    """
    if min(beam_width, expand, max_steps) < 1:
        raise ValueError(
            f"beam_width={beam_width}, expand={expand}, max_steps={max_steps}: "
            "each must be at least 1"
        )
    beams = [Beam(0.0, Prefix(problem))]
    for _ in range(max_steps):
        growing = [beam.prefix for beam in beams if not beam.prefix.ended]
        if not growing:
            break
        n = max(expand, beam_width * expand // len(growing))
        try:
            children = yield Sample(growing, n=n, until="step", temperature=temperature)
        except Stopped:
            return _result(problem, beams)
        finished = [beam.prefix for beam in beams if beam.prefix.ended]
        candidates = list({prefix.texts: prefix for prefix in [*finished, *children]}.values())
        try:
            scores = yield Score(candidates)
        except Stopped:
            return SearchResult(problem, tuple(candidates), best=finished[0] if finished else None)
        ranked = [
            Beam(combine(row, aggregate), p, tuple(row)) for p, row in zip(candidates, scores)
        ]
        beams = sorted(ranked, key=lambda beam: -beam.score)[:beam_width]
    return _result(problem, [beam for beam in beams if beam.prefix.ended])


def _result(problem: Problem, beams: list[Beam]) -> SearchResult:
    """The beams that hold a step, best first; the choice is the first that is finished."""
    if not (beams := [beam for beam in beams if beam.prefix.steps]):
        return SearchResult(problem)
    scores, rollouts, steps = zip(*beams)
    best = next((prefix for prefix in rollouts if prefix.ended), None)
    return SearchResult(problem, rollouts, scores, best, step_scores=steps)
