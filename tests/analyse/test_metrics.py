"""Metrics against brute-force enumeration, reference values, and published figures from recorded
samples."""

import json
import math
import operator
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyse.metrics import (
    AGGREGATES,
    aggregate,
    best_of_n_at_k,
    first_error_counts,
    harmonic_mean,
    hit_rates,
    majority_at_k,
    majority_vote,
    paired_bootstrap,
    pass_at_k,
    processbench_f1,
    resample,
    tally,
    weighted_vote,
    wilson,
    with_interval,
)
from workbench.problems.recorded import read_samples

same = operator.eq


def over_subsets(n, k, value):
    """The mean over all k-subsets of range(n): every expectation here, by its definition."""
    return np.mean([value(subset) for subset in combinations(range(n), k)])


def majority_share(answers, gold):
    """1 / number of winners if gold is one of them, else 0."""
    votes = Counter(a for a in answers if a is not None)
    top = [a for a, count in votes.items() if count == max(votes.values())]
    return (gold in top) / len(top) if top else 0.0


def best_share(scores, correct):
    """Mean correctness of the samples with the highest score."""
    return np.mean([c for s, c in zip(scores, correct) if s == max(scores)])


# -- expectations at k -----------------------------------------------------------------------------


def test_pass_at_k_reference_values():
    assert pass_at_k(10, 3, 5) == pytest.approx(0.9166666667)
    assert pass_at_k(256, 1, 16) == pytest.approx(0.0625)
    assert pass_at_k(5, 4, 2) == 1
    assert isinstance(pass_at_k(10, 3, 5), float)
    np.testing.assert_allclose(pass_at_k([4, 4], [[1], [2]], 2), [[0.5, 0.5], [5 / 6, 5 / 6]])


@given(st.data())
def test_pass_at_k_is_the_mean_over_subsets(data):
    n = data.draw(st.integers(1, 9))
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert pass_at_k(n, c, k) == pytest.approx(
        over_subsets(n, k, lambda subset: any(i < c for i in subset))
    )


@pytest.mark.parametrize(
    ("n", "c", "k"), [(10_000, 3, 100), (10_000, 5000, 2), (100_000, 1, 50_000), (10_000, 0, 9999)]
)
def test_pass_at_k_is_exact_for_large_pools(n, c, k):
    assert pass_at_k(n, c, k) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=8), st.data())
def test_best_of_n_is_the_mean_over_subsets(pool, data):
    k = data.draw(st.integers(1, len(pool)))
    scores, correct = zip(*pool)
    expected = over_subsets(
        len(pool), k, lambda i: best_share([scores[j] for j in i], [correct[j] for j in i])
    )
    assert best_of_n_at_k(scores, correct, k) == pytest.approx(expected)


def test_best_of_n_by_extreme_verifiers():
    correct = [1, 0, 0, 1, 0, 0]
    for k in range(1, 7):
        # constant: random choice
        assert best_of_n_at_k([0.5] * 6, correct, k) == pytest.approx(1 / 3)
        # oracle: pass@k
        assert best_of_n_at_k(correct, correct, k) == pytest.approx(pass_at_k(6, 2, k))
    assert best_of_n_at_k(range(3000), [0] * 2999 + [1], 3000) == 1


@settings(deadline=None)
@given(st.lists(st.sampled_from(["1", "2", "3", "4", None]), min_size=1, max_size=8), st.data())
def test_majority_is_the_mean_over_subsets(answers, data):
    k = data.draw(st.integers(1, len(answers)))
    expected = over_subsets(
        len(answers), k, lambda subset: majority_share([answers[i] for i in subset], "1")
    )
    assert majority_at_k(answers, "1", k) == pytest.approx(expected, abs=1e-12)


def test_majority_reference_values():
    assert majority_at_k(["7"] * 6 + ["8"] * 4, "7", 3) == pytest.approx(2 / 3)
    assert majority_at_k(["7"] * 6000 + ["8"] * 4000, "7", 3) == pytest.approx(0.648, abs=1e-4)
    assert majority_at_k(["A", "B", "A", "B"], "A", 4, equal=same) == 0.5
    assert majority_at_k([None, None, None, "5"], "5", 4) == 1
    assert majority_at_k([None, None, " "], "5", 3) == 0


def test_majority_of_a_large_pool_agrees_with_resampling():
    rng = np.random.default_rng(0)
    pool = rng.choice(["1", "2", "3", "4", "5"], p=[0.3, 0.28, 0.2, 0.12, 0.1], size=256).tolist()
    drawn = [
        majority_share([pool[i] for i in rng.choice(256, 32, replace=False)], "1")
        for _ in range(4000)
    ]
    assert majority_at_k(pool, "1", 32) == pytest.approx(
        np.mean(drawn), abs=4 * np.std(drawn) / 4000**0.5
    )


# -- votes -----------------------------------------------------------------------------------------


def test_votes_of_the_reference():
    answers, scores = ["A", "B", "A", "B"], [0.9, 0.6, 0.2, 0.6]
    assert answers[int(np.argmax(scores))] == "A" and best_of_n_at_k(scores, [1, 0, 1, 0], 4) == 1
    assert weighted_vote(answers, scores) == "B"
    assert tally(answers) == {"A": 2, "B": 2}


