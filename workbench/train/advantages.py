"""Advantages of steps: what a token gains when every step has a reward or a value of its own.

A rollout has T tokens and S steps; `step_ends` holds the index of each step's last token.

- `process_advantages`: GRPO with process supervision (DeepSeekMath, Shao et al. 2024, arXiv
  2402.03300, section 4.1.3);
- `step_gae`, `step_ratio`: PPO with one step as one action, called APPO in OpenR (Wang et al. 2024,
  arXiv 2410.09671);
- `vine_advantages`: VinePPO (Kazemnejad et al. 2024, arXiv 2410.01679);
- `min_form_rewards`, `pure_advantages`: PURE (Cheng et al. 2025, arXiv 2504.15275);
- `over_tokens`, `step_sums`: from one number a step to one a token, and back.

How this deviates: the deviation that rewards are divided by is that of a sample, plus 1e-4, as in
`rl.group_advantages`, and equal rewards give 0 everywhere; OpenR and VinePPO normalise advantages
over a batch, here that is left to the caller; PURE's code gives the separators of steps no
advantage, here they belong to their step. A rollout that ran out of room counts as over: the value
after its last step is 0. Taught in notebook 06.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import index

import torch

from workbench.train.rl import _floats, gae, group_advantages
from workbench.types import Prefix

Numbers = Sequence[float] | torch.Tensor  # one a step, (S,)


# -- from process rewards --------------------------------------------------------------------------


def process_advantages(
    step_rewards: Sequence[Numbers], step_ends: Sequence[Sequence[int]], lengths: Sequence[int]
) -> list[torch.Tensor]:
    """Advantages of one group of rollouts whose steps are rewarded, one (T,) tensor a rollout.

    Rewards are normalised over all steps of the group: less their mean, over their standard
    deviation + 1e-4; all equal, or a single one: 0. A token gets the sum of those of the steps that
    end at it or after it; after the last end that is 0. ValueError unless each rollout has a length
    and as many finite rewards as ends.

    >>> group = process_advantages([[1, 0], [0]], [[1, 3], [2]], [5, 3])
    >>> [[round(a, 2) for a in row.tolist()] for row in group]  # 1.15 - 0.58, then -0.58 alone
    [[0.58, 0.58, -0.58, -0.58, 0.0], [-0.58, -0.58, -0.58]]
    """
    _check_one_each(step_rewards, step_ends, lengths)
    if not len(step_rewards):
        return []
    rewards = [_step_values(row, "step rewards") for row in step_rewards]
    parts = normalised(torch.cat(rewards)).split([len(row) for row in rewards])  # (S,) each
    return [over_tokens(_to_come(row), *rest) for row, *rest in zip(parts, step_ends, lengths)]


def normalised(x: torch.Tensor) -> torch.Tensor:
    """Numbers less their mean, over their standard deviation + 1e-4; all equal, or one: 0. (N,)"""
    return group_advantages(x[None])[0] if len(x) > 1 else torch.zeros_like(x)


def _to_come(rewards: torch.Tensor) -> torch.Tensor:
    """This step's reward and those of all later ones. (S,) -> (S,)"""
    return rewards.flip(0).cumsum(0).flip(0)


def _check_one_each(step_rewards: Sequence, step_ends: Sequence, lengths: Sequence) -> None:
    if not len(step_rewards) == len(step_ends) == len(lengths):
        given = f"{len(step_rewards)} rows of rewards, {len(step_ends)} of ends"
        raise ValueError(f"{given}, {len(lengths)} lengths: need one of each a rollout")


