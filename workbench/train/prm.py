r"""Training a process reward model: LoRA on a causal LM, or all its weights, at step separators.

With $d_i = \text{logit}_{good} - \text{logit}_{bad}$ at the last id of step i's separator (plus, if
the format says so, $\lambda \log P(\text{step}_i)$ under the same model: see `step_format`), and
$y_i \in [0, 1]$ its target,

$$L = -\frac{1}{S} \sum_i y_i \log \sigma(d_i) + (1 - y_i) \log (1 - \sigma(d_i)),$$

over all S labelled steps of a batch. Hard labels are y in {0, 1} (Math-Shepherd, arXiv 2312.08935),
soft ones the estimated value itself (MiPS, 2402.02658). Unless asked, nothing else of the text
carries loss. Position and logits are those that `StepVerifier` reads: both use `StepFormat`.

Optionally (`language`) the host goes on to learn to write what stands in good steps, as in Cobbe
et al. 2021 (arXiv 2110.14168). And optionally (`within`) the words of steps are labelled, too: our
own, see `within_loss`. `StepVerifier` reads separators alone, however it was trained.

Deviations: the softmax runs over the two label tokens, not over the whole vocabulary as in
Math-Shepherd's code, so a soft target needs no second loss; the likelihood term; and nothing is
learnt past the first step labelled bad (as in PRM800K): what follows a fault is wrong whatever it
says, which teaches nothing about how a wrong step looks. Taught in notebook 03.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from scipy.stats import entropy
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid

from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.train.learner import Batch, Recipe
from workbench.train.rows import check_window, logits_from, pad_id, pad_right, window
from workbench.train.sft import IGNORE
from workbench.train.verifiers import fit
from workbench.types import LabelledSolution


def examples(
    rows: Sequence[LabelledSolution],
    tokenizer,
    form: StepFormat,
    *,
    soft: bool = False,
    past_error: bool = False,
    longest: int = 10**9,
) -> list[dict[str, Any]]:
    """For each solution {input_ids, targets, steps, good, whole}: what a loss on its steps needs.

    `targets` holds the target of a step at the last id of its separator, IGNORE elsewhere; `steps`
    the number of the step that a word belongs to, from 1, and 0 for question and separators; `good`
    says which tokens, separators too, stand in a step whose target is above one half. A
    solution ends with the first step labelled bad (unless `past_error`) or at the step border
    before token `longest`; one without a labelled step left is left out. `whole` is False where it
    is cut there, or was when it was written (`meta["stop"]` is "length"): its ending is unknown.
    ValueError if soft targets are asked of rows without values.

    >>> from workbench.models.tokenizer import build_tokenizer
    >>> from workbench.types import Problem
    >>> problem = Problem("p", "quantities", "How many coins does Ava have? Ava has 5 coins.")
    >>> solution = LabelledSolution(problem, ("The answer is 5 .",), (1,))
    >>> tokenizer = build_tokenizer()
    >>> (row,) = examples([solution], tokenizer, StepFormat().bound(tokenizer))
    >>> len(row["input_ids"]), [(i, y) for i, y in enumerate(row["targets"]) if y != IGNORE]
    (18, [(17, 1.0)])
    >>> row["steps"]
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0]
    """
    out = []
    for solution in rows:
        lines = form.segments(tokenizer, solution.problem, solution.steps)
        wanted = _wanted(solution, soft, past_error)
        row = _laid_out(lines, wanted, len(form.ids[0]), longest)
        row["whole"] = row["whole"] and solution.meta.get("stop") != "length"
        if any(target != IGNORE for target in row["targets"]):
            out.append(row)
    return out


def _laid_out(
    lines: Sequence[list[int]], wanted: Sequence[float | None], mark: int, longest: int
) -> dict[str, Any]:
    """A row of `examples`: question and steps, each with a separator of `mark` ids."""
    question, *segments = lines
    ids, targets = [*question], [float(IGNORE)] * len(question)
    steps, good, whole = [0] * len(question), [False] * len(question), True
    for number, (segment, target) in enumerate(zip(segments, wanted), 1):
        whole = len(ids) + len(segment) <= longest
        if not whole:
            break
        ids += segment
        targets += [float(IGNORE)] * (len(segment) - 1)
        targets.append(float(IGNORE if target is None else target))
        steps += [number] * (len(segment) - mark) + [0] * mark
        good += [target is not None and target > 0.5] * len(segment)
    return {"input_ids": ids, "targets": targets, "steps": steps, "good": good, "whole": whole}


def _wanted(row: LabelledSolution, soft: bool, past_error: bool) -> tuple[float | None, ...]:
    """The targets of a solution's steps, up to the first one labelled bad unless `past_error`."""
    if soft and row.values is None:
        raise ValueError(f"{row.problem.id} has no values: soft targets need them")
    wanted = [t for t in (row.values if soft else row.labels) if t is not None]
    if wrong := [t for t in wanted if not 0 <= t <= 1]:
        raise ValueError(f"{row.problem.id}: target {wrong[0]} of a step, need None or 0 to 1")
    end = len(row.labels) if past_error or row.first_error is None else row.first_error + 1
    return (row.values if soft else row.labels)[:end]


