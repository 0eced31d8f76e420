"""Sampling engine: many continuations of many contexts at once, over any Hugging Face causal LM.

What makes it fast and right:

1. **One prefill per distinct context.** Contexts come as segments (prompt, step, step ...); the
   key-values of each segment border are found again in `PrefixCache`, also when one context is a
   prefix of another in the same call.
2. **Key-values are forked** to the continuations of a context and live in one preallocated buffer,
   right-aligned, so that every row's newest token stands in the same column.
3. **Finished rows leave and waiting rows enter** whenever an eighth of the batch has finished: one
   copy (`_assemble`) drops, admits, re-aligns and makes room.
4. **One uniform per token**, from a counter-based generator keyed per row: what a row draws does
   not depend on the rows beside it.

Built on transformers' cache classes: a layer is a `DynamicLayer` that writes into spare room
instead of concatenating. Sliding-window models keep whole key-values and transformers' own mask.
Taught in notebook 06.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from workbench.types import Meter

Layers = list[tuple[torch.Tensor, torch.Tensor]]  # per layer: keys and values, (B, H, T, D)
ROOM = 32  # columns to decode before the buffer is assembled anew


# -- randomness ------------------------------------------------------------------------------------


def uniforms(keys: np.ndarray, starts: np.ndarray, n: int) -> np.ndarray:
    """`n` numbers in [0, 1) of each stream from position `starts` on: SplitMix64 (Steele et al.
    2014). (B,) -> (B, n)

    >>> uniforms(np.array([0], np.uint64), np.array([0], np.uint64), 2).round(6).tolist()
    [[0.883311, 0.431528]]
    """
    with np.errstate(over="ignore"):
        steps = starts[:, None] + np.arange(1, n + 1, dtype=np.uint64)  # (B, n)
        z = keys[:, None] + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(
    logits: torch.Tensor, temperature: float, u: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next token of each row by inverting its distribution at `u`, and its log-probability. (B, V),
    (B,) -> (B,), (B,)

    Temperature 0 is greedy; its log-probabilities are those at temperature 1.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logp = torch.log_softmax(logits / temperature if temperature else logits, -1)  # (B, V)
    if temperature == 0:
        token = logits.argmax(-1)
    else:
        cdf = logp.exp().cumsum(-1)  # (B, V)
        total = cdf[:, -1:]
        at = torch.as_tensor(u, dtype=cdf.dtype, device=cdf.device)[:, None] * total
        # rounded up, it would draw an impossible token
        at = torch.minimum(at, total.nextafter(total.new_zeros(())))
        token = torch.searchsorted(cdf, at, right=True)[:, 0]
    return token, logp.gather(-1, token[:, None])[:, 0]


# -- key-values ------------------------------------------------------------------------------------


class RoomyLayer(DynamicLayer):
    """A cache layer over a buffer with spare columns: new key-values are written, nothing is
    concatenated."""

    def __init__(
        self, keys: torch.Tensor | None = None, values: torch.Tensor | None = None, used: int = 0
    ):
        super().__init__()
        if keys is not None:
            self.buffer = keys, values
            self.keys, self.values = keys[:, :, :used], values[:, :, :used]
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:  # a prefill from nothing: what comes is the whole buffer
            self.buffer = self.keys, self.values = key_states, value_states
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            return key_states, value_states
        used, new = self.keys.shape[2], key_states.shape[2]
        self.buffer[0][:, :, used : used + new] = key_states
        self.buffer[1][:, :, used : used + new] = value_states
        self.keys, self.values = (b[:, :, : used + new] for b in self.buffer)
        return self.keys, self.values


@dataclass
class Entry:
    """Key-values of one token sequence, (H, T, D) per layer, and the cache keys that point here."""

    layers: Layers
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


# -- the engine ------------------------------------------------------------------------------------


@dataclass
class Row:
    """One continuation to draw: of which context, at most how many tokens, from which stream; then
    what was drawn."""

    context: Context
    room: int
    key: int
    meter: Meter
    # after how many tokens logits are wanted; the whole context if nothing is said
    wanted: tuple[int, ...] = ()
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    done: bool = False

    def __post_init__(self):
        self.wanted = self.wanted or (len(self.context.ids),)

    @property
    def stored(self) -> int:
        """Tokens whose key-values exist while the row is live: all but the newest, which is yet to
        be fed."""
        return len(self.context.ids) + len(self.ids) - 1


@dataclass
class Buffer:
    """Key-values of the live rows, right-aligned: (B, H, `used` + spare, D) per layer."""

    layers: Layers
    used: int

    def entry(self, b: int, length: int, end: int) -> Entry:
        """Row b's key-values of `length` tokens that end before column `end`."""
        return Entry(
            [
                (k[b, :, end - length : end].clone(), v[b, :, end - length : end].clone())
                for k, v in self.layers
            ],
            length,
        )


