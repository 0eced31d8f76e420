"""Exact truth of free-text steps: which quantity does an equation compute, and is it right?

A number in a step is read as every given or stated quantity of that value, and as itself; the
expression then is the quantity of the `Plot` (or the part of its answer) with which it agrees
whatever the numbers of the question were: `story_plot.py`. The rules are those of `truth.py`: the
first value stated for a quantity stands, and what builds on a wrong one is wrong.

Deviations from there: a step that can't be read by its operands is held for the unstated quantity
that it misses by one number or one sign, or else whose value it states. Results are exact:
`10 / 3 = 3.33` is an arithmetic slip. Taught in notebook 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from workbench.problems.equations import (
    COMPUTE,
    Equation,
    Tree,
    leaves,
    number_text,
    read_equations,
    tree_text,
    values,
)
from workbench.problems.grading import extract_answer, value_of
from workbench.problems.story_plot import Both, Plot, combine, residue

STORY_FAULTS = (
    "malformed", "after the answer", "restated", "wrong operands", "not yet derivable",
    "wrong value carried", "arithmetic slip", "wrong answer line",
)  # fmt: skip
MOST_READINGS = 4096
STATED = re.compile(r"\banswer\W{0,4}(?:is\b|:|=)|\\boxed|\\fbox|####|^\s*A:", re.I)
ANSWER_LINE = re.compile(
    r"The answer is:? ?(-?)\$?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})(\.[0-9]{1,6})?%?(?: ?\.)?"
)


@dataclass
class _Ledger:
    """What has been stated. A step that may be two quantities, since numbers are equal, is one of
    them and makes way (`owner`, a matching) where a later step can only be that one."""

    plot: Plot
    claims: list[tuple[Sequence[int], Fraction]] = field(default_factory=list)
    owner: dict[int, int] = field(default_factory=dict)  # residue -> number of its claim
    read: dict[int, Fraction] = field(default_factory=dict)  # by any claim, also a possible one

    @property
    def stated(self) -> dict[int, Fraction]:
        return {point: self.claims[i][1] for point, i in self.owner.items()}

    def state(self, points: Sequence[int], value: Fraction) -> bool:
        """Enter a claim about one of these residues; False if all of them are taken."""
        self.claims.append((points, value))
        if not self._place(len(self.claims) - 1, set()):
            self.claims.pop()
            return False
        for point in points:
            self.read.setdefault(point, value)
        return True

    def _place(self, claim: int, seen: set[int]) -> bool:
        for point in self.claims[claim][0]:
            if point not in seen:
                seen.add(point)
                if point not in self.owner or self._place(self.owner[point], seen):
                    self.owner[point] = claim
                    return True
        return False

    def right(self, point: int) -> bool:
        name = self.plot.names.get(point)
        known = self.plot.truth[name][0] if name else self.plot.parts[point]
        return self.read[point] == known

    def numbers(
        self, *, wrong: bool = False, ahead: Iterable[str] = ()
    ) -> dict[Fraction, set[int]]:
        """Value -> residues that a number may be: given, stated right; also wrong, and `ahead`."""
        found: dict[Fraction, set[int]] = {}
        for value, point in self.plot.symbols:
            found.setdefault(value, set()).add(point)
        for point, value in self.read.items():
            if wrong or self.right(point):
                found.setdefault(value, set()).add(point)
        for value, point in (self.plot.truth[name] for name in ahead):
            found.setdefault(value, set()).add(point)
        return found

    def wrong_names(self) -> set[str]:
        """Quantities for which a wrong value stands."""
        named = [(self.plot.names[p], v) for p, v in self.stated.items() if p in self.plot.names]
        return {name for name, value in named if value != self.plot.truth[name][0]}


def _readings(
    tree: Tree, numbers: dict[Fraction, set[int]], constants: set[Fraction] | None = None
) -> set[Both]:
    """All that an expression may mean: value as written, and residue. With `constants`, these alone
    of the story's numbers are plain ones."""
    if tree == _ANY:
        return {(value, p) for value, points in numbers.items() for p in points}
    if isinstance(tree, Fraction):
        found = {(tree, point) for point in numbers.get(tree, ())}
        plain = constants is None or tree in constants or not found
        return found | {(tree, residue(tree))} if plain else found
    if len(tree) == 2:
        hundredth = Fraction(1, 100), residue(Fraction(1, 100))
        whole = _readings(tree[1], numbers, constants)
        return whole | {combine("*", both, hundredth) for both in whole}
    lefts, rights = (_readings(part, numbers, constants) for part in tree[1:])
    found = set()
    for left, right in product(lefts, rights):
        if (both := combine(tree[0], left, right)) is not None:
            found.add(both)
        if len(found) >= MOST_READINGS:
            break
    return found


