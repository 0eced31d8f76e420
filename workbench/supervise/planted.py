"""Planted faults: step labels for nothing, by spoiling steps that are good.

One word of one good step is replaced by another of its kind: a number by a number, a name by a
name, an operator by an operator. Whoever did it knows which step is bad, and what a policy seldom
gets wrong is spoilt as often as anything else. Half of the faults are in a step's last number,
which is mostly its result: a verifier that learnt from a policy's own faults may never look there.

After ELECTRA (Clark et al. 2020, arXiv 2003.10555), which learns to tell replaced tokens. How this
deviates: one word a solution, and the label is of the step; the new word is not drawn from a model
but from the words of the solution and its question, for numbers also from their neighbours. A
planted word may by chance make another right step; notebook 04 counts how often. Taught there.

Of steps that are equations (`22 - 14 = 8`), `misread` makes the other kind of fault: another sign,
or another number of the question or of earlier steps, and the result worked out from that. No slip
of arithmetic shows there: who judges such a step has to know what the question asks. And `hasty`
answers before all is worked out, which a policy that has met few kinds of questions does often.
Both are taught in notebook 10.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import takewhile

from workbench.problems.equations import COMPUTE, values
from workbench.types import LabelledSolution

FORMS = {
    "number": re.compile(r"\d+"),
    "operator": re.compile(r"[-+*/]"),
    "name": re.compile(r"[A-Z][a-z]+"),
}
EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
LAST_LINE = re.compile(r"(The answer is )(\d+)")
RESULTS = 0.5  # share of faults in the last number of a step
NEAR = (-10, -2, -1, 1, 2, 10)  # a slip is seldom far off


def planted(rows: Sequence[LabelledSolution], *, seed: int) -> list[LabelledSolution]:
    """A spoilt copy of each solution's good beginning, up to and including the spoilt step.

    The beginning ends before the first step that is not labelled good. Labels of the copy are 1,
    and 0 at its end. Which word and what for depend on `seed` and the solution; solutions in which
    no word can be replaced are left out.
    """
    return [spoilt for row in rows if (spoilt := _spoilt(row, seed)) is not None]


def _spoilt(row: LabelledSolution, seed: int) -> LabelledSolution | None:
    rng = random.Random(f"planted/{seed}/{row.problem.question}/{row.steps}")
    good = [*takewhile(lambda label: label == 1, row.labels)]
    places = [
        (t, i, kind)
        for t, step in enumerate(row.steps[: len(good)])
        for i, word in enumerate(step.split(" "))
        if (kind := _kind(word)) and i  # a line's first word says what it is about
    ]
    known = " ".join([row.problem.question, *row.steps[: len(good)]]).split(" ")
    rng.shuffle(places)
    if rng.random() < RESULTS:  # a step's last number first
        last = {t: i for t, i, kind in sorted(places) if kind == "number"}
        places.sort(key=lambda place: last.get(place[0]) != place[1])
    for t, i, kind in places:
        words = row.steps[t].split(" ")
        if others := _others(words[i], kind, known):
            words[i] = rng.choice(others)
            steps = (*row.steps[:t], " ".join(words))
            return LabelledSolution(row.problem, steps, (*[1] * t, 0), source="planted")
    return None


def misread(rows: Sequence[LabelledSolution], *, seed: int) -> list[LabelledSolution]:
    """As `planted`, with an equation `a + b = c` that computes something else, rightly.

    The wrong step is none of the solution's own. Solutions without such an equation are left out.
    """
    return [wrong for row in rows if (wrong := _misread(row, seed)) is not None]


def _misread(row: LabelledSolution, seed: int) -> LabelledSolution | None:
    rng = random.Random(f"misread/{seed}/{row.problem.question}/{row.steps}")
    good = [*takewhile(lambda label: label == 1, row.labels)]
    places = [t for t, step in enumerate(row.steps[: len(good)]) if EQUATION.fullmatch(step)]
    rng.shuffle(places)
    for t in places:
        *own, result = EQUATION.fullmatch(row.steps[t]).groups()
        known = re.findall(r"\d+", " ".join([row.problem.question, *row.steps[:t]]))
        others = [[own[0], sign, own[2]] for sign in COMPUTE] * 2
        others += [[n, *own[1:]] for n in known] + [[*own[:2], n] for n in known]
        rng.shuffle(others)
        for left, sign, right in (other for other in others if other != own):
            for value in values((sign, Fraction(left), Fraction(right))):
                step = f"{left} {sign} {right} = {value}"
                whole = value > 0 and value.denominator == 1
                if whole and str(value) != result and step not in row.steps:
                    steps = (*row.steps[:t], step)
                    return LabelledSolution(row.problem, steps, (*[1] * t, 0), source="misread")
    return None


def hasty(rows: Sequence[LabelledSolution], *, seed: int) -> list[LabelledSolution]:
    """As `planted`, with an answer that comes too early: the result of a step before the last.

    Solutions of one equation have none to leave out, and are left out; so are those in which no
    earlier result differs from the answer.
    """
    return [early for row in rows if (early := _hasty(row, seed)) is not None]


def _hasty(row: LabelledSolution, seed: int) -> LabelledSolution | None:
    rng = random.Random(f"hasty/{seed}/{row.problem.question}/{row.steps}")
    good = [*takewhile(lambda label: label == 1, row.labels)]
    if len(good) < len(row.steps) or not (last := LAST_LINE.fullmatch(row.steps[-1])):
        return None
    found = [re.findall(r"\d+", step)[-1:] for step in row.steps[:-1]]
    early = [(t, *number) for t, number in enumerate(found, 1) if number not in ([], [last[2]])]
    if not early:
        return None
    t, number = rng.choice(early)
    steps = (*row.steps[:t], f"{last[1]}{number}")
    return LabelledSolution(row.problem, steps, (*[1] * t, 0), source="hasty")


def _kind(word: str) -> str | None:
    return next((kind for kind, form in FORMS.items() if form.fullmatch(word)), None)


def _others(word: str, kind: str, known: Sequence[str]) -> list[str]:
    """Other words of a kind, in a fixed order; of numbers, neighbours count as often as others.

    >>> _others("12", "number", ["12", "5", "Ava", "+"])
    ['5', '10', '11', '13', '14', '2', '22']
    """
    found = {other for other in known if FORMS[kind].fullmatch(other)} - {word}
    near = {str(int(word) + step) for step in NEAR} if kind == "number" else set()
    operators = set("+-*") if kind == "operator" else set()
    more = {other for other in near | operators if not other.startswith("-") or kind == "operator"}
    return [*sorted(found), *sorted(more - found - {word})]
