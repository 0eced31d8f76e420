"""Countdown: make a target from a few numbers. An embedded kind whose right steps may lead nowhere.

"Make 23 from 30, 93, 100 with + - * /. ..." A step computes with two of the numbers that are left
(`93 - 30 = 63`): these are used up, the result is left in their place. `The answer is 23` ends it.
Level = steps of the shortest solution. As on television every number may be used once, none has to
be, and results are whole and not below 0 (that costs none of the published targets).

Truth: a step is right if both numbers are left and the result is theirs. A wrong one uses up what
it names, and what it says does not stand. `solvable` looks at all that can be made of what is left:
a right step may have used up what the target needs. The answer is a number that right steps have
reached; from a solution that did not reach what it states none can be read.

Deviation: the published puzzles (`countdown_row`) ask for all of their numbers. The shipped
policies were not trained on this kind, and no notebook teaches it yet.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from workbench.problems.truth import ANSWER, NUMBER
from workbench.types import Problem

LARGEST = 199  # target of `generate`
_MOST, _DRAWN = 6, (2, 50)  # numbers of a question; how large those of `generate` are
_LEVELS = range(1, _MOST)
_RULES = "with + - * /. Use each number at most once, and only whole numbers."
_QUESTION = re.compile(rf"Make {NUMBER} from ([0-9, ]+) {re.escape(_RULES)}")
_STEP = re.compile(rf"{NUMBER} ([-+*/]) {NUMBER} = {NUMBER}(?: ?\.)?")
_FORM = "malformed: not of the form '<a> <sign> <b> = <c>'"


class Puzzle(NamedTuple):
    """A question taken apart; `numbers` in ascending order."""

    target: int
    numbers: tuple[int, ...]


# -- what can be made ------------------------------------------------------------------------------


def _result(a: int, sign: str, b: int) -> int | None:
    """`a sign b`, None if that is below 0 or no whole number."""
    if sign == "/":
        return a // b if b and a % b == 0 else None
    return {"+": a + b, "*": a * b, "-": a - b if a >= b else None}[sign]


def _splits(numbers: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every way to put the numbers on the left and on the right of a sign."""
    for mask in range(1, 2 ** len(numbers) - 1):
        sides = ([n for i, n in enumerate(numbers) if mask >> i & 1 == side] for side in (1, 0))
        left, right = map(tuple, sides)
        yield left, right


@lru_cache(maxsize=4096)
def makeable(numbers: tuple[int, ...]) -> frozenset[int]:
    """What can be made of all these numbers (in ascending order), each used once.

    >>> sorted(makeable((2, 6)))
    [3, 4, 8, 12]
    """
    if len(numbers) == 1:
        return frozenset(numbers)
    return frozenset(value for *_, value in _last_steps(numbers))


def _last_steps(numbers: tuple[int, ...]) -> Iterator[tuple]:
    """(numbers on the left, on the right, a, sign, b, result) of every last step."""
    for left, right in _splits(numbers):
        for a in makeable(left):
            for b in makeable(right):
                for sign in "+-*/":
                    if (value := _result(a, sign, b)) is not None:
                        yield left, right, a, sign, b, value


def _enough(numbers: Iterable[int], target: int) -> tuple[int, ...] | None:
    """The fewest of the numbers that make the target, None if none do."""
    numbers = sorted(numbers)
    some = (part for size in range(1, len(numbers) + 1) for part in combinations(numbers, size))
    return next((part for part in some if target in makeable(part)), None)


def _derived(numbers: tuple[int, ...], target: int) -> list[str]:
    """Steps that make the target of all these numbers."""
    if len(numbers) == 1:
        return []
    left, right, a, sign, b, _ = next(row for row in _last_steps(numbers) if row[-1] == target)
    return [*_derived(left, a), *_derived(right, b), f"{a} {sign} {b} = {target}"]


# -- writing and reading problems ------------------------------------------------------------------


def generate(n: int, *, levels: Sequence[int] = range(1, 4), seed: int) -> list[Problem]:
    """The first `n` puzzles of a seeded, endless, indexable list, levels drawn uniformly.

    Each has one number more than its level, and needs all of them.
    """
    return [problem_at(i, levels=levels, seed=seed) for i in range(n)]


