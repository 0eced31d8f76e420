"""The wrong solutions that a verifier likes best, as HTML. Taught in notebook 03."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workbench.show.cards import GREY as TINT
from workbench.show.cards import escape
from workbench.show.steps import solution_strip
from workbench.types import Problem


def exploit_gallery(
    rows: Iterable[tuple[Problem, Sequence[str], Sequence[float], bool]], *, limit: int = 5
) -> str:
    """The wrong solutions whose worst step scored highest, each text once, the first one open.

    `rows` are (problem, steps, step scores, is its answer right?).
    """
    wrong = {}
    for problem, steps, scores, right in rows:
        if not right:
            wrong[problem.id, tuple(steps)] = min(scores), problem, steps, scores
    if not wrong:
        return "<p>(no wrong solutions)</p>"
    worst = sorted(wrong.values(), key=lambda row: -row[0])[:limit]
    return "".join(_exploit(i, *row) for i, row in enumerate(worst))


def _exploit(
    i: int, score: float, problem: Problem, steps: Sequence[str], scores: Sequence[float]
) -> str:
    facts = [f"min score {score:.2f}", problem.id]
    facts += [f"level {problem.level}"] if problem.level is not None else []
    facts += [f"right answer {problem.answer}"] if problem.answer is not None else []
    style = f"padding:3px 10px;margin-top:6px;cursor:pointer;background-color:{TINT}"
    head = f'<summary style="{style}">{escape(" · ".join(facts))}</summary>'
    strip = solution_strip(problem, steps, scores)
    return f"<details{' open' if i == 0 else ''}>{head}{strip}</details>"