def judge_steps(plot: Plot, steps: Sequence[str]) -> tuple[list[str | None], bool]:
    """For each step None or its fault, and whether the answer can still be reached."""
    ledger, reasons, right_answer = _Ledger(plot), [], None
    for step in steps:
        if not step.strip():  # a blank line says nothing wrong
            reasons.append(None)
            continue
        if right_answer is not None:
            reasons.append("after the answer: the solution had ended")
            continue
        faults = [_fault(ledger, equation) for equation in read_equations(step)]
        if (answer := read_answer(step)) is not None:
            right_answer = answer == plot.truth[plot.asked][0]
            faults.append(_answer_fault(ledger, answer))
        faults = faults or ["malformed: no equation such as '22 - 14 = 8'"]
        reasons.append(next((fault for fault in faults if fault), None))
    return reasons, right_answer is not False and not ledger.wrong_names()


def read_answer(step: str) -> Fraction | None:
    r"""The number of an answer line, None if the step is none.

    >>> read_answer("The answer is $1,200.50."), read_answer("It is 3")
    (Fraction(2401, 2), None)
    >>> read_answer("So the answer is 26 apples."), read_answer(r"It is \boxed{26}")
    (Fraction(26, 1), Fraction(26, 1))
    """
    if match := ANSWER_LINE.fullmatch(step.strip()):
        return Fraction("".join(match.groups(default="")).replace(",", ""))
    # as the grader reads it, but for the last number, which need not be stated as the answer
    stated = extract_answer(f"{step}\n0") if STATED.search(step) else None
    return value_of(stated) if stated and stated == extract_answer(f"{step}\n1") else None


def _answer_fault(ledger: _Ledger, answer: Fraction) -> str | None:
    plot = ledger.plot
    value, point = plot.truth[plot.asked]
    if answer != value:
        return f"wrong answer line: the answer is {number_text(value)}, not {number_text(answer)}"
    if point not in ledger.read:
        return f"not yet derivable: no step has stated {plot.computation(plot.asked)}"
    said = ledger.read[point]
    return None if said == value else f"wrong answer line: {number_text(said)} was derived"


def _fault(ledger: _Ledger, equation: Equation) -> str | None:
    """The fault of one equation; what it states is entered into the ledger."""
    plot, result = ledger.plot, equation.result
    known = _matches(ledger, equation, ledger.numbers())
    if not known:
        return _wrong_operands(ledger, equation)
    fresh = [both for both in known if both[1] not in ledger.stated]
    value, point = (fresh or known)[0]
    same = [p for v, p in known if v == value] if value in result else [p for _, p in fresh[:1]]
    if not ledger.state(same, _said(value, result)):
        stands = number_text(ledger.stated[point])
        return f"restated: {tree_text(equation.tree)} stands at {stands} already"
    name = plot.names.get(point)
    if name and (wrong := ledger.wrong_names() & (plot.needs(name) - {name})):
        return _carried(ledger, min(wrong, key=list(plot.formulas).index))
    return _slip(equation, value)


def _matches(ledger: _Ledger, equation: Equation, numbers: dict[Fraction, set[int]]) -> list[Both]:
    """Readings that are a quantity or a part of the answer: those that the result says first, then
    in the order of the plot. That a number of the story is meant as a plain one is thought of
    last: of `60 / 5` as 20% of 60, where there are also 5 friends."""
    strict = _readings(equation.tree, numbers, ledger.plot.constants)
    known = _known(ledger, equation, strict)
    return known or _known(ledger, equation, _readings(equation.tree, numbers))