def check_targets(
    data: Sequence[dict],
    rows: Sequence[LabelledSolution],
    longest: int,
    *,
    soft: bool = False,
    past_error: bool = False,
) -> list[float]:
    """All targets in `examples`; a warning of those that were cut off, ValueError for none."""
    wanted = [t for row in rows for t in _wanted(row, soft, past_error) if t is not None]
    targets = [t for row in data for t in row["targets"] if t != IGNORE]
    check_window(len(targets), len(wanted), longest, "labelled steps")
    return targets


def collate(rows: Sequence[dict], pad: int) -> dict[str, torch.Tensor]:
    """Pad on the right: input_ids, targets, steps and good (B, T), and whole (B,)."""
    fillers = {"input_ids": pad, "targets": float(IGNORE), "steps": 0, "good": False}
    tensors = {name: pad_right([row[name] for row in rows], x) for name, x in fillers.items()}
    return tensors | {"whole": torch.tensor([row["whole"] for row in rows])}


def margins(logits: torch.Tensor, batch: dict[str, torch.Tensor], form: StepFormat) -> torch.Tensor:
    """Log-odds that the step ending at a position is good, (B, T). logits (B, T, V)"""
    separator, good, bad = form.ids
    margin = (logits[..., good] - logits[..., bad]).float()  # (B, T)
    if form.likelihood:
        margin = margin + form.likelihood * step_logps(logits, batch, form).roll(len(separator), 1)
    return margin


def step_logps(
    logits: torch.Tensor, batch: dict[str, torch.Tensor], form: StepFormat
) -> torch.Tensor:
    """log P of a word's step, plus that no word comes after this one, (B, T). logits (B, T, V)"""
    logp = logits.float().log_softmax(-1)  # (B, T, V)
    over = logp[..., form.closers].logsumexp(-1)  # (B, T) that no word comes next
    of_word = logp[:, :-1].gather(2, batch["input_ids"][:, 1:, None])[..., 0]  # (B, T - 1)
    words = batch["steps"]  # (B, T)
    of_step = of_word.new_zeros(len(words), int(words.max()) + 1)  # (B, 1 + S)
    of_step = of_step.scatter_add(1, words[:, 1:], of_word)
    of_step = of_step * (torch.arange(of_step.shape[1], device=words.device) > 0)  # 0: no step
    return of_step.gather(1, words) + over


