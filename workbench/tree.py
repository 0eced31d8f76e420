"""One search tree: labellers grade its leaves, searches ask a verifier, the view draws it.

A node is a step after the steps above it; the root is the question. So a prefix of a solution is a
path from the root. The last step of a whole solution is an **end**, a node of its own even where
another solution goes on after the same text: an end has one outcome, a step has many.

The tree grades nothing and so needs no answer. What a node is worth is written by its owner
(`value`), or is the mean of the rewards that it earned (`earn`, `backup`). Of equal children the
oldest comes first, so that a search depends on nothing but its draws. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from workbench.types import Step


@dataclass
class Node:
    """A step of a search tree and what was written after it; None stands for what is not known."""

    step: Step  # the root's is the question
    end: Hashable = None  # of an end: how it ended, as told to `grow`; None where solutions go on
    visits: int = 0  # how often a search came by
    samples: int = 0  # how often a policy wrote it
    total: float = 0.0  # sum of the rewards earned
    value: float | None = None  # what the node is worth, in [0, 1]
    prior: float | None = None  # P(step | steps above it)
    kept: bool = True  # False: pruned by the search
    chosen: bool = False  # on the way to what the search chose
    right: bool | None = None  # the verdict on the step
    reason: str | None = None  # why the step is wrong
    children: dict[tuple[str, Hashable], Node] = field(default_factory=dict)  # by (text, end)

    def earn(self, reward: float) -> None:
        """Count one more visit and what it earned; the value is the mean reward of all."""
        self.visits += 1
        self.total += reward
        self.value = self.total / self.visits


def grow(root: Node, steps: Sequence[Step], *, end: Hashable = None) -> list[Node]:
    """The path of `steps`, the root first, with new nodes where there were none.

    `end`, of a whole solution, says how it ended (its grade, why it stopped): the last step is then
    an end, one for each such outcome.

    >>> root = Node(Step("How many?"))
    >>> path = grow(root, [Step("a"), Step("b")])
    >>> grow(root, [Step("a")])[-1] is path[1], grow(root, [Step("a")], end="end")[-1] is path[1]
    (True, False)
    """
    path = [root]
    for t, step in enumerate(steps, start=1):
        outcome = end if t == len(steps) else None
        path.append(path[-1].children.setdefault((step.text, outcome), Node(step, outcome)))
    return path


def walk(root: Node) -> Iterator[tuple[Node, ...]]:
    """The path to every node, the root's first: parents before children, these from the oldest."""
    todo: list[tuple[Node, ...]] = [(root,)]
    while todo:
        path = todo.pop()
        yield path
        todo += [(*path, child) for child in reversed(path[-1].children.values())]


def copied(root: Node) -> Node:
    """The tree once more, with nodes of its own; what these hold is the same.

    Without calling itself: a solution may have more steps than Python has frames.
    """
    copy = replace(root, children={})
    todo = [(root, copy)]
    while todo:
        old, new = todo.pop()
        new.children = {key: replace(child, children={}) for key, child in old.children.items()}
        todo += zip(old.children.values(), new.children.values())
    return copy


def descend(
    root: Node, score: Callable[[Node, Node], float], *, stop: Callable[[Node], bool]
) -> list[Node]:
    """The path down to the first node that `stop`s or is a leaf, by the child of largest score.

    `score(parent, child)` is asked for every child of a node passed, so it may be PUCT.
    """
    node, path = root, [root]
    while node.children and not stop(node):
        node = max(node.children.values(), key=partial(score, node))
        path.append(node)
    return path


def backup(path: Iterable[Node], reward: float) -> None:
    """Give the reward of a solution to every node that it went through."""
    for node in path:
        node.earn(reward)
