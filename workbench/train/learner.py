"""One update of a model: gradients over micro-batches and processes, clipped; float32 weights.

The loss of an update is a sum of means, over its tokens, steps or pairs. A micro-batch knows how
many terms it adds to each mean, `totals` how many the whole update has, and `loss(model, batch,
totals)` returns the micro-batch's share. So many micro-batches have exactly the gradient of one
large batch, and so have several processes, started by `accelerate launch`, that take turns at them.

Muon (Jordan et al. 2024, `torch.optim.Muon`) updates the matrices where a recipe asks for it, AdamW
everything else. Taught in notebook 01.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch

from workbench.models.quantised import check_trainable, fast_dtype
from workbench.train.muon import WideMuon
from workbench.train.recompute import recomputing

WIDE = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Recipe:
    """How to train, in one vocabulary for all methods; the defaults are those of a verifier."""

    learning_rate: float = 1e-3  # peak of AdamW
    matrix_rate: float | None = None  # peak of Muon, for matrices inside the model; None: AdamW
    vector_rate: float | None = None  # peak for gains of norms and biases; None: learning_rate
    batch_tokens: int = 6144  # of one update, padding included
    micro_tokens: int | None = 2048  # that go through the model at once; None: the whole update
    recompute: bool = False  # layers run again for their gradients, instead of keeping all
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
        rates = ("learning_rate", "matrix_rate", "vector_rate", "weight_decay", "adam_epsilon")
        self._check((*rates, "warmup", "alpha"), "of at least 0", lambda x: x >= 0)
        self._check(("epochs", "clip"), "above 0", lambda x: x > 0)
        self._check(("batch_tokens", "micro_tokens"), "of at least 1", lambda x: x >= 1)
        self._check(("decay", "dropout"), "from 0 to 1", lambda x: 0 <= x <= 1)
        whole = lambda x: isinstance(x, Integral) and x >= 0  # noqa: E731
        self._check(("rank",), "of at least 0, a whole one", whole)

    def _check(self, names: Sequence[str], need: str, fits: Callable[[Any], bool]) -> None:
        types = {field.name: field.type for field in fields(self)}
        for name in names:
            value, optional = getattr(self, name), "None" in types[name]
            fine = isinstance(value, Real) and not isinstance(value, bool) and fits(value)
            if not (fine or (optional and value is None)):
                raise ValueError(f"{name}={value!r}: need a number {need}")


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


class MasterWeights:
    """The trained weights of a model, by name, in float32 (float64 stays): what optimisers see.

    A bfloat16 weight has 8 significant bits: an update below about 1/512 of it is rounded away
    (Micikevicius et al. 2018, arXiv 1710.03740). What is in float32 already trains in place.
    `dtype`: what the model shall compute in; as it does now, unless given. Buffers keep their
    precision, and so do weights in 4 bits: ValueError if there is nothing else to train.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype | None = None):
        check_trainable(model)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        there = {name: p.dtype in WIDE and dtype in (None, p.dtype) for name, p in trained.items()}
        self.weights = {name: p if there[name] else self._wide(p) for name, p in trained.items()}
        for p in model.parameters():
            if p.is_floating_point():
                p.data = p.data.to(dtype or p.dtype)
        pairs = ((p, self.weights[name]) for name, p in trained.items())
        self._copies = [(p, weight) for p, weight in pairs if p is not weight]

    @staticmethod
    def _wide(p: torch.nn.Parameter) -> torch.Tensor:
        return p.detach().to(p.dtype if p.dtype in WIDE else torch.float32).requires_grad_()

    def zero_gradients(self) -> None:
        for weight in (*self.weights.values(), *(p for p, _ in self._copies)):
            weight.grad = None

    def take_gradients(self) -> None:
        """Add the model's gradients to those kept here: many small ones would round in bfloat16."""
        for p, weight in self._copies:
            if p.grad is not None:
                new, p.grad = p.grad.to(weight.dtype), None
                weight.grad = new if weight.grad is None else weight.grad + new

    def clip_gradients(self, most: float) -> float:
        """Scale the gradients to a norm of at most `most`; returns the norm as it was."""
        return torch.nn.utils.clip_grad_norm_(self.weights.values(), most).item()

    @torch.no_grad()
    def write(self) -> None:
        """Round the weights into the model, after an optimiser has changed them."""
        for p, weight in self._copies:
            p.copy_(weight)


