r"""Training a Bradley–Terry reward model: of two solutions of one problem, the right one shall have
the higher reward.

Bradley and Terry (1952) let the chance that solution c beats solution r depend on rewards alone,
$P(c > r) = \sigma(r_c - r_r)$; the loss of a pair is (Ouyang et al. 2022, arXiv 2203.02155, eq. 1;
K = 2 here)

$$L = -\log \sigma(r_c - r_r).$$

Pairs come from a pool of graded solutions: a right and a wrong one of the *same* problem, so how
hard a problem is cannot be learnt instead; problems with right ones or wrong ones only teach
nothing. Only differences within a problem are fixed: `RewardVerifier` says what that means for its
scores.

Deviations: preferences are not judgements of people but final answers; at most `pairs` a problem,
where Ouyang et al. take all of a prompt as one batch element. The loop is ours: TRL's
`RewardTrainer` is no dependency of the package (a test holds our batches and loss against it) and
it reports every construction to the hub unless that is switched off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, lcm

import torch
from torch.nn.functional import logsigmoid

from workbench.models.checkpoints import without_library_notes
from workbench.models.outcome import RewardVerifier, head_outputs, with_scalar_head
from workbench.models.step_format import StepFormat
from workbench.train.orm import Outcome, outcomes
from workbench.train.prm import with_lora
from workbench.types import Prefix, Problem


@dataclass(frozen=True)
class Pair:
    """A right (chosen) and a wrong (rejected) solution of one problem, as steps."""

    problem: Problem
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]


@dataclass(frozen=True)
class RewardRecipe:
    """How to train: pairs per problem; LoRA rank (0: all weights), scaling and dropout; rates,
    batch size in pairs."""

    pairs: int = 4  # at most, per problem
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: float = 2.0
    weight_decay: float = 0.0
    warmup_ratio: float = 0.05
    clip: float = 1.0  # of the gradient's norm


def pairs(rows: Iterable[Outcome], *, most: int, seed: int) -> list[Pair]:
    """At most `most` pairs per problem of the solutions that `outcomes` takes, in the order of the
    problems.

    The solutions of a problem take turns, so that each of its right ones, and each of its wrong
    ones, is used equally often to within one; no pair comes twice. Which ones are used depends on
    `seed` and the problem alone. Equal texts count once, and not at all if they are graded both
    right and wrong. ValueError if no problem has both kinds.
    """
    if most < 1:
        raise ValueError(f"{most} pairs a problem, need at least 1")
    groups: dict[tuple[str, str], tuple[Problem, dict[tuple[str, ...], set[int]]]] = {}
    for row in outcomes(rows):
        _, grades = groups.setdefault((row.problem.id, row.problem.question), (row.problem, {}))
        grades.setdefault(row.steps, set()).add(row.labels[-1])
    out = [
        pair
        for problem, grades in groups.values()
        for pair in _of_problem(problem, grades, most, seed)
    ]
    if not out:
        raise ValueError(
            f"none of {len(groups)} problems has a right and a wrong solution: there are no pairs"
        )
    return out


def _of_problem(
    problem: Problem, grades: dict[tuple[str, ...], set[int]], most: int, seed: int
) -> list[Pair]:
    rng = random.Random(f"pairs/{seed}/{problem.id}/{problem.question}")
    right, wrong = (
        sorted(steps for steps, found in grades.items() if found == {grade}) for grade in (1, 0)
    )
    rng.shuffle(right), rng.shuffle(wrong)
    r, w = len(right), len(wrong)
    # all r * w pairs, each once
    turns = ((i % r, (i + i // lcm(r, w)) % w) for i in range(min(most, r * w)))
    return [Pair(problem, right[a], wrong[b]) for a, b in turns]


def bt_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Mean of -log sigma(chosen - rejected); rewards (B,) each.

    >>> round(bt_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])).item(), 6)  # (.313262 + .693147) / 2
    0.503204
    """
    return -logsigmoid(chosen - rejected).mean()


