"""GRPO: learn from final answers alone, each rollout judged against the others of its group.

A round draws fresh problems, samples G rollouts of each through the driver, grades their answers
and updates the policy on them. Group Relative Policy Optimization, DeepSeekMath (Shao et al. 2024,
arXiv 2402.03300), equations 3, 4:

1. advantage: reward less the mean of its group, over the group's standard deviation
   (`rl.group_advantages`);
2. loss: advantage times the ratio of new to old token probability, clipped (`rl.clipped_loss`);
3. plus `beta` times an estimate of the KL divergence from the frozen reference (`rl.kl_k3`).

By its options also Dr. GRPO (arXiv 2503.20783: advantage "none", normalise "constant"), DAPO's loss
(arXiv 2503.14476: normalise "token", `epsilon_high`) and RLOO's advantage (arXiv 2402.14740).
Taught in notebook 05.

How this deviates from the paper: answers are graded exactly, there is no reward model; the
reference is never renewed; old log-probabilities are the trainer's own, those of its first update,
so that the ratio starts at 1 also where sampler and trainer round differently (`train/ratio_error`
and `train/sampler_gap` measure that against the sampler). Log-probabilities, entropy and KL are
those at the sampling temperature.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import torch

from workbench.drive import solve, stream_key
from workbench.models.policy import HFPolicy
from workbench.problems import is_right
from workbench.search import METHODS
from workbench.train import rl
from workbench.train.learner import Batch, Learner, Recipe
from workbench.train.loop import rate_at
from workbench.train.rows import pad_id, passes, split_by_tokens
from workbench.train.sft import Lesson, batch_of
from workbench.types import Problem, SearchResult

RECIPE = Recipe(learning_rate=1e-4, micro_tokens=8192, warmup=0, decay=1.0, rank=0)


@dataclass(frozen=True)
class GRPO:
    """What a round is: its sizes, its rewards' baseline, and the loss."""

    group: int = 8  # rollouts a problem, G
    problems: int = 16  # a round, P
    updates: int = 1  # a round, each on all of its rollouts
    temperature: float = 1.0
    epsilon: float = 0.2
    epsilon_high: float | None = None  # None: like epsilon
    beta: float = 0.01  # weight of the KL term; 0: no reference is kept
    advantage: str = "std"  # one of `rl.ADVANTAGES`
    normalise: str = "sequence"  # one of `rl.NORMALISERS`
    constant_length: int | None = None  # for "constant"; None: the policy's `max_tokens`

    def __post_init__(self):
        fewest = {"group": 2, "problems": 1, "updates": 1, "constant_length": 1}
        for name, least in fewest.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name}={value}: need at least {least}")
        for name, allowed in (("advantage", rl.ADVANTAGES), ("normalise", rl.NORMALISERS)):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}={value!r}: use one of {', '.join(allowed)}")
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature}: rollouts must differ, need above 0")


def batches_of(
    policy: HFPolicy,
    results: Sequence[SearchResult],
    advantages: torch.Tensor,
    settings: GRPO,
    micro_tokens: int | None = None,
) -> tuple[list[Batch], dict[str, int]]:
    """The rollouts of a round in micro-batches by length, and the totals of their loss's mean.

    `advantages` (P, G) in the rollouts' order. Rollouts without an advantage have no gradient:
    unless the KL term holds them (`beta`), they are left out, but count in the totals.
    """
    rollouts = [rollout for result in results for rollout in result.rollouts]
    starts = [policy.prompt_ids(rollout.problem, rollout.prompt) for rollout in rollouts]
    rows = [([*start, *rollout.ids], len(start)) for start, rollout in zip(starts, rollouts)]
    weights = [len(rollout.ids) if settings.normalise == "token" else 1 for rollout in rollouts]
    length, flat = [len(ids) for ids, _ in rows].__getitem__, advantages.flatten()  # (P * G,)
    useful = [i for i, a in enumerate(flat.tolist()) if a or settings.beta]
    batches = []
    for some in split_by_tokens(sorted(useful, key=length), micro_tokens, length):
        batch = batch_of([rows[i] for i in some], pad_id(policy.tokenizer))
        sampled = [x for i in some for x in rollouts[i].logprobs]
        own = {"advantages": flat[some], "sampled": torch.tensor(sampled)}  # (B,), (N,)
        terms = {"weight": sum(weights[i] for i in some)}
        batch = replace(batch, tensors=batch.tensors | own, terms=terms)
        batches.append(batch.to(policy.engine.device))
    return batches, {"weight": sum(weights)}


