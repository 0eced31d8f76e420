"""Sampling engine: many continuations of many contexts at once, over any Hugging Face causal LM.

1. **One prefill per distinct context.** Contexts come as segments (prompt, step, step ...); the
   key-values up to each border are found again in `PrefixCache`, also when one context begins
   another in the same call.
2. **Continuations are forked** from their context: they read its key-values together (`forks`), and
   what they write lives in one buffer with spare room, right-aligned, so that every row's newest
   token stands in the same column.
3. **Finished rows leave and waiting rows enter** whenever an eighth of the batch has finished.
4. **One uniform per token**, from a generator keyed per row: what a row draws does not depend on
   the rows beside it.

Built on transformers' cache classes. Models that attend otherwise (sliding windows) get a copy of
the context in every row, and transformers' own attention and mask. Taught in notebook 09.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from workbench.models.checkpoints import adapter_state
from workbench.models.draws import draw, uniforms
from workbench.models.flops import Flops
from workbench.models.forks import FORKED, Forks, attending, blanks, can_fork
from workbench.models.prefix_cache import Context, Entry, KeyValues, PrefixCache, right_aligned
from workbench.models.stops import Stops
from workbench.types import Meter

ROOM = 32  # columns to decode before the buffer is assembled anew


class RoomyLayer(DynamicLayer):
    """A cache layer over a buffer with spare columns, written to where others concatenate."""

    def __init__(self, buffer: tuple[torch.Tensor, torch.Tensor] | None = None, used: int = 0):
        super().__init__()
        if buffer is not None:
            self._show(buffer, used)

    def _show(self, buffer: tuple[torch.Tensor, torch.Tensor], used: int) -> None:
        self.buffer = buffer
        self.keys, self.values = (x[:, :, :used] for x in buffer)
        self.dtype, self.device, self.is_initialized = buffer[0].dtype, buffer[0].device, True

    def update(self, key_states, value_states, *args, **kwargs):
        new = key_states.shape[2]
        if not self.is_initialized:  # a prefill from nothing: what comes is the whole buffer
            self._show((key_states, value_states), new)
            return self.keys, self.values
        used = self.keys.shape[2]
        for x, states in zip(self.buffer, (key_states, value_states)):
            x[:, :, used : used + new] = states
        self._show(self.buffer, used + new)
        return self.keys, self.values


@dataclass
class Row:
    """One continuation: of which context, how many tokens at most, from which stream; the result.

    The engine books into `meter` what this row makes it compute: tokens read (`prefilled`), found
    (`cached`) and drawn (`generated`), and `flops`.
    """

    context: Context
    room: int
    key: int
    meter: Meter
    wanted: tuple[int, ...] = ()  # after how many tokens logits are wanted; by default after all
    before: tuple[int, ...] = ()  # the end of what was written earlier: a text may begin there
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    done: bool = False
    entry: Entry | None = None  # key-values of its context, while it is live
    shared: int = 0  # tokens of these that it reads together with others: all, or none

    def __post_init__(self):
        self.wanted = self.wanted or (len(self.context.ids),)

    @property
    def sought(self) -> tuple[bytes, tuple[int, ...]]:
        """What to compute before anything is drawn; done once for all rows that seek the same."""
        return self.context.names[-1], self.wanted

    @property
    def stored(self) -> int:
        """Tokens with key-values while the row is live: all but the newest, not yet fed."""
        return len(self.context.ids) + len(self.ids) - 1

    @property
    def own(self) -> int:
        """Of these the tokens that stand in the row itself."""
        return self.stored - self.shared

    def extend(self, ids: list[int], logprobs: list[float]) -> None:
        self.ids += ids
        self.logprobs += logprobs
        self.meter.generated += len(ids)


@dataclass
class Buffer:
    """Key-values of the live rows, right-aligned: (B, H, `used` + spare, D) per layer."""

    layers: KeyValues
    used: int
    forks: Forks | None = None  # the contexts before them, where these are shared

    def entry(self, b: int, length: int, end: int) -> Entry:
        """Row b's key-values of `length` tokens that end before column `end`."""
        own = slice(end - length, end)
        layers = [(k[b, :, own].clone(), v[b, :, own].clone()) for k, v in self.layers]
        return Entry(layers, length)


@dataclass(frozen=True)
class Drawing:
    """What all rows of one run have in common."""

    stops: Stops  # what ends a continuation
    temperature: float
    keep: bool  # put the key-values of finished rows into the cache


