"""Adaptive consistency: the rule, its stated error rate by simulation, what it saves."""

from functools import cache

import numpy as np
import pytest
from scipy.stats import beta
from scripted import Walker

from workbench.drive import solve
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.search.adaptive import certainty
from workbench.types import Budget

PROBLEMS = quantities.generate(40, levels=[3, 4], seed=3)


def test_the_rule_is_the_posterior_of_even_odds():
    for first, second in ((1, 0), (3, 1), (5, 5), (20, 3)):
        assert certainty(first, second) == pytest.approx(beta(first + 1, second + 1).sf(0.5))
    assert certainty(3, 0) < 0.95 < certainty(4, 0)
    assert certainty(6, 1) > 0.95 > certainty(5, 1)


known = cache(certainty)


def votes(odds, rng, *, confidence=0.95, most=40, at_once=1):
    """Which answer wins and whether the rule stopped it; votes are drawn by `odds`."""
    counts = np.zeros(len(odds))
    for _ in range(0, most, at_once):
        counts += rng.multinomial(at_once, odds)
        second, first = np.sort(counts)[-2:]
        if known(first, second) >= confidence:
            return int(counts.argmax()), True
    return int(counts.argmax()), False


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("at_once", [1, 4])
def test_the_error_rate_is_what_it_says(confidence, at_once):
    """Two answers, odds evenly spread: of the votes stopped at most 1 - confidence go wrong."""
    rng = np.random.default_rng(0)
    stopped = wrong = 0
    for p in rng.random(4000):
        winner, early = votes([p, 1 - p], rng, confidence=confidence, at_once=at_once)
        stopped += early
        wrong += early and winner != (p < 0.5)
    rate, error = wrong / stopped, 1 - confidence
    assert rate < error + 3 * (error * confidence / stopped) ** 0.5
    if at_once == 1:
        assert rate > error / 3  # and it is no idle bound
    assert stopped > 2500


class Choosy(Walker):
    """Whole solutions that end in 7 with chance `p`, else in another number."""

    def __init__(self, p):
        super().__init__(PROBLEMS, 0.0)
        self.share = p

    def _go_on(self, prefix, key, meter, until, temperature, prompt):
        meter.samples += 1
        answer = 7 if key % 1000 < 1000 * self.share else 100 + key % 3
        return prefix.of(prefix.problem, [f"The answer is {answer} ."], ended=True)


def run(p, **options):
    return solve(PROBLEMS, METHODS["adaptive"], policy=Choosy(p), **options)


def test_a_clear_vote_ends_early_and_an_even_one_late():
    drawn = {p: np.mean([r.meter.samples for r in run(p)]) for p in (1.0, 0.9, 0.5)}
    assert drawn[1.0] == 4 < drawn[0.9] < drawn[0.5] <= 40
    assert all(r.best.text == "The answer is 7 ." for r in run(0.9))


def test_without_the_rule_it_goes_on_until_the_rest_cannot_change_the_vote():
    for r in run(0.9, confidence=1.0, n=20, at_once=1):
        sevens = sum(p.text == "The answer is 7 ." for p in r.rollouts)
        others = [sum(p.text == f"The answer is {100 + i} ." for p in r.rollouts) for i in range(3)]
        assert sevens - max(others) > 20 - len(r.rollouts) and len(r.rollouts) > 10
    assert np.mean([r.meter.samples for r in run(0.9, n=20)]) < 8


def test_the_choice_is_the_majority_and_no_answer_never_wins():
    class Mute(Choosy):
        def _go_on(self, prefix, key, *rest):
            full = super()._go_on(prefix, key, *rest)
            return full if key % 4 == 0 else prefix.of(prefix.problem, ["so what"], ended=True)

    results = solve(PROBLEMS, METHODS["adaptive"], policy=Mute(1.0), n=12)
    for r in results:
        said = [p for p in r.rollouts if p.text == "The answer is 7 ."]
        assert r.best == (said[0] if said else None)


def test_when_the_budget_ends_the_vote_so_far_counts():
    for r in run(0.6, budget=Budget(7, "samples")):
        assert len(r.rollouts) == r.meter.samples <= 7 and r.best in r.rollouts
