"""Problems and solutions that somebody typed: cut to size, checked word by word, with the truth.

A typed question is one of the embedded kind (`quantities`), so that its answer and the truth of
every step are known exactly: both are read from its text. What cannot be read is refused with words
that say what would be. Taught in notebook 11.
"""

from __future__ import annotations

import re

from workbench.problems.quantities import ITEMS, LARGEST, NAMES, read_question
from workbench.types import Problem

LONGEST_QUESTION, MOST_LINES, LONGEST_LINE = 600, 16, 160  # of a question; of a solution; of a step
EXAMPLE = "How many shells does Ava have? Max has 5 shells. Ava has 4 more than Max."


def typed_problem(text: str) -> Problem:
    """The problem that a typed question asks, with its answer.

    ValueError, which says what is accepted, for a text that is too long or no such question.

    >>> typed_problem(EXAMPLE).answer
    '9'
    """
    if len(text) > LONGEST_QUESTION:
        raise ValueError(f"{len(text):,} characters: a question has at most {LONGEST_QUESTION}")
    question = re.sub(r" (?=[?.])", "", " ".join(plain(text).split()))
    story = read_question(question)
    _check_words(question)
    if wrong := [q.value for q in story.quantities.values() if not 0 <= q.value <= LARGEST]:
        raise ValueError(f"a number would be {wrong[0]}: all must stay between 0 and {LARGEST}")
    return Problem("typed", "quantities", question, str(story.answer))


def _check_words(question: str) -> None:
    """ValueError for a name or a thing that the embedded policies never saw."""
    for name in re.findall(r"\b[A-Z][a-z]+\b", question):
        if name not in {*NAMES, "How"}:
            raise ValueError(f"name {name!r}: the policies know {', '.join(NAMES)}")
    for item in re.findall(r"How many ([a-z]+)|has \d+ (?!more|fewer|times)([a-z]+)", question):
        if (word := "".join(item)) not in ITEMS:
            raise ValueError(f"{word!r}: the policies know {', '.join(ITEMS)}")


def typed_steps(text: str) -> list[str]:
    """The steps of a typed solution, one a line; blank lines are left out.

    ValueError for more or longer steps than a solution has.

    >>> typed_steps("Ava has 4 more than Max : 5 + 4 = 9 .\\n\\n The answer is 9 .")
    ['Ava has 4 more than Max : 5 + 4 = 9 .', 'The answer is 9 .']
    """
    steps = [" ".join(plain(line).split()) for line in text.split("\n") if line.strip()]
    longest = max(map(len, steps), default=0)
    if len(steps) > MOST_LINES or longest > LONGEST_LINE:
        given = f"{len(steps)} steps, the longest of {longest} characters"
        raise ValueError(f"{given}: at most {MOST_LINES} steps of {LONGEST_LINE} characters")
    return steps


def plain(text: str) -> str:
    """Text without what cannot be printed (control characters, marks that turn the direction).

    >>> plain("a\\tb\\x1b[31mc\\u202ed")
    'a b [31mc d'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)
