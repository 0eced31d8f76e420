r"""Particle filtering: solutions grow together and are drawn anew after each step by their scores.

Puri et al. 2025, arXiv 2502.01618. N particles take a step each; particle i, scored p_i, weighs

    w_i = (p_i / (1 - p_i))^{1/T},   normalised,

and N particles are drawn from these with replacement, those that have ended among them. Unlike a
beam, a doubted particle may live on, and a praised one fills only its share. T is 1. With `anneal`
(entropic particle filtering, Giannone et al. 2025, arXiv 2510.05825, as in its_hub) it is above 1
while few particles hold all the weight: with S = 1 / sum w_i^2, where S/N < 1/2 in the first half
of `max_steps`, T = max(1, (1 - step / max_steps) N / S).

Deviations: `aggregate` for their `last`; odds are clipped at 1e-7; systematic resampling by default
(it adds less noise than the paper's multinomial one), none after the last step: the scores say what
the particles weigh. Methods have no random stream, so the numbers for resampling come from a digest
of what the particles say: they change with the seed, and not with the batch. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from workbench.search.stepwise import Beam, check, grown, judged, result
from workbench.types import Prefix, Problem, Reply, Request, SearchResult, Stopped


def odds(scores: Sequence[float], *, temperature: float = 1.0) -> NDArray[np.float64]:
    """Weights p / (1 - p) of scores, to the power 1 / temperature, with sum 1.

    >>> odds([0.5, 0.75]).round(6).tolist(), odds([0.5, 0.75], temperature=1e9).round(6).tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
    p = np.clip(np.asarray(scores, float), 1e-7, 1 - 1e-7)
    logits = (np.log(p) - np.log1p(-p)) / temperature
    weights: NDArray[np.float64] = np.exp(logits - logits.max())
    total: NDArray[np.float64] = weights / weights.sum()
    return total


def annealed(weights: NDArray[np.float64], progress: float) -> float:
    """The temperature of entropic tempering for weights of sum 1, after this share of the steps."""
    share = 1 / float(np.sum(weights**2)) / len(weights)
    return max(1.0, (1 - progress) / share) if share < 0.5 and progress < 0.5 else 1.0


def drawn(weights: NDArray[np.float64], n: int, how: str, seed: int) -> NDArray[np.int64]:
    """Indices of `n` draws; `systematic`: 1/n apart from one random point on; `none`: each its own.

    >>> drawn(np.array([0.5, 0.25, 0.25]), 4, "systematic", 0).tolist()
    [0, 0, 1, 2]
    """
    if how == "none":
        return np.arange(len(weights))
    rng = np.random.default_rng(seed)
    at = (np.arange(n) + rng.random()) / n if how == "systematic" else rng.random(n)
    # heavy ones first and equal ones together: regular points could hit a pattern of the order
    order = np.argsort(-weights, kind="stable")
    places = np.searchsorted(np.cumsum(weights[order]), at, side="right")
    indices: NDArray[np.int64] = order[places.clip(max=len(weights) - 1)]
    return indices


def particle_filter(
    problem: Problem,
    *,
    particles: int = 16,
    resampling: str = "systematic",
    anneal: bool = False,
    max_steps: int = 16,
    aggregate: str = "min",
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Grow `particles` solutions, redrawn after each step; the choice is the highest score.

    Returns the particles that ended, equal ones as often as they are; when the budget ends, all.
    ValueError on sizes below 1, an unknown aggregate or resampling.
    """
    check(aggregate, particles=particles, max_steps=max_steps)
    if resampling not in ("systematic", "multinomial", "none"):
        raise ValueError(f"resampling={resampling!r}: use systematic, multinomial or none")
    swarm = [Beam(0.0, Prefix(problem))] * particles
    try:
        for step in range(1, max_steps + 1):
            ended = [one for one in swarm if one.prefix.ended]
            growing = [one for one in swarm if not one.prefix.ended]
            if not growing:
                break
            children = yield from grown([one.prefix for one in growing], temperature=temperature)
            missed = growing[len(children) :]  # by a reply that the budget cut short
            swarm = [*ended, *(yield from judged(children, aggregate)), *missed]
            if missed:  # redrawn, they would become copies of what was reached
                continue
            if all(one.prefix.ended for one in swarm):
                break
            weights = odds(scores := [one.score for one in swarm])
            if anneal:
                weights = odds(scores, temperature=annealed(weights, step / max_steps))
            seed = _seed(problem, swarm)
            swarm = [swarm[i] for i in drawn(weights, particles, resampling, seed)]
    except Stopped as stop:
        return result(problem, swarm, stop)
    return result(problem, [one for one in swarm if one.prefix.ended])


def _seed(problem: Problem, swarm: Sequence[Beam]) -> int:
    """A number that depends on the problem and on all that the particles say."""
    said = repr((problem.id, [one.prefix.texts for one in swarm]))
    return int.from_bytes(blake2b(said.encode(), digest_size=8).digest(), "little")
