"""The plot of a story: its numbers, how each quantity is computed, and what counts as the same.

Two expressions mean the same if they agree **whatever the numbers of the question were**: each
given number gets a random residue modulo the prime 2**61 - 1 beside its value, expressions are
computed in both (Schwartz 1980, Zippel 1979), and equal residues are equal formulas, but for a
chance of one in 10**16 or so. So any order, any brackets and merged steps are the same, and a right
result from wrong operands is not. Percentages and number words (`twice`, `a third`) count by their
value, so that 20% off is `* 20 / 100`, `* 0.2`, `/ 5` or, merged, `* 0.8`; the price is that wrong
operands pass where such numbers coincide (`48 + 12` for `80 - 80 / 4` after 40% off).

Beside the quantities of the plot there are **parts** of the answer: a sum of some of its terms,
with factors that they share taken out (`50 - 12`, then `38 - 20`, for `50 - (12 + 20)`). Taught in
notebook 10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b
from itertools import combinations, product

from workbench.problems.equations import COMPUTE, Tree, leaves, number_text, put, tree_text

PRIME = 2**61 - 1
MOST_TERMS = 8  # of which every subset may be a part
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
        points = {n: residue(v) if n in self.plain else _random(n) for n, v in self.given.items()}
        found = {name: (value, points[name]) for name, value in self.given.items()}
        for name, tree in self.formulas.items():
            if (both := _compute(tree, found)) is None:
                raise ValueError(f"{name} = {tree_text(tree)} divides by zero")
            found[name] = both
        return found

    @cached_property
    def names(self) -> dict[int, str]:
        """Residue -> the quantity that it is."""
        return {self.truth[name][1]: name for name in reversed(self.formulas)}

    @cached_property
    def parts(self) -> dict[int, Fraction]:
        """Residue -> value of every part of a quantity that is above zero."""
        found: dict[int, Fraction] = {}
        wanted = [*self.formulas, *self._denominators(self.asked)]
        for terms in (_uncancelled(self._terms(tree)) for tree in wanted):
            for value, point in _parts(terms):
                if value:
                    found[point if value > 0 else -point % PRIME] = abs(value)
        return {p: v for p, v in found.items() if p not in {b[1] for b in self.symbols}}

    @property
    def symbols(self) -> list[Both]:
        return [self.truth[name] for name in self.given if name not in self.plain]

    @cached_property
    def constants(self) -> set[Fraction]:
        """Plain numbers that a step may use on their own: of formulas, and plain given ones."""
        numbers = {leaf for tree in self.formulas.values() for leaf in leaves(tree)}
        plain = {self.given[name] for name in self.given if name in self.plain}
        return {Fraction(1), Fraction(100), *plain} | {n for n in numbers if not isinstance(n, str)}

    def computation(self, name: str) -> str:
        """`22 - 14`, the numbers of a quantity's formula."""
        return tree_text(put(self.formulas[name], {n: both[0] for n, both in self.truth.items()}))

    def gold(self) -> list[str]:
        """One equation a quantity, and the answer line."""
        said = {name: number_text(self.truth[name][0]) for name in self.formulas}
        lines = [f"{self.computation(name)} = {said[name]}" for name in said]
        return [*lines, f"The answer is {said[self.asked]}"]

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


def _uncancelled(terms: list[Term]) -> list[Term]:
    """The terms without pairs whose sum is zero: these are parts of nothing."""
    kept: list[tuple[int, Term]] = []
    for term in terms:
        _, point = _sum_of([Counter(term)])
        opposite = next((i for i, (p, _) in enumerate(kept) if (p + point) % PRIME == 0), None)
        if opposite is None:
            kept.append((point, term))
        else:
            del kept[opposite]
    return [term for _, term in kept]


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
