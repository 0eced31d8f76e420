"""Countdown against brute force: two numbers of a list become one, in every way, down to the last;
with fractions and negative numbers, too, for the claim that whole ones cost no target."""

import random
import re
from fractions import Fraction
from functools import cache
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.problems import answer_of, check_steps, explain, is_right, solvable, states_answer
from workbench.problems.benchmarks import load
from workbench.problems.countdown import generate, problem_at, read_question
from workbench.problems.truth import FAULTS
from workbench.types import Prefix, Problem

RULES = "with + - * /. Use each number at most once, and only whole numbers."
examples = settings(max_examples=60, deadline=None)
numbered = st.builds(
    lambda level, i: problem_at(i, levels=[level], seed=0), st.integers(1, 3), st.integers(0, 10**9)
)
seeds = st.integers(0, 2**32).map(random.Random)


def puzzle(target, *numbers):
    question = f"Make {target} from {', '.join(map(str, numbers))} {RULES}"
    return Problem("p", "countdown", question, str(target))


def solution(problem, *steps):
    return Prefix.of(problem, steps, ended=True)


def moves(numbers):
    """(step, numbers left) of every right step from here."""
    for i, j in permutations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        rest = tuple(n for k, n in enumerate(numbers) if k not in (i, j))
        yield f"{a} + {b} = {a + b}", (*rest, a + b)
        yield f"{a} * {b} = {a * b}", (*rest, a * b)
        if a - b >= 0:
            yield f"{a} - {b} = {a - b}", (*rest, a - b)
        if b > 0 and a % b == 0:
            yield f"{a} / {b} = {a // b}", (*rest, a // b)


@cache
def seen(numbers):
    """All numbers that are ever left on any way on from here."""
    return {*numbers}.union(*(seen(tuple(sorted(rest))) for _, rest in moves(numbers)))


def by_all(numbers):
    """What can be made of all the numbers, of whatever sign, whole or not."""
    if len(numbers) == 1:
        return {*numbers}
    made = set()
    for i, j in permutations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
        for value in (a + b, a - b, a * b, *([Fraction(a, b)] if b else [])):
            made |= by_all([*rest, value])
    return made


# -- problems --------------------------------------------------------------------------------------


def test_a_longer_list_begins_with_the_shorter_and_holds_what_its_index_says():
    long = generate(20, seed=7)
    assert generate(8, seed=7) == long[:8] and {p.level for p in long} == {1, 2, 3}
    assert [problem_at(i, levels=range(1, 4), seed=7) for i in reversed(range(20))][::-1] == long
    assert not {p.question for p in long} & {p.question for p in generate(20, seed=8)}


@examples
@given(numbered)
def test_the_solution_is_right_and_no_shorter_one_is(problem):
    target, numbers = read_question(problem.question)
    *steps, last = problem.solution.split("\n")
    assert len(steps) == problem.level == len(numbers) - 1
    assert all(eval(step.replace("=", "==")) for step in steps)
    assert steps[-1].endswith(f"= {problem.answer}") and last == f"The answer is {target}"
    assert is_right(problem, solution(problem.blind(), *steps, last))
    for left_out in range(len(numbers)):  # all numbers are needed
        assert target not in seen(numbers[:left_out] + numbers[left_out + 1 :])


@pytest.mark.parametrize("level", [4, 5])
def test_the_largest_levels(level):
    problem = problem_at(0, levels=[level], seed=3)
    assert all(check_steps(problem, problem.solution.split("\n")))


@pytest.mark.parametrize("levels", [[0], [6], [], [1, 9]])
def test_unknown_levels_are_refused_with_what_would_be_accepted(levels):
    with pytest.raises(ValueError, match=rf"^levels {re.escape(str(levels))}: use levels from 1"):
        generate(1, seed=0, levels=levels)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "no countdown question: ''"),
        (f"Make 23 from 30, 93 100 {RULES}", "no countdown question"),
        (f"Make -3 from 30, 93 {RULES}", "no countdown question"),
        (f"Make 3 from 30,, 93 {RULES}", "no countdown question"),
        (f"Make 3 from 1, 2, 3, 4, 5, 6, 7 {RULES}", "7 numbers in 'Make 3"),
    ],
)
def test_an_unreadable_question_is_refused_in_one_line(question, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_question(question)
    assert "\n" not in str(caught.value)


# -- truth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "faults"),
    [
        (["93 - 30 = 63", "100 - 63 = 37"], [None, None]),
        (["30 + 30 = 60"], ["not yet derivable: no 30 is left"]),
        (["93 - 30 = 63", "93 + 63 = 156"], [None, "not yet derivable: no 93 is left"]),
        (["7 + 93 = 100"], ["not yet derivable: no 7 is left"]),
        (["93 - 30 = 64"], ["arithmetic slip: 93 - 30 = 63, not 64"]),
        (["93 - 30 = 64", "100 - 64 = 36"], ["arithmetic slip", "not yet derivable: no 64"]),
        (["93 - 30 = 64", "93 - 30 = 63"], ["arithmetic slip", "not yet derivable: no 9"]),
        (["30 - 93 = 63"], ["arithmetic slip: 30 - 93 is no whole number of 0 or more"]),
        (["100 / 30 = 3"], ["arithmetic slip: 100 / 30 is no whole number of 0 or more"]),
        (["100 / 0 = 3"], ["not yet derivable: no 0 is left"]),
        (["So 93 - 30 = 63"], ["malformed: not of the form '<a> <sign> <b> = <c>'"]),
        (["93 - 30 = 63 .", "The answer is 63 ."], [None, "wrong answer line: the target is 23"]),
        (["The answer is 23"], ["not yet derivable: no step has reached 23"]),
        (["The answer is 23", "93 - 30 = 63"], ["not yet derivable", "after the answer"]),
    ],
)
def test_each_fault_is_named(steps, faults):
    found = explain(puzzle(23, 30, 93, 100), steps)
    assert len(found) == len(faults)
    for reason, fault in zip(found, faults):
        assert reason is None if fault is None else reason.startswith(fault)
        assert reason is None or reason.split(":")[0] in FAULTS