class Learner:
    """A model in training: its float32 weights, their optimisers, and how far it has come.

    `dtype` as for `MasterWeights`. `autocast` computes single operations in bfloat16 instead, where
    the device has it (`fast_dtype`), and leaves the model as precise as it is.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        recipe: Recipe,
        *,
        dtype: torch.dtype | None = None,
        autocast: bool = False,
    ):
        self.model, self.recipe = model, recipe
        self.device = next(model.parameters()).device
        self.autocast = autocast and fast_dtype(self.device) is torch.bfloat16
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
        process, processes = this_process()
        totals = totals or sum((Counter(batch.terms) for batch in batches), Counter())
        # 1. gradients, added up over micro-batches and processes
        self.master.zero_gradients()
        value = torch.zeros((), device=self.device)
        for batch in batches[process::processes]:
            again = recomputing(self.model) if self.recipe.recompute else nullcontext()
            with again, torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                part = loss(self.model, batch.to(self.device), totals)
            part.backward()
            self.master.take_gradients()
            value = value + part.detach()
        if processes > 1:
            value = self._add_over_processes(value)
        norm = self.master.clip_gradients(self.recipe.clip)
        if not isfinite(norm):  # a step along it would leave no weight a number
            given = f"update {self.done.updates + 1}: loss {value.item()}, gradient of norm {norm}"
            raise ValueError(f"{given}: need finite ones; try a lower learning rate, or float32")
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

    def state(self) -> dict[str, Any]:
        """All that going on exactly needs, as plain values and tensors."""
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        return {"weights": self.master.weights, "optimizers": optimizers, "done": tuple(self.done)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken."""
        self.set_weights(state["weights"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.done = Progress(*state["done"])

    def save(self, path: str | Path, run: Mapping[str, str] | None = None, **extra: Any) -> None:
        """Write all that going on needs, whole or not at all; `extra` holds plain values only."""
        part = Path(path).with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(self.state() | {"run": dict(run or {}), "extra": extra}, part)
        except (OSError, RuntimeError) as error:  # torch's own has many lines
            part.unlink(missing_ok=True)
            raise OSError(f"{path} can't be written: {str(error).partition(chr(10))[0]}") from None
        part.replace(path)

    def load(self, path: str | Path, run: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Go on exactly where `save` stood; returns its `extra`.

        ValueError, which names what differs, if that was another run (see `loop.run_of`), and for a
        file that is no whole checkpoint.
        """
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            was, now = state["run"], dict(run or {})
        except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no whole checkpoint: delete it to begin anew") from error
        names = [name for name in was | now if was.get(name) != now.get(name)]
        if names:
            differ = "; ".join(f"{name} was {was.get(name)}, is {now.get(name)}" for name in names)
            raise ValueError(f"{path} is of another run, name a new place: {differ}")
        self.restore(state)
        return state["extra"]

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self.master.weights.items():
            weight.copy_(weights[name])
        self.master.write()


def check_rank(model: torch.nn.Module, recipe: Recipe) -> None:
    """ValueError for a recipe with adapters where there are none: all weights would train."""
    if recipe.rank and not any("lora_" in name for name, _ in model.named_parameters()):
        instead = "put adapters on first (train.lora.under_lora), or say rank=0"
        raise ValueError(f"rank={recipe.rank}, but the model has no adapters: {instead}")


def _optimizers(
    model: torch.nn.Module, weights: Mapping[str, torch.Tensor], recipe: Recipe
) -> list[torch.optim.Optimizer]:
    """Muon for matrices inside the model, if it has a rate, and AdamW; `peak` is a group's rate."""
    apart = [layer for layer in model.modules() if isinstance(layer, torch.nn.Embedding)]
    apart.append(getattr(model, "get_output_embeddings", lambda: None)())
    apart = {id(layer.weight) for layer in apart if layer is not None}
    outside = {name for name, p in model.named_parameters() if id(p) in apart}
    groups: dict[str, list[torch.Tensor]] = {"others": [], "vectors": [], "matrices": []}
    for name, w in weights.items():
        inside = w.ndim == 2 and name not in outside and recipe.matrix_rate is not None
        groups["vectors" if w.ndim < 2 else "matrices" if inside else "others"].append(w)
    vector_rate = recipe.learning_rate if recipe.vector_rate is None else recipe.vector_rate
    peaks = {"others": recipe.learning_rate, "vectors": vector_rate}
    adam = [{"params": groups[name], "peak": peak} for name, peak in peaks.items()]
    common = {"betas": recipe.betas, "eps": recipe.adam_epsilon}
    common["weight_decay"] = recipe.weight_decay
    adam = [group for group in adam if group["params"]]
    made = [torch.optim.AdamW(adam, **common)] if adam else []  # adapters are matrices alone
    if groups["matrices"]:
        muon = {"params": groups["matrices"], "peak": recipe.matrix_rate}
        native = fast_dtype(groups["matrices"][0].device) is torch.bfloat16
        kind = torch.optim.Muon if native else WideMuon
        made.append(kind([muon], weight_decay=recipe.weight_decay))
    return made


def this_process() -> tuple[int, int]:
    """Which of how many processes this is. One alone makes no process group."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return 0, 1
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return state.process_index, state.num_processes


def together(make: Callable[[], Any]) -> list[Any]:
    """What each process makes, in their order; an error in one of them is one in all."""
    if this_process()[1] == 1:
        return [make()]
    try:
        own = make()
    except Exception as error:  # else the others would wait for ever
        own = RuntimeError(f"{type(error).__name__}: {error}")
    parts = gathered(own)
    for part in parts:
        if isinstance(part, RuntimeError):
            raise part
    return parts


def gathered(own: Any) -> list[Any]:
    """What each process brings, in their order; all of them must come here."""
    if this_process()[1] == 1:
        return [own]
    from accelerate.utils import gather_object

    return gather_object([own])
