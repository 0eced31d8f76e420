"""Values of prefixes by completing them: VinePPO's credit, without a value network.

A verifier or a value network guesses what a prefix is worth; completions say it, at the price of
drawing them. From every prefix of a rollout the policy completes n times, through the driver, as
the labellers do (`supervise.replay.completions`); their mean reward is the prefix's value, and a
step's advantage is by how much it changed that value (`advantages.vine_advantages`).

VinePPO (Kazemnejad et al. 2024, arXiv 2410.01679). How this deviates: the value of the question is
the mean reward of the *other* rollouts of its group, which are there already; equal prefixes of a
problem are completed once; advantages are not normalised over the batch. Taught in notebook 06.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch

from workbench.supervise.replay import completions, given
from workbench.task import stream_key
from workbench.train.advantages import ends_of, over_tokens, vine_advantages
from workbench.train.drawn import Drawn
from workbench.train.learner import this_process, together
from workbench.train.rewards import rewards_of
from workbench.train.rounds import sampled
from workbench.types import Meter, Prefix

if TYPE_CHECKING:
    from workbench.train.grpo import GRPO

Completed = list[tuple[Prefix, float]]  # of one prefix: solutions, and what each earns


def of_completions(drawn: Drawn, settings: GRPO) -> list[torch.Tensor] | None:
    """By how much each step changed the mean reward of what could follow, one number a token."""
    rewards = drawn.wholes("advantage='vine'")  # (P, G)
    how = {"n": settings.completions, "temperature": settings.temperature}
    if (known := completed(drawn, drawn.rollouts, **how)) is None:
        return None
    beside = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)  # (P, G)
    flat = zip(drawn.rollouts, beside.flatten().tolist(), rewards.flatten().tolist())
    advantages = []
    for rollout, start, reward in flat:
        steps = vine_advantages([start, *values_of(rollout, known)], reward)  # (S,)
        advantages.append(over_tokens(steps, ends_of(rollout), len(rollout.ids)))
    return advantages


def completed(
    drawn: Drawn, rollouts: Sequence[Prefix], *, n: int, temperature: float
) -> dict[tuple[str, tuple[str, ...]], Completed] | None:
    """`n` completions of every prefix of `rollouts` that goes on, and what they earn.

    By the problem's id and the prefix's texts; None if it was interrupted. Their tokens are added
    to `drawn.cost`. ValueError if two problems have one id, and for a reward with one a step.
    """
    problems = {rollout.problem.id: rollout.problem for rollout in rollouts}
    pools: dict[str, list[Prefix]] = {name: [] for name in problems}
    for rollout in rollouts:
        if rollout.problem != problems[rollout.problem.id]:
            raise ValueError(f"two problems have the id {rollout.problem.id!r}, need one each")
        pools[rollout.problem.id].append(rollout)
    options = {"seed": stream_key(drawn.seed, "vine", 0, 0, 0), "n": n, "temperature": temperature}
    # of several processes each completes its share of the problems
    (process, processes), whole = this_process(), list(problems.values())
    mine, method = whole[process::processes], given(completions, pools)
    parts = together(lambda: sampled(method, mine, drawn.policy, Meter(), **options))
    if any(part is None for part in parts):
        return None
    results = list(chain.from_iterable(parts))
    drawn.cost.generated += sum(result.meter.generated for result in results)
    rows = [row for result in results for row in result.labelled]
    ends = [end for row in rows for end in row.meta["ends"]]
    earned = rewards_of(drawn.reward, [problems[end.problem.id] for end in ends], ends)
    if any(isinstance(x, list) for x in earned):
        raise ValueError("values of prefixes need a reward a rollout, this one gives one a step")
    pairs = list(zip(ends, earned))
    return {(row.problem.id, row.steps): pairs[i * n : (i + 1) * n] for i, row in enumerate(rows)}


def values_of(rollout: Prefix, known: dict[tuple[str, tuple[str, ...]], Completed]) -> list[float]:
    """The value of the prefix after each step but the last, (S - 1,)."""
    prefixes = (rollout.texts[:t] for t in range(1, len(rollout.steps)))
    found = (known[rollout.problem.id, texts] for texts in prefixes)
    return [sum(earned for _, earned in ends) / len(ends) for ends in found]
