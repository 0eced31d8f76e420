"""Paired comparisons against enumeration, SciPy, and intervals published for recorded runs."""

import itertools
import operator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test

from workbench.analyse.compare import Paired, holm, mcnemar, paired, with_verdicts
from workbench.analyse.metrics import majority_vote, paired_bootstrap
from workbench.problems.recorded import read_samples

flags = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=9)


def over_sign_flips(difference):
    """The share of all 2**n ways to turn signs that are at least as far from 0, one by one."""
    n = len(difference)
    ours = abs(sum(difference))
    ways = [
        abs(sum(d if turn else -d for d, turn in zip(difference, turns))) >= ours - 1e-9
        for turns in itertools.product([True, False], repeat=n)
    ]
    return sum(ways) / 2**n


# -- two methods -----------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8),
    st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_few_problems_have_the_p_value_of_all_sign_flips(quarters, seed):
    a, b = (np.array(row) / 4 for row in zip(*quarters))
    found = paired(a, b, seed=seed, draws=300)
    assert found.p == pytest.approx(over_sign_flips(a - b))
    assert found[:3] == paired_bootstrap(a, b, seed=seed, draws=300)[:3]
    assert (found.won, found.lost) == (sum(a > b), sum(a < b))


@pytest.mark.parametrize("n", [5, 13, 40])
def test_p_value_against_scipy(n):
    rng = np.random.default_rng(n)
    a, b = rng.random(n), rng.random(n) * 0.8
    found = paired(a, b, seed=0, draws=9000)
    theirs = permutation_test(
        (a - b,), np.mean, permutation_type="samples", n_resamples=9000, rng=1
    )
    error = 4 * np.sqrt(found.p / 9000) if 2**n > 9000 else 1e-9
    assert found.p == pytest.approx(theirs.pvalue, abs=error)


def test_a_large_difference_between_many_problems_has_a_small_p_value_never_zero():
    a, b = np.ones(60), np.zeros(60)
    found = paired(a, b, seed=0, draws=999)
    assert found == Paired(1.0, 1.0, 1.0, 1 / 1000, 60, 0)
    assert paired(b, a, seed=0, draws=999) == Paired(-1.0, -1.0, -1.0, 1 / 1000, 0, 60)


def test_equal_results_and_rounding_make_no_difference():
    assert paired([0.3, 1], [0.3, 1], seed=0) == (0, 0, 0, 1, 0, 0)
    near = paired([0.1 + 0.2, 0.5], [0.3, 0.5], seed=0)
    assert near[3:] == (1.0, 0, 0) and near.difference == pytest.approx(0)


def test_a_comparison_is_repeatable_and_may_be_turned():
    rng = np.random.default_rng(5)
    a, b = rng.random(50) < 0.7, rng.random(50) < 0.5
    found, turned = paired(a, b, seed=3), paired(b, a, seed=3)
    assert found == paired(a, b, seed=3) and found.p == turned.p
    assert (found.difference, found.low, found.won) == pytest.approx(
        (-turned.difference, -turned.high, turned.lost)
    )
    # of right and wrong answers the test is McNemar's, but for the drawing of signs
    assert found.p == pytest.approx(mcnemar(a, b), abs=0.02)


def test_under_no_difference_five_percent_of_p_values_are_below_five_percent():
    rng = np.random.default_rng(0)
    ps = [paired(*rng.random((2, 30)), seed=i, draws=200).p for i in range(200)]
    assert 0.01 < np.mean(np.array(ps) < 0.05) < 0.1


# -- McNemar ---------------------------------------------------------------------------------------


@given(flags)
@settings(max_examples=50, deadline=None)
def test_mcnemar_is_a_fair_coin_among_problems_that_only_one_gets_right(rows):
    a, b = zip(*rows)
    won, lost = rows.count((1, 0)), rows.count((0, 1))
    tail = binom.cdf(min(won, lost), won + lost, 0.5)
    assert mcnemar(a, b) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(a, b) == pytest.approx(over_sign_flips(np.subtract(a, b)))
    assert mcnemar(a, b) == pytest.approx(paired(a, b, seed=0, draws=600).p)


def test_mcnemar_by_hand():
    # 8 to 2 of 10: 2 (1 + 10 + 45) / 1024
    assert mcnemar([1] * 8 + [0] * 2 + [1] * 5, [0] * 8 + [1] * 2 + [1] * 5) == 2 * 56 / 1024
    assert mcnemar([True, False], [True, False]) == 1.0
    assert mcnemar([1.0, 1, 1], [0.0, 0, 0]) == 0.25


