"""One clipped loss: what GRPO and its kin do with a round once advantages are there.

1. `batches_of`: rollouts and their advantages, one a rollout or one a token, as micro-batches;
2. `Reference.read`: what the reference says of every token, for the KL term;
3. `update`: PPO's clipped loss and `beta` times the KL divergence (`objective`: DeepSeekMath, Shao
   et al. 2024, arXiv 2402.03300, equation 3), a gradient, and what is worth knowing of it.

Old log-probabilities are the trainer's own, those of the round's first update, so that the ratio
starts at 1 also where sampler and trainer round differently; offline they are the sampler's.
Log-probabilities, entropy and KL are those at the sampling temperature. Taught in notebook 05.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch

from workbench.models.policy import HFPolicy
from workbench.train import rl
from workbench.train.drawn import Rounds
from workbench.train.learner import Batch, Learner, gathered
from workbench.train.rows import pad_id, split_by_tokens
from workbench.train.sft import batch_of
from workbench.types import SearchResult

Watched = dict[str, torch.Tensor]  # of every sampled token, or action, of a batch: (N,) each
Parts = Callable[[torch.nn.Module, Batch, Any], tuple[torch.Tensor, Watched]]  # a loss, and that

OF_SAMPLER = ("entropy", "kl", "sampler_gap", "ratio_error")  # known by the first update of a round


@dataclass(frozen=True)
class Clipped(Rounds):
    """A round, and its clipped loss."""

    epsilon: float = 0.2
    epsilon_high: float | None = None  # None: like epsilon
    normalise: str = "sequence"  # one of `rl.NORMALISERS`
    constant_length: int | None = None  # for "constant"; None: the policy's `max_tokens`

    def __post_init__(self):
        super().__post_init__()
        if self.constant_length is not None and self.constant_length < 1:
            raise ValueError(f"constant_length={self.constant_length}: need at least 1")
        if self.normalise not in (known := rl.NORMALISERS):
            raise ValueError(f"normalise={self.normalise!r}: use one of {', '.join(known)}")
        if min(self.epsilon, self.epsilon_high or 0) < 0:
            given = f"epsilon={self.epsilon}, epsilon_high={self.epsilon_high}"
            raise ValueError(f"{given}: need at least 0")


# -- batches ---------------------------------------------------------------------------------------


def batches_of(
    policy: HFPolicy,
    results: Sequence[SearchResult],
    advantages: torch.Tensor | Sequence[torch.Tensor] | None,
    settings: Clipped,
    micro_tokens: int | None = None,
    *,
    online: bool = True,
    parts: int = 1,
) -> tuple[list[Batch], dict[str, int]]:
    """The rollouts of a round in micro-batches by length, and the totals of their loss's mean.

    Each batch is of one of so many `parts` of the round: rollout i is of part i % parts.
    `advantages` in the rollouts' order: (P, G), or a number a rollout, or one a token, (T,) each.
    Rollouts without any have no gradient: unless the KL term holds them (`beta`), they are left
    out, but count in the totals. None: they are not known yet (`fill`), and all are kept.
    """
    rollouts = [rollout for result in results for rollout in result.rollouts]
    starts = [policy.prompt_ids(rollout.problem, rollout.prompt) for rollout in rollouts]
    rows = [([*start, *rollout.ids], len(start)) for start, rollout in zip(starts, rollouts)]
    weights = [len(rollout.ids) if settings.normalise == "token" else 1 for rollout in rollouts]
    flat = advantages.flatten() if isinstance(advantages, torch.Tensor) else advantages
    keep_all = flat is None or settings.beta
    length = [len(ids) for ids, _ in rows].__getitem__
    useful = [i for i in range(len(rows)) if keep_all or flat[i].any()]
    shares = [sorted((i for i in useful if i % parts == k), key=length) for k in range(parts)]
    batches = []
    for some in chain.from_iterable(split_by_tokens(x, micro_tokens, length) for x in shares):
        batch = batch_of([rows[i] for i in some], pad_id(policy.tokenizer))
        own = {"rollout": torch.tensor(some)}  # (B,)
        own["sampled"] = torch.tensor([x for i in some for x in rollouts[i].logprobs])  # (N,)
        terms = {"weight": sum(weights[i] for i in some)}
        batch = replace(batch, tensors=batch.tensors | own, terms=terms)
        batches.append(batch.to(policy.engine.device))
    if flat is not None:
        fill(batches, "advantages", [a.expand(len(r.ids)) for a, r in zip(flat, rollouts)])
    if not online:
        fill(batches, "old", [torch.tensor(rollout.logprobs) for rollout in rollouts])
    return batches, {"weight": sum(weights)}


def token_mask(batch: Batch) -> torch.Tensor:
    """1 where a sampled token stands, (B, T)."""
    return batch.tensors["labels"] != rl.IGNORE


def fill(
    batches: Sequence[Batch],
    name: str,
    values: Sequence[torch.Tensor],
    places: Callable[[Batch], torch.Tensor] = token_mask,
) -> None:
    """Put a rollout's numbers, (T,) for every one of the round, where its tokens stand.

    Or where `places` says: those of actions, (A,).
    """
    for batch in batches:
        mask = places(batch)  # (B, T)
        own = torch.cat([values[i] for i in batch.tensors["rollout"].tolist()])  # (N,)
        batch.tensors[name] = rl.placed(own.to(mask.device), mask)  # (B, T)


# -- updates ---------------------------------------------------------------------------------------


def objective(
    logp: torch.Tensor, mask: torch.Tensor, tensors: Mapping[str, torch.Tensor], settings: Clipped
) -> torch.Tensor:
    """Equation 3: the clipped loss plus `beta` times the KL divergence, of one batch."""
    over = {"normalise": settings.normalise, "constant_length": settings.constant_length}
    epsilons = {"epsilon": settings.epsilon, "epsilon_high": settings.epsilon_high}
    loss = rl.clipped_loss(logp, tensors["old"], tensors["advantages"], mask, **epsilons, **over)
    if settings.beta:
        loss = loss + settings.beta * rl.average(rl.kl_k3(logp, tensors["ref"]), mask, **over)
    return loss


def clipped_parts(
    model: torch.nn.Module, batch: Batch, settings: Clipped
) -> tuple[torch.Tensor, Watched]:
    """The objective of one batch, and what is worth knowing of its tokens.

    The first update keeps its log-probabilities with the batch, as the old ones of those after it.
    """
    logp, entropy, mask = logps_of_batch(model, batch, settings)
    batch.tensors.setdefault("old", logp.detach())
    tensors = batch.tensors
    watched = watch_tokens(logp, entropy, mask, tensors)
    ratio = (logp.detach() - tensors["old"]).exp()  # (B, T)
    beyond = rl.beyond_clip(ratio, tensors["advantages"], settings.epsilon, settings.epsilon_high)
    watched["clip_fraction"] = beyond[mask]
    return objective(logp, mask, tensors, settings), watched


def update(
    learner: Learner,
    batches: Sequence[Batch],
    totals: Mapping[str, int],
    settings: Rounds,
    rate: float = 1.0,
    parts: Parts = clipped_parts,
) -> dict[str, float]:
    """One update on a round's rollouts; returns its metrics, those of replayed batches left out."""
    seen: list[Watched] = []

    def loss(model: torch.nn.Module, batch: Batch, totals: Mapping[str, int]) -> torch.Tensor:
        value, watched = parts(model, batch, settings)
        if "replayed" not in batch.terms:
            seen.append(watched)
        return batch.terms["weight"] / totals["weight"] * value

    value, norm = learner.update(batches, loss, rate, totals)
    own = [{name: x.cpu() for name, x in watched.items()} for watched in seen]
    seen = [watched for theirs in gathered(own) for watched in theirs]  # of all processes
    found = {name: torch.cat([one[name] for one in seen]).float() for name in (seen or [{}])[0]}
    metrics = {"loss": value, "gradient_norm": norm}
    if (off := found.pop("off", None)) is not None:  # (N,)
        metrics["ratio_error"] = off.expm1().abs().max().item()
        found["sampler_gap"] = off.abs()
    return metrics | {name: x.mean().item() for name, x in found.items()}


