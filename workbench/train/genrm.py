r"""Training a generative verifier: a causal LM learns to write critiques and verdicts (GenRM, arXiv
2408.15240).

Every labelled step is one lesson, read in the very segments of `models.generative`. Loss falls on
what the verifier has to write itself, the critique c and the verdict v after it, and on nothing
else:

$$L = -\text{mean}_t \log p(c_t | \ldots) - \text{mean} \log p(v | \ldots, c, v \in \{Yes, No\}).$$

The same rows and the same LoRA as for a discriminative PRM. Where critiques come from:

- `exact`: the checker recomputes the step from the values standing so far; a ceiling, for no real
  problem has it.
- `resampled`: a policy writes the step anew from the same prefix, given its first token only; kept
  if its verdict, equal or not to the judged step, agrees with the step's label (which may come from
  rollouts). No human and no checker is needed, as in the paper, which filters sampled rationales by
  whether the solution is correct.

Deviations: the two means have equal weight (over all tokens a verdict would weigh a twentieth); a
verdict's softmax runs over Yes and No, as it is read (over all words, LoRA spent its updates on
making words likely that pre-training never said: AUC .58 where this gave .65); no loss on solutions
beside; nothing is learnt past the first step labelled bad (as in `prm`). A lesson a step, not a row
a solution: a solution of S steps is read S times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from workbench.models.checkpoints import without_library_notes
from workbench.models.generative import GenerativeFormat, GenerativeVerifier, stream_of
from workbench.models.policy import HFPolicy
from workbench.problems import quantities
from workbench.train import prm, sft, watched
from workbench.train.sft import IGNORE
from workbench.types import LabelledSolution, Prefix, Problem, Step


@dataclass(frozen=True)
class Lesson:
    """What one row teaches: whether `steps[-1]` is `good`, and what to write before saying so."""

    problem: Problem
    steps: tuple[str, ...]
    good: bool
    critique: str | None = None


# -- lessons ---------------------------------------------------------------------------------------


def verdicts(rows: Sequence[LabelledSolution], *, past_error: bool = False) -> list[Lesson]:
    """A lesson without critique for each labelled step, up to the first one labelled bad unless
    `past_error`."""
    out = []
    for row in rows:
        end = len(row.steps) if past_error or row.first_error is None else row.first_error + 1
        labelled = [(t, label) for t, label in enumerate(row.labels[:end], 1) if label is not None]
        out += [Lesson(row.problem, row.steps[:t], bool(label)) for t, label in labelled]
    return out


def exact(lessons: Sequence[Lesson]) -> list[Lesson]:
    """The lessons with the checker's critiques."""
    return [replace(lesson, critique=recompute(lesson.problem, lesson.steps)) for lesson in lessons]


def recompute(problem: Problem, steps: Sequence[str]) -> str:
    """The last step as it should be, computed from the values standing before it; or why it can not
    be.

    Of the step itself only the opening counts, what it is about: a blind critique can know no more.

    >>> question = "How many coins does Tess have? Max has 5 coins. Tess has 4 more than Max."
    >>> recompute(Problem("p", "quantities", question), ["Tess has 4 more than Max : 5 + 4 = 8 ."])
    'Tess has 4 more than Max : 5 + 4 = 9 .'
    """
    story, words = quantities.read_question(problem.question), steps[-1].split()
    standing = {name: q.value for name, q in story.quantities.items() if q.sign is None}
    for claim in filter(None, (quantities.read_step(story, before) for before in steps[:-1])):
        standing.setdefault(claim.name, claim.value)
    if words[:1] == ["The"]:
        return (
            f"The answer is {standing[story.asked]} ."
            if story.asked in standing
            else "The answer is not said ."
        )
    if words[1:2] != ["has"]:
        return " ".join([*words[:1], "wrong ."])
    if (name := words[0]) in standing:
        return f"{name} has {standing[name]} that was said ."
    if (q := story.quantities.get(name)) is None:
        return f"{name} has not said ."
    if unknown := [name for name in q.of if name not in standing]:
        return f"{q.relation} : {unknown[0]} not said ."
    values = [standing[name] for name in q.of]
    left, right = {1: (q.left, *values) if q.sign == "*" else (*values, q.right), 2: values}[
        len(values)
    ]
    left, right = (
        sorted((left, right), reverse=True) if q.sign == "-" and len(values) == 2 else (left, right)
    )
    value = {"+": left + right, "-": left - right, "*": left * right}[q.sign]
    return f"{q.relation} : {left} {q.sign} {right} = {value} ."


