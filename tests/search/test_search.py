"""Best-of-n and beam search on a policy that errs at a known rate, with verifiers whose scores are
known."""

from dataclasses import replace

import numpy as np
import pytest
from scripted import Judge, Walker, constant, oracle

from workbench.analyse.metrics import AGGREGATES, best_of_n_at_k, pass_at_k
from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.types import Budget

PROBLEMS = quantities.generate(60, levels=[4], seed=3)


def run(method, verifier=oracle, p=0.4, **options):
    return solve(
        PROBLEMS,
        METHODS[method],
        policy=Walker(PROBLEMS, p),
        verifier=verifier(PROBLEMS),
        **options,
    )


def accuracy(results):
    return np.mean(
        [result.best is not None and is_right(result.problem, result.best) for result in results]
    )


@pytest.mark.parametrize("aggregate", ["min", "prod", "mean", "last"])
def test_best_of_n_with_the_oracle_is_pass_at_n(aggregate):
    results = run("best_of_n", n=8, aggregate=aggregate)
    reached = np.mean([any(is_right(r.problem, s) for s in r.rollouts) for r in results])
    assert accuracy(results) == reached


def test_best_of_n_with_a_constant_verifier_is_a_random_choice():
    results = run("best_of_n", constant, n=8)
    assert all(r.best == r.rollouts[0] for r in results)
    right = [[is_right(r.problem, s) for s in r.rollouts] for r in results]
    for row, result in zip(right, results):
        assert best_of_n_at_k(result.scores, row, 4) == pytest.approx(np.mean(row))


def test_best_of_1_is_sampling():
    assert [r.rollouts for r in run("best_of_n", n=1)] == [r.rollouts for r in run("sample", n=1)]


def test_scores_are_the_aggregate_of_the_step_scores():
    for name, how in AGGREGATES.items():
        for result in run("best_of_n", n=3, aggregate=name)[:5]:
            assert result.scores == tuple(float(how(row)) for row in result.step_scores)
            assert [len(row) for row in result.step_scores] == [
                len(s.steps) for s in result.rollouts
            ]


def test_beam_search_with_the_oracle_finds_the_planted_solution():
    assert accuracy(run("beam_search", beam_width=4, expand=8)) == 1.0
    assert accuracy(run("sample", n=1)) < 0.4


def test_beam_1_by_1_is_sampling():
    beams = accuracy(run("beam_search", constant, p=0.15, beam_width=1, expand=1, seed=1))
    right = np.array(
        [[is_right(r.problem, s) for s in r.rollouts] for r in run("sample", p=0.15, n=64)]
    )
    expected = np.mean(pass_at_k(64, right.sum(1), 1))
    assert abs(beams - expected) < 4 * (expected * (1 - expected) / len(PROBLEMS)) ** 0.5
    assert all(r.meter.samples == 5 for r in run("beam_search", constant, beam_width=1, expand=1))


def test_beams_are_different_finished_solutions_best_first():
    for result in run("beam_search", beam_width=4, expand=4):
        assert len({s.texts for s in result.rollouts}) == len(result.rollouts) <= 4
        assert all(s.ended for s in result.rollouts) and list(result.scores) == sorted(
            result.scores, reverse=True
        )
        assert result.best == result.rollouts[0]


def test_a_finished_beam_keeps_its_place_and_is_not_written_on():
    """A verifier that loves short solutions: what ends early stays ahead while others grow."""
    problem = replace(PROBLEMS[0], kind="math")

    class Short(Walker):
        def _go_on(self, prefix, key, meter, *rest):
            longer = super()._go_on(prefix, key, meter, *rest)
            return replace(longer, stop="end") if key % 2 and len(prefix.steps) == 0 else longer

    judge = Judge([problem], lambda p, steps: [1 / len(steps)] * len(steps))
    (result,) = solve(
        [problem],
        METHODS["beam_search"],
        policy=Short([problem], 0.9),
        verifier=judge,
        beam_width=2,
    )
    assert result.error is None and len(result.best.steps) == 1 and result.best.stop == "end"


def test_a_budget_brings_back_what_has_finished_and_too_few_steps_nothing():
    stopped = run("beam_search", budget=Budget(20, "samples"))
    assert all(r.stopped == "budget" and r.error is None for r in stopped)
    short = run("beam_search", max_steps=2)
    assert all(r.best is None and r.rollouts == () for r in short)


def test_sizes_below_one_are_named():
    (first, *_) = run("beam_search", expand=0)
    assert "expand=0" in first.error
