r"""Monte-Carlo tree search with PUCT: steps are moves, a verifier says how well a prefix stands.

AlphaZero's search (Silver et al. 2017, arXiv 1712.01815) over reasoning steps, as in TS-LLM (Feng
et al. 2023, 2309.17179) and OpenR (2410.09671). One simulation:

1. Select: from the question go down to the child with the largest (PUCT)
   $$V + P \, \Bigl( \ln \frac{N_p + 19652 + 1}{19652} + 1.25 \Bigr) \frac{\sqrt{N_p}}{N_c + 1}.$$
   N are the visits of parent and child, the parent's with the one under way; V is the child's score
   by the verifier until it is visited, then the mean of its rewards.
2. Expand: from a leaf draw `expand` next steps, equal ones once, and go one step on. The prior P is
   the softmax over them of their log-probability per token (`prior="mean"`) or as a whole ("sum").
   With `widen`, a node is drawn from a second time after 4 visits, a third time after 9 ...
3. Evaluate. `leaf="verifier"`: at the first new step the reward is the score of the prefix.
   "rollout": a solution is written from there, and its score is the reward; nothing else is scored.
   "end": go on expanding until a solution ends, as OpenR's paths do. An end earns what it earned
   before: its score, or 0 if it states no answer (out of room, or `max_steps` long).
4. Back up: every node on the way gets one visit and the reward.

`at_once` simulations run together, their leaves in one request. As long as one lasts, the others
count `virtual_loss` more visits without reward on its way, and go elsewhere. Searches of many
problems fill batches as it is: then 1 at a time spends tokens best.

The choice is the solution on the most visited way ("visits"), the one with the highest score
("value"), or the best one of the answer with the largest sum of scores ("vote").

Deviations: the first simulation expands the question and goes on like any other, so that no draw is
outside the count. Steps are scored when they are drawn. Widening (AlphaZero knows all moves; a few
draws may lack the right one). Where no answer was found, the most visited leaf is written to its
end. Taught in notebook 08.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import exp, inf, log, sqrt
from typing import Any

from workbench.analyse.metrics import weighted_vote
from workbench.problems import answer_of
from workbench.problems.grading import is_equal
from workbench.search.stepwise import Beam, Unscored, check, judged, result
from workbench.tree import Node, backup, grow, walk
from workbench.types import Prefix, Problem, Reply, Request, Sample, SearchResult, Step, Stopped

Path = Sequence[Node]  # from the question down
DIVISORS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": len,
    "sum": lambda logprobs: 1,
    "uniform": lambda logprobs: inf,  # all equally likely: no prior
}
LEAVES, CHOICES = ("verifier", "rollout", "end"), ("visits", "value", "vote")


def puct(value: float, prior: float, parent_visits: int, visits: int) -> float:
    """What speaks for a child: its value, and more the likelier and the seldomer visited it is.

    >>> round(puct(0.6, 0.25, 10, 3), 6)
    0.847164
    """
    explore = log((parent_visits + 19652 + 1) / 19652) + 1.25
    return value + prior * explore * sqrt(parent_visits) / (visits + 1)


def priors(steps: Sequence[Step], how: str) -> list[float]:
    """The softmax over steps of the mean log-probability of their tokens, or of the sum.

    ValueError for steps without any, but for "uniform".

    >>> steps = Step("a", (5, 2), (-1.0, -1.0)), Step("b", (6,), (-1.0,))
    >>> [round(p, 3) for p in priors(steps, "mean") + priors(steps, "sum")]
    [0.5, 0.5, 0.269, 0.731]
    """
    if how != "uniform" and not all(step.logprobs for step in steps):
        none = "needs log-probabilities, but this policy gives none: use 'uniform'"
        raise ValueError(f"prior={how!r} {none}")
    logits = [sum(step.logprobs) / DIVISORS[how](step.logprobs) for step in steps]
    weights = [exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


@dataclass
class ScoredTree:
    """One problem's search: its tree (`root`, to be drawn) and the solutions found."""

    problem: Problem
    expand: int = 4
    max_steps: int = 16
    leaf: str = "verifier"
    prior: str = "mean"
    widen: bool = True
    virtual_loss: int = 1
    aggregate: str = "min"
    temperature: float | None = None
    root: Node = field(init=False)
    found: list[tuple[Path, Beam]] = field(default_factory=list)  # whole solutions
    under_way: Counter[int] = field(default_factory=Counter)  # simulations, by id of the node
    drawn: Counter[int] = field(default_factory=Counter)  # how often, by id of the node

    def __post_init__(self) -> None:
        self.root = Node(Step(self.problem.question), prior=1.0)

    def search(self, simulations: int, at_once: int) -> Generator[Request, Reply, None]:
        """Simulate, and see to it that there is an answer."""
        for done in range(0, simulations, at_once):
            yield from self.simulate(min(at_once, simulations - done))
        leaves = self.open_leaves()
        if leaves and all(answer_of(beam.prefix) is None for _, beam in self.found):
            yield from self.roll_out([max(leaves, key=_visits)])

    def simulate(self, n: int) -> Generator[Request, Reply, None]:
        """Stages 1 to 4, `n` times at once."""
        paths, self.under_way = [[self.root] for _ in range(n)], Counter({id(self.root): n})
        going = paths
        while going:
            for path in going:
                while not self.is_due(path[-1]) and self.step(path):
                    pass
            yield from self.grow_leaves(going)
            going = [path for path in going if self.step(path) and not self.is_reached(path[-1])]
        for path in paths:
            if path[-1].value is not None:
                backup(path, path[-1].value)
        yield from self.roll_out([path for path in paths if path[-1].value is None])

    def is_due(self, node: Node) -> bool:
        """Are steps to be drawn from it: for the first time, or again after enough visits?"""
        times, again = self.drawn[id(node)], self.widen and self.temperature != 0
        return node.end is None and (not times or (again and (times + 1) ** 2 <= node.visits))

    def is_reached(self, node: Node) -> bool:
        """Is it what a simulation ends at?"""
        return node.end is not None or (self.leaf != "end" and not node.visits)

    def step(self, path: list[Node]) -> bool:
        """Stage 1: one step down, if there is one."""
        children = path[-1].children.values()
        if children:
            path.append(max(children, key=partial(self.worth, path[-1])))
            self.under_way[id(path[-1])] += 1
        return bool(children)

    def worth(self, parent: Node, child: Node) -> float:
        """PUCT, in which the visits of others that are under way have brought no reward."""
        lost = self.virtual_loss * self.under_way[id(child)]
        passing = 1 + self.virtual_loss * (self.under_way[id(parent)] - 1)
        value = (parent.value if child.value is None else child.value) or 0.0
        value *= max(1, child.visits) / (max(1, child.visits) + lost)
        return puct(value, child.prior or 0.0, parent.visits + passing, child.visits + lost)

    def grow_leaves(self, paths: Sequence[Path]) -> Generator[Request, Reply, None]:
        """Stage 2: children of what is due, with priors and, where scored, values."""
        due = {id(path[-1]): self.prefix(path) for path in paths if self.is_due(path[-1])}
        if not due:
            return
        leaves, n = [*due.values()], self.expand
        drawn = yield Sample(leaves, n, "step", self.temperature, scored_by="verifier")
        self.drawn.update(due.keys())
        new: dict[int, list[Node]] = {}
        for prefix in drawn:
            broken_off = "steps" if len(prefix.steps) >= self.max_steps else None
            path = grow(self.root, prefix.steps, end=prefix.stop or broken_off)
            if path[-1].prior is None:
                new.setdefault(id(path[-1]), path)
        for path in new.values():
            children = path[-2].children.values()
            for node, prior in zip(children, priors([n.step for n in children], self.prior)):
                node.prior = prior
        every = self.leaf != "rollout"
        scored = [path for path in new.values() if every or path[-1].end]
        rewards = yield from self.judge(scored, [self.prefix(path) for path in scored])
        for path, reward in zip(scored, rewards):
            path[-1].value = reward

    def roll_out(self, paths: Sequence[Path]) -> Generator[Request, Reply, None]:
        """Stage 3 for leaves without a value: a solution from each, and its reward backed up."""
        if not paths:
            return
        prefixes = [self.prefix(path) for path in paths]
        drawn = yield Sample(prefixes, temperature=self.temperature, scored_by="verifier")
        rewards = yield from self.judge(paths, drawn)
        for path, reward in zip(paths, rewards):
            backup(path, reward)

    def judge(
        self, paths: Sequence[Path], prefixes: Sequence[Prefix]
    ) -> Generator[Request, Reply, list[float]]:
        """What prefixes earn: their scores, and 0 for an end without an answer."""
        earned, beams = [], (yield from judged(prefixes, self.aggregate)) if paths else []
        for path, beam in zip(paths, beams):
            over = beam.prefix.ended or path[-1].end is not None
            earned.append(0.0 if over and answer_of(beam.prefix) is None else beam.score)
            if beam.prefix.ended:
                self.found.append((path, beam))
        return earned

    def prefix(self, path: Path) -> Prefix:
        end: Any = path[-1].end
        steps = tuple(node.step for node in path[1:])
        return Prefix(self.problem, steps, end if end != "steps" else None)

    def open_leaves(self) -> list[Path]:
        """The paths to what could be gone on from."""
        return [p for p in walk(self.root) if p[-1].end is None and not p[-1].children]

    def choose(self, how: str) -> tuple[Path, Beam]:
        """One of the solutions found, if possible one with an answer."""
        answers = [answer_of(beam.prefix) for _, beam in self.found]
        if how == "vote":
            winner = weighted_vote(answers, [beam.score for _, beam in self.found])
            answers = [answer if is_equal(str(winner), answer) else None for answer in answers]
        good = [pair for pair, answer in zip(self.found, answers) if answer is not None]
        ways = _visits if how == "visits" else lambda path: []
        return max(good or self.found, key=lambda pair: (ways(pair[0]), pair[1].score))

    def result(self, how: str, stop: Stopped | None = None) -> SearchResult:
        """All solutions found, and the choice; where there is none, the steps it has come to."""
        if not self.found and not isinstance(stop, Unscored):
            begun = [self.prefix(path) for path in self.open_leaves() if len(path) > 1]
            return SearchResult(self.problem, tuple(begun))
        pool = result(self.problem, [beam for _, beam in self.found], stop)
        if not self.found:
            return pool
        path, beam = self.choose(how)
        for node in path:
            node.chosen = True
        return replace(pool, best=beam.prefix)