def _known(ledger: _Ledger, equation: Equation, found: set[Both]) -> list[Both]:
    plot, said = ledger.plot, equation.result
    # of plain numbers alone, such as 100 - 20, only those that the story itself has
    plain = plot.constants | {v for point, v in ledger.read.items() if point == residue(v)}
    bare = all(leaf in plain for leaf in leaves(equation.tree))
    order = {point: i for i, point in enumerate(reversed(plot.names))}
    known = [both for both in found if both[1] in order]
    if not any(point not in ledger.stated for _, point in known):  # parts are many: looked at last
        parts = (both for both in found if both[1] in plot.parts and both[1] not in order)
        known += [(value, point) for value, point in parts if bare or point != residue(value)]
    known.sort(key=lambda both: (both[0] not in said, order.get(both[1], len(order)), both[1]))
    return known


def _said(value: Fraction, result: set[Fraction]) -> Fraction:
    """What stands afterwards: the value itself if the result may be read so."""
    return value if value in result or not result else min(result, key=lambda r: abs(r - value))


def _slip(equation: Equation, value: Fraction) -> str | None:
    wrong = [side for side in equation.said if value not in values(side)]
    if not wrong:
        return None
    said = tree_text(equation.tree)
    return f"arithmetic slip: {said} is {number_text(value)}, not {tree_text(wrong[0])}"


def _carried(ledger: _Ledger, name: str) -> str:
    plot = ledger.plot
    value, point = plot.truth[name]
    stands = number_text(ledger.stated[point])
    return f"wrong value carried: {plot.computation(name)} is {number_text(value)}, not {stands}"


def _wrong_operands(ledger: _Ledger, equation: Equation) -> str:
    """The fault of an equation that right numbers don't explain."""
    plot = ledger.plot
    for ahead in ((), plot.formulas):
        numbers = ledger.numbers(wrong=True, ahead=ahead)
        if known := _matches(ledger, equation, numbers):
            fresh = [both for both in known if both[1] not in ledger.stated]
            value, point = (fresh or known)[0]
            ledger.state([point], _said(value, equation.result))
            return _not_derivable(ledger, equation, point)
    said = tree_text(equation.tree)
    if (name := _nearest(ledger, equation)) is None:
        return f"wrong operands: the question asks for no {said}"
    ledger.state([plot.truth[name][1]], _said(plot.truth[name][0], equation.result))
    return f"wrong operands: need {plot.computation(name)}, not {said}"


def _not_derivable(ledger: _Ledger, equation: Equation, point: int) -> str:
    """Which number came too early, or stands wrong."""
    plot, name = ledger.plot, ledger.plot.names.get(point)
    needed = plot.needs(name) - {name} if name else set(plot.formulas)
    wrong = [n for n in plot.formulas if n in needed & ledger.wrong_names()]
    if wrong:
        return _carried(ledger, wrong[0])
    used = set(leaves(equation.tree))
    ahead = [n for n in plot.formulas if plot.truth[n][1] not in ledger.stated]
    ahead.sort(key=lambda n: n not in needed)  # those it rests on first
    missing = [n for n in ahead if plot.truth[n][0] in used]
    if missing:
        return f"not yet derivable: no step has stated {plot.computation(missing[0])}"
    return f"wrong value carried: a wrong number stands in {tree_text(equation.tree)}"


_ANY = ("any",)


def _nearest(ledger: _Ledger, equation: Equation) -> str | None:
    """The unstated quantity that it misses by a number or sign, else one whose value it states."""
    plot = ledger.plot
    todo = [n for n in plot.formulas if plot.truth[n][1] not in ledger.stated]
    for name in todo:
        numbers = ledger.numbers(wrong=True, ahead=plot.needs(name) - {name})
        for number in plot.constants:
            numbers.setdefault(number, set()).add(residue(number))
        readings = (_readings(edited, numbers) for edited in _edits(equation.tree))
        if any(point == plot.truth[name][1] for row in readings for _, point in row):
            return name
    return next((n for n in todo if plot.truth[n][0] in equation.result), None)


def _edits(tree: Tree) -> Iterator[Tree]:
    """The tree with one number open, or another sign."""
    if isinstance(tree, Fraction):
        yield _ANY
        return
    if len(tree) == 3:
        yield from ((sign, *tree[1:]) for sign in COMPUTE if sign != tree[0])
    for i in range(1, len(tree)):
        yield from ((*tree[:i], edited, *tree[i + 1 :]) for edited in _edits(tree[i]))
