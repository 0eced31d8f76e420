"""Loops over stages: collect with the policy as it is, fine-tune, and round again.

`iterate` is the frame of STaR (Zelikman et al. 2022, arXiv 2203.14465) and of repeated rejection
sampling: in each round the newest policy writes, `collect` makes lessons of it, and a policy is
fine-tuned on them **from the original start**, so that no round builds on errors of another.

Deviation from STaR: the rounds train on equally many tokens, not on a fifth more each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from workbench.fingerprint import digest
from workbench.models.policy import HFPolicy
from workbench.models.quantised import fast_dtype
from workbench.train.learner import Learner, Recipe, check_rank
from workbench.train.loop import run_of, train
from workbench.train.rows import passes, window
from workbench.train.sft import RECIPE, Lesson, batches, next_token_loss
from workbench.types import SearchResult

# for a policy that can do its task already
GENTLE = replace(RECIPE, matrix_rate=0.003, learning_rate=6e-4, warmup=10, decay=1.0)


def lessons_of(results: Iterable[SearchResult]) -> list[Lesson]:
    """The solutions that a labeller calls good in every step, to be written without a hint."""
    rows = (row for result in results for row in result.labelled)
    good = (row for row in rows if all(label == 1 for label in row.labels))
    return [Lesson(row.problem, "solve", "\n".join(row.steps)) for row in good]


def fine_tune(
    policy: HFPolicy, lessons: Sequence[Lesson], *, tokens: int, seed: int, recipe: Recipe = GENTLE
) -> float:
    """Train a policy in place for `tokens` tokens of lessons, over and over; returns the last loss.

    Each pass goes through the lessons in another order. The model computes in `fast_dtype`. Warns
    of lessons longer than the model reads, which are left out. A policy with adapters
    (`lora.under_lora`) learns by these alone. ValueError without lessons or tokens, and for a
    lesson whose prompt the policy does not have.
    """
    dtype = fast_dtype(policy.engine.device)
    rows = fine_tuning(policy, lessons, tokens=tokens, seed=seed, recipe=recipe, dtype=dtype)
    *_, last = rows
    return last["train/loss"]


def fine_tuning(
    policy: HFPolicy,
    lessons: Sequence[Lesson],
    *,
    tokens: int,
    seed: int,
    recipe: Recipe = GENTLE,
    dtype: torch.dtype | None = None,
    order: str = "lessons",
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """`fine_tune` update by update: yields the rows of its log.

    `dtype`: of the weights while they train (their own); `order` names the shuffles; `options` are
    those of `loop.train` (log, checkpoints, held_out ...).
    """
    if not lessons or tokens < 1:
        given = f"{len(lessons)} lessons, tokens={tokens}"
        raise ValueError(f"{given}: need at least one of each to fine-tune on")
    check_rank(policy.model, recipe)
    if options.get("checkpoints") is not None:
        known = {"lessons": digest(repr(lessons)), "policy": policy.fingerprint()}
        options["run"] = run_of(recipe, **known, tokens=tokens, seed=seed, order=order)
    data = batches(
        chain.from_iterable(passes(lessons, f"{order}/{seed}")), policy.tokenizer,
        batch_tokens=recipe.batch_tokens, micro_tokens=recipe.micro_tokens, seed=seed,
        longest=window(policy.model), templates=policy.templates, separator=policy.separator,
        chunk=min(1024, len(lessons)),  # one pass, else an update holds copies of a lesson
    )  # fmt: skip
    learner = Learner(policy.model, recipe, dtype=dtype)
    try:
        yield from train(learner, data, next_token_loss, until=tokens, **options)
    finally:  # left in the middle, too, it must not go on sampling with dropout
        policy.model.eval()


def iterate(
    start: Callable[[], HFPolicy],
    collect: Callable[[HFPolicy, int], Sequence[Lesson]],
    *,
    rounds: int,
    tokens: int,
    seed: int,
    recipe: Recipe = GENTLE,
) -> Iterator[tuple[HFPolicy, Sequence[Lesson]]]:
    """Yield the policy of each round and the lessons that made it.

    `start` loads the original policy, anew each time; `collect(policy, round)` makes lessons.
    """
    policy = start()
    for number in range(rounds):
        lessons = collect(policy, number)
        policy = start()
        fine_tune(policy, lessons, tokens=tokens, seed=seed + number, recipe=recipe)
        yield policy, lessons
