"""Sequential revision: the policy is asked again with its last attempt in view.

Snell et al. 2024, arXiv 2408.03314 (revisions), and Madaan et al. 2023, arXiv 2303.17651
(self-refine). `chains` first attempts are drawn in parallel; each is followed by `revisions` more
that read the one before through the template `prompt`, in which `{attempt}` stands for it and
`{said}` for its answer. So `chains` against `revisions` is their parallel : sequential ratio, and
with the prompt `solve`, which shows no attempt, all are independent samples.

Deviations: a revision sees the last attempt alone (Snell: up to four), no feedback is written
first (that is `critic_search`), and all revisions are made (self-refine stops when the policy is
content). Shipped policies were not taught to revise: of 80 attempts of base 45 % were right, and
of their revisions 4 % with the attempt in view, 58 % with the hint that its answer was wrong, 54 %
with nothing. So their template is the hint. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

from workbench.problems import answer_of
from workbench.search.stepwise import Beam, check, judged, result
from workbench.types import Prefix, Problem, Reply, Request, Sample, SearchResult, Stopped


def revise(
    problem: Problem,
    *,
    chains: int = 4,
    revisions: int = 3,
    prompt: str = "revise",
    aggregate: str = "min",
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Attempts and their revisions; the choice is the highest score of all.

    When the budget ends: the attempts so far. ValueError unless chains >= 1 and revisions >= 0, and
    for an unknown aggregate.
    """
    check(aggregate, chains=chains)
    if revisions < 0:
        raise ValueError(f"revisions={revisions}: need at least 0")
    asked = partial(Sample, temperature=temperature, scored_by="verifier")
    attempts: list[Beam] = []
    try:
        last = yield asked([Prefix(problem)], n=chains)
        for _ in range(revisions):
            attempts += yield from judged(last, aggregate)
            words = [{"attempt": p.text, "said": answer_of(p) or "?"} for p in last]
            last = yield asked([Prefix(problem)] * len(last), prompt=prompt, words=words)
        attempts += yield from judged(last, aggregate)
    except Stopped as stop:
        return result(problem, attempts, stop)
    return result(problem, attempts)
