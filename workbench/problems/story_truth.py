"""Exact truth of free-text steps: which quantity does an equation compute, and is it right?

A `Plot` knows the numbers of a question and how each quantity is computed from them. Two
expressions mean the same if they agree **whatever the numbers of the question were**: each given
number gets a random residue modulo the prime 2**61 - 1 beside its value, expressions are computed
in both (Schwartz 1980, Zippel 1979), and equal residues are equal formulas, but for a chance of
one in 10**16 or so. So any order, any brackets and merged steps are right, and a right result from
wrong operands is not. A number in a step is read as every given or stated quantity of that value,
and as itself; percentages and number words (`twice`, `a third`) count by their value, so that 20%
off is `* 20 / 100`, `* 0.2`, `/ 5` or, merged, `* 0.8`.

Beside the quantities of the plot a step may compute a **part** of the answer: a sum of some of its
terms, with factors that they share taken out (`50 - 12`, then `38 - 20`, for `50 - (12 + 20)`).

Deviations from `truth.py`: a step that can't be read by its operands is held for the unstated
quantity that it misses by one number or one sign, or else whose value it states; and of equal
readings the first in the order of the plot is taken as stated. Results are exact: `10 / 3 = 3.33`
is an arithmetic slip.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b
from itertools import combinations, product

from workbench.problems.equations import (
    COMPUTE,
    Equation,
    Tree,
    leaves,
    number_text,
    put,
    read_equations,
    show,
    values,
)

PRIME = 2**61 - 1
STORY_FAULTS = (
    "malformed", "after the answer", "restated", "wrong operands", "not yet derivable",
    "wrong value carried", "arithmetic slip", "wrong answer line",
)  # fmt: skip
MOST_READINGS = 4096
MOST_TERMS = 8  # of which every subset may be a part
ANSWER_LINE = re.compile(
    r"The answer is:? ?(-?)\$?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})(\.[0-9]{1,6})?%?(?: ?\.)?"
)
Both = tuple[Fraction, int]  # a value, and its residue with random numbers in place of the given
Term = tuple[tuple[Fraction, int, bool], ...]  # factors; True: it was divided by


def residue(value: Fraction) -> int:
    """The residue of a plain number."""
    return value.numerator * pow(value.denominator, -1, PRIME) % PRIME


def combine(sign: str, left: Both, right: Both) -> Both | None:
    """Compute in both; None where it would divide by zero."""
    if sign != "/":
        return COMPUTE[sign](left[0], right[0]), COMPUTE[sign](left[1], right[1]) % PRIME
    if not right[0] or not right[1]:
        return None
    return left[0] / right[0], left[1] * pow(right[1], -1, PRIME) % PRIME


@dataclass(frozen=True)
class Plot:
    """The numbers of a question (`given`; those in `plain` count by their value alone), and each
    quantity's formula in an order in which it can be computed; the last one is asked for."""

    given: dict[str, Fraction]
    formulas: dict[str, Tree]
    plain: frozenset[str] = frozenset()

    @property
    def asked(self) -> str:
        return next(reversed(self.formulas))

    @cached_property
    def truth(self) -> dict[str, Both]:
        """Value and residue of every name. Raises ValueError where a formula divides by zero."""
        found = {
            name: (value, residue(value) if name in self.plain else _random(name))
            for name, value in self.given.items()
        }
        for name, tree in self.formulas.items():
            if (both := _compute(tree, found)) is None:
                raise ValueError(f"{name} = {show(tree)} divides by zero")
            found[name] = both
        return found

    @cached_property
    def names(self) -> dict[int, str]:
        """Residue -> the quantity that it is."""
        return {self.truth[name][1]: name for name in reversed(self.formulas)}

    @cached_property
    def parts(self) -> dict[int, Fraction]:
        """Residue -> value of every part of the answer that is above zero."""
        found: dict[int, Fraction] = {}
        todo = [self._terms(self.asked)]
        for denominator in self._denominators(self.asked):
            todo.append(self._terms(denominator))
        for terms in todo:
            for value, point in _parts(terms):
                if value:
                    found[point if value > 0 else -point % PRIME] = abs(value)
        return {p: v for p, v in found.items() if p not in {b[1] for b in self._symbols}}

    @property
    def _symbols(self) -> list[Both]:
        return [self.truth[name] for name in self.given if name not in self.plain]

    @cached_property
    def constants(self) -> set[Fraction]:
        """Plain numbers that a step may use on their own: of formulas, and plain given ones."""
        numbers = {leaf for tree in self.formulas.values() for leaf in leaves(tree)}
        plain = {self.given[name] for name in self.given if name in self.plain}
        return {Fraction(1), Fraction(100), *plain} | {n for n in numbers if not isinstance(n, str)}

    def computation(self, name: str) -> str:
        """`22 - 14`, the numbers of a quantity's formula."""
        return show(put(self.formulas[name], {n: both[0] for n, both in self.truth.items()}))

    def gold(self) -> list[str]:
        """One equation a quantity, and the answer line."""
        lines = [
            f"{self.computation(name)} = {number_text(self.truth[name][0])}"
            for name in self.formulas
        ]
        return [*lines, f"The answer is {number_text(self.truth[self.asked][0])}"]

    def needs(self, name: str) -> set[str]:
        """The quantities that one rests on, itself included."""
        of = [leaf for leaf in leaves(self.formulas[name]) if leaf in self.formulas]
        return {name}.union(*(self.needs(other) for other in of))

    def _terms(self, tree: Tree) -> list[Term]:
        """A formula as a sum of products of given numbers and constants."""
        if isinstance(tree, str) and tree in self.formulas:
            return self._terms(self.formulas[tree])
        if not isinstance(tree, tuple):
            both = self.truth[tree] if isinstance(tree, str) else (tree, residue(tree))
            return [((*both, False),)]
        sign, left, right = tree
        terms, others = self._terms(left), self._terms(right)
        if sign == "-":
            others = [(*term, (Fraction(-1), PRIME - 1, False)) for term in others]
        if sign in "+-":
            return terms + others
        if sign == "/":
            whole = _compute(right, self.truth)
            single = others[0] if len(others) == 1 else ((*whole, False),)
            others = [tuple((1 / v, pow(p, -1, PRIME), True) for v, p, _ in single)]
        return [a + b for a in terms for b in others]

    def _denominators(self, tree: Tree) -> Iterator[Tree]:
        """What is divided by in a formula and in all that it rests on."""
        if isinstance(tree, str) and tree in self.formulas:
            yield from self._denominators(self.formulas[tree])
        elif isinstance(tree, tuple):
            if tree[0] == "/":
                yield tree[2]
            for part in tree[1:]:
                yield from self._denominators(part)


