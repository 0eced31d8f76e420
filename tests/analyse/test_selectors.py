"""Mutual consistency by hand."""

import pytest

from workbench.analyse.metrics import majority_vote
from workbench.analyse.selectors import agreement, mutual_vote, validated


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


def test_a_second_model_that_says_nothing_changes_nothing_and_one_that_knows_decides():
    answers = ["1", "2", "2", "3", "1", None]
    silent, knows = [[None]] * 6, [["1"]] * 6
    assert mutual_vote(answers, knows) == "1"
    assert mutual_vote(answers, silent) == majority_vote(answers) == "1"
    assert mutual_vote(["2", *answers], [[None], *knows], share=1) == "1"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: agreement(["1"], []), "0 samples for 1 answers"),
        (lambda: agreement(["1", "2"], [["1"], []]), r"samples \[1\]"),
        (lambda: validated(["1"], [["1"]], share=0), "share=0"),
        (lambda: validated(["1"], [["1"]], share=1.1), "share=1.1"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
