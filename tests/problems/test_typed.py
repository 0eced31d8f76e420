"""What somebody types: the truth of it, or a refusal that says what is accepted."""

import pytest

from workbench.problems import check_steps, frozen
from workbench.problems.typed import EXAMPLE, LONGEST_LINE, plain, typed_problem, typed_steps


def test_a_frozen_question_that_is_typed_has_the_same_answer_and_truth():
    for problem in frozen.load("validation")[:12]:
        typed = typed_problem(f"  {problem.question.replace('. ', '.  ')}\n")
        assert (typed.question, typed.answer) == (problem.question, problem.answer)
        assert all(check_steps(typed, problem.solution.split("\n")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a quantities question"),
        ("x" * 601, "at most 600"),
        (EXAMPLE.replace("Max", "Bob"), "'Bob': the policies know"),
        (EXAMPLE.replace("shells", "tanks"), "'tanks': the policies know"),
        (EXAMPLE.replace("5", "500"), "between 0 and 199"),
        (EXAMPLE.replace("Max has", "<script>alert(1)</script> has"), "no fact"),
        (EXAMPLE.replace(" Max has 5 shells.", ""), "cannot be derived"),
    ],
)
def test_refuses_with_what_would_be_accepted(text, words):
    with pytest.raises(ValueError, match=words):
        typed_problem(text)


def test_steps_are_cut_to_lines_and_bounded():
    assert typed_steps(" a  b \n\n c") == ["a b", "c"] and typed_steps(" \n") == []
    with pytest.raises(ValueError, match="at most 16 steps"):
        typed_steps("a\n" * 17)
    with pytest.raises(ValueError, match="of 160 characters"):
        typed_steps("a" * (LONGEST_LINE + 1))


def test_nothing_unprintable_is_left():
    assert plain("a\x1b[1m\u202e\ud800\u200bé✓") == "a [1m   é✓"
