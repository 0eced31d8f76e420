"""The words of the embedded problems as token ids, and back to text: no model, no library.

One token a word, one a digit, one for the end of a step. A number is spelled digit by digit (`13`
is `1 ##3`): the two kinds of digit say where a number begins, so that it can be put together again.
A subject with its verb (`Tess has`) is one token, as byte-pair merges would make it: the fact then
follows its owner directly, which a small model learns to look up ten times sooner than across a
`has` that stands everywhere. Words that later stages need (hints, sub-questions, rephrasings,
critiques, verifier labels) have their ids from the start, and 16 more are spare.
`models.tokenizer` makes a Hugging Face tokenizer of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from workbench.problems.programs import VARIABLES
from workbench.problems.quantities import ITEMS, NAMES

PAD, END, UNKNOWN, STEP, PAUSE = "<pad>", "<end>", "<unk>", "\n", "<pause>"
GOOD, BAD = "<good>", "<bad>"  # verifier labels: no word of any problem
SPECIALS = [PAD, END, UNKNOWN, STEP, PAUSE, GOOD, BAD, *(f"<spare{i}>" for i in range(16))]
DIGIT = "##"  # begins a digit that goes on with a number
_WORDS = (
    "How many does do have has ? . , : ; = + - * more fewer than times as the and together "
    "difference between answer is What "
    "hold after these lines show steps step Hint "  # programs, hints
    # sub-questions
    "First we need to know so now who what In other words that with each of total left asked "
    "Check Yes No right wrong not because but should be says question value The therefore Step "
    "correct it was said"  # critiques
)
# `Tess has 4 more than Max`: unlike Max, Tess is defined here
SUBJECTS = [f"{name} has" for name in NAMES]


@cache
def vocabulary() -> tuple[str, ...]:
    """All tokens in the order of their ids."""
    digits = [str(d) for d in range(10)] + [f"{DIGIT}{d}" for d in range(10)]
    tokens = [*SPECIALS, *digits, *_WORDS.split(), *NAMES, *SUBJECTS, *ITEMS, *VARIABLES]
    if len(set(tokens)) != len(tokens):
        twice = sorted({token for token in tokens if tokens.count(token) > 1})
        raise ValueError(f"tokens listed twice: {twice}")
    return tuple(tokens)


def text_of(ids: Sequence[int]) -> str:
    """The text of one step: words apart, digits of a number together, special tokens left out.

    >>> text_of([vocabulary().index(token) for token in ("The", "answer", "is", "1", "##3", STEP)])
    'The answer is 13'
    """
    words = [w for w in (vocabulary()[i] for i in ids) if w not in SPECIALS]
    goes_on = [n > 0 and word.startswith(DIGIT) for n, word in enumerate(words)]
    pieces = (w.removeprefix(DIGIT) if on else f" {w}" for w, on in zip(words, goes_on))
    return "".join(pieces).strip()