def train_reward(
    model: torch.nn.Module,
    tokenizer,
    rows: Iterable[Outcome],
    *,
    recipe: RewardRecipe | None = None,
    form: StepFormat | None = None,
    seed: int,
    held_out: Callable[[RewardVerifier], dict[str, float]] | None = None,
    evaluations: int = 4,
    bf16: bool = False,
) -> tuple[RewardVerifier, list[dict]]:
    """Put a scalar head on a causal LM (its body is changed in place) and train it on `pairs` of
    graded solutions.

    `held_out` measures `evaluations` times along the way, with a shift of 0. `bf16` computes in
    bfloat16. Returns the verifier and the log, a row {update, train/loss, train/accuracy} per
    update; `train.orm.save` keeps it. Raises ValueError without pairs, or if the model can read
    none of them.
    """
    recipe = recipe or RewardRecipe()
    chosen = pairs(rows, most=recipe.pairs, seed=seed)
    torch.manual_seed(seed)
    with without_library_notes():
        scorer = with_scalar_head(model, tokenizer)
        # peft trains and saves the head of a sequence classifier as a whole
        scorer = with_lora(scorer, recipe, task="SEQ_CLS")
        verifier = RewardVerifier(scorer, tokenizer, form)
    data = _readable(chosen, verifier)
    log, total = [], ceil(recipe.epochs * ceil(len(data) / recipe.batch_size))
    for row in _updates(verifier, data, recipe, total, seed, bf16):
        log.append(row)
        if held_out and (
            row["update"] % max(1, total // evaluations) == 0 or row["update"] == total
        ):
            verifier.model.eval()
            log.append({"update": row["update"], **held_out(verifier)})
    verifier.model.eval()
    seen = dict.fromkeys(prefix for pair in data for prefix in pair)
    verifier.shift = sum(verifier.rewards(list(seen))) / len(seen)
    return verifier, log


def _readable(chosen: Sequence[Pair], verifier: RewardVerifier) -> list[tuple[Prefix, Prefix]]:
    """Pairs as prefixes (right, wrong); those longer than the model reads are left out, ValueError
    if all are."""
    out, error = [], None
    for pair in chosen:
        both = tuple(
            Prefix.of(pair.problem, steps, ended=True) for steps in (pair.chosen, pair.rejected)
        )
        try:
            [verifier.ids(prefix) for prefix in both]
        except ValueError as too_long:
            error = too_long
        else:
            out.append(both)
    if not out:
        raise ValueError(f"the model can read none of {len(chosen)} pairs: {error}")
    return out


def _updates(
    verifier, data, recipe: RewardRecipe, total: int, seed: int, bf16: bool
) -> Iterator[dict]:
    """AdamW, the rate rising linearly at first and then falling to zero; yields after every update."""
    model = verifier.model
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    warmup = int(recipe.warmup_ratio * total)
    for update, batch in zip(range(total), _batches(data, recipe.batch_size, seed)):
        rate = min((update + 1) / (warmup + 1), (total - update) / max(1, total - warmup))
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * rate
        model.train()
        # right ones first, then wrong ones
        rows = [verifier.ids(pair[side]) for side in (0, 1) for pair in batch]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            right, wrong = head_outputs(model, rows, verifier.pad).chunk(2)  # (B,) each
        loss = bt_loss(right, wrong)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
        optimizer.step()
        accuracy = (right > wrong).float().mean().item()
        yield {"update": update + 1, "train/loss": loss.item(), "train/accuracy": accuracy}


def _batches(data: Sequence, size: int, seed: int) -> Iterator[list]:
    """Endless passes over the data, each in its own order; the last batch of a pass may be smaller."""
    number = 0
    while True:
        order = random.Random(f"pass/{seed}/{number}").sample(range(len(data)), len(data))
        for start in range(0, len(data), size):
            yield [data[i] for i in order[start : start + size]]
        number += 1
