"""Step-aware votes and mutual consistency against their definitions, by enumeration of all
k-subsets."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyse.metrics import (
    best_of_n_at_k,
    majority_at_k,
    majority_vote,
    pass_at_k,
    weighted_vote,
)
from workbench.analyse.selectors import (
    agreement,
    mutual_best_at_k,
    mutual_vote,
    mutual_vote_at_k,
    step_aware_vote_at_k,
    step_aware_weights,
    validated,
)
from workbench.problems.recorded import read_samples


def over_subsets(n, k, value):
    return np.mean([value(subset) for subset in combinations(range(n), k)])


def share_of_win(totals, gold):
    """1 / number of answers with the largest total if gold is one of them, else 0."""
    best = [a for a in totals if totals[a] >= max(totals.values()) - 1e-9]
    return (gold in best) / len(best) if best else 0.0


# -- step-aware votes ------------------------------------------------------------------------------


def test_weights_by_hand():
    steps = [[0.5, 0.8], [1.0], [0.0, 0.9]]
    # the paper's voting verifier
    np.testing.assert_allclose(step_aware_weights(steps, alpha=0), [0.8, 1.0, 0.9])
    np.testing.assert_allclose(step_aware_weights(steps, alpha=1), [0.8 * 0.5 * 0.8, 1.0, 0.0])
    np.testing.assert_allclose(
        step_aware_weights(steps, alpha=2, solution_scores=[0.1, 0.5, 1]), [0.016, 0.5, 0]
    )
    loss = -math.log(0.8) - 0.1 * (math.log(0.5) + math.log(0.8))
    assert step_aware_weights(steps)[0] == pytest.approx(math.exp(-loss))


def step_aware_vote(answers, steps, **options):
    return weighted_vote(answers, step_aware_weights(steps, **options))


def test_steps_change_the_vote():
    answers, steps = ["7", "8", "8", None], [[0.9, 0.9], [0.1, 0.6], [0.1, 0.6], [1.0, 1.0]]
    assert step_aware_vote(answers, steps, alpha=0) == "8"
    assert step_aware_vote(answers, steps, alpha=1) == "7"
    assert step_aware_vote(answers, steps, alpha=1, solution_scores=[0.01, 1, 1, 1]) == "8"
    assert step_aware_vote(["1/2", "0.5", "3"], [[0.4], [0.4], [0.7]]) == "1/2"  # grouped by value
    assert step_aware_vote([None, None], [[1.0], [1.0]]) is None


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["1", "2", "3", None]),
            st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=7,
    ),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.data(),
)
def test_step_aware_vote_is_the_mean_over_subsets(samples, alpha, data):
    k = data.draw(st.integers(1, len(samples)))

    def value(subset):
        totals = {}
        for answer, steps in (samples[i] for i in subset):
            if answer is not None:
                totals[answer] = totals.get(answer, 0) + steps[-1] * math.prod(
                    s**alpha for s in steps
                )
        return share_of_win(totals, "1")

    answers, steps = zip(*samples)
    found = step_aware_vote_at_k(answers, steps, "1", k, seed=0, alpha=alpha)
    assert found == pytest.approx(over_subsets(len(samples), k, value))


def test_published_vote_of_recorded_samples(real_data):
    path = real_data / "math_rm_samples_100x8" / "math_cot_100.jsonl"
    hits = []
    for p in read_samples(path, format="math-rm"):
        hits.append(p.correct[p.answers.index(step_aware_vote(p.answers, p.scores, alpha=0))])
    assert round(100 * np.mean(hits), 2) == 94.0


# -- mutual consistency ----------------------------------------------------------------------------


def test_agreement_by_hand():
    answers = ["1/2", "3", None, "", "4"]
    completions = [["0.5", r"\frac{1}{2}", "2", None], ["2", None], ["1"], [], ["4"]]
    assert agreement(answers, completions).tolist() == [0.5, 0, 0, 0, 1]
    assert validated(answers, completions).tolist() == [True, False, False, False, True]
    assert validated(answers, completions, share=0.51).tolist() == [False] * 4 + [True]
    thirds = [["1", "2", "3"]]
    assert (
        validated(["1"], thirds, share=1 / 3).all()
        and not validated(["1"], thirds, share=0.34).any()
    )
    assert agreement([], []).shape == (0,)


def test_missing_completions_do_not_agree_with_missing_answers():
    assert not validated([None, None], [[None, None], [""]], share=0.1).any()
    assert mutual_vote([None, None], [[None], [None]]) is None
    assert mutual_vote_at_k([None, None], [[None], [None]], "1", 1) == 0
    # a missing answer comes last
    assert mutual_best_at_k([None, "1"], [[None], ["2"]], [9.0, 0.1], "1", 2) == 1


samples = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "3", None]),
        st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=4),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=7,
)


def eligible(pool, share):
    """The validated samples of a subset, or all that have an answer."""
    ok = [s for s in pool if s[0] is not None and sum(c == s[0] for c in s[1]) >= share * len(s[1])]
    return ok or [s for s in pool if s[0] is not None]


@settings(deadline=None, max_examples=200)
@given(samples, st.sampled_from([0.01, 0.5, 1.0]), st.data())
def test_mutual_vote_is_the_mean_over_subsets(pool, share, data):
    k = data.draw(st.integers(1, len(pool)))

    def value(subset):
        chosen = [s[0] for s in eligible([pool[i] for i in subset], share)]
        return share_of_win({a: chosen.count(a) for a in chosen}, "1")

    answers, completions, _ = zip(*pool)
    found = mutual_vote_at_k(answers, completions, "1", k, share=share)
    assert found == pytest.approx(over_subsets(len(pool), k, value))


@settings(deadline=None, max_examples=200)
@given(samples, st.sampled_from([0.01, 0.5, 1.0]), st.data())
def test_mutual_best_is_the_mean_over_subsets(pool, share, data):
    k = data.draw(st.integers(1, len(pool)))

    def value(subset):
        among = eligible([pool[i] for i in subset], share)
        return (
            np.mean([s[0] == "1" for s in among if s[2] == max(t[2] for t in among)])
            if among
            else 0.0
        )

    found = mutual_best_at_k(*zip(*pool), "1", k, share=share)
    assert found == pytest.approx(over_subsets(len(pool), k, value))


def test_a_second_model_that_says_nothing_changes_nothing_and_one_that_knows_decides():
    answers, scores = ["1", "2", "2", "3", "1", None], [0.3, 0.9, 0.2, 0.5, 0.8, 0.7]
    silent, parrot = [[None]] * 6, [[a] for a in answers]
    knows = [["1"]] * 6
    for k in range(1, 7):
        for completions in (silent, parrot):
            assert mutual_vote_at_k(answers, completions, "1", k) == pytest.approx(
                majority_at_k(answers, "1", k)
            )
        assert mutual_vote_at_k(answers, knows, "1", k) == pytest.approx(pass_at_k(6, 2, k))
        best = best_of_n_at_k([*scores[:5], -1], [1, 0, 0, 0, 1, 0], k)
        assert mutual_best_at_k(answers, silent, scores, "1", k) == pytest.approx(best)
        assert mutual_best_at_k(answers, knows, scores, "1", k) == pytest.approx(pass_at_k(6, 2, k))
    assert (
        mutual_vote(answers, knows) == "1"
        and mutual_vote(answers, silent) == majority_vote(answers) == "1"
    )
    assert mutual_vote(["2", *answers], [[None], *knows], share=1) == "1"


def test_mutual_vote_of_a_large_pool():
    # nobody completes the 2s to a 2, and only 5 of the 1s to a 1
    answers = ["1"] * 150 + ["2"] * 250
    completions = [["1"]] * 5 + [["3"]] * 395
    miss = math.comb(395, 16) / math.comb(400, 16)
    left = majority_at_k(["1"] * 145 + ["2"] * 250, "1", 16)
    assert mutual_vote_at_k(answers, completions, "1", 16) == pytest.approx(1 - miss + miss * left)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: step_aware_weights([[0.5], []]), r"steps \[1, 0\]"),
        (lambda: step_aware_weights([[0.5]], alpha=-1), "alpha=-1"),
        (lambda: step_aware_weights([[1.5]]), "score 1.5"),
        (lambda: step_aware_weights([[float("nan"), 0.5]]), "score nan"),
        (lambda: step_aware_weights([[0.5]], solution_scores=[2.0]), "score 2.0"),
        (
            lambda: step_aware_weights([[0.5]], solution_scores=[0.5, 0.5]),
            "2 solution scores for 1",
        ),
        (lambda: step_aware_vote(["1", "2"], [[0.5]]), "1 weights for 2"),
        (lambda: step_aware_vote_at_k(["1"], [[0.5]], "1", 2, seed=0), "k = 2"),
        (lambda: agreement(["1"], []), "0 samples for 1 answers"),
        (lambda: agreement(["1", "2"], [["1"], []]), r"samples \[1\]"),
        (lambda: validated(["1"], [["1"]], share=0), "share=0"),
        (lambda: validated(["1"], [["1"]], share=1.1), "share=1.1"),
        (lambda: mutual_vote_at_k(["1"], [["1"]], "1", 2), "k = 2"),
        (lambda: mutual_best_at_k(["1"], [["1"]], [], "1", 1), "need a number each"),
        (lambda: mutual_best_at_k(["1"], [["1"]], [float("nan")], "1", 1), "need a number each"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