def problem_at(index: int, *, levels: Sequence[int], seed: int) -> Problem:
    """Puzzle number `index` of the list that `generate` returns; ValueError on a level outside
    1 ... 5."""
    levels = list(levels)
    if not levels or not set(levels) <= set(_LEVELS):
        raise ValueError(f"levels {levels}: use levels from 1 to {_LEVELS[-1]}")
    rng = random.Random(f"countdown/{seed}/{index}")
    level = rng.choice(levels)
    while True:
        numbers = [rng.randint(*_DRAWN) for _ in range(level + 1)]
        whole = tuple(sorted(numbers))
        fewer = (part for size in range(1, level + 1) for part in combinations(whole, size))
        targets = makeable(whole).difference(*map(makeable, fewer)) & set(range(1, LARGEST + 1))
        if targets:
            return _problem(f"countdown/{seed}/{index}", numbers, rng.choice(sorted(targets)))


def countdown_row(row: dict, id: str) -> Problem:
    """A published puzzle, `{"input": "30,100,93", "output": "23"}`: for `benchmarks.load`."""
    return _problem(id, [int(n) for n in row["input"].split(",")], int(row["output"]))


def _problem(id: str, numbers: Sequence[int], target: int) -> Problem:
    """The problem with its shortest solution; without solution and level if there is none."""
    question = f"Make {target} from {', '.join(map(str, numbers))} {_RULES}"
    found = _enough(read_question(question).numbers, target)
    if found is None:
        return Problem(id, "countdown", question, str(target))
    solution = "\n".join([*_derived(found, target), f"The answer is {target}"])
    return Problem(id, "countdown", question, str(target), solution, len(found) - 1)


@lru_cache(maxsize=65536)
def read_question(question: str) -> Puzzle:
    """The puzzle of a question; ValueError if it is none, or has more than six numbers."""
    match = _QUESTION.fullmatch(question)
    said = match[2].split(", ") if match else []
    if not match or not all(re.fullmatch(NUMBER, number) for number in said):
        need = f"'Make <t> from <a>, <b> {_RULES}'"
        raise ValueError(f"no countdown question: {question[:60]!r}, need {need}")
    if len(said) > _MOST:
        raise ValueError(f"{len(said)} numbers in {question[:60]!r}: use at most {_MOST}")
    return Puzzle(int(match[1]), tuple(sorted(map(int, said))))


# -- truth -----------------------------------------------------------------------------------------


class _Game:
    """The numbers that are left on the way, and the answer stated."""

    def __init__(self, problem: Problem):
        self.target, numbers = read_question(problem.question)
        self.left = Counter(numbers)
        self.answer: int | None = None

    def play(self, step: str) -> str | None:
        """Take one step; its fault, None if it is right."""
        if self.answer is not None:
            return "after the answer: the solution had ended"
        if answer := ANSWER.fullmatch(step.strip()):
            self.answer = int(answer[1])
            return self.answer_fault()
        if not (match := _STEP.fullmatch(step.strip())):
            return _FORM
        a, sign, b, said = int(match[1]), match[2], int(match[3]), int(match[4])
        missing, result = Counter([a, b]) - self.left, _result(a, sign, b)
        self.left -= Counter([a, b])
        if missing:
            return f"not yet derivable: no {next(iter(missing))} is left"
        if result is None:
            return f"arithmetic slip: {a} {sign} {b} is no whole number of 0 or more"
        if result != said:
            return f"arithmetic slip: {a} {sign} {b} = {result}, not {said}"
        self.left[said] += 1
        return None

    def answer_fault(self) -> str | None:
        if self.answer != self.target:
            return f"wrong answer line: the target is {self.target}, not {self.answer}"
        return None if self.reached else f"not yet derivable: no step has reached {self.target}"

    @property
    def reached(self) -> bool:
        """Is the answer stated one of the numbers left?"""
        return self.answer is not None and self.left[self.answer] > 0


def _played(problem: Problem, steps: Sequence[str]) -> _Game:
    game = _Game(problem)
    for step in steps:
        game.play(step)
    return game


def explain(problem: Problem, steps: Sequence[str]) -> list[str | None]:
    """For each step None if it is right, else its fault: a kind from `truth.FAULTS`, a colon, what
    was expected."""
    game = _Game(problem)
    return [game.play(step) for step in steps]


def solvable(problem: Problem, steps: Sequence[str]) -> bool:
    """Can the target still be made of the numbers left? After the answer line: is it right?"""
    game = _played(problem, steps)
    if game.answer is not None:
        return game.answer_fault() is None
    return _enough(game.left.elements(), game.target) is not None


def answer_reached(problem: Problem, steps: Sequence[str]) -> str | None:
    """The number of the answer line, None unless right steps lead to it."""
    game = _played(problem, steps)
    return str(game.answer) if game.reached else None
