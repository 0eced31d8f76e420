"""The shipped policies: one trunk of training, three checkpoints of it.

Weak, base and strong are one model at three budgets. The trunk trains at a constant learning rate;
where a member's decay begins, the trunk's state is copied ("forked"), its learning rate brought
down on the tokens that come next, and the result saved as an ordinary Hugging Face checkpoint; the
trunk goes on. Resumable: what a killed run had saved is not done again, and goes on bit-equal.
Taught in notebook 01.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import torch

from workbench.analyse.scaling import correctness, interval
from workbench.drive import solve
from workbench.models import load_policy
from workbench.models.checkpoints import weights_digest
from workbench.models.quantised import fast_dtype
from workbench.models.tokenizer import build_tokenizer
from workbench.search import METHODS
from workbench.train.learner import Batch, Learner, Recipe
from workbench.train.loop import run_of, train
from workbench.train.sft import RECIPE, batches, curriculum, next_token_loss, repeats
from workbench.types import Problem


class Milestones(NamedTuple):
    """In tokens: where the rate begins to fall, where it would be zero, where training stops."""

    decay_from: int
    decay_to: int
    stop: int


POLICIES = {  # base is strong half-way: warm, so its samples differ and one of many is often right
    "weak": Milestones(4_625_964, 5_400_000, 5_400_000),
    "base": Milestones(7_719_286, 25_000_000, 12_349_230),
    "strong": Milestones(7_719_286, 25_000_000, 25_000_000),
}

REPEATS = 400  # updates on random tokens said twice, before the first lesson


def new_model(seed: int, *, layers: int = 6, width: int = 256) -> torch.nn.Module:
    """A Llama of 3.6 M parameters, or another size, with random weights.

    Four heads share two key-value heads, so the width must be a multiple of 8 (rotary positions
    take a head's numbers in pairs).
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        head_dim=width // 4, max_position_embeddings=512,
        bos_token_id=None, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def training_data(seed: int, recipe: Recipe, *, skip: int = 0) -> Iterator[list[Batch]]:
    """The policies' endless updates, from number `skip` on: what an interrupted run saw next."""
    of = {"batch_tokens": recipe.batch_tokens, "seed": seed}
    tokenizer = build_tokenizer()
    warm_up = islice(repeats(tokenizer, **of), REPEATS)
    lessons = batches(curriculum(seed), tokenizer, micro_tokens=recipe.micro_tokens, **of)
    return islice(chain(warm_up, lessons), skip, None)


def train_policies(
    folder: str | Path,
    *,
    seed: int,
    members: Mapping[str, Milestones] = POLICIES,
    recipe: Recipe = RECIPE,
    save_every: int = 400,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Train `members` in order of where their decay begins; yields (run, row of the loop's log).

    Checkpoints go to `folder/<name>`, those on the way, every `save_every` updates, to
    `folder/<run>_<tokens>` for the learning curve, and with the trunk's its state to
    `folder/trunk.pt`. Call again to go on; ValueError for another recipe, seed or model.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state, model = folder / "trunk.pt", new_model(seed)
    run = run_of(recipe, seed=seed, **{"host weights": weights_digest(model)})
    trunk = Learner(model, recipe, dtype=fast_dtype())
    if state.exists():
        trunk.load(state, run)
    data = training_data(seed, recipe, skip=trunk.done.updates)
    for name, (decay_from, decay_to, stop) in members.items():
        if (folder / name / "config.json").exists():
            continue
        # 1. the trunk, on to where this member's decay begins
        for row in train(trunk, data, next_token_loss, until=decay_from):
            yield "trunk", row
            if row["update"] % save_every == 0:
                trunk.save(state, run)
                save_checkpoint(trunk, folder / f"trunk_{row['train/tokens']}", seed=seed)
        trunk.save(state, run)
        # 2. the member: a copy of the trunk whose rates fall
        falling = replace(recipe, decay=1 - decay_from / decay_to)
        fork = Learner(new_model(seed), falling, dtype=fast_dtype())
        fork.load(state, run)
        ahead = training_data(seed, recipe, skip=fork.done.updates)
        losses: deque[float] = deque(maxlen=50)
        for row in train(fork, ahead, next_token_loss, until=decay_to):
            losses.append(row["train/loss"])
            yield name, row
            if row["update"] % save_every == 0:
                save_checkpoint(fork, folder / f"{name}_{row['train/tokens']}", seed=seed)
            if row["train/tokens"] >= stop:
                break
        facts = {"mean_loss": sum(losses) / len(losses), "decay_from": decay_from}
        save_checkpoint(fork, folder / name, seed=seed, **facts)


def learning_curve(
    folder: str | Path, member: str, *, problems: Sequence[Problem], samples: int, seed: int
) -> Iterator[dict]:
    """pass@1 by level on the way to a member: rows {tokens, level, problems, value, low, high}."""
    passed = [path for run in ("trunk", member) for path in Path(folder).glob(f"{run}_*/")]
    for tokens, path in sorted((int(path.name.split("_")[1]), path) for path in passed):
        policy = load_policy(path, dtype="fast", cache_tokens=0)
        results = solve(problems, METHODS["sample"], policy=policy, seed=seed, n=samples)
        share = correctness(results).mean(1)
        for level in sorted({p.level for p in problems}):
            own = share[[p.level == level for p in problems]]
            row = {"tokens": tokens, "level": level, "problems": len(own)}
            yield row | interval(own, seed=seed)


def save_checkpoint(learner: Learner, folder: Path, **facts: float) -> None:
    """Write a Hugging Face checkpoint in bfloat16, whole, with tokenizer and training facts."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed and comes by again
    copy.deepcopy(learner.model).to(torch.bfloat16).save_pretrained(part)
    build_tokenizer().save_pretrained(part)
    facts = {**dict(zip(("updates", "tokens", "problems"), learner.done)), **facts}
    (part / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    part.rename(folder)  # whole or not at all


def write_card(folder: Path, table: Sequence[Mapping], measured: str) -> None:
    """README.md of a checkpoint: how it was trained (from training.json) and how good it is.

    `table` has rows {level, kind, value, low, high}; `measured` says on what.
    """
    facts = json.loads((folder / "training.json").read_text())
    lines: dict[object, list[str]] = {}
    for row in table:
        cell = f"{row['value']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
        lines.setdefault(row["level"], [str(row["level"])]).append(cell)
    heads = ["level", *dict.fromkeys(row["kind"] for row in table)]
    rows = [f"| {' | '.join(row)} |" for row in (heads, *lines.values())]
    rows.insert(1, "|---" * len(heads) + "|")
    text = CARD.format(name=folder.name, results="\n".join(rows), measured=measured, **facts)
    (folder / "README.md").write_text(text, encoding="utf-8")


CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# {name}: a 3.6-million-parameter policy for word problems with exact step truth

A Llama (6 layers, 256 wide, 4 heads on 2 key-value heads, 184-word digit-level tokenizer), trained
from nothing on generated problems by `workbench.train.shipped.train_policies` (notebook 01,
`rebuild=True`). It reads a question and writes one reasoning step a line; it knows no other
language.

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

{results}

Trained and measured on generated problems alone: it says nothing about real mathematics.
"""
