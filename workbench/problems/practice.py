"""Practice for a model that is new to sums: drills, and stories put together from sentences.

`sums` are bare equations. `tales` are stories of one to three steps: an opening, events and a
question are drawn one by one, so a model meets "gives away", "twice as many" or "in bags of six" in
thousands of combinations, where a template tells one story each time. They are for training alone:
what is measured are the templates of `stories`, of which none is used here. Truth is the solution
that they come with (`stories.read_solution`). Taught in notebook 10.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import NamedTuple

from workbench.problems.stories import SPELLED
from workbench.problems.story_templates import PEOPLE, WORDS
from workbench.types import Problem

LARGEST = 50  # number of a tale or of one of its steps; sums go up to twice that
SUMS = 8  # of a drill
TALE_TRIES = 1000  # tries of one part of a tale, until its numbers come out
_THINGS = [w for row in ("fruit", "sweet", "toy", "animal", "flower", "plant") for w in WORDS[row]]
_THINGS += ["books", "pencils", "coins", "shells", "stamps", "eggs", "candles", "cards", "pebbles"]
_THINGS += ["balloons", "photos", "bottles", "cups", "keys", "tickets", "nuts", "stones", "ribbons"]


class Sentence(NamedTuple):
    """What is told, and how the amount changes: `v` is the amount so far, `before` that of the last
    sentence, `k` and `n` are new."""

    steps: str  # formulas, a step each; "" if the amount is just told
    text: str


def _read(text: str) -> list[Sentence]:
    """Sentences under their formulas: an indented line is told, the one above says what it does."""
    found, steps = [], ""
    for line in text.strip("\n").splitlines():
        if line.startswith("    "):
            found.append(Sentence(steps, line.strip()))
        else:
            steps = line.strip().replace("told", "")
    return found


OPENINGS = _read("""
told
    {A} has {v} {X}.
    {A} owns {v} {X}.
    There are {v} {X} on {A}'s table.
    {A} found {v} {X} in a cupboard.
    This morning {A} counted {v} {X}.
    {A} took {v} {X} to the market.
    {A} brought {v} {X} home.
    At first {A} had {v} {X}.
n * k
    {A} has {n} boxes with {k} {X} in each.
    {A} buys {n} packs of {k} {X}.
    {A} keeps {X} in {n} drawers, {k} in every drawer.
    There are {n} trays with {k} {X} on each, and all belong to {A}.
    On each of {n} days {A} collected {k} {X}.
    {A} got {k} {X} from each of {n} friends.
    {A} makes {k} {X} an hour and has worked for {n} hours.
    For {n} weeks {A} was given {k} {X} a week.
n + k
    {A} has {n} old {X} and {k} new ones.
    {A} found {n} {X} on {day} and {k} on the day after.
    {A} has {n} {X} in one bag and {k} in another.
    {A} bought {n} {X} and got {k} for nothing.
    {A} had {n} {X} and was given {k} more.
    {B} has {n} {X}, and {A} has {k} more than {B}.
    {A} gave {k} {X} away and still has {n}, but now {B} brings all of those back.
n - k
    {A} wanted {n} {X} but got {k} fewer.
    {A} had {n} {X}, but {k} of them were lost.
    {A} had {n} {X} and sold {k}.
    Of {n} {X} that {A} had, {k} were stolen.
    {B} has {n} {X}, and {A} has {k} fewer than {B}.
    {n} {X} lay in a basket, and {A} took all but {k}.
n * k
    {B} has {n} {X}, and {A} has {k:times} as many as {B}.
n / k
    {A} and some friends, {k} people in all, shared {n} {X} equally, and {A} took {her} part home.
    {n} {X} were divided equally among {k} children, and {A} was one of them.
""")

EVENTS = _read("""
v + k
    Then {B} gives {her} {k} more.
    {She} buys another {k}.
    Later {she} finds {k} more.
    {She} gets {k} more from {her} {kin}.
    The next day {k} more arrive.
    {B} adds {k} of {his} own.
    {She} wins {k} more in a game.
