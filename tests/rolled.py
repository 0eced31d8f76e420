"""Rollouts of a tiny policy as rows of ids, for the tests of what is computed from them."""

from workbench.drive import solve
from workbench.models.templates import EMBEDDED, render
from workbench.problems import quantities
from workbench.search import METHODS

PROBLEMS = quantities.generate(6, levels=[1, 2], seed=1)


def rollouts(policy, n=3, temperature=None):
    results = solve(
        PROBLEMS, METHODS["sample"], policy=policy, seed=5, n=n, temperature=temperature
    )
    return [rollout for result in results for rollout in result.rollouts]


def rows_of(policy, prefixes):
    starts = [policy.tokenizer(render(EMBEDDED, "solve", p.problem)).input_ids for p in prefixes]
    return [([*start, *p.ids], len(start)) for start, p in zip(starts, prefixes)]
