"""Straight-line programs: seeded and indexable, as levelled, and run as Python itself runs them."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.problems import check_steps
from workbench.problems.programs import explain, generate, problem_at, read_question, solvable
from workbench.types import Problem

numbered = st.builds(
    lambda level, i: problem_at(i, levels=[level], seed=0), st.integers(1, 6), st.integers(0, 10**9)
)
examples = settings(max_examples=50, deadline=None)


def program(lines, asked="t"):
    return Problem("p", "programs", f"What does {asked} hold after these lines? {lines}.")


def test_a_longer_list_begins_with_the_shorter_and_holds_what_its_index_says():
    long = generate(20, seed=7)
    assert generate(8, seed=7) == long[:8]
    assert [problem_at(i, levels=range(1, 7), seed=7) for i in reversed(range(20))][::-1] == long
    assert not {p.question for p in long} & {p.question for p in generate(20, seed=8)}


def test_levels_are_drawn_from_those_asked_for():
    counts = Counter(problem.level for problem in generate(300, seed=1, levels=[1, 3]))
    assert set(counts) == {1, 3} and min(counts.values()) > 110


@pytest.mark.parametrize("level", range(1, 9))
def test_level_counts_the_lines_that_the_answer_needs_computed(level, read):
    for index in range(3):
        problem = problem_at(index, levels=[level], seed=2)
        story = read(problem)
        assert len(story.needs(story.asked) & set(story.derived)) == level == problem.level
        assert len(problem.solution.split("\n")) == level + 1


@examples
@given(numbered)
def test_the_answer_is_what_python_computes(problem):
    asked, lines = re.fullmatch(
        r"What does (\w) hold after these lines\? (.*)\.", problem.question
    ).groups()
    memory = {}
    exec(lines, {}, memory)  # each variable is assigned once, by lines above
    assert problem.answer == str(memory[asked])
    assert all(1 <= value <= 199 for value in memory.values())
    assert len(memory) == len(lines.split("; "))


def test_some_lines_are_dead_code(read):
    stories = [read(problem) for problem in generate(50, seed=4, levels=[1, 2, 3])]
    assert all(set(story.derived) - story.needs(story.asked) for story in stories)


@pytest.mark.parametrize(
    ("line", "step", "right"),
    [
        ("t = a + 4", "t = a + 4 : 4 + 3 = 7 .", True),
        ("t = a + 4", "t = 4 + a : 3 + 4 = 7 .", True),
        ("t = a * b", "t = b * a : 3 * 5 = 15 .", True),
        ("t = b - a", "t = b - a : 5 - 3 = 2 .", True),
        ("t = b - a", "t = a - b : 5 - 3 = 2 .", False),
        ("t = b - a", "t = b - a : 3 - 5 = 2 .", False),
        ("t = b - 4", "t = 4 - b : 5 - 4 = 1 .", False),
        ("t = a + a", "t = a + a : 3 + 3 = 6 .", True),
        ("t = a + a", "t = a * 2 : 3 * 2 = 6 .", False),
        ("t = 4 + a", "t = a + 4 : 3 + 4 = 7 .", True),
    ],
)
def test_sums_and_products_commute_in_line_and_computation_and_differences_do_not(
    line, step, right
):
    assert check_steps(program(f"a = 3; b = 5; {line}"), [step]) == [right]


def test_a_dead_line_may_be_said_and_a_wrong_one_does_no_harm():
    problem = program("a = 3; d = a * 5; t = a + 4")
    assert (
        explain(
            problem, ["d = a * 5 : 3 * 5 = 15 .", "t = a + 4 : 3 + 4 = 7 .", "The answer is 7 ."]
        )
        == [None] * 3
    )
    assert check_steps(problem, ["d = a * 5 : 3 * 5 = 16 ."]) == [False]
    assert solvable(problem, ["d = a * 5 : 3 * 5 = 16 ."])


@pytest.mark.parametrize("levels", [[0], [9], [], [1, 10]])
def test_unknown_levels_are_refused_with_what_would_be_accepted(levels):
    with pytest.raises(
        ValueError, match=rf"^levels {re.escape(str(levels))}: use levels from 1 to 8$"
    ):
        generate(1, seed=0, levels=levels)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "no programs question: ''"),
        ("How many coins does Ava have? Ava has 3 coins.", "no programs question"),
        ("What does t hold after these lines? t = 3", "no programs question"),
        ("What does t hold after these lines? t = 3;\nu = 4.", "no programs question"),
        ("What does t hold after these lines? a = 3.", "'t' is never assigned"),
        ("What does t hold after these lines? t = 3; t = 4.", "'t' is assigned twice"),
        ("What does t hold after these lines? t = a + 3; a = 4.", "cannot run line 't = a + 3'"),
        ("What does t hold after these lines? t = t + 3.", "cannot run line 't = t + 3'"),
        ("What does t hold after these lines? t = 6 / 3.", "cannot run line 't = 6 / 3'"),
        ("What does t hold after these lines? t = __import__('os').", "cannot run line"),
        ("What does t hold after these lines? t = ٣.", "cannot run line 't = ٣'"),
        (f"What does t hold after these lines? t = {'9' * 5000}.", "cannot run line 't = 999"),
    ],
)
def test_an_unreadable_question_is_refused_in_one_line(question, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_question(question)
    assert "\n" not in str(caught.value)
