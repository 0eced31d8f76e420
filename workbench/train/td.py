r"""A value function over steps by TD($\lambda$), learnt from rollouts and their endings alone.

A rollout is a walk through its steps $s_1 \dots s_S$, with one reward r at the end: was the answer
right? The value of a step is the chance to end right from there, V(s) = P(right | s), which is what
Monte-Carlo labels estimate by drawing completions. Here nothing more is drawn. The target of each
step is the $\lambda$-return (Sutton & Barto 2018, eq. 12.2; no discount), computed backwards with
the values that the model has *now*, without gradient:

$$G_S = r, \qquad G_t = (1 - \lambda) \, V(s_{t+1}) + \lambda \, G_{t+1}, \qquad V(s_S) = r,$$

and the loss is the cross-entropy between $G_t$ and $V(s_t) = \sigma(d_t)$, with $d_t$ as in `prm`.
$\lambda = 1$ calls all steps of a rollout what its answer is; $\lambda = 0$ believes the next step.
In between, a good step on the way to a wrong answer is told so by steps that went on rightly from
its like (a PRM as value iteration; TS-LLM, arXiv 2309.17179, learns its value function so).

A rollout that was cut for length when it was written, or is cut at a step border because the model
reads no further, has no reward, for its ending is not known: its last step has no target, and those
before it are led by its value, $G_S = V(s_S)$.

Deviations: the head is the pair of label tokens that every PRM of ours is read from, so that
`StepVerifier` reads the values (a linear head of its own would be the same function); targets move
with every update, without a target network. The last step's value is its grade. Notebook 03.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.train.orm import Outcome, outcome_rows
from workbench.train.prm import margins, train_prm
from workbench.train.sft import IGNORE


def lambda_returns(
    values: torch.Tensor, rewards: torch.Tensor, ends: torch.Tensor, *, lam: float
) -> torch.Tensor:
    """Targets G of steps, (B, S), from values (B, S), rewards (B,) and `ends` (B,).

    `ends` are the indices of last steps: behind them the target is the reward. ValueError unless
    0 <= lam <= 1.

    >>> values, one = torch.tensor([[0.5, 0.25, 0.75]]), torch.tensor([1.0])
    >>> lambda_returns(values, one, torch.tensor([2]), lam=0.5).tolist()  # 1; 1; (.25 + 1)/2
    [[0.625, 1.0, 1.0]]
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam}: need 0 <= lam <= 1")
    returns = rewards[:, None].expand_as(values).clone()  # (B, S)
    for t in range(values.shape[1] - 2, -1, -1):
        onward = (1 - lam) * values[:, t + 1] + lam * returns[:, t + 1]  # (B,)
        # the end's value is its grade, whatever the model says
        returns[:, t] = torch.where(t + 1 >= ends, rewards, onward)
    return returns


def td_loss(
    logits: torch.Tensor,
    batch: dict[str, torch.Tensor],
    form: StepFormat,
    totals: Mapping[str, int] | None = None,
    *,
    lam: float,
) -> torch.Tensor:
    """Cross-entropy of step values against their TD(lam) targets; as `prm.step_loss`.

    The target at every separator of `batch` is the reward of the rollout. logits (B, T, V)
    """
    steps = batch["targets"] != IGNORE  # (B, T)
    margin = margins(logits, batch, form)  # (B, T)
    number = steps.cumsum(1) - 1  # (B, T) 0-based step that a separator ends
    ends = number[:, -1]  # (B,)
    rows = torch.arange(len(steps), device=steps.device)
    values = margin.new_zeros(len(steps), int(ends.max()) + 1)  # (B, S)
    places = rows[:, None].expand_as(steps)[steps], number[steps]
    values[places] = torch.sigmoid(margin.detach()[steps])
    rewards = batch["targets"].masked_fill(~steps, 0).amax(1).float()  # (B,)
    at_end = values.gather(1, ends[:, None])[:, 0]  # (B,)
    known = torch.where(batch["whole"], rewards, at_end)  # (B,)
    returns = lambda_returns(values, known, ends, lam=lam)  # (B, S)
    counts = steps & (batch["whole"][:, None] | (number < ends[:, None]))  # (B, T)
    targets = returns.gather(1, number.clamp(min=0))[counts]
    loss = binary_cross_entropy_with_logits(margin[counts], targets, reduction="sum")
    total = totals["steps"] - totals["cut"] if totals else int(counts.sum())
    return loss / max(1, total)


def train_td(
    model: torch.nn.Module,
    tokenizer,
    rows: Iterable[Outcome],
    *,
    lam: float = 0.9,
    seed: int,
    **options: Any,
) -> tuple[StepVerifier, list[dict[str, float]]]:
    """Fine-tune `model` (changed in place) on graded rollouts, as `orm.outcome_rows` takes them.

    Every step counts, those after a fault, too; the grade of a rollout cut for length does not.
    `options` are those of `prm.train_prm`.
    """
    solutions = outcome_rows(rows)
    rollouts = [replace(row, labels=(row.labels[-1],) * len(row.steps)) for row in solutions]
    about = {"loss": partial(td_loss, lam=lam), "past_error": True, "seed": seed}
    return train_prm(model, tokenizer, rollouts, **about, **options)
