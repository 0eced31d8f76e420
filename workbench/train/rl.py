"""The equations of policy learning: advantages, the clipped loss, KL, and log-probabilities.

- advantage of a rollout within its group, of GRPO (DeepSeekMath, Shao et al. 2024, arXiv
  2402.03300), Dr. GRPO (2503.20783) and RLOO (2402.14740): `group_advantages`; with a value
  function: `gae` (1506.02438);
- PPO's clipped loss (1707.06347) under the normalisers of GRPO, DAPO (2503.14476) and Dr. GRPO:
  `clipped_loss`; the loss of its value function, and how good that is: `value_loss`,
  `explained_variance`;
- KL divergence from a frozen reference: `kl_k3`;
- log-probability and entropy of every sampled token: `token_logps`.

The loops that use them are `grpo.py` and its neighbours. Taught in notebooks 05 and 06.
"""

from __future__ import annotations

import torch

from workbench.train.rows import logits_from
from workbench.train.sft import IGNORE

ADVANTAGES = ("std", "none", "leave_one_out")
NORMALISERS = ("sequence", "token", "constant")

# -- the equations ---------------------------------------------------------------------------------


def group_advantages(rewards, *, normalise: str = "std") -> torch.Tensor:
    """How much better each rollout did than its group; 0 where all did equally well. (P, G)

    "std": reward - mean, over sample standard deviation + 1e-4 (GRPO); "none": not divided (Dr.
    GRPO); "leave_one_out": reward - mean of the others (RLOO). ValueError for other shapes, or NaN.

    >>> group_advantages([[1, 0, 0, 0], [1, 1, 1, 1]], normalise="none").tolist()
    [[0.75, -0.25, -0.25, -0.25], [0.0, 0.0, 0.0, 0.0]]
    """
    rewards = _floats(rewards)
    if rewards.ndim != 2 or rewards.shape[1] < 2 or not rewards.isfinite().all():
        given = f"rewards of shape {tuple(rewards.shape)}"
        raise ValueError(f"{given}: need finite (P, G), at least 2 a group")
    size = rewards.shape[1]
    above = rewards - rewards.mean(1, keepdim=True)  # (P, G)
    if normalise == "std":
        above = above / (rewards.std(1, keepdim=True) + 1e-4)
    elif normalise == "leave_one_out":
        above = above * size / (size - 1)
    elif normalise != "none":
        raise ValueError(f"normalise={normalise!r}: use 'std', 'none' or 'leave_one_out'")
    all_equal = (rewards == rewards[:, :1]).all(1, keepdim=True)  # (P, 1)
    return above.masked_fill(all_equal, 0.0)


