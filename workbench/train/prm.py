r"""Training a process reward model: LoRA on a causal LM, binary cross-entropy at the step
separators only.

With $d_i = \text{logit}_{good} - \text{logit}_{bad}$ at the last id of step i's separator (plus, if
the format says so, $\lambda \log P(\text{step}_i)$ under the same model: see `step_format`), and
$y_i \in [0, 1]$ its target,

$$L = -\frac{1}{S} \sum_i y_i \log \sigma(d_i) + (1 - y_i) \log (1 - \sigma(d_i)),$$

over all S labelled steps of a batch. Hard labels are y in {0, 1} (Math-Shepherd, arXiv 2312.08935),
soft ones the estimated value itself (MiPS, 2402.02658). Nothing else of the text carries loss. The
position and the logits are those that `StepVerifier` reads, for both go through `StepFormat`.

Deviations: the softmax runs over the two label tokens, not over the whole vocabulary as in
Math-Shepherd's code, so a soft target needs no second loss; the likelihood term; and nothing is
learnt past the first step labelled bad (as in PRM800K): what follows a fault is wrong whatever it
says, which teaches nothing about how a wrong step looks. Taught in notebook 03.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from workbench.models.checkpoints import portable, without_library_notes
from workbench.models.quantised import check_trainable
from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.train import watched
from workbench.train.sft import IGNORE
from workbench.types import LabelledSolution


@dataclass(frozen=True)
class PRMRecipe:
    """How to train: LoRA rank (0: all weights), its scaling and dropout, rates, batch size in
    solutions, epochs."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    learning_rate: float = 1e-3
    batch_size: int = 64
    epochs: float = 2.0
    soft: bool = False  # targets are `values` instead of `labels`
    past_error: bool = False  # steps after the first one labelled bad carry loss, too
    weight_decay: float = 0.0
    warmup_ratio: float = 0.05


def examples(
    rows: Sequence[LabelledSolution],
    tokenizer,
    form: StepFormat,
    *,
    soft: bool = False,
    past_error: bool = False,
    longest: int = 10**9,
):
    """For each solution {input_ids, targets, steps}: what `step_loss` needs, one entry per token.

    `targets` holds the target of a step at the last id of its separator, IGNORE elsewhere; `steps`
    the number of the step that a word belongs to, from 1, and 0 for question and separators. A
    solution ends with the first step labelled bad (unless `past_error`) or at the step border
    before token `longest`; one without a labelled step left is left out. ValueError if soft targets
    are asked of rows without values.

    >>> from workbench.models.tokenizer import build_tokenizer
    >>> from workbench.types import Problem
    >>> problem = Problem("p", "quantities", "How many coins does Ava have? Ava has 5 coins.")
    >>> solution = LabelledSolution(problem, ("The answer is 5 .",), (1,))
    >>> tokenizer = build_tokenizer()
    >>> (row,) = examples([solution], tokenizer, StepFormat().bound(tokenizer))
    >>> [(i, target) for i, target in enumerate(row["targets"]) if target != IGNORE], len(row["input_ids"])
    ([(17, 1.0)], 18)
    >>> row["steps"]
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0]
    """
    out = []
    for row in rows:
        segments = form.segments(tokenizer, row.problem, row.steps)
        ids, targets, steps = (
            list(segments[0]),
            [float(IGNORE)] * len(segments[0]),
            [0] * len(segments[0]),
        )
        for number, (segment, target) in enumerate(
            zip(segments[1:], _wanted(row, soft, past_error)), 1
        ):
            if len(ids) + len(segment) > longest:
                break
            words = len(segment) - len(form.ids[0])
            ids += segment
            targets += [float(IGNORE)] * (len(segment) - 1) + [
                float(IGNORE if target is None else target)
            ]
            steps += [number] * words + [0] * len(form.ids[0])
        if any(t != IGNORE for t in targets):
            out.append({"input_ids": ids, "targets": targets, "steps": steps})
    return out


def _wanted(row: LabelledSolution, soft: bool, past_error: bool) -> tuple[float | None, ...]:
    """The targets of a solution's steps, up to the first one labelled bad unless `past_error`."""
    if soft and row.values is None:
        raise ValueError(f"{row.problem.id} has no values: soft targets need them")
    end = len(row.labels) if past_error or row.first_error is None else row.first_error + 1
    return (row.values if soft else row.labels)[:end]


def collate(rows: list[dict], pad: int) -> dict[str, torch.Tensor]:
    """Pad on the right: input_ids, attention_mask, targets and steps, (B, T) each."""
    width = max(len(row["input_ids"]) for row in rows)

    def padded(name, filler):
        return torch.tensor([row[name] + [filler] * (width - len(row[name])) for row in rows])

    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    mask = (torch.arange(width) < lengths[:, None]).long()
    targets = padded("targets", float(IGNORE))
    return {
        "input_ids": padded("input_ids", pad),
        "attention_mask": mask,
        "targets": targets,
        "steps": padded("steps", 0),
    }


def margins(logits: torch.Tensor, batch: dict[str, torch.Tensor], form: StepFormat) -> torch.Tensor:
    """Log-odds that the step ending at a position is good, (B, T). logits (B, T, V)"""
    separator, good, bad = form.ids
    margin = (logits[..., good] - logits[..., bad]).float()  # (B, T)
    if form.likelihood:
        margin = margin + form.likelihood * said(logits, batch, form).roll(len(separator), 1)
    return margin


