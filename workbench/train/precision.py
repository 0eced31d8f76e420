"""Mixed precision: a model computes in its own dtype, its weights are kept and changed in float32.

A bfloat16 weight has 8 significant bits: an update below about 1/512 of it is rounded away
(Micikevicius et al. 2018, arXiv 1710.03740: "master weights"). A model that is in float32 already
is trained in place, with no copy.
"""

from __future__ import annotations

import torch

from workbench.models.quantised import check_trainable

WIDE = (torch.float32, torch.float64)


class MasterWeights:
    """The trained weights of a model, by name, in float32 (float64 stays): what the optimiser sees.

    `dtype`: what the model shall compute in from now on; as it does now, unless given. Buffers,
    such as the frequencies of rotary positions, keep their precision, and so do weights in 4 bits,
    on which nothing but adapters can train: ValueError if there are none.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype | None = None):
        check_trainable(model)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = {
            name: p if p.dtype in WIDE and dtype in (None, p.dtype) else self._wide(p)
            for name, p in trained.items()
        }
        for p in model.parameters():
            if p.is_floating_point():
                p.data = p.data.to(dtype or p.dtype)
        self._copies = [
            (p, self.weights[name]) for name, p in trained.items() if p is not self.weights[name]
        ]

    @staticmethod
    def _wide(p: torch.nn.Parameter) -> torch.Tensor:
        return p.detach().to(p.dtype if p.dtype in WIDE else torch.float32).requires_grad_()

    def zero_gradients(self) -> None:
        for weight in self.weights.values():
            weight.grad = None
        for p, _ in self._copies:
            p.grad = None

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