def gae(rewards, values, *, gamma, lam: float) -> torch.Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438). (T,), (T,) -> (T,)

    A_t = delta_t + gamma lam A_t+1 with delta_t = r_t + gamma V_t+1 - V_t; the value beyond the end
    is 0. `gamma` is one number, or one for each way from t to t + 1, (T,).

    >>> [round(x, 3) for x in gae([0, 0, 1], [0.5, 0.6, 0.7], gamma=1.0, lam=0.95).tolist()]
    [0.466, 0.385, 0.3]
    """
    rewards, values = _floats(rewards), _floats(values)
    if rewards.ndim != 1 or rewards.shape != values.shape:
        given = f"{tuple(rewards.shape)} rewards, {tuple(values.shape)} values"
        raise ValueError(f"{given}: need one a step, (T,)")
    gamma = torch.as_tensor(gamma, dtype=values.dtype)
    if gamma.shape not in (values.shape, ()):
        raise ValueError(f"gamma {tuple(gamma.shape)}: need one number, or {tuple(values.shape)}")
    after = torch.cat([values, values.new_zeros(1)])[1:]  # (T,)
    advantages = rewards + gamma * after - values  # (T,)
    onward = (gamma * lam).expand(len(values))  # (T,)
    for t in reversed(range(len(advantages) - 1)):
        advantages[t] += onward[t] * advantages[t + 1]
    return advantages


def clipped_loss(
    logp: torch.Tensor,
    old_logp: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    epsilon: float,
    epsilon_high: float | None = None,
    normalise: str = "sequence",
    constant_length: int | None = None,
) -> torch.Tensor:
    """PPO's clipped loss: a token's probability gains nothing beyond `epsilon` from the old one.

    `logp`, `old_logp` and `mask` are (B, T), `advantages` (B,) or one per token (B, T); `normalise`
    as for `average`.

    >>> one = torch.ones(1, 1)
    >>> loss = clipped_loss(torch.log(1.5 * one), 0 * one, one, one, epsilon=0.2)
    >>> round(loss.item(), 6)  # 1.5 counts as 1.2
    -1.2
    """
    advantages = per_token(advantages, mask)  # (B, T)
    ratio = (logp - old_logp).masked_fill(mask == 0, 0.0).exp()  # (B, T)
    gain = clipped_gain(ratio, advantages, epsilon, epsilon_high)  # (B, T)
    return average(-gain, mask, normalise=normalise, constant_length=constant_length)


def clipped_gain(
    ratio: torch.Tensor, advantages: torch.Tensor, epsilon: float, epsilon_high: float | None
) -> torch.Tensor:
    """min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon_high) A), elementwise.

    The ratio is that of a token's probability, or of whatever is one action.
    """
    high = epsilon if epsilon_high is None else epsilon_high
    return torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + high) * advantages)


def beyond_clip(
    ratio: torch.Tensor, advantages: torch.Tensor, epsilon: float, epsilon_high: float | None
) -> torch.Tensor:
    """Where `clipped_gain` has no gradient, because the ratio went too far where it should go."""
    high = epsilon if epsilon_high is None else epsilon_high
    return ((ratio > 1 + high) & (advantages > 0)) | ((ratio < 1 - epsilon) & (advantages < 0))


def value_loss(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, epsilon: float | None
) -> torch.Tensor:
    """Half the squared error of values; a value gains nothing beyond `epsilon` from the old one.

    The larger of the error and that of the clipped value, elementwise; not clipped if `epsilon` is
    None.

    >>> one = torch.ones(1)
    >>> value_loss(0.75 * one, 0.25 * one, one, 0.25).item()  # counts as .5, where the error is .5
    0.125
    """
    error = (values - returns) ** 2
    if epsilon is not None:
        near = old + (values - old).clamp(-epsilon, epsilon)
        error = torch.maximum(error, (near - returns) ** 2)
    return error / 2


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """Which share of the variance of returns the values foretell; not finite if that is 0.

    1: exactly; 0: no better than their mean; below 0: worse than that.

    >>> explained_variance(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0]))
    0.75
    """
    return (1 - (returns - values).var(correction=0) / returns.var(correction=0)).item()


def kl_k3(logp: torch.Tensor, ref_logp: torch.Tensor) -> torch.Tensor:
    """Estimate of KL(policy || reference) from one sampled token: exp(d) - d - 1, elementwise.

    d = ref_logp - logp. Never negative, and unbiased for tokens that the policy drew (Schulman
    2020, "Approximating KL divergence").
    """
    d = ref_logp - logp
    return torch.expm1(d) - d


def average(
    x: torch.Tensor, mask: torch.Tensor, *, normalise: str, constant_length: int | None = None
) -> torch.Tensor:
    """One number from terms per token (B, T), where the mask is 1.

    "sequence": mean within each row, then over rows (GRPO); "token": mean over all tokens (DAPO);
    "constant": sum over B x `constant_length`, so that no token's weight depends on a length (Dr.
    GRPO).
    """
    x = x.masked_fill(mask == 0, 0.0)
    if normalise == "sequence":
        return (x.sum(1) / mask.sum(1).clamp_min(1)).mean()
    if normalise == "token":
        return x.sum() / mask.sum().clamp_min(1)
    if normalise != "constant":
        raise ValueError(f"normalise={normalise!r}: use 'sequence', 'token' or 'constant'")
    if not constant_length or constant_length < 1:
        raise ValueError(f"constant_length={constant_length}: 'constant' needs at least 1")
    return x.sum() / (len(x) * constant_length)


def _floats(x) -> torch.Tensor:
    x = torch.as_tensor(x)
    return x if x.is_floating_point() else x.float()


def per_token(advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One advantage per token from one per row, (B,) or (B, T) -> (B, T)."""
    if advantages.shape not in (mask.shape, mask.shape[:1]):
        need = f"need (B,) or (B, T) = {tuple(mask.shape)}"
        raise ValueError(f"advantages {tuple(advantages.shape)}: {need}")
    return advantages if advantages.ndim == 2 else advantages[:, None].expand(mask.shape)


# -- what the model says of the rollouts -----------------------------------------------------------


def token_logps(
    model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability of each sampled token, entropy of its distribution, and mask, (B, T) each.

    `ids` and `labels` (B, T) are `sft.collate`'s of prompt + rollout as sampled. Position t holds
    the token that *follows* ids[t], so that a rollout begins at its prompt's last position; prompt
    and padding are 0 and carry no gradient. The entropy is a number to watch: it has none either.
    """
    return logps_of(logits_from(model, ids, labels != IGNORE), labels, temperature)


def logps_of(
    logits: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `token_logps` says, from logits (B, T, V) that are there already."""
    mask = labels != IGNORE  # (B, T)
    logits = logits[mask]  # (N, V)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logps = torch.log_softmax(logits / temperature, -1)  # (N, V)
    chosen = logps.gather(-1, labels[mask][:, None])[:, 0]  # (N,)
    entropy = torch.special.entr(logps.detach().exp()).sum(-1)  # (N,)
    return placed(chosen, mask), placed(entropy, mask), mask


def placed(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Put values, row after row, where the mask is 1. (N,), (B, T) -> (B, T)"""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