# -- training --------------------------------------------------------------------------------------


def objective(
    logp: torch.Tensor, mask: torch.Tensor, tensors: Mapping[str, torch.Tensor], settings: GRPO
) -> torch.Tensor:
    """Equation 3: the clipped loss plus `beta` times the KL divergence, of one batch."""
    over = {"normalise": settings.normalise, "constant_length": settings.constant_length}
    epsilons = {"epsilon": settings.epsilon, "epsilon_high": settings.epsilon_high}
    loss = rl.clipped_loss(logp, tensors["old"], tensors["advantages"], mask, **epsilons, **over)
    if settings.beta:
        loss = loss + settings.beta * rl.average(rl.kl_k3(logp, tensors["ref"]), mask, **over)
    return loss


def update(
    learner: Learner,
    batches: Sequence[Batch],
    totals: Mapping[str, int],
    settings: GRPO,
    rate: float = 1.0,
) -> dict[str, float]:
    """One update on a round's rollouts; returns its metrics.

    The first one keeps its log-probabilities with the batches, as the old ones of those after it.
    """
    seen: list[dict[str, torch.Tensor]] = []

    def loss(model: torch.nn.Module, batch: Batch, totals: Mapping[str, int]) -> torch.Tensor:
        logp, entropy, mask = _logps(model, batch, settings)
        batch.tensors.setdefault("old", logp.detach())
        seen.append(_watch(logp.detach(), entropy, mask, batch.tensors, settings))
        share = batch.terms["weight"] / totals["weight"]
        return share * objective(logp, mask, batch.tensors, settings)

    value, norm = learner.update(batches, loss, rate, totals)
    tokens = {name: torch.cat([one[name] for one in seen]).float() for name in seen[0]}  # (N,) each
    worst = tokens["off"].expm1().abs().max().item()
    tokens["sampler_gap"] = tokens.pop("off").abs()
    means = {name: x.mean().item() for name, x in tokens.items()}
    return {"loss": value, "gradient_norm": norm, "ratio_error": worst, **means}


def _logps(model: torch.nn.Module, batch: Batch, settings: GRPO):
    ids, labels = batch.tensors["input_ids"], batch.tensors["labels"]
    return rl.token_logps(model, ids, labels, settings.temperature)


def _watch(
    logp: torch.Tensor,
    entropy: torch.Tensor,
    mask: torch.Tensor,
    tensors: Mapping[str, torch.Tensor],
    settings: GRPO,
) -> dict[str, torch.Tensor]:
    """What is worth knowing of every sampled token of a batch, (N,) each."""
    high = settings.epsilon if settings.epsilon_high is None else settings.epsilon_high
    ratio = (logp - tensors["old"])[mask].exp()  # (N,)
    advantages = rl.per_token(tensors["advantages"], mask)[mask]  # (N,)
    above = (ratio > 1 + high) & (advantages > 0)
    below = (ratio < 1 - settings.epsilon) & (advantages < 0)
    off = logp[mask] - tensors["sampled"]
    watched = {"entropy": entropy[mask], "clip_fraction": above | below, "off": off}
    return watched | ({"kl": rl.kl_k3(logp, tensors["ref"])[mask]} if "ref" in tensors else {})


def grpo(
    policy: HFPolicy,
    problems: Sequence[Problem],
    *,
    settings: GRPO | None = None,
    recipe: Recipe = RECIPE,
    seed: int,
    rounds: int,
    ref_policy: HFPolicy | None = None,
) -> Iterator[dict[str, float]]:
    """Train `policy` in place on its own rollouts, yielding metrics after every round.

    An update is on all rollouts of a round: of the recipe, rates and what belongs to AdamW and Muon
    count, `decay` and `warmup` over rounds, `clip`, and `micro_tokens`.

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
    ValueError without problems or without their answers.
    """
    if not problems:
        raise ValueError("no problems to train on: need at least one, with its answer")
    if missing := [problem.id for problem in problems if problem.answer is None]:
        raise ValueError(
            f"{len(missing)} of {len(problems)} problems have no answer to grade against, "
            f"the first is {missing[0]!r}"
        )
    settings = settings or GRPO()
    settings = replace(settings, constant_length=settings.constant_length or policy.max_tokens)
    return _rounds(policy, problems, settings, recipe, seed, rounds, ref_policy)


