"""One loop for every training: SFT, verifiers and policies that learn from their own rollouts.

`train` takes data and a loss: the data are *updates*, each a list of micro-batches (`Batch`), made
as they are needed; a `Learner` takes them one by one. Below it stands `repeat`, which takes any
turns: an update, or a whole round of rollouts (`rounds`). Rates rise linearly, stay, and fall
linearly; measures are taken evenly spread over the run, which can stop and go on, exactly. Taught
in notebook 01.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

import torch

from workbench.files import alone
from workbench.train.learner import Batch, Learner, Loss, Recipe, this_process


def rate_at(recipe: Recipe, update: int, progress: float, updates: int | None = None) -> float:
    """Share of the peak rates for an update (from 0), at `progress` (0 to 1) of a run of `updates`.

    >>> recipe = Recipe(warmup=2, decay=0.5)
    >>> [rate_at(recipe, i, i / 8) for i in range(8)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup = recipe.warmup
    if 0 < warmup < 1:
        if updates is None:
            raise ValueError(f"warmup={warmup}: this run has no known length, name whole updates")
        warmup *= updates
    rise = min(1.0, (update + 1) / warmup) if warmup else 1.0
    fall = min(1.0, (1 - progress) / recipe.decay) if recipe.decay else 1.0
    return rise * fall


def train(
    learner: Learner,
    updates: Iterable[Sequence[Batch]],
    loss: Loss,
    *,
    until: int | None = None,
    beside: Mapping[str, float] | None = None,
    **options: Any,
) -> Iterator[dict[str, float]]:
    """Train on all updates, or until as many tokens were seen; yields a row of the log after each.

    A row has {update, train/loss, train/rate (share of the peak), train/gradient_norm, train/tokens
    and train/rows (so far)}, what stands `beside`, and the measures. `options` are those of
    `repeat`: held_out, evaluations, keep, patience, log, checkpoints, run. ValueError if the data
    end too early.
    """
    begun, stream = learner.done.updates, iter(updates)
    number = None if until is not None else begun + len(updates)
    goal = number if until is None else until

    def stood() -> int:
        return learner.done.updates if until is None else learner.done.tokens

    def skip_what_was_seen(_: object) -> None:
        for _ in range(begun, learner.done.updates):
            next(stream)

    def turn() -> dict[str, float]:
        before = stood()
        if (batches := next(stream, None)) is None:
            raise ValueError(f"the data ended after {before} tokens, before the {until} asked for")
        learner.model.train()
        rate = rate_at(learner.recipe, learner.done.updates, before / goal, number)
        value, norm = learner.update(batches, loss, rate)
        done = learner.done
        row = {"update": done.updates, "train/loss": value, "train/rate": rate}
        row |= {"train/gradient_norm": norm, "train/tokens": done.tokens, "train/rows": done.rows}
        return row | (beside or {})

    yield from repeat(learner, turn, goal, stood=stood, restore=skip_what_was_seen, **options)


def repeat(
    learner: Learner,
    turn: Callable[[], dict[str, float] | None],
    goal: int,
    *,
    stood: Callable[[], int],
    state: Callable[[], Any] = lambda: None,
    restore: Callable[[Any], None] = lambda state: None,
    run: Mapping[str, str] | None = None,
    held_out: Callable[[], dict[str, float]] | None = None,
    evaluations: int = 4,
    keep: str | None = None,
    patience: int | None = None,
    log: str | Path | None = None,
    checkpoints: str | Path | None = None,
) -> Iterator[dict[str, float]]:
    """Take turns, an update or a round each, until `stood()` is `goal`; yields their rows.

    To a row come the measures of `held_out`, which is called `evaluations` times, evenly spread, at
    last after the last turn. `keep` names a measure (more is better): the weights of its best time
    remain. After `patience` times without a better one training ends; so it does when a turn
    returns None instead of a row, because it was interrupted.

    `log` is a JSONL file of the rows. `checkpoints` is a folder, written to at the same times; from
    there the next call goes on, exactly, and yields the rows of before first. `state()` is what a
    turn must know besides the learner, in plain values, and `restore(state)` takes it back.
    ValueError if it was another `run` (see `run_of`), while another one writes there, or for
    options that lack another.
    """
    if (keep and not held_out) or (patience is not None and not keep):
        given = f"keep={keep!r}, patience={patience}"
        raise ValueError(f"{given}: patience needs keep, and keep needs held_out")
    with _alone_in(checkpoints):
        # 1. where the run stands
        file = None if checkpoints is None else Path(checkpoints) / "last.pt"
        kept = _read_back(learner, file, run, restore)
        rows = kept["rows"]
        _append(log, rows, mode="w")
        yield from rows
        # 2. turn, measure, write
        while (before := stood()) < goal:
            if patience is not None and kept["misses"] >= patience:
                break
            row = turn()
            due = row is None
            if row is not None:
                due = min(stood(), goal) * evaluations // goal > before * evaluations // goal
                if due and held_out:
                    row |= _measure(learner, held_out, keep, kept)
                rows.append(row)
                _append(log, [row])
            if due and file and this_process()[0] == 0:
                learner.save(file, run, random=_random_state(), state=state(), **kept)
            if row is None:
                break
            yield row
        # 3. the weights that remain
        if kept["best"]:
            learner.set_weights(kept["best"]["weights"])


def _alone_in(checkpoints: str | Path | None) -> AbstractContextManager[None]:
    """Keep other runs from a folder of checkpoints; of several processes the first one holds it."""
    if checkpoints is None or this_process()[0]:
        return nullcontext()
    Path(checkpoints).mkdir(parents=True, exist_ok=True)
    return alone(checkpoints, wait_s=3.0)


def _read_back(
    learner: Learner,
    file: Path | None,
    run: Mapping[str, str] | None,
    restore: Callable[[Any], None],
) -> dict[str, Any]:
    """What an interrupted run left, taken back: its rows, best weights and misses; or none yet."""
    if file is None or not file.exists():
        return {"rows": [], "best": None, "misses": 0}
    kept = learner.load(file, run)
    _set_random_state(kept.pop("random"))
    restore(kept.pop("state", None))
    return kept


def _measure(
    learner: Learner, held_out: Callable[[], dict[str, float]], keep: str | None, kept: dict
) -> dict[str, float]:
    """The measures of now; `kept` remembers the best weights and how often none were better."""
    learner.model.eval()
    measures = {name: float(x) for name, x in held_out().items()}
    if keep:
        if keep not in measures:
            raise ValueError(f"keep={keep!r}: held_out measures {', '.join(measures) or 'nothing'}")
        best = kept["best"] and kept["best"]["value"]
        if best is None or isnan(best) or measures[keep] > best:
            weights = {name: w.detach().clone() for name, w in learner.master.weights.items()}
            kept |= {"best": {"value": measures[keep], "weights": weights}, "misses": 0}
        else:
            kept["misses"] += 1
    return measures


def _append(log: str | Path | None, rows: Sequence[dict], mode: str = "a") -> None:
    if log is None or this_process()[0]:
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with Path(log).open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _random_state() -> list[torch.Tensor]:
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def _set_random_state(state: Sequence[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state[1:])


def run_of(recipe: Recipe, **others: Any) -> dict[str, str]:
    """What two runs must share for one to go on where the other stood, by name."""
    fields = {f"recipe: {name}": value for name, value in asdict(recipe).items()}
    return {name: repr(value) for name, value in (fields | others).items()}
