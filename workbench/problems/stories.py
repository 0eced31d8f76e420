"""Word problems in plain English with exact truth for every step: the third embedded kind.

"Ava picked 22 apples and gave 14 of them to her neighbour. ..." A question is one of the templates
of `story_templates.py` with names, things and numbers put in; its level is the number of steps. A
solution is one equation a line (`22 - 14 = 8`, or within words: `She has 22 - 14 = 8 left.`), then
`The answer is 8`. Which equations are right is decided in `story_truth.py`.

Truth is read from the question alone, so it survives `Problem.blind()`: a template writes and,
turned into a pattern, reads. Questions of other origin that come with a solution in equations
(MAWPS, SVAMP, GSM-Symbolic: `benchmarks.py`) are judged by that solution. Splits share no
template. Taught in notebook 10.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache

from workbench.problems.equations import Tree, formula, number_text, put, read_equations, values
from workbench.problems.story_plot import Plot
from workbench.problems.story_templates import PEOPLE, STORIES, WORDS
from workbench.problems.story_truth import judge_steps
from workbench.types import Problem

# by a template's place among its level's
SPLIT_OF = (*("train",) * 6, "validation", "test") * 2 + ("test", "test", "test", "validation") * 2
SPLIT_OF += ("train",) * 16 + ("answers",) * 8
TRIES = 10_000  # draws of numbers until every step comes out even
SPELLED = {  # number words, by the mark of the slot
    "word": dict(enumerate("two three four five six seven eight nine ten".split(), start=2)),
    "times": {2: "twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times"},
    "part": {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"},
}
_PRONOUNS = {"she": "he", "her": "his", "She": "He", "Her": "His"}
_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}(%?)")
_RANGE = re.compile(r"(\w+) ([0-9.]+)\.\.([0-9.]+)(?:/([0-9.]+))?")


@dataclass(frozen=True)
class Template:
    """One story: text with slots, how its numbers are drawn, and the formula of each step."""

    id: str  # level and place, such as "3.07"
    text: str
    numbers: str
    formulas: dict[str, Tree]

    @property
    def level(self) -> int:
        return len(self.formulas)

    @property
    def split(self) -> str:
        return SPLIT_OF[int(self.id.split(".")[1]) - 1]

    @property
    def cents(self) -> bool:
        """May steps come out in hundredths? Only where a number in the story has some."""
        return "." in self.numbers.replace("..", "")

    @cached_property
    def marks(self) -> dict[str, str]:
        """How each number slot is written: "", a percent sign, or a row of `SPELLED`."""
        slots = [(m[1], m[2] or m[3]) for m in _SLOT.finditer(self.text)]
        drawn = {part.strip().split()[0] for part in self.numbers.split(",")}
        return {name: mark or "" for name, mark in slots if name in drawn}

    @cached_property
    def pattern(self) -> re.Pattern:
        """The text as a pattern, with a group for each name, thing and number."""
        seen: set[str] = set()

        def group(slot: re.Match) -> str:
            name, percent = slot[1], slot[3]
            if name in _PRONOUNS:
                return f"(?:{name}|{_PRONOUNS[name]})"
            if name in seen:
                return f"(?P={name}){percent}"
            seen.add(name)
            return f"(?P<{name}>{'|'.join(self._choices(name, slot[2]))}){percent}"

        parts, end = [], 0
        for slot in _SLOT.finditer(self.text):
            parts += [re.escape(self.text[end : slot.start()]), group(slot)]
            end = slot.end()
        whole = "".join([*parts, re.escape(self.text[end:])])
        return re.compile(whole.replace(r"\[", "(?:").replace(r"\]\ ", " )?"))

    def _choices(self, name: str, mark: str | None) -> list[str]:
        if name in self.marks:
            return [r"[0-9]+(?:\.[0-9]{2})?"] if mark is None else [*SPELLED[mark].values()]
        kind = name.rstrip("0123456789")
        return [re.escape(word) for word in WORDS.get(kind, PEOPLE)]

    def tell(self, rng: random.Random, largest: int | None = None) -> str:
        """The question with everything put in; the sentence in square brackets or not."""
        numbers = self._draw(rng, largest)
        text = re.sub(r"\[(.*?)\] ", lambda m: f"{m[1]} " * rng.randint(0, 1), self.text)
        slots = [m[1] for m in _SLOT.finditer(text)]
        people = [n for n in dict.fromkeys(slots) if n in "ABCD"]
        put_in = dict(zip(people, rng.sample(list(PEOPLE), len(people))))
        for kind, words in WORDS.items():
            things = sorted({n for n in slots if n.rstrip("0123456789") == kind})
            put_in |= dict(zip(things, rng.sample(words, len(things))))
        if people and PEOPLE[put_in[people[0]]] == "he":
            put_in |= _PRONOUNS
        else:
            put_in |= {word: word for word in _PRONOUNS}
        for name, mark in self.marks.items():
            value = numbers[name]
            spelled = SPELLED.get(mark, {})
            put_in[name] = spelled[value] if spelled else number_text(value)
        return _SLOT.sub(lambda m: put_in[m[1]] + m[3], text)

    def _draw(
        self, rng: random.Random, largest: int | None, tries: int = TRIES
    ) -> dict[str, Fraction]:
        """Numbers above zero with which every step comes out even (money: in whole cents) and no
        two steps are one: of 50% taken and 50% left nobody could say which was stated."""
        for _ in range(tries):
            found: dict[str, Fraction] = {}
            for part in self.numbers.split(", "):
                if match := _RANGE.fullmatch(part):
                    low, high, step = (Fraction(x or 1) for x in match.groups()[1:])
                    if largest and not match[4]:
                        low, high = min(low, Fraction(2)), min(high, Fraction(largest))
                    found[match[1]] = low + step * rng.randint(0, int((high - low) / step))
                else:
                    name, tree = part.split(" = ")
                    found[name] = _value(_formula(tree), found)
            plot = Plot(found, self.formulas, self._plain(found))
            if self._even(found, largest) and len(plot.names) == self.level:
                return found
        raise ValueError(f"template {self.id}: no numbers in {tries} draws of {self.numbers!r}")

    def can_be_small(self, largest: int) -> bool:
        """Are there numbers for it of which none, nor of its steps', is above `largest`?"""
        try:
            return bool(self._draw(random.Random(self.id), largest, tries=1000))
        except ValueError:
            return False

    def _even(self, numbers: dict[str, Fraction], largest: int | None) -> bool:
        told, unit = dict(numbers), 100 if self.cents and not largest else 1
        for name, tree in self.formulas.items():
            told[name] = _value(tree, told)
            if told[name] <= 0 or (told[name] * unit).denominator > 1:
                return False
        if largest and any(told[name] > largest for name in (*self.formulas, *self.marks)):
            return False
        return all(value > 0 and (value * unit).denominator == 1 for value in numbers.values())

    def _plain(self, numbers: dict[str, Fraction]) -> frozenset[str]:
        return frozenset(name for name in numbers if self.marks.get(name))

    def read(self, question: str) -> Plot | None:
        """The plot of a question that this template has written, else None."""
        match = self.pattern.fullmatch(question)
        if not match:
            return None
        given = {}
        for name, mark in self.marks.items():
            if (said := match[name]) is not None:
                row = {word: n for n, word in SPELLED.get(mark, {}).items()}
                given[name] = Fraction(row.get(said, said))
        return Plot(given, self.formulas, self._plain(given))


