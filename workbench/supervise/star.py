"""STaR (Zelikman et al. 2022, 2203.14465): keep what ends right, else ask again with the answer.

1. Sample `n` solutions; keep those whose answer is right.
2. If none is, sample `hints` more from a prompt that tells the answer (template `hint`); keep those
   that end right.
3. Strip the hint: the kept texts become solutions of the plain question.

What is kept is training data; the policy is then fine-tuned **from the original base** and the next
round begins. Rejection sampling (RFT, arXiv 2308.01825) is the same without 2: `hints=0`.

All steps of a kept solution are labelled good, which is what the method believes. It looks at
answers alone: a solution that is right by wrong steps is kept like any other, and with the answer
in sight there are more of them.

Deviation: several samples a problem instead of one greedy solution.
"""

from __future__ import annotations

from collections.abc import Generator

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
def star(
    problem: Problem, *, n: int = 4, hints: int = 4, temperature: float | None = None
) -> Generator[Request, Reply, SearchResult]:
    """Solutions that end right, each text once; `meta["hinted"]` says whether the answer was told.

    When the budget ends before the hints: what was sampled. ValueError unless n >= 1, hints >= 0.
    """
    if n < 1 or hints < 0:
        raise ValueError(f"n={n}, hints={hints}: need n >= 1 and hints >= 0")
    pool = yield Sample([Prefix(problem)], n=n, temperature=temperature)
    kept = [solution for solution in pool if is_right(problem, solution)]
    hinted = not kept and hints > 0
    if hinted:
        try:
            more = yield Sample([Prefix(problem)], n=hints, temperature=temperature, prompt="hint")
        except Stopped:
            return SearchResult(problem, tuple(pool))
        kept, pool = [solution for solution in more if is_right(problem, solution)], [*pool, *more]
    rows = [
        LabelledSolution(problem, texts, (1,) * len(texts), source="star", meta={"hinted": hinted})
        for texts in dict.fromkeys(solution.texts for solution in kept)
    ]
    return SearchResult(problem, tuple(pool), labelled=tuple(rows))