def test_a_right_step_may_lead_nowhere_and_a_wrong_one_need_not():
    problem = puzzle(70, 30, 93, 100)
    assert check_steps(problem, ["93 * 30 = 2790"]) == [True]
    assert not solvable(problem, ["93 * 30 = 2790"])
    aside = puzzle(70, 30, 93, 100, 5, 5)
    steps = ["5 + 5 = 11", "100 - 30 = 70", "The answer is 70"]
    assert check_steps(aside, steps) == [False, True, True] and solvable(aside, steps[:1])
    assert is_right(aside, solution(aside, *steps))


@examples
@given(numbered, seeds)
def test_solvable_is_what_brute_force_finds_along_any_way(problem, rng):
    target, numbers = read_question(problem.question)
    steps = []
    while True:
        assert solvable(problem, steps) == (target in seen(tuple(sorted(numbers))))
        assert all(check_steps(problem, steps))
        if len(numbers) == 1:
            break
        step, numbers = rng.choice([*moves(numbers)])
        steps.append(step)


@examples
@given(numbered, seeds)
def test_a_step_is_right_where_brute_force_has_it(problem, rng):
    _, numbers = read_question(problem.question)
    right = {step for step, _ in moves(numbers)}
    for step in rng.sample(sorted(right), 3):
        assert check_steps(problem, [step]) == [True]
        a, sign, b, _, c = step.split()
        a, b, c = (str(int(n) + rng.randint(0, 1)) for n in (a, b, c))
        changed = f"{a} {rng.choice(['+', '-', '*', '/', sign])} {b} = {c}"
        assert check_steps(problem, [changed]) == [changed in right]


# -- the answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        (["93 - 30 = 63", "The answer is 63"], "63"),
        (["The answer is 70"], None),  # stated, not reached
        (["100 - 30 = 70", "The answer is 70"], "70"),
        (["100 - 30 = 70"], None),
        (["30 + 40 = 70", "The answer is 70"], None),
        (["100 - 30 = 70", "70 + 30 = 100", "The answer is 70"], None),  # 70 is used up
        (["93 - 30 = 70", "The answer is 70"], None),
        (["The answer is 93"], "93"),
    ],
)
def test_an_answer_is_a_number_that_right_steps_have_reached(steps, answer):
    problem = puzzle(70, 30, 93, 100)
    whole = solution(problem.blind(), *steps)
    assert answer_of(whole) == answer and is_right(problem, whole) == (answer == "70")
    assert solvable(problem, steps) == (answer == "70" or steps == ["100 - 30 = 70"])
    assert answer_of(Prefix.of(problem, steps)) is None
    assert states_answer(problem, steps[-1]) == steps[-1].startswith("The")


# -- published puzzles -----------------------------------------------------------------------------


def test_the_published_puzzles(real_data):
    problems = load("countdown", path=real_data / "countdown" / "countdown_cd3_test.jsonl")
    assert len(problems) == 256 and problems[0].id == "countdown/test/1"
    for problem in problems:
        target, numbers = read_question(problem.question)
        assert target in by_all([*numbers]) and target in seen(numbers)
        steps = problem.solution.split("\n")
        assert problem.level == len(steps) - 1 and is_right(problem, solution(problem, *steps))
    assert {p.level for p in problems} == {0, 1, 2}


def test_an_unsolvable_puzzle_has_no_solution_and_a_broken_row_is_named(tmp_path):
    file = tmp_path / "countdown.jsonl"
    file.write_text('{"input": "1,1", "output": "100"}\n')
    (problem,) = load("countdown", path=tmp_path)
    assert (problem.answer, problem.solution, problem.level) == ("100", None, None)
    assert not solvable(problem, [])
    file.write_text('{"input": "1,1.5", "output": "100"}\n')
    with pytest.raises(ValueError, match=r"countdown.jsonl:1: not a countdown record"):
        load("countdown", path=tmp_path)
