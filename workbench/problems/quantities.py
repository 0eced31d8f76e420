"""Word problems about named people and quantities, with exact truth for every step.

"How many shells does Ava have? Max has 5 shells. Tess has 4 more than Max. ..." A problem is a
random DAG of relations; its level is the number of relations that the answer needs. A solution
restates one relation a line and computes (`Tess has 4 more than Max : 5 + 4 = 9 .`), then says `The
answer is 13 .`

Truth (`truth.py`) is read from the question alone, so it survives `Problem.blind()`. Restated
relation and computation may commute (`Max and Ava` = `Ava and Max`, `5 + 4` = `4 + 5`). Similar in
spirit to iGSM (arXiv 2407.20311), which nests categories; here a relation is always between named
people. Taught in notebook 00.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from workbench.problems import truth
from workbench.problems.truth import NUMBER, Claim, Quantity, Story
from workbench.types import Problem

NAMES = "Ava Carl Dina Emil Fay Hugo Ivan Lena Max Mila Nina Omar Rosa Tess Theo Zoe".split()
ITEMS = "apples books coins marbles pencils shells stamps stones".split()
LEVELS = range(1, 9)
LARGEST = 199
GIVEN, CONSTANT, FACTOR = range(2, 31), range(2, 10), range(2, 6)  # numbers in a question
DISTRACTORS = range(0, 7)  # with more the names would not reach for level 8
# of 100 signature buckets
SPLITS = {"train": range(0, 80), "validation": range(80, 90), "test": range(90, 100)}
SIGNS = {"more": "+", "fewer": "-", "times": "*", "together": "+", "difference": "-"}
CLAUSES = {  # one template writes and, turned into a pattern, reads
    "more": "{name} has {k} more than {a}",
    "fewer": "{name} has {k} fewer than {a}",
    "times": "{name} has {k} times as many as {a}",
    "together": "{name} has as many as {a} and {b} together",
    "difference": "{name} has as many as the difference between {a} and {b}",
    "given": "{name} has {k} {item}",
}


# -- writing problems ------------------------------------------------------------------------------


def generate(
    n: int,
    *,
    levels: Sequence[int] = range(2, 8),
    seed: int,
    split: str = "train",
    shuffled: float = 0.25,
    distractors: Sequence[int] = (0, 1, 2),
) -> list[Problem]:
    """The first `n` problems of a seeded, endless, indexable list.

    `levels` and `distractors` are drawn uniformly; `shuffled` is the share of problems whose
    sentences stand in random order instead of one in which each uses only earlier ones. No two
    splits share a problem's (graph up to renaming, numbers): see `signature`. Raises ValueError on
    a level, a number of distractors or a split that there is not.
    """
    options = dict(levels=levels, seed=seed, split=split)
    options |= dict(shuffled=shuffled, distractors=distractors)
    return [problem_at(i, **options) for i in range(n)]


def problem_at(
    index: int, *, levels, seed: int, split: str, shuffled: float = 0.25, distractors=(0, 1, 2)
) -> Problem:
    """Problem number `index` of the list that `generate` returns."""
    levels, distractors = list(levels), list(distractors)
    if not levels or any(level not in LEVELS for level in levels):
        raise ValueError(f"levels {levels}: use levels from {LEVELS[0]} to {LEVELS[-1]}")
    if not distractors or any(extra not in DISTRACTORS for extra in distractors):
        known = f"{DISTRACTORS[0]} to {DISTRACTORS[-1]}"
        raise ValueError(f"distractors {distractors}: use numbers from {known}")
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: use one of {', '.join(SPLITS)}")
    rng = random.Random(f"quantities/{split}/{seed}/{index}")
    level, extra = rng.choice(levels), rng.choice(distractors)
    while True:
        plan = _Plan(rng)
        if plan.draw(level, extra) and plan.bucket() in SPLITS[split]:
            return plan.tell(level, rng.random() < shuffled, f"quantities/{split}/{seed}/{index}")


class _Plan:
    """One attempt at a random graph: quantities in the order in which they were drawn."""

    def __init__(self, rng: random.Random):
        self.rng, self.quantities, self.asked = rng, {}, ""
        self.item = rng.choice(ITEMS)
        self.names = rng.sample(NAMES, len(NAMES))

    def draw(self, level: int, extra: int) -> bool:
        """`level` relations that the last one needs, then `extra` facts; False: try again."""
        # derived quantities that nothing uses yet; in the end only the answer may be left
        unused: list[str] = []
        for left in range(level, 0, -1):
            joins = {"must_join": len(unused) > left, "may_start": len(unused) < left}
            of = self._operands(unused, **joins)
            if (name := self._relate(of)) is None:
                return False
            unused = [u for u in unused if u not in of] + [name]
        self.asked = unused[-1]
        for _ in range(extra):
            known = list(self.quantities)
            of = self.rng.sample(known, self.rng.choice((0, 1, 1, 2)))
            if (self._relate(of) if of else self._give()) is None:
                return False
        return len(unused) == 1

    def _operands(self, unused: list[str], *, must_join: bool, may_start: bool) -> list[str | None]:
        """One or two names: join two branches, go on from the newest, or start a new one."""
        rng = self.rng
        if len(unused) >= 2 and (must_join or rng.random() < 0.5):
            return unused[-2:]
        first = unused[-1] if unused and not (may_start and rng.random() < 0.15) else self._give()
        others = [name for name in self.quantities if name != first]
        if not others or rng.random() < 0.6:
            return [first]
        return [first, rng.choice(others) if rng.random() < 0.7 else self._give()]

    def _give(self) -> str | None:
        if not self.names:
            return None
        name, k = self.names.pop(), self.rng.choice(GIVEN)
        self.quantities[name] = Quantity(k, CLAUSES["given"].format(name=name, k=k, item=self.item))
        return name

    def _relate(self, of: list[str | None]) -> str | None:
        """A new name, a relation to `of` and a result up to `LARGEST`, None if there is none."""
        if None in of or not self.names:
            return None
        ops = ("more", "fewer", "times") if len(of) == 1 else ("together", "difference")
        values = {n: q.value for n, q in self.quantities.items()}
        for _ in range(8):
            op = self.rng.choice(ops)
            k = self.rng.choice(FACTOR if op == "times" else CONSTANT)
            quantity = _quantity(op, self.names[-1], k, of, values)
            if 1 <= quantity.value <= LARGEST:
                self.quantities[name := self.names.pop()] = quantity
                return name
        return None

    def bucket(self) -> int:
        return int(_signature(self.quantities, self.asked), 16) % 100

    def tell(self, level: int, shuffle: bool, id: str) -> Problem:
        """Write the sentences in a usable or a random order, then question, answer and solution."""
        waiting, order = self.rng.sample(list(self.quantities), len(self.quantities)), []
        while waiting:  # a random order in which each sentence uses only earlier ones
            name = next(n for n in waiting if set(self.quantities[n].of) <= set(order))
            waiting.remove(name)
            order.append(name)
        if shuffle:
            self.rng.shuffle(order)
        sentences = [self.quantities[name].relation + "." for name in order]
        question = " ".join([f"How many {self.item} does {self.asked} have?", *sentences])
        story = read_question(question)
        answer, solution = str(story.answer), "\n".join(story.gold())
        return Problem(id, "quantities", question, answer, solution, level)


def _quantity(
    op: str, name: str, k: int | None, of: Sequence[str], values: dict[str, int]
) -> Quantity:
    """The quantity that a relation gives `name`; a difference is said and computed larger first."""
    ordered = sorted(of, key=values.get, reverse=True) if op == "difference" else list(of)
    x, y = values[ordered[0]], k if len(of) == 1 else values[ordered[1]]
    if op == "times":
        x, y = y, x
    sign, b = SIGNS[op], ordered[-1]
    value = {"+": x + y, "-": x - y, "*": x * y}[sign]
    words = CLAUSES[op].format(name=name, k=k, a=ordered[0], b=b)
    return Quantity(value, words, tuple(of), x, sign, y)


def rephrase(problem: Problem, *, seed: int) -> str:
    """The facts of the question said again, one a line, in another order."""
    facts = [f"{q.relation} ." for q in read_question(problem.question).quantities.values()]
    return "\n".join(random.Random(f"rephrase/{seed}").sample(facts, len(facts)))


def signature(problem: Problem) -> str:
    """A hash of what the answer computes: graph up to renaming, numbers. Splits share none."""
    story = read_question(problem.question)
    return _signature(story.quantities, story.asked)


def _signature(quantities: dict[str, Quantity], asked: str) -> str:
    @lru_cache(None)
    def sign(name: str) -> str:
        q = quantities[name]
        number = q.value if q.sign is None else q.left if q.sign == "*" else q.right
        number = None if len(q.of) == 2 else number
        text = f"{q.sign} {number} {sorted(map(sign, q.of))}"
        return blake2b(text.encode(), digest_size=8).hexdigest()

    return sign(asked)


# -- reading problems and judging steps ------------------------------------------------------------

_NAME = r"([A-Z][a-z]+)"
_ASKED = re.compile(rf"How many ([a-z]+) does {_NAME} have\?")
_PATTERNS = {
    op: re.compile(clause.format(name=_NAME, k=NUMBER, a=_NAME, b=_NAME, item="[a-z]+"))
    for op, clause in CLAUSES.items()
}


def _read_clause(text: str) -> tuple[str, str, int | None, tuple[str, ...]] | None:
    """(operation, name, number, other names) of a relation in words."""
    for op, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(text):
            name, *rest = match.groups()
            k = int(rest.pop(0)) if "{k}" in CLAUSES[op] else None
            return op, name, k, tuple(rest)
    return None


@lru_cache(maxsize=65536)
def read_question(question: str) -> Story:
    """Take a question apart; ValueError names the sentence that is no fact, or a missing name."""
    head, _, tail = question.partition("?")
    asked = _ASKED.fullmatch(head + "?")
    if not asked:
        needed = "'How many <items> does <Name> have? ...'"
        raise ValueError(f"not a quantities question: {question[:60]!r}, need {needed}")
    sentences = [s.strip() for s in tail.split(".") if s.strip()]
    facts = [_read_clause(s) for s in sentences]
    if None in facts:
        raise ValueError(f"no fact: {sentences[facts.index(None)]!r}")
    values: dict[str, int] = {}
    quantities: dict[str, Quantity] = {}
    todo = list(zip(facts, sentences))
    while todo:
        ready = [(fact, text) for fact, text in todo if all(name in values for name in fact[3])]
        if not ready:
            raise ValueError(f"{todo[0][0][1]}'s quantity cannot be derived in {question[:60]!r}")
        for (op, name, k, of), text in ready:
            known = Quantity(k, text) if op == "given" else _quantity(op, name, k, of, values)
            quantities[name], values[name] = known, known.value
        todo = [entry for entry in todo if entry not in ready]
    if asked[2] not in values or len(values) < len(facts):
        need = f"need one fact a name, {asked[2]}'s among them"
        raise ValueError(f"{question[:60]!r} asks for {asked[2]}: {need}")
    return Story(asked[2], {fact[1]: quantities[fact[1]] for fact in facts})


def read_step(story: Story, step: str) -> Claim | None:
    """A step taken apart, None if it is malformed."""

    def clause_of(text: str) -> tuple[str, bool] | None:
        said = _read_clause(text)
        if said is None or said[0] == "given":
            return None
        known = story.quantities.get(said[1])
        same = known is not None and _meaning(said) == _meaning(_read_clause(known.relation))
        return said[1], same

    return truth.read_step(step, clause_of)


def _meaning(clause: tuple) -> tuple:
    op, name, k, of = clause
    return op, name, k, frozenset(of)


def check_steps(problem: Problem, steps: Sequence[str]) -> list[bool]:
    """Exact truth: for each step (the answer line is one), is it right?"""
    return [reason is None for reason in explain(problem, steps)]


def explain(problem: Problem, steps: Sequence[str]) -> list[str | None]:
    """For each step None if it is right, else its kind of fault, a colon, and what was expected."""
    return truth.explain(read_question(problem.question), steps, read_step)


def solvable(problem: Problem, steps: Sequence[str]) -> bool:
    """False iff a wrong value stands for what the answer needs, or the answer line is wrong."""
    return truth.solvable(read_question(problem.question), steps, read_step)
