"""Prompts by name: what a policy reads before it writes. `solve` is the plain question; others give
hints and so on.

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
    """The prompt text for one problem; raises ValueError on an unknown template or a field the
    problem lacks."""
    if name not in templates:
        raise ValueError(f"prompt {name!r}: this policy has {', '.join(sorted(templates))}")
    template = templates[name]
    if "{answer}" in template and problem.answer is None:
        raise ValueError(
            f"prompt {name!r} tells the answer, but {problem.id} comes without it (search methods see none)"
        )
    return template.format(question=problem.question, answer=problem.answer)
