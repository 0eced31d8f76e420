r"""PPO: advantages from a value function that learns beside the policy, per token or per step.

A critic, one number on the states of a model's body, foretells what a rollout will still earn; an
advantage is by how much things turned out better than foretold. PPO (Schulman et al. 2017, arXiv
1707.06347) with generalised advantage estimation (1506.02438), in two forms that OpenR (Wang et al.
2024, 2410.09671) calls

- TPPO, `action="token"`: each token is an action. A step's reward falls to its last token; gamma
  discounts from step to step only, not within one;
- APPO, `action="step"`: each step is an action, with the product of its tokens' probabilities. The
  ratio is that of the product (`advantages.step_ratio`), the value that before the step's first
  token, and advantages go over steps (`advantages.step_gae`).

$$L = -\min(\rho A, \text{clip}(\rho) A) + \beta\, \text{KL} + c\, \tfrac12 \max\big((V - R)^2,
(\text{clip}(V, V_{old} \pm \epsilon_v) - R)^2\big), \qquad R = A_{GAE} + V_{old}$$

averaged over actions as `normalise` says. The end token is an action like any other; the reward of
a whole rollout falls to the last action; beyond it the value is 0, also where room ran out.

The critic shares the policy's body, whose states then serve both (`shared`), or is a second model
with an optimiser of its own. That one starts as a copy of the policy, or from a verifier, which has
learnt already what a mistake is (as in InstructGPT, Ouyang et al. 2022, 2203.02155), and learns in
`critic_batches` from each round: it has far more to learn than the policy.

How this deviates: the KL divergence is a term of the loss, not of the rewards; the policy has no
mini-batches, each of its `updates` is on the whole round; an action's KL is the sum of its tokens'
estimates. Taught in notebook 06.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from workbench.models.checkpoints import weights_digest
from workbench.models.policy import HFPolicy
from workbench.train import rl
from workbench.train.clipped import (
    Clipped,
    Reference,
    Watched,
    batches_of,
    logps_of_batch,
    several,
    watch_tokens,
)
from workbench.train.critic import Valued, acts, before, prepare, summed, with_ends
from workbench.train.drawn import Drawn, Source, check_source
from workbench.train.grpo import RECIPE
from workbench.train.learner import Batch, Learner, Recipe
from workbench.train.rewards import Reward, answer
from workbench.train.rounds import take_rounds

ACTS = ("token", "step")


@dataclass(frozen=True)
class PPO(Clipped):
    """What a round is, its clipped loss, and its critic."""

    action: str = "token"  # one of `ACTS`
    gamma: float = 1.0  # from step to step
    lam: float = 0.95  # from action to action
    whiten: bool = True  # advantages: less their mean over the round, over their deviation
    shared: bool = True  # the critic reads the policy's own states; False: it is a second model
    value_weight: float = 0.5  # of the critic's loss beside the policy's, if shared
    value_epsilon: float | None = 0.2  # how far a value may move in a round; None: anywhere
    critic_batches: int = 1  # parts of a round, an update each of a critic of its own

    def __post_init__(self):
        super().__post_init__()
        if self.action not in ACTS:
            raise ValueError(f"action={self.action!r}: use one of {', '.join(ACTS)}")
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise ValueError(f"gamma={self.gamma}, lam={self.lam}: need both in [0, 1]")
        if self.critic_batches < 1 or (self.shared and self.critic_batches > 1):
            given = f"critic_batches={self.critic_batches}, shared={self.shared}"
            raise ValueError(f"{given}: need at least 1, more only for a critic of its own")
        if self.value_weight < 0 or (self.value_epsilon is not None and self.value_epsilon <= 0):
            given = f"value_weight={self.value_weight}, value_epsilon={self.value_epsilon}"
            raise ValueError(f"{given}: need at least 0, and above 0 or None")


# -- the loss --------------------------------------------------------------------------------------


def policy_parts(
    model: torch.nn.Module, batch: Batch, settings: PPO
) -> tuple[torch.Tensor, Watched]:
    """The clipped loss of one batch and its KL term, over actions; and what is worth knowing."""
    return _of_policy(*logps_of_batch(model, batch, settings), batch, settings)


def critic_parts(model: Valued, batch: Batch, settings: PPO) -> tuple[torch.Tensor, Watched]:
    """The critic's loss of one batch, over actions; and what is worth knowing."""
    return _of_critic(model(batch.tensors["input_ids"])[1], batch, settings)


def shared_parts(model: Valued, batch: Batch, settings: PPO) -> tuple[torch.Tensor, Watched]:
    """Both, from one pass through the body."""
    logits, values = model(batch.tensors["input_ids"])
    told = rl.logps_of(logits, batch.tensors["labels"], settings.temperature)
    loss, watched = _of_policy(*told, batch, settings)
    error, seen = _of_critic(values, batch, settings)
    return loss + settings.value_weight * error, watched | seen


def _of_policy(logp, entropy, mask, batch: Batch, settings: PPO) -> tuple[torch.Tensor, Watched]:
    tensors, counts = batch.tensors, acts(batch, settings)
    old = tensors.setdefault("old", logp.detach())
    ratio = summed(logp - old, batch, settings).exp()  # (B, A)
    clip = ratio, tensors["advantages"], settings.epsilon, settings.epsilon_high
    loss = _average(-rl.clipped_gain(*clip), counts, settings)
    watched = watch_tokens(logp, entropy, mask, tensors)
    watched["clip_fraction"] = rl.beyond_clip(*clip)[counts]
    if "ref" in tensors:
        kl = rl.kl_k3(logp, tensors["ref"])  # (B, T)
        loss = loss + settings.beta * _average(summed(kl, batch, settings), counts, settings)
    return loss, watched


