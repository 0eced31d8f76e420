r"""MiPS: Monte-Carlo values as targets, from a completer that need not be the generator.

Wang et al. 2024, arXiv 2402.02658. The policy writes the solutions; a helper, weaker or stronger,
completes every prefix n times:

$$\text{value}_t = \text{share of } n \text{ completions of prefix } t \text{ that end right.}$$

The value itself is the target (`train_prm(soft=True)`). Labels for those who want some: value above
`threshold`. With values this noisy the paper finds that aggregates of high scores (`max`, `sum`)
choose better than the worst step's.

The completions are those of `shepherd`: equal prefixes are completed once, and the last step of a
finished solution is graded instead. The helper reads the token ids that the policy wrote, so both
must share a tokenizer.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from workbench.supervise.judge import at_threshold
from workbench.supervise.shepherd import shepherd
from workbench.types import Problem, Reply, Request, SearchResult, sees_answer


@sees_answer
def mips(
    problem: Problem,
    *,
    solutions: int = 8,
    n: int = 8,
    temperature: float | None = None,
    by: str = "helper",
    threshold: float = 0.0,
) -> Generator[Request, Reply, SearchResult]:
    """Sample `solutions` from the policy and value their steps by `n` completions each.

    The completions come from the model `by`. ValueError unless n >= 1 and 0 <= threshold < 1.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold}: need 0 <= threshold < 1")
    result = yield from shepherd(problem, solutions=solutions, n=n, temperature=temperature, by=by)
    about = {"source": "mips", "meta": {"n": n, "by": by, "threshold": threshold}}
    rows = at_threshold(result.labelled, threshold)
    return replace(result, labelled=tuple(replace(row, **about) for row in rows))
