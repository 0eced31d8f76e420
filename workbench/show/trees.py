"""A search tree as nested HTML: one fold per step, with its score as a bar, opened along the chosen
path.

Plain data in, HTML text out, under the rules of `workbench.show.cards`: `<details>` and `<meter>`
survive JupyterLab's sanitiser, text is escaped and inherits its colour. `tree_of` builds the tree
of a pool of solutions by merging the steps that they begin with in common. Taught in notebook 05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from workbench.problems import explain
from workbench.show.cards import BLUE, GREEN, GREY, RED
from workbench.types import Prefix, Problem

CHILDREN = "margin-left:14px;padding-left:8px;border-left:1px solid rgba(128,128,128,.5)"
LINE = "padding:2px 8px;margin:1px 0"


@dataclass(frozen=True)
class Node:
    """One step of a search tree and what follows it; the root holds the question. What is None is
    not shown."""

    text: str
    score: float | None = None  # in [0, 1]
    right: bool | None = None
    visits: int | None = None
    chosen: bool = False
    children: tuple[Node, ...] = ()
    reason: str | None = None  # why the step is wrong


def tree_view(root: Node) -> str:
    """Nested folds, one per step: ✓ or ✗, the text, a bar for the score, visits; open and bold
    along the chosen path.

    ValueError if a score lies outside [0, 1].

    >>> tree_view(Node("2 + 3 ?")).count("<details")  # a step without children does not fold
    0
    """
    return f'<div style="white-space:pre-wrap">{_view(root, is_root=True)}</div>'


def _view(node: Node, *, is_root: bool = False) -> str:
    line = _line(node)
    if not node.children:
        return f'<div style="{LINE};background-color:{_tint(node)}">{line}</div>'
    opened = " open" if is_root or _has_chosen(node) else ""
    children = "".join(_view(child) for child in node.children)
    summary = (
        f'<summary style="{LINE};cursor:pointer;background-color:{_tint(node)}">{line}</summary>'
    )
    return f'<details{opened}>{summary}<div style="{CHILDREN}">{children}</div></details>'


def _line(node: Node) -> str:
    """What stands in a node's line: mark, text, score, visits, reason."""
    if node.score is not None and not 0 <= node.score <= 1:
        raise ValueError(f"score {node.score} of step {node.text!r}: must lie in [0, 1]")
    mark = {None: "", True: "✓ ", False: "✗ "}[node.right]
    parts = [
        f'<span style="font-weight:{"bold" if node.chosen else "normal"}">{mark}{escape(node.text)}</span>'
    ]
    if node.score is not None:
        parts.append(f'<meter min="0" max="1" value="{node.score:.3f}"></meter> {node.score:.2f}')
    if node.visits is not None:
        parts.append(f'<span style="opacity:.8">{node.visits:,}×</span>')
    if node.reason:
        parts.append(f'<span style="font-style:italic">{escape(node.reason)}</span>')
    return " &nbsp;".join(parts)


def _tint(node: Node) -> str:
    return {None: BLUE if node.chosen else GREY, True: GREEN, False: RED}[node.right]


def _has_chosen(node: Node) -> bool:
    return node.chosen or any(map(_has_chosen, node.children))


# -- from a pool of solutions to its tree ----------------------------------------------------------


def tree_of(
    prefixes: Sequence[Prefix],
    scores: Sequence[Sequence[float]] | None = None,
    reasons: Sequence[Sequence[str | None]] | None = None,
    chosen: Prefix | None = None,
) -> Node:
    """The tree of solutions of one problem: steps with the same text after the same steps become
    one node.

    `scores` and `reasons` (None for a right step, as `problems.explain` says) hold one row per
    prefix with one entry per step. A node's visits are the prefixes that run through it, its score
    is their mean, its reason that of the first; `chosen` is one of the prefixes. ValueError for
    anything that does not fit together.

    >>> from workbench.types import Problem
    >>> ab, ac = (Prefix.of(Problem("p", "quantities", "How many?"), steps) for steps in (["a", "b"], ["a", "c"]))
    >>> [(node.text, node.visits) for node in tree_of([ab, ac]).children]
    [('a', 2)]
    """
    if len(questions := {prefix.problem.question for prefix in prefixes}) != 1:
        raise ValueError(
            f"prefixes of {len(questions)} problems, need those of one problem, at least one"
        )
    if chosen is not None and chosen.texts not in {prefix.texts for prefix in prefixes}:
        raise ValueError(
            f"the chosen solution {chosen.text!r} is not among the {len(prefixes)} prefixes"
        )
    for name, rows in (("scores", scores), ("reasons", reasons)):
        sizes = [len(prefix.steps) for prefix in prefixes]
        if rows is not None and (found := [len(row) for row in rows]) != sizes:
            raise ValueError(f"{found} {name} for prefixes of {sizes} steps, need one per step")
    path = chosen.texts if chosen is not None else None
    root = Node(questions.pop(), visits=len(prefixes), chosen=chosen is not None)
    return _with_children(
        root, range(len(prefixes)), [p.texts for p in prefixes], scores, reasons, path, 0
    )


def _with_children(node, members, texts, scores, reasons, path, depth: int) -> Node:
    """The node with the next steps of its `members` below it, merged by text, and so on to their
    ends."""
    branches: dict[str, list[int]] = {}
    for i in members:
        if len(texts[i]) > depth:
            branches.setdefault(texts[i][depth], []).append(i)
    children = []
    for text, below in branches.items():
        reason = reasons[below[0]][depth] if reasons is not None else None
        child = Node(
            text,
            score=sum(scores[i][depth] for i in below) / len(below) if scores is not None else None,
            right=None if reasons is None else reason is None,
            visits=len(below),
            chosen=node.chosen and path[depth : depth + 1] == (text,),
            reason=reason,
        )
        children.append(_with_children(child, below, texts, scores, reasons, path, depth + 1))
    return replace(node, children=tuple(children))


# -- from a tree of values to its view -------------------------------------------------------------


def labelled_tree(problem: Problem, tree: Any, before: Any = None) -> Node:
    """A tree of values (`step_tree.as_tree`) with the exact verdict on each step; value as score.

    Chosen is what has been visited since `before`, an earlier tree of the same search (None:
    nothing is chosen).
    """
    return _judged(problem, tree, before, (), before is not None)


def _judged(
    problem: Problem, tree: Any, before: Any, steps: tuple[str, ...], growing: bool
) -> Node:
    earlier = {
        (child.text, bool(child.children)): child for child in (before.children if before else ())
    }
    reason = explain(problem, steps)[-1] if steps else None
    return Node(
        tree.text,
        score=tree.value,
        right=reason is None if steps else None,
        visits=tree.visits,
        chosen=growing and (tree.visits or 0) > ((before.visits or 0) if before else 0),
        children=tuple(
            _judged(
                problem,
                child,
                earlier.get((child.text, bool(child.children))),
                (*steps, child.text),
                growing,
            )
            for child in tree.children
        ),
        reason=reason,
    )
