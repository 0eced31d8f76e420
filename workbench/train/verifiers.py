"""What the trainings of all verifiers share: the loop over rows.

The loss of a model that has learnt nothing proves nothing: every row of a log has, beside its loss,
`train/trivial_loss`, that of the best constant prediction, which is the entropy of the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch

from workbench.fingerprint import PLAIN, digest
from workbench.models.checkpoints import weights_digest, without_library_notes
from workbench.train.learner import Batch, Learner, Recipe
from workbench.train.loop import run_of, train
from workbench.train.lora import with_lora
from workbench.train.rows import Updates


def next_token_logits(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Logits (B, T, V) of rows padded on the right, which causal attention never looks at."""
    return model(input_ids=tensors["input_ids"], use_cache=False).logits


def fit(
    model: torch.nn.Module,
    verifier_of: Callable[[torch.nn.Module], Any],
    data: Sequence,
    loss: Callable[..., torch.Tensor],
    *,
    collate: Callable[[list], Batch],
    recipe: Recipe,
    seed: int,
    trivial_loss: float,
    held_out: Callable[[Any], dict[str, float]] | None = None,
    bf16: bool = False,
    length: Callable[[Any], int] = lambda row: len(row["input_ids"]),
    outputs: Callable[..., torch.Tensor] = next_token_logits,
    **options: Any,
) -> tuple[Any, list[dict[str, float]]]:
    """Train a model, changed in place, on rows of data; returns its verifier and the log.

    `loss(outputs(model, tensors), tensors, totals=...)` is a batch's share of the update's loss. A
    run with another one, or with other keywords of a `partial`, is not gone on with. `held_out`
    measures the verifier, `bf16` computes in bfloat16, `options` are those of `loop.train`:
    evaluations, keep, log, checkpoints.
    """

    def share_of_loss(model: torch.nn.Module, batch: Batch, totals: Mapping[str, int]):
        return loss(outputs(model, batch.tensors), batch.tensors, totals=totals)

    # 1. what tells this run from others
    if options.get("checkpoints") is not None:  # before there are adapters: the seed says which
        known = {"data": digest(repr(data)), "host weights": weights_digest(model)}
        known |= _told_of(loss)
        options["run"] = run_of(recipe, **known, seed=seed, bf16=bf16)
    # 2. the verifier, and how it learns
    torch.manual_seed(seed)
    verifier = verifier_of(with_lora(model, recipe))
    learner = Learner(verifier.model, recipe, autocast=bf16)
    options["held_out"] = held_out and (lambda: held_out(verifier))
    options["beside"] = {"train/trivial_loss": trivial_loss}
    # 3. updates
    updates = Updates(data, collate, recipe, seed, length)
    try:
        with without_library_notes():
            log = list(train(learner, updates, share_of_loss, **options))
    finally:
        verifier.model.eval()
    return verifier, log


def _told_of(loss: Callable[..., torch.Tensor]) -> dict[str, Any]:
    """What tells a loss from others: its code, and the keywords of a `partial`, by name."""
    known: dict[str, Any] = {"loss": digest(getattr(loss, "func", loss))}
    for name, value in getattr(loss, "keywords", {}).items():
        readable = isinstance(value, PLAIN) or is_dataclass(value)
        known[f"loss: {name}"] = value if readable else digest(value)
    return known