def said(logits: torch.Tensor, batch: dict[str, torch.Tensor], form: StepFormat) -> torch.Tensor:
    """log P of the step that a word belongs to, plus that no word comes after this one, (B, T).
    logits (B, T, V)"""
    logp = logits.float().log_softmax(-1)  # (B, T, V)
    over = logp[..., form.closers].logsumexp(-1)  # (B, T) that no word comes next
    of_word = logp[:, :-1].gather(2, batch["input_ids"][:, 1:, None])[..., 0]  # (B, T - 1)
    words = batch["steps"]  # (B, T)
    of_step = of_word.new_zeros(len(words), int(words.max()) + 1).scatter_add(
        1, words[:, 1:], of_word
    )  # (B, 1 + S)
    of_step = of_step * (torch.arange(of_step.shape[1], device=words.device) > 0)  # 0: no step
    return of_step.gather(1, words) + over


def step_loss(
    logits: torch.Tensor, batch: dict[str, torch.Tensor], form: StepFormat
) -> torch.Tensor:
    """Mean binary cross-entropy over the labelled steps of a batch that `collate` made. logits (B,
    T, V)"""
    labelled = batch["targets"] != IGNORE  # (B, T)
    margin = margins(logits, batch, form)[labelled]  # (S,)
    return binary_cross_entropy_with_logits(margin, batch["targets"][labelled].float())


def balance(rows: Sequence[LabelledSolution]) -> dict[str, int]:
    """How many labels say good, bad and nothing, up to each solution's first bad one: what hard
    training sees.

    >>> from workbench.types import Problem
    >>> balance([LabelledSolution(Problem("p", "math", "?"), ("a", "b", "c", "d"), (1, None, 0, 0))])
    {'good': 1, 'bad': 1, 'none': 1}
    """
    seen = [label for row in rows for label in _wanted(row, soft=False, past_error=False)]
    return {"good": seen.count(1), "bad": seen.count(0), "none": seen.count(None)}


def train_prm(
    model: torch.nn.Module,
    tokenizer,
    rows: Sequence[LabelledSolution],
    *,
    recipe: PRMRecipe | None = None,
    form: StepFormat | None = None,
    seed: int,
    held_out: Callable[[StepVerifier], dict[str, float]] | None = None,
    evaluations: int = 4,
    keep: str | None = None,
    patience: int | None = None,
    checkpoints: str | Path | None = None,
    bf16: bool = False,
    loss: Callable[..., torch.Tensor] = step_loss,
) -> tuple[StepVerifier, list[dict]]:
    """Fine-tune `model` (changed in place) on labelled solutions by transformers' `Trainer`.

    `held_out` measures the verifier `evaluations` times along the way; with `keep`, the name of one
    of its measures (more is better), the weights of the best time are those that remain, and after
    `patience` times without a better one training ends. `checkpoints` names a folder: what is
    needed to go on is written there at each of these times, and a call that finds it there goes on
    from the last one, exactly. `loss` takes logits, a batch of `collate` and the format. Returns
    the verifier and the log, rows of {update, train/loss} or {update, measures ...}. `save` keeps
    it.

    Warns of solutions cut at a step border because the model reads no further. ValueError if no row
    holds a labelled step, and for `keep` or `patience` without what they need.
    """
    recipe, form = recipe or PRMRecipe(), (form or StepFormat()).bound(tokenizer)
    data = _data(
        rows,
        tokenizer,
        form,
        recipe,
        getattr(model.config, "max_position_embeddings", None) or 10**9,
    )
    torch.manual_seed(seed)
    with without_library_notes():
        model = with_lora(model, recipe)
        verifier = StepVerifier(model, tokenizer, form)
        log = watched.train(
            model, data, recipe, lambda model, batch: loss(_logits(model, batch), batch, verifier.form),
            collate=lambda batch: collate(batch, tokenizer.pad_token_id), seed=seed,
            held_out=held_out and (lambda: held_out(verifier)), evaluations=evaluations, keep=keep, patience=patience,
            checkpoints=checkpoints, bf16=bf16,
        )  # fmt: skip
    model.eval()
    return verifier, log


def _logits(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).logits


def _data(
    rows: Sequence[LabelledSolution], tokenizer, form: StepFormat, recipe: PRMRecipe, longest: int
) -> list[dict]:
    data = examples(
        rows, tokenizer, form, soft=recipe.soft, past_error=recipe.past_error, longest=longest
    )
    if not data:
        raise ValueError(f"none of {len(rows)} solutions holds a labelled step")
    wanted = sum(
        t is not None for row in rows for t in _wanted(row, recipe.soft, recipe.past_error)
    )
    kept = sum(t != IGNORE for row in data for t in row["targets"])
    if kept < wanted:
        warnings.warn(
            f"{wanted - kept} of {wanted} labelled steps lie beyond {longest} tokens: cut off",
            stacklevel=3,
        )
    return data


def with_lora(model: torch.nn.Module, recipe: Any, *, task: str = "CAUSAL_LM") -> torch.nn.Module:
    """The model under adapters of the recipe's rank, alpha, dropout and targets, which alone will
    train.

    Rank 0 leaves it as it is, to train whole: a ValueError if its weights are in 4 bits.
    """
    if not recipe.rank:
        check_trainable(model)
        return model
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


def save(verifier: StepVerifier, folder: str | Path) -> None:
    """Write adapter (or whole model), tokenizer and step format; `models.load_verifier` reads them
    back."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    adapters = getattr(verifier.model, "peft_config", {})
    for config in adapters.values():
        config.base_model_name_or_path = portable(config.base_model_name_or_path)
    verifier.model.save_pretrained(folder, **({"save_embedding_layers": False} if adapters else {}))
    verifier.tokenizer.save_pretrained(folder)
    verifier.form.save(folder)
