r"""Training a Bradley–Terry reward model: of two solutions the right one shall have more reward.

Bradley and Terry (1952) let the chance that solution c beats solution r depend on rewards alone,
$P(c > r) = \sigma(r_c - r_r)$; the loss of a pair is (Ouyang et al. 2022, arXiv 2203.02155, eq. 1;
K = 2 here)

$$L = -\log \sigma(r_c - r_r).$$

Pairs come from a pool of graded solutions: a right and a wrong one of the *same* problem, so how
hard a problem is cannot be learnt instead; problems with right ones or wrong ones only teach
nothing. Only differences within a problem are fixed: `heads` says what that means for scores.

Deviations: preferences are not judgements of people but final answers; at most `pairs` a problem,
where Ouyang et al. take all of a prompt as one batch element. (A test holds our batches and loss
against TRL's `RewardTrainer`.)
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from workbench.models.heads import ScalarHead, head_outputs, with_scalar_head
from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.train.learner import Batch, Recipe
from workbench.train.orm import Outcome, outcome_rows
from workbench.train.rows import check_window, pad_right, window
from workbench.train.verifiers import fit
from workbench.types import Prefix, Problem


@dataclass(frozen=True)
class Pair:
    """A right (chosen) and a wrong (rejected) solution of one problem, as steps."""

    problem: Problem
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]


def pairs(rows: Iterable[Outcome], *, most: int, seed: int) -> list[Pair]:
    """At most `most` pairs a problem of what `outcome_rows` takes, in the order of the problems.

    The solutions of a problem take turns, so that each of its right ones, and each of its wrong
    ones, is used equally often to within one; no pair comes twice. Which ones are used depends on
    `seed` and the problem alone. Equal texts count once, and not at all if they are graded both
    right and wrong. ValueError if no problem has both kinds.
    """
    if most < 1:
        raise ValueError(f"{most} pairs a problem, need at least 1")
    groups: dict[tuple[str, str], tuple[Problem, dict[tuple[str, ...], set[int]]]] = {}
    for row in outcome_rows(rows):
        _, grades = groups.setdefault((row.problem.id, row.problem.question), (row.problem, {}))
        grades.setdefault(row.steps, set()).add(row.labels[-1])
    found = [_of_problem(problem, grades, most, seed) for problem, grades in groups.values()]
    if not any(found):
        none = f"none of {len(groups)} problems has a right and a wrong solution"
        raise ValueError(f"{none}: there are no pairs")
    return list(chain(*found))


def _of_problem(
    problem: Problem, grades: dict[tuple[str, ...], set[int]], most: int, seed: int
) -> list[Pair]:
    rng = random.Random(f"pairs/{seed}/{problem.id}/{problem.question}")
    right, wrong = (sorted(s for s, found in grades.items() if found == {g}) for g in (1, 0))
    rng.shuffle(right), rng.shuffle(wrong)
    r, w = len(right), len(wrong)
    # all r * w pairs, each once
    turns = ((i % r, (i + i // math.lcm(r, w)) % w) for i in range(min(most, r * w)))
    return [Pair(problem, right[a], wrong[b]) for a, b in turns]


def bt_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Mean of -log sigma(chosen - rejected); rewards (B,) each.

    >>> loss = bt_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]))
    >>> round(loss.item(), 6)  # (.313262 + .693147) / 2
    0.503204
    """
    return -logsigmoid(chosen - rejected).mean()


def train_reward(
    model: torch.nn.Module,
    tokenizer,
    rows: Iterable[Outcome],
    *,
    most: int = 4,
    recipe: Recipe | None = None,
    form: StepFormat | None = None,
    seed: int,
    **options: Any,
) -> tuple[StepVerifier, list[dict[str, float]]]:
    """Put a scalar head on a causal LM (changed in place) and train it on `pairs` of solutions.

    At most `most` pairs a problem. `options` are those of `verifiers.fit` (`held_out` measures with
    a shift of 0). Returns the verifier and the log; `save` keeps it. Warns of pairs longer than the
    model reads. Raises ValueError without pairs that it can read.
    """
    form, longest = (form or StepFormat()).bound(tokenizer), window(model)
    wanted = pairs(rows, most=most, seed=seed)
    read = {pair: _ids(pair, tokenizer, form) for pair in wanted}
    kept = {pair: two for pair, two in read.items() if max(map(len, two)) <= longest}
    check_window(len(kept), len(wanted), longest, "pairs")
    made = {"tokenizer": tokenizer, "form": form, "per": "solution", "name": "reward"}
    verifier, log = fit(
        with_scalar_head(model, tokenizer), partial(StepVerifier, head=ScalarHead(), **made),
        list(kept.values()), _share_of_loss, collate=_batch,
        outputs=lambda model, tensors: head_outputs(model, **tensors),
        length=lambda two: 2 * max(map(len, two)), recipe=recipe or Recipe(), seed=seed,
        trivial_loss=math.log(2), **options,
    )  # fmt: skip
    seen = {(p.problem, steps): None for p in kept for steps in (p.chosen, p.rejected)}
    rewards = verifier.log_odds([Prefix.of(*solution, ended=True) for solution in seen])
    head = ScalarHead(shift=sum(reward for (reward,) in rewards) / len(rewards))
    return StepVerifier(verifier.model, head=head, **made), log


def _ids(pair: Pair, tokenizer, form: StepFormat) -> list[list[int]]:
    """What the model reads of the right and of the wrong solution."""
    both = (form.segments(tokenizer, pair.problem, s) for s in (pair.chosen, pair.rejected))
    return [list(chain(*segments)) for segments in both]


def _batch(rows: Sequence[Sequence[list[int]]]) -> Batch:
    """Right ones first, then wrong ones."""
    ids = [two[side] for side in (0, 1) for two in rows]
    read = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
    tensors = {name: pad_right(numbers, 0) for name, numbers in read.items()}  # (2 B, T)
    return Batch(tensors, {"pairs": len(rows)}, sum(map(len, ids)), len(rows))


def _share_of_loss(
    rewards: torch.Tensor, tensors: object, totals: Mapping[str, int]
) -> torch.Tensor:
    right, wrong = rewards.chunk(2)  # (2 B,) -> (B,) each
    return bt_loss(right, wrong) * len(right) / totals["pairs"]
