"""Beam search over steps: expand every open beam, score all, keep the best few (Snell et al. 2024,
arXiv 2408.03314).

Deviations: equal candidates are kept once, so that a beam holds different solutions, and the
children of a step are shared out among the beams still growing, however few; a finished beam keeps
its place as long as its score does and is not written on. Beam width 1 with expand 1 is plain
sampling. Notebook 05.
"""

from __future__ import annotations

from workbench.analyse.metrics import aggregate as combine
from workbench.types import Prefix, Problem, Sample, Score, SearchResult, Stopped


def beam_search(
    problem: Problem,
    *,
    beam_width: int = 4,
    expand: int = 4,
    max_steps: int = 16,
    aggregate: str = "min",
    temperature: float | None = None,
):
    """Grow `beam_width` solutions step by step, each tried `expand` ways; the best finished one is
    the result.

    Returns all finished beams, best first; when the budget ends, those finished so far. ValueError
    on sizes below 1.
    """
    if min(beam_width, expand, max_steps) < 1:
        raise ValueError(
            f"beam_width={beam_width}, expand={expand}, max_steps={max_steps}: each must be at least 1"
        )
    beams: list[tuple[float, Prefix, tuple[float, ...]]] = [(0.0, Prefix(problem), ())]
    try:
        for _ in range(max_steps):
            growing = [beam for _, beam, _ in beams if not beam.ended]
            if not growing:
                break
            n = max(expand, beam_width * expand // len(growing))
            children = yield Sample(growing, n=n, until="step", temperature=temperature)
            distinct = {
                beam.texts: beam for beam in [*(b for _, b, _ in beams if b.ended), *children]
            }
            candidates = list(distinct.values())
            scores = yield Score(candidates)
            ranked = [
                (combine(row, aggregate), beam, tuple(row)) for beam, row in zip(candidates, scores)
            ]
            beams = sorted(ranked, key=lambda entry: -entry[0])[:beam_width]
    except Stopped:
        pass  # the driver notes the reason; what has finished so far is the result
    done = [entry for entry in beams if entry[1].ended]
    if not done:
        return SearchResult(problem)
    scores, rollouts, steps = zip(*done)
    return SearchResult(problem, rollouts, scores, rollouts[0], step_scores=steps)
