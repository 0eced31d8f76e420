"""Files of records, and a second reader of the embedded questions, free of the package's."""

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from workbench.types import Problem

SIGN = {"more": "+", "fewer": "-", "times": "*", "together": "+", "difference": "-"}


@dataclass(frozen=True)
class Fact:
    """One sentence or line: its words, whom it is about and uses, and its computation (`sign` None:
    given outright)."""

    words: str
    name: str
    relation: str  # more, fewer, times, together, difference, given; in a program the sign
    number: int | None
    of: tuple[str, ...]
    left: int
    sign: str | None
    right: int
    value: int

    @property
    def step(self) -> str:
        return f"{self.words} : {self.left} {self.sign} {self.right} = {self.value} ."


@dataclass(frozen=True)
class Reading:
    """All facts by name in the order of the text, and who is asked for."""

    asked: str
    facts: dict[str, Fact]

    @property
    def answer(self) -> int:
        return self.facts[self.asked].value

    @property
    def derived(self) -> list[str]:
        return [name for name, fact in self.facts.items() if fact.sign]

    def needs(self, name: str) -> set[str]:
        """`name` and everything that it rests on."""
        return {name}.union(*(self.needs(other) for other in self.facts[name].of))


def read_by_hand(problem: Problem, pinned: Mapping[str, int] | None = None) -> Reading:
    """The facts of a question; `pinned` fixes the value of some names, and what builds on them
    follows."""
    return (_read_people if problem.kind == "quantities" else _run_program)(
        problem.question, pinned or {}
    )


def _read_people(question: str, pinned: Mapping[str, int]) -> Reading:
    head, *sentences = (s.strip() for s in re.split(r"[?.]", question) if s.strip())
    told = {sentence.split()[0]: sentence.split() for sentence in sentences}
    facts: dict[str, Fact] = {}

    def fact(name: str) -> Fact:
        if name not in facts:
            words = told[name]
            relation = next((word for word in words if word in SIGN), "given")
            of = tuple(word for word in words[1:] if word in told)
            number = next((int(word) for word in words if word.isdigit()), None)
            numbers = [fact(other).value for other in of]
            if relation == "difference":
                numbers.sort(reverse=True)
            if number is not None:
                numbers = [number, *numbers] if relation == "times" else [*numbers, number]
            facts[name] = _computed(
                words, name, relation, number, of, SIGN.get(relation), numbers, pinned
            )
        return facts[name]

    return Reading(head.split()[4], {name: fact(name) for name in told})


def _run_program(question: str, pinned: Mapping[str, int]) -> Reading:
    head, body = question.removesuffix(".").split("? ")
    memory: dict[str, int] = {}
    facts = {}
    for line in body.split("; "):
        name, _, *right_side = words = line.split()
        # python itself runs the program
        numbers = [eval(word, {}, memory) for word in right_side[::2]]
        of = tuple(word for word in right_side if word.isalpha())
        number = next((int(word) for word in right_side if word.isdigit()), None)
        sign = right_side[1] if len(right_side) > 1 else None
        facts[name] = _computed(words, name, sign or "given", number, of, sign, numbers, pinned)
        memory[name] = facts[name].value
    return Reading(head.split()[2], facts)


def _computed(words, name, relation, number, of, sign, numbers, pinned) -> Fact:
    left, right = numbers if sign else (numbers[0], 0)
    value = pinned.get(
        name, {None: left, "+": left + right, "-": left - right, "*": left * right}[sign]
    )
    return Fact(" ".join(words), name, relation, number, of, left, sign, right, value)


@pytest.fixture(scope="session")
def read():
    return read_by_hand


@pytest.fixture(scope="session")
def save():
    """Write rows (objects, or lines as text) to a JSONL file, packed if .gz; returns its path."""

    def save(path, *rows):
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path

    return save


@pytest.fixture
def samples(real_data):
    return real_data / "process_label_samples"