def min_form_rewards(step_rewards: Numbers, *, temperature: float) -> torch.Tensor:
    """Step rewards weighted by softmax(-reward / temperature), so that the worst counts. (S,)

    Their sum is close to the lowest reward, and is that as the temperature nears 0 (the paper has
    0.1): up to the worst step a return is its reward, after it 0. Returns are not discounted.

    >>> rewards = min_form_rewards([0.9, 0.2, 0.8], temperature=0.1)
    >>> [round(r, 3) for r in rewards.tolist()], round(rewards.sum().item(), 3)
    ([0.001, 0.199, 0.002], 0.202)
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: need above 0")
    rewards = _step_values(step_rewards, "step rewards")  # (S,)
    return torch.softmax(-rewards / temperature, 0) * rewards


def pure_advantages(
    step_rewards: Sequence[Numbers],
    step_ends: Sequence[Sequence[int]],
    lengths: Sequence[int],
    *,
    temperature: float = 0.1,
    outcomes: Numbers | None = None,
) -> list[torch.Tensor]:
    """Advantages of one group of at least two rollouts by PURE, one (T,) tensor a rollout.

    A step's min-form reward, less what a rollout *beside* this one earns per token, times the
    step's tokens; a token gets the sum of these from its step on. `outcomes`, a reward for each
    whole rollout, count at its end, less their mean over the others. After the last end it is 0.

    >>> group = pure_advantages([[1.0, 0.0], [0.4]], [[1, 3], [1]], [4, 2], temperature=1e-3)
    >>> [[round(a, 2) for a in row.tolist()] for row in group]  # 0 - 4 x .2, 0 - 2 x .2; .4 - 2 x 0
    [[-0.8, -0.8, -0.4, -0.4], [0.4, 0.4]]
    """
    _check_one_each(step_rewards, step_ends, lengths)
    if (size := len(lengths)) < 2 or min(lengths) < 1:
        raise ValueError(f"rollouts of {list(lengths)} tokens: need at least 2, none of them empty")
    forms = [min_form_rewards(row, temperature=temperature) for row in step_rewards]  # (S,) each
    earned, written = torch.stack([row.sum() for row in forms]), torch.tensor(lengths)  # (G,) both
    a_token = (earned.sum() - earned) / (written.sum() - written)  # (G,) of the others
    whole = _floats(torch.zeros(size) if outcomes is None else outcomes)  # (G,)
    above = group_advantages(whole[None], normalise="leave_one_out")[0]  # (G,)
    out = []
    for i, (form, ends) in enumerate(zip(forms, step_ends)):
        tokens = torch.diff(torch.tensor([-1, *ends]))  # (S,)
        to_come = _to_come(form - a_token[i] * tokens) + above[i]  # (S,)
        out.append(over_tokens(to_come, ends, lengths[i]))
    return out


# -- from values -----------------------------------------------------------------------------------


def step_gae(rewards: Numbers, values: Numbers, *, gamma: float, lam: float) -> torch.Tensor:
    """Generalised advantage estimation where one action is one step: `rl.gae` over steps. (S,)

    `values[i]` is the value of the prefix before step i; after the last step it is 0.

    >>> [round(x, 3) for x in step_gae([0, 0, 1], [0.5, 0.6, 0.7], gamma=1.0, lam=0.95).tolist()]
    [0.466, 0.385, 0.3]
    """
    return gae(rewards, values, gamma=gamma, lam=lam)


def vine_advantages(values: Numbers, reward: float) -> torch.Tensor:
    """By how much each step changed the chance to be right; they sum to reward - values[0]. (S,)

    `values[i]` is the mean reward of rollouts from the prefix before step i: the advantage is the
    next value less this one, and of the last step the rollout's own reward less its value.

    >>> [round(a, 2) for a in vine_advantages([0.5, 0.75, 0.25], 1.0).tolist()]
    [0.25, -0.5, 0.75]
    """
    values = _step_values(values, "values")
    if not len(values):
        raise ValueError("no values: need that of the prefix before each step, at least one")
    return torch.cat([values[1:], values.new_tensor([reward])]) - values


# -- steps and their tokens ------------------------------------------------------------------------


def step_ratio(
    logp: torch.Tensor, old_logp: torch.Tensor, step_ends: Sequence[int]
) -> torch.Tensor:
    """How much likelier the policy has become to write each step. (T,), (T,) -> (S,)

    exp of the sum, over a step's tokens, of new less old log-probability: the ratio of joint
    probabilities. Tokens after the last end belong to no step. The gradient is that of `logp`.

    >>> logp, old = torch.tensor([0.5, 0.25, 0.125, 0.5]).log(), torch.full((4,), 0.25).log()
    >>> [round(ratio, 4) for ratio in step_ratio(logp, old, [1, 2]).tolist()]  # 2 x 1, then 0.5
    [2.0, 0.5]
    """
    if logp.ndim != 1 or logp.shape != old_logp.shape:
        given = f"log-probabilities {tuple(logp.shape)}, old ones {tuple(old_logp.shape)}"
        raise ValueError(f"{given}: need one a token of one rollout, (T,)")
    return step_sums(logp - old_logp, step_ends).exp()


def step_sums(token_values: torch.Tensor, step_ends: Sequence[int]) -> torch.Tensor:
    """The sum over each step's tokens; those after the last end belong to none. (T,) -> (S,)

    >>> step_sums(torch.tensor([0.5, 0.25, 0.125, 8.0]), [1, 2]).tolist()
    [0.75, 0.125]
    """
    step = _step_of_token(step_ends, len(step_ends), len(token_values))  # (T,)
    sums = token_values.new_zeros(len(step_ends) + 1)  # (S + 1,)
    return sums.index_add(0, step.to(sums.device), token_values)[:-1]


def ends_of(rollout: Prefix) -> list[int]:
    """The index of each step's last token, its separator or the end token; of sampled steps.

    >>> from workbench.types import Problem, Step
    >>> ends_of(Prefix(Problem("p", "math", "?"), (Step("a", (5, 2)), Step("b", (6, 7, 1)))))
    [1, 4]
    """
    return [end - 1 for end in accumulate(len(step.ids) for step in rollout.steps)]


def over_tokens(step_values: Numbers, step_ends: Sequence[int], length: int) -> torch.Tensor:
    """Give each of `length` tokens the number of its step, 0 after the last end. (S,) -> (T,)

    >>> over_tokens([0.5, -1.0], [1, 2], 5).tolist()
    [0.5, 0.5, -1.0, 0.0, 0.0]
    """
    values = _step_values(step_values, "numbers")
    step = _step_of_token(step_ends, len(values), length).to(values.device)  # (T,)
    return torch.cat([values, values.new_zeros(1)])[step]


def _step_of_token(step_ends: Sequence[int], steps: int, length: int) -> torch.Tensor:
    """Which step each token belongs to, or the number of steps after the last end. (T,)"""
    ends = [index(end) for end in step_ends]
    rising = all(a < b for a, b in zip([-1, *ends], [*ends, length]))
    if len(ends) != steps or not rising:
        need = f"{steps} indices that rise, each at least 0 and below {length}"
        raise ValueError(f"step ends {ends} of a rollout of {length} tokens: need {need}")
    return torch.searchsorted(torch.tensor(ends, dtype=torch.long), torch.arange(length))


def _step_values(x: Numbers, name: str) -> torch.Tensor:
    x = _floats(x)
    if x.ndim != 1 or not x.isfinite().all():
        raise ValueError(f"{name} {x.tolist()}: need one finite number a step, (S,)")
    return x
