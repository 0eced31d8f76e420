r"""Preferences: of two ways to go on from a prefix the better one shall become likelier (DPO).

Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290, equation 7): with
$h = \log \pi - \log \pi_{ref}$ of all tokens of a continuation, after its prefix,

$$L = -\log \sigma\big(\beta \, (h_{chosen} - h_{rejected})\big).$$

- `pairs="whole"`: two rollouts of one problem, one of which earned more. The mistake is somewhere
  in it, and every token of it becomes less likely.
- `pairs="step"`: at the first bad step. From every prefix of a wrong rollout the policy completes
  (`vine.completed`); the first step after which a prefix is worth `bad` or less is the bad one. It
  is rejected, and chosen is the step with which the best completion of the prefix before begins.
  After RL on Incorrect Synthetic Data (Setlur et al. 2024, 2406.14532), which shows that this is
  advantage-weighted policy learning; the contrast of two single steps is Step-DPO's (2406.18629).
- `weighted`: a pair counts by what the bad step lost, the value before it less that after it, that
  is by its advantage; for whole rollouts by the difference of their rewards. The mean weight is 1.

Online, each round's pairs come from the newest policy; offline, from recorded rollouts. The
reference is the policy at the start, or with `refresh` a later one.

How this deviates: a prefix is bad by its value alone, rollouts are "wrong" by earning less than
another of their group; log-probabilities are those at the sampling temperature. Fine-tuning on
right rollouts alone is `grpo.rejection_lessons` with `iterate.fine_tune`. Taught in notebook 06.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from workbench.models.policy import HFPolicy
from workbench.train.clipped import Reference, Watched, logps_of_batch, several
from workbench.train.drawn import Drawn, Rounds, Source, check_source
from workbench.train.grpo import RECIPE
from workbench.train.learner import Batch, Learner, Recipe
from workbench.train.rewards import Reward, answer
from workbench.train.rounds import take_rounds
from workbench.train.rows import pad_id, split_by_tokens
from workbench.train.sft import batch_of
from workbench.train.vine import completed, values_of
from workbench.types import Prefix, Step


@dataclass(frozen=True)
class DPO(Rounds):
    """What a round is, which pairs it makes, and their loss."""

    beta: float = 0.1  # the larger, the less it takes for a pair to be told apart
    pairs: str = "step"  # one of `PAIRS`
    most: int = 4  # pairs a problem and round
    weighted: bool = False
    completions: int = 8  # of "step": drawn from each prefix to know its value
    bad: float = 0.0  # of "step": a prefix worth so much or less is lost

    def __post_init__(self):
        if self.group < 2:
            raise ValueError(f"group={self.group}: need at least 2")
        super().__post_init__()
        for name in ("most", "completions"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value}: need at least 1")
        if self.pairs not in PAIRS:
            raise ValueError(f"pairs={self.pairs!r}: use one of {', '.join(PAIRS)}")
        if self.beta == 0:
            raise ValueError("beta=0: every pair would have the same loss, need above 0")


@dataclass(frozen=True)
class Preference:
    """After `before`, going on with `chosen` is better than with `rejected`, by `weight`."""

    before: Prefix
    chosen: tuple[Step, ...]
    rejected: tuple[Step, ...]
    weight: float


# -- pairs -----------------------------------------------------------------------------------------


def whole_pairs(drawn: Drawn, settings: DPO) -> list[list[Preference]]:
    """Of every group rollouts that earned more and less, drawn at random from all such pairs."""
    rewards, groups = drawn.wholes("a preference"), []
    for result, row in zip(drawn.results, rewards.tolist()):
        own = list(zip(result.rollouts, row))
        found = [
            Preference(Prefix(result.problem, prompt=a.prompt), a.steps, b.steps, more - less)
            for (a, more), (b, less) in product(own, own)
            if more > less and a.texts != b.texts
        ]
        rng = random.Random(f"preferences/{drawn.seed}/{result.problem.id}")
        groups.append(rng.sample(found, min(len(found), settings.most)))
    return groups


def step_pairs(drawn: Drawn, settings: DPO) -> list[list[Preference]] | None:
    """Of every group the first bad steps of rollouts that earned less than its best one."""
    rewards, how = drawn.wholes("a preference"), {"temperature": settings.temperature}
    wrong = []  # of each group, each text once
    for result, row in zip(drawn.results, rewards.tolist()):
        lower = (r for r, reward in zip(result.rollouts, row) if reward < max(row))
        wrong.append(list({r.texts: r for r in lower}.values())[: settings.most])
    asked = [rollout for group in wrong for rollout in group]
    if (known := completed(drawn, asked, n=settings.completions, **how)) is None:
        return None
    groups = []
    for result, row, own in zip(drawn.results, rewards.tolist(), wrong):
        start = list(zip(result.rollouts, row))  # completions of the question
        earned = {r.texts: reward for r, reward in start}
        found = [first_bad(r, earned[r.texts], start, known, settings.bad) for r in own]
        groups.append(list(filter(None, found)))
    return groups


def first_bad(
    rollout: Prefix,
    reward: float,
    start: Sequence[tuple[Prefix, float]],
    known: Mapping[tuple[str, tuple[str, ...]], Sequence[tuple[Prefix, float]]],
    bad: float,
) -> Preference | None:
    """The pair at the first step after which the prefix is worth `bad` or less, if there is one.

    `start` and `known` are completions, with what they earn, of the question and of every prefix.
    There is no pair if the question is worth no more, or none of the completions goes on otherwise.
    """
    values = [sum(x for _, x in start) / len(start), *values_of(rollout, known), reward]
    t = next((t for t in range(len(rollout.steps)) if values[t + 1] <= bad), None)
    if t is None or values[0] <= bad:
        return None
    ends = known[rollout.problem.id, rollout.texts[:t]] if t else start
    step = rollout.steps[t]
    others = ((x, end.steps[t]) for end, x in ends if end.steps[t].text != step.text)
    earned, chosen = max(others, key=lambda one: one[0], default=(values[t + 1], step))
    before = Prefix(rollout.problem, rollout.steps[:t], prompt=rollout.prompt)
    pair = Preference(before, (chosen,), (step,), weight=values[t] - values[t + 1])
    return pair if earned > values[t + 1] else None


PAIRS: dict[str, Callable[[Drawn, DPO], list[list[Preference]] | None]] = {
    "step": step_pairs,
    "whole": whole_pairs,
}


# -- the loss --------------------------------------------------------------------------------------


def dpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, weights: torch.Tensor, *, beta: float
) -> torch.Tensor:
    """Mean of weight times -log sigma(beta (chosen - rejected)); log-ratios to the reference, (B,).

    >>> loss = dpo_loss(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0]), beta=0.1)
    >>> round(loss.item(), 6)
    0.644397
    """
    return -(weights * logsigmoid(beta * (chosen - rejected))).mean()


def pair_batches(
    policy: HFPolicy, pairs: Sequence[Preference], settings: DPO, micro_tokens: int | None
) -> tuple[list[Batch], dict[str, int]]:
    """Pairs as micro-batches, the chosen rows first and then the rejected ones."""
    mean = sum(pair.weight for pair in pairs) / max(1, len(pairs))
    rows = []
    for pair in pairs:
        before, weight = pair.before, pair.weight / mean if settings.weighted else 1.0
        start = [*policy.prompt_ids(before.problem, before.prompt), *before.ids]
        ends = ([i for step in way for i in step.ids] for way in (pair.chosen, pair.rejected))
        rows.append(([([*start, *end], len(start)) for end in ends], weight))

    def length(row) -> int:
        return 2 * max(len(ids) for ids, _ in row[0])

    batches = []
    for some in split_by_tokens(sorted(rows, key=length), micro_tokens, length):
        rows_of = [two[side] for side in (0, 1) for two, _ in some]
        batch = batch_of(rows_of, pad_id(policy.tokenizer))
        own = {"weights": torch.tensor([weight for _, weight in some])}  # (B,)
        batch = replace(batch, tensors=batch.tensors | own, terms={"weight": len(some)})
        batches.append(batch.to(policy.engine.device))
    return batches, {"weight": len(rows)}


def pair_parts(model: torch.nn.Module, batch: Batch, settings: DPO) -> tuple[torch.Tensor, Watched]:
    """The loss of one batch of pairs, and what is worth knowing of it."""
    logp, _, _ = logps_of_batch(model, batch, settings)  # (2 B, T)
    chosen, rejected = (logp - batch.tensors["ref"]).sum(1).chunk(2)  # (B,) each
    loss = dpo_loss(chosen, rejected, batch.tensors["weights"], beta=settings.beta)
    margin = settings.beta * (chosen - rejected).detach()  # (B,)
    return loss, {"margin": margin, "preferred": margin > 0}


# -- training --------------------------------------------------------------------------------------


def dpo(
    policy: HFPolicy,
    problems: Source,
    *,
    settings: DPO | None = None,
    recipe: Recipe = RECIPE,
    seed: int,
    rounds: int | None = None,
    until: int | None = None,
    reward: Reward = answer,
    ref_policy: HFPolicy | None = None,
    **options: Any,
) -> Iterator[dict[str, float]]:
    """Train `policy` in place on pairs of its own ways to go on; metrics after every round.

    Arguments as for `grpo`. Given `SearchResult`s it trains offline on their rollouts, whose
    prefixes it still completes itself for pairs="step". Beside what `take_rounds` reports:
    `train/pairs` (of this round), `train/margin` (mean beta (chosen - rejected)) and
    `train/preferred` (share of pairs told apart rightly), `train/loss` and `train/gradient_norm`,
    means over the updates; `train/entropy` as the rollouts' mean surprise says it. Groups without a
    pair teach nothing.
    """
    check_source(problems)
    settings = settings or DPO()
    options |= {"seed": seed, "rounds": rounds, "until": until, "reward": reward}
    return _rounds(policy, problems, settings, recipe, ref_policy, options)


def _rounds(
    policy, problems, settings: DPO, recipe: Recipe, ref_policy, options: dict[str, Any]
) -> Iterator[dict[str, float]]:
    reference = Reference(policy, ref_policy, settings)
    learner = Learner(policy.model.eval(), recipe)

    def learn(drawn: Drawn, rate: float) -> tuple[dict[str, float], torch.Tensor] | None:
        if (groups := PAIRS[settings.pairs](drawn, settings)) is None:
            return None
        pairs = [pair for group in groups for pair in group]
        batches, totals = pair_batches(policy, pairs, settings, recipe.micro_tokens)
        reference.renew(drawn.number)
        reference.read(batches)
        metrics = several(learner, batches, totals, settings, rate, pair_parts)
        surprise = [-x for rollout in drawn.rollouts for x in rollout.logprobs]
        metrics |= {"train/pairs": len(pairs), "train/entropy": sum(surprise) / len(surprise)}
        return metrics, torch.tensor([not group for group in groups])

    yield from take_rounds(
        learner, learn, policy, problems, settings, state=reference.state,
        restore=reference.restore, known={"method": "dpo", "reference": ref_policy}, **options,
    )  # fmt: skip