def _visits(path: Path) -> list[tuple[int, float]]:
    """Of two paths the larger is the one that is more visited where they part, then better."""
    return [(node.visits, node.value or 0.0) for node in path[1:]]


def mcts(
    problem: Problem,
    *,
    simulations: int = 16,
    at_once: int = 4,
    choose: str = "visits",
    expand: int = 4,
    max_steps: int = 16,
    leaf: str = "verifier",
    prior: str = "mean",
    widen: bool = True,
    virtual_loss: int = 1,
    aggregate: str = "min",
    temperature: float | None = None,
    kind: Callable[..., ScoredTree] = ScoredTree,
) -> Generator[Request, Reply, SearchResult]:
    """Search the tree of the policy's steps by `simulations`; see above for the options.

    `kind` makes the tree, of which `search.watched` has one that tells what it does.

    Returns all whole solutions found, those with the highest scores first. When the budget ends:
    those so far (without scores, where it ends before they are judged), or the steps that it has
    come to. ValueError for options that cannot be.
    """
    check(aggregate, simulations=simulations, at_once=at_once, expand=expand, max_steps=max_steps)
    if virtual_loss < 0:
        raise ValueError(f"virtual_loss={virtual_loss}: need at least 0")
    known = {"leaf": (leaf, LEAVES), "prior": (prior, DIVISORS), "choose": (choose, CHOICES)}
    for name, (value, values) in known.items():
        if value not in values:
            raise ValueError(f"{name}={value!r}: use {', '.join(values)}")
    tree = kind(
        problem=problem, expand=expand, max_steps=max_steps, leaf=leaf, prior=prior, widen=widen,
        virtual_loss=virtual_loss, aggregate=aggregate, temperature=temperature,
    )  # fmt: skip
    try:
        yield from tree.search(simulations, at_once)
    except Stopped as stop:
        return tree.result(choose, stop)
    return tree.result(choose)