def _random(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") % PRIME


def _compute(tree: Tree, names: dict[str, Both]) -> Both | None:
    if isinstance(tree, str):
        return names[tree]
    if isinstance(tree, Fraction):
        return tree, residue(tree)
    left, right = (_compute(part, names) for part in tree[1:])
    return None if left is None or right is None else combine(tree[0], left, right)


def _parts(terms: list[Term]) -> Iterator[Both]:
    """Sums of some of the terms without some of the factors that they share, also multiplied by
    what they are divided by; of a single term products of two factors or more."""
    sizes = range(1, len(terms) + 1) if len(terms) <= MOST_TERMS else (1, 2, len(terms))
    for some in (some for size in sizes for some in combinations(terms, size)):
        shared = Counter(some[0])
        for term in some[1:]:
            shared &= Counter(term)
        for out in _sub_multisets(shared):
            rest = [Counter(term) - out for term in some]
            if len(some) == 1 and sum(n for f, n in rest[0].items() if abs(f[0]) != 1) < 2:
                continue
            yield _sum_of(rest)
            divided = Counter()
            for term in rest:
                divided |= Counter({f: n for f, n in term.items() if f[2]})
            if divided:
                times = Counter({(1 / v, pow(p, -1, PRIME), False): n
                                 for (v, p, _), n in divided.items()})  # fmt: skip
                yield _sum_of([term + times for term in rest])


def _sub_multisets(of: Counter) -> Iterator[Counter]:
    for counts in product(*(range(n + 1) for n in of.values())):
        yield Counter(dict(zip(of, counts)))


def _sum_of(terms: Iterable[Counter]) -> Both:
    value, point = Fraction(0), 0
    for term in terms:
        v, p = Fraction(1), 1
        for factor in term.elements():
            v, p = v * factor[0], p * factor[1] % PRIME
        value, point = value + v, (point + p) % PRIME
    return value, point


# -- judging steps ---------------------------------------------------------------------------------


@dataclass
class _Ledger:
    """What has been stated: residue -> value; `read` holds also what an ambiguous step may have
    stated."""

    plot: Plot
    stated: dict[int, Fraction] = field(default_factory=dict)
    read: dict[int, Fraction] = field(default_factory=dict)

    def state(self, points: Sequence[int], value: Fraction) -> None:
        self.stated.setdefault(points[0], value)
        for point in points:
            self.read.setdefault(point, value)

    def right(self, point: int) -> bool:
        name = self.plot.names.get(point)
        known = self.plot.truth[name][0] if name else self.plot.parts[point]
        return self.read[point] == known

    def numbers(
        self, *, wrong: bool = False, ahead: Iterable[str] = ()
    ) -> dict[Fraction, set[int]]:
        """Value -> residues that a number may be read as: given, stated right; on demand also
        stated wrong, and quantities that are `ahead` of what is stated."""
        found: dict[Fraction, set[int]] = {}
        for value, point in self.plot._symbols:
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


def _readings(tree: Tree, numbers: dict[Fraction, set[int]]) -> set[Both]:
    """All that an expression may mean: value as written, and residue."""
    if tree == _ANY:
        return {(value, p) for value, points in numbers.items() for p in points}
    if isinstance(tree, Fraction):
        return {(tree, residue(tree)), *((tree, point) for point in numbers.get(tree, ()))}
    if len(tree) == 2:
        hundredth = Fraction(1, 100), residue(Fraction(1, 100))
        whole = _readings(tree[1], numbers)
        return whole | {combine("*", both, hundredth) for both in whole}
    lefts, rights = (_readings(part, numbers) for part in tree[1:])
    found: set[Both] = set()
    for left, right in product(lefts, rights):
        if (both := combine(tree[0], left, right)) is not None:
            found.add(both)
        if len(found) >= MOST_READINGS:
            break
    return found


def judge(plot: Plot, steps: Sequence[str]) -> tuple[list[str | None], bool]:
    """For each step None or its fault, and whether the answer can still be reached."""
    ledger, reasons, right_answer = _Ledger(plot), [], None
    for step in steps:
        answer = read_answer(step)
        if right_answer is not None:
            reasons.append("after the answer: the solution had ended")
        elif answer is not None:
            right_answer = answer == plot.truth[plot.asked][0]
            reasons.append(_answer_fault(ledger, answer))
        elif equations := read_equations(step):
            faults = [_fault(ledger, equation) for equation in equations]
            reasons.append(next((fault for fault in faults if fault), None))
        else:
            reasons.append("malformed: no equation such as '22 - 14 = 8'")
    return reasons, right_answer is not False and not ledger.wrong_names()


def read_answer(step: str) -> Fraction | None:
    """The number of an answer line, None if the step is none.

    >>> read_answer("The answer is $1,200.50."), read_answer("It is 3")
    (Fraction(2401, 2), None)
    """
    match = ANSWER_LINE.fullmatch(step.strip())
    return Fraction("".join(match.groups(default="")).replace(",", "")) if match else None


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
    fresh, old = _matches(ledger, equation, ledger.numbers())
    if fresh:
        name, value = plot.names.get(fresh[0][1]), _said(fresh[0][0], result)
        ledger.state([point for _, point in fresh], value)
        if name and (wrong := ledger.wrong_names() & (plot.needs(name) - {name})):
            return _carried(ledger, min(wrong, key=list(plot.formulas).index))
        return _slip(equation, fresh[0][0])
    if old:
        said = show(equation.tree)
        return f"restated: {said} stands at {number_text(ledger.stated[old[0][1]])} already"
    return _wrong_operands(ledger, equation)


def _matches(ledger: _Ledger, equation: Equation, numbers) -> tuple[list[Both], list[Both]]:
    """Readings that are a quantity or a part of the answer: not yet stated, and stated; those that
    the result says first, then in the order of the plot."""
    plot, said = ledger.plot, equation.result
    found = _readings(equation.tree, numbers)
    bare = all(leaf in plot.constants or leaf in numbers for leaf in leaves(equation.tree))
    order = {point: i for i, point in enumerate(reversed(plot.names))}
    known = [both for both in found if both[1] in order]
    if not any(point not in ledger.stated for _, point in known):  # parts are many: looked at last
        known += [
            (value, point)
            for value, point in found
            if point in plot.parts and point not in order and (bare or point != residue(value))
        ]
    known.sort(key=lambda both: (both[0] not in said, order.get(both[1], len(order)), both[1]))
    fresh = [both for both in known if both[1] not in ledger.stated]
    return fresh, [both for both in known if both[1] in ledger.stated]


def _said(value: Fraction, result: set[Fraction]) -> Fraction:
    """What stands afterwards: the value itself if the result may be read so."""
    return value if value in result or not result else min(result, key=lambda r: abs(r - value))


def _slip(equation: Equation, value: Fraction) -> str | None:
    wrong = [side for side in equation.said if value not in values(side)]
    if not wrong:
        return None
    return f"arithmetic slip: {show(equation.tree)} is {number_text(value)}, not {show(wrong[0])}"


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
        fresh, old = _matches(ledger, equation, numbers)
        if fresh:
            ledger.state([fresh[0][1]], _said(fresh[0][0], equation.result))
        if fresh or old:
            return _not_derivable(ledger, equation, (fresh or old)[0][1])
    said = show(equation.tree)
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
    missing = [
        n
        for n in sorted(plot.formulas, key=lambda n: n not in needed)  # those it rests on first
        if plot.truth[n][1] not in ledger.stated and plot.truth[n][0] in used
    ]
    if missing:
        return f"not yet derivable: no step has stated {plot.computation(missing[0])}"
    return f"wrong value carried: a wrong number stands in {show(equation.tree)}"


_ANY = ("any",)


def _nearest(ledger: _Ledger, equation: Equation) -> str | None:
    """The unstated quantity that an equation misses by one number or one sign, else one whose
    value it states."""
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