def _of_critic(values, batch: Batch, settings: PPO) -> tuple[torch.Tensor, Watched]:
    tensors, counts = batch.tensors, acts(batch, settings)
    told = before(values, batch, settings)  # (B, A)
    error = rl.value_loss(told, tensors["values"], tensors["returns"], settings.value_epsilon)
    return _average(error, counts, settings), {"value_loss": error.detach()[counts]}


def _average(x: torch.Tensor, counts: torch.Tensor, settings: PPO) -> torch.Tensor:
    over = {"normalise": settings.normalise, "constant_length": settings.constant_length}
    return rl.average(x, counts, **over)


# -- training --------------------------------------------------------------------------------------


def ppo(
    policy: HFPolicy,
    problems: Source,
    *,
    settings: PPO | None = None,
    recipe: Recipe = RECIPE,
    critic_recipe: Recipe | None = None,
    critic: torch.nn.Module | None = None,
    seed: int,
    rounds: int | None = None,
    until: int | None = None,
    reward: Reward = answer,
    ref_policy: HFPolicy | None = None,
    **options: Any,
) -> Iterator[dict[str, float]]:
    """Train `policy` in place on its own rollouts, yielding metrics after every round; as `grpo`.

    `critic_recipe` is that of a critic of its own (`recipe`, unless given), and `critic` the causal
    LM that it starts from: one that reads what the policy reads, token for token, as the `model` of
    a verifier hosted on it does. It is changed. None: a copy of the policy. Beside what `grpo`
    reports there are `train/value_loss` (a mean over the updates) and `train/explained_variance`
    (of the values before the round's first update; not if all returns are equal);
    `train/clip_fraction` is over actions; `train/critic_tokens` are what a critic of its own was
    trained on so far. A group teaches unless all rollouts of the round earn the same.
    """
    check_source(problems)
    settings = settings or PPO()
    if settings.shared and critic_recipe is not None:
        raise ValueError("critic_recipe: a shared critic learns by the policy's own recipe")
    if settings.shared and critic is not None:
        raise ValueError("critic: a shared one is the policy itself; use PPO(shared=False)")
    settings = replace(settings, constant_length=settings.constant_length or policy.max_tokens)
    options |= {"seed": seed, "rounds": rounds, "until": until, "reward": reward}
    known, of_critic = {"method": "ppo", "reference": ref_policy}, None
    if not settings.shared:
        critic = copy.deepcopy(policy.model) if critic is None else critic
        of_critic = Learner(Valued(critic).eval(), critic_recipe or recipe)
        known |= {"critic": weights_digest(critic), "critic recipe": repr(of_critic.recipe)}
    options |= {"known": known}
    return _rounds(policy, problems, settings, recipe, of_critic, ref_policy, options)


def _rounds(
    policy, problems, settings: PPO, recipe: Recipe, of_critic: Learner | None, ref_policy,
    options: dict[str, Any],
) -> Iterator[dict[str, float]]:  # fmt: skip
    reference, model = Reference(policy, ref_policy, settings), policy.model.eval()
    critic = of_critic.model if of_critic else Valued(model).eval()
    learner = Learner(model if of_critic else critic, recipe)

    def learn(drawn: Drawn, rate: float) -> tuple[dict[str, float], torch.Tensor]:
        # 1. batches, and what critic and reference say of them
        how = {"micro_tokens": recipe.micro_tokens, "online": drawn.online}
        how |= {"parts": settings.critic_batches}
        batches, totals = batches_of(policy, drawn.results, None, settings, **how)
        batches, totals = with_ends(batches, totals, drawn, settings)
        reference.renew(drawn.number)
        reference.read(batches)
        metrics = prepare(batches, drawn, settings, critic)
        # 2. updates of the policy, and of a critic of its own
        parts = shared_parts if settings.shared else policy_parts
        metrics |= several(learner, batches, totals, settings, rate, parts)
        if of_critic:
            metrics["train/value_loss"] = _foretell(of_critic, batches, settings, rate)
            metrics["train/critic_tokens"] = of_critic.done.tokens
        sums = drawn.sums
        return metrics, (sums == sums[0, 0]).all().expand(len(sums))

    def state() -> dict[str, Any]:
        return {"reference": reference.state(), "critic": of_critic and of_critic.state()}

    def restore(kept: Mapping[str, Any]) -> None:
        reference.restore(kept["reference"])
        if of_critic:
            of_critic.restore(kept["critic"])

    options |= {"state": state, "restore": restore}
    yield from take_rounds(learner, learn, policy, problems, settings, **options)


def _foretell(critic: Learner, batches: Sequence[Batch], settings: PPO, rate: float) -> float:
    """Teach a critic of its own what the rollouts did earn; returns its loss before."""
    losses = []
    for part in range(settings.critic_batches):
        own = [b for b in batches if b.tensors["rollout"][0] % settings.critic_batches == part]
        totals = {"weight": sum(batch.terms["weight"] for batch in own)}
        told = several(critic, own, totals, settings, rate, critic_parts)
        losses += [told["train/value_loss"]] if own else []
    return sum(losses) / len(losses)
