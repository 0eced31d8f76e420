"""Labellers side by side on the same completions: draw once, then let each take its share.

Comparing labellers that each draw for themselves mixes two things: how they use completions, and
which ones chance gave them. So `completions` draws n from every prefix of given solutions, and a
`Replay` is a policy that hands out these: whatever a labeller asks of it costs the meter what it
would have cost, and nothing is sampled. `start` says where in the n it begins, so that one
recording holds several independent repetitions of a labeller that needs few.

    made = solve(problems, given(completions, pools), policy=completer, seed=0, n=64)
    recorded = Replay(made)
    rows = solve(problems, given(shepherd.label, pools), policy=recorded.at(16), n=8)

Only prefixes that were recorded can be continued: labellers that choose where to go on, such as a
tree of their own, need the living policy. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from workbench.fingerprint import digest
from workbench.types import (
    LabelledSolution,
    Meter,
    Method,
    Prefix,
    Problem,
    Reply,
    Request,
    Sample,
    SearchResult,
    sees_answer,
)

Pools = Mapping[str, Sequence[Prefix]]  # by the id of the problem


def given(label: Callable[..., Generator[Request, Reply, Any]], pools: Pools) -> Method:
    """A method for `solve` that has `label(problem, pool, **options)` label given solutions."""

    @sees_answer
    def method(problem: Problem, **options: Any) -> Generator[Request, Reply, SearchResult]:
        rows = yield from label(problem, pools[problem.id], **options)
        return SearchResult(problem, rollouts=tuple(pools[problem.id]), labelled=tuple(rows))

    method.__name__ = f"given_{label.__module__.rpartition('.')[2]}"
    return method


def completions(
    problem: Problem,
    pool: Sequence[Prefix],
    *,
    n: int,
    temperature: float | None = None,
    by: str = "policy",
) -> Generator[Request, Reply, list[LabelledSolution]]:
    """Draw `n` completions of every prefix of `pool` that goes on, each text once.

    Yields one request; returns a row per prefix, without labels: `meta["ends"]` holds its
    completions. ValueError unless n >= 1.
    """
    if n < 1:
        raise ValueError(f"n={n} completions a prefix: need at least 1")
    cuts: dict[tuple[str, ...], Prefix] = {}
    for solution in pool:
        for t in range(1, len(solution.steps)):
            cut = Prefix(problem, solution.steps[:t], prompt=solution.prompt)
            cuts.setdefault(cut.texts, cut)
    if not cuts:
        return []
    ends = yield Sample(list(cuts.values()), n=n, temperature=temperature, by=by)
    rows = []
    for i, texts in enumerate(cuts):
        meta, open_labels = {"ends": ends[i * n :][:n]}, (None,) * len(texts)
        rows.append(LabelledSolution(problem, texts, open_labels, None, "completions", meta))
    return rows


class Replay:
    """A policy that hands out recorded completions; rows of one prefix in a call differ."""

    def __init__(self, results: Sequence[SearchResult], *, start: int = 0):
        pairs = [(result.problem.id, row) for result in results for row in result.labelled]
        self.ends = {(name, row.steps): row.meta["ends"] for name, row in pairs}
        self.start, self.name = start, "replay"

    def fingerprint(self) -> str:
        """A digest of what was recorded, and from where on it is handed out."""
        return digest((self.ends, self.start))

    def at(self, start: int) -> Replay:
        """The same recording, handed out from completion `start` on."""
        other = object.__new__(Replay)
        other.ends, other.start, other.name = self.ends, start, self.name
        return other

    def sample(
        self,
        prefixes: Sequence[Prefix],
        keys: Sequence[int],
        *,
        until: str = "end",
        temperature: float | None = None,
        prompt: str = "solve",
        meters: Sequence[Meter] | None = None,
    ) -> list[Prefix]:
        """ValueError for what was not recorded: prefixes, further completions, single steps."""
        if until != "end":
            raise ValueError(f"until={until!r}: whole completions were recorded")
        drawn: dict[tuple, int] = {}
        out = []
        for i, prefix in enumerate(prefixes):
            name, texts = place = prefix.problem.id, prefix.texts
            if (known := self.ends.get(place)) is None:
                raise ValueError(f"{name}: no completions were recorded after {texts}")
            turn = drawn[place] = drawn.get(place, -1) + 1
            if turn >= len(known):
                given = f"{turn + 1} completions asked for"
                raise ValueError(f"{name}: {given}, {len(known)} recorded")
            out.append(known[(self.start + turn) % len(known)])
            if meters is not None:
                meters[i].samples += 1
                meters[i].generated += len(out[-1].ids) - len(prefix.ids)
        return out
