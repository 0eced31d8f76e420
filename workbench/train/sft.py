"""Supervised fine-tuning: next-token prediction on solution tokens, one problem a row.

`batches` turns an endless stream of problems into padded tensors, `train` is a generator that
yields after every update, so that a notebook decides what to show and when to look. Weights are
kept in float32 and computed in bfloat16; Muon (Jordan et al. 2024, `torch.optim.Muon`) updates the
matrices, AdamW everything else. The learning rate is constant and then decays linearly to zero
("warm-up, stable, decay"), so that one trunk serves models of several sizes of budget: `fork` them
where their decay begins. Taught in notebook 01.

Deviation: row-wise right padding without an attention mask. Causal attention never looks right and
padded positions carry no loss, so the mask would change nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from workbench.models.templates import EMBEDDED, render
from workbench.problems import programs, quantities
from workbench.train.precision import MasterWeights
from workbench.types import Problem

IGNORE = -100


@dataclass(frozen=True)
class Recipe:
    """How to train: batch size in tokens (padding included) and peak learning rates."""

    batch_tokens: int = 4096
    matrix_lr: float = 0.01  # Muon
    other_lr: float = 2e-3  # AdamW
    weight_decay: float = 0.01
    warmup_updates: int = 50
    clip: float = 1.0


@dataclass(frozen=True)
class Lesson:
    """What one row teaches: to write `text` (the solution, unless it is given) after a prompt."""

    problem: Problem
    prompt: str = "solve"
    text: str | None = None


@dataclass(frozen=True)
class Update:
    """What one optimiser update did."""

    updates: int
    tokens: int  # seen so far, padding not counted
    problems: int  # read so far from the stream
    loss: float
    lr: float  # as a share of the peak


def curriculum(seed: int, *, ramp: int = 40_000) -> Iterator[Lesson]:
    """Endless lessons. Over the first `ramp` the highest level grows from 1 to 8 and order comes
    into the text.

    Lessons begin with short, shuffled problems, three in ten of them to be said "in other words"
    (each fact once more, in another order); that share falls to a twentieth, that of shuffled
    problems to a quarter. A tenth is told the answer, a twentieth are programs.
    """
    for i in count():
        rng = random.Random(f"lessons/{seed}/{i}")
        way = min(1.0, i / ramp)
        levels = range(1, 2 + int(7 * way))
        if rng.random() < 0.05:
            yield Lesson(programs.problem_at(i, levels=levels, seed=seed))
            continue
        shuffled = 1 - 0.75 * way
        problem = quantities.problem_at(
            i, levels=levels, seed=seed, split="train", shuffled=shuffled
        )
        draw = rng.random()
        if draw < 0.3 - 0.25 * way:
            yield Lesson(problem, "rephrase", quantities.rephrase(problem, seed=i))
        else:
            yield Lesson(problem, "hint" if draw > 0.9 else "solve")


def repeats(
    tokenizer, *, batch_tokens: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int, int]]:
    """Endless batches of random tokens said twice, with loss on the second time: what comes next
    was seen before.

    Nothing but looking up the token before can lower this loss, so the heads that do it ("induction
    heads", Olsson et al. 2022, arXiv 2209.11895) form within some hundred updates. Word problems
    alone hardly call them forth: most of their next words can be guessed from position and kind.
    Length and place of a row vary, so position does not help.
    """
    rng = random.Random(f"repeats/{seed}")
    first = tokenizer.convert_tokens_to_ids("0")  # below it are the special tokens
    while True:
        length = rng.randint(8, 32)
        rows = []
        for _ in range(batch_tokens // (2 * length + 4)):
            before = rng.choices(range(first, len(tokenizer)), k=rng.randint(0, 4))
            said = rng.sample(range(first, len(tokenizer)), length)
            rows.append(([*before, *said, *said], len(before) + length + 1))
        yield *collate(rows, tokenizer.pad_token_id), sum(len(ids) for ids, _ in rows), 0


def encode(tokenizer, lessons: Sequence[Lesson]) -> list[tuple[list[int], int]]:
    """For each lesson the ids of prompt + text + end, and the prompt's length, from which on tokens
    carry loss."""
    starts = tokenizer(
        [render(EMBEDDED, lesson.prompt, lesson.problem) for lesson in lessons]
    ).input_ids
    texts = tokenizer([lesson.text or lesson.problem.solution for lesson in lessons]).input_ids
    return [
        (start + ids + [tokenizer.eos_token_id], len(start)) for start, ids in zip(starts, texts)
    ]


def collate(rows: list[tuple[list[int], int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows on the right: ids and labels (B, T), where `labels[b, t]` is the token that
    *follows* `ids[b, t]`.

    >>> ids, labels = collate([([5, 6, 7, 1], 2), ([5, 1], 1)], pad=0)
    >>> ids.tolist(), labels.tolist()
    ([[5, 6, 7, 1], [5, 1, 0, 0]], [[-100, 7, 1, -100], [1, -100, -100, -100]])
    """
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad)  # (B, T)
    labels = torch.full((len(rows), width), IGNORE)  # (B, T)
    for b, (row, start) in enumerate(rows):
        ids[b, : len(row)] = torch.tensor(row)
        labels[b, start - 1 : len(row) - 1] = torch.tensor(row[start:])
    return ids, labels


