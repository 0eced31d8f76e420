"""What the trainings of all verifiers share: adapters, the loop over rows, and how to save.

The loss of a model that has learnt nothing proves nothing: every row of a log has, beside its loss,
`train/trivial_loss`, that of the best constant prediction, which is the entropy of the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from workbench.models.checkpoints import portable
from workbench.models.outcome import RewardVerifier, SolutionVerifier, mark
from workbench.models.quantised import check_trainable
from workbench.models.quiet import quiet
from workbench.train.loop import Batch, Learner, Recipe, fingerprint, run_of, train
from workbench.train.rows import Updates


def with_lora(
    model: torch.nn.Module, recipe: Recipe, *, task: str = "CAUSAL_LM"
) -> torch.nn.Module:
    """The model under new adapters of the recipe's rank, which alone will train.

    Rank 0 leaves it as it is, to train whole: a ValueError if its weights are in 4 bits.
    """
    if not recipe.rank:
        check_trainable(model)
        return model
    with quiet():
        from peft import LoraConfig, get_peft_model

        targets = recipe.targets if isinstance(recipe.targets, str) else list(recipe.targets)
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=targets,
            task_type=task,
        )
        return get_peft_model(model, config)


def fit(
    verifier: Any,
    data: Sequence,
    loss: Callable[..., torch.Tensor],
    *,
    collate: Callable[[list], Batch],
    recipe: Recipe,
    seed: int,
    trivial_loss: float,
    settings: Mapping[str, Any],
    held_out: Callable[[Any], dict[str, float]] | None = None,
    bf16: bool = False,
    length: Callable[[Any], int] | None = None,
    **options: Any,
) -> list[dict[str, float]]:
    """Train a verifier's model on rows of data; returns the log.

    `loss(logits, tensors, totals=...)` is a batch's share of the update's loss. `settings` are the
    method's own, by name: a run with other ones is not gone on with. `held_out`
    measures the verifier, `bf16` computes in bfloat16, `options` are those of `train`: evaluations,
    keep, patience, log, checkpoints.
    """

    def share_of_loss(model: torch.nn.Module, batch: Batch, totals: Mapping[str, int]):
        names = {"input_ids", "attention_mask"} & batch.tensors.keys()
        logits = model(**{name: batch.tensors[name] for name in names}, use_cache=False).logits
        return loss(logits, batch.tensors, totals=totals)

    learner = Learner(verifier.model, recipe, autocast=bf16)
    updates = Updates(data, collate, recipe, seed, *([length] if length else []))
    if options.get("checkpoints") is not None:
        host = fingerprint(verifier.model)
        known = {"data": fingerprint(data), "seed": seed, "host weights": host, "bf16": bf16}
        options["run"] = run_of(recipe, **known, **settings)
    measure = held_out and (lambda: held_out(verifier))
    with quiet():
        beside = {"train/trivial_loss": trivial_loss}
        log = list(
            train(learner, updates, share_of_loss, beside=beside, held_out=measure, **options)
        )
    verifier.model.eval()
    return log


def save(verifier: Any, folder: str | Path) -> None:
    """Write a verifier: adapter or whole model, tokenizer and formats; `load_verifier` reads it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    adapters = getattr(verifier.model, "peft_config", {})
    for config in adapters.values():
        config.base_model_name_or_path = portable(config.base_model_name_or_path)
    verifier.model.save_pretrained(folder, **({"save_embedding_layers": False} if adapters else {}))
    verifier.tokenizer.save_pretrained(folder)
    verifier.form.save(folder)
    if isinstance(verifier, SolutionVerifier | RewardVerifier):
        mark(verifier, folder)