def resampled(
    lessons: Sequence[Lesson], policy: HFPolicy, *, n: int = 1, seed: int
) -> list[Lesson]:
    """The lessons with critiques that the policy wrote and whose verdict agrees with the label, at
    most `n` different ones each; lessons without any are left out. Raises ValueError unless n >= 1.
    """
    if n < 1:
        raise ValueError(f"n={n} critiques a step: need at least 1")
    openings = [
        policy.tokenizer(x.steps[-1], add_special_tokens=False).input_ids[:1] for x in lessons
    ]
    starts = [
        Prefix(x.problem, (*map(Step, x.steps[:-1]), *(Step("", (first,)) for first in opening)))
        for x, opening in zip(lessons, openings)
    ]
    names = [repr((x.problem.question, x.steps)).encode() for x in lessons]
    keys = [stream_of(seed, name, k) for name in names for k in range(n)]
    sampled = policy.sample([start for start in starts for _ in range(n)], keys, until="step")
    out = []
    for i, (lesson, start) in enumerate(zip(lessons, starts)):
        ids = [prefix.ids[len(start.ids) :] for prefix in sampled[i * n : (i + 1) * n]]
        texts = policy.tokenizer.batch_decode(
            [[*openings[i], *own] for own in ids], skip_special_tokens=True
        )
        out += [
            replace(lesson, critique=text)
            for text in agreeing(lesson, [text.strip() for text in texts])
        ]
    return out


def agreeing(lesson: Lesson, texts: Sequence[str]) -> list[str]:
    """Those critiques, each once, that equal the judged step if and only if it is good."""
    return [
        text for text in dict.fromkeys(texts) if (text == lesson.steps[-1].strip()) == lesson.good
    ]


# -- training --------------------------------------------------------------------------------------


def examples(
    lessons: Sequence[Lesson], tokenizer, form: GenerativeFormat, *, longest: int = 10**9
) -> list[dict]:
    """For each lesson {input_ids, loss}: `loss` is 1 at the tokens that the verifier writes, the
    last is the verdict.

    Lessons of more than `longest` tokens are left out. ValueError if a critique is missing or
    begins unlike its step.
    """
    separator, good, bad = form.lines.ids
    out = []
    for lesson in lessons:
        lines = form.lines.segments(tokenizer, lesson.problem, lesson.steps)
        before, after = form.around(lines, len(lesson.steps))
        written: list[int] = []
        if form.writes:
            if lesson.critique is None:
                raise ValueError(
                    f"{lesson.problem.id}: a lesson without critique, but the ask {form.ask!r} has one"
                )
            written = [*tokenizer(lesson.critique, add_special_tokens=False).input_ids, *separator]
            opening = lines[-1][: -len(separator)][:1] if "{opening}" in form.ask else []
            if written[: len(opening)] != opening:
                raise ValueError(
                    f"{lesson.problem.id}: critique {lesson.critique!r} must begin as the step {lesson.steps[-1]!r}"
                )
            written = written[len(opening) :]
        verdict = good if lesson.good else bad
        parts = [
            *((part, 0) for part in before),
            (written, 1),
            *((part, 0) for part in after),
            ([verdict], 1),
        ]
        ids, loss = [i for part, _ in parts for i in part], [on for part, on in parts for _ in part]
        before_step = [
            len(part) for part, _ in parts[: [part is lines[-1] for part, _ in parts].index(True)]
        ]
        start, words = sum(before_step), len(lines[-1]) - len(separator)
        if len(ids) <= longest:
            out.append({"input_ids": ids, "loss": loss, "words": (start, start + words)})
    return out


