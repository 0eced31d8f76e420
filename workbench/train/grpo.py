"""GRPO: learn from right and wrong final answers alone, each rollout judged against the others of
its group.

A round draws fresh problems, samples G rollouts of each through the driver, grades their answers
and updates the policy on them. Group Relative Policy Optimization, DeepSeekMath (Shao et al. 2024,
arXiv 2402.03300), equations 3, 4:

1. advantage: reward less the mean of its group, over the group's standard deviation
   (`rl.group_advantages`);
2. loss: advantage times the ratio of new to old token probability, clipped (`rl.clipped_loss`);
3. plus `beta` times an estimate of the KL divergence from the frozen reference (`rl.kl_k3`).

By its options also Dr. GRPO (arXiv 2503.20783: advantage "none", normalise "constant"), DAPO's loss
(arXiv 2503.14476: normalise "token", `epsilon_high`) and RLOO's advantage (arXiv 2402.14740).
Taught in notebook 04.

How this deviates from the paper: answers are graded exactly, there is no reward model; the
reference is never renewed; old log-probabilities are the trainer's own, those of its first update,
so that the ratio starts at 1 also where sampler and trainer round differently (`train/ratio_error`
and `train/sampler_gap` measure that against the sampler). Log-probabilities, entropy and KL are
those at the sampling temperature.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Literal, get_args, get_type_hints

import torch

from workbench.drive import solve, stream_key
from workbench.models.policy import HFPolicy
from workbench.problems import is_right
from workbench.search import METHODS
from workbench.train.precision import MasterWeights
from workbench.train.rl import (
    Row,
    average,
    clipped_loss,
    group_advantages,
    kl_k3,
    per_token,
    token_logps,
    without_signal,
)
from workbench.train.sft import Lesson
from workbench.types import Problem, SearchResult


@dataclass(frozen=True)
class GRPO:
    """How to train: sizes of a round, the loss, and the optimiser (AdamW, no weight decay)."""

    group: int = 8  # rollouts a problem, G
    problems: int = 16  # a round, P
    updates: int = 1  # a round, each on all of its rollouts
    lr: float = 1e-4
    gain_lr: float | None = None  # of vectors (gains of norms, biases); None: like lr
    decay: bool = True  # the rates fall linearly to zero over the rounds
    # far below the gradients: all weights move alike; far above: each by its gradient
    adam_epsilon: float = 1e-8
    temperature: float = 1.0
    epsilon: float = 0.2
    epsilon_high: float | None = None  # None: like epsilon
    beta: float = 0.01  # weight of the KL term; 0: no reference is kept
    advantage: Literal["std", "none", "leave_one_out"] = "std"
    normalise: Literal["sequence", "token", "constant"] = "sequence"
    # for normalise = "constant"; None: the policy's `max_tokens`
    constant_length: int | None = None
    clip: float = 1.0  # of the gradient's norm
    batch_tokens: int = 8192  # that go through the model at once, padding included

    def __post_init__(self):
        if self.group < 2:
            raise ValueError(
                f"group={self.group}: a rollout is judged against others, need at least 2 a problem"
            )
        for name in ("problems", "updates", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: need at least 1")
        if self.constant_length is not None and self.constant_length < 1:
            raise ValueError(f"constant_length={self.constant_length}: need at least 1, or None")
        for name in ("advantage", "normalise"):
            allowed = get_args(get_type_hints(GRPO)[name])
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: use one of {', '.join(allowed)}")
        if self.temperature <= 0:
            raise ValueError(
                f"temperature={self.temperature}: rollouts of a group must differ, need more than 0"
            )


@dataclass
class Batch:
    """Rollouts of like length, which go through the model together, and what the loss must know of
    them."""

    rows: list[Row]
    sampled: torch.Tensor  # (N,) the sampler's log-probabilities, row after row
    advantages: torch.Tensor  # (B,), or (B, T)
    share: float  # weight of this batch's loss in that of the round
    old: torch.Tensor | None = None  # (B, T) log-probabilities before the first update
    ref: torch.Tensor | None = None  # (B, T) the reference's


def batches_of(
    policy: HFPolicy, results: Sequence[SearchResult], advantages: torch.Tensor, settings: GRPO
):
    """The rollouts of a round in batches by length; `advantages` (P, G) in their order. ->
    list[Batch]

    Rollouts without an advantage have no gradient: unless the KL term holds them (`beta`), they are
    left out.
    """
    rollouts = [rollout for result in results for rollout in result.rollouts]
    starts = [policy.prompt_ids(rollout.problem, rollout.prompt) for rollout in rollouts]
    rows = [([*start, *rollout.ids], len(start)) for start, rollout in zip(starts, rollouts)]
    flat = advantages.flatten().to(policy.engine.device)  # (P * G,)
    useful = [i for i, a in enumerate(flat.tolist()) if a or settings.beta]
    groups: list[list[int]] = [[]]
    for i in sorted(useful, key=lambda i: len(rows[i][0])):
        if groups[-1] and len(rows[i][0]) * (len(groups[-1]) + 1) > settings.batch_tokens:
            groups.append([])
        groups[-1].append(i)
    weights = [len(rollout.ids) if settings.normalise == "token" else 1 for rollout in rollouts]
    return [
        Batch(
            rows=[rows[i] for i in group],
            sampled=torch.tensor(
                [x for i in group for x in rollouts[i].logprobs], device=flat.device
            ),
            advantages=flat[group],
            share=sum(weights[i] for i in group) / sum(weights),
        )
        for group in groups
        if group
    ]


# -- training --------------------------------------------------------------------------------------


def objective(logp: torch.Tensor, mask: torch.Tensor, batch: Batch, settings: GRPO) -> torch.Tensor:
    """Equation 3: the clipped loss plus `beta` times the KL divergence, of one batch."""
    over = {"normalise": settings.normalise, "constant_length": settings.constant_length}
    epsilons = {"epsilon": settings.epsilon, "epsilon_high": settings.epsilon_high}
    loss = clipped_loss(logp, batch.old, batch.advantages, mask, **epsilons, **over)
    if settings.beta:
        loss = loss + settings.beta * average(kl_k3(logp, batch.ref), mask, **over)
    return loss


def backward(model: torch.nn.Module, batches: Sequence[Batch], settings: GRPO) -> dict[str, float]:
    """Add up the gradients of the round's loss, batch by batch: the same as if all were one batch.
    -> metrics"""
    loss, seen = 0.0, []
    for batch in batches:
        logp, entropy, mask = token_logps(model, batch.rows, settings.temperature)
        batch.old = logp.detach() if batch.old is None else batch.old
        part = batch.share * objective(logp, mask, batch, settings)
        part.backward()
        loss += part.item()
        seen.append(_watch(logp.detach(), entropy, mask, batch, settings))
    tokens = {name: torch.cat([one[name] for one in seen]).float() for name in seen[0]}  # (N,) each
    worst = tokens["off"].expm1().abs().max().item()
    tokens["sampler_gap"] = tokens.pop("off").abs()
    return {
        "loss": loss,
        "ratio_error": worst,
        **{name: x.mean().item() for name, x in tokens.items()},
    }


def _watch(logp, entropy, mask, batch: Batch, settings: GRPO) -> dict[str, torch.Tensor]:
    """What is worth knowing of every sampled token of a batch, (N,) each."""
    high = settings.epsilon if settings.epsilon_high is None else settings.epsilon_high
    # (N,)
    ratio, advantages = (logp - batch.old)[mask].exp(), per_token(batch.advantages, mask)[mask]
    clipped = (ratio > 1 + high) & (advantages > 0) | (ratio < 1 - settings.epsilon) & (
        advantages < 0
    )
    watched = {
        "entropy": entropy[mask],
        "clip_fraction": clipped,
        "off": logp[mask] - batch.sampled,
    }
    return watched if batch.ref is None else watched | {"kl": kl_k3(logp, batch.ref)[mask]}


def grpo(
    policy: HFPolicy,
    problems: Sequence[Problem],
    *,
    settings: GRPO | None = None,
    seed: int,
    rounds: int,
    ref_policy: HFPolicy | None = None,
) -> Iterator[dict[str, float]]:
    """Train `policy` in place on its own rollouts, yielding the round's metrics after every round.

    `train/reward` is the share of right answers, `train/zero_signal` that of groups with equal
    rewards, from which nothing is learnt, `train/tokens` how many were sampled so far,
    `train/length` how many a rollout. `train/entropy`, `train/kl`, `train/sampler_gap` (mean
    |difference| of log-probabilities) and `train/ratio_error` (max |trainer / sampler - 1|) belong
    to the policy that sampled; `train/loss`, `train/clip_fraction` and `train/gradient_norm`
    (before it is clipped) are means over the updates. With `beta` 0 these cover the rollouts that
    have an advantage, and a round without any has none of them. A loss near 0 is no fault:
    advantages sum to 0, their gradient does not.

    `ref_policy` is the reference of the KL term (the policy as it is now, unless given); with
    `beta` 0 and none given there is no `train/kl`. An interrupt while sampling ends the training.
    The model computes in its own dtype, its weights are kept in float32 (`precision`). Raises
    ValueError without problems or without their answers.
    """
    if not problems:
        raise ValueError("no problems to train on: need at least one, with its answer")
    if missing := [problem.id for problem in problems if problem.answer is None]:
        raise ValueError(
            f"{len(missing)} of {len(problems)} problems have no answer to grade against, the first is {missing[0]!r}"
        )
    settings = settings or GRPO()
    settings = replace(settings, constant_length=settings.constant_length or policy.max_tokens)
    return _rounds(policy, problems, settings, seed, rounds, ref_policy)


def _rounds(
    policy, problems, settings: GRPO, seed: int, rounds: int, ref_policy
) -> Iterator[dict[str, float]]:
    reference = _reference(policy, ref_policy, settings)
    model, deck, tokens = policy.model.eval(), shuffled(problems, seed), 0
    master = MasterWeights(model)
    optimizer = _optimizer(list(master.weights.values()), settings)
    for number in range(rounds):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 - number / rounds if settings.decay else 1)
        results = solve(
            list(islice(deck, settings.problems)), METHODS["sample"], policy=policy,
            seed=stream_key(seed, "grpo", number, 0, 0), n=settings.group, temperature=settings.temperature,
        )  # fmt: skip
        if any(result.stopped for result in results):
            return
        rewards = grade(results)  # (P, G)
        batches = batches_of(
            policy, results, group_advantages(rewards, normalise=settings.advantage), settings
        )
        for batch in batches if reference is not None else ():
            with torch.no_grad():
                batch.ref = token_logps(reference, batch.rows, settings.temperature)[0]
        updates = []
        for _ in range(settings.updates if batches else 0):
            model.zero_grad()
            updates.append(backward(model, batches, settings))
            updates[-1]["gradient_norm"] = master.take_gradients(settings.clip)
            optimizer.step()
            master.write()
        written = sum(result.meter.generated for result in results)
        tokens += written
        yield {
            **_metrics(rewards, updates),
            "train/tokens": tokens,
            "train/length": written / rewards.numel(),
        }


def _optimizer(weights: list[torch.Tensor], settings: GRPO) -> torch.optim.AdamW:
    """AdamW over matrices and vectors, each group with the `peak` of its rate."""
    matrices, vectors = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim < 2]
    groups = [
        {"params": matrices, "peak": settings.lr},
        {"params": vectors, "peak": settings.lr if settings.gain_lr is None else settings.gain_lr},
    ]
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=settings.lr, eps=settings.adam_epsilon, weight_decay=0.0)


def _reference(
    policy: HFPolicy, ref_policy: HFPolicy | None, settings: GRPO
) -> torch.nn.Module | None:
    """The model of the KL term, one that training leaves alone."""
    if ref_policy is not None and ref_policy.model is not policy.model:
        return ref_policy.model.eval()
    return copy.deepcopy(policy.model).eval() if settings.beta or ref_policy is not None else None


def shuffled(problems: Sequence[Problem], seed: int) -> Iterator[Problem]:
    """Endless problems in a seeded order: each one once before any comes again."""
    for turn in count():
        yield from random.Random(f"grpo/{seed}/{turn}").sample(list(problems), len(problems))


def grade(results: Sequence[SearchResult]) -> torch.Tensor:
    """Reward 1 where a rollout's final answer is right, else 0. -> (P, G). Raises ValueError where
    sampling failed."""
    for result in results:
        if result.error:
            raise ValueError(f"{result.problem.id} could not be sampled: {result.error}")
    return torch.tensor(
        [[float(is_right(result.problem, r)) for r in result.rollouts] for result in results]
    )


def _metrics(rewards: torch.Tensor, updates: list[dict[str, float]]) -> dict[str, float]:
    silent, first = without_signal(rewards), ("entropy", "kl", "sampler_gap", "ratio_error")
    if silent.all():
        right = int((rewards[:, 0] > 0).sum())
        warnings.warn(
            f"nothing to learn in this round: of {len(rewards)} groups {right} are all right, {len(rewards) - right} "
            "all wrong; use problems of another level, larger groups or more of them",
            stacklevel=3,
        )
    one = updates[0] if updates else {}
    means = {name: sum(update[name] for update in updates) / len(updates) for name in one}
    metrics = means | {name: x for name, x in one.items() if name in first}
    metrics |= {"reward": rewards.mean().item(), "zero_signal": silent.float().mean().item()}
    return {f"train/{name}": x for name, x in metrics.items()}


# -- the simplest rival ----------------------------------------------------------------------------


def rejection_lessons(results: Sequence[SearchResult]) -> list[Lesson]:
    """The right rollouts of each problem, each text once: lessons for rejection-sampling
    fine-tuning with `sft`.

    Rejection-sampling fine-tuning is RFT (Yuan et al. 2023, arXiv 2308.01825).
    """
    right = [r for result in results for r in result.rollouts if is_right(result.problem, r)]
    return list(
        dict.fromkeys(Lesson(rollout.problem, rollout.prompt, rollout.text) for rollout in right)
    )
