"""Straight-line programs: what does a variable hold? A second kind under the same exact truth.

"What does t hold after these lines? a = 3; b = a + 4; t = b * 2." Every variable is assigned once,
so a step restates one line and computes: `b = a + 4 : 3 + 4 = 7 .` Lines stand in running order;
level = lines that the answer needs to compute, a few may be dead code. Notebook 00.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache

from workbench.problems import truth
from workbench.problems.truth import NUMBER, Claim, Quantity, Story
from workbench.types import Problem

VARIABLES = "abcdefghijklmnopqrstuvwxyz"
LARGEST = 199
_VALUE = rf"(?:{NUMBER}|([a-z]))"
_QUESTION = re.compile(r"What does ([a-z]) hold after these lines\? (.+)\.")
_GIVEN = re.compile(rf"([a-z]) = {NUMBER}")
_LINE = re.compile(rf"([a-z]) = {_VALUE} ([-+*]) {_VALUE}")


def generate(n: int, *, levels: Sequence[int] = range(1, 7), seed: int) -> list[Problem]:
    """The first `n` programs of a seeded, endless, indexable list, levels drawn uniformly."""
    return [problem_at(i, levels=levels, seed=seed) for i in range(n)]


def problem_at(index: int, *, levels: Sequence[int], seed: int) -> Problem:
    """Program number `index` of that list; ValueError for a level outside 1 ... 8."""
    levels = list(levels)
    if not levels or not set(levels) <= set(range(1, 9)):
        raise ValueError(f"levels {levels}: use levels from 1 to 8")
    rng = random.Random(f"programs/{seed}/{index}")
    level = rng.choice(levels)
    while True:
        names = rng.sample(VARIABLES, level + 4)
        lines = [f"{names[0]} = {rng.randint(2, 60)}", f"{names[1]} = {rng.randint(2, 60)}"]
        lines += [_random_line(rng, names[: i + 2], names[i + 2]) for i in range(level + 2)]
        for asked in names[2:]:
            question = f"What does {asked} hold after these lines? {'; '.join(lines)}."
            story = read_question(question)
            fits = all(1 <= q.value <= LARGEST for q in story.quantities.values())
            if fits and len(gold := story.gold()) == level + 1:
                told = question, str(story.answer), "\n".join(gold), level
                return Problem(f"programs/{seed}/{index}", "programs", *told)


def _random_line(rng: random.Random, known: list[str], name: str) -> str:
    sign = rng.choice("++--*")
    left = known[-1] if rng.random() < 0.6 else rng.choice(known)
    if sign == "*" or rng.random() < 0.5:
        return f"{name} = {left} {sign} {rng.randint(2, 5 if sign == '*' else 40)}"
    return f"{name} = {left} {sign} {rng.choice(known)}"


@lru_cache(maxsize=65536)
def read_question(question: str) -> Story:
    """Run a program; raises ValueError naming the line that cannot be read or run."""
    match = _QUESTION.fullmatch(question)
    if not match:
        needed = "'What does <v> hold after these lines? ...'"
        raise ValueError(f"no programs question: {question[:60]!r}, need {needed}")
    quantities: dict[str, Quantity] = {}
    for line in match[2].split("; "):
        name = line[:1]
        if name in quantities:
            raise ValueError(f"{name!r} is assigned twice in {question[:60]!r}")
        quantities[name] = _run(line, quantities)
    if match[1] not in quantities:
        raise ValueError(f"{match[1]!r} is never assigned in {question[:60]!r}")
    return Story(match[1], quantities)


def _run(line: str, done: dict[str, Quantity]) -> Quantity:
    """One line of the interpreter."""
    if given := _GIVEN.fullmatch(line):
        return Quantity(int(given[2]), line)
    match = _LINE.fullmatch(line)
    of = tuple(v for v in match.group(3, 6) if v) if match else ()
    if not match or not set(of) <= set(done):
        needed = "'<v> = <number>' or '<v> = <x> <sign> <y>', x and y known"
        raise ValueError(f"cannot run line {line!r}: need {needed}")
    sign, pairs = match[4], (match.group(2, 3), match.group(5, 6))
    left, right = (done[v].value if v else int(number) for number, v in pairs)
    value = {"+": left + right, "-": left - right, "*": left * right}[sign]
    return Quantity(value, line, of, left, sign, right)


def read_step(story: Story, step: str) -> Claim | None:
    """A step taken apart, None if it is malformed."""

    def clause_of(text: str) -> tuple[str, bool] | None:
        if not _LINE.fullmatch(text):
            return None
        known = story.quantities.get(text[0])
        return text[0], known is not None and _meaning(text) == _meaning(known.relation)

    return truth.read_step(step, clause_of)


def _meaning(line: str) -> tuple:
    name, _, left, *rest = line.split()
    if not rest:
        return (name, left)
    sign, right = rest
    return name, sign, (left, right) if sign == "-" else tuple(sorted((left, right)))


def explain(problem: Problem, steps: Sequence[str]) -> list[str | None]:
    """For each step None if it is right, else its kind of fault, a colon, and what was expected."""
    return truth.explain(read_question(problem.question), steps, read_step)


def solvable(problem: Problem, steps: Sequence[str]) -> bool:
    """False iff a wrong value stands for what the answer needs, or the answer line is wrong."""
    return truth.solvable(read_question(problem.question), steps, read_step)