class Engine:
    """Continues rows with one model; counts its `forwards` and the columns (`positions`) in them.

    `batch_tokens` and `cache_tokens` bound the key-values of live rows and of kept ones; `window`
    is how many tokens the model can read at once.
    """

    def __init__(
        self, model: torch.nn.Module, *, batch_tokens: int = 49_152, cache_tokens: int = 131_072
    ):
        self.model, self.batch_tokens = model, batch_tokens
        self.cache = PrefixCache(cache_tokens)
        self.forwards = self.positions = 0
        self.config = model.config.get_text_config()
        self.window = getattr(self.config, "max_position_embeddings", None) or 10**9
        self.device = next(model.parameters()).device
        self._seen, self.flops = self._fingerprint(), Flops(model)
        self.forking = can_fork(model)

    @torch.inference_mode()
    def run(self, rows: Sequence[Row], *, stops: Stops, temperature: float, keep: bool) -> None:
        """Continue all rows to a stop or the end of their room; fills `ids`, `logprobs`."""
        self.refresh()
        drawing = Drawing(stops, temperature, keep)
        longest_first = sorted(rows, key=lambda row: (-len(row.context.ids), row.context.names[-1]))
        waiting = deque(longest_first)
        live: list[Row] = []
        buffer = None
        while waiting or live:
            admitted = self._admit(live, waiting)
            self._prefill(admitted, drawing)
            entering = [row for row in admitted if not row.done]
            if not entering and all(row.done for row in live):
                live = []
                continue
            buffer, live = self._assemble(buffer, live, entering)
            self._decode(buffer, live, drawing)

    @torch.inference_mode()
    def read(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Logits (len(wanted), V) after the `wanted` numbers of tokens of each row."""
        self.refresh()
        done = self._compute(rows)
        return [done[row.sought][1] for row in rows]

    def to_read(self, wanted: Mapping[Context, int]) -> int:
        """Tokens at most that a call would read for these contexts, each once.

        `wanted`: after how many of its tokens logits are wanted first. What the cache holds of a
        context is not read, nor, of several, a first segment again; a tenth may come on top, as
        rows are read with others that need more.
        """
        firsts: dict[bytes, int] = {}
        total = 0
        for context, at in wanted.items():
            held = self.cache.get(context, at - 1)[1]
            if held == 0 and len(context.names) > 1:
                held = firsts[context.names[0]] = min(context.borders[0], at - 1)
            total += ceil(1.1 * (len(context.ids) - held))
        return total + sum(ceil(1.1 * first) for first in firsts.values())

    def refresh(self) -> bool:
        """Empty the cache if weights or adapters changed since the last call, and say if so."""
        if (seen := self._fingerprint()) == self._seen:
            return False
        self.cache.clear()
        self._seen, self.flops = seen, Flops(self.model)
        return True

    def _fingerprint(self) -> tuple:
        """Changes when a weight is written to or replaced, or when other adapters are in use.

        A sample of the values is part of it: fused optimisers write without counting up `_version`.
        """
        weights = [p.detach() for p in self.model.parameters()]
        versions = tuple((p.data_ptr(), p._version) for p in weights)
        values = torch.cat([p.reshape(-1)[:: p.numel() // 16 + 1].float() for p in weights])
        return versions, values.cpu().numpy().tobytes(), adapter_state(self.model)

    def _admit(self, live: list[Row], waiting: deque[Row]) -> list[Row]:
        """Take waiting rows while the batch stays within its tokens (one row is always let in)."""
        widths = [row.stored for row in live if not row.done]
        n, width = len(widths), max(widths, default=0)
        admitted: list[Row] = []
        while waiting:
            width = max(width, len(waiting[0].context.ids))
            if n and (n + 1) * (width + ROOM) > self.batch_tokens:
                break
            admitted.append(waiting.popleft())
            n += 1
        return admitted

    # -- contexts ---------------------------------------------------------------------------------

    def _prefill(self, rows: list[Row], drawing: Drawing) -> None:
        """Compute each distinct context once, draw every row's first token."""
        if not rows:
            return
        done = self._compute(rows)
        entries, logits = zip(*(done[row.sought] for row in rows))
        keys = np.array([row.key for row in rows], np.uint64)
        u = uniforms(keys, np.zeros_like(keys), 1)[:, 0]  # (B,)
        tokens, logprobs = draw(torch.cat(logits), drawing.temperature, u)
        for row, entry, token, logprob in zip(rows, entries, tokens.tolist(), logprobs.tolist()):
            row.extend([token], [logprob])
            row.done = drawing.stops.over([*row.before, token]) or row.room <= 1
            row.entry, row.shared = entry, entry.length if self.forking else 0

    def _compute(self, rows: Sequence[Row]) -> dict[tuple, tuple[Entry, torch.Tensor]]:
        """Key-values and wanted logits (len(wanted), V) of what the rows seek, each computed once.

        A context that a longer one begins with waits for it and then comes from the cache.
        """
        payers = {row.sought: row for row in reversed(rows)}  # of equal rows the first
        done: dict[tuple, tuple[Entry, torch.Tensor]] = {}
        while todo := [row for sought, row in payers.items() if sought not in done]:
            inner = {name for row in todo for name in row.context.names[:-1]}
            group = self._alike([row for row in todo if row.context.names[-1] not in inner])
            for (row, _, _), result in zip(group, self._prefill_group(group)):
                done[row.sought] = result
                self.cache.put(row.context, result[0])
        return done

    def _alike(self, rows: list[Row]) -> list[tuple[Row, Entry | None, int]]:
        """Rows with about as much to compute as the neediest, and what the cache holds of each.

        All rows of a call compute as many columns as the neediest: at most a tenth needlessly.
        """
        found = [(row, *self.cache.get(row.context, min(row.wanted) - 1)) for row in rows]
        need = max(len(row.context.ids) - cut for row, _, cut in found)
        group = [f for f in found if 11 * (len(f[0].context.ids) - f[2]) >= 10 * need]
        longest = max(len(row.context.ids) for row, _, _ in group)
        return group[: max(1, self.batch_tokens // longest)]

    def _prefill_group(
        self, group: list[tuple[Row, Entry | None, int]]
    ) -> list[tuple[Entry, torch.Tensor]]:
        """Key-values and wanted logits (len(wanted), V) of some contexts, in one model call."""
        lengths = [len(row.context.ids) for row, _, _ in group]
        width, new = max(lengths), max(len(row.context.ids) - cut for row, _, cut in group)
        columns = [[new - n + i - 1 for i in row.wanted] for (row, _, _), n in zip(group, lengths)]
        keep = sorted({column for row in columns for column in row})
        place = {column: i for i, column in enumerate(keep)}
        ids = torch.zeros(len(group), new, dtype=torch.long)  # (B, new)
        for b, ((row, _, _), n) in enumerate(zip(group, lengths)):
            tail = row.context.ids[-new:]
            ids[b, new - len(tail) :] = torch.tensor(tail)
            row.meter.prefilled += len(tail)
            row.meter.cached += n - len(tail)
            row.meter.flops += self.flops.cost(n - len(tail), n, len(set(row.wanted)))
        known = [(entry, n - new) for (_, entry, _), n in zip(group, lengths)]
        like = next((entry.layers for entry, n in known if entry is not None and n > 0), [])
        buffer = Buffer(right_aligned(known, like, width - new, new), width - new)
        logits = self._forward(ids, buffer, lengths, torch.tensor(keep))  # (B, len(keep), V)
        kept = [[place[column] for column in row] for row in columns]
        return [(buffer.entry(b, n, width), logits[b, kept[b]]) for b, n in enumerate(lengths)]

    # -- continuations ----------------------------------------------------------------------------

    def _assemble(self, old: Buffer | None, live: list[Row], entering: list[Row]):
        """One right-aligned buffer, with `ROOM` spare columns, for rows that go on or enter."""
        stay = [b for b, row in enumerate(live) if not row.done]
        kept = max((live[b].own for b in stay), default=0)
        brought = [0 if self.forking else row.entry.length for row in entering]
        width, rows = max([kept, *brought]), [live[b] for b in stay] + entering
        pieces = [(None, 0)] * len(stay) + [(row.entry, n) for row, n in zip(entering, brought)]
        forks = self._forks(old, rows)
        dtype = forks.layers[0][0].dtype if forks else None
        layers = right_aligned(pieces, rows[0].entry.layers, width, ROOM, dtype)
        index = torch.tensor(stay, device=self.device)
        for into, sources in zip(layers, old.layers if stay else ()):
            for x, source in zip(into, sources):
                going_on = source[:, :, old.used - kept : old.used]
                x[: len(stay), :, width - kept : width] = going_on[index]
        return Buffer(layers, width, forks), rows

    def _forks(self, old: Buffer | None, rows: list[Row]) -> Forks | None:
        """The contexts of these rows, where they are shared; as before if the rows are."""
        if not self.forking:
            return None
        entries = [row.entry for row in rows]
        return old.forks if old and old.forks.goes_on_from(entries) else Forks(entries)

    def _decode(self, buffer: Buffer, live: list[Row], drawing: Drawing) -> None:
        """Draw tokens for all live rows until an eighth has finished or the buffer is full."""
        start, n = buffer.used, len(live)
        lengths = np.array([row.own + 1 for row in live])
        shared = np.array([row.shared for row in live])
        left = np.array([row.room - len(row.ids) for row in live])
        offsets = np.array([len(row.ids) for row in live], np.uint64)
        u = uniforms(np.array([row.key for row in live], np.uint64), offsets, ROOM)  # (B, ROOM)
        tokens, logprobs = np.zeros((n, ROOM), np.int64), np.zeros((n, ROOM))
        count, done = np.zeros(n, np.int64), np.zeros(n, bool)
        newest = torch.tensor([row.ids[-1] for row in live])
        for t in range(ROOM):
            logits = self._forward(newest[:, None], buffer, lengths + t, 1, shared)[:, 0]  # (B, V)
            newest, logprob = draw(logits, drawing.temperature, u[:, t])
            tokens[:, t], logprobs[:, t] = newest.cpu(), logprob.cpu()
            count += ~done
            done |= drawing.stops.sure[tokens[:, t]] | (count >= left)
            self._look_back(live, tokens[:, : t + 1], drawing.stops, done)
            if done.sum() >= max(1, n // 8):
                break
        for b, row in enumerate(live):
            fed = int(count[b])
            row.meter.flops += self.flops.cost(row.stored, row.stored + fed, fed)
            row.extend(tokens[b, :fed].tolist(), logprobs[b, :fed].tolist())
            row.done = bool(done[b])
            if drawing.keep and row.done:
                own = buffer.entry(b, row.own, start + fed)
                whole = own.after(row.entry) if self.forking else own
                self.cache.put(row.context.extended(row.ids), whole)
            row.entry = None if row.done else row.entry

    @staticmethod
    def _look_back(live: list[Row], tokens: np.ndarray, stops: Stops, done: np.ndarray) -> None:
        """Mark as done the rows in which the newest of `tokens` (B, new) completes a text."""
        if stops.maybe is not None:
            for b in np.flatnonzero(stops.maybe[tokens[:, -1]] & ~done):
                done[b] = stops.completes([*live[b].before, *live[b].ids, *tokens[b]])

    def _forward(
        self,
        ids: torch.Tensor,
        buffer: Buffer,
        lengths: Sequence[int],
        keep: int | torch.Tensor,
        shared: np.ndarray | int = 0,
    ) -> torch.Tensor:
        """Feed `ids` (B, new) as the next columns of the buffer; rows then hold `lengths` tokens.

        `keep`: of the last so many, or of which of the new columns logits are returned, (B, K, V).
        `shared`: how many tokens of a context come before them.
        """
        width, new = buffer.used + ids.shape[1], ids.shape[1]
        layers = [RoomyLayer(pair, buffer.used) for pair in buffer.layers]
        layers = layers or [RoomyLayer() for _ in range(self.config.num_hidden_layers)]
        pad = width - np.asarray(lengths)  # (B,)
        # padding stands before the first place, and rows that are done may run beyond the last one
        places = np.arange(width - new, width) + (shared - pad)[:, None]  # (B, new)
        with self._attention(buffer, torch.from_numpy(pad), width) as attention:
            logits = self.model(
                input_ids=ids.to(self.device),
                position_ids=torch.from_numpy(places.clip(0, self.window - 1)).to(self.device),
                past_key_values=Cache(layers=layers),
                use_cache=True,
                logits_to_keep=keep,
                **attention,
            ).logits
        if not buffer.layers:
            buffer.layers = [layer.buffer for layer in layers]
        buffer.used = width
        self.forwards += 1
        self.positions += ids.numel()
        return logits

    @contextmanager
    def _attention(self, buffer: Buffer, pad: torch.Tensor, width: int) -> Iterator[dict]:
        """What the model is told of the columns that count; `pad` (B,) of `width` do not."""
        forks, padded = buffer.forks, bool(pad.any())
        if forks is None:
            columns = (torch.arange(width) >= pad[:, None]).long() if padded else None  # (B, width)
            yield {"attention_mask": None if columns is None else columns.to(self.device)}
            return
        mask = blanks(pad, width, buffer.layers[0][0]) if padded else None
        with attending(self.config, FORKED):
            yield {"attention_mask": mask, "forks": forks}