v - k
    {She} gives {k} of them to {B}.
    {She} loses {k} of them.
    {k} of them break.
    {She} sells {k} of them.
    {She} uses {k} of them.
    {B} takes {k} away.
    {k} of them are bad, and {she} throws these away.
    {She} sends {k} to {her} {kin}.
""")

ASKED = _read("""
told
    How many {X} does {A} have now?
    How many {X} has {A} in the end?
    How many {X} is that?
    How many {X} does {she} have after that?
""")

ENDINGS = _read("""
v / k
    {She} shares them equally among {k} friends. How many {X} does each friend get?
    {She} packs them into bags of {k}. How many bags does {she} need?
    {She} puts them into {k} boxes, equally many in each. How many {X} are in one box?
    {She} uses {k} a day. For how many days do they last?
    {She} lays them in rows of {k}. How many rows are there?
    They fit into crates that hold {k} each. How many crates get full?
    {K:part} of them are red. How many {X} are red?
    {K:part} of them belong to {B}. How many {X} belong to {B}?
v * k
    {She} sells each of them for ${k}. How many dollars does {she} get?
    Each of them weighs {k} grams. How many grams do they weigh together?
    {B} has {k:times} as many {X}. How many {X} does {B} have?
    One of them costs ${k}. How many dollars did all of them cost?
    It takes {k} minutes to paint one of them. How many minutes does it take to paint all?
    {B} needs {k} times that many. How many {X} does {B} need?
v % k
    {k}% of them are ripe. How many {X} are ripe?
    {She} sells {k}% of them. How many {X} does {she} sell?
v % k; before - v
    {k}% of them are wet, and the others are dry. How many {X} are dry?
    {She} loses {k}% of them. How many {X} are left?
v / k; before - v
    {K:part} of them are gone by noon. How many {X} are left?
    {She} gives {k:part} of them to {B}. How many {X} does {she} keep?
v + k
    {B} has {k} {X} more than {A}. How many {X} does {B} have?
    {B} has {k} {X}. How many {X} do the two have together?
    That is {k} fewer than {B} has. How many {X} does {B} have?
v - k
    {B} has {k} {X} less than {A}. How many {X} does {B} have?
    That is {k} more than {B} has. How many {X} does {B} have?
    {B} has {k} {X}. How many more {X} does {A} have than {B}?
    {k} of them are blue. How many are not blue?
    How many {X} are left when {she} has given {k} to {B}?
k - v
    {She} needs {k} for a feast. How many more {X} does {she} need?
    {B} has {k} {X}. How many more {X} does {B} have than {A}?
    {She} wants to have {k}. How many {X} are still missing?
v / 2; before - v
    {She} gives half of them to {B}. How many {X} does {she} keep?
    Half of them are sold. How many {X} are not sold?
v * k; v + before
    {B} has {k:times} as many {X}. How many {X} do they have together?
v + k; v + before
    {B} has {k} {X} more than {A}. How many {X} do they have together?
v - k; v + before
    {B} has {k} {X} less than {A}. How many {X} do they have together?