def collate(rows: list[dict], pad: int) -> dict[str, torch.Tensor]:
    """Pad on the right: input_ids, critique and verdict (B, T); the last two hold the token that
    *follows*, or IGNORE.

    >>> batch = collate([{"input_ids": [5, 6, 7, 8, 9], "loss": [0, 1, 1, 0, 1], "words": (3, 4)}], pad=0)
    >>> batch["critique"].tolist(), batch["verdict"].tolist()
    ([[6, 7, -100, -100, -100]], [[-100, -100, -100, 9, -100]])
    """
    ids, following = sft.collate([(row["input_ids"], 1) for row in rows], pad)  # (B, T)
    loss = torch.zeros_like(ids)  # (B, T) is the token that follows to be learnt?
    for b, row in enumerate(rows):
        loss[b, : len(row["loss"]) - 1] = torch.tensor(row["loss"][1:])
    # (B, 1) each, of the judged step's words
    starts, ends = torch.tensor([row["words"] for row in rows]).T[..., None]
    place = torch.arange(ids.shape[1])
    last = torch.tensor([len(row["input_ids"]) - 2 for row in rows])
    verdict = torch.arange(ids.shape[1]) == last[:, None]  # (B, T)
    return {
        "input_ids": ids,
        "critique": following.masked_fill((loss == 0) | verdict, IGNORE),
        "verdict": following.masked_fill(~verdict, IGNORE),
        "steps": ((starts <= place) & (place < ends)).long(),
        "last_word": ends - 1,
    }


def lesson_loss(
    logits: torch.Tensor, batch: dict[str, torch.Tensor], form: GenerativeFormat
) -> torch.Tensor:
    """Mean cross-entropy of critique tokens plus that of verdicts, over a batch from `collate`.
    logits (B, T, V)"""
    _, good, bad = form.lines.ids
    critique, verdict = batch["critique"] != IGNORE, batch["verdict"] != IGNORE  # (B, T)
    margin = (logits[..., good] - logits[..., bad]).float()[verdict]  # (B,)
    if form.lines.likelihood:
        said = prm.said(logits, batch, form.lines).gather(1, batch["last_word"])[:, 0]  # (B,)
        margin = margin + form.lines.likelihood * said
    loss = binary_cross_entropy_with_logits(margin, (batch["verdict"][verdict] == good).float())
    return (
        loss + cross_entropy(logits[critique].float(), batch["critique"][critique])
        if critique.any()
        else loss
    )


def train_genrm(
    model: torch.nn.Module,
    tokenizer,
    lessons: Sequence[Lesson],
    *,
    recipe: prm.PRMRecipe | None = None,
    form: GenerativeFormat | None = None,
    seed: int,
    held_out: Callable[[GenerativeVerifier], dict[str, float]] | None = None,
    evaluations: int = 4,
    keep: str | None = None,
    patience: int | None = None,
    checkpoints: str | Path | None = None,
    bf16: bool = False,
    **options,
) -> tuple[GenerativeVerifier, list[dict]]:
    """Fine-tune `model` (changed in place) on lessons; `prm.save` keeps the verifier,
    `load_generative` reads it back.

    As `prm.train_prm`, but `batch_size` counts lessons, and `options` go to `GenerativeVerifier`.
    Raises ValueError without lessons, and for a recipe whose soft targets or past errors would go
    unused.
    """
    recipe, form = recipe or prm.PRMRecipe(), (form or GenerativeFormat()).bound(tokenizer)
    if recipe.soft or recipe.past_error:
        raise ValueError(
            "a verdict is Yes or No, `verdicts` says which steps count: need soft=False, past_error=False"
        )
    longest = getattr(model.config, "max_position_embeddings", None) or 10**9
    data = examples(lessons, tokenizer, form, longest=longest)
    if not data:
        raise ValueError(
            f"{len(lessons)} lessons, none of which the model can read: need at least one"
        )
    torch.manual_seed(seed)
    with without_library_notes():
        model = prm.with_lora(model, recipe)
        verifier = GenerativeVerifier(model, tokenizer, form, **options)
        log = watched.train(
            model, data, recipe, lambda model, batch: _loss(model, batch, form),
            collate=lambda batch: collate(batch, tokenizer.pad_token_id), seed=seed,
            held_out=held_out and (lambda: held_out(verifier)), evaluations=evaluations, keep=keep, patience=patience,
            checkpoints=checkpoints, bf16=bf16,
        )  # fmt: skip
    model.eval()
    return verifier, log


def _loss(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], form: GenerativeFormat
) -> torch.Tensor:
    return lesson_loss(model(input_ids=batch["input_ids"], use_cache=False).logits, batch, form)
