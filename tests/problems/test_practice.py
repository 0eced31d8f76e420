"""Practice: sums that are right, tales whose sentences say what their solutions compute."""

import re
from collections import Counter

import pytest

from workbench.problems import check_steps, practice, stories
from workbench.problems.equations import read_equations, values

TALES = practice.tales(2000, seed=0)


def test_sums_are_right_and_small():
    lines = [line for drill in practice.sums(200, seed=0) for line in drill.solution.split("\n")]
    (found,) = zip(*map(read_equations, lines))
    assert len(found) == 200 * practice.SUMS and all(values(e.tree) == e.result for e in found)
    assert max(max(e.result) for e in found) <= 2 * practice.LARGEST
    assert {sign: sum(sign in line for line in lines) > 100 for sign in "+-*/"} == dict.fromkeys(
        "+-*/", True
    )


@pytest.mark.parametrize("make", [practice.sums, practice.tales])
def test_a_list_is_the_beginning_of_a_longer_one(make):
    assert make(3, seed=4) == make(30, seed=4)[:3] != make(3, seed=5)


def test_tales_have_one_to_three_right_steps_of_whole_small_numbers():
    assert min(Counter(tale.level for tale in TALES).values()) > 400
    assert len({tale.question for tale in TALES}) > 1990
    for tale in TALES:
        *steps, last = tale.solution.split("\n")
        assert len(steps) == tale.level and last == f"The answer is {tale.answer}"
        assert all(check_steps(tale, [*steps, last]))
        assert all(0 < int(n) <= practice.LARGEST for n in re.findall(r"= ([0-9]+)", tale.solution))
        assert not re.search(r"[{}]|  ", tale.question)


def test_every_number_of_a_step_is_told_or_computed_before():
    for tale in TALES:
        words = {"half": "2", "a third": "3", "a quarter": "4", "a fifth": "5", "twice": "2"}
        words |= {"three times": "3", "four times": "4", "five times": "5"}
        told = set(re.findall(r"[0-9]+", tale.question)) | {"100"}
        told |= {n for word, n in words.items() if word in tale.question.lower()}
        for line in tale.solution.split("\n")[:-1]:
            *operands, result = re.findall(r"[0-9]+", line)
            assert set(operands) <= told, (tale.question, line)
            told.add(result)


def test_no_template_of_the_stories_reads_a_tale():
    for tale in TALES[:200]:
        with pytest.raises(ValueError, match="of no template"):
            stories.read_question(tale.question)


@pytest.mark.parametrize(
    ("text", "numbers", "line"),
    [
        ("{She} gives {k} of them to {B}.", {"k": 4}, "20 - 4 = 16"),
        ("That is {k} fewer than {B} has. How many {X} does {B} have?", {"k": 4}, "20 + 4 = 24"),
        ("That is {k} more than {B} has. How many {X} does {B} have?", {"k": 4}, "20 - 4 = 16"),
        (
            "{She} packs them into bags of {k}. How many bags does {she} need?",
            {"k": 4},
            "20 / 4 = 5",
        ),
    ],
)
def test_a_sentence_does_what_it_says(text, numbers, line):
    class Given:
        """Draws the number that is wanted."""

        def randint(self, low, high):
            return numbers["k"]

    (sentence,) = (s for s in practice.EVENTS + practice.ENDINGS if s.text == text)
    _, lines, _ = practice._numbers(Given(), sentence, 20)
    assert lines == [line]