""")


def tales(n: int, seed: int) -> list[Problem]:
    """The first `n` of a seeded, endless list of stories of one to three steps."""
    return [_tale(random.Random(f"tales/{seed}/{i}"), f"tales/{seed}/{i}") for i in range(n)]


def _tale(rng: random.Random, id: str) -> Problem:
    while True:
        if found := _told(rng, rng.randint(1, 3)):
            text, lines, answer = found
            solution = "\n".join([*lines, f"The answer is {answer}"])
            return Problem(id, "stories", text, str(answer), solution, len(lines))


def _told(rng: random.Random, level: int) -> tuple[str, list[str], int] | None:
    """Sentences whose formulas make `level` steps; None if these cannot be had with numbers."""
    opening = rng.choice(OPENINGS)
    ending = rng.choice(rng.choice([ASKED, ENDINGS]))
    of_both = sum(len(s.steps.split("; ")) for s in (opening, ending) if s.steps)
    if of_both > level:
        return None
    chosen = [opening, *(rng.choice(EVENTS) for _ in range(level - of_both)), ending]
    words, sentences, lines, amount = _words(rng), [], [], 0
    for sentence in chosen:
        for _ in range(TALE_TRIES):
            if (numbers := _numbers(rng, sentence, amount)) is not None:
                break
        else:
            return None
        put, new, amount = numbers
        lines += new
        sentences.append(_fill(sentence.text, words | put))
    same = len({line.partition(" = ")[2] for line in lines}) < len(lines)
    return None if same or not lines else (" ".join(sentences), lines, amount)


def _numbers(
    rng: random.Random, sentence: Sentence, amount: int
) -> tuple[dict[str, int], list[str], int] | None:
    """Numbers for the slots of a sentence, its lines and the new amount; None for a bad draw."""
    text, lines, before = sentence.text, [], amount
    if "{v}" in text:
        amount = rng.randint(3, LARGEST - 10)
        return {"v": amount}, lines, amount
    small = any(sign in sentence.steps for sign in "*/")
    few = any(mark in text for mark in (":times", ":part"))
    put = {"k": rng.randint(2, 5 if few else 12 if small else LARGEST)}
    if "%" in sentence.steps:
        put["k"] = rng.randrange(5, 100, 5)
    put["n"] = rng.randint(2, 12 if "n *" in sentence.steps else LARGEST)
    for formula in filter(None, sentence.steps.split("; ")):
        one, sign, other = formula.split()
        known = put | {"v": amount, "before": before, "2": 2}
        a, b = known[one], known[other]
        result = _ANSWER[sign](a, b)
        if result is None or not 1 <= result <= LARGEST:
            return None
        lines.append(f"{a} {sign} {b} = {result}".replace(f"% {b}", f"* {b} / 100"))
        amount = result
    return put, lines, amount


_ANSWER: dict[str, Callable[[int, int], int | None]] = {
    "+": int.__add__, "-": int.__sub__, "*": int.__mul__,
    "/": lambda a, b: None if a % b else a // b,
    "%": lambda a, b: None if a * b % 100 else a * b // 100,
}  # fmt: skip


def _words(rng: random.Random) -> dict[str, str]:
    one, other = rng.sample(list(PEOPLE), 2)
    she, he = PEOPLE[one], PEOPLE[other]
    words = {"A": one, "B": other, "X": rng.choice(_THINGS)}
    words |= {"she": she, "She": she.capitalize(), "her": "her" if she == "she" else "him"}
    words |= {"own": "her" if she == "she" else "his", "his": "her" if he == "she" else "his"}
    return words | {row: rng.choice(WORDS[row]) for row in ("day", "kin")}


def _fill(text: str, words: dict) -> str:
    # "her sister" is his sister of a man, "gives her" gives him
    text = re.sub(r"\{her\} (?=\{kin\}|part)", "{own} ", text)
    part, times = (SPELLED[mark].get(words.get("k"), "") for mark in ("part", "times"))
    for slot, said in (("k:times", times), ("k:part", part), ("K:part", part.capitalize())):
        text = text.replace(f"{{{slot}}}", said)
    return text.format(**words)


# -- sums ------------------------------------------------------------------------------------------


def sums(n: int, seed: int) -> list[Problem]:
    """Problems of eight bare sums each, most of small numbers; divisions come out even."""
    rng, drawn = random.Random(f"drills/{seed}"), []
    for i in range(n):
        lines = [_sum(rng) for _ in range(SUMS)]
        question = ", ".join(line.partition(" = ")[0] for line in lines)
        drawn.append(Problem(f"drills/{seed}/{i}", "math", question, None, "\n".join(lines)))
    return drawn


def _sum(rng: random.Random) -> str:
    sign, small, most = rng.choice("+-*/%"), rng.randint(2, 12), rng.randint(24, 2 * LARGEST)
    if sign == "%":
        whole, percent = 20 * rng.randint(1, 2 * LARGEST // 20), 5 * rng.randint(1, 18)
        return f"{whole} * {percent} / 100 = {whole * percent // 100}"
    large = rng.randint(2, most // small)
    if sign == "*":
        return f"{small} * {large} = {small * large}"
    if sign == "/":
        return f"{small * large} / {small} = {large}"
    part, whole = sorted(rng.sample(range(1, most + 1), 2))
    if sign == "+":
        return f"{part} + {whole - part} = {whole}"
    return f"{whole} - {part} = {whole - part}"