def test_answers_are_grouped_by_value():
    assert majority_vote(["3", "1/2", "3", "0.5", r"\frac{1}{2}"]) == "1/2"
    assert weighted_vote(["2", r"\sqrt{4}", "3"], [0.4, 0.4, 0.7]) == "2"
    assert majority_at_k(["1/2", "0.5", "3"], "0.50", 3) == 1


def test_missing_answers_never_win():
    assert majority_vote([None, None, "", "4"]) == "4"
    assert weighted_vote([None, "4"], [9.0, 0.1]) == "4"
    assert majority_vote([None]) is None and majority_vote([]) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: weighted_vote(["1", "2"], [0.5]),
        lambda: best_of_n_at_k([0.5], [1, 0], 1),
        lambda: best_of_n_at_k([float("nan"), 1], [1, 0], 1),
        lambda: best_of_n_at_k([0.5, 0.1], [1, 0], 3),
        lambda: majority_at_k(["1"], "1", 0),
        lambda: majority_at_k([], "1", 1),
        lambda: pass_at_k(5, 6, 1),
        lambda: pass_at_k(5, 1, 6),
        lambda: aggregate([], "min"),
        lambda: aggregate([1.0], "median"),
        lambda: processbench_f1([1], [1, 2]),
        lambda: paired_bootstrap([1, 0], [1], seed=0),
        lambda: paired_bootstrap([float("nan"), 1], [0, 0], seed=0),
        lambda: resample([], seed=0),
        lambda: wilson(1, 0),
        lambda: wilson(3, 2),
    ],
)
def test_errors(call):
    with pytest.raises(ValueError):
        call()


# -- steps -----------------------------------------------------------------------------------------


def test_aggregates():
    assert [aggregate([0.5, 0.25, 1.0], how) for how in ("min", "last", "prod", "max", "sum")] == [
        0.25,
        1.0,
        0.125,
        1.0,
        1.75,
    ]
    # a step of probability 0 counts
    assert aggregate(np.array([0.0, 1.0], np.float32), "prod") == 0.0
    assert all(aggregate([0.3], how) == pytest.approx(0.3) for how in AGGREGATES)


def rates(predicted, labels):
    return hit_rates(first_error_counts(predicted, labels).sum(0)).tolist()


def test_processbench_f1():
    assert harmonic_mean(32.4, 91.7) == pytest.approx(47.88, abs=0.005)
    assert processbench_f1([-1] * 4, [0, 1, -1, -1]) == 0  # always "no error"
    assert processbench_f1([1, 0], [0, -1]) == 0  # both are 0
    assert processbench_f1([3, None], [3, None]) == 1
    assert rates([1, 1, -1], [1, 2, -1]) == [0.5, 1.0, pytest.approx(2 / 3)]


def test_a_kind_of_which_there_is_no_solution_has_no_accuracy_and_leaves_no_f1():
    for found, expected in (
        (rates([1], [1]), [1, math.nan, math.nan]),
        (rates([1, -1], [None, -1]), [math.nan, 0.5, math.nan]),
        (rates([], []), [math.nan] * 3),
    ):
        assert found == pytest.approx(expected, nan_ok=True)
    # beside others, too: each row by itself, and 0 only where both accuracies are 0
    sums = [[0, 2, 0, 3], [0, 0, 3, 3], [1, 2, 0, 3], [1, 2, 3, 3]]
    assert hit_rates(sums)[:, 2] == pytest.approx([0, math.nan, 0, 2 / 3], nan_ok=True)


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2)), min_size=1, max_size=12))
def test_hit_rates_are_counted_one_by_one(pairs):
    guess, labels = zip(*pairs)
    for kind, found in enumerate(hit_rates(first_error_counts(guess, labels).sum(0))[:2]):
        hits = [g == t for g, t in pairs if (t == -1) == bool(kind)]
        assert found == pytest.approx(np.mean(hits) if hits else math.nan, nan_ok=True)


@pytest.mark.filterwarnings("error")
def test_draws_without_a_value_are_left_out_of_an_interval():
    drawn = np.array([math.nan, *range(101), math.nan])
    assert with_interval(7, drawn) == {"value": 7, "low": 2.5, "high": 97.5}
    silent = with_interval(math.nan, np.full(9, math.nan))
    assert list(map(math.isnan, silent.values())) == [True] * 3


# -- intervals -------------------------------------------------------------------------------------


def test_wilson():
    assert wilson(375, 500) == pytest.approx((0.710236, 0.785952), abs=1e-6)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1
    assert wilson(7, 10, confidence=0.5)[0] > wilson(7, 10)[0]