def step_loss(
    logits: torch.Tensor,
    batch: dict[str, torch.Tensor],
    form: StepFormat,
    totals: Mapping[str, int] | None = None,
    *,
    language: float = 0.0,
    within: float = 0.0,
) -> torch.Tensor:
    """Binary cross-entropy over the labelled steps of `collate`'s batch. logits (B, T, V)

    The mean, or, given how many `steps` the update has in total, the batch's share of its mean.
    `language` weighs the next-token loss on the words of steps labelled good (see `word_loss`),
    `within` the loss on the words of all labelled steps (see `within_loss`).
    """
    labelled = batch["targets"] != IGNORE  # (B, T)
    margin = margins(logits, batch, form)[labelled]  # (S,)
    targets = batch["targets"][labelled].float()  # (S,)
    loss = binary_cross_entropy_with_logits(margin, targets, reduction="sum")
    loss = loss / (totals["steps"] if totals else len(margin))
    if language:
        loss = loss + language * word_loss(logits, batch, totals)
    return loss + within * within_loss(logits, batch, form, totals) if within else loss


def within_loss(
    logits: torch.Tensor,
    batch: Mapping[str, torch.Tensor],
    form: StepFormat,
    totals: Mapping[str, int] | None = None,
) -> torch.Tensor:
    """Cross-entropy of the two labels at the *words* of labelled steps. logits (B, T, V)

    The fault of a bad step lies likely at its least likely word, as the model itself reads it now:
    there it is surprised. From there on the step is bad. Good words are many, so all of them count
    half; of what a bad step counts, its fault is one half and the mean from there on the other.
    """
    targets, fault = word_targets(logits.detach(), batch, form)  # (B, T) both
    margin = (logits[..., form.ids[1]] - logits[..., form.ids[2]]).float()  # (B, T)
    return words_loss(margin, targets, fault, batch["steps"], totals or word_counts(batch))


def words_loss(
    margin: torch.Tensor,
    targets: torch.Tensor,
    fault: torch.Tensor,
    steps: torch.Tensor,
    totals: Mapping[str, int],
) -> torch.Tensor:
    """Cross-entropy of labelled words, weighed as `within_loss` says; all (B, T).

    `targets` are 1, 0 or IGNORE, `fault` is true at the first bad word of a step, `steps` numbers
    the words; `totals` counts `all_words` and `faults` of the update.
    """
    bad = targets == 0
    size = margin.new_zeros(len(bad), int(steps.max()) + 1)
    size = size.scatter_add(1, steps, bad.float()).gather(1, steps)  # (B, T) bad words of its step
    weight = (fault + bad / size.clamp(min=1)) / 2  # (B, T)
    of_bad = -(weight * logsigmoid(-margin))[bad].sum() / max(1, totals["faults"])
    of_good = -logsigmoid(margin[targets == 1]).sum() / max(1, totals["all_words"])
    return (of_bad + of_good) / 2


