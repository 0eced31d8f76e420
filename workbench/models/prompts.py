r"""How a model that knows ordinary English is asked: messages by name, and its own chat template.

A message is text with free fields (`{question}`, `{answer}`, a method's words). Around it goes what
the model was trained to read: its tokenizer's chat template, with a system prompt and examples as
earlier turns where they are wanted; or, for a model without one, a plain prompt with the examples
above it. The steps so far stand beneath, as the beginning of the model's own turn. What comes out
are ordinary templates (`templates.render`), so all that follows is the same as for embedded models.

    load_policy("smollm2", separator="\n\n", asked={"shots": problems[:3], "boxed": True})

The messages serve STaR (hint), rStar's five actions (solve, subquestion, answer_again, rephrase;
arXiv 2408.06195), revisions, and critics (critique, rewrite). `{how}` says how steps are to be laid
out, which goes with the policy's separator. Taught in notebook 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.models.stops import BLANK_LINE, NEWLINE, NUMBERED, first_mark, laid_out
from workbench.models.templates import EMBEDDED, in_chat, render
from workbench.problems import states_answer, worked
from workbench.problems.vocabulary import vocabulary
from workbench.types import Problem

MESSAGES = {
    "solve": "{question}\n\n{how}",
    "hint": "{question}\n\nThe answer is {answer}. Show the steps that lead to it. {how}",
    "revise": "{question}\n\nAn earlier attempt:\n{attempt}\n\nIt may be wrong. Check it, then "
    "solve the question anew. {how}",
    "subquestion": "{question}\n\nWork towards the answer by smaller questions. On one line, ask "
    "the next one, then answer it. If nothing is left to ask, write: The answer is ...",
    "answer_again": "{question}\n\nOn one line, think this part through from the beginning and "
    "answer it: {subquestion}",
    "rephrase": "{question}\n\nSay this in other words. Keep every number and every condition, "
    "leave out what the question does not need, and do not solve it.",
    "critique": "{question}\n\nA student has begun so:\n{attempt}\n\nThe last line may be wrong. "
    "Check it against the question and the lines before, and say what is wrong with it.",
    "rewrite": "{question}\n\nAn earlier attempt was criticised:\n{critique}\n\nSolve the question "
    "step by step without that mistake. {how}",
}
PLAIN_MESSAGES = MESSAGES | {  # for models that only go on with a text
    "solve": "Question: {question}\nSolution:",
    "hint": "Question: {question}\nHint: the answer is {answer}.\nSolution:",
}
PLAIN_STOP = "\nQuestion:"  # they would go on with the next one
NO_STEPS = {"rephrase", "critique"}  # what these bring is not a solution
HOW_TO_WRITE = {
    NEWLINE: "Solve it step by step, one step a line.",
    BLANK_LINE: "Solve it step by step, with a blank line between the steps.",
    NUMBERED: "Solve it in numbered steps: Step 1: ..., Step 2: ... and so on.",
}
HOW_TO_END = {
    False: "Write as the last one: The answer is ...",
    True: r"Write the final answer last, inside \boxed{{}}.",
}
_HERE = "THE-MESSAGE-STANDS-HERE"


def prompts_for(
    tokenizer,
    separator: str = NEWLINE,
    *,
    system: str | None = None,
    shots: Sequence[Problem] = (),
    boxed: bool = False,
    messages: Mapping[str, str] | None = None,
    chat: bool | None = None,
    **template: Any,
) -> dict[str, Any]:
    r"""What `HFPolicy` needs to be asked so: its `templates`, and where to `stop`.

    `shots` are solved problems to show before the question; `boxed` asks for `\boxed{}`; `messages`
    are your own, by name; `chat` says whether to use the chat template (None: if there is one);
    what is left goes to it (`enable_thinking=False`, say). The embedded models' words are those
    that they were taught. ValueError for a chat template that is not there or takes no system
    prompt, and for shots without solutions.
    """
    chat = bool(tokenizer.chat_template) if chat is None else chat
    own = set(vocabulary()) <= tokenizer.get_vocab().keys()
    if own and not chat and not messages:
        if system or shots or boxed or template:
            raise ValueError("this model knows only the words that it was taught: leave out asked")
        return {"templates": dict(EMBEDDED)}
    if (system or template) and not chat:
        raise ValueError(f"system={system!r}, {template}: a plain prompt takes no such thing")
    text = template.get("chat_template") or tokenizer.chat_template
    mentioned = {"chat_template", *re.findall(r"\w+", str(text))}
    if unknown := [name for name in template if name not in mentioned]:
        ours = "system, shots, boxed, messages, chat"
        raise ValueError(f"{unknown[0]}: the chat template reads no such name, use {ours}")
    known = (MESSAGES if chat else PLAIN_MESSAGES) | dict(messages or {})
    texts = with_layout(known, separator, boxed=boxed)
    turns = [_turn(shot, texts["solve"], separator, boxed) for shot in shots]
    templates = {}
    for name, text in texts.items():
        shown = turns if name == "solve" else []
        mark = "" if name in NO_STEPS else first_mark(separator)
        whole = _in_chat(tokenizer, text, system, shown, template) if chat else _plain(text, shown)
        templates[name] = whole + mark
    return {"templates": templates} | ({} if chat else {"stop": (PLAIN_STOP,)})


def with_layout(
    messages: Mapping[str, str] = MESSAGES, separator: str = NEWLINE, *, boxed: bool = False
) -> dict[str, str]:
    r"""The messages with `{how}` said: what a server that has the chat template itself is told.

    >>> with_layout({"solve": "{question}\n{how}"}, "\n")["solve"]
    '{question}\nSolve it step by step, one step a line. Write as the last one: The answer is ...'
    """
    how = f"{HOW_TO_WRITE.get(separator, 'Solve it step by step.')} {HOW_TO_END[boxed]}"
    return {name: text.replace("{how}", how) for name, text in messages.items()}


def asked_of_server(
    *, separator: str = NEWLINE, chat: bool = False, asked: Mapping[str, Any] | None = None,
    tokenizer: Any = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """The options of a `ServerPolicy` that is `asked` as `prompts_for` says, if they name no
    `templates`.

    With `chat` the server puts its chat template around our messages; without it, that of the
    `tokenizer` stands in the text, if one is given, and else it is a plain prompt. ValueError for
    what only a tokenizer can do.
    """
    options |= {"separator": separator, "chat": chat}
    if "templates" in options:
        if asked is not None:
            raise ValueError("asked and templates: give one of them, asked makes the templates")
        return options
    asked = dict(asked or {})
    if chat and (beyond := [name for name in asked if name not in ("boxed", "messages")]):
        need = "with chat=True a server is told `boxed` and `messages` alone; give tokenizer=..."
        raise ValueError(f"{beyond[0]}: {need}, without chat")
    if tokenizer is None and (beyond := [name for name in ("system", "chat") if asked.get(name)]):
        raise ValueError(f"{beyond[0]}: a server can't be told that without tokenizer=...")
    if chat:
        known = MESSAGES | dict(asked.get("messages") or {})
        texts = with_layout(known, separator, boxed=asked.get("boxed", False))
        return options | {"templates": texts}
    known = _NoTokenizer() if tokenizer is None else tokenizer
    made = prompts_for(known, separator, **asked)
    extra = {"stop": list(made["stop"])} if "stop" in made else {}
    return options | {"templates": made["templates"], "extra": extra | (options.get("extra") or {})}


class _NoTokenizer:
    """Of a model that is elsewhere: it has no chat template, and words that are not known here."""

    chat_template = None

    def get_vocab(self) -> dict[str, int]:
        return {}


def _turn(shot: Problem, text: str, separator: str, boxed: bool) -> tuple[str, str]:
    """A solved problem as a question and its reply."""
    steps = [line for line in (worked(shot) or "").split("\n") if line.strip()]
    if not steps:
        raise ValueError(f"{shot.id} has no solution: an example needs one")
    if boxed and shot.answer is not None and not any(r"\boxed" in step for step in steps):
        said = rf"The answer is \boxed{{{shot.answer}}}"
        bare = re.match(r"\W*(?:so |the )*answer\b", steps[-1], re.I)
        steps = [*steps[:-1], said] if bare and states_answer(shot, steps[-1]) else [*steps, said]
    return render({"solve": text}, "solve", shot).strip(), laid_out(steps, separator)


def _plain(text: str, turns: Sequence[tuple[str, str]]) -> str:
    """Examples, then the text; the solution begins on the next line."""
    before = "".join(f"{asked}\n{told}\n\n" for asked, told in turns)
    return f"{_literal(before)}{text.strip()}\n"


def _in_chat(
    tokenizer,
    text: str,
    system: str | None,
    turns: Sequence[tuple[str, str]],
    template: Mapping[str, Any],
) -> str:
    """The text as the last message of a chat, up to where the model's own turn begins."""
    chat = [{"role": "system", "content": system}] if system is not None else []
    for asked, told in turns:
        chat += [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
    chat.append({"role": "user", "content": _HERE})
    before, after = _around(tokenizer, chat, add_generation_prompt=True, **template)
    return _literal(before) + text.strip() + _literal(after)


def _around(tokenizer, chat: list[dict[str, str]], **template: Any) -> tuple[str, str]:
    """The text of a chat before and after the message that stands for others."""
    from jinja2 import TemplateError

    try:
        whole = in_chat(tokenizer, chat, **template)
    except (TemplateError, ValueError) as error:
        roles = ", ".join(message["role"] for message in chat)
        raise ValueError(f"the chat template refuses {roles}: {error}") from error
    system = chat[0]["content"].strip() if chat[0]["role"] == "system" else ""
    if whole.count(_HERE) != 1 or system not in whole:
        raise ValueError("the chat template leaves out a message, or repeats it: use chat=False")
    before, _, after = whole.partition(_HERE)
    return before, after


def _literal(text: str) -> str:
    """Text as a template holds it: its braces are no fields."""
    return text.replace("{", "{{").replace("}", "}}")


# -- critics ---------------------------------------------------------------------------------------


CRITIC = "Is the last step right? Answer Yes or No."
CRITIC_WRITES = "Is the last step right? On one line, check it, and say what you find."


def critic_format(tokenizer, *, writes: bool = False, critiques: int = 1, **template: Any):
    """How a chat model is asked about each step: a `GenerativeFormat`, for `GenerativeVerifier`.

    The question, the steps as the model's own turn, then: is the last one right? Its verdict is Yes
    or No; if it `writes`, after a line of its own that says what speaks against the step.
    ValueError for a tokenizer without a chat template.
    """
    from workbench.models.generative import GenerativeFormat
    from workbench.models.step_format import StepFormat

    solve = prompts_for(tokenizer, chat=True, **template)["templates"]["solve"]
    about = CRITIC if not writes else CRITIC_WRITES
    chat = [("user", "?"), ("assistant", _HERE), ("user", about)]
    chat = [{"role": role, "content": content} for role, content in chat]
    _, after = _around(tokenizer, chat, add_generation_prompt=True, **template)
    ask = "{step}" + _literal(after)
    good, bad = "Yes", "No"
    if writes:
        ask, good, bad = f"{ask}{{critique}}Right, Yes or No?", " Yes", " No"
    lines = StepFormat(good=good, bad=bad, template=solve)
    return GenerativeFormat(ask=ask, critiques=critiques, lines=lines)