@dataclass(frozen=True)
class Ask:
    """What all rows of one run have in common."""

    stops: np.ndarray  # (V,) of bool: tokens that end a continuation
    temperature: float
    keep: bool  # put the key-values of finished rows into the cache


class Engine:
    """Continues rows with one model; `forwards` counts model calls, `positions` the token columns
    they computed."""

    def __init__(self, model: torch.nn.Module, *, batch_tokens: int, cache_tokens: int):
        self.model, self.batch_tokens = model, batch_tokens
        self.cache = PrefixCache(cache_tokens)
        self.forwards = self.positions = 0
        self._weights = self._fingerprint()
        self.config = model.config.get_text_config()
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def run(
        self, rows: Sequence[Row], *, stops: np.ndarray, temperature: float, keep: bool
    ) -> None:
        """Continue every row up to a stop token or the end of its room; fills `ids` and `logprobs`."""
        self.refresh()
        ask = Ask(stops, temperature, keep)
        waiting = deque(
            sorted(rows, key=lambda row: (-len(row.context.ids), row.context.names[-1]))
        )
        live: list[Row] = []
        buffer = None
        while waiting or live:
            admitted = self._admit(live, waiting)
            entries = self._prefill(admitted, ask)
            entering = [(row, entry) for row, entry in zip(admitted, entries) if not row.done]
            if not entering and all(row.done for row in live):
                live = []
                continue
            buffer, live = self._assemble(buffer, live, entering)
            self._decode(buffer, live, ask)

    @torch.inference_mode()
    def read(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Logits of every row after its `wanted` numbers of tokens, (len(wanted), V) each; nothing
        is drawn."""
        done = self._compute(rows)
        return [done[row.context.names[-1]][1] for row in rows]

    def refresh(self) -> bool:
        """Empty the cache if weights or the active adapter have changed since the last call: did
        they?"""
        if (seen := self._fingerprint()) == self._weights:
            return False
        self.cache.clear()
        self._weights = seen
        return True

    def _fingerprint(self) -> tuple:
        """Changes whenever a weight is written to, replaced, or another adapter is made active.

        A sample of the values is part of it: fused optimisers write without counting up `_version`.
        """
        weights = [p.detach() for p in self.model.parameters()]
        versions = tuple((p.data_ptr(), p._version) for p in weights)
        values = torch.cat([p.reshape(-1)[:: p.numel() // 16 + 1].float() for p in weights])
        return (
            versions,
            values.cpu().numpy().tobytes(),
            str(getattr(self.model, "active_adapter", None)),
        )

    def _admit(self, live: list[Row], waiting: deque[Row]) -> list[Row]:
        """Take waiting rows while the batch stays within its tokens (one row is always let in)."""
        n, width = (
            sum(not row.done for row in live),
            max((row.stored for row in live if not row.done), default=0),
        )
        admitted: list[Row] = []
        while waiting:
            width = max(width, len(waiting[0].context.ids))
            if n and (n + 1) * (width + ROOM) > self.batch_tokens:
                break
            admitted.append(waiting.popleft())
            n += 1
        return admitted

    # -- contexts ---------------------------------------------------------------------------------

    def _prefill(self, rows: list[Row], ask: Ask) -> list[Entry]:
        """Compute each distinct context once, draw every row's first token, return each row's
        key-values."""
        done = self._compute(rows)
        results = [done[row.context.names[-1]] for row in rows]
        if rows:
            u = uniforms(
                np.array([row.key for row in rows], np.uint64), np.zeros(len(rows), np.uint64), 1
            )
            tokens, logprobs = draw(
                torch.cat([logits for _, logits in results]), ask.temperature, u[:, 0]
            )
            for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist()):
                row.ids.append(token)
                row.logprobs.append(logprob)
                row.done = bool(ask.stops[token]) or row.room <= 1
        return [entry for entry, _ in results]

    def _compute(self, rows: Sequence[Row]) -> dict[bytes, tuple[Entry, torch.Tensor]]:
        """Key-values and wanted logits, (len(wanted), V), of each distinct context, by its name.

        A context that a longer one begins with waits for it and then comes from the cache.
        """
        payers = {row.context.names[-1]: row for row in reversed(rows)}
        done: dict[bytes, tuple[Entry, torch.Tensor]] = {}
        while todo := [row for name, row in payers.items() if name not in done]:
            inner = {name for row in todo for name in row.context.names[:-1]}
            group = self._alike([row for row in todo if row.context.names[-1] not in inner])
            for (row, _, _), result in zip(group, self._prefill_group(group)):
                done[row.context.names[-1]] = result
                self.cache.put(row.context, result[0])
        return done

    def _alike(self, rows: list[Row]) -> list[tuple[Row, Entry | None, int]]:
        """Those rows, with what the cache holds of them, that have about as much to compute as the
        neediest.

        All rows of a call compute as many columns as the neediest; a tenth more than their own is
        the most they may.
        """
        found = [(row, *self.cache.get(row.context, row.wanted[0] - 1)) for row in rows]
        need = max(len(row.context.ids) - cut for row, _, cut in found)
        group = [f for f in found if 11 * (len(f[0].context.ids) - f[2]) >= 10 * need]
        longest = max(len(row.context.ids) for row, _, _ in group)
        return group[: max(1, self.batch_tokens // longest)]

    def _prefill_group(
        self, group: list[tuple[Row, Entry | None, int]]
    ) -> list[tuple[Entry, torch.Tensor]]:
        """Key-values and wanted logits (len(wanted), V) of some contexts: their last `new` columns
        in one call."""
        lengths = [len(row.context.ids) for row, _, _ in group]
        width, new = max(lengths), max(len(row.context.ids) - cut for row, _, cut in group)
        columns = [
            [new - n + end - 1 for end in row.wanted] for (row, _, _), n in zip(group, lengths)
        ]
        keep = sorted({column for row in columns for column in row})
        place = {column: i for i, column in enumerate(keep)}
        ids = torch.zeros(len(group), new, dtype=torch.long)  # (B, new)
        for b, (row, _, _) in enumerate(group):
            tail = row.context.ids[-new:]
            ids[b, new - len(tail) :] = torch.tensor(tail)
            row.meter.prefilled += len(tail)
            row.meter.cached += lengths[b] - len(tail)
        known = [(entry, n - new) for (_, entry, _), n in zip(group, lengths)]
        buffer = Buffer(self._lay_out(known, width - new, new), width - new)
        logits = self._forward(ids, buffer, lengths, torch.tensor(keep))  # (B, len(keep), V)
        kept = [[place[column] for column in row] for row in columns]
        return [(buffer.entry(b, n, width), logits[b, kept[b]]) for b, n in enumerate(lengths)]

    def _lay_out(
        self, pieces: Sequence[tuple[Entry | None, int]], width: int, spare: int
    ) -> Layers:
        """Right-align the first so many tokens of each entry in `width` columns and leave `spare`
        more."""
        shape = next((entry.layers for entry, n in pieces if entry is not None and n > 0), [])
        layers = []
        for i, pair in enumerate(shape):
            into = tuple(
                x.new_zeros(len(pieces), x.shape[0], width + spare, x.shape[2]) for x in pair
            )
            for b, (entry, n) in enumerate(pieces):
                for x, source in zip(into, entry.layers[i] if n > 0 else ()):
                    x[b, :, width - n : width] = source[:, :n]
            layers.append(into)
        return layers

    # -- continuations ----------------------------------------------------------------------------

    def _assemble(self, old: Buffer | None, live: list[Row], entering: list[tuple[Row, Entry]]):
        """One buffer for the rows that go on and those that enter, right-aligned, with `ROOM` spare
        columns."""
        stay = [b for b, row in enumerate(live) if not row.done]
        kept = max((live[b].stored for b in stay), default=0)
        width = max([kept, *(entry.length for _, entry in entering)])
        shape = entering[0][1].layers if entering else [(k[0], v[0]) for k, v in old.layers]
        index = torch.tensor(stay, device=self.device)
        layers = []
        for i, pair in enumerate(shape):
            into = tuple(
                x.new_zeros(len(stay) + len(entering), x.shape[0], width + ROOM, x.shape[2])
                for x in pair
            )
            for j, x in enumerate(into):
                if stay:
                    x[: len(stay), :, width - kept : width] = old.layers[i][j][
                        :, :, old.used - kept : old.used
                    ][index]
                for b, (_, entry) in enumerate(entering, len(stay)):
                    x[b, :, width - entry.length : width] = entry.layers[i][j]
            layers.append(into)
        return Buffer(layers, width), [live[b] for b in stay] + [row for row, _ in entering]

    def _decode(self, buffer: Buffer, live: list[Row], ask: Ask) -> None:
        """Draw tokens for all live rows until an eighth of them has finished or the buffer's spare
        columns are used."""
        start, n = buffer.used, len(live)
        lengths = np.array([row.stored + 1 for row in live])
        left = np.array([row.room - len(row.ids) for row in live])
        offsets = np.array([len(row.ids) for row in live], np.uint64)
        u = uniforms(np.array([row.key for row in live], np.uint64), offsets, ROOM)  # (B, ROOM)
        tokens, logprobs = np.zeros((n, ROOM), np.int64), np.zeros((n, ROOM))
        count, done = np.zeros(n, np.int64), np.zeros(n, bool)
        newest = torch.tensor([row.ids[-1] for row in live])
        for t in range(ROOM):
            logits = self._forward(newest[:, None], buffer, lengths + t, 1)[:, 0]  # (B, V)
            newest, logprob = draw(logits, ask.temperature, u[:, t])
            tokens[:, t], logprobs[:, t] = newest.cpu(), logprob.cpu()
            count += ~done
            done |= ask.stops[tokens[:, t]] | (count >= left)
            if done.sum() >= max(1, n // 8):
                break
        for b, row in enumerate(live):
            row.ids += tokens[b, : count[b]].tolist()
            row.logprobs += logprobs[b, : count[b]].tolist()
            row.done = bool(done[b])
            if ask.keep and row.done:
                longer = row.context.extended(row.ids)
                self.cache.put(longer, buffer.entry(b, row.stored, start + int(count[b])))

    def _forward(
        self, ids: torch.Tensor, buffer: Buffer, lengths: Sequence[int], keep: int | torch.Tensor
    ):
        """Feed `ids` (B, new) as the next columns of the buffer; rows then hold `lengths` tokens.

        `keep`: of the last so many, or of which of the new columns logits are returned, (B, K, V).
        """
        width, new = buffer.used + ids.shape[1], ids.shape[1]
        layers = [RoomyLayer(k, v, buffer.used) for k, v in buffer.layers] or [
            RoomyLayer() for _ in range(self.config.num_hidden_layers)
        ]
        pad = torch.as_tensor(width - np.asarray(lengths))[:, None]  # (B, 1)
        columns = torch.arange(width)
        mask = None if not pad.any() else (columns >= pad).long().to(self.device)  # (B, width)
        positions = (columns[width - new :] - pad).clamp_min(0).to(self.device)  # (B, new)
        out = self.model(
            input_ids=ids.to(self.device), attention_mask=mask, position_ids=positions,
            past_key_values=Cache(layers=layers), use_cache=True, logits_to_keep=keep,
        )  # fmt: skip
        if not buffer.layers:
            buffer.layers = [layer.buffer for layer in layers]
        buffer.used = width
        self.forwards += 1
        self.positions += ids.numel()
        return out.logits
