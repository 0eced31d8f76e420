"""Curves from a pool: equal to brute force, bands over problems, bad pools named."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyse.metrics import paired_bootstrap, pass_at_k, weighted_vote
from workbench.analyse.scaling import (
    SELECTIONS,
    answers_of,
    correctness,
    curve,
    doublings,
    majority_curve,
    pass_curve,
    pool_parts,
    selection_curves,
    values_at,
    weighted_vote_at_k,
)
from workbench.types import Prefix, Problem, SearchResult

PROBLEM = Problem("p", "quantities", "How many?", "7")


def result(*lines: str, stop: bool = True) -> SearchResult:
    rollouts = tuple(Prefix.of(PROBLEM, ["x", line], ended=stop) for line in lines)
    return SearchResult(PROBLEM, rollouts)


def test_answers_and_correctness_read_the_last_step():
    results = [
        result("The answer is 7 .", "The answer is 17 .", "no answer here 7 x"),
        result(*["The answer is 7 ."] * 3),
    ]
    assert answers_of(results)[0][:2] == ["7", "17"]
    assert correctness(results)[:, :2].tolist() == [[True, False], [True, True]]
    answers, right, golds = pool_parts(results)
    assert (answers, golds) == (answers_of(results), ["7", "7"])
    assert right.tolist() == correctness(results).tolist()
    assert answers_of([result("The answer is 7 .", stop=False)]) == [[None]]  # ran out of room
    with pytest.raises(ValueError, match=r"pools of \[1, 2\]"):
        correctness([result("a"), result("a", "b")])
    blind = SearchResult(PROBLEM.blind(), result("a").rollouts)
    with pytest.raises(ValueError, match="p has no answer"):
        correctness([blind])


def test_pass_curve_is_the_mean_over_all_subsets():
    correct = np.array([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]], bool)
    for row in pass_curve(correct, seed=0):
        subsets = list(combinations(range(5), row["budget"]))
        assert row["value"] == pytest.approx(
            np.mean([correct[:, list(s)].any(1).mean() for s in subsets])
        )
        assert row["low"] <= row["value"] <= row["high"]


def test_majority_curve_is_the_mean_over_all_subsets_with_shared_ties():
    answers = [["7", "7", "8", "9"], ["1", "2", "2", None]]
    for row in majority_curve(answers, ["7", "2"], seed=0):
        values = []
        for pool, gold in zip(answers, ["7", "2"]):
            for subset in combinations(pool, row["budget"]):
                counts = {a: subset.count(a) for a in subset if a is not None}
                best = [a for a in counts if counts[a] == max(counts.values())]
                values.append((gold in best) / len(best) if best else 0)
        assert row["value"] == pytest.approx(np.mean(values))


def test_rows_carry_what_they_are_told():
    rows = curve("greedy", [1, 2], np.ones((3, 2)), seed=0, level=4)
    assert rows[1] == {
        "method": "greedy",
        "budget": 2,
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "level": 4,
    }
    assert doublings(64) == [1, 2, 4, 8, 16, 32, 64] and doublings(1) == [1]


# -- selection by scores ---------------------------------------------------------------------------


def vote_share(answers, scores, gold):
    """Share of the win of the gold answer in a weighted vote, by its definition."""
    totals = {
        a: sum(s for b, s in zip(answers, scores) if a == b) for a in answers if a is not None
    }
    best = [a for a, total in totals.items() if abs(total - max(totals.values())) < 1e-9]
    return (gold in best) / len(best) if best else 0.0


def vote_by_enumeration(answers, scores, gold, k):
    subsets = combinations(range(len(answers)), k)
    return np.mean(
        [vote_share([answers[i] for i in s], [scores[i] for i in s], gold) for s in subsets]
    )


def pool(problems=4, n=8, *, seed=0):
    """Answers (some missing), correctness, gold answers and step scores of a made-up policy and
    verifier."""
    rng = np.random.default_rng(seed)
    golds = ["1"] * problems
    answers = [
        [[None, "1", "2", "3"][i] for i in rng.choice(4, n, p=[0.1, 0.4, 0.3, 0.2])] for _ in golds
    ]
    correct = np.array([[a == "1" for a in row] for row in answers])
    steps = [[rng.random(rng.integers(1, 5)).round(1).tolist() for _ in row] for row in answers]
    return answers, correct, golds, steps


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["1", "2", "3", None]), st.integers(0, 3)), min_size=1, max_size=7
    ),
    st.data(),
)
def test_weighted_vote_is_the_mean_over_subsets(samples, data):
    answers, scores = zip(*samples)
    k = data.draw(st.integers(1, len(samples)))
    assert weighted_vote_at_k(answers, scores, "1", k, seed=0) == pytest.approx(
        vote_by_enumeration(answers, scores, "1", k)
    )


def test_weighted_vote_by_random_subsets_agrees_with_enumeration():
    answers, _, _, steps = pool(1, 12, seed=3)
    scores = [min(row) for row in steps[0]]
    for k in (2, 4, 7):
        exact = vote_by_enumeration(answers[0], scores, "1", k)
        assert weighted_vote_at_k(answers[0], scores, "1", k, seed=1, draws=1000) == pytest.approx(
            exact, abs=1e-12
        )
        drawn = [
            weighted_vote_at_k(answers[0], scores, "1", k, seed=s, draws=60) for s in range(30)
        ]
        assert len(set(drawn)) > 1 and np.mean(drawn) == pytest.approx(
            exact, abs=4 * 0.5 / 1800**0.5
        )
        assert drawn[0] == weighted_vote_at_k(answers[0], scores, "1", k, seed=0, draws=60)


def test_weighted_vote_of_the_whole_pool_and_of_one_is_exact():
    answers, scores = ["1", "2", "1", "2"] * 20, [0.9, 0.6, 0.2, 0.6] * 20
    assert weighted_vote(answers, scores) == "2"
    assert weighted_vote_at_k(answers, scores, "2", 80, seed=0, draws=3) == 1
    assert weighted_vote_at_k(answers, scores, "2", 1, seed=0, draws=3) == 0.5
    # grouped by value
    assert weighted_vote_at_k(["1/2", "0.5", "3"], [0.4, 0.4, 0.7], "0.50", 3, seed=0) == 1
    # a tie but for rounding
    assert weighted_vote_at_k(["1", "1", "2"], [0.1, 0.2, 0.1 + 0.2], "1", 3, seed=0) == 0.5
    # a score of 0 still is a vote
    assert weighted_vote_at_k(["1", None], [0.0, 9.0], "1", 2, seed=0) == 1
    assert weighted_vote_at_k([None, None], [1.0, 1.0], "1", 1, seed=0) == 0
    # log-probabilities, too
    assert weighted_vote_at_k(["1", "2"], [-1.0, -2.0], "1", 2, seed=0) == 1


def test_best_of_n_curves_are_the_mean_over_all_subsets():
    answers, correct, golds, steps = pool()
    scores = np.array([[row[-1] for row in rows] for rows in steps])
    options = {"names": ["prm_last_max"], "level": 3}
    for row in selection_curves(answers, correct, golds, steps, seed=0, **options):
        values = []
        for s, c in zip(scores, correct):
            for chosen in map(list, combinations(range(8), row["budget"])):
                values.append(c[chosen][s[chosen] == s[chosen].max()].mean())
        assert row["value"] == pytest.approx(np.mean(values)) and row["level"] == 3


def test_vote_curves_are_the_mean_over_all_subsets():
    answers, correct, golds, steps = pool()
    options = {"names": ["prm_sum_vote"], "level": 3}
    rows = selection_curves(answers, correct, golds, steps, seed=0, **options)
    assert [(row["method"], row["budget"], row["level"]) for row in rows] == [
        ("prm_sum_vote", k, 3) for k in (1, 2, 4, 8)
    ]
    scores = [[sum(row) for row in rows] for rows in steps]
    for row in rows:
        exact = [vote_by_enumeration(a, s, "1", row["budget"]) for a, s in zip(answers, scores)]
        assert row["value"] == pytest.approx(np.mean(exact))
    few = [weighted_vote_at_k(*row, "1", 4, seed=0, draws=5) for row in zip(answers, scores)]
    assert np.mean(few) != pytest.approx(rows[2]["value"])


def test_selection_curves_have_every_name_and_agree_with_their_parts():
    answers, correct, golds, steps = pool()
    rows = selection_curves(answers, correct, golds, steps, seed=0, level=2)
    assert [row["method"] for row in rows] == [name for name in SELECTIONS for _ in range(4)]
    assert set(SELECTIONS) == {
        f"prm_{how}_{rule}" for how in ("min", "last", "prod", "mean") for rule in ("max", "vote")
    }
    for row in rows:
        values = values_at(row["method"], row["budget"], answers, correct, golds, steps, seed=0)
        assert values.shape == (4,) and row["value"] == values.mean()
        if row["budget"] == 1:  # nothing to choose from
            assert row["value"] == pytest.approx(correct.mean())


def test_scores_of_whole_solutions():
    answers, correct, golds, steps = pool(seed=1)
    whole = [[[s[-1]] for s in row] for row in steps]  # as a verifier per solution replies
    bare = np.array(whole)[:, :, 0]
    for rule in ("max", "vote"):
        last = values_at(f"prm_last_{rule}", 4, answers, correct, golds, steps, seed=0)
        for scores in (whole, bare):
            np.testing.assert_array_equal(
                values_at(f"orm_{rule}", 4, answers, correct, golds, scores, seed=0), last
            )
    assert (
        len(selection_curves(answers, correct, golds, bare, seed=0, names=["orm_max", "orm_vote"]))
        == 8
    )


def test_extreme_verifiers():
    answers, correct, golds, _ = pool(6, 8, seed=2)
    oracle, constant = [[[float(c)] for c in row] for row in correct], [[[0.5]] * 8] * 6
    for k in (1, 2, 4, 8):
        passed = values_at("pass@k", k, answers, correct, golds, seed=0)
        np.testing.assert_allclose(
            values_at("prm_min_max", k, answers, correct, golds, oracle, seed=0), passed
        )
        np.testing.assert_allclose(passed, pass_at_k(8, correct.sum(1), k))
        majority = values_at("majority", k, answers, correct, golds, seed=0)
        np.testing.assert_allclose(
            values_at("prm_mean_vote", k, answers, correct, golds, constant, seed=0), majority
        )
        np.testing.assert_allclose(
            values_at("prm_mean_max", k, answers, correct, golds, constant, seed=0), correct.mean(1)
        )
    better = paired_bootstrap(passed, majority, seed=0)
    assert better.difference == pytest.approx(passed.mean() - majority.mean())


def test_unfinished_solutions_never_win_a_vote_and_count_as_wrong():
    answers, correct = [[None, "1", None]], [[False, True, False]]
    steps = [[[0.9], [0.1], [0.8]]]
    assert values_at("prm_min_vote", 3, answers, correct, ["1"], steps, seed=0).tolist() == [1.0]
    assert values_at("prm_min_max", 3, answers, correct, ["1"], steps, seed=0).tolist() == [0.0]


def test_selection_of_64_samples_is_quick():
    answers, correct, golds, steps = pool(50, 64)
    start = time.process_time()
    selection_curves(answers, correct, golds, steps, seed=0)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "prm_median_max"}, "aggregate 'median'"),
        ({"name": "prm_max"}, "selection 'prm_max'"),
        ({"name": "best"}, "selection 'best'"),
        ({"name": "prm_min_best"}, "selection 'prm_min_best'"),
        ({"name": "orm_max"}, "one score per solution"),
        ({"step_scores": None}, "need scores for 4 problems of 8 samples"),
        ({"step_scores": [[[0.5]] * 7] * 4}, "need scores for 4 problems of 8 samples"),
        ({"step_scores": [[[]] * 8] * 4}, "no step scores"),
        ({"step_scores": [[[float("nan")]] * 8] * 4}, "need"),
        ({"golds": ["1"]}, "1 golds"),
        ({"answers": [["1"] * 7] * 4}, "answers to 4 problems"),
        ({"answers": [[None] * 8] * 4}, "must count as wrong"),
        ({"k": 9}, "k = 9"),
        ({"k": 0}, "k = 0"),
    ],
)
@pytest.mark.parametrize("rule", ["max", "vote"])
def test_pools_that_do_not_fit(change, words, rule):
    answers, correct, golds, steps = pool()
    fitting = {
        "name": f"prm_min_{rule}",
        "k": 4,
        "answers": answers,
        "correct": correct,
        "golds": golds,
    }
    with pytest.raises(ValueError, match=words):
        values_at(**{**fitting, "step_scores": steps, **change}, seed=0)
