"""Rows of token ids on their way to a training: which model reads them, and in which updates."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import TypeVar

import torch

from workbench.train.loop import Batch, Recipe

T = TypeVar("T")


def cut(rows: Sequence[T], most: int | None, length: Callable[[T], int]) -> list[list[T]]:
    """Rows that follow each other in groups; padded to its longest row, one has `most` tokens.

    A row that is longer stands alone; `most` None makes one group.

    >>> cut([3, 3, 4, 9, 1], most=8, length=int)
    [[3, 3], [4], [9], [1]]
    """
    groups: list[list[T]] = []
    longest = 0
    for row in rows:
        longest = max(longest, length(row))
        if not groups or (most is not None and longest * (len(groups[-1]) + 1) > most):
            groups.append([])
            longest = length(row)
        groups[-1].append(row)
    return groups


class Updates:
    """Rows of a data set in updates: drawn at random for each epoch, and padded but little.

    A sequence of lists of batches, each made by `collate` when it is asked for. An update's rows
    are drawn by (seed, epoch) alone, then sorted by length and cut into micro-batches.
    """

    def __init__(
        self,
        rows: Sequence[T],
        collate: Callable[[list[T]], Batch],
        recipe: Recipe,
        seed: int,
        length: Callable[[T], int] = lambda row: len(row["input_ids"]),
    ):
        self.rows, self.collate = rows, collate
        lengths = [length(row) for row in rows]
        self.plan = [
            cut(sorted(update, key=lengths.__getitem__), recipe.micro_tokens, lengths.__getitem__)
            for order in _orders(len(rows), recipe.epochs, seed)
            for update in cut(order, recipe.batch_tokens, lengths.__getitem__)
        ]

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[Batch]]:
        for update in self.plan:
            yield [self.collate([self.rows[i] for i in micro]) for micro in update]


def _orders(n: int, epochs: float, seed: int) -> Iterator[list[int]]:
    """Every row once an epoch, each time in another order; the last epoch may be a part of one."""
    for epoch in range(ceil(epochs)):
        order = random.Random(f"epoch/{seed}/{epoch}").sample(range(n), n)
        yield order[: round(n * min(1.0, epochs - epoch))]


def batch_of(rows: Sequence[dict], tensors: dict[str, torch.Tensor], **terms: int) -> Batch:
    """A batch of rows with `input_ids`, made into `tensors`; `terms` as `Batch` has them."""
    return Batch(tensors, terms, sum(len(row["input_ids"]) for row in rows), len(rows))


# -- any model -------------------------------------------------------------------------------------


def pad_id(tokenizer) -> int:
    """What fills a row: padding, the end of text where there is none, else 0; it has no loss."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(i for i in known if i is not None)


def window(model: torch.nn.Module) -> int:
    """How many tokens a model reads at most."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or 10**9


def check_window(kept: int, wanted: int, longest: int, what: str) -> None:
    """Warn of what lies beyond a model's window and was left out; ValueError if nothing is left."""
    if not kept:
        raise ValueError(
            f"none of {wanted} {what} to learn from (the model reads {longest} tokens): need one"
        )
    if kept < wanted:
        warnings.warn(
            f"{wanted - kept} of {wanted} {what} lie beyond the {longest} tokens that the model "
            "reads: left out",
            stacklevel=3,
        )
