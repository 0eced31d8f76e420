"""Several verifiers as one: log-odds add up, and all that a verifier owes is kept."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.drive import solve
from workbench.fingerprint import digest
from workbench.models import load_policy, load_verifier
from workbench.models.baselines import Position, Random
from workbench.models.ensemble import Ensemble
from workbench.models.verifier import untrained
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.types import Budget, Meter, Prefix

PROBLEM = quantities.generate(1, levels=[3], seed=5)[0]
STEPS = PROBLEM.solution.split("\n")


class Fixed:
    """A verifier that gives every step the same score, and remembers that it was asked."""

    def __init__(self, *scores, per="step"):
        self.scores, self.per, self.forgot = scores, per, False

    def score(self, prefixes, *, meters=None):
        for meter in meters or []:
            meter.verifier += 3
        return [list(self.scores[: len(prefix.steps)]) for prefix in prefixes]

    def forget(self):
        self.forgot = True


def prefix(steps=2):
    return Prefix.of(PROBLEM.blind(), STEPS[:steps])


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.floats(-3, 3)), min_size=1, max_size=4))
def test_log_odds_add_up(members):
    ensemble = Ensemble([Fixed(score) for score, _ in members], [weight for _, weight in members])
    odds = sum(weight * log(score / (1 - score)) for score, weight in members)
    assert ensemble.score([prefix(1)])[0][0] == pytest.approx(1 / (1 + exp(-odds)))


def test_one_alone_with_weight_one_says_what_it_says():
    rows = [prefix(0), prefix(1), prefix(3)]
    random = Random(3)
    for mine, its in zip(Ensemble([random]).score(rows), random.score(rows), strict=True):
        assert mine == pytest.approx(its)


def test_who_is_quite_sure_can_be_outvoted_but_never_breaks_the_sum():
    sure, against = Fixed(1.0, 0.0), Fixed(0.0, 1.0)
    (scores,) = Ensemble([sure, against]).score([prefix()])
    assert all(0 <= x <= 1 and np.isfinite(x) for x in scores)
    assert scores[0] < 0.5  # of what is most unlikely more can be told apart than of what is sure


def test_all_members_are_paid_and_forget():
    members, meters = [Fixed(0.2, 0.9), Fixed(0.4, 0.8)], [Meter(), Meter()]
    ensemble = Ensemble(members)
    ensemble.score([prefix(), prefix(1)], meters=meters)
    assert [meter.verifier for meter in meters] == [6, 6]
    ensemble.forget()
    assert all(member.forgot for member in members)
    assert not hasattr(ensemble, "price")  # these name none


def test_a_run_knows_members_and_weights_apart():
    made = [Ensemble([Random(1), Position()], weights) for weights in ([1, 2], [1, 2], [2, 1])]
    first, same, other = (ensemble.fingerprint() for ensemble in made)
    assert first == same != other
    assert digest(Ensemble([Random(1)])) != digest(Ensemble([Random(2)]))


@pytest.mark.parametrize(
    "members, weights, why",
    [
        ([], None, "0 weights for 0 verifiers"),
        ([Position()], [1, 2], "2 weights for 1 verifiers"),
        ([Position()], [float("nan")], "need finite ones"),
        ([Fixed(0.1), Fixed(0.1, per="solution")], None, "per step and per solution"),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused(members, weights, why):
    with pytest.raises(ValueError, match=why):
        Ensemble(members, weights)


def test_a_search_is_guided_by_prm_and_likelihood():
    policy = load_policy("base", dtype="float32")
    prm, likelihood = load_verifier("prm_base", dtype="float32"), untrained(policy)
    both = Ensemble([prm, likelihood], [1.0, 2.0])
    problems = quantities.generate(3, levels=[3], seed=6)
    (result, *_) = solve(
        problems,
        METHODS["beam_search"],
        policy=policy,
        verifier=both,
        seed=0,
        budget=Budget(400, "tokens"),
    )
    assert result.error is None and 0 < result.meter.verifier <= 400
    rows = [result.best or result.rollouts[0]]
    both.forget()
    assert both.price(rows) == prm.price(rows) + likelihood.price(rows)
    (own,), (a,), (b,) = both.score(rows), prm.score(rows), likelihood.score(rows)
    odds = [log(x / (1 - x)) + 2 * log(y / (1 - y)) for x, y in zip(a, b)]
    assert own == pytest.approx([1 / (1 + exp(-x)) for x in odds], rel=1e-5)