# -- several comparisons ---------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9, 0.4]) == [1.0, 1.0, 1.0]
    assert holm([0.2]) == [0.2] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_the_step_down_rejects(ps, alpha):
    rejected = set()
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):  # smallest first
        if ps[i] * (len(ps) - rank) > alpha:
            break
        rejected.add(i)
    adjusted = holm(ps)
    assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted))


def test_a_verdict_needs_more_where_more_is_compared():
    a, b = [1] * 6 + [0] * 4, [0] * 10  # p = 2 / 64 alone
    alone = with_verdicts(pd.DataFrame([paired(a, b, seed=0)]))
    assert " ".join(alone) == "difference low high p p_holm won lost verdict"
    assert alone["verdict"].tolist() == ["ahead"]
    pairs = [(a, b), (a, b), (b, b)]
    three = with_verdicts(pd.DataFrame([paired(*pair, seed=0) for pair in pairs]))
    assert three["p"].tolist() == [1 / 32, 1 / 32, 1.0]
    assert three["p_holm"].tolist() == [3 / 32, 3 / 32, 1.0]
    assert set(three["verdict"]) == {"no difference shown"}


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired([1, 0], [1], seed=0), "2 a for 1 b, need as many"),
        (lambda: paired([], [], seed=0), r"shape \(0,\)"),
        (lambda: paired([1, 2], [1, 0], seed=0), "a holds 2: need numbers from 0 to 1"),
        (lambda: paired([1, 0], [1, float("nan")], seed=0), "b holds nan"),
        (lambda: paired([[1, 0]], [[1, 0]], seed=0), r"a of shape \(1, 2\)"),
        (lambda: paired(1, 0, seed=0), r"a of shape \(\)"),
        (lambda: mcnemar([1, 0.5], [1, 0]), "a holds 0.5: need 0 or 1"),
        (lambda: mcnemar([1, 0], [1, -1]), "b holds -1"),
        (lambda: mcnemar([1], [1, 0]), "1 a for 2 b, need as many"),
        (lambda: holm([0.5, 1.5]), "ps holds 1.5: need numbers from 0 to 1"),
    ],
)
def test_what_cannot_be_compared_is_named_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_expectations_may_miss_1_and_0_in_their_last_digit():
    over = np.nextafter(1, 2)
    assert paired([over, over], [0, -1e-17], seed=0) == paired([1, 1], [0, 0], seed=0)


def test_rows_without_a_p_value_have_no_verdict_and_are_not_counted():
    table = pd.DataFrame({"difference": [0.5, np.nan, -0.5], "p": [0.02, np.nan, 0.01], "won": 0})
    found = with_verdicts(table)
    assert found["p_holm"].fillna(-1).tolist() == [0.02, -1, 0.02]
    assert found["verdict"].tolist() == ["ahead", "", "behind"]
    assert [*found.columns] == ["difference", "p", "p_holm", "won", "verdict"]


# -- real data: intervals published for recorded runs ----------------------------------------------


@pytest.mark.parametrize(
    ("n", "published", "off"),
    [
        (2, (6.7, 0.0, 13.3), 0.1),
        (4, (8.3, 3.3, 13.3), 1.0),  # one vote of 120 turns on how an answer is read
        (8, (2.5, -4.2, 9.2), 0.1),
    ],
)
def test_a_verifier_against_majority_on_recorded_runs(real_data, n, published, off):
    files = sorted((real_data / "crucible_cassettes").glob("*.json"))
    runs = [read_samples(file, format="crucible") for file in files]
    best = [[p.correct[np.argmax(p.scores[:n])] for p in run] for run in runs]
    voted = [[_majority_is_right(p, n) for p in run] for run in runs]
    assert np.shape(best) == np.shape(voted) == (3, 40)
    found = paired(np.mean(best, 0), np.mean(voted, 0), seed=0)  # seeds of a problem stay together
    assert [100 * x for x in found[:3]] == pytest.approx(published, abs=off)
    assert (found.p < 0.05) == (n == 4)


def _majority_is_right(problem, n):
    answers = problem.answers[:n]
    winner = majority_vote(answers, equal=operator.eq)  # as published: equal as strings
    return winner is not None and problem.correct[answers.index(winner)]
