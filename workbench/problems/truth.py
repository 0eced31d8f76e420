"""Exact truth of a step, defined once for every embedded kind of problem.

A kind reads its question into a `Story` (which quantities there are and how each is computed) and a
step into a `Claim` (what it says about one of them). The rules stand here: a step is right if it
states a quantity not stated before, by its relation, from quantities already known, with the right
operands and result. The first value stated for a quantity stands; every step that builds on a wrong
one is wrong. `solvable` is false if and only if a wrong value stands for a quantity that the answer
needs, or the answer line is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FAULTS = (
    "malformed", "after the answer", "restated", "wrong relation", "not yet derivable",
    "wrong value carried", "arithmetic slip", "wrong answer line",
)  # fmt: skip
# no other script's digits and no endless ones: int() takes the first, not the second
NUMBER = r"(0|[1-9][0-9]{0,99})"
COMPUTATION = re.compile(rf"{NUMBER} ([-+*]) {NUMBER} = {NUMBER}(?: ?\.)?")
ANSWER = re.compile(rf"The answer is {NUMBER}(?: ?\.)?")


@dataclass(frozen=True)
class Quantity:
    """Given outright (`sign` None), or `left sign right = value` from those named in `of`."""

    value: int
    relation: str  # in words, as the question says it
    of: tuple[str, ...] = ()
    left: int = 0
    sign: str | None = None
    right: int = 0


@dataclass(frozen=True)
class Story:
    """A question taken apart: its quantities, as the text has them, and the one asked for."""

    asked: str
    quantities: dict[str, Quantity]

    @property
    def answer(self) -> int:
        return self.quantities[self.asked].value

    @property
    def needed(self) -> set[str]:
        """Names whose quantity the answer depends on, the asked one included."""
        found, todo = set(), [self.asked]
        while todo:
            if (name := todo.pop()) not in found:
                found.add(name)
                todo += self.quantities[name].of
        return found

    def gold(self) -> list[str]:
        """The gold solution: of the needed facts that can be computed the first that goes on from
        the newest result, else the first of the text; and so on up to the answer."""
        needed = self.needed
        todo = {n: q for n, q in self.quantities.items() if q.sign and n in needed}
        lines, newest = [], None
        while todo:
            ready = [n for n, q in todo.items() if not set(q.of) & set(todo)]
            newest = next((n for n in ready if newest in todo[n].of), ready[0])
            q = todo.pop(newest)
            lines.append(f"{q.relation} : {q.left} {q.sign} {q.right} = {q.value} .")
        return [*lines, f"The answer is {self.answer} ."]


@dataclass(frozen=True)
class Claim:
    """A step taken apart: whose quantity, whether it restates the relation, its computation."""

    name: str
    same_relation: bool
    left: int
    sign: str
    right: int
    value: int


ReadStep = Callable[[Story, str], Claim | None]


def read_step(step: str, clause_of: Callable[[str], tuple[str, bool] | None]) -> Claim | None:
    """`<clause> : <a> <sign> <b> = <c> .` as a claim, read by `clause_of`; None if malformed."""
    clause, _, rest = step.strip().partition(" : ")
    said, computation = clause_of(clause), COMPUTATION.fullmatch(rest)
    if said is None or not computation:
        return None
    left, sign, right, value = computation.groups()
    return Claim(*said, int(left), sign, int(right), int(value))


def explain(story: Story, steps: Sequence[str], read: ReadStep) -> list[str | None]:
    """For each step None if it is right, else its fault: one of `FAULTS`, a colon, what was due."""
    standing = _givens(story)
    reasons, answered = [], False
    for step in steps:
        answer, claim = ANSWER.fullmatch(step.strip()), read(story, step)
        if answered:
            reasons.append("after the answer: the solution had ended")
        elif answer:
            reasons.append(_answer_fault(story, standing, int(answer[1])))
            answered = True
        elif claim is None:
            reasons.append("malformed: not of the form '<relation> : <a> <sign> <b> = <c> .'")
        else:
            reasons.append(_fault(story, standing, claim))
            standing.setdefault(claim.name, claim.value)
    return reasons


def solvable(story: Story, steps: Sequence[str], read: ReadStep) -> bool:
    """Can the answer still be reached by right steps from here?"""
    standing = _givens(story)
    right_answer = True
    for step in steps:
        if answer := ANSWER.fullmatch(step.strip()):
            right_answer = int(answer[1]) == story.answer
            break
        if claim := read(story, step):
            standing.setdefault(claim.name, claim.value)
    known = story.quantities
    wrong = [n for n, value in standing.items() if n in known and value != known[n].value]
    return right_answer and not story.needed.intersection(wrong)


def _givens(story: Story) -> dict[str, int]:
    return {name: q.value for name, q in story.quantities.items() if q.sign is None}


def _answer_fault(story: Story, standing: dict[str, int], value: int) -> str | None:
    if value != story.answer:
        return f"wrong answer line: the answer is {story.answer}, not {value}"
    if story.asked not in standing:
        return f"not yet derivable: no step has stated {story.asked}"
    said = standing[story.asked]
    return None if said == value else f"wrong answer line: {said} was derived"


def _fault(story: Story, standing: dict[str, int], claim: Claim) -> str | None:
    """The first fault of one claim, in the order of `FAULTS`."""
    q, said = story.quantities.get(claim.name), f"{claim.left} {claim.sign} {claim.right}"
    if claim.name in standing:
        return f"restated: {claim.name} stands at {standing[claim.name]} already"
    if q is None:
        return f"wrong relation: the question says nothing of {claim.name}"
    if not claim.same_relation or claim.sign != q.sign:
        return f"wrong relation: the question says '{q.relation}', which is {q.sign}"
    if unknown := [name for name in q.of if name not in standing]:
        return f"not yet derivable: no step has stated {unknown[0]}"
    if wrong := [name for name in q.of if standing[name] != story.quantities[name].value]:
        known = story.quantities[wrong[0]].value
        return f"wrong value carried: {wrong[0]} is {known}, not {standing[wrong[0]]}"
    operands = (claim.left, claim.right)
    if operands != (q.left, q.right) and (q.sign == "-" or operands != (q.right, q.left)):
        return f"wrong value carried: need {q.left} {q.sign} {q.right}, not {said}"
    slip = f"arithmetic slip: {said} = {q.value}, not {claim.value}"
    return None if claim.value == q.value else slip
