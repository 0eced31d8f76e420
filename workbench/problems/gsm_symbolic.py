"""GSM-Symbolic: the wording of GSM8K with new numbers, every step's value known. Evaluation only.

A template (Mirzadeh et al. 2024, arXiv 2410.05229) names the variables in its question, the range
of each, conditions between them, and the arithmetic of every step. We draw numbers that fulfil the
conditions and unroll the steps into equations; a problem whose steps our checker finds right in
every line is of kind `stories`, any other of kind `math`.

Deviations: one instance a template, the same on every load; only numbers are drawn, names and
things stay those of the original; number words (`half`, `twice`) stay, too. Where no draw fulfils
the conditions, or a template uses what we don't read, the original's own numbers are taken and
`meta["fulfilled"]` is False: for `p1` and `p2` they need not fit together. The
templates come from GSM8K's **test** problems: train on none of them.
"""

from __future__ import annotations

import ast
import math
import random
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from types import CodeType
from typing import Any

from workbench.problems.equations import number_text, read_equations, tree_text
from workbench.problems.word_problems import with_truth
from workbench.types import Problem

DRAWS = 2000
_SLOT = re.compile(r"\{\s*(\w+)\s*,([^{}]*)\}")
_VALUE = re.compile(r"\{([^{}]*)\}")
_WORDS = {
    "half": Fraction(1, 2), "one-half": Fraction(1, 2), "a third": Fraction(1, 3),
    "third": Fraction(1, 3), "one-third": Fraction(1, 3), "two-thirds": Fraction(2, 3),
    "a quarter": Fraction(1, 4), "quarter": Fraction(1, 4), "one-fourth": Fraction(1, 4),
    "three-fourths": Fraction(3, 4), "one-fifth": Fraction(1, 5), "double": Fraction(2),
    "twice": Fraction(2), "triple": Fraction(3), "thrice": Fraction(3), "one": Fraction(1),
    "two": Fraction(2), "three": Fraction(3), "four": Fraction(4), "five": Fraction(5),
    "six": Fraction(6), "three times": Fraction(3), "four times": Fraction(4),
}  # fmt: skip


def _range(low: Fraction, high: Fraction, step: Fraction = Fraction(1)) -> list[Fraction]:
    return [low + step * i for i in range(min(10_000, math.ceil((high - low) / step)))]


_CALLS = {
    "int": lambda x: Fraction(int(x)),
    "round": lambda x, digits=0: Fraction(round(Fraction(x), int(digits))),
    "Fraction": lambda top, bottom=1: Fraction(top) / Fraction(bottom),
    "is_int": lambda x: Fraction(x).denominator == 1,
    "divides": lambda x, by: Fraction(x) % Fraction(by) == 0,
    "numbers_within": lambda low, high: _range(low, high + 1),
    **dict.fromkeys(("range", "frange", "arange"), _range),
    **dict.fromkeys(("list", "fix_floats", "shuffle_list", "sample"), list),
}
_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name, ast.Load,
    ast.Constant, ast.List, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub,
    ast.And, ast.Or, ast.Not, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip


