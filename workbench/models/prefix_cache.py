"""Key-values of prefixes, kept between calls and found again by what stands in them.

A `Context` is a row of token ids in segments (prompt, step, step ...). Each segment border has a
name, a digest of everything up to it, under which `PrefixCache` finds the key-values computed
there. Taught in notebook 09.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import torch

KeyValues = list[tuple[torch.Tensor, torch.Tensor]]  # per layer: keys and values, (B, H, T, D)


@dataclass
class Entry:
    """Key-values of one token sequence, (H, T, D) per layer, and the borders found here."""

    layers: KeyValues
    length: int
    names: set[bytes] = field(default_factory=set)

    def after(self, first: Entry) -> Entry:
        """The key-values of `first` and then these, in the numbers that `first` is kept in."""
        pairs = zip(first.layers, self.layers)
        layers = [
            tuple(torch.cat([a, b.to(a.dtype)], dim=1) for a, b in zip(*pair)) for pair in pairs
        ]
        return Entry(layers, first.length + self.length)


def right_aligned(
    pieces: Sequence[tuple[Entry | None, int]],
    like: KeyValues,
    width: int,
    spare: int = 0,
    dtype: torch.dtype | None = None,
) -> KeyValues:
    """The first so many tokens of each entry, in the last of `width` columns; `spare` more follow.

    `like`: key-values of one row, (H, T, D) per layer, whose heads, sizes and, unless said, dtype
    these have.
    """
    layers, shortest = [], min(n for _, n in pieces)
    for i, pair in enumerate(like):
        shape = len(pieces), pair[0].shape[0], width + spare
        # (B, H, width + spare, D) each
        into = tuple(x.new_empty(*shape, x.shape[2], dtype=dtype) for x in pair)
        for x in into:  # numbers that count for nothing must still be numbers
            x[:, :, : width - shortest] = 0
        for b, (entry, n) in enumerate(pieces):
            for x, source in zip(into, entry.layers[i] if n > 0 else ()):
                x[b, :, width - n : width] = source[:, :n]
        layers.append(into)
    return layers


class PrefixCache:
    """Key-values of prefixes by segment border; beyond `max_tokens` the longest unused go."""

    def __init__(self, max_tokens: int = 131_072):
        self.max_tokens, self.tokens = max_tokens, 0
        self._found: dict[bytes, tuple[Entry, int]] = {}  # by border: entry, tokens up to there
        self._order: OrderedDict[int, Entry] = OrderedDict()  # by id, oldest first

    def clear(self) -> None:
        self.tokens = 0
        self._found.clear()
        self._order.clear()

    def get(self, context: Context, at_most: int) -> tuple[Entry | None, int]:
        """The entry that shares the most segments with `context`, and how many tokens to take."""
        for name, border in zip(reversed(context.names), reversed(context.borders)):
            if name in self._found:
                entry, end = self._found[name]
                self._order.move_to_end(id(entry))
                return entry, min(border, end, at_most)
        return None, 0

    def holds(self, context: Context) -> bool:
        """Are the key-values of the whole context here, or of all its tokens but the last?"""
        return self._length(context.names[-1]) >= len(context.ids) - 1

    def put(self, context: Context, entry: Entry) -> None:
        """Keep key-values of a context (of all its tokens, or all but the last) by its borders."""
        length = entry.length
        if length > self.max_tokens or self._length(context.names[-1]) >= length:
            return
        self._order[id(entry)] = entry
        self.tokens += length
        for name, border in zip(context.names, context.borders):
            if self._length(name) < min(border, length):
                self._move(name, entry, min(border, length))
        while self.tokens > self.max_tokens:
            self._drop(next(iter(self._order.values())))

    def _length(self, name: bytes) -> int:
        return self._found[name][1] if name in self._found else -1

    def _move(self, name: bytes, entry: Entry, end: int) -> None:
        """Let a border lead to this entry; one that no border leads to any more goes."""
        if name in self._found:
            before, _ = self._found[name]
            before.names.remove(name)
            if not before.names:
                self._drop(before)
        self._found[name] = entry, end
        entry.names.add(name)

    def _drop(self, entry: Entry) -> None:
        del self._order[id(entry)]
        self.tokens -= entry.length
        for name in entry.names:
            del self._found[name]


class Context:
    """Token ids in segments; `names[i]` identifies everything up to the end of segment i."""

    def __init__(self, segments: Sequence[Sequence[int]]):
        self.ids: list[int] = []
        self.names: list[bytes] = []
        self.borders: list[int] = []
        for segment in segments:
            self._add(segment)

    def _add(self, segment: Sequence[int]) -> None:
        last = self.names[-1] if self.names else b""
        self.ids += segment
        new = np.asarray(segment, np.int64).tobytes()
        self.names.append(blake2b(last + new, digest_size=16).digest())
        self.borders.append(len(self.ids))

    def cut(self, segments: int) -> Context:
        """The first so many segments."""
        shorter = copy.copy(self)
        shorter.names, shorter.borders = self.names[:segments], self.borders[:segments]
        shorter.ids = self.ids[: shorter.borders[-1]]
        return shorter

    def extended(self, segment: Sequence[int]) -> Context:
        """This context and one more segment."""
        longer = copy.copy(self)
        longer.ids, longer.names, longer.borders = self.ids[:], self.names[:], self.borders[:]
        longer._add(segment)
        return longer
