"""Rows that were forked from one context read its key-values once, all together.

With sixteen samples of a question, ordinary attention reads the question's keys sixteen times for
every token. Here the queries of all rows of a context meet it in one matrix product; only what a
row wrote itself is read row by row (Hydragen, arXiv 2402.05099):

    o = softmax([q K_c^T, q K_own^T]) [V_c; V_own]

Deviation: Hydragen makes two softmaxes and merges them by their sums, as its kernels want it; rows
here are short, so one softmax goes over both parts. A context that is not shared costs about as
much as before. Half precision is computed in float32 on a CPU, whose matrix products are slow in
it. Taught in notebook 09.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import AttentionInterface, DynamicCache, PreTrainedModel

from workbench.models.prefix_cache import Entry, right_aligned

FORKED = "workbench_forks"  # of this attention, among those of transformers
PROBE = "workbench_probe"
_probed = WeakKeyDictionary[torch.nn.Module, bool]()


def can_fork(model: torch.nn.Module) -> bool:
    """Whether all layers see everything, by the softmax above, through transformers' interface.

    And whether they attend to the very key-values that the cache keeps: some keep others (latents).
    """
    inner = next((part for part in model.modules() if isinstance(part, PreTrainedModel)), None)
    if inner is None or not inner._supports_attention_backend:
        return False
    config = inner.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kinds = ["sliding" if getattr(config, "sliding_window", None) else "full_attention"]
    return (
        config._attn_implementation == "sdpa"
        and set(kinds) == {"full_attention"}
        and getattr(config, "rope_parameters", None) is not None  # no positions within scores
        and getattr(config, "attn_logit_softcapping", None) is None
        and _attends_to_its_cache(model)
    )


@torch.inference_mode()
def _attends_to_its_cache(model: torch.nn.Module) -> bool:
    """Does attention get the tensors that the cache gave back? One token tells, once a model."""
    if model not in _probed:
        _probed[model] = _probe(model)
    return _probed[model]


def _probe(model: torch.nn.Module) -> bool:
    cache, seen = DynamicCache(), []
    ids = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    reads = {"input_ids": ids, "past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
    try:
        with attending(model.config.get_text_config(), PROBE):
            model(**reads, seen=seen)
    except (TypeError, RuntimeError):  # keeps what stands behind to itself, or has other shapes
        return False
    held = [(layer.keys, layer.values) for layer in cache.layers]
    return len(held) == len(seen) and all(
        a.shape == b.shape and a.data_ptr() == b.data_ptr()
        for kept, given in zip(held, seen)
        for a, b in zip(kept, given)
    )


def _probing(module, query, key, value, attention_mask, *, seen, **_) -> tuple[torch.Tensor, None]:
    seen.append((key, value))
    return query.transpose(1, 2), None


AttentionInterface.register(PROBE, _probing)


class Forks:
    """Key-values of the contexts of some rows, each once: (C, H, P, D) per layer, right-aligned.

    `entries[b]` is what row b goes on from, (H, T, D) per layer. With G rows at most a context, a
    row has a place among C * G.
    """

    def __init__(self, entries: Sequence[Entry]):
        self.entries, counted = list(entries), Counter[int]()
        distinct = list({id(entry): entry for entry in entries}.values())
        number = {id(entry): c for c, entry in enumerate(distinct)}
        places = []
        for entry in entries:
            places.append((number[id(entry)], counted[id(entry)]))
            counted[id(entry)] += 1
        most = max(counted.values())
        self.shape = len(distinct), most  # (C, G)
        lengths = torch.tensor([entry.length for entry in distinct])
        pieces, longest = [(entry, entry.length) for entry in distinct], int(lengths.max())
        like = distinct[0].layers
        self.layers = right_aligned(pieces, like, longest, dtype=precision(like[0][0]))
        self.blank = blanks(longest - lengths, longest, self.layers[0][0])  # (C, 1, 1, P)
        self.places = torch.tensor([c * most + g for c, g in places]).to(self.blank.device)  # (B,)

    def goes_on_from(self, entries: Sequence[Entry]) -> bool:
        """Whether these rows are forked from the same contexts in the same order."""
        return [id(x) for x in entries] == [id(x) for x in self.entries]

    def together(self, x: torch.Tensor) -> torch.Tensor:
        """What rows have, (B, H, R, X), context by context: (C, H, G R, X)."""
        (contexts, most), own = self.shape, x.shape[1:]
        out = x.new_zeros(contexts * most, *own).index_copy_(0, self.places, x)
        return out.view(contexts, most, *own).transpose(1, 2).flatten(2, 3)

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        """The way back: of (C, H, G R, X) each row's own, (B, H, R, X)."""
        rows = x.unflatten(2, (self.shape[1], -1)).transpose(1, 2).flatten(0, 1)  # (C G, H, R, X)
        return rows.index_select(0, self.places)


def forked_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    forks: Forks,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of rows to their contexts and to themselves; (B, N, Hq, D), as transformers asks.

    `query` (B, Hq, N, D); `key`, `value` (B, H, T, D) what the rows wrote themselves, where
    `attention_mask` (B, 1, 1, T) is added.
    """
    keys, values = forks.layers[module.layer_idx]  # (C, H, P, D)
    rows, heads = key.shape[:2]
    q = (query.to(key.dtype) * scaling).reshape(rows, heads, -1, query.shape[-1])  # (B, H, R, D)
    to_context = forks.apart(forks.together(q) @ keys.mT + forks.blank)  # (B, H, R, P)
    to_own = q @ key.mT  # (B, H, R, T)
    if attention_mask is not None:
        to_own = to_own + attention_mask
    weights = torch.cat([to_context, to_own], -1).softmax(-1)
    of_context, of_own = weights.split([keys.shape[2], key.shape[2]], -1)
    out = forks.apart(forks.together(of_context) @ values) + of_own @ value  # (B, H, R, D)
    return out.reshape(query.shape).transpose(1, 2).to(query.dtype), None


AttentionInterface.register(FORKED, forked_attention)


@contextmanager
def attending(config: Any, name: str) -> Iterator[None]:
    """Within, the model of this configuration attends by another function of transformers'."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def precision(like: torch.Tensor) -> torch.dtype:
    """In what forked key-values are kept and computed."""
    half = like.dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if half and like.device.type == "cpu" else like.dtype


def blanks(blank: torch.Tensor, width: int, like: torch.Tensor) -> torch.Tensor:
    """(B, 1, 1, width) to add to scores: they leave out the first `blank` (B,) columns."""
    added = torch.where(torch.arange(width) < blank[:, None], -torch.inf, 0.0)
    return added[:, None, None].to(like)
