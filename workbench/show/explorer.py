"""Views of the explorer: a search, a simulation of MCTS, two searches, a solution that is edited.

Data in, HTML text out, under the rules of `workbench.show.cards`. Columns are inline blocks, which
stand below each other where there is no room. Taught in notebook 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from workbench.problems import explain, is_right, solvable
from workbench.show.cards import BLUE, escape, table
from workbench.show.steps import QUESTION, SMALL, step_strip
from workbench.show.trees import labelled_tree, tree_view
from workbench.tree import Node, grow
from workbench.types import Prefix, Problem, SearchResult, Step

COLUMN = "display:inline-block;vertical-align:top;min-width:min(100%, 440px)"
HEAD = f"padding:6px 10px;margin:4px 0;line-height:1.4;background-color:{BLUE}"
Scored = tuple[Sequence[str], Sequence[float]]  # the steps of a solution, and their scores
MESSAGE = "padding:6px 10px;margin:4px 0;border-left:3px solid rgba(213,94,0,.8)"


def search_view(
    problem: Problem, name: str, root: Node, said: str, result: SearchResult | None = None
) -> str:
    """A search: its name and what has just happened, its outcome once it is over, its tree.

    The question is not said again: `question_view` stands above.
    """
    line = f"<b>{escape(name)}</b> · {escape(said if result is None else outcome(result))}"
    best = result.best if result is not None else None
    return f'<div style="{HEAD}">{line}</div>{_drawn(judged_tree(problem, root, best))}'


def judged_tree(problem: Problem, root: Node, best: Prefix | None = None) -> Node:
    """A copy of a search's tree with the exact verdict on each step, and the way to `best`."""
    tree = labelled_tree(problem, root)
    for node in grow(tree, best.steps, end=best.stop) if best is not None else ():
        node.chosen = True
    return tree


def outcome(result: SearchResult) -> str:
    """What a search brought and what it cost, in one line."""
    if result.error:
        return f"failed: {result.error}"
    meter, best = result.meter, result.best
    if best is None:
        found = "no solution"
    else:
        found = "✓ right answer" if is_right(result.problem, best) else "✗ wrong answer"
    cost = f"{meter.samples} samples · {meter.tokens:,} tokens · {meter.seconds:.1f} s in models"
    return " · ".join([found, cost, *([f"stopped: {result.stopped}"] if result.stopped else [])])


def simulation_view(
    problem: Problem, root: Node, before: Node | None, said: str, ways: Iterable[Sequence[Mapping]]
) -> str:
    """One simulation of MCTS: the numbers at each fork of its way, then the tree, its way in bold.

    `before` is the tree of the simulation before it, None for the first. `ways` has for each fork a
    row for each child: text, visits, value, prior, worth, taken.
    """
    forks = "".join(_fork(depth, rows) for depth, rows in enumerate(ways, start=1))
    empty = Node(root.step) if before is None else before
    tree = _drawn(labelled_tree(problem, root, empty))
    why = f"<details><summary>why this way: {escape(said)}, fork by fork</summary>{forks}</details>"
    return f'<div style="{HEAD}"><b>{escape(said)}</b></div>{why}{tree}'


def _drawn(tree: Node) -> str:
    return tree_view(replace(tree, step=Step("question")))


def _fork(depth: int, rows: Sequence[Mapping]) -> str:
    named = {"visits N": "visits", "value V": "value", "prior P": "prior", "PUCT": "worth"}
    shown = []
    for row in rows:
        step = {"": "→" if row["taken"] else "", f"fork {depth}: next step": row["text"]}
        shown.append(step | {name: row[key] for name, key in named.items()})
    return f'<div style="overflow-x:auto">{table(shown)}</div>'


def columns(*parts: str) -> str:
    """Parts side by side; below each other where the page is narrow."""
    style = f"{COLUMN};width:{98 // len(parts)}%"
    return "".join(f'<div style="{style}">{part}</div>' for part in parts)


def question_view(problem: Problem) -> str:
    """The question of a problem, and whether its answer is known."""
    answer = "" if problem.answer is None else f" · the answer is {problem.answer}"
    level = "typed" if problem.level is None else f"level {problem.level}"
    note = f'<div style="{SMALL}">{escape(level + answer)}</div>'
    return f'<div style="{QUESTION}">{escape(problem.question)}{note}</div>'


def edited_view(problem: Problem, before: Scored, after: Scored) -> str:
    """A solution as it was and as it was edited, each step with its score and its exact truth."""
    parts = [
        f'<div style="{HEAD}"><b>{name}</b> · {escape(_reachable(problem, steps))}</div>'
        f"{step_strip(steps, explain(problem, steps), scores)}"
        for name, (steps, scores) in zip(("as it was", "as edited"), (before, after))
    ]
    return columns(*parts)


def _reachable(problem: Problem, steps: Sequence[str]) -> str:
    """From which step on the answer is lost."""
    ends = (t for t in range(1, len(steps) + 1) if not solvable(problem, steps[:t]))
    lost = next(ends, None)
    return "the answer can be reached" if lost is None else f"the answer is lost at step {lost}"


def message(text: str) -> str:
    """A line that says what went wrong, or what to do."""
    return f'<div style="{MESSAGE}">{escape(text)}</div>'
