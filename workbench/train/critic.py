"""A critic, and what tokens and steps are to it: actions, values before them, advantages.

`Valued` puts a value on every place of a rollout. Whether an action is a token or a step is said
once, here: `acts`, `summed` and `before` turn numbers of tokens, (B, T), into numbers of actions,
(B, A). `prepare` asks the critic and estimates advantages (`rl.gae`, `advantages.step_gae`). The
equations stand in `ppo`. Taught in notebook 06.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from workbench.train import rl
from workbench.train.advantages import ends_of, normalised, step_gae, step_sums
from workbench.train.clipped import fill
from workbench.train.drawn import Drawn
from workbench.train.learner import Batch
from workbench.train.rewards import Earned

if TYPE_CHECKING:
    from workbench.train.ppo import PPO


class Valued(torch.nn.Module):
    """A causal LM and, on the states of its body, a value of every place, which begins at zero."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model, width = model, model.config.get_text_config().hidden_size
        like = model.get_output_embeddings().weight
        self.value = torch.nn.Linear(width, 1, device=like.device, dtype=like.dtype)
        torch.nn.init.zeros_(self.value.weight)
        torch.nn.init.zeros_(self.value.bias)

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.model.get_output_embeddings()

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, T, V), and values (B, T) of what stands up to each place, it included."""
        out = self.model(input_ids=input_ids, use_cache=False, output_hidden_states=True)
        values = self.value(out.hidden_states[-1])[..., 0]  # (B, T)
        return out.logits, values if values.dtype == torch.float64 else values.float()


# -- tokens and actions ----------------------------------------------------------------------------

# Of B rollouts in a batch, T places wide, with A actions at most: A is T for tokens, else the
# number of steps. `ends` (B, S) holds the last tokens of steps, -1 where a rollout has no more.


def acts(batch: Batch, settings: PPO) -> torch.Tensor:
    """1 where there is an action, (B, A)."""
    if settings.action == "token":
        return batch.tensors["labels"] != rl.IGNORE
    return batch.tensors["ends"] >= 0


def summed(x: torch.Tensor, batch: Batch, settings: PPO) -> torch.Tensor:
    """Numbers of tokens, added up over each action. (B, T) -> (B, A)"""
    if settings.action == "token":
        return x
    return pad_sequence([step_sums(*row) for row in _rows(x, batch)], batch_first=True)


def before(values: torch.Tensor, batch: Batch, settings: PPO) -> torch.Tensor:
    """The values before each action's first token. (B, T) -> (B, A)"""
    if settings.action == "token":
        return values
    starts = [(row, [0, *(end + 1 for end in ends[:-1])]) for row, ends in _rows(values, batch)]
    return pad_sequence([row[places] for row, places in starts], batch_first=True)


def _rows(x: torch.Tensor, batch: Batch) -> Iterator[tuple[torch.Tensor, list[int]]]:
    """Of each rollout its tokens' numbers, (T,), and the ends of its steps."""
    mask = batch.tensors["labels"] != rl.IGNORE  # (B, T)
    for row, own, ends in zip(x, mask, batch.tensors["ends"]):
        yield row[own], ends[ends >= 0].tolist()


def with_ends(
    batches: Sequence[Batch], totals: Mapping[str, int], drawn: Drawn, settings: PPO
) -> tuple[list[Batch], Mapping[str, int]]:
    """The batches with the ends of steps, (B, S); means over "token"s are over all actions."""
    ends, out = [torch.tensor(ends_of(rollout)) for rollout in drawn.rollouts], []
    for batch in batches:
        own = [ends[i] for i in batch.tensors["rollout"].tolist()]
        padded = pad_sequence(own, batch_first=True, padding_value=-1)  # (B, S)
        moved = padded.to(batch.tensors["labels"].device)
        batch = replace(batch, tensors=batch.tensors | {"ends": moved})
        if settings.normalise == "token":
            batch = replace(batch, terms={"weight": int(acts(batch, settings).sum())})
        out.append(batch)
    weight = sum(batch.terms["weight"] for batch in out)
    return out, {"weight": weight} if settings.normalise == "token" else totals


# -- advantages ------------------------------------------------------------------------------------


def estimate(
    earned: Earned, ends: Sequence[int], values: torch.Tensor, settings: PPO
) -> torch.Tensor:
    """Advantages of one rollout's actions, from what it earned and the values before them. (A,)"""
    rewards = values.new_zeros(len(values))  # (A,)
    at_step = torch.tensor(ends) if settings.action == "token" else torch.arange(len(ends))
    if isinstance(earned, list):
        rewards[at_step] = torch.tensor(earned, dtype=values.dtype)
    else:
        rewards[-1] = earned
    if settings.action == "step":
        return step_gae(rewards, values, gamma=settings.gamma, lam=settings.lam)
    gamma = torch.ones_like(values)  # (T,)
    gamma[at_step] = settings.gamma
    return rl.gae(rewards, values, gamma=gamma, lam=settings.lam)


def prepare(
    batches: Sequence[Batch], drawn: Drawn, settings: PPO, critic: Valued
) -> dict[str, float]:
    """Add values, returns and advantages (B, A) to a round's batches; says how good values were.

    `train/explained_variance` is about what the rollouts did earn from each action on.
    """
    # 1. what the critic foretells
    ends, values = list(map(ends_of, drawn.rollouts)), {}
    for batch in batches:
        with torch.no_grad():
            told = before(critic(batch.tensors["input_ids"])[1], batch, settings)  # (B, A)
        batch.tensors["values"] = told
        rows = (row[own].cpu() for row, own in zip(told, acts(batch, settings)))
        values |= dict(zip(batch.tensors["rollout"].tolist(), rows))
    # 2. what was earned instead
    rows = [(*one, values[i]) for i, one in enumerate(zip(drawn.earned, ends))]
    told = torch.cat([row for *_, row in rows])  # (N,) over all actions of the round
    advantages = torch.cat([estimate(*row, settings) for row in rows])  # (N,)
    returns = told + advantages  # (N,)
    # 3. both where the actions stand
    advantages = normalised(advantages) if settings.whiten else advantages
    for name, x in (("returns", returns), ("advantages", advantages)):
        parts = x.split([len(row) for *_, row in rows])  # (A,) each
        fill(batches, name, parts, partial(acts, settings=settings))
    # 4. foretold against earned: from values of 0 and with lambda 1 there is nothing but rewards
    alone = replace(settings, lam=1.0)
    earned = torch.cat([estimate(*one, torch.zeros_like(row), alone) for *one, row in rows])
    explained = rl.explained_variance(told, earned)
    return {"train/explained_variance": explained} if isfinite(explained) else {}
