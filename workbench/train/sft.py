"""Supervised fine-tuning: next-token prediction on solution tokens, one problem a row.

`batches` turns an endless stream of problems into updates, `next_token_loss` is what `loop.train`
makes smaller on them. The learning rate is constant and then decays linearly to zero ("warm-up,
stable, decay"), so that one trunk serves models of several budgets: fork them where their decay
begins. Taught in notebook 01.

Deviation: row-wise right padding without an attention mask. Causal attention never looks right and
padded positions carry no loss, so the mask would change nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch.nn.functional import cross_entropy

from workbench.models.stops import NEWLINE, written_as
from workbench.models.templates import EMBEDDED, front_ids, render
from workbench.problems import programs, quantities, worked
from workbench.train.learner import Batch, Recipe
from workbench.train.rows import check_window, logits_from, pad_id, pad_right, split_by_tokens
from workbench.types import Problem

IGNORE = -100
Encoded = tuple[list[int], int]  # ids of a row, and from which place on they carry loss

RECIPE = Recipe(
    learning_rate=2e-3, matrix_rate=0.01, batch_tokens=4096, micro_tokens=None, warmup=50,
    decay=0.0, weight_decay=0.01, betas=(0.9, 0.98), rank=0,
)  # fmt: skip


@dataclass(frozen=True)
class Lesson:
    """What one row teaches: to write `text` (the solution, unless it is given) after a prompt."""

    problem: Problem
    prompt: str = "solve"
    text: str | None = None


def curriculum(seed: int, *, ramp: int = 40_000) -> Iterator[Lesson]:
    """Endless lessons; over the first `ramp` they grow from level 1 to 8 and into order.

    They begin with short, shuffled problems, three in ten of them to be said "in other words" (each
    fact once more, in another order); that share falls to a twentieth, that of shuffled problems to
    a quarter. A tenth is told the answer, a twentieth are programs.
    """
    for i in count():
        rng = random.Random(f"lessons/{seed}/{i}")
        way = min(1.0, i / ramp)
        at = {"levels": range(1, 2 + int(7 * way)), "seed": seed}
        if rng.random() < 0.05:
            yield Lesson(programs.problem_at(i, **at))
            continue
        problem = quantities.problem_at(i, **at, split="train", shuffled=1 - 0.75 * way)
        draw = rng.random()
        if draw < 0.3 - 0.25 * way:
            yield Lesson(problem, "rephrase", quantities.rephrase(problem, seed=i))
        else:
            yield Lesson(problem, "hint" if draw > 0.9 else "solve")


def repeats(tokenizer, *, batch_tokens: int, seed: int) -> Iterator[list[Batch]]:
    """Endless updates on random tokens said twice, with loss on the second time.

    Nothing but looking up the token before can lower this loss, so the heads that do it ("induction
    heads", Olsson et al. 2022, arXiv 2209.11895) form within some hundred updates. Word problems
    alone hardly call them forth: most of their next words can be guessed from position and kind.
    Length and place of a row vary, so position does not help.
    """
    rng = random.Random(f"repeats/{seed}")
    first = tokenizer.convert_tokens_to_ids("0")  # below it are the special tokens
    while True:
        length = rng.randint(8, 32)
        rows = []
        for _ in range(batch_tokens // (2 * length + 4)):
            before = rng.choices(range(first, len(tokenizer)), k=rng.randint(0, 4))
            once = rng.sample(range(first, len(tokenizer)), length)
            rows.append(([*before, *once, *once], len(before) + length + 1))
        yield [batch_of(rows, pad_id(tokenizer), lessons=0)]


def encode(
    tokenizer,
    lessons: Sequence[Lesson],
    templates: Mapping[str, str] = EMBEDDED,
    separator: str = NEWLINE,
) -> list[Encoded]:
    """For each lesson the ids of prompt + text + end; loss begins behind the prompt.

    The lines of a text are its steps, which the `separator` of the policy shall part.

    A tokenizer's own beginning-of-text id stands before the prompt, as in sampling, and nowhere
    else; an end that it adds to every text stands at the row's end alone.
    """
    prompts = [render(templates, lesson.prompt, lesson.problem) for lesson in lessons]
    solutions = [worked(x.problem) if x.text is None else x.text for x in lessons]
    texts = [written_as(text, separator) for text in solutions]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    front, plain = front_ids(tokenizer), {"add_special_tokens": False}
    rows, both = [], (tokenizer(written, **plain).input_ids for written in (prompts, texts))
    for start, text in zip(*both):
        start = start if start[: len(front)] == front else [*front, *start]
        rows.append(([*start, *text, *end], len(start)))
    return rows


def collate(rows: Sequence[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows on the right: ids and labels (B, T); a label is the token that *follows* its id.

    >>> ids, labels = collate([([5, 6, 7, 1], 2), ([5, 1], 1)], pad=0)
    >>> ids.tolist(), labels.tolist()
    ([[5, 6, 7, 1], [5, 1, 0, 0]], [[-100, 7, 1, -100], [1, -100, -100, -100]])
    """
    labels = [[*[IGNORE] * (start - 1), *ids[start:], IGNORE] for ids, start in rows]
    return pad_right([ids for ids, _ in rows], pad), pad_right(labels, IGNORE)


def batch_of(rows: Sequence[Encoded], pad: int, lessons: int | None = None) -> Batch:
    """Rows as a batch, which counts as so many lessons (all of them, unless given)."""
    ids, labels = collate(rows, pad)
    return Batch(
        {"input_ids": ids, "labels": labels},
        {"tokens": int((labels != IGNORE).sum())},
        tokens=sum(len(ids) for ids, _ in rows),
        rows=len(rows) if lessons is None else lessons,
    )


def batches(
    lessons: Iterable[Lesson],
    tokenizer,
    *,
    batch_tokens: int,
    micro_tokens: int | None = None,
    seed: int,
    chunk: int = 1024,
    longest: int = 10**9,
    templates: Mapping[str, str] = EMBEDDED,
    separator: str = NEWLINE,
) -> Iterator[list[Batch]]:
    """Updates on a stream of lessons, as `loop.train` takes them; rows of like length share one.

    `templates` and `separator` are those of the policy that is taught. Rows of more than `longest`
    tokens are left out with a warning; ValueError if all of a chunk are.
    """
    stream, number = iter(lessons), 0
    while block := [lesson for _, lesson in zip(range(chunk), stream)]:
        rows = encode(tokenizer, block, templates, separator)
        rows = [row for row in rows if len(row[0]) <= longest]
        check_window(len(rows), len(block), longest, "lessons")
        rows.sort(key=_length)
        updates = split_by_tokens(rows, batch_tokens, _length)
        random.Random(f"{seed}/{number}").shuffle(updates)
        for update in updates:
            micro = split_by_tokens(update, micro_tokens, _length)
            yield [batch_of(rows, pad_id(tokenizer)) for rows in micro]
        number += 1


def _length(row: Encoded) -> int:
    return len(row[0])


def next_token_loss(
    model: torch.nn.Module, batch: Batch, totals: Mapping[str, int]
) -> torch.Tensor:
    """Cross-entropy of solution tokens, the update's mean: a batch's share of it."""
    labels = batch.tensors["labels"]  # (B, T)
    wanted = labels != IGNORE
    logits = logits_from(model, batch.tensors["input_ids"], wanted)[wanted]  # (N, V)
    return cross_entropy(logits.float(), labels[wanted], reduction="sum") / totals["tokens"]
