r"""Training a generative verifier: a causal LM learns to write critiques and verdicts.

GenRM (Zhang et al. 2024, arXiv 2408.15240). Every labelled step is one lesson, read in the very
segments of `models.generative`. Loss falls on what the verifier has to write itself, the critique c
and the verdict v after it, and on nothing else:

$$L = -\text{mean}_t \log p(c_t | \ldots) - \text{mean} \log p(v | \ldots, c, v \in \{Yes, No\}).$$

The same rows and the same LoRA as for a discriminative PRM. Critiques are `resampled`: a policy
writes the step anew from the same prefix, given its first token only; kept if its verdict, equal or
not to the judged step, agrees with the step's label (which may come from rollouts). No human and no
checker is needed, as in the paper, which filters sampled rationales by whether the solution is
correct.

Optionally (`within`, blind asks only) the words of the judged step are labelled, too: Yes while
they equal those of the critique, No from the first other one on. One verdict a lesson says little
of where to look (see `prm.within_loss`); this is our own.

Deviations: the two means have equal weight (over all tokens a verdict would weigh a twentieth); a
verdict's softmax runs over Yes and No, as it is read (over all words, LoRA spent its updates on
making words likely that pre-training never said: AUC .58 where this gave .65); no loss on solutions
beside; nothing is learnt past the first step labelled bad (as in `prm`). A lesson a step, not a row
a solution: a solution of S steps is read S times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, chain, zip_longest
from operator import and_
from typing import Any

import torch
from scipy.stats import entropy
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from workbench.models.generative import GenerativeFormat, GenerativeVerifier, stream_of
from workbench.models.policy import HFPolicy
from workbench.models.templates import plain_ids
from workbench.train.learner import Batch, Recipe
from workbench.train.prm import step_logps, words_loss
from workbench.train.rows import check_window, pad_id, pad_right, window
from workbench.train.sft import IGNORE
from workbench.train.verifiers import fit
from workbench.types import LabelledSolution, Prefix, Problem, Step


@dataclass(frozen=True)
class Verdict:
    """What one row teaches: whether `steps[-1]` is `good`, and what to write before saying so."""

    problem: Problem
    steps: tuple[str, ...]
    good: bool
    critique: str | None = None


# -- lessons ---------------------------------------------------------------------------------------


def verdicts(rows: Sequence[LabelledSolution]) -> list[Verdict]:
    """A lesson for each labelled step, up to the first one labelled bad."""
    out = []
    for row in rows:
        end = len(row.steps) if row.first_error is None else row.first_error + 1
        labelled = [(t, label) for t, label in enumerate(row.labels[:end], 1) if label is not None]
        out += [Verdict(row.problem, row.steps[:t], bool(label)) for t, label in labelled]
    return out


def resampled(lessons: Sequence[Verdict], policy: HFPolicy, *, seed: int) -> list[Verdict]:
    """The lessons with a critique that the policy wrote, where it agrees with the label.

    It agrees if it equals the judged step and that is good, or does not and that is bad.
    """
    # 1. each step from its opening on
    lasts = [x.steps[-1] for x in lessons]
    openings = [ids[:1] for ids in map(partial(plain_ids, policy.tokenizer), lasts)]
    starts = [
        Prefix(x.problem, (*map(Step, x.steps[:-1]), *(Step("", (first,)) for first in opening)))
        for x, opening in zip(lessons, openings)
    ]
    names = [repr((x.problem.question, x.steps)).encode() for x in lessons]
    keys = [stream_of(seed, name, 0) for name in names]
    sampled = policy.sample(starts, keys, until="step")
    # 2. what agrees
    own = [[*first, *p.ids[len(s.ids) :]] for first, p, s in zip(openings, sampled, starts)]
    texts = [t.strip() for t in policy.tokenizer.batch_decode(own, skip_special_tokens=True)]
    return [
        replace(lesson, critique=text)
        for lesson, opening, text in zip(lessons, openings, texts)
        # text cannot say an unknown word, so none can begin with it
        if plain_ids(policy.tokenizer, text)[:1] == opening
        and (text == lesson.steps[-1].strip()) == lesson.good
    ]


# -- training --------------------------------------------------------------------------------------


def verdict_rows(
    lessons: Sequence[Verdict], tokenizer, form: GenerativeFormat, *, longest: int = 10**9
) -> list[dict]:
    """For each lesson what the loss needs: input_ids, critique, verdict, steps, equal, last_word.

    `critique` and `verdict` hold the id that *follows* where the verifier has to write it, else
    IGNORE; `steps` is 1 at the words of the judged step, whose last one stands at `last_word`;
    `equal` is 1 at those up to which step and critique agree, 0 at the others.
    Lessons of more than `longest` tokens are left out. ValueError if a critique is missing or
    begins unlike its step.
    """
    separator, good, bad = form.lines.ids
    out = []
    for lesson in lessons:
        lines = form.lines.segments(tokenizer, lesson.problem, lesson.steps)
        before, after = form.around(lines, len(lesson.steps))
        written = _written(lesson, tokenizer, form, lines[-1]) if form.writes else []
        parts = [*before, written, *after]
        ids = [*chain(*parts), good if lesson.good else bad]
        # where the critique begins; where the words of the judged step do, and how many they are
        start, judged = sum(map(len, before)), [part is lines[-1] for part in parts].index(True)
        first, words = sum(map(len, parts[:judged])), lines[-1][: -len(separator)]
        opening = words[:1] if "{opening}" in form.ask else []
        row = {
            "input_ids": ids,
            "critique": _placed(written, start - 1, len(ids), IGNORE),
            "verdict": _placed(ids[-1:], len(ids) - 2, len(ids), IGNORE),
            "steps": _placed([1] * len(words), first, len(ids), 0),
            "equal": _placed(_equal(words, [*opening, *written]), first, len(ids), IGNORE),
            "last_word": first + len(words) - 1,
        }
        out.append(row)
    return [row for row in out if len(row["input_ids"]) <= longest]


def _equal(words: Sequence[int], critique: Sequence[int]) -> list[int]:
    """1 for each word up to which both lines agree, then 0.

    >>> _equal([5, 6, 7, 8], [5, 6, 9, 8])
    [1, 1, 0, 0]
    """
    same = (a == b for a, b in zip_longest(words, critique[: len(words)]))
    return [int(agree) for agree in accumulate(same, and_)]


def _placed(values: list[int], start: int, length: int, filler: int) -> list[int]:
    """Values from a place on, in a row of fillers."""
    return [filler] * start + values + [filler] * (length - start - len(values))


def _written(lesson: Verdict, tokenizer, form: GenerativeFormat, step: list[int]) -> list[int]:
    """The ids of a critique that the verifier has to write: without an opening that is given."""
    separator = form.lines.ids[0]
    if lesson.critique is None:
        raise ValueError(f"{lesson.problem.id}: no critique, but the ask {form.ask!r} has one")
    ids = [*plain_ids(tokenizer, lesson.critique), *separator]
    opening = step[: -len(separator)][:1] if "{opening}" in form.ask else []
    if ids[: len(opening)] != opening:
        given = f"{lesson.problem.id}: critique {lesson.critique!r}"
        raise ValueError(f"{given} must begin as the step {lesson.steps[-1]!r}")
    return ids[len(opening) :]


def verdict_batch(rows: Sequence[dict], pad: int) -> dict[str, torch.Tensor]:
    """Pad on the right: all of `verdict_rows` (B, T), but last_word (B, 1)."""
    fillers = {"input_ids": pad, "critique": IGNORE, "verdict": IGNORE, "steps": 0, "equal": IGNORE}
    tensors = {name: pad_right([row[name] for row in rows], x) for name, x in fillers.items()}
    return tensors | {"last_word": torch.tensor([[row["last_word"]] for row in rows])}


def verdict_loss(
    logits: torch.Tensor,
    batch: dict[str, torch.Tensor],
    form: GenerativeFormat,
    totals: Mapping[str, int] | None = None,
    *,
    within: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy of critique tokens plus that of verdicts, over a `verdict_batch`.

    The sum of two means, or, given the update's `totals` (as `_terms` counts them), the batch's
    share of it. `within` weighs that of the words of judged steps. logits (B, T, V)
    """
    _, good, bad = form.lines.ids
    critique, verdict = batch["critique"] != IGNORE, batch["verdict"] != IGNORE  # (B, T)
    totals = totals or _terms(batch)
    margins = (logits[..., good] - logits[..., bad]).float()  # (B, T)
    margin = margins[verdict]  # (B,)
    if form.lines.likelihood:
        words = step_logps(logits, batch, form.lines).gather(1, batch["last_word"])[:, 0]  # (B,)
        margin = margin + form.lines.likelihood * words
    right = (batch["verdict"][verdict] == good).float()  # (B,)
    judged = binary_cross_entropy_with_logits(margin, right, reduction="sum")
    written = cross_entropy(logits[critique].float(), batch["critique"][critique], reduction="sum")
    loss = judged / totals["verdicts"] + written / max(1, totals["critique"])
    if within:
        equal, fault = batch["equal"], _first_other(batch["equal"])  # (B, T)
        loss = loss + within * words_loss(margins, equal, fault, batch["steps"], totals)
    return loss


