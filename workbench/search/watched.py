r"""A search under watch: the same requests, replies and result, and after each a look at the tree.

`watched` wraps any method. It passes its requests on to whoever drives it, and shows each answered
one to `note`; the method does not know. `Growing` is such a `note`: it makes a tree out of what it
sees, prefixes drawn and their scores, so that every search over steps can be drawn as it grows.

`mcts(at_once=1, kind=partial(FollowedTree, tell=...))` tells after each simulation what stood on
its way: of every step that it could have taken N, V, P and what these add up to (PUCT).

Deviation: `watched` can end a search after some seconds, by the wall clock. What is found then
depends on the machine, so that nothing that is measured may use it. Taught in notebook 11.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from math import inf
from typing import Any

from workbench.search.mcts import ScoredTree
from workbench.tree import Node, copied, grow, walk
from workbench.types import (
    Method,
    Prefix,
    Problem,
    Reply,
    Request,
    Sample,
    Score,
    SearchResult,
    Step,
    Stopped,
)


@dataclass(frozen=True)
class Way:
    """A step that a simulation could have taken, and what spoke for it at that moment."""

    text: str
    visits: int
    value: float | None  # by the verifier until it is visited, then the mean of its rewards
    prior: float
    worth: float  # PUCT
    taken: bool


@dataclass(frozen=True)
class Moment:
    """A search after one more answered request, or after one more simulation."""

    said: str  # what has just happened, in words
    root: Node  # a copy: later moments leave it as it is
    ways: tuple[tuple[Way, ...], ...] = ()  # of a simulation: at each node on its way all children


Tell = Callable[[Moment], None]


def watched(
    method: Method, note: Callable[[Request, Reply], None], *, seconds: float = inf
) -> Method:
    """`method`, whose answered requests are shown to `note`, and which is stopped after `seconds`.

    Its result then says `stopped="time"`. A request that is under way is waited for.
    """

    @wraps(method)
    def looked_at(problem: Problem, **options: Any) -> Generator[Request, Reply, Any]:
        search, until, late = method(problem, **options), time.monotonic() + seconds, False
        try:
            request = next(search)
            while time.monotonic() <= until:
                try:
                    reply = yield request
                except Stopped as stop:  # a budget: the method may ask for one more score
                    request = search.throw(stop)
                    continue
                note(request, reply)
                request = search.send(reply)
            late = True
            search.throw(Stopped("time"))
            return SearchResult(problem, stopped="time")  # it went on asking
        except StopIteration as end:
            return replace(end.value, stopped="time") if late else end.value
        finally:
            search.close()

    return looked_at


class Growing:
    """Makes a tree of the requests of a search and tells it after each: give `note` to `watched`.

    Samples are how often a step was drawn, the value is its score. A step is pruned as long as the
    search has gone on from others and nothing that ended lies behind it.
    """

    def __init__(self, problem: Problem, tell: Tell):
        self.root, self.tell = Node(Step(problem.question)), tell

    def note(self, request: Request, reply: Reply) -> None:
        """One answered request more."""
        if isinstance(request, Score):
            for prefix, scores in zip(request.prefixes, reply):
                self.scored(prefix, scores)
            said = f"{len(reply)} scored"
        elif request.prompt == "solve" and request.by == "policy":
            self.drawn(request, reply)
            what = "step" if request.until == "step" else "solution"
            said = f"{len(reply)} {what}{'s' * (len(reply) != 1)} drawn"
        else:  # other words of the question, a critique, another model: no steps of this tree
            said = f"{len(reply)} answers by {request.by} to the prompt {request.prompt!r}"
        self.tell(Moment(said, copied(self.root)))

    def drawn(self, request: Sample, reply: Reply) -> None:
        """New steps, behind the prefixes that the search goes on from."""
        open_ = {id(self._path(prefix)[-1]) for prefix in request.prefixes}
        _prune(self.root, open_)
        rows = [prefix for prefix in request.prefixes for _ in range(request.n)]
        for row, prefix in zip(rows, reply):
            for node in self._path(prefix)[len(row.steps) + 1 :]:
                node.samples, node.kept = node.samples + 1, True

    def scored(self, prefix: Prefix, scores: Sequence[float]) -> None:
        """Scores of its steps, or the one of the solution, which stands at its last step."""
        path = self._path(prefix)[1:]
        whole = len(scores) != len(path)
        for node, score in zip(path[-1:] if whole else path, scores):
            node.value = score

    def _path(self, prefix: Prefix) -> list[Node]:
        return grow(self.root, prefix.steps, end=prefix.stop)


def _prune(root: Node, open_: set[int]) -> None:
    """Mark what is kept: ends, what is gone on from, and what leads there."""
    for *_, node in reversed([*walk(root)]):  # children before their parents
        below = any(child.kept for child in node.children.values())
        node.kept = node.end is not None or id(node) in open_ or below


@dataclass(kw_only=True)
class FollowedTree(ScoredTree):
    """A `ScoredTree` that tells of every simulation, and by which numbers it went its way."""

    tell: Tell
    done: int = 0
    ways: list[tuple[Way, ...]] = field(default_factory=list)  # of the simulation under way

    def simulate(self, n: int) -> Generator[Request, Reply, None]:
        self.ways = []
        yield from super().simulate(n)
        self.done += n
        self.tell(Moment(f"simulation {self.done}", copied(self.root), tuple(self.ways)))

    def step(self, path: list[Node]) -> bool:
        parent = path[-1]
        children = [(child, self.worth(parent, child)) for child in parent.children.values()]
        moved = super().step(path)
        if moved:
            self.ways.append(tuple(_way(*pair, taken=pair[0] is path[-1]) for pair in children))
        return moved


def _way(child: Node, worth: float, *, taken: bool) -> Way:
    return Way(child.step.text, child.visits, child.value, child.prior or 0.0, worth, taken)
