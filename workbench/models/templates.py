"""Prompts by name: what a policy reads before it writes. `solve` is the plain question.

A template is a format string over the fields of the problem; a policy of another family brings its
own (a chat template, say) under the same names. Used by `Sample(prompt=...)`.
"""

from __future__ import annotations

from collections.abc import Mapping

from workbench.types import Problem

EMBEDDED = {
    "solve": "{question}\n",
    # STaR's rationalisation
    "hint": "{question}\nHint : the answer is {answer} , show the steps .\n",
    "rephrase": "{question}\nIn other words :\n",
}


def render(templates: Mapping[str, str], name: str, problem: Problem) -> str:
    """The prompt text for one problem; ValueError on an unknown template or a missing answer."""
    if name not in templates:
        raise ValueError(f"prompt {name!r}: this policy has {', '.join(sorted(templates))}")
    template = templates[name]
    if "{answer}" in template and problem.answer is None:
        raise ValueError(
            f"prompt {name!r} tells the answer, but {problem.id} comes without it "
            "(search methods see none)"
        )
    return template.format(question=problem.question, answer=problem.answer)


def start_ids(tokenizer, text: str, front: list[int] | None = None) -> list[int]:
    """Ids of a text that begins a row: with BOS if the tokenizer adds one, but once; without EOS.

    A text may bring its own BOS (a chat template does). `front`: the `front_ids`, if known.
    """
    front = front_ids(tokenizer) if front is None else front
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return ids if ids[: len(front)] == front else [*front, *ids]


def front_ids(tokenizer) -> list[int]:
    """What a tokenizer puts before every text by itself (BOS, mostly, or nothing), by trying."""
    bare = tokenizer("1", add_special_tokens=False).input_ids
    whole = tokenizer("1").input_ids
    places = range(len(whole) - len(bare), -1, -1)
    return next((whole[:i] for i in places if whole[i : i + len(bare)] == bare), [])
