r"""Step labels from a Monte-Carlo tree's values, as in TS-LLM (Feng et al. 2023, 2309.17179).

The tree is that of `workbench.tree`, an end known by its text and its grade. One simulation, of
which a problem has one at a time:

1. Select: from the question go down, while a node is fully widened, to the child with the largest
   (PUCT)
   $$Q(s, a) + U(s, a)
     = \frac{1}{N(s, a)} \sum_i z_i + c \, P(a \mid s) \, \frac{\sqrt{N(s)}}{1 + N(s, a)}.$$
   A node is fully widened after `width` visits. Then that many next steps were drawn from it, those
   of completions from further up and repeats included: a policy sure of itself is not asked for
   ever for what it never writes.
2. Expand and evaluate: where that stops, draw one completion to the end, z = 1 if its answer is
   right, else 0. All its steps become nodes.
3. Back up: each node on the way from the question to the end gets N + 1 and one z more.

An end has nothing below it: where the choice falls on one, the prefix before it is drawn from once
more, mostly for a step's worth of tokens. So every simulation is a fresh draw, where AlphaZero
counts the reward of the end again.

The value of a step is the mean z of the solutions through its node: what AlphaMath (Chen et al.
2024, 2405.03553) fits its value model to, and the best fit to the outcomes that TS-LLM trains on.
The last step's is its grade. Labels: value above `threshold`.

Deviations: no value function and no likelihoods: a completion evaluates the leaf, as in a first
round, and the prior P is uniform over the children met so far. A completion makes nodes of all its
steps, not of the first alone. A solution without steps counts for the question; a given one has an
empty row, a sampled one none.

Known weakness: selection goes where solutions ended right, so a value is no estimate of the
policy's own chance but an optimistic one; and what looks bad rests on few visits
(`meta["visits"]`): a good step is seldom met again if its first completions fail. With a right end
found, most further simulations only write it again: they are cheap, and tell little (a larger
`width` or `c_puct` spreads them). Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf, sqrt

from workbench.problems import is_right
from workbench.supervise.shepherd import need_whole
from workbench.tree import Node, backup, descend, grow
from workbench.types import (
    LabelledSolution,
    Prefix,
    Problem,
    Reply,
    Request,
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
class GradedTree:
    """The tree of a problem's solutions; `paths` holds the nodes of each of the `rollouts`."""

    problem: Problem
    width: int
    c_puct: float
    temperature: float | None
    by: str
    root: Node = field(init=False)
    rollouts: list[Prefix] = field(default_factory=list)
    paths: list[list[Node]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = Node(Step(self.problem.question))

    def fill(self, pool: Sequence[Prefix], simulations: int) -> Generator[Request, Reply, None]:
        """Put the pool into the tree and run the simulations."""
        for solution in pool:
            self.add(solution)
        for _ in range(simulations):
            (solution,) = yield Sample([self.select()], temperature=self.temperature, by=self.by)
            self.add(solution)

    def select(self) -> Prefix:
        """Stage 1: the prefix to draw from; of equal children the oldest is chosen."""

        def score(parent: Node, child: Node) -> float:
            prior = 1 / len(parent.children)
            return puct(child.value, child.visits, parent.visits, prior, c_puct=self.c_puct)

        path = descend(self.root, score, stop=lambda node: node.visits < self.width)
        return Prefix(self.problem, tuple(node.step for node in path[1:] if node.end is None))

    def add(self, solution: Prefix) -> None:
        """Stages 2 and 3: make nodes of the steps, merged with those known; back up the grade."""
        right = is_right(self.problem, solution)
        path = grow(self.root, solution.steps, end=right)
        backup(path, right)
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
) -> Generator[Request, Reply, SearchResult]:
    """Label `solutions` of the policy and those of the simulations, each distinct one once.

    When a budget ends, the rows so far. ValueError for options that cannot be.
    """
    if solutions < 1:
        raise ValueError(f"solutions={solutions}: need at least 1")
    _check(simulations, width, c_puct, threshold)
    tree = GradedTree(problem, width, c_puct, temperature, by)
    with suppress(Stopped):  # the driver notes its reason; what is known so far is the result
        pool = yield Sample([Prefix(problem)], n=solutions, temperature=temperature)
        yield from tree.fill(pool, simulations)
    distinct = {id(path[-1]): path for path in tree.paths if len(path) > 1}
    rows = _rows(tree, distinct.values(), len(tree.paths) - solutions, threshold)
    return SearchResult(problem, tuple(tree.rollouts), labelled=tuple(rows))


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
) -> Generator[Request, Reply, list[LabelledSolution]]:
    """Label given solutions, the first of the tree, by `simulations` more from the model `by`.

    Returns one row per solution of `pool`, all steps valued; `Stopped` ends the simulations alone.
    ValueError for options that cannot be and for a solution that is not over.
    """
    _check(simulations, width, c_puct, threshold)
    need_whole(problem, pool)
    tree = GradedTree(problem, width, c_puct, temperature, by)
    wanted = simulations if any(solution.steps for solution in pool) else 0
    with suppress(Stopped):
        yield from tree.fill(pool, wanted)
    return _rows(tree, tree.paths[: len(pool)], len(tree.paths) - len(pool), threshold)


def _check(simulations: int, width: int, c_puct: float, threshold: float) -> None:
    if simulations < 0 or width < 1 or not 0 <= c_puct < inf or not 0 <= threshold < 1:
        given = f"{simulations=}, {width=}, {c_puct=}, {threshold=}"
        need = "simulations >= 0, width >= 1, a finite c_puct >= 0 and 0 <= threshold < 1"
        raise ValueError(f"{given}: need {need}")


def _rows(
    tree: GradedTree, paths: Iterable[Sequence[Node]], simulations: int, threshold: float
) -> list[LabelledSolution]:
    """A row per path; `meta`: visits of each step's node, simulations, threshold."""
    rows = []
    for _, *path in paths:
        texts = tuple(node.step.text for node in path)
        values = tuple(node.value for node in path)
        labels = tuple(int(value > threshold) for value in values)
        meta = {"visits": [node.visits for node in path]}
        meta |= {"simulations": simulations, "threshold": threshold}
        rows.append(LabelledSolution(tree.problem, texts, labels, values, "mcts", meta))
    return rows