def several(
    learner: Learner,
    batches: Sequence[Batch],
    totals: Mapping[str, int],
    settings: Rounds,
    rate: float,
    parts: Parts = clipped_parts,
) -> dict[str, float]:
    """A round's `updates`, if there is anything to learn from; their metrics, by `train/` names.

    Means over the updates; what belongs to the policy that sampled is that of the first.
    """
    times = range(settings.updates if batches else 0)
    made = [update(learner, batches, totals, settings, rate, parts) for _ in times]
    first = made[0] if made else {}
    means = {name: sum(one[name] for one in made) / len(made) for name in first}
    means |= {name: x for name, x in first.items() if name in OF_SAMPLER}
    return {f"train/{name}": x for name, x in means.items()}


def logps_of_batch(
    model: torch.nn.Module, batch: Batch, settings: Rounds
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`rl.token_logps` of a batch: log-probabilities, entropies and mask, (B, T) each."""
    ids, labels = batch.tensors["input_ids"], batch.tensors["labels"]
    return rl.token_logps(model, ids, labels, settings.temperature)


def watch_tokens(
    logp: torch.Tensor,
    entropy: torch.Tensor,
    mask: torch.Tensor,
    tensors: Mapping[str, torch.Tensor],
) -> Watched:
    """What is worth knowing of every sampled token of a batch, (N,) each."""
    logp = logp.detach()
    watched = {"entropy": entropy[mask], "off": logp[mask] - tensors["sampled"]}
    return watched | ({"kl": rl.kl_k3(logp, tensors["ref"])[mask]} if "ref" in tensors else {})


# -- the reference ---------------------------------------------------------------------------------


class Reference:
    """The model of the KL term, one that training leaves alone; none without a KL term.

    It is `given`, or the policy as it is now; with `refresh` it becomes the policy of the moment
    after so many rounds, and again.
    """

    def __init__(self, policy: HFPolicy, given: HFPolicy | None, settings: Rounds):
        if settings.refresh and given is None and not settings.beta:
            raise ValueError(f"refresh={settings.refresh} with beta=0: there is no reference")
        self.policy, self.settings = policy, settings
        self.model, self.renewed = None, 0
        if given is not None or settings.beta:
            model = policy.model if given is None else given.model
            # a model that adapters were put on holds them, too: it would learn with the policy
            own = {id(p) for p in policy.model.parameters()}
            shared = any(id(p) in own for p in model.parameters())
            self.model = (copy.deepcopy(model) if shared else model).eval()

    def renew(self, number: int) -> bool:
        """Take over the policy if round `number` is due, and say if so."""
        due = self.settings.refresh and number > 0 and number % self.settings.refresh == 0
        if due:
            self.model, self.renewed = copy.deepcopy(self.policy.model).eval(), number
        return bool(due)

    @torch.no_grad()
    def read(self, batches: Sequence[Batch]) -> None:
        """Add what it says of every token as `ref`, (B, T)."""
        for batch in batches if self.model is not None else ():
            batch.tensors["ref"] = logps_of_batch(self.model, batch, self.settings)[0]

    def state(self) -> dict[str, torch.Tensor] | None:
        """The weights that training could have changed, if it was renewed."""
        if not self.renewed:
            return None
        named = self.model.named_parameters()
        return {name: p.detach().clone() for name, p in named if p.requires_grad}

    @torch.no_grad()
    def restore(self, state: Mapping[str, torch.Tensor] | None) -> None:
        if state is None:
            return
        self.model, self.renewed = copy.deepcopy(self.policy.model).eval(), 1
        for name, p in self.model.named_parameters():
            if name in state:
                p.copy_(state[name])
