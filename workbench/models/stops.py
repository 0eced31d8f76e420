r"""Where a step ends and where a solution does: by tokens, and by texts of several tokens.

A separator of one letter (`"\n"`) is over with the first token that holds it. A longer one may be
spread over several tokens, as a blank line or `"\nStep {n}:"` often is: wherever a token could be
its last one, the text of the tokens before is looked at, too. `{n}` stands for the number of the
step that begins there.

Nothing ahead is looked at: a step ends with the token that completes its separator, so sampling
step by step draws from the same distribution as sampling to the end. Taught in notebook 10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NEWLINE, BLANK_LINE, NUMBERED = "\n", "\n\n", "\nStep {n}:"
_NUMBER = "{n}"
PART = "\ufffd"  # what stands for some bytes of a letter


# -- separators ------------------------------------------------------------------------------------


def pattern_of(separator: str) -> str:
    r"""A separator as a regular expression; `{n}` is any number.

    >>> bool(re.fullmatch(pattern_of(NUMBERED), "\nStep 12:"))
    True
    """
    return r"\d+".join(map(re.escape, separator.split(_NUMBER)))


def first_mark(separator: str) -> str:
    r"""What stands before the first step: nothing, or its number where steps are numbered.

    >>> first_mark("\n"), first_mark(NUMBERED)
    ('', 'Step 1:')
    """
    return separator.lstrip().replace(_NUMBER, "1") if _NUMBER in separator else ""


def with_separator(text: str, separator: str, number: int) -> tuple[str, str]:
    r"""A step that came as text, and what stands after it; `number` counts steps from 1.

    >>> with_separator("2 + 3 = 5", NUMBERED, 1), with_separator("2 + 3 = 5", "\n", 1)
    ((' 2 + 3 = 5', '\nStep 2:'), ('2 + 3 = 5', '\n'))
    """
    if _NUMBER not in separator:
        return text, separator
    return f" {text}", separator.replace(_NUMBER, str(number + 1))


def laid_out(steps: Sequence[str], separator: str) -> str:
    r"""A whole solution as a policy with this separator writes it, its first mark included.

    >>> laid_out(["2 + 3 = 5", "The answer is 5"], NUMBERED)
    'Step 1: 2 + 3 = 5\nStep 2: The answer is 5'
    """
    pieces = [with_separator(text, separator, i) for i, text in enumerate(steps, start=1)]
    joined = "".join(text + after for text, after in pieces[:-1])
    return first_mark(separator) + joined + (pieces[-1][0] if pieces else "")


def written_as(text: str, separator: str) -> str:
    r"""A solution whose steps are lines, as a policy with this separator is to write it.

    Its first mark belongs to the prompt. Separators other than lines, blank lines and numbers stand
    in the text already.

    >>> written_as("2 + 3 = 5\nThe answer is 5", NUMBERED)
    ' 2 + 3 = 5\nStep 2: The answer is 5'
    """
    if separator == NEWLINE or not (separator.isspace() or _NUMBER in separator):
        return text
    steps = [line for line in text.split("\n") if line.strip()]
    return laid_out(steps, separator).removeprefix(first_mark(separator))


# -- stops -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stops:
    """What ends a continuation: the `sure` tokens, and those of `maybe` that complete a text.

    Both are tables (V,) of bool. `completes(ids)`: does the last of these ids complete a text?
    """

    sure: np.ndarray
    maybe: np.ndarray | None = None
    completes: Callable[[Sequence[int]], bool] = lambda ids: False

    def over(self, ids: Sequence[int]) -> bool:
        """Does the last of these ids end them?"""
        looks_back = self.maybe is not None and bool(self.maybe[ids[-1]])
        return bool(self.sure[ids[-1]]) or (looks_back and self.completes(ids))


def stop_tables(model, tokenizer, **texts: Sequence[str]) -> dict[str, Stops]:
    """By name, stops at every end that model or tokenizer knows, and at the texts of that name."""
    size = model.get_output_embeddings().weight.shape[0]
    end = np.zeros(size, bool)
    for ends in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        if ends is not None:
            end[ends] = True  # one, or a list of them
    words = tokenizer.batch_decode([[i] for i in range(min(size, len(tokenizer)))])
    return {name: stops_at(tokenizer, words, end, own) for name, own in texts.items()}


def stops_at(tokenizer, words: Sequence[str], ends: np.ndarray, texts: Sequence[str]) -> Stops:
    """Stops at the tokens of `ends` (V,), and wherever one of the texts (separators) is complete.

    `words[i]` is token i by itself.
    """
    found, maybe = re.compile("|".join(map(pattern_of, texts))), np.zeros_like(ends)
    last = {text[-1] for text in texts if len(text) > 1}
    if any(not text[-1].isascii() for text in texts):
        last.add(PART)  # a token may hold the last bytes of a letter
    sure = ends.copy()
    for i, word in enumerate(words):
        sure[i] |= bool(texts) and found.search(word) is not None
        maybe[i] = not sure[i] and not last.isdisjoint(word)
    if not maybe.any():
        return Stops(sure)
    reach = 4 + max(len(text.encode()) for text in texts)  # a token holds a byte or more

    def completes(ids: Sequence[int]) -> bool:
        tail = [int(i) for i in ids[-reach:]]
        whole, before = tokenizer.batch_decode([tail, tail[:-1]])
        seen = len(before.rstrip(PART))  # a letter that was cut off is not there yet
        return any(match.end() > seen for match in found.finditer(whole))

    return Stops(sure, maybe, completes)


def without_ending(text: str, texts: Sequence[str]) -> str:
    r"""A step's text without the separator or stop text behind it, and without white space around.

    >>> without_ending(" 2 + 3 = 5\nStep 2:", [NUMBERED]), without_ending("so 5\n", ["\n"])
    ('2 + 3 = 5', 'so 5')
    """
    for ending in texts:
        if ending.strip():
            text = re.sub(rf"\s*{pattern_of(ending.strip())}\s*\Z", "", text)
    return text.strip()
