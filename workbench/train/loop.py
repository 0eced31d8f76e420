"""One loop for every training: SFT, verifiers and the updates of GRPO are data and a loss on it.

The data are *updates*, each a list of micro-batches (`Batch`), made as they are needed. The loss of
an update is a sum of means, over its tokens, steps or pairs. A micro-batch knows how many terms it
adds to each mean, `totals` how many the whole update has, and `loss(model, batch, totals)` returns
the micro-batch's share. So many micro-batches have exactly the gradient of one large batch, and so
have several processes, started by `accelerate launch`, that take turns at them.

Weights are kept in float32 (`precision`). Muon (Jordan et al. 2024, `torch.optim.Muon`) updates the
matrices where a recipe asks for it, AdamW everything else. Taught in notebook 01.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import torch

from workbench.train.precision import MasterWeights


@dataclass(frozen=True)
class Recipe:
    """How to train, in one vocabulary for all methods; the defaults are those of a verifier."""

    learning_rate: float = 1e-3  # peak of AdamW
    matrix_rate: float | None = None  # peak of Muon, for matrices inside the model; None: AdamW
    vector_rate: float | None = None  # peak for gains of norms and biases; None: learning_rate
    batch_tokens: int = 6144  # of one update, padding included
    micro_tokens: int | None = 2048  # that go through the model at once; None: the whole update
    epochs: float = 2.0
    warmup: float = 0.05  # updates over which the rates rise; below 1: their share of all updates
    decay: float = 1.0  # share of the run, at its end, over which the rates fall to zero
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    # far below the gradients: all weights move alike; far above: each by its gradient
    adam_epsilon: float = 1e-8
    clip: float = 1.0  # of the gradient's norm
    rank: int = 16  # of LoRA; 0: all weights train
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self):
        for name in ("batch_tokens", "micro_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value}: need at least 1")
        if self.epochs <= 0 or self.warmup < 0 or not 0 <= self.decay <= 1:
            raise ValueError(
                f"epochs={self.epochs}, warmup={self.warmup}, decay={self.decay}: "
                "need epochs > 0, warmup >= 0 and 0 <= decay <= 1"
            )


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model together, and what the loss must know of them."""

    tensors: dict[str, torch.Tensor]
    terms: dict[str, int]  # how many terms each mean of the loss has here
    tokens: int  # padding not counted
    rows: int

    def to(self, device: torch.device) -> Batch:
        if all(x.device == device for x in self.tensors.values()):
            return self
        return replace(self, tensors={name: x.to(device) for name, x in self.tensors.items()})


class Progress(NamedTuple):
    """How far a training has come."""

    updates: int = 0
    tokens: int = 0  # padding not counted
    rows: int = 0


Loss = Callable[[torch.nn.Module, Batch, Mapping[str, int]], torch.Tensor]


# -- one update ------------------------------------------------------------------------------------


