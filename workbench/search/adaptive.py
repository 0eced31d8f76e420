"""Adaptive consistency: sample until the majority vote is decided, and no further.

Aggarwal et al. 2023, arXiv 2305.11860, their Beta rule. With v1 votes for the leading answer and v2
for the second, the chance that the first is the likelier of the two, before any vote all odds being
alike, is

    P = 1 - I_{1/2}(v1 + 1, v2 + 1),

I the regularised incomplete beta function. Sampling stops once P >= `confidence`. **Error rate**:
over problems with two answers whose odds are spread evenly, at most 1 - `confidence` of the votes
stopped by the rule name the less likely one, whenever they stop (it is a posterior probability, so
looking often costs nothing); near even odds it is more, far from them less. Checking that all of a
window of samples agree (ESC, Li et al. 2024, arXiv 2401.10480) is nearly the same rule: P reaches
.95 after four equal votes.

Deviations: `at_once` samples a request instead of one; sampling also ends when the rest of `n`
can't change the vote; missing answers don't vote. Taught in notebook 09.
"""

from __future__ import annotations

from collections.abc import Generator

from scipy.special import betainc

from workbench.analyse.metrics import majority_vote, tally
from workbench.problems import answer_of
from workbench.problems.grading import is_equal
from workbench.types import Prefix, Problem, Reply, Request, Sample, SearchResult, Stopped


def certainty(first: float, second: float) -> float:
    """Chance that the answer with `first` votes is likelier than the one with `second`.

    >>> certainty(4, 0), round(certainty(5, 2), 6)
    (0.96875, 0.855469)
    """
    return float(1 - betainc(first + 1, second + 1, 0.5))


def adaptive(
    problem: Problem,
    *,
    n: int = 40,
    at_once: int = 4,
    confidence: float = 0.95,
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Up to `n` solutions, `at_once` at a time, until their majority vote is decided.

    The choice is the first solution with the winning answer. When the budget ends: the vote so far.
    ValueError on sizes below 1, or unless 0.5 < confidence <= 1.
    """
    if min(n, at_once) < 1 or not 0.5 < confidence <= 1:
        given = f"n={n}, at_once={at_once}, confidence={confidence}"
        raise ValueError(f"{given}: need sizes of at least 1, and 0.5 < confidence <= 1")
    pool: list[Prefix] = []
    try:
        while len(pool) < n and not decided(pool, n - len(pool), confidence):
            some = min(at_once, n - len(pool))
            pool += yield Sample([Prefix(problem)], n=some, temperature=temperature)
    except Stopped:
        pass
    answers = [answer_of(rollout) for rollout in pool]
    winner = majority_vote(answers)
    same = (p for p, x in zip(pool, answers) if winner is not None and x and is_equal(winner, x))
    return SearchResult(problem, tuple(pool), best=next(same, None))


def decided(pool: list[Prefix], left: int, confidence: float) -> bool:
    """Is the vote certain enough, or can the `left` samples no longer change it?"""
    first, second, *_ = [*sorted(tally([*map(answer_of, pool)]).values(), reverse=True), 0.0, 0.0]
    return certainty(first, second) >= confidence or first - second > left
