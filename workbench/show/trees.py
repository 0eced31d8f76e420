"""A search tree as nested HTML: a fold per step, its value as a bar, opened along the chosen path.

Data in, HTML text out, under the rules of `workbench.show.cards`: `<details>` and `<meter>` survive
JupyterLab's sanitiser, text is escaped and inherits its colour. `tree_of` makes the tree of a pool
of solutions, `labelled_tree` adds exact verdicts to a tree of values. What stands below a step is a
`<dd>`, which is indented even where styles are taken out (GitHub). Taught in notebooks 02, 08.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.problems import explain
from workbench.show.cards import BLUE, GREEN, GREY, RED, bar, breakable, escape
from workbench.tree import Node, copied, grow, walk
from workbench.types import Prefix, Problem, Step

CHILDREN = "margin-left:14px;padding-left:8px;border-left:1px solid rgba(128,128,128,.5)"
LINE = "padding:2px 8px;margin:1px 0"
PRUNED = ";opacity:.5"


def tree_view(root: Node) -> str:
    """Nested folds, one per step, open, bold and with → on the chosen path; pruned are faint, ✂.

    A line holds what is known of ✓ or ✗, the text, a bar for the value, visits, samples and the
    reason.
    ValueError if a value lies outside [0, 1].

    >>> tree_view(Node(Step("2 + 3 ?"))).count("<details")  # a step without children does not fold
    0
    """
    return f'<div style="white-space:pre-wrap">{_view(root)}</div>'


def _view(root: Node) -> str:
    """Without calling itself: a solution may have more steps than Python has frames."""
    opened = {id(node) for path in walk(root) if path[-1].chosen for node in path} | {id(root)}
    parts: list[str] = []
    todo: list[Node | str] = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            parts.append(node)
            continue
        tint = {None: BLUE if node.chosen else GREY, True: GREEN, False: RED}[node.right]
        style = f"{LINE};background-color:{tint}{'' if node.kept else PRUNED}"
        if not node.children:
            parts.append(f'<div style="{style}">{_line(node)}</div>')
            continue
        summary = f'<summary style="{style};cursor:pointer">{_line(node)}</summary>'
        fold = f"<details{' open' if id(node) in opened else ''}>{summary}"
        parts.append(f'{fold}<dl style="margin:0"><dd style="{CHILDREN}">')
        todo += ["</dd></dl></details>", *reversed(node.children.values())]
    return "".join(parts)


def _line(node: Node) -> str:
    """What stands in a node's line: mark, text, value, visits, samples, reason."""
    text, value = node.step.text, node.value
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"value {value} of step {text!r}: must lie in [0, 1]")
    weight = "bold" if node.chosen else "normal"
    mark = "→ " if node.chosen else "" if node.kept else "✂ "  # colour and weight alone may be lost
    mark += {None: "", True: "✓ ", False: "✗ "}[node.right]
    parts = [f'<span style="font-weight:{weight}">{mark}{breakable(text)}</span>']
    if value is not None:
        parts.append(bar(value))
    for count, what in ((node.visits, "visit"), (node.samples, "sample")):
        if count:
            words = f"{count:,} {what}{'s' * (count != 1)}"
            parts.append(f'<span style="opacity:.8">{words}</span>')
    if node.reason:
        parts.append(f'<span style="font-style:italic">{escape(node.reason)}</span>')
    return " &nbsp;".join(parts)


def tree_of(
    prefixes: Sequence[Prefix],
    scores: Sequence[Sequence[float]] | None = None,
    reasons: Sequence[Sequence[str | None]] | None = None,
    chosen: Prefix | None = None,
) -> Node:
    """The tree of prefixes of one problem; samples are the prefixes through a step.

    `scores` and `reasons` (None for a right step, as `problems.explain` says) hold one row per
    prefix with one entry per step. A node's value is its mean score; `chosen` is one of the
    prefixes. ValueError for anything that does not fit together.

    >>> problem = Problem("p", "quantities", "How many?")
    >>> root = tree_of([Prefix.of(problem, ["a", "b"]), Prefix.of(problem, ["a", "c"])])
    >>> [(node.step.text, node.samples) for node in root.children.values()]
    [('a', 2)]
    """
    # 1. do they fit together?
    if len(questions := {prefix.problem.question for prefix in prefixes}) != 1:
        given = f"prefixes of {len(questions)} problems"
        raise ValueError(f"{given}, need those of one problem, at least one")
    if chosen is not None and chosen not in prefixes:
        among = f"is not among the {len(prefixes)} prefixes"
        raise ValueError(f"the chosen solution {chosen.text!r} {among}")
    sizes = [len(prefix.steps) for prefix in prefixes]
    for name, rows in (("scores", scores), ("reasons", reasons)):
        if rows is not None and (found := [len(row) for row in rows]) != sizes:
            raise ValueError(f"{found} {name} for prefixes of {sizes} steps, need one per step")
    # 2. their steps, with all that is known of each
    root = Node(Step(questions.pop()), samples=len(prefixes))
    for i, prefix in enumerate(prefixes):
        _, *path = grow(root, prefix.steps, end=prefix.stop)
        for t, node in enumerate(path):
            node.samples += 1
            if scores is not None:
                node.total += scores[i][t]
                node.value = node.total / node.samples
            if reasons is not None:
                node.reason, node.right = reasons[i][t], reasons[i][t] is None
    # 3. the way that was chosen
    if chosen is not None:
        for node in grow(root, chosen.steps, end=chosen.stop):
            node.chosen = True
    return root


def labelled_tree(problem: Problem, tree: Node, before: Node | None = None) -> Node:
    """A copy of a tree of values (`step_tree.as_tree`) with the exact verdict on each step.

    Chosen is what was visited since `before`, an earlier tree of the same search (None: nothing).
    """
    tree = copied(tree)
    visits = {_key(path): path[-1].visits for path in walk(before)} if before else {}
    for path in walk(tree):
        node, steps = path[-1], [above.step.text for above in path[1:]]
        node.reason = explain(problem, steps)[-1] if steps else None
        node.right = node.reason is None if steps else None
        node.chosen = before is not None and node.visits > visits.get(_key(path), 0)
    return tree


def _key(path: Sequence[Node]) -> tuple[object, ...]:
    """What tells a path of one tree from the others, and finds it in another tree."""
    return tuple((node.step.text, node.end) for node in path)
