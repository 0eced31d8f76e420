"""What a choice in a reply of the OpenAI API says: its text, cut into steps, and their tokens."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from workbench.models.server_client import ServerError

SAYS_WHY = ("stop_reason", "matched_stop")  # a text that stopped it, or none: of vLLM, of SGLang


def stopped_by(choice: Mapping[str, Any], separator: str) -> bool | None:
    """Did the separator end it? None: the server does not say.

    >>> stopped_by({"text": "a", "stop_reason": None}, "\\n"), stopped_by({"text": "a"}, "\\n")
    (False, None)
    """
    if separator in choice["text"]:
        return True
    return next((choice[name] == separator for name in SAYS_WHY if name in choice), None)


def said_by(choice: Mapping[str, Any]) -> str:
    """What a choice says; `ServerError` where the server keeps a part of it apart.

    JSON can name half of a surrogate pair, which is no text: U+FFFD stands for it.
    """
    if "message" not in choice:
        return re.sub("[\ud800-\udfff]", "\ufffd", choice["text"])
    message = choice["message"]
    if message.get("reasoning_content") or message.get("reasoning"):
        raise ServerError("the server parts reasoning from the answer: start it without a parser")
    return re.sub("[\ud800-\udfff]", "\ufffd", message["content"])


def into_steps(text: str, separator: str) -> list[str]:
    r"""Steps of a text, at least one; joined with the separator they are the text again.

    Blank pieces stay with the step before them (at the beginning: with the one behind). A separator
    at the end of the text is that of the last step.

    >>> into_steps("a\n\nb\nc\n", "\n"), into_steps("\n a", "\n"), into_steps("", "\n")
    (['a\n', 'b', 'c'], ['\n a'], [''])
    """
    steps: list[list[str]] = []
    blank = True  # so far the last one is
    for piece in text.removesuffix(separator).split(separator):
        if steps and (blank or not piece.strip()):
            steps[-1].append(piece)
            blank = blank and not (separator + piece).strip()
        else:
            steps.append([piece])
            blank = not piece.strip()
    return [separator.join(pieces) for pieces in steps]


def spread_tokens(
    choice: Mapping[str, Any], ends: Sequence[float]
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    r"""Ids and log-probabilities of the steps that end at `ends` (in letters); empty if unknown.

    A token belongs to the step in which it begins. Of several steps nothing is known if the tokens
    do not spell the text (parts of letters).

    >>> told = {"tokens": ["a", "\n", "b", "</s>"], "token_logprobs": [-1.0, -2.0, -3.0, -4.0]}
    >>> spread_tokens({"text": "a\nb", "logprobs": told}, [2, 99])
    [((), (-1.0, -2.0)), ((), (-3.0, -4.0))]
    """
    told = choice.get("logprobs") or {}
    if "content" in told:  # of a chat
        tokens = [entry["token"] for entry in told["content"] or ()]
        logprobs = [entry["logprob"] for entry in told["content"] or ()]
    else:
        tokens, logprobs = told.get("tokens") or [], told.get("token_logprobs") or []
    ids = choice.get("token_ids") or []
    parts: list[tuple[list[int], list[float]]] = [([], []) for _ in ends]
    starts = accumulate(map(len, tokens[:-1]), initial=0)
    if len(ends) == 1 or "".join(tokens).startswith(choice["text"]):
        for i, (start, logprob) in enumerate(zip(starts, logprobs)):
            part = parts[bisect_right(ends, start)]
            part[0].extend(ids[i : i + 1] if len(ids) == len(tokens) else [])
            part[1].append(float(logprob))
    return [(tuple(own), tuple(values)) for own, values in parts]
