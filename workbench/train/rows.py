"""Rows of token ids on their way to a training: which model reads them, and in which updates."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import ceil
from typing import TypeVar

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from workbench.train.learner import Batch, Recipe

T = TypeVar("T")


def split_by_tokens(rows: Sequence[T], most: int | None, length: Callable[[T], int]) -> list:
    """Rows that follow each other in lists; padded to its longest row, one has `most` tokens.

    A row that is longer stands alone; `most` None makes one list.

    >>> split_by_tokens([3, 3, 4, 9, 1], most=8, length=int)
    [[3, 3], [4], [9], [1]]
    """
    parts: list[list[T]] = []
    longest = 0
    for row in rows:
        longest = max(longest, length(row))
        if not parts or (most is not None and longest * (len(parts[-1]) + 1) > most):
            parts.append([])
            longest = length(row)
        parts[-1].append(row)
    return parts


def passes(rows: Sequence[T], key: str) -> Iterator[list[T]]:
    """Endless orders of the rows, each another one: each row comes once before any comes again."""
    return (random.Random(f"{key}/{turn}").sample(rows, len(rows)) for turn in count())


def logits_from(model: torch.nn.Module, ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Logits (B, T, V) of the next tokens; zeros before the first place that is wanted in any row.

    A small model with many words has a fifth of its weights in the head, and prompts need none of
    it. `ids` and `wanted` (B, T).
    """
    first = int(wanted.any(0).int().argmax())
    # places, not how many: a slice of the hidden states makes torch copy the head for every row
    kept = {"logits_to_keep": torch.arange(first, ids.shape[1], device=ids.device)} if first else {}
    return pad(model(input_ids=ids, use_cache=False, **kept).logits, (0, 0, first, 0))


class Updates:
    """Rows of a data set in updates: drawn at random for each epoch, and padded but little.

    A sequence of lists of batches, each made by `collate` when it is asked for. An update's rows
    are drawn by (seed, epoch) alone, then sorted by length and split into micro-batches.
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
        length_of = [length(row) for row in rows].__getitem__
        self.plan = []
        orders = passes(range(len(rows)), f"epoch/{seed}")
        for epoch, order in zip(range(ceil(recipe.epochs)), orders):
            drawn = order[: round(len(rows) * min(1.0, recipe.epochs - epoch))]  # the last: a part
            for update in split_by_tokens(drawn, recipe.batch_tokens, length_of):
                update.sort(key=length_of)
                self.plan.append(split_by_tokens(update, recipe.micro_tokens, length_of))

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[Batch]]:
        for update in self.plan:
            yield [self.collate([self.rows[i] for i in micro]) for micro in update]


def pad_right(rows: Sequence[Sequence[float]], filler: float) -> torch.Tensor:
    """Rows of numbers as one tensor, filled up on the right: (B, T)."""
    tensors = [torch.tensor(row) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=filler)


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
        reads = f"(the model reads {longest} tokens)"
        raise ValueError(f"none of {wanted} {what} to learn from {reads}: need one")
    if kept < wanted:
        beyond = f"lie beyond the {longest} tokens that the model reads: left out"
        warnings.warn(f"{wanted - kept} of {wanted} {what} {beyond}", stacklevel=3)
