"""MAWPS, SVAMP, GSM8K: their equations as solutions, a line each, so that steps can be judged.

A record whose equation cannot be unrolled (the unknown stands within it), or whose result is not
its answer, stays of kind `math`; all others are `stories`, judged by their solution
(`stories.read_solution`). MAWPS: Koncel-Kedziorski et al. 2016 (ACL, N16-1136); SVAMP: Patel et al.
2021, arXiv 2103.07191. Deviation: numbers that a decimal cannot write (`1.1666666666666667`) are
compared as what they round to at four places, and make no steps.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from workbench.problems.equations import (
    Tree,
    formula,
    number_text,
    read_equations,
    tree_text,
    values,
)
from workbench.problems.stories import explain, plot_of
from workbench.types import Problem


def unroll(tree: Tree) -> list[str]:
    """One line an operation, innermost first.

    >>> unroll(formula("3 * (7 + 3) - 4"))
    ['7 + 3 = 10', '3 * 10 = 30', '30 - 4 = 26']
    """
    lines: list[str] = []

    def value_of(part: Tree) -> Fraction:
        if isinstance(part, Fraction):
            return part
        step = (part[0], *map(value_of, part[1:]))
        (result,) = values(step)
        lines.append(f"{tree_text(step)} = {number_text(result)}")
        return result

    value_of(tree)
    return lines


def with_truth(problem: Problem, lines: list[str]) -> Problem:
    """The problem as `stories` with these lines and the answer line as its solution, where every
    one of them is right and no two are one quantity; else as it came."""
    steps = [*lines, f"The answer is {problem.answer}"]
    told = replace(problem, kind="stories", solution="\n".join(steps), level=len(lines))
    try:
        right = len(plot_of(told).names) == len(lines) and not any(explain(told, steps))
    except ValueError:
        return problem
    return told if right else problem


def with_equations(problem: Problem) -> Problem:
    """A problem with a worked solution in words (GSM8K's), as `stories`: its equations are the
    steps. Where they are not all right, or do not end in the answer, it stays as it came.

    >>> told = "She sold 48/2 = 24 clips in May.\\nThat is 48+24 = 72."
    >>> with_equations(Problem("p", "math", "Half of 48 clips ...", "72", told)).solution
    '48 / 2 = 24\\n48 + 24 = 72\\nThe answer is 72'
    """
    found = [e for line in (problem.solution or "").splitlines() for e in read_equations(line)]
    if not found or any(len(equation.result) != 1 for equation in found):
        return problem
    lines = [f"{tree_text(e.tree)} = {number_text(*e.result)}" for e in found]
    return with_truth(problem, list(dict.fromkeys(lines)))


def mawps(row: dict, id: str) -> Problem:
    """One record; its text without the spaces of the tokeniser."""
    question = re.sub(r" ([.,?!;:%]|'s\b|n't\b)", r"\1", row["original_text"]).replace("$ ", "$")
    equation = re.sub(r"^[A-Za-z]+=", "", row["equation"].replace(" ", ""))
    return _record(id, question, str(row["ans"]), equation, {"id": row["id"]})


def svamp(row: dict, id: str) -> Problem:
    """One record; body and question are joined by a full stop where there is none."""
    body = row["Body"].strip()
    body = body if body.endswith((".", "?", "!", ",")) else f"{body}."
    question = f"{body} {row['Question'].strip()}".replace("$ ", "$")
    meta = {"type": row["Type"], "id": row["ID"]}
    return _record(id, question, str(row["Answer"]), row["Equation"], meta)


def _record(id: str, question: str, answer: str, equation: str, meta: dict) -> Problem:
    plain = _exact(answer)
    answer = answer.strip() if plain is None else number_text(plain)
    problem = Problem(id, "math", question, answer, meta={**meta, "equation": equation})
    try:
        lines = unroll(formula(equation))
    except (ValueError, KeyError, TypeError):  # the unknown within it, a division by zero
        return problem
    return with_truth(problem, lines)


def _exact(answer: str) -> Fraction | None:
    """A number as tree_text, without the noise of floating point."""
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,20})?", answer.strip()):
        return None
    return Fraction(round(Fraction(answer.strip()), 6))
