r"""Math-Shepherd: label each step by what becomes of it (Wang et al. 2023, arXiv 2312.08935).

From every prefix of a solution a policy completes N times. With $c_t$ of the N ending right,

$$\text{soft}_t = c_t / N, \qquad \text{hard}_t = [c_t > 0].$$

A hard label misses a good step with chance $(1 - p)^N$ when the completer solves the rest with
chance p; a bad one is called good when a completion is right by luck. The last step of a finished
solution needs no completion: it is graded.

Deviation: equal prefixes of a problem are completed once; with `stop_at_zero` nothing is spent
beyond a step from which no completion was right: it and all later ones get 0. Notebook 02.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress

from workbench.problems import is_right
from workbench.types import (
    LabelledSolution,
    Prefix,
    Problem,
    Reply,
    Request,
    Sample,
    SearchResult,
    Stopped,
    sees_answer,
)


@sees_answer
def shepherd(
    problem: Problem,
    *,
    solutions: int = 8,
    n: int = 8,
    temperature: float | None = None,
    by: str = "policy",
    stop_at_zero: bool = False,
) -> Generator[Request, Reply, SearchResult]:
    """Sample `solutions` from the policy and label their steps by `n` completions each.

    The completions come from the model `by`.
    """
    pool = yield Sample([Prefix(problem)], n=solutions, temperature=temperature)
    options = {"n": n, "temperature": temperature, "by": by, "stop_at_zero": stop_at_zero}
    rows = yield from label(problem, pool, **options)
    return SearchResult(problem, tuple(pool), labelled=tuple(rows))


def label(
    problem: Problem,
    pool: Sequence[Prefix],
    *,
    n: int,
    temperature: float | None = None,
    by: str = "policy",
    stop_at_zero: bool = False,
) -> Generator[Request, Reply, list[LabelledSolution]]:
    """Label the steps of given solutions of `problem`, which must hold its answer: a row for each.

    When the budget ends, steps that were not reached have no label. ValueError unless n >= 1.
    """
    if n < 1:
        raise ValueError(f"n={n} completions a step: need at least 1")
    need_whole(problem, pool)
    values: dict[tuple[str, ...], float] = {}  # by the texts of the prefix, which goes on
    with suppress(Stopped):  # the driver notes its reason
        for depth in range(1, max((len(s.steps) for s in pool), default=0)):
            open_prefixes: dict[tuple[str, ...], Prefix] = {}
            for solution in pool:
                texts = solution.texts[:depth]
                if len(solution.steps) <= depth or texts in values:
                    continue
                if stop_at_zero and values.get(texts[:-1]) == 0:
                    values[texts] = 0.0
                else:
                    cut = Prefix(problem, solution.steps[:depth], prompt=solution.prompt)
                    open_prefixes[texts] = cut
            if open_prefixes:
                cuts = list(open_prefixes.values())
                rollouts = yield Sample(cuts, n=n, temperature=temperature, by=by)
                right = [is_right(problem, rollout) for rollout in rollouts]
                for i, texts in enumerate(open_prefixes):
                    values[texts] = sum(right[i * n : (i + 1) * n]) / n
    return [_row(problem, solution, values, n) for solution in pool]


def need_whole(problem: Problem, pool: Sequence[Prefix]) -> None:
    """ValueError for a solution that is not over: its last step would be graded as an answer."""
    if unfinished := [solution.texts for solution in pool if not solution.ended]:
        raise ValueError(f"{problem.id}: a solution of the steps {unfinished[0]}: need whole ones")


def _row(
    problem: Problem, solution: Prefix, values: Mapping[tuple[str, ...], float], n: int
) -> LabelledSolution:
    """One target per step, hard ones from the soft values; the last step is graded."""
    texts = solution.texts
    soft = [values.get(texts[:t]) for t in range(1, len(texts))]
    soft += [float(is_right(problem, solution))] if texts else []
    hard = tuple(None if value is None else int(value > 0) for value in soft)
    return LabelledSolution(problem, texts, hard, tuple(soft), "shepherd", {"n": n})
