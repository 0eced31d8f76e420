"""A process reward model, all its weights, spread over GPUs: our loss in transformers' Trainer.

    accelerate launch --config_file workbench/recipes/sharded/fsdp.yaml \\
        workbench/recipes/sharded/train_prm.py --host Qwen/Qwen2.5-Math-7B \\
        --labels labels.jsonl --output_dir runs/prm7b --learning_rate 1e-5 --gradient_checkpointing

All options of `TrainingArguments` work. Deviation from `train.prm`: the mean is taken over the
steps of each micro-batch, then over micro-batches, not over all steps of an update.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers import HfArgumentParser, Trainer, TrainingArguments

from workbench.models import load_policy
from workbench.models.checkpoints import VERIFIER
from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.problems import process_data
from workbench.train.prm import check_targets, collate, examples, step_loss
from workbench.train.rows import pad_id, window


@dataclass
class PRMAsked:
    """What to train on what: a name or folder, a file of labels and its format (`process_data`)."""

    host: str
    labels: str
    format: str = "stepwise"
    soft: bool = False


class ShardedPRM(Trainer):
    """transformers' Trainer with the loss of `train.prm` at the step separators."""

    def __init__(self, form: StepFormat, **options):
        super().__init__(**options)
        self.form = form
        self.model_accepts_loss_kwargs = False  # else it would not divide by the micro-batches

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        logits = model(input_ids=inputs["input_ids"], use_cache=False).logits  # (B, T, V)
        loss = step_loss(logits, inputs, self.form)
        return (loss, {"logits": logits}) if return_outputs else loss


def main(words: list[str] | None = None) -> None:
    """Train, and write a folder that `load_verifier` reads."""
    asked, args = HfArgumentParser((PRMAsked, TrainingArguments)).parse_args_into_dataclasses(words)
    args.remove_unused_columns = False  # the model does not know our columns
    host = load_policy(asked.host, device=str(args.device))
    form = StepFormat().bound(host.tokenizer)
    rows = process_data.read(asked.labels, format=asked.format)
    longest = window(host.model)
    data = examples(rows, host.tokenizer, form, soft=asked.soft, longest=longest)
    check_targets(data, rows, longest, soft=asked.soft)
    settings = StepVerifier(host.model, host.tokenizer, form).settings()
    batch = partial(collate, pad=pad_id(host.tokenizer))
    host.model.train()
    trainer = ShardedPRM(form, model=host.model, args=args, train_dataset=data, data_collator=batch)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()  # all processes: the weights are gathered
    if trainer.is_world_process_zero():
        host.tokenizer.save_pretrained(args.output_dir)
        note = json.dumps(settings, indent=1)
        (Path(args.output_dir) / VERIFIER).write_text(note, encoding="utf-8")


if __name__ == "__main__":
    main()
