r"""Math-Shepherd: label each step by what becomes of it (Wang et al. 2023, arXiv 2312.08935).

From every prefix of a solution a policy completes N times. With $c_t$ of the N ending in the right
answer,

$$\text{soft}_t = c_t / N, \qquad \text{hard}_t = [c_t > 0].$$

A hard label misses a good step with chance $(1 - p)^N$ when the completer solves the rest with
chance p; a bad one is called good when a completion is right by luck. The last step of a finished
solution needs no completion: it is graded.

Deviation: equal prefixes of a problem are completed once; with `stop_at_zero` nothing is spent
beyond a step from which no completion was right: it and all later ones get 0. Taught in notebook
02.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.problems import is_right
from workbench.types import LabelledSolution, Prefix, Problem, Sample, SearchResult, sees_answer


@sees_answer
def shepherd(
    problem: Problem,
    *,
    solutions: int = 8,
    n: int = 8,
    temperature: float | None = None,
    by: str = "policy",
    stop_at_zero: bool = False,
):
    """Sample `solutions` from the policy and label their steps by `n` completions each, drawn from
    the model `by`."""
    pool = yield Sample([Prefix(problem)], n=solutions, temperature=temperature)
    rows = yield from label(
        problem, pool, n=n, temperature=temperature, by=by, stop_at_zero=stop_at_zero
    )
    return SearchResult(problem, rollouts=tuple(pool), labelled=tuple(rows))


def label(
    problem: Problem,
    pool: Sequence[Prefix],
    *,
    n: int,
    temperature: float | None = None,
    by: str = "policy",
    stop_at_zero: bool = False,
):
    """Label the steps of given solutions of `problem`, which must hold its answer; yields requests,
    returns rows.

    Raises ValueError unless n >= 1.
    """
    if n < 1:
        raise ValueError(f"n={n} completions a step: need at least 1")
    values: dict[tuple[str, ...], float] = {}  # by the texts of the prefix, which goes on
    ends = {s.texts: float(is_right(problem, s)) for s in pool}  # of whole solutions: graded
    for depth in range(1, max((len(s.steps) for s in pool), default=0) + 1):
        open_prefixes: dict[tuple[str, ...], Prefix] = {}
        for solution in pool:
            texts = solution.texts[:depth]
            if len(solution.steps) <= depth or texts in values:
                continue
            if stop_at_zero and values.get(texts[:-1]) == 0:
                values[texts] = 0.0
            else:
                open_prefixes[texts] = Prefix(
                    problem, solution.steps[:depth], prompt=solution.prompt
                )
        if open_prefixes:
            rollouts = yield Sample(
                list(open_prefixes.values()), n=n, temperature=temperature, by=by
            )
            right = [is_right(problem, rollout) for rollout in rollouts]
            values.update(
                {t: sum(right[i * n : (i + 1) * n]) / n for i, t in enumerate(open_prefixes)}
            )
    return [_row(problem, solution, values, ends, n) for solution in pool]


def _row(problem: Problem, solution: Prefix, values: dict, ends: dict, n: int) -> LabelledSolution:
    """One target per step: hard labels from the soft values."""
    soft = (
        *(values[solution.texts[:t]] for t in range(1, len(solution.steps))),
        ends[solution.texts],
    )
    return LabelledSolution(
        problem, solution.texts, tuple(int(v > 0) for v in soft), soft, "shepherd", {"n": n}
    )
