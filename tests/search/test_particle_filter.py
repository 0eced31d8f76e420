"""Particle filtering: weights against NumPy, fair resampling, tempering, and that it matters."""

import numpy as np
import pytest
from played import Branches, play, scores_by
from scripted import Judge, Walker, oracle

from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.search.particle_filter import annealed, drawn, odds
from workbench.types import Budget, Problem

PROBLEM = Problem("p", "math", "?")
PROBLEMS = quantities.generate(40, levels=[4], seed=3)


def test_weights_are_normalised_odds():
    p = np.array([0.1, 0.5, 0.9, 0.99])
    assert odds(p) == pytest.approx((p / (1 - p)) / np.sum(p / (1 - p)), rel=1e-9)
    squared = (p / (1 - p)) ** 0.5
    assert odds(p, temperature=2) == pytest.approx(squared / squared.sum(), rel=1e-9)
    assert odds([0.0, 1.0]) == pytest.approx([0, 1]) and np.isfinite(odds([0.0, 1.0, 1.0])).all()
    assert odds([0.0, 0.0]).tolist() == [0.5, 0.5] == odds([1.0, 1.0]).tolist()


@pytest.mark.parametrize("how", ["systematic", "multinomial"])
def test_resampling_is_fair(how):
    weights = odds([0.1, 0.5, 0.8, 0.3])
    counts = np.array([np.bincount(drawn(weights, 8, how, s), minlength=4) for s in range(4000)])
    assert (counts.sum(1) == 8).all()
    spread = np.sqrt(8 * weights * (1 - weights) / 4000)
    assert (abs(counts.mean(0) - 8 * weights) < 5 * spread).all()
    if how == "systematic":  # each gets its share, rounded down or up
        assert (np.floor(8 * weights) <= counts).all() and (counts <= np.ceil(8 * weights)).all()


def test_one_with_all_the_weight_is_drawn_alone_and_none_draws_each():
    for how in ("systematic", "multinomial"):
        assert set(drawn(np.array([0.0, 1.0, 0.0]), 5, how, 1)) == {1}
    assert drawn(np.array([0.2, 0.8]), 2, "none", 0).tolist() == [0, 1]


def test_tempering_by_the_share_of_particles_that_count():
    one, even = np.array([1.0, 0, 0, 0]), np.full(4, 0.25)
    assert annealed(one, 0.25) == pytest.approx(0.75 * 4)  # (1 - t) N / S with S = 1
    assert annealed(even, 0.25) == 1 == annealed(one, 0.5)
    assert annealed(np.array([0.9, 0.1, 0, 0]), 0.0) == pytest.approx(4 * 0.82)


def swarm_after_the_first_step(**options):
    """What is continued when a, b are scored .9, .6."""
    policy = Branches({"": ["a", "b"], "a": ["1"], "b": ["2"]})
    method = METHODS["particle_filter"](PROBLEM, particles=40, **options)
    result, requests = play(
        method, {"policy": policy, "verifier": scores_by({"a": 0.999, "b": 0.6})}
    )
    asked = [p.text for p in requests[2].prefixes]
    return asked.count("a"), asked.count("b"), result


def test_resampling_moves_the_particles_and_tempering_holds_them_back():
    assert swarm_after_the_first_step(resampling="none")[:2] == (20, 20)
    a, b, result = swarm_after_the_first_step()
    assert a == 40 and b == 0 and len(result.rollouts) == 40
    share = odds([0.9, 0.6])[0]
    policy = Branches({"": ["a", "b"], "a": ["1"], "b": ["2"]})
    for how in ("systematic", "multinomial"):
        method = METHODS["particle_filter"](PROBLEM, particles=40, resampling=how)
        verifier = scores_by({"a": 0.9, "b": 0.6})
        _, requests = play(method, {"policy": policy, "verifier": verifier})
        got = [p.text for p in requests[2].prefixes].count("a") / 40
        assert abs(got - share) < (0.03 if how == "systematic" else 0.25)
    # one particle of forty holds nearly all: tempered, others live on
    first = ["a"] + ["b"] * 39
    policy = Branches({"": first, "a": ["1"], "b": ["2"]})
    models = {"policy": policy, "verifier": scores_by({"a": 0.9999, "b": 0.5})}
    counts = {}
    for anneal in (False, True):
        method = METHODS["particle_filter"](PROBLEM, particles=40, anneal=anneal)
        _, requests = play(method, models)
        counts[anneal] = [p.text for p in requests[2].prefixes].count("b")
    assert counts[False] <= 1 < counts[True]


def test_resampling_finds_what_independent_particles_do_not():
    exact = oracle(PROBLEMS).function
    verifier = Judge(
        PROBLEMS, lambda problem, steps: [0.2 + 0.6 * s for s in exact(problem, steps)]
    )

    def accuracy(**options):
        models = {"policy": Walker(PROBLEMS, 0.5), "verifier": verifier}
        found = solve(PROBLEMS, METHODS["particle_filter"], **models, particles=8, **options)
        return np.mean([is_right(r.problem, r.best) for r in found])

    assert accuracy() > accuracy(resampling="none") + 0.2


@pytest.mark.parametrize("how", ["none", "systematic"])
def test_particles_that_a_budget_does_not_reach_stay_as_they_are(how):
    models = {"policy": Walker(PROBLEMS[:1]), "verifier": oracle(PROBLEMS)}
    options = {"particles": 4, "resampling": how, "budget": Budget(5, "samples")}
    (found,) = solve(PROBLEMS[:1], METHODS["particle_filter"], **models, **options)
    assert sorted(len(rollout.steps) for rollout in found.rollouts) == [1, 1, 1, 2]


def test_draws_of_resampling_follow_what_was_said_alone():
    """Not the batch, not the other problems; with other texts they are others."""
    verifier = Judge(PROBLEMS, lambda p, s: [0.5 for _ in s])
    run = lambda problems, seed: solve(  # noqa: E731
        problems, METHODS["particle_filter"], policy=Walker(PROBLEMS, 0.5), verifier=verifier,
        particles=6, seed=seed,
    )  # fmt: skip
    together, alone = run(PROBLEMS, 0), [run([p], 0)[0] for p in PROBLEMS[:5]]
    assert [r.rollouts for r in together[:5]] == [r.rollouts for r in alone]
    assert [r.rollouts for r in run(PROBLEMS, 1)] != [r.rollouts for r in together]