class _Exact(ast.NodeTransformer):
    """Every number an exact one; anything but arithmetic, comparisons and `_CALLS` is refused."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Attribute) and node.attr == "arange":  # np.arange
            return ast.Name(node.attr, ast.Load())
        if not isinstance(node, _NODES):
            raise ValueError(f"unread: {type(node).__name__}")
        if isinstance(node, ast.Constant):
            if type(node.value) not in (int, float):
                raise ValueError(f"unread: {node.value!r}")
            return ast.Call(ast.Name("Fraction", ast.Load()), [ast.Constant(str(node.value))], [])
        return self.generic_visit(node)


@lru_cache(maxsize=8192)
def _code(text: str) -> CodeType:
    tree = ast.parse(text.strip(), mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name not in _CALLS:
                raise ValueError(f"unread: {name}")
    return compile(ast.fix_missing_locations(_Exact().visit(tree)), "template", "eval")


def _evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """A template's expression; ValueError where it holds what we don't read, or has no value."""
    try:
        return eval(_code(text), {"__builtins__": {}, **_CALLS}, dict(names))
    except (SyntaxError, NameError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{text.strip()[:60]!r}: {error}") from None


def gsm_symbolic(row: dict, id: str) -> Problem:
    """One template as a problem with numbers of its own."""
    asked, _, rules = row["question_annotated"].partition("#init:")
    slots = {m[1]: m[2].strip() for m in _SLOT.finditer(asked)}
    original = {name: value for name, said in slots.items() if (value := _number(said)) is not None}
    meta = {"template": row.get("id_shuffled"), "original": row.get("id_orig")}
    drawn = _draw(rules, original, random.Random(id))
    meta["fulfilled"] = drawn is not None
    for names in (drawn or original, original):
        try:
            told = Problem(id, "math", _question(asked, names), **_worked(row, names), meta=meta)
        except ValueError:
            continue
        lines = [line for line in map(_equations, told.solution.splitlines()) if line]
        return with_truth(told, [equation for line in lines for equation in line])
    answer = row["answer"].rpartition("####")[2].strip().replace(",", "")
    return Problem(id, "math", row["question"], answer, row["answer"], meta=meta)


def _draw(rules: str, original: dict, rng: random.Random) -> dict[str, Fraction] | None:
    """New numbers that fulfil the conditions, None if none are found."""
    init, _, conditions = rules.partition("#conditions:")
    conditions, _, _ = conditions.partition("#answer")
    wanted = [line.strip(" -\t") for line in conditions.splitlines() if line.strip(" -\t")]
    choices = {}
    for name, ranged in re.findall(r"-\s*\$(\w+)\s*=\s*(.+)", init):
        try:
            found = _evaluate(ranged, {})
        except ValueError:
            continue  # a list of words: it keeps what the original says
        if isinstance(found, list) and all(isinstance(x, Fraction) for x in found) and found:
            choices[name] = found
    for _ in range(DRAWS):
        names = original | {name: rng.choice(found) for name, found in choices.items()}
        try:
            if all(_evaluate(condition, names) for condition in wanted):
                return names
        except ValueError:
            break
    return None


def _question(asked: str, names: Mapping[str, Fraction]) -> str:
    def said(slot: re.Match) -> str:
        default = slot[2].strip()
        if slot[1] in names and _number(default) != names[slot[1]]:
            return number_text(names[slot[1]])
        return default

    return " ".join(_SLOT.sub(said, asked).split())


def _worked(row: dict, names: Mapping[str, Fraction]) -> dict[str, str]:
    """Answer and solution with the numbers put in."""
    words = {m[1]: m[2].strip() for m in _SLOT.finditer(row["question_annotated"])}

    def said(slot: re.Match) -> str:
        text = slot[1].strip()
        if text in names:
            return number_text(names[text])
        return words[text] if text in words else number_text(Fraction(_evaluate(text, names)))

    solution, mark, answer = _VALUE.sub(said, row["answer_annotated"]).rpartition("####")
    answer = answer.strip().replace(",", "")
    if not mark or not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", answer):
        raise ValueError(f"no answer in {row['answer_annotated'][-60:]!r}")
    return {"answer": answer, "solution": solution.strip()}


def _equations(line: str) -> list[str]:
    """The equations of a line in our own form: those in its marks, else those in its words."""
    marked = [e for mark in re.findall(r"<<(.*?)>>", line) for e in read_equations(mark)]
    found = marked or read_equations(re.sub(r"<<.*?>>", "", line))
    known = ((e.tree, e.result) for e in found if e.result)
    return [f"{tree_text(tree)} = {number_text(max(result))}" for tree, result in known]


def _number(said: str) -> Fraction | None:
    """The number that a slot's text says, None if it says none."""
    plain = said.replace(",", "").strip("$% ")
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?(/[1-9][0-9]*)?", plain):
        return Fraction(plain) if "/" not in plain or "." not in plain else None
    return _WORDS.get(said.casefold())