def _value(tree: Tree, names: dict[str, Fraction]) -> Fraction:
    """A value, 0 where there is none: numbers are then drawn again."""
    return next(iter(values(put(tree, names))), Fraction(0))


_formula = cache(formula)


@cache
def templates() -> tuple[Template, ...]:
    """All templates, level by level.

    Their notation: the question's lines, then indented the numbers, then the steps.
    """
    found = []
    for level, text in STORIES.items():
        for place, block in enumerate(re.split(r"\n\s*\n", text.strip()), start=1):
            lines = block.splitlines()
            told = " ".join(line for line in lines if not line.startswith("    "))
            numbers, *steps = (line.strip() for line in lines if line.startswith("    "))
            named = (step.split(" = ") for step in " ".join(steps).split("; "))
            formulas = {name: formula(tree) for name, tree in named}
            found.append(Template(f"{level}.{place:02d}", told, numbers, formulas))
    return tuple(found)


# -- writing problems ------------------------------------------------------------------------------


def generate(n: int, *, seed: int, split: str = "train", **options) -> list[Problem]:
    """The first `n` stories of a seeded, endless list; `options` as for `problem_at`."""
    return [problem_at(i, seed=seed, split=split, **options) for i in range(n)]


def problem_at(
    index: int,
    *,
    seed: int,
    split: str,
    levels: Sequence[int] = range(1, 7),
    largest: int | None = None,
) -> Problem:
    """Story number `index` of a list, its level drawn uniformly, then its template.

    `largest`: all numbers are whole, from 2 where the template has no grid for them, and none of
    question or steps is beyond it; templates that have no such numbers are left out. ValueError for
    a level or a split that there is not.
    """
    levels = list(levels)
    if not levels or not set(levels) <= set(STORIES):
        raise ValueError(f"levels {levels}: use levels from 1 to {max(STORIES)}")
    if split not in SPLIT_OF:
        raise ValueError(f"split {split!r}: use one of {', '.join(dict.fromkeys(SPLIT_OF))}")
    rng = random.Random(f"stories/{split}/{seed}/{index}")
    level = rng.choice(levels)
    if not (told := _told(level, split, largest)):
        there = [k for k in sorted(STORIES) if _told(k, split, largest)]
        asked = f"split {split!r}" + (f", numbers up to largest={largest}" if largest else "")
        raise ValueError(f"{asked}: no story of level {level}, levels {there} have some")
    return instance(rng.choice(told), rng, f"stories/{split}/{seed}/{index}", largest)