def test_resample():
    values = np.random.default_rng(1).normal(5, 2, size=400)
    found = with_interval(values.mean(), drawn := resample(values, seed=0))
    assert (found["low"], found["high"]) == pytest.approx(
        (values.mean() - 1.96 * 0.1, values.mean() + 1.96 * 0.1), abs=0.03
    )
    columns = resample(np.stack([values, 2 * values], axis=1), seed=0)
    np.testing.assert_allclose(columns, np.stack([drawn, 2 * drawn], axis=1))  # rows drawn whole
    assert (resample(values, seed=0) == drawn).all() and (resample(values, seed=1) != drawn).any()
    assert (resample([3.0], seed=0) == 3).all()
    sums = resample(np.eye(3), seed=1, statistic=np.sum, draws=50)
    assert sums.shape == (50, 3) and (sums.sum(1) == 3).all()


def test_paired_bootstrap():
    rng = np.random.default_rng(2)
    b = rng.random(500) < 0.7
    a = b | (rng.random(500) < 0.1)
    better = paired_bootstrap(a, b, seed=0)
    assert (
        better.difference == pytest.approx(a.mean() - b.mean())
        and 0 < better.low < better.high
        and better.p < 0.001
    )
    turned = paired_bootstrap(b, a, seed=0)
    assert (turned.difference, turned.low, turned.high) == pytest.approx(
        (-better.difference, -better.high, -better.low)
    )
    assert paired_bootstrap(b, b, seed=0) == (0, 0, 0, 1)
    rounded = np.full(9, 0.3), np.full(9, 0.1 + 0.2)  # equal but for the last digit
    assert paired_bootstrap(*rounded, seed=0) == (0, 0, 0, 1)
    chance = paired_bootstrap(rng.random(500) < 0.5, rng.random(500) < 0.5, seed=0)
    assert chance.low < 0 < chance.high and chance.p > 0.05


# -- real data: published figures, re-derived ------------------------------------------------------


def percent(values):
    return round(100 * float(np.mean(values)), 2)


@pytest.mark.parametrize(
    ("file", "passed"),
    [
        ("cot_samples_100x100", [4.03, 7.28, 14.29, 21.48, 29.55, 40.69, 49.0]),
        ("io_samples_100x100", [7.34, 10.58, 14.92, 17.89, 21.15, 27.28, 33.0]),
    ],
)
def test_game24(real_data, file, passed):
    puzzles = read_samples(real_data / "game24_samples" / f"{file}.jsonl", format="game24")
    right = np.array([sum(p.correct) for p in puzzles])
    assert [percent(pass_at_k(100, right, k)) for k in (1, 2, 5, 10, 20, 50, 100)] == pytest.approx(
        passed, abs=0.01
    )
    oracle = [best_of_n_at_k(p.correct, p.correct, 100) for p in puzzles]
    assert percent(oracle) == passed[-1]
    voted = [p.correct[p.answers.index(majority_vote(p.answers, equal=same))] for p in puzzles]
    assert percent(voted) == 9.0


def test_math_100x8(real_data):
    path = real_data / "math_rm_samples_100x8" / "math_cot_100.jsonl"
    problems = read_samples(path, format="math-rm")
    right = np.array([sum(p.correct) for p in problems])
    assert [percent(pass_at_k(8, right, k)) for k in (1, 2, 4, 8)] == [91.0, 93.29, 95.1, 96.0]
    best, voted, weighted = [], [], []
    for p in problems:
        scores = np.ravel(p.scores)
        best.append(best_of_n_at_k(scores, p.correct, 8))
        voted.append(p.correct[p.answers.index(majority_vote(p.answers))])
        weighted.append(p.correct[p.answers.index(weighted_vote(p.answers, scores))])
    assert (percent(voted), percent(best), percent(weighted)) == (93.0, 94.0, 94.0)


def test_reward_ranked(real_data):
    folder = real_data / "reward_ranked_samples" / "eval_results"
    published = json.loads((folder / "metrics.json-test").read_text())["hendrycks_math"]
    # 7 problems of 3 samples, one a file
    pools = read_samples(folder / "hendrycks_math__output-rs0.jsonl-test", format="reward-ranked")
    right, answers = [p.correct for p in pools], [p.answers for p in pools]
    scores = [np.ravel(p.scores) for p in pools]
    golds = [
        next((a for a, r in zip(row, flags) if r), "unknown") for row, flags in zip(answers, right)
    ]
    measured = {
        "pass@1": [pass_at_k(3, sum(flags), 1) for flags in right],
        "pass@2": [pass_at_k(3, sum(flags), 2) for flags in right],
        "pass@3": [pass_at_k(3, sum(flags), 3) for flags in right],
        "majority@3": [majority_at_k(row, gold, 3) for row, gold in zip(answers, golds)],
        "rm_best@3": [best_of_n_at_k(s, flags, 3) for s, flags in zip(scores, right)],
        "rm_majority@3": [
            weighted_vote(row, s) == gold for row, s, gold in zip(answers, scores, golds)
        ],
    }
    assert {name: percent(values) for name, values in measured.items()} == {
        name: round(published[name]["symbolic_correct"], 2) for name in measured
    }
    assert [percent(measured[m]) for m in ("pass@2", "pass@3", "rm_best@3", "rm_majority@3")] == [
        80.95,
        85.71,
        57.14,
        71.43,
    ]
