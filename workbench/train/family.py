"""The shipped policies: one trunk of training, three checkpoints of it.

Weak, base and strong are one model at three budgets. The trunk trains at a constant learning rate;
where a member's decay begins, the trunk's state is copied ("forked"), its learning rate brought
down on the tokens that come next, and the result saved as an ordinary Hugging Face checkpoint; the
trunk goes on. Resumable: what a killed run had saved is not done again, and goes on bit-equal.
Taught in notebook 01.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch

from workbench.analyse.scaling import correctness, interval
from workbench.drive import solve
from workbench.models import load_policy
from workbench.models.tokenizer import END, PAD, build_tokenizer
from workbench.search import METHODS
from workbench.train.sft import Recipe, Trainer, Update, batches, curriculum, repeats
from workbench.types import Problem


class Budget(NamedTuple):
    """In tokens: where the decay of the learning rate begins, where it would reach zero, where
    training stops."""

    decay_from: int
    decay_to: int
    stop: int


FAMILY = {  # base is strong half-way: warm, so its samples differ and one of many is often right
    "weak": Budget(4_625_964, 5_400_000, 5_400_000),
    "base": Budget(7_719_286, 25_000_000, 12_349_230),
    "strong": Budget(7_719_286, 25_000_000, 25_000_000),
}

REPEATS = 400  # updates on random tokens said twice, before the first lesson


def new_model(seed: int) -> torch.nn.Module:
    """A Llama of 3.6 M parameters with random weights: 6 layers, 256 wide, 4 heads of 64 on 2
    key-value heads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, max_position_embeddings=512, bos_token_id=None,
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD), eos_token_id=tokenizer.convert_tokens_to_ids(END),
    )  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def training_data(seed: int, recipe: Recipe, *, skip: int = 0) -> Iterator:
    """The family's endless batches, from number `skip` on: what an interrupted run would have seen
    next."""
    tokenizer = build_tokenizer()
    warm_up = islice(repeats(tokenizer, batch_tokens=recipe.batch_tokens, seed=seed), REPEATS)
    lessons = batches(curriculum(seed), tokenizer, batch_tokens=recipe.batch_tokens, seed=seed)
    return islice(chain(warm_up, lessons), skip, None)


def train_family(
    folder: str | Path,
    *,
    seed: int,
    members: Mapping[str, Budget] = FAMILY,
    recipe: Recipe | None = None,
    save_every: int = 400,
) -> Iterator[tuple[str, Update]]:
    """Train `members` {name: budget} in order of where their decay begins; yields (run, update).

    Checkpoints go to `folder/<name>`, those on the way, every `save_every` updates, to
    `folder/<run>_<tokens>` for the learning curve, and with the trunk's its state to
    `folder/trunk.pt`. Call again to go on after an interruption.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = recipe or Recipe()
    trunk = Trainer(new_model(seed), recipe)
    if (folder / "trunk.pt").exists():
        trunk.load(folder / "trunk.pt")
    data = training_data(seed, recipe, skip=trunk.done.updates)
    for name, (decay_from, decay_to, stop) in members.items():
        if (folder / name / "config.json").exists():
            continue
        for update in trunk.train(data, until=decay_from):
            yield "trunk", update
            if update.updates % save_every == 0:
                trunk.save(folder / "trunk.pt")
                save_checkpoint(trunk, folder / f"trunk_{update.tokens}", seed=seed)
        trunk.save(folder / "trunk.pt")
        fork = Trainer(new_model(seed), recipe)
        fork.load(folder / "trunk.pt")
        ahead = training_data(seed, recipe, skip=fork.done.updates)
        losses: deque[float] = deque(maxlen=50)
        for update in fork.train(ahead, until=decay_to, decay_from=decay_from):
            losses.append(update.loss)
            yield name, update
            if update.updates % save_every == 0:
                save_checkpoint(fork, folder / f"{name}_{update.tokens}", seed=seed)
            if update.tokens >= stop:
                break
        save_checkpoint(
            fork,
            folder / name,
            seed=seed,
            mean_loss=sum(losses) / len(losses),
            decay_from=decay_from,
        )


def learning_curve(
    folder: str | Path, member: str, *, problems: Sequence[Problem], samples: int, seed: int
) -> Iterator[dict]:
    """pass@1 by level along the trunk and on to a member: rows {tokens, level, value, low, high,
    problems}."""
    on_the_way = {
        int(p.name.split("_")[1]): p
        for run in ("trunk", member)
        for p in Path(folder).glob(f"{run}_*/")
    }
    for tokens, path in sorted(on_the_way.items()):
        policy = load_policy(path, dtype="bfloat16", cache_tokens=0)
        share = correctness(
            solve(problems, METHODS["sample"], policy=policy, seed=seed, n=samples)
        ).mean(1)
        for level in sorted({p.level for p in problems}):
            own = share[[p.level == level for p in problems]]
            yield {
                "tokens": tokens,
                "level": level,
                **interval(own, seed=seed),
                "problems": len(own),
            }


def save_checkpoint(trainer: Trainer, folder: Path, **facts: float) -> None:
    """Write a whole Hugging Face checkpoint in bfloat16 with tokenizer and training facts; renamed
    when complete."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed and comes by again
    trainer.model.save_pretrained(part)
    build_tokenizer().save_pretrained(part)
    (part / "training.json").write_text(json.dumps(vars(trainer.done) | facts, indent=1) + "\n")
    part.rename(folder)


def write_card(folder: Path, table: Sequence[Mapping], measured: str) -> None:
    """README.md of a checkpoint: how it was trained (from training.json) and how good it is.

    `table` has rows {level, kind, value, low, high}; `measured` says on what.
    """
    facts = json.loads((folder / "training.json").read_text())
    kinds = list(dict.fromkeys(row["kind"] for row in table))
    cells = {
        (row["level"], row["kind"]): f"{row['value']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
        for row in table
    }
    lines = [
        f"| {level} | " + " | ".join(cells[level, kind] for kind in kinds) + " |"
        for level in dict.fromkeys(row["level"] for row in table)
    ]
    text = CARD.format(
        name=folder.name, kinds=" | ".join(kinds), rule="|---" * (len(kinds) + 1) + "|", rows="\n".join(lines),
        measured=measured, **facts,
    )  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")


CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# {name}: a 3.6-million-parameter policy for word problems with exact step truth

A Llama (6 layers, 256 wide, 4 heads on 2 key-value heads, 184-word digit-level tokenizer) trained from nothing on
generated problems, by `workbench.train.family.train_family` (notebook 01, `rebuild=True`). It reads a question and
writes one reasoning step a line; it knows no other language.

| training | |
|---|---|
| data seed | {seed} |
| tokens seen (padding not counted) | {tokens:,} |
| updates | {updates:,} |
| problems | {problems:,} |
| learning rate decays from token | {decay_from:,} |
| loss per solution token, mean over the last 50 updates | {mean_loss:.4f} |

## How good it is

{measured}

| level | {kinds} |
{rule}
{rows}

Trained and measured on generated problems alone: it says nothing about real mathematics.
"""
