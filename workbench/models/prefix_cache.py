"""Key-values of prefixes, kept between calls and found again by what stands in them.

A `Context` is a row of token ids in segments (prompt, step, step ...). Each segment border has a
name, a digest of everything up to it, under which `PrefixCache` finds the key-values computed there.
Taught in notebook 06.
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
    """Key-values of one token sequence, (H, T, D) per layer, and the cache keys that point here."""

    layers: KeyValues
    length: int
    names: list[bytes] = field(default_factory=list)


class PrefixCache:
    """Key-values of prefixes, found by segment border, least recently used dropped beyond
    `max_tokens`."""

    def __init__(self, max_tokens: int = 131_072):
        self.max_tokens, self.tokens = max_tokens, 0
        # border -> entry, tokens up to that border
        self._found: dict[bytes, tuple[Entry, int]] = {}
        self._order: OrderedDict[int, Entry] = OrderedDict()  # by id, oldest first

    def clear(self) -> None:
        self.tokens = 0
        self._found.clear()
        self._order.clear()

    def get(self, context: Context, at_most: int) -> tuple[Entry | None, int]:
        """The entry that shares the longest run of segments with `context`, and how many tokens of
        it to take."""
        for name, border in zip(reversed(context.names), reversed(context.borders)):
            if name in self._found:
                entry, end = self._found[name]
                self._order.move_to_end(id(entry))
                return entry, min(border, end, at_most)
        return None, 0

    def holds(self, context: Context) -> bool:
        """Are the key-values of the whole context here, or of all its tokens but the last?"""
        return self._found.get(context.names[-1], (None, 0))[1] >= len(context.ids) - 1

    def put(self, context: Context, entry: Entry) -> None:
        """Keep the key-values of a context (all its tokens, or all but the last) under all its
        borders."""
        length = entry.length
        if length > self.max_tokens or self._found.get(context.names[-1], (None, -1))[1] >= length:
            return
        for name, border in zip(context.names, context.borders):
            if name not in self._found or self._found[name][1] < min(border, length):
                entry.names.append(name)
                self._found[name] = entry, min(border, length)
        self._order[id(entry)] = entry
        self.tokens += length
        while self.tokens > self.max_tokens:
            _, oldest = self._order.popitem(last=False)
            self.tokens -= oldest.length
            for name in oldest.names:
                if self._found[name][0] is oldest:
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
        self.names.append(
            blake2b(last + np.asarray(segment, np.int64).tobytes(), digest_size=16).digest()
        )
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