@cache
def _told(level: int, split: str, largest: int | None) -> tuple[Template, ...]:
    """The templates of a level and a split, those with numbers up to `largest`."""
    own = (t for t in templates() if (t.level, t.split) == (level, split))
    return tuple(t for t in own if not largest or t.can_be_small(largest))


def instance(
    template: Template, rng: random.Random, id: str, largest: int | None = None
) -> Problem:
    """One problem of a template, which its `meta` names."""
    question = template.tell(rng, largest)
    *steps, last = read_question(question).gold()
    answer, solution = last.removeprefix("The answer is "), "\n".join([*steps, last])
    meta = {"template": template.id}
    return Problem(id, "stories", question, answer, solution, len(steps), meta)


# -- reading ---------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def read_question(question: str) -> Plot:
    """The plot of a story of ours; raises ValueError if no template has written it."""
    for template in templates():
        if plot := template.read(question):
            return plot
    raise ValueError(f"not a stories question: {question[:60]!r} is of no template")


@lru_cache(maxsize=65536)
def read_solution(question: str, solution: str) -> Plot:
    """The plot of another question from its solution in equations.

    A number of an equation is the latest earlier result of that value, else the question's, else a
    plain number such as 100 or the 2 of `twice`. Raises ValueError where there is no equation.
    """
    told = {f"n{v}": v for v in _numbers(question)}
    plain = frozenset(name for name, value in told.items() if f"{number_text(value)}%" in question)
    formulas: dict[str, Tree] = {}
    results: dict[Fraction, str] = {}
    symbols = {value: name for name, value in told.items()}

    def named(tree: Tree) -> Tree:
        if isinstance(tree, Fraction):
            return results.get(tree, symbols.get(tree, tree))
        return ("/", named(tree[1]), Fraction(100)) if len(tree) == 2 else (
            tree[0], *map(named, tree[1:])
        )  # fmt: skip

    for equation in (e for line in solution.splitlines() for e in read_equations(line)):
        name = f"step {len(formulas) + 1}"
        formulas[name] = named(equation.tree)
        results |= {value: name for value in equation.result}
    if not formulas:
        raise ValueError(f"no equation in the solution {solution[:60]!r}")
    return Plot(told, formulas, plain)


def _numbers(text: str) -> Iterator[Fraction]:
    for said in re.findall(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?", text):
        yield Fraction(said[:30].replace(",", ""))


def plot_of(problem: Problem) -> Plot:
    """How each quantity of a problem is computed: from its question, or else from its solution."""
    try:
        return read_question(problem.question)
    except ValueError:
        if problem.solution is None:
            raise
    return read_solution(problem.question, problem.solution)


def explain(problem: Problem, steps: Sequence[str]) -> list[str | None]:
    """For each step None if it is right, else its kind of fault, a colon, and what was expected."""
    return judge_steps(plot_of(problem), steps)[0]


def solvable(problem: Problem, steps: Sequence[str]) -> bool:
    """False iff a wrong value stands for what the answer needs, or the answer line is wrong."""
    return judge_steps(plot_of(problem), steps)[1]