def _rounds(
    policy, problems, settings: GRPO, recipe: Recipe, seed: int, rounds: int, ref_policy
) -> Iterator[dict[str, float]]:
    reference = _reference(policy, ref_policy, settings)
    deck = chain.from_iterable(passes(problems, f"grpo/{seed}"))
    learner, tokens = Learner(policy.model.eval(), recipe), 0
    for number in range(rounds):
        # 1. rollouts, their rewards and advantages
        results = solve(
            list(islice(deck, settings.problems)), METHODS["sample"], policy=policy,
            seed=stream_key(seed, "grpo", number, 0, 0), n=settings.group,
            temperature=settings.temperature,
        )  # fmt: skip
        if any(result.stopped for result in results):
            return
        rewards = grade(results)  # (P, G)
        advantages = rl.group_advantages(rewards, normalise=settings.advantage)  # (P, G)
        batches, totals = batches_of(policy, results, advantages, settings, recipe.micro_tokens)
        # 2. what the reference says of them
        for batch in batches if reference is not None else ():
            with torch.no_grad():
                batch.tensors["ref"] = _logps(reference, batch, settings)[0]
        # 3. updates
        rate = rate_at(recipe, number, number / rounds, rounds)
        times = range(settings.updates if batches else 0)
        updates = [update(learner, batches, totals, settings, rate) for _ in times]
        written = sum(result.meter.generated for result in results)
        tokens += written
        length = written / rewards.numel()
        yield {**_metrics(rewards, updates), "train/tokens": tokens, "train/length": length}


def _reference(
    policy: HFPolicy, ref_policy: HFPolicy | None, settings: GRPO
) -> torch.nn.Module | None:
    """The model of the KL term, one that training leaves alone."""
    if ref_policy is None and not settings.beta:
        return None
    given = policy.model if ref_policy is None else ref_policy.model
    return (copy.deepcopy(given) if given is policy.model else given).eval()


def grade(results: Sequence[SearchResult]) -> torch.Tensor:
    """Reward 1 where a rollout's final answer is right, else 0: (P, G). ValueError for an error."""
    for result in results:
        if result.error:
            raise ValueError(f"{result.problem.id} could not be sampled: {result.error}")
    return torch.tensor(
        [[float(is_right(result.problem, r)) for r in result.rollouts] for result in results]
    )


def _metrics(rewards: torch.Tensor, updates: list[dict[str, float]]) -> dict[str, float]:
    silent, first = rl.without_signal(rewards), ("entropy", "kl", "sampler_gap", "ratio_error")
    if silent.all():
        right = int((rewards[:, 0] > 0).sum())
        warnings.warn(
            f"nothing to learn in this round: of {len(rewards)} groups {right} are all right, "
            f"{len(rewards) - right} all wrong; use problems of another level, larger groups or "
            "more of them",
            stacklevel=3,
        )
    one = updates[0] if updates else {}
    means = {name: sum(update[name] for update in updates) / len(updates) for name in one}
    metrics = means | {name: x for name, x in one.items() if name in first}
    metrics |= {"reward": rewards.mean().item(), "zero_signal": silent.float().mean().item()}
    return {f"train/{name}": x for name, x in metrics.items()}


# -- the simplest rival ----------------------------------------------------------------------------


def rejection_lessons(results: Sequence[SearchResult]) -> list[Lesson]:
    """The right rollouts of each problem, each text once, as lessons for `sft`.

    Rejection-sampling fine-tuning is RFT (Yuan et al. 2023, arXiv 2308.01825).
    """
    right = (r for result in results for r in result.rollouts if is_right(result.problem, r))
    return list(dict.fromkeys(Lesson(r.problem, r.prompt, r.text) for r in right))
