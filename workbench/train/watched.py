"""transformers' `Trainer` for our losses: measured along the way, the best weights kept, stopped
and resumed.

What a recipe must name: learning_rate, batch_size, epochs, weight_decay, warmup_ratio. Nothing is
printed, and nothing is written but what resuming and keeping the best need. Used by `train.prm` and
`train.genrm`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch


def train(
    model: torch.nn.Module,
    data: Sequence[dict],
    recipe: Any,
    loss: Callable[[torch.nn.Module, dict[str, torch.Tensor]], torch.Tensor],
    *,
    collate: Callable[[list[dict]], dict[str, torch.Tensor]],
    seed: int,
    held_out: Callable[[], dict[str, float]] | None = None,
    evaluations: int = 4,
    keep: str | None = None,
    patience: int | None = None,
    checkpoints: str | Path | None = None,
    bf16: bool = False,
) -> list[dict]:
    """Train in place on batches that `collate` makes of `data`; returns the log, for a call that
    resumed the whole one.

    `held_out` measures `evaluations` times along the way and at the end; `keep` names the measure
    whose best weights remain, `patience` how many times without a better one end training.
    `checkpoints`: a folder to write to at each of these times, and to go on from. ValueError for
    `keep` or `patience` without what they need.
    """
    if (keep and not held_out) or (patience is not None and not keep):
        raise ValueError(
            f"keep={keep!r}, patience={patience}: patience needs keep, and keep needs held_out"
        )
    with TemporaryDirectory() as nowhere:
        arguments = _arguments(recipe, len(data), seed, keep, str(checkpoints or nowhere), bf16)
        trainer = _trainer(loss, held_out, evaluations, patience, writes=bool(checkpoints or keep))(
            model=model,
            args=arguments,
            train_dataset=data,
            eval_dataset=data[:1],
            data_collator=collate,
        )
        trainer.train(resume_from_checkpoint=_last(checkpoints))
    return _log(trainer.state.log_history)


def _arguments(recipe: Any, n: int, seed: int, keep: str | None, folder: str, bf16: bool):
    from transformers import TrainingArguments

    updates = recipe.epochs * np.ceil(n / recipe.batch_size)
    # `Times` says when
    never = dict(eval_strategy="steps", eval_steps=10**9, save_strategy="steps", save_steps=10**9)
    best = (
        dict(load_best_model_at_end=True, metric_for_best_model=keep, greater_is_better=True)
        if keep
        else {}
    )
    return TrainingArguments(
        output_dir=folder, seed=seed, data_seed=seed, use_cpu=not torch.cuda.is_available(), bf16=bf16,
        per_device_train_batch_size=recipe.batch_size, num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, lr_scheduler_type="linear",
        warmup_steps=int(recipe.warmup_ratio * updates), logging_steps=max(1, int(updates) // 20), report_to=[],
        disable_tqdm=True, remove_unused_columns=False, train_sampling_strategy="group_by_length",
        dataloader_num_workers=0, dataloader_pin_memory=False, save_total_limit=2, **never, **best,
    )  # fmt: skip


def _trainer(
    loss: Callable,
    held_out: Callable | None,
    evaluations: int,
    patience: int | None,
    *,
    writes: bool,
):
    """A maker of trainers; transformers is imported here, on first use."""
    from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback

    class Times(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            every = max(1, state.max_steps // evaluations)
            now = state.global_step % every == 0 or state.global_step == state.max_steps
            control.should_evaluate = bool(held_out) and now
            control.should_save = writes and now

    class WatchedTrainer(Trainer):
        """Our loss, and `held_out` in the place of an evaluation set."""

        def __init__(self, **options):
            stops = (
                [EarlyStoppingCallback(early_stopping_patience=patience)]
                if patience is not None
                else []
            )
            super().__init__(callbacks=[Times(), *stops], **options)
            self.remove_callback(PrinterCallback)

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            value = loss(model, inputs)
            return (value, None) if return_outputs else value

        def evaluate(self, *args, **kwargs):
            self.model.eval()
            measures = {f"eval_{name}": value for name, value in held_out().items()}
            self.model.train()
            self.log(dict(measures))
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, measures
            )
            return measures

    return WatchedTrainer


def _last(checkpoints: str | Path | None) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    return (
        get_last_checkpoint(str(checkpoints))
        if checkpoints and Path(checkpoints).is_dir()
        else None
    )


def _log(history: Sequence[dict]) -> list[dict]:
    """Rows {update, train/loss} or {update, measures ...} of the trainer's own log, which its
    checkpoints hold."""
    rows = []
    for entry in history:
        measures = {
            name.removeprefix("eval_"): x for name, x in entry.items() if name.startswith("eval_")
        }
        if "loss" in entry:
            rows.append({"update": entry["step"], "train/loss": float(entry["loss"])})
        elif measures:
            rows.append({"update": entry["step"], **measures})
    return rows
