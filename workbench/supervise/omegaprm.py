r"""OmegaPRM: the first wrong step of many wrong solutions, by binary search in a tree (Luo et al.
2024, 2406.06592).

A node of the tree (`workbench.tree`) is a prefix s, known by the texts of its steps. Once met, it
has N(s) visits and the value MC(s), the share right of n rollouts.

1. Root: n rollouts from the question.
2. Select, of all rollouts r that ended wrong from a node s with 0 < MC(s) < 1, the one with the
   largest Q + U, and consume it: $Q(s, r) = \alpha^{1 - MC(s)} \cdot \beta^{len(r)/L}$, $U(s) = c
   \sqrt{\sum_i N(s_i)} / (1 + N(s))$. Q prefers promising prefixes and short rollouts, U prefixes
   seldom met; len(r) counts tokens, or words of a step without ids.
3. Search the steps of r after s for the first with MC = 0, by halves. Each prefix probed is met,
   and its rollouts join those of 2; one met before is looked up. The whole solution needs no
   rollouts: it is wrong.
4. Count: every node met, as start or as probe, gets N + 1. Back to 2.
5. Rows: one per distinct solution, whatever it was drawn for. The question is no step. `values`: MC
   where the prefix was met, the grade (0 or 1) of the last step, else None. `labels`, equal for
   equal prefixes that go on:
   **1** if a solution that ended right passes through it; so all before a node with MC > 0 is good,
   **0** for a node with MC = 0 and all after it, and for the last step of a wrong solution,
   **None** between the last step known good and the first known bad: a trainer leaves these out.

MC is noisy: a right step may show 0 and a wrong one more; the search then ends at one border of
several. Where a node shows 0 and a right rollout drawn elsewhere passes through, the value stays 0
and the label is 1. Known weakness: a solution that is right by luck makes all its steps good.

Deviations: N + 1 for all nodes met, not for s alone. MC(s) takes only rollouts drawn at s: s was
chosen because one from further up ended wrong, so that counting those would bias it (labels do
count them). A wrong solution is searched once, however often drawn; with one step after s there is
nothing to search. A solution without steps counts for the question; a given one has an empty row,
a sampled one none. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import sqrt

from workbench.problems import is_right
from workbench.supervise.shepherd import need_whole
from workbench.tree import Node, grow, walk
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

Texts = tuple[str, ...]  # of the steps of a prefix, by which it is known


def q_value(mc: float, length: int, *, alpha: float, beta: float, max_length: int) -> float:
    """How promising a rollout of `length` tokens from a prefix of value `mc` is.

    ValueError outside the ranges.
    """
    if not 0 <= mc <= 1 or length < 0:
        raise ValueError(f"mc={mc}, length={length}: need 0 <= mc <= 1 and length >= 0")
    if not (0 < alpha <= 1 and 0 < beta <= 1 and max_length > 0):
        given = f"alpha={alpha}, beta={beta}, max_length={max_length}"
        raise ValueError(f"{given}: need both in (0, 1], max_length > 0")
    return alpha ** (1 - mc) * beta ** (length / max_length)


def u_value(visits: int, total_visits: int, *, c_puct: float) -> float:
    """What a prefix gains for being seldom met; ValueError for a negative number."""
    if not (visits >= 0 and total_visits >= 0 and c_puct >= 0):
        given = f"visits={visits}, total_visits={total_visits}, c_puct={c_puct}"
        raise ValueError(f"{given}: none may be negative")
    return c_puct * sqrt(total_visits) / (1 + visits)


def bisection(length: int) -> Generator[int, float, int | None]:
    """Yield the index of the value needed next and take it; return that of the first 0, or None."""
    low, high = 0, length  # the first 0 lies in low..high, where `length` stands for none
    while low < high:
        middle = (low + high) // 2
        value = yield middle
        if not 0 <= value <= 1:
            raise ValueError(f"value {value} after step {middle + 1}: must lie in [0, 1]")
        low, high = (middle + 1, high) if value > 0 else (low, middle)
    return low if low < length else None


def first_error(values: Sequence[float]) -> int | None:
    """Index of the first step with MC = 0, or None; `values[i]` is the MC after step i + 1.

    Reads at most floor(log2(M)) + 1 of M values; the last, like any other, only if it is needed.
    Where values rise again from 0, it finds one of them, or none. ValueError outside [0, 1].

    >>> first_error([0.9, 0.8, 0.5, 0, 0, 0, 0, 0]), first_error([0.9, 0.5]), first_error([])
    (3, None, None)
    """
    search, value = bisection(len(values)), None
    while True:
        try:
            index = search.send(value)
        except StopIteration as end:
            return end.value
        value = values[index]


@dataclass(frozen=True)
class Wrong:
    """A rollout that ended wrong, and the node, `depth` steps deep, from which it was drawn."""

    node: Node
    depth: int
    end: Prefix


@dataclass
class Known:
    """All that a search knows: a tree whose nodes have a value once they are met, MC or grade."""

    problem: Problem
    root: Node
    n: int
    limit: int | None
    temperature: float | None
    by: str
    rollouts: list[Prefix] = field(default_factory=list)
    paths: dict[Texts, list[Node]] = field(default_factory=dict)  # of each distinct solution
    wrong: list[Wrong] = field(default_factory=list)
    consumed: set[Texts] = field(default_factory=set)

    def meet(self, prefix: Prefix) -> Generator[Request, Reply, Node]:
        """The node of a prefix; one not met before is worth `n` rollouts.

        Stopped if the limit leaves fewer than that.
        """
        node = grow(self.root, prefix.steps)[-1]
        if node.value is None:
            if self.limit is not None and len(self.rollouts) + self.n > self.limit:
                raise Stopped("rollouts")
            ends = yield Sample([prefix], n=self.n, temperature=self.temperature, by=self.by)
            self.enter(node, len(prefix.steps), ends)
        return node

    def enter(self, node: Node, depth: int, ends: Sequence[Prefix]) -> None:
        """Grade the rollouts `ends` of a node and give it their share right as its value."""
        grades = [is_right(self.problem, end) for end in ends]
        node.value = sum(grades) / max(1, len(ends))
        self.rollouts += ends
        for end, right in zip(ends, grades):
            if not right:
                self.wrong.append(Wrong(node, depth, end))
            path = self.paths[end.texts] = grow(self.root, end.steps, end=True)
            if end.steps:
                path[-1].value = max(float(right), path[-1].value or 0.0)  # right once is right


@sees_answer
def omegaprm(
    problem: Problem,
    *,
    n: int = 8,
    searches: int = 20,
    rollouts: int | None = None,
    alpha: float = 0.5,
    beta: float = 0.9,
    max_length: int = 500,
    c_puct: float = 0.125,
    temperature: float | None = None,
    by: str = "policy",
) -> Generator[Request, Reply, SearchResult]:
    """Label solutions of the model `by`, by `searches` binary searches with `n` rollouts a node.

    `rollouts` caps all that is drawn: a search breaks off rather than pass it. `labelled` holds the
    rows of stage 5, of which `step_tree.as_tree` makes the tree; when a budget ends, those so far.
    ValueError for sizes that cannot be.
    """
    if n < 1 or searches < 0 or (rollouts is not None and rollouts < n):
        given = f"n={n}, searches={searches}, rollouts={rollouts}"
        raise ValueError(f"{given}: need n >= 1, searches >= 0, rollouts >= n")
    q_options = dict(alpha=alpha, beta=beta, max_length=max_length)
    q_value(0, 0, **q_options), u_value(0, 0, c_puct=c_puct)  # refuse bad options
    known = Known(problem, Node(Step(problem.question)), n, rollouts, temperature, by)
    with suppress(Stopped):  # the driver notes its reason; what is known so far is the result
        yield from known.meet(Prefix(problem))
        for _ in range(searches):
            chosen = _select(known, c_puct=c_puct, **q_options)
            if chosen is None:
                break
            yield from _search(known, chosen)
    rows = tuple(row for row in _rows(known) if row.steps)
    return SearchResult(problem, tuple(known.rollouts), labelled=rows)


def label(
    problem: Problem,
    pool: Sequence[Prefix],
    *,
    n: int,
    temperature: float | None = None,
    by: str = "policy",
) -> Generator[Request, Reply, list[LabelledSolution]]:
    """Label given solutions, the question's rollouts: each wrong text is searched once, in order.

    Returns one row per solution of `pool`; prefixes that they share are completed once. `Stopped`
    ends the searching: a step of which nothing is known yet has None. ValueError unless n >= 1.
    """
    if n < 1:
        raise ValueError(f"n={n} rollouts a node: need at least 1")
    need_whole(problem, pool)
    known = Known(problem, Node(Step(problem.question)), n, None, temperature, by)
    known.enter(known.root, 0, pool)
    with suppress(Stopped):
        for wrong in tuple(known.wrong):
            if wrong.end.texts not in known.consumed:
                yield from _search(known, wrong)
    rows = {row.steps: row for row in _rows(known)}
    return [rows[solution.texts] for solution in pool]


def _select(known: Known, *, c_puct: float, **q_options: float) -> Wrong | None:
    """Stage 2: the wrong rollout with the largest Q + U as of now, of equal ones the first."""
    total = sum(path[-1].visits for path in walk(known.root))

    def priority(wrong: Wrong) -> float:
        rest = wrong.end.steps[wrong.depth :]
        length = sum(len(step.ids) or len(step.text.split()) for step in rest)
        u = u_value(wrong.node.visits, total, c_puct=c_puct)
        return q_value(wrong.node.value, length, **q_options) + u

    between = (wrong for wrong in known.wrong if 0 < wrong.node.value < 1)
    fresh = (wrong for wrong in between if wrong.end.texts not in known.consumed)
    long = (wrong for wrong in fresh if len(wrong.end.steps) - wrong.depth > 1)
    return max(long, key=priority, default=None)


def _search(known: Known, wrong: Wrong) -> Generator[Request, Reply, None]:
    """Stages 3 and 4: consume a wrong rollout, probe its prefixes by halves, count nodes met."""
    steps = wrong.end.steps
    known.consumed.add(wrong.end.texts)
    wrong.node.visits += 1
    # if none before it is, the last is wrong
    search, value = bisection(len(steps) - wrong.depth - 1), None
    while True:
        try:
            depth = wrong.depth + 1 + search.send(value)
        except StopIteration:
            return
        probe = yield from known.meet(Prefix(known.problem, steps[:depth]))
        probe.visits += 1
        value = probe.value


def _rows(known: Known) -> Iterator[LabelledSolution]:
    """Stage 5. `meta`: n, visits of each step's node, and value and visits of the question's."""
    right = [texts for texts, path in known.paths.items() if path[-1].value]
    good = {texts[:t] for texts in right for t in range(1, len(texts) + 1)}
    question = {"value": known.root.value, "visits": known.root.visits}
    for texts, (_, *path) in known.paths.items():
        values = tuple(node.value for node in path)
        visits = [node.visits or None for node in path]  # an end is no node met
        labels = _labels([texts[:t] in good for t in range(1, len(texts))], values)
        meta = {"n": known.n, "visits": visits, "question": question}
        yield LabelledSolution(known.problem, texts, labels, values, "omegaprm", meta)


def _labels(good: Sequence[bool], values: Sequence[float | None]) -> tuple[int | None, ...]:
    """Hard labels of steps, the last one graded; `good`: does a right solution pass through each?

    >>> _labels([True, False, False, False], [0.5, None, 0.0, None, 0.0])
    (1, None, 0, 0, 0)
    """
    labels, bad = [], False
    for known_good, value in zip(good, values):
        bad = not known_good and (bad or value == 0)
        labels.append(1 if known_good else 0 if bad else None)
    return (*labels, *map(int, values[-1:]))
