"""Prompts by name: what a policy reads before it writes. `solve` is the plain question.

A template is a format string over what a request brings: `question`, `answer`, and words of the
method (`Sample.words`: an attempt, a critique, a sub-question). Those of other models, in ordinary
English and within their chat templates, are made by `prompts`. Used by `Sample(prompt=...)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from workbench.types import Problem

TAUGHT = {  # what the shipped policies have learnt to read
    "solve": "{question}\n",
    # STaR's rationalisation
    "hint": "{question}\nHint : the answer is {answer} , show the steps .\n",
    "rephrase": "{question}\nIn other words :\n",
}
# what methods ask in the words of the shipped policies, which were not taught it
OF_METHODS = {"revise": "{question}\nHint : the answer is not {said} , show the steps .\n"}
EMBEDDED = TAUGHT | OF_METHODS


def render(
    templates: Mapping[str, str],
    name: str,
    problem: Problem,
    words: Mapping[str, str] | None = None,
) -> str:
    """The prompt text for one problem; a word named `question` or `answer` stands in its place.

    ValueError on an unknown template, a missing answer, or a word that the request did not bring.

    >>> asked = {"critique": "{question}\\n{attempt}\\nCheck :\\n"}
    >>> problem = Problem("p1", "quantities", "How many ?")
    >>> render(asked, "critique", problem, {"attempt": "1 + 1 = 3 ."})
    'How many ?\\n1 + 1 = 3 .\\nCheck :\\n'
    """
    if name not in templates:
        raise ValueError(f"prompt {name!r}: this policy has {', '.join(sorted(templates))}")
    template = templates[name]
    given = {"question": problem.question, "answer": problem.answer, **(words or {})}
    fields = {field for _, field, *_ in Formatter().parse(template) if field}
    if missing := sorted(fields - given.keys()):
        needs = f"prompt {name!r} needs {', '.join(missing)}, but the request brings only"
        raise ValueError(f"{needs} {', '.join(given)}: name them in Sample(words=...)")
    if "answer" in fields and given["answer"] is None:
        without = f"{problem.id} comes without it (search methods see none)"
        raise ValueError(f"prompt {name!r} tells the answer, but {without}")
    return template.format(**given)


def plain_ids(tokenizer, text: str) -> list[int]:
    """Ids of a text and of nothing else."""
    return tokenizer(text, add_special_tokens=False).input_ids


def start_ids(tokenizer, text: str, front: list[int] | None = None) -> list[int]:
    """Ids of a text that begins a row: with BOS if the tokenizer adds one, but once; without EOS.

    A text may bring its own BOS (a chat template does). `front`: the `front_ids`, if known.
    """
    front = front_ids(tokenizer) if front is None else front
    ids = plain_ids(tokenizer, text)
    return ids if ids[: len(front)] == front else [*front, *ids]


def front_ids(tokenizer) -> list[int]:
    """What a tokenizer puts before every text by itself (BOS, mostly, or nothing), by trying."""
    bare, whole = plain_ids(tokenizer, "1"), tokenizer("1").input_ids
    places = range(len(whole) - len(bare), -1, -1)
    return next((whole[:i] for i in places if whole[i : i + len(bare)] == bare), [])


def in_chat(tokenizer, chat: Sequence[Mapping[str, str]], **options: Any) -> str:
    """A chat as its tokenizer's template lays it out, on a fixed day; `options` are the template's.

    Some templates tell the model today's date: prompts, and what is known by them, would be others
    tomorrow. Where a template takes `date_string`, that says another day.
    """
    if tokenizer.chat_template and "strftime_now" in tokenizer.get_chat_template():
        options = {"chat_template": _FIXED_DAY + tokenizer.get_chat_template(), **options}
    return tokenizer.apply_chat_template(list(chat), tokenize=False, **options)


_DAY = {"Y": "2024", "m": "07", "d": "26", "B": "July", "b": "Jul", "A": "Friday", "a": "Fri"}
_DAY |= {"y": "24", "-d": "26", "-m": "7", "H": "12", "M": "00", "S": "00"}
_IN_TURN = "".join(f"|replace('%{sign}', '{said}')" for sign, said in _DAY.items())
# what stands for the function of that name
_FIXED_DAY = f"{{% macro strftime_now(form) %}}{{{{ form{_IN_TURN} }}}}{{% endmacro %}}{{{{ '' }}}}"