def word_targets(
    logits: torch.Tensor, batch: Mapping[str, torch.Tensor], form: StepFormat
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of the words of steps, and which words are the faults of bad ones; (B, T) both.

    1 at words of good steps and before the fault of bad ones, 0 from there on, else IGNORE. The
    fault is the first word of least probability. logits (B, T, V)
    """
    ids, steps, labels = (batch[name] for name in ("input_ids", "steps", "targets"))  # (B, T)
    ends = labels != IGNORE
    of_step = labels.new_full((len(ids), int(steps.max()) + 1), IGNORE)  # (B, 1 + S)
    number = steps.roll(len(form.ids[0]), 1)[ends]  # of the step before a separator
    of_step[ends.nonzero()[:, 0], number] = labels[ends]
    logp = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    logp = torch.cat([logp.new_zeros(len(ids), 1), logp], 1)  # (B, T)
    low = logp.new_zeros(of_step.shape).scatter_reduce(1, steps, logp, "amin")  # (B, 1 + S)
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)  # (B, T)
    lowest = torch.where(logp == low.gather(1, steps), place, ids.shape[1])
    first = place.new_full(of_step.shape, ids.shape[1]).scatter_reduce(1, steps, lowest, "amin")
    fault, label = first.gather(1, steps), of_step.gather(1, steps)  # (B, T) of a word's step
    known = (steps > 0) & (label != IGNORE)
    targets = torch.where(known, ((label > 0.5) | (place < fault)).float(), float(IGNORE))
    return targets, (targets == 0) & (place == fault)


def word_loss(
    logits: torch.Tensor, batch: Mapping[str, torch.Tensor], totals: Mapping[str, int] | None = None
) -> torch.Tensor:
    """Next-token cross-entropy on the words of steps labelled good: the host goes on to write.

    After Cobbe et al. 2021 (arXiv 2110.14168), whose verifiers keep the language modelling loss.
    """
    wanted = batch["good"][:, 1:]  # (B, T - 1)
    words = batch["input_ids"][:, 1:][wanted]  # (W,)
    loss = cross_entropy(logits[:, :-1][wanted].float(), words, reduction="sum")
    return loss / max(1, totals["words"] if totals else len(words))


def train_prm(
    model: torch.nn.Module,
    tokenizer,
    rows: Sequence[LabelledSolution],
    *,
    recipe: Recipe | None = None,
    soft: bool = False,
    past_error: bool = False,
    form: StepFormat | None = None,
    seed: int,
    loss: Callable[..., torch.Tensor] = step_loss,
    trivial_loss: float | None = None,
    verifier_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[StepVerifier, list[dict[str, float]]]:
    """Fine-tune `model` (changed in place) on labelled solutions; returns the verifier and the log.

    `soft`: targets are `values` instead of `labels`. `past_error`: steps after the first one
    labelled bad count, too. `loss` takes what `step_loss` takes; `trivial_loss` is what it is for
    one who knows nothing (the entropy of the labels). `verifier_options` go to `StepVerifier`,
    `options` are those of `verifiers.fit`. `models.verifier.save` keeps the verifier.

    Warns of steps cut off because the model reads no further. ValueError if no row holds a labelled
    step, and for options without what they need.
    """
    # 1. rows with a target at the end of each labelled step
    form, longest = (form or StepFormat()).bound(tokenizer), window(model)
    data = examples(rows, tokenizer, form, soft=soft, past_error=past_error, longest=longest)
    targets = check_targets(data, rows, longest, soft=soft, past_error=past_error)
    # 2. what one who knows nothing reaches
    if trivial_loss is None:
        trivial_loss = float(entropy([sum(targets), len(targets) - sum(targets)]))
    # 3. training
    made = {"tokenizer": tokenizer, "form": form, **(verifier_options or {})}
    return fit(
        model, partial(StepVerifier, **made), data, partial(loss, form=form),
        collate=partial(_batch, pad=pad_id(tokenizer)), recipe=recipe or Recipe(), seed=seed,
        trivial_loss=trivial_loss,
        outputs=partial(_logits_of_steps, mark=len(form.ids[0])), **options,
    )  # fmt: skip


def _logits_of_steps(
    model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], mark: int
) -> torch.Tensor:
    """Logits (B, T, V) from where a step's first word, or its separator of `mark` ids, is next."""
    words_next = tensors["steps"].roll(-1, 1) > 0
    marks_next = (tensors["targets"] != IGNORE).roll(-mark, 1)  # of a step without words, too
    return logits_from(model, tensors["input_ids"], words_next | marks_next)


def _batch(rows: Sequence[dict], pad: int) -> Batch:
    tensors = collate(rows, pad)
    steps = int((tensors["targets"] != IGNORE).sum())
    terms = {"steps": steps, "rows": len(rows), "cut": int((~tensors["whole"]).sum())}
    terms["words"] = int(tensors["good"].sum())
    terms |= word_counts(tensors)
    return Batch(tensors, terms, sum(len(row["input_ids"]) for row in rows), len(rows))


def word_counts(batch: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The words of steps, and the faults among them: one in each step labelled bad."""
    bad = (batch["targets"] != IGNORE) & (batch["targets"] <= 0.5)
    return {"all_words": int((batch["steps"] > 0).sum()), "faults": int(bad.sum())}
