"""Equations in free text, read exactly: `She has 22 - 14 = 8 apples left.` is a tree and a result.

A tree is a number (`Fraction`), a name, `("%", tree)`, or `(sign, left, right)` with one of the
four signs. Read are `+ - * /` with their typographic forms, `x` and `times` between numbers, `of`
after a percent sign or a fraction, brackets, money signs, commas of thousands, decimals, and units
behind numbers (`5 boxes * 6 apples/box = 30`). Nothing here is evaluated by Python itself, and no
text raises: what cannot be read is no equation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from operator import add, mul, sub, truediv

Tree = Fraction | str | tuple  # (sign, left, right) or ("%", tree)

LONGEST_STEP = 400  # characters; a longer step holds no equation
MOST_NUMBERS = 12  # on one side
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]{1,15})(?:\.[0-9]{1,6})?|\.[0-9]{1,6}"
_TOKEN = re.compile(rf"(?P<number>{_NUMBER})|(?P<name>[A-Za-z_]\w*)|(?P<sign>[-+*/=()%])|\S")
_BULLET = re.compile(r"\s*(?:[-*•]|[0-9]{1,2}[.)])\s+(?=\S)")
_SIGNS = str.maketrans("×·∙✕÷−–", "***" + "*/--", "$€£")
_LATEX = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"(?<=[0-9])(?:\{,\}|\\,)(?=[0-9]{3})", ""), (r"\\(?:left|right)(?![A-Za-z])", ""),
        (r"\\text\{[^{}0-9]*\}", " "), (r"\\text\{([^{}]*)\}", r" \1 "),
        (r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))"), (r"\\boxed\{([^{}]*)\}", r"\1"),
        (r"\\(?:times|cdot)(?![A-Za-z])", "*"), (r"\\div(?![A-Za-z])", "/"),
        (r"\\[()\[\],;! ]", " "), (r"\\([$%])", r"\1"),
    )
]  # fmt: skip
_WORDS = (  # units between a number and a sign, and words that stand for a sign
    (
        re.compile(
            r"(?<=[0-9)%])(?: ?/?\b[A-Za-z]{1,20}\b){1,3}(?= ?(?:[-+*/=](?! ?[A-Za-z])|x [0-9(.]))"
        ),
        " ",
    ),
    (re.compile(r"(?<=[0-9)%])\s*[xX]\s*(?=[(.0-9-])"), " * "),
    (re.compile(r"(?<=[0-9)%])\s+times\s+(?=[(.0-9-])"), " * "),
    (re.compile(r"(?<=%)\s+of\s+(?=[(.0-9])|(?<=/[0-9])\s+of\s+(?=[(.0-9])"), " * "),
)


@dataclass(frozen=True)
class Equation:
    """A computation and what it is said to be; a chain `a + b = c + d = e` says two values."""

    tree: Tree
    said: tuple[Tree, ...]

    @property
    def result(self) -> set[Fraction]:
        """The last value said; of `40%` there are two readings, 40 and 2/5."""
        return values(self.said[-1])


def read_equations(text: str) -> list[Equation]:
    """All equations of a step. A number alone on the left (`8 = 22 - 14`) is the result."""
    if len(text) > LONGEST_STEP:
        return []
    text = _without_latex(text).translate(_SIGNS)
    text = text[bullet.end() :] if (bullet := _BULLET.match(text)) else text
    for pattern, sign in _WORDS:
        text = pattern.sub(sign, text)
    equations = [_equation(run) for run in _runs(text) if "=" in run]
    return [equation for equation in equations if equation]


def _without_latex(text: str) -> str:
    r"""The same in plain signs.

    >>> _without_latex(r"\(3 \times \frac{1}{2} = \boxed{1.5}\)")
    ' 3 * ((1)/(2)) = 1.5 '
    """
    if "\\" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    return text


def _runs(text: str) -> list[list[str]]:
    """Unbroken rows of numbers and signs; any word or other mark ends a row."""
    runs: list[list[str]] = [[]]
    for token in _TOKEN.finditer(text):
        if token["number"] or token["sign"]:
            runs[-1].append(token[0])
        else:
            runs.append([])
    return runs


def _equation(run: list[str]) -> Equation | None:
    while run and run[-1] in ("*", "(", "-"):  # bold type, or words behind a bracket or a dash
        run = run[:-1]
    while run and run[0] == "*":
        run = run[1:]
    if run[:1] == ["("] and run.count("(") == run.count(")") + 1:  # words stood before its end
        run = run[1:]
    sides: list[list[str]] = [[]]
    for token in run:
        if token == "=":
            sides.append([])
        else:
            sides[-1].append(token)
    if not sides[0]:  # `Total = 22 - 14 = 8`: what is named stands outside
        sides = sides[1:]
    if len(sides) > 1 and sides[0].count("(") > sides[0].count(")") and sides[-1][-1:] == [")"]:
        sides[0], sides[-1] = sides[0][1:], sides[-1][:-1]  # all of it in brackets
    trees = [parse(side) for side in sides]
    if len(trees) < 2 or None in trees:
        return None
    first, *said = trees if _computes(trees[0]) else trees[::-1]
    return Equation(first, tuple(said)) if _computes(first) else None


def _computes(tree: Tree) -> bool:
    """Does it hold a sign between two numbers?"""
    if not isinstance(tree, tuple):
        return False
    return _computes(tree[1]) if len(tree) == 2 else not _is_minus(tree)


def _is_minus(tree: Tree) -> bool:
    return isinstance(tree, tuple) and tree[:2] == ("-", Fraction(0))


def formula(text: str) -> Tree:
    """A tree with names from a text of our own, such as `n * p / 100`; ValueError if it is none."""
    tree = parse([token[0] for token in _TOKEN.finditer(text)])
    if tree is None:
        raise ValueError(f"{text!r}: need numbers, names, + - * / and brackets")
    return tree


def parse(tokens: list[str]) -> Tree | None:
    """The tree of one side, None if it is none.

    >>> parse(["2", "*", "(", "n", "-", "3", ")"])
    ('*', Fraction(2, 1), ('-', 'n', Fraction(3, 1)))
    """
    if sum(token[0] in "0123456789." for token in tokens) > MOST_NUMBERS or len(tokens) > 60:
        return None
    left = list(reversed(tokens))
    try:
        tree = _sum(left)
    except (IndexError, ValueError):
        return None
    return None if left else tree


def _sum(tokens: list[str]) -> Tree:
    tree = _product(tokens)
    while tokens and tokens[-1] in "+-":
        tree = (tokens.pop(), tree, _product(tokens))
    return tree


def _product(tokens: list[str]) -> Tree:
    tree = _factor(tokens)
    while tokens and tokens[-1] in "*/":
        tree = (tokens.pop(), tree, _factor(tokens))
    return tree


def _factor(tokens: list[str]) -> Tree:
    token = tokens.pop()
    if token == "-":
        return ("-", Fraction(0), _factor(tokens))
    if token == "(":
        tree = _sum(tokens)
        if tokens.pop() != ")":
            raise ValueError("a bracket stays open")
    else:
        tree = token if re.fullmatch(r"[A-Za-z_]\w*", token) else Fraction(token.replace(",", ""))
    if tokens and tokens[-1] == "%":
        tokens.pop()
        return ("%", tree)
    return tree


COMPUTE = {"+": add, "-": sub, "*": mul, "/": truediv}


def values(tree: Tree) -> set[Fraction]:
    """The values of a tree without names: none by zero division, two where % may be a unit.

    >>> sorted(values(parse(["40", "%"])))
    [Fraction(2, 5), Fraction(40, 1)]
    """
    if isinstance(tree, Fraction):
        return {tree}
    if len(tree) == 2:
        return {x for value in values(tree[1]) for x in (value, value / 100)}
    sign, left, right = tree
    rights = values(right)
    return {COMPUTE[sign](a, b) for a in values(left) for b in rights if sign != "/" or b}


def leaves(tree: Tree) -> list[Fraction | str]:
    """Numbers and names of a tree, from left to right."""
    if not isinstance(tree, tuple):
        return [tree]
    return [leaf for part in tree[1:] for leaf in leaves(part)]


def put(tree: Tree, names: dict[str, Fraction]) -> Tree:
    """The tree with values in place of names."""
    if isinstance(tree, str):
        return names[tree]
    if isinstance(tree, Fraction):
        return tree
    return (tree[0], *(put(part, names) for part in tree[1:]))


def tree_text(tree: Tree, *, inside: int = 0) -> str:
    """A tree as text, with the brackets that it needs.

    >>> tree_text(formula("2 * (n - 3) / 4")), tree_text(formula("n - (k - 3)"))
    ('2 * (n - 3) / 4', 'n - (k - 3)')
    """
    if isinstance(tree, str):
        return tree
    if isinstance(tree, Fraction):
        return number_text(tree)
    if len(tree) == 2:
        return f"{tree_text(tree[1], inside=3)}%"
    sign, left, right = tree
    if _is_minus(tree):
        return f"-{tree_text(right, inside=3)}"
    rank = 1 if sign in "+-" else 2
    said = f"{tree_text(left, inside=rank)} {sign} {tree_text(right, inside=rank + 1)}"
    return f"({said})" if rank < inside else said


def number_text(value: Fraction) -> str:
    """`8`, `4.50`, `0.125`; what has no end as a decimal as `1/3`.

    >>> [number_text(Fraction(x)) for x in ("8", "9/2", "1/8", "1/3", "-7/2")]
    ['8', '4.50', '0.125', '1/3', '-3.50']
    """
    if value.denominator == 1:
        return str(value.numerator)
    if (value * 100).denominator == 1:
        return f"{float(value):.2f}" if abs(value) < 10**12 else str(value)
    if (value * 10**6).denominator == 1 and abs(value) < 10**9:
        return f"{float(value):.6f}".rstrip("0")
    return str(value)