def batches(
    lessons: Iterable[Lesson], tokenizer, *, batch_tokens: int, seed: int, chunk: int = 1024
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int, int]]:
    """(ids, labels, tokens, lessons) a batch; rows of like length share one."""
    stream, number = iter(lessons), 0
    while block := [lesson for _, lesson in zip(range(chunk), stream)]:
        rng = random.Random(f"{seed}/{number}")
        rows = encode(tokenizer, block)
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list] = [[]]
        for row in rows:
            if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > batch_tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            yield (
                *collate(group, tokenizer.pad_token_id),
                sum(len(ids) for ids, _ in group),
                len(group),
            )
        number += 1


class Trainer:
    """The state of a run: float32 weights, their computing copy, both optimisers, and how far it
    has come."""

    def __init__(
        self,
        model: torch.nn.Module,
        recipe: Recipe | None = None,
        *,
        dtype: torch.dtype = torch.bfloat16,
    ):
        self.model, self.recipe, self.master = (
            model,
            recipe or Recipe(),
            MasterWeights(model, dtype),
        )
        self.done = Update(0, 0, 0, float("nan"), 0.0)
        weights = self.master.weights
        matrices = [
            p
            for name, p in weights.items()
            if p.ndim == 2 and "embed" not in name and "head" not in name
        ]
        others = [p for p in weights.values() if not any(p is m for m in matrices)]
        decay = self.recipe.weight_decay
        self.optimizers = [
            torch.optim.Muon(matrices, lr=self.recipe.matrix_lr, weight_decay=decay),
            torch.optim.AdamW(
                others, lr=self.recipe.other_lr, betas=(0.9, 0.98), weight_decay=decay
            ),
        ]

    def update(self, ids: torch.Tensor, labels: torch.Tensor, lr: float) -> float:
        """One optimiser update at `lr` times the peak rate; returns the mean loss per solution
        token."""
        logits = self.model(input_ids=ids, use_cache=False).logits  # (B, T, V)
        loss = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
        self.model.zero_grad()
        loss.backward()
        self.master.take_gradients(self.recipe.clip)
        for optimizer, peak in zip(self.optimizers, (self.recipe.matrix_lr, self.recipe.other_lr)):
            optimizer.param_groups[0]["lr"] = peak * lr
            optimizer.step()
        self.master.write()
        return loss.item()

    def train(
        self, data: Iterable, *, until: int, decay_from: int | None = None
    ) -> Iterator[Update]:
        """Train until `until` tokens have been seen, yielding after every update.

        `decay_from`: tokens at which the learning rate starts its straight way down to zero at
        `until`.
        """
        device = next(self.model.parameters()).device
        self.model.train()
        data = iter(data)
        while self.done.tokens < until:
            if (batch := next(data, None)) is None:
                raise ValueError(
                    f"the data ended after {self.done.tokens} tokens, before the {until} asked for"
                )
            ids, labels, tokens, problems = batch
            lr = min(1.0, (self.done.updates + 1) / max(1, self.recipe.warmup_updates))
            if decay_from is not None and self.done.tokens > decay_from:
                lr *= (until - self.done.tokens) / (until - decay_from)
            loss = self.update(ids.to(device), labels.to(device), lr)
            done = self.done
            self.done = Update(
                done.updates + 1, done.tokens + tokens, done.problems + problems, loss, lr
            )
            yield self.done

    def save(self, path: str | Path, **extra: Any) -> None:
        """Write everything that resuming needs, whole or not at all; `extra` holds plain values
        only."""
        state = dict(
            weights=self.master.weights,
            optimizers=[o.state_dict() for o in self.optimizers],
            done=vars(self.done),
        )
        part = Path(path).with_suffix(".part")
        torch.save(state | extra, part)
        part.replace(path)

    def load(self, path: str | Path) -> None:
        """Go on exactly where `save` stood."""
        state = torch.load(path, weights_only=True)
        with torch.no_grad():
            for name, weight in self.master.weights.items():
                weight.copy_(state["weights"][name])
        self.master.write()
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.done = replace(self.done, **state["done"])
