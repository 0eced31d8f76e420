"""What searches over steps share: a prefix with its scores, one round of growth, the result.

A method keeps `Beam`s. `grown` asks for steps, `judged` for their scores. Where a budget ends, both
raise `Stopped`; `judged` notes in it what had been sampled by then, so that `result` can give back
all that was paid for. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

from workbench.analyse.metrics import aggregate as combine
from workbench.types import Prefix, Problem, Reply, Request, Sample, Score, SearchResult, Stopped


class Beam(NamedTuple):
    """A prefix, the scores of its steps, and what they amount to."""

    score: float
    prefix: Prefix
    steps: tuple[float, ...] = ()


class Unscored(Stopped):
    """Stopped after sampling and before scoring; `prefixes` is what had been sampled."""

    def __init__(self, reason: str, prefixes: Sequence[Prefix]):
        super().__init__(reason)
        self.prefixes = tuple(prefixes)


def check(aggregate: str, **sizes: int) -> None:
    """ValueError for an unknown aggregate or a size below 1."""
    combine([1.0], aggregate)
    if min(sizes.values()) < 1:
        given = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(f"{given}: each must be at least 1")


def grown(
    prefixes: Sequence[Prefix], n: int = 1, *, temperature: float | None
) -> Generator[Request, Reply, Reply]:
    """The prefixes longer by a step, `n` of each; fewer of the last ones where a budget ends."""
    request = Sample(prefixes, n, "step", temperature, scored_by="verifier")
    return (yield request)


def judged(prefixes: Sequence[Prefix], aggregate: str) -> Generator[Request, Reply, list[Beam]]:
    """The prefixes with their scores; raises `Unscored` where these can't be paid."""
    try:
        rows = yield Score(prefixes)
    except Stopped as stop:
        raise Unscored(stop.reason, prefixes) from None
    return [Beam(combine(row, aggregate), p, tuple(row)) for p, row in zip(prefixes, rows)]


def ranked(beams: Iterable[Beam]) -> list[Beam]:
    """Best first; of equal ones the first stays first."""
    return sorted(beams, key=lambda beam: -beam.score)


def result(problem: Problem, beams: Iterable[Beam], stop: Stopped | None = None) -> SearchResult:
    """The beams that hold a step, best first; the choice is the first that is finished.

    With what `stop` says was sampled and not scored, the pool comes without scores.
    """
    beams = [beam for beam in ranked(beams) if beam.prefix.steps]
    unscored = stop.prefixes if isinstance(stop, Unscored) else ()
    pool = (*(beam.prefix for beam in beams), *unscored)
    best = next((prefix for prefix in pool if prefix.ended), None)
    if unscored or not beams:
        return SearchResult(problem, pool, best=best)
    scores, steps = (tuple(getattr(beam, name) for beam in beams) for name in ("score", "steps"))
    return SearchResult(problem, pool, scores, best, step_scores=steps)
