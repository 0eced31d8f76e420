"""One reader for all verifiers: token rows in, what stands at wanted positions out.

A verifier says what a solution looks like as ids, in segments (`Context`), and after how many of
them it wants to look. The reader computes that in batches and with no token twice: key-values of
everything read are kept (`PrefixCache`), a question that several solutions share is computed first,
and equal rows are one. A search that grows solutions step by step so pays for each token once.
(Systems that call a verifier with the whole text each time pay 5 to 10 times as much.) `known`
holds what has been worked out, by the name of the context; it empties itself when weights change.

What is read are the logits of a causal LM, or the few numbers of a `Scorer`'s own head. Taught in
notebook 03.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

from workbench.models.checkpoints import weights_digest
from workbench.models.engine import Engine, Row
from workbench.models.prefix_cache import Context
from workbench.types import Meter, Prefix, Unreadable

MOST_KNOWN = 1_000_000  # entries of `known` before it is emptied


class Scorer(torch.nn.Module):
    """A body under a head of some numbers, which the engine reads as a causal LM of so many words.

    `body(ids)[0]` are states, (B, T, D); `head` makes (B, K, O) of them in its own dtype.
    """

    def __init__(self, body: torch.nn.Module, head: torch.nn.Module):
        super().__init__()
        self.body, self.head, self.config = body, head, body.config

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def forward(self, *, logits_to_keep: int | torch.Tensor = 0, **reads):
        """Outputs at the last so many positions (0: at all), or at the positions named."""
        states = self.body(**reads)[0]  # (B, T, D)
        last = isinstance(logits_to_keep, int)
        states = states[:, -logits_to_keep:] if last else states[:, logits_to_keep]
        dtype = next(self.head.parameters()).dtype
        return CausalLMOutputWithPast(logits=self.head(states.to(dtype)))


class Question(NamedTuple):
    """What to read of which row: after how many tokens to look, and who pays."""

    context: Context
    wanted: Sequence[int]
    meter: Meter


class Reader:
    """Reads rows with one model, for a verifier that remembers in `known`; `sizes`: of `Engine`."""

    def __init__(self, model: torch.nn.Module, **sizes: int):
        self.engine, self.known = Engine(model, **sizes), dict[bytes, float]()

    def refresh(self) -> bool:
        """Forget what is known if weights have changed since the last call (or it is too much)."""
        if stale := self.engine.refresh() or len(self.known) > MOST_KNOWN:
            self.known.clear()
        return stale

    def forget(self) -> None:
        """Be as if nothing had been read yet."""
        self.known.clear()
        self.engine.cache.clear()

    def check(self, problem_id: str, tokens: int) -> None:
        """`Unreadable` for a row of more tokens than the model can see."""
        if tokens > (window := self.engine.window):
            raise Unreadable(f"{problem_id}: {tokens} tokens to judge, the verifier reads {window}")

    def read(self, questions: Sequence[Question]) -> list[torch.Tensor]:
        """Logits (len(wanted), V) of each row; those of one context must want the same."""
        self._read(self._beginnings(questions))
        return self._read(questions)

    def _beginnings(self, questions: Sequence[Question]) -> list[Question]:
        """First segments that several rows share and that are not in the cache."""
        shared: dict[bytes, list[Question]] = {}
        for question in questions:
            shared.setdefault(question.context.names[0], []).append(question)
        payers = [rows[0] for rows in shared.values() if len(rows) > 1]
        firsts = [Question(payer.context.cut(1), (), payer.meter) for payer in payers]
        held = self.engine.cache.holds
        return [first for first in firsts if first.context.ids and not held(first.context)]

    def _read(self, questions: Sequence[Question]) -> list[torch.Tensor]:
        rows = [Row(q.context, 0, 0, Meter(), tuple(q.wanted)) for q in questions]
        found = self.engine.read(rows)
        for row, question in zip(rows, questions):
            book(row, question.meter)
        return found


def book(row: Row, meter: Meter) -> None:
    """Let a verifier's meter pay for one row: tokens read and written, and their operations."""
    meter.verifier += row.meter.prefilled + len(row.ids)
    meter.flops += row.meter.flops


def need_steps(prefix: Prefix) -> None:
    """ValueError for a prefix without steps, which no verifier of whole solutions can judge."""
    if not prefix.steps:
        raise ValueError(f"{prefix.problem.id}: no steps to judge, a solution needs at least one")


def fingerprint_of(model: torch.nn.Module, settings: Mapping) -> str:
    """A digest of what a verifier is: its weights, and all that its scores depend on beside."""
    facts = weights_digest(model) + json.dumps(settings, sort_keys=True)
    return blake2b(facts.encode(), digest_size=16).hexdigest()