class Learner:
    """A model in training: its float32 weights, their optimisers, and how far it has come.

    `dtype`: what the model shall compute in; as it does now, unless given. `autocast` computes
    single operations in bfloat16 instead, and leaves the model as precise as it is.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        recipe: Recipe,
        *,
        dtype: torch.dtype | None = None,
        autocast: bool = False,
    ):
        self.model, self.recipe, self.autocast = model, recipe, autocast
        self.device = next(model.parameters()).device
        self.master = MasterWeights(model, dtype)
        self.optimizers = _optimizers(model, self.master.weights, recipe)
        self.done = Progress()

    def update(
        self,
        batches: Sequence[Batch],
        loss: Loss,
        rate: float = 1.0,
        totals: Mapping[str, int] | None = None,
    ) -> tuple[float, float]:
        """Change the weights once; returns the loss and the gradient's norm before it was clipped.

        `rate`: share of the peak rates. `totals`: terms of each mean, unless they are the batches'.
        """
        process, processes = _processes()
        totals = totals or sum((Counter(batch.terms) for batch in batches), Counter())
        # 1. gradients, added up over micro-batches and processes
        self.master.zero_gradients()
        value = torch.zeros((), device=self.device)
        for batch in batches[process::processes]:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                part = loss(self.model, batch.to(self.device), totals)
            part.backward()
            self.master.take_gradients()
            value = value + part.detach()
        if processes > 1:
            value = self._add_over_processes(value)
        norm = self.master.clip_gradients(self.recipe.clip)
        # 2. the step, in float32
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
        self.master.write()
        # 3. how far it has come
        tokens, rows = sum(b.tokens for b in batches), sum(b.rows for b in batches)
        done = self.done
        self.done = Progress(done.updates + 1, done.tokens + tokens, done.rows + rows)
        return value.item(), norm

    def _add_over_processes(self, value: torch.Tensor) -> torch.Tensor:
        from accelerate.utils import reduce

        for weight in self.master.weights.values():
            own = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad = reduce(own, "sum")
        return reduce(value, "sum")

    def save(self, path: str | Path, run: Mapping[str, str] | None = None, **extra: Any) -> None:
        """Write all that going on needs, whole or not at all; `extra` holds plain values only."""
        state = {
            "run": dict(run or {}),
            "weights": self.master.weights,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "done": tuple(self.done),
            "extra": extra,
        }
        part = Path(path).with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        part.replace(path)

    def load(self, path: str | Path, run: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Go on exactly where `save` stood; returns its `extra`.

        Raises ValueError, naming what differs, if that was another run (see `run_of`).
        """
        state = torch.load(path, weights_only=True, map_location="cpu")
        was, now = state["run"], dict(run or {})
        names = [name for name in was | now if was.get(name) != now.get(name)]
        if names:
            said = "; ".join(f"{name} was {was.get(name)}, is {now.get(name)}" for name in names)
            raise ValueError(f"{path} is of another run, name a new place: {said}")
        self.set_weights(state["weights"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.done = Progress(*state["done"])
        return state["extra"]

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self.master.weights.items():
            weight.copy_(weights[name])
        self.master.write()


def _optimizers(
    model: torch.nn.Module, weights: Mapping[str, torch.Tensor], recipe: Recipe
) -> list[torch.optim.Optimizer]:
    """Muon for matrices inside the model, if it has a rate, and AdamW; `peak` is a group's rate."""
    apart = [layer for layer in model.modules() if isinstance(layer, torch.nn.Embedding)]
    apart.append(getattr(model, "get_output_embeddings", lambda: None)())
    outside = {id(layer.weight) for layer in apart if layer is not None}
    outside = {name for name, p in model.named_parameters() if id(p) in outside}
    vectors = [w for w in weights.values() if w.ndim < 2]
    matrices = [w for name, w in weights.items() if w.ndim == 2 and name not in outside]
    matrices = matrices if recipe.matrix_rate is not None else []
    taken = {id(w) for w in (*vectors, *matrices)}
    others = [w for w in weights.values() if id(w) not in taken]
    vector_rate = recipe.learning_rate if recipe.vector_rate is None else recipe.vector_rate
    groups = [
        {"params": others, "peak": recipe.learning_rate},
        {"params": vectors, "peak": vector_rate},
    ]
    adam = {"betas": recipe.betas, "eps": recipe.adam_epsilon, "weight_decay": recipe.weight_decay}
    made = [torch.optim.AdamW([group for group in groups if group["params"]], **adam)]
    if matrices:
        group = {"params": matrices, "peak": recipe.matrix_rate}
        made.append(torch.optim.Muon([group], weight_decay=recipe.weight_decay))
    return made


def _processes() -> tuple[int, int]:
    """Which of how many processes this is. One alone makes no process group."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return 0, 1
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return state.process_index, state.num_processes


# -- many updates ----------------------------------------------------------------------------------


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
    run: Mapping[str, str] | None = None,
    beside: Mapping[str, float] | None = None,
    held_out: Callable[[], dict[str, float]] | None = None,
    evaluations: int = 4,
    keep: str | None = None,
    patience: int | None = None,
    log: str | Path | None = None,
    checkpoints: str | Path | None = None,
) -> Iterator[dict[str, float]]:
    """Train on all updates, or until as many tokens were seen; yields a row of the log after each.

    A row has {update, train/loss, train/rate (share of the peak), train/gradient_norm, train/tokens
    and train/rows (so far)}, what stands `beside`, and the measures of `held_out`, which is called
    `evaluations` times, evenly spread, at last after the last update. `keep` names a measure (more
    is better): the weights of its best time remain. After `patience` times without a better one
    training ends.

    `log` is a JSONL file of the rows. `checkpoints` is a folder, written to at the same times; from
    there the next call goes on, exactly, and yields the rows of before first. ValueError if it was
    another `run` (see `run_of`), if the data end too early, or for options that lack another.
    """
    if (keep and not held_out) or (patience is not None and not keep):
        raise ValueError(
            f"keep={keep!r}, patience={patience}: patience needs keep, and keep needs held_out"
        )
    # 1. where the run stands
    begun, stream = learner.done.updates, iter(updates)
    file = None if checkpoints is None else Path(checkpoints) / "last.pt"
    number = None if until is not None else begun + len(updates)
    kept = {"rows": [], "best": None, "misses": 0}
    if file and file.exists():
        kept = learner.load(file, run)
        _set_random_state(kept.pop("random"))
        for _ in range(begun, learner.done.updates):
            next(stream)
    rows = kept["rows"]
    _append(log, rows, mode="w")
    yield from rows
    # 2. update, measure, write
    goal = number if until is None else until
    while (stood := _position(learner.done, until)) < goal:
        if patience is not None and kept["misses"] >= patience:
            break
        if (batches := next(stream, None)) is None:
            raise ValueError(f"the data ended after {stood} tokens, before the {until} asked for")
        learner.model.train()
        rate = rate_at(learner.recipe, learner.done.updates, stood / goal, number)
        value, norm = learner.update(batches, loss, rate)
        done = learner.done
        row = {"update": done.updates, "train/loss": value, "train/rate": rate}
        row |= {"train/gradient_norm": norm, "train/tokens": done.tokens, "train/rows": done.rows}
        row |= beside or {}
        stands = min(_position(done, until), goal)
        due = stands * evaluations // goal > stood * evaluations // goal
        if due and held_out:
            row |= _measure(learner, held_out, keep, kept)
        rows.append(row)
        _append(log, [row])
        if due and file and _processes()[0] == 0:
            learner.save(file, run, random=_random_state(), **kept)
        yield row
    # 3. the weights that remain
    if kept["best"]:
        learner.set_weights(kept["best"]["weights"])


def _position(done: Progress, until: int | None) -> int:
    return done.updates if until is None else done.tokens


def _measure(
    learner: Learner, held_out: Callable[[], dict[str, float]], keep: str | None, kept: dict
) -> dict[str, float]:
    """The measures of now; `kept` remembers the best weights and how often none were better."""
    learner.model.eval()
    measures = {name: float(x) for name, x in held_out().items()}
    if keep:
        if keep not in measures:
            raise ValueError(f"keep={keep!r}: held_out measures {', '.join(measures) or 'nothing'}")
        if kept["best"] is None or measures[keep] > kept["best"]["value"]:
            weights = {name: w.detach().clone() for name, w in learner.master.weights.items()}
            kept |= {"best": {"value": measures[keep], "weights": weights}, "misses": 0}
        else:
            kept["misses"] += 1
    return measures


def _append(log: str | Path | None, rows: Sequence[dict], mode: str = "a") -> None:
    if log is None or _processes()[0]:
        return
    with Path(log).open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _random_state() -> list[torch.Tensor]:
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def _set_random_state(state: Sequence[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state[1:])


# -- which run it is -------------------------------------------------------------------------------


def run_of(recipe: Recipe, **others: Any) -> dict[str, str]:
    """What two runs must share for one to go on where the other stood, by name."""
    fields = {f"recipe: {name}": value for name, value in asdict(recipe).items()}
    return {name: repr(value) for name, value in (fields | others).items()}


def fingerprint(content: object) -> str:
    """A short name of data, by their text, or of a model, by its weights without new adapters."""
    digest = blake2b(digest_size=8)
    if isinstance(content, torch.nn.Module):
        for name, p in content.named_parameters():
            if "lora_" in name:  # they follow from the seed
                continue
            digest.update(p.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    else:
        digest.update(repr(content).encode())
    return digest.hexdigest()
