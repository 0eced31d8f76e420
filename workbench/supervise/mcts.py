r"""Step labels from the values of a Monte-Carlo tree, as in TS-LLM (Feng et al. 2023, arXiv
2309.17179).

A node is a prefix, known by the texts of its steps; a finished solution is an end, a node of its
own even where another solution goes on after the same text. One simulation, of which a problem has
one at a time:

1. Select: from the question go down, while a node is fully widened, to the child with the largest (PUCT)
   $$Q(s, a) + U(s, a) = \frac{1}{N(s, a)} \sum_i z_i + c \, P(a \mid s) \, \frac{\sqrt{N(s)}}{1 + N(s, a)}.$$
   A node is fully widened after `width` visits. Then that many next steps were drawn from it, those of completions from
   further up and repeats included: a policy sure of itself is not asked for ever for what it never writes.
2. Expand and evaluate: where that stops, draw one completion to the end, z = 1 if its answer is right, else 0. All its
   steps become nodes.
3. Back up: each node on the way from the question to the end gets N + 1 and one z more.

An end has nothing below it: where the choice falls on one, the prefix before it is drawn from once
more, mostly for a step's worth of tokens. So every simulation is a fresh draw, where AlphaZero
counts the reward of the end again.

The value of a step is the mean z of the solutions through its node: what AlphaMath (Chen et al.
2024, 2405.03553) fits its value model to, and the best fit to the outcomes that TS-LLM trains on.
The last step's is its grade. Labels: value above `threshold`.

Deviations: no value function and no likelihoods: a completion evaluates the leaf, as in a first
round, and the prior P is uniform over the children met so far. A completion makes nodes of all its
steps, not of the first alone.

Known weakness: selection goes where solutions ended right, so a value is no estimate of the
policy's own chance but an optimistic one; and what looks bad rests on few visits
(`meta["visits"]`): a good step is seldom met again if its first completions fail. With a right end
found, most further simulations only write it again: they are cheap, and tell little (a larger
`width` or `c_puct` spreads them). Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf, sqrt

from workbench.problems import is_right
from workbench.types import (
    LabelledSolution,
    Prefix,
    Problem,
    Sample,
    SearchResult,
    Step,
    Stopped,
    sees_answer,
)


def puct(value: float, visits: int, parent_visits: int, prior: float, *, c_puct: float) -> float:
    """What speaks for a child: its value, and more the likelier and the seldomer met it is.

    >>> puct(0.5, 3, 16, 0.25, c_puct=1.0)
    0.75
    """
    return value + c_puct * prior * sqrt(parent_visits) / (1 + visits)


@dataclass
class Node:
    """A prefix in the tree, by its last step (the question has none), and all that went through it."""

    step: Step | None = None
    end: bool = False
    visits: int = 0  # solutions through it
    right: int = 0  # those of them that ended right
    # by text; an end by its grade, too
    children: dict[tuple[str, bool | None], Node] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return self.right / self.visits


@dataclass
class Tree:
    """What is known of one problem: `paths` holds the nodes of each solution in `rollouts`, the
    question first."""

    problem: Problem
    width: int
    c_puct: float
    root: Node = field(default_factory=Node)
    simulations: int = 0
    rollouts: list[Prefix] = field(default_factory=list)
    paths: list[list[Node]] = field(default_factory=list)

    def select(self) -> Prefix:
        """Stage 1: the prefix to draw from."""
        node, steps = self.root, ()
        while node.visits >= self.width:
            node = self.choose(node)
            if node.end:
                break
            steps += (node.step,)
        return Prefix(self.problem, steps)

    def choose(self, node: Node) -> Node:
        """The child with the largest Q + U, of equals the oldest."""
        prior = 1 / len(node.children)
        return max(
            node.children.values(),
            key=lambda child: puct(
                child.value, child.visits, node.visits, prior, c_puct=self.c_puct
            ),
        )

    def add(self, solution: Prefix) -> None:
        """Stages 2 and 3: make nodes of the steps, merged with those known, and back up the grade."""
        right, path = is_right(self.problem, solution), [self.root]
        for t, step in enumerate(solution.steps, start=1):
            end = t == len(solution.steps)
            path.append(
                path[-1].children.setdefault((step.text, right if end else None), Node(step, end))
            )
        for node in path:
            node.visits += 1
            node.right += right
        self.rollouts.append(solution)
        self.paths.append(path)


@sees_answer
def mcts(
    problem: Problem,
    *,
    solutions: int = 4,
    simulations: int = 32,
    width: int = 4,
    c_puct: float = 1.0,
    temperature: float | None = None,
    by: str = "policy",
    threshold: float = 0.0,
):
    """Sample `solutions` from the policy, then go on like `label`; a row per distinct solution,
    simulations' included.

    When a budget ends, the rows so far. ValueError for options that cannot be.
    """
    if solutions < 1:
        raise ValueError(f"solutions={solutions}: need at least 1")
    _check(simulations, width, c_puct, threshold)
    tree = Tree(problem, width, c_puct)
    pool = yield Sample([Prefix(problem)], n=solutions, temperature=temperature)
    yield from _grow(tree, pool, simulations, temperature, by)
    distinct = {id(path[-1]): path for path in tree.paths}
    return SearchResult(
        problem, tuple(tree.rollouts), labelled=tuple(_rows(tree, distinct.values(), threshold))
    )


def label(
    problem: Problem,
    pool: Sequence[Prefix],
    *,
    simulations: int,
    width: int = 4,
    c_puct: float = 1.0,
    temperature: float | None = None,
    by: str = "policy",
    threshold: float = 0.0,
):
    """Label given solutions, the first of the tree, after `simulations` more, drawn from the model
    `by`.

    Yields requests, returns one row per solution of `pool`, all steps valued; `Stopped` ends the
    simulations alone. ValueError for options that cannot be and for a solution that is not over or
    has no step.
    """
    _check(simulations, width, c_puct, threshold)
    if bad := [solution.texts for solution in pool if not solution.ended or not solution.steps]:
        raise ValueError(
            f"{problem.id}: a solution of the steps {bad[0]}: need whole ones, with at least one step"
        )
    tree = Tree(problem, width, c_puct)
    yield from _grow(tree, pool, simulations if pool else 0, temperature, by)
    return _rows(tree, tree.paths[: len(pool)], threshold)


def _check(simulations: int, width: int, c_puct: float, threshold: float) -> None:
    if simulations < 0 or width < 1 or not 0 <= c_puct < inf or not 0 <= threshold < 1:
        raise ValueError(
            f"simulations={simulations}, width={width}, c_puct={c_puct}, threshold={threshold}: "
            "need simulations >= 0, width >= 1, a finite c_puct >= 0 and 0 <= threshold < 1"
        )


def _grow(tree: Tree, pool: Sequence[Prefix], simulations: int, temperature: float | None, by: str):
    """Put the pool into the tree and run the simulations, until they or the budget are at an end."""
    for solution in pool:
        tree.add(solution)
    with suppress(Stopped):  # the driver notes its reason; what is known so far is the result
        for _ in range(simulations):
            (solution,) = yield Sample([tree.select()], temperature=temperature, by=by)
            tree.add(solution)
            tree.simulations += 1


def _rows(tree: Tree, paths: Iterable[Sequence[Node]], threshold: float) -> list[LabelledSolution]:
    """A row per path; `meta` holds the visits of each step's node, simulations made, and the
    threshold."""
    rows = []
    for _, *path in paths:
        values = tuple(node.value for node in path)
        meta = {
            "visits": [node.visits for node in path],
            "simulations": tree.simulations,
            "threshold": threshold,
        }
        labels = tuple(int(value > threshold) for value in values)
        rows.append(
            LabelledSolution(
                tree.problem, tuple(n.step.text for n in path), labels, values, "mcts", meta
            )
        )
    return rows