def _first_other(equal: torch.Tensor) -> torch.Tensor:
    """Where `equal` turns from 1, or from before the step, to 0; (B, T)"""
    return (equal == 0) & (equal.roll(1, 1) != 0)


def _terms(batch: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """What the means of `verdict_loss` are taken over."""
    masks = {name: batch[name] != IGNORE for name in ("critique", "verdict")}
    masks |= {"all_words": batch["steps"] > 0, "faults": _first_other(batch["equal"])}
    terms = {name: int(mask.sum()) for name, mask in masks.items()}
    return {"verdicts": terms.pop("verdict"), **terms}


def train_genrm(
    model: torch.nn.Module,
    tokenizer,
    lessons: Sequence[Verdict],
    *,
    recipe: Recipe | None = None,
    form: GenerativeFormat | None = None,
    within: float = 0.0,
    seed: int,
    **options: Any,
) -> tuple[GenerativeVerifier, list[dict[str, float]]]:
    """Fine-tune `model` (changed in place) on verdicts; returns the verifier and the log.

    `within` weighs the labels of words (see above), `options` are those of `verifiers.fit`. Warns
    of lessons longer than the model reads, which are left out; ValueError if none is left, and for
    `within` where no step follows a critique.
    """
    if within and not (form and 0 <= form.ask.find("{critique}") < form.ask.find("{step}")):
        raise ValueError(f"within={within}: need an ask in which the step follows a critique")
    form, longest = (form or GenerativeFormat()).bound(tokenizer), window(model)
    data = verdict_rows(lessons, tokenizer, form, longest=longest)
    check_window(len(data), len(lessons), longest, "verdicts")
    return fit(
        model, partial(GenerativeVerifier, tokenizer=tokenizer, form=form), data,
        partial(verdict_loss, form=form, within=within),
        collate=partial(_batch, pad=pad_id(tokenizer)), recipe=recipe or Recipe(), seed=seed,
        trivial_loss=_trivial_loss(data), **options,
    )  # fmt: skip


def _batch(rows: Sequence[dict], pad: int) -> Batch:
    tensors = verdict_batch(rows, pad)
    return Batch(tensors, _terms(tensors), sum(len(row["input_ids"]) for row in rows), len(rows))


def _trivial_loss(data: Sequence[dict]) -> float:
    """What the two means are for a model that knows no more than how often each token comes."""
    learnt = [[i for row in data for i in row[name]] for name in ("critique", "verdict")]
    counts = [Counter(i for i in ids if i != IGNORE) for ids in learnt]
    return float(sum(entropy(list(found.values())) for found in counts if found))
