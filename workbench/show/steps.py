"""The step strip: a solution, a step a line, marked right or wrong, with the reason and a score.

On it stand the views of problems, labelled solutions, prefixes and results that a notebook shows.

Data in, HTML text out, under the rules of `workbench.show.cards`. Taught in notebook 00.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.problems import explain
from workbench.show.cards import GREEN, GREY, RED, bar, breakable, escape
from workbench.types import LabelledSolution, Prefix, Problem, SearchResult

QUESTION = "margin:2px 0 6px 0;padding:6px 10px;background-color:rgba(128,128,128,.15)"
Reasons = Sequence[str | None]  # of each step why it is wrong, None if it is right
ROW = "padding:3px 10px;vertical-align:top;text-align:left"
SMALL = "font-size:90%;opacity:.8"


def step_strip(
    steps: Sequence[str], reasons: Reasons | None = None, scores: Sequence[float] | None = None
) -> str:
    """One line per step: ✓ or ✗ with the reason, and a bar for its score.

    `reasons[i]` is None for a right step; without `reasons` the steps are numbered instead.
    ValueError if reasons or scores are not one per step, or a score lies outside [0, 1].
    """
    for name, row in (("reasons", reasons), ("scores", scores)):
        if row is not None and len(row) != len(steps):
            raise ValueError(f"{len(row)} {name} for {len(steps)} steps, need one per step")
    if scores is not None and not all(0 <= s <= 1 for s in scores):
        raise ValueError(f"scores {list(scores)}: each must lie in [0, 1]")
    rows = "".join(_row(i, step, reasons, scores) for i, step in enumerate(steps))
    return f'<table style="border-collapse:collapse"><tbody>{rows}</tbody></table>'


def _row(i: int, step: str, reasons: Reasons | None, scores: Sequence[float] | None) -> str:
    score = bar(scores[i]) if scores is not None else None
    if reasons is None:
        return _line(GREY, str(i + 1), step, score)
    tint, mark = (GREEN, "✓") if reasons[i] is None else (RED, "✗")
    return _line(tint, mark, step, score, reasons[i] or "")


def _line(tint: str, mark: str, step: str, score: str | None, words: str | None = None) -> str:
    """A row of a strip, with a cell for the bar of a score and for words unless they are None."""
    cells = [f'<td style="{ROW}">{mark}</td>']
    cells.append(f'<td style="{ROW};white-space:pre-wrap">{breakable(step)}</td>')
    if score is not None:
        cells.append(f'<td style="{ROW}">{score}</td>')
    if words is not None:
        cells.append(f'<td style="{ROW};font-style:italic">{escape(words)}</td>')
    return f'<tr style="background-color:{tint}">{"".join(cells)}</tr>'


def solution_strip(
    problem: Problem, steps: Sequence[str], scores: Sequence[float] | None = None
) -> str:
    """The question and a solution's steps, marked by the exact checker where it can read them."""
    question = f'<div style="{QUESTION}">{escape(problem.question)}</div>'
    return question + step_strip(steps, _reasons(problem, steps), scores)


def _reasons(problem: Problem, steps: Sequence[str]) -> Reasons | None:
    try:
        return explain(problem, steps)
    except ValueError:  # another kind of problem, or a toy question
        return None


def problem_view(problem: Problem) -> str:
    """How a notebook shows a `Problem`: the question, what is known of it, its solution folded."""
    facts = [problem.id, problem.kind]
    facts += [f"level {problem.level}"] if problem.level is not None else []
    facts += [f"the answer is {problem.answer}"] if problem.answer is not None else []
    note = f'<div style="{SMALL}">{escape(" · ".join(facts))}</div>'
    view = f'<div style="{QUESTION}">{breakable(problem.question)}{note}</div>'
    steps = [line for line in (problem.solution or "").split("\n") if line.strip()]
    if not steps:
        return view
    strip = step_strip(steps, _reasons(problem, steps))
    return f'{view}<details><summary style="cursor:pointer">solution</summary>{strip}</details>'


def labelled_view(row: LabelledSolution) -> str:
    """How a notebook shows a `LabelledSolution`: each step with its label ✓, ✗ or – (none), its
    value, and in words where the exact truth is known and another."""
    reasons = _reasons(row.problem, row.steps)
    lines = []
    for i, (step, label) in enumerate(zip(row.steps, row.labels)):
        tint, mark = {1: (GREEN, "✓"), 0: (RED, "✗"), None: (GREY, "–")}[label]
        value = row.values and ("" if row.values[i] is None else bar(row.values[i]))
        words = _against(label, reasons[i]) if reasons is not None else ""
        lines.append(_line(tint, mark, step, value, words))
    strip = f'<table style="border-collapse:collapse"><tbody>{"".join(lines)}</tbody></table>'
    question = f'<div style="{QUESTION}">{breakable(row.problem.question)}</div>'
    note = escape(f"labels by {row.source}") if row.source else "labels"
    return f'{question}{strip}<div style="{SMALL};padding:4px 10px">{note}</div>'


def _against(label: int | None, reason: str | None) -> str:
    if label is None or (label == 1) == (reason is None):
        return ""
    return "in truth right" if reason is None else f"in truth wrong: {reason}"


def prefix_view(prefix: Prefix) -> str:
    """How a notebook shows a `Prefix`."""
    return solution_strip(prefix.problem, prefix.texts)


def result_view(result: SearchResult) -> str:
    """How a notebook shows a `SearchResult`: the chosen solution, then what it cost."""
    meter = result.meter
    line = f"{len(result.rollouts)} solutions · {meter.samples} samples"
    line += f" · {meter.tokens:,} tokens · {meter.calls} calls"
    for name, what in (("error", result.error), ("stopped", result.stopped)):
        line += f" · {name}: {what}" if what else ""
    if result.best is not None:
        body = prefix_view(result.best)
    else:
        body = f"<div>{escape(result.problem.question)}</div>"
    return f'{body}<div style="{SMALL};padding:4px 10px">{escape(line)}</div>'
