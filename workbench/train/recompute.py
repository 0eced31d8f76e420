"""Less memory for a third more time: what the layers computed is computed again, not kept.

The backward pass needs what every layer computed on the way forward. With `Recipe.recompute` only
what goes into each layer is kept, and the layer is run once more when its gradient is due (Chen et
al. 2016, arXiv 1604.06174; `torch.utils.checkpoint`). Deviation from transformers' own switch: it
works whatever mode a model is in, for policies are trained as they sample, and it is on within an
update alone, since a model cannot read from a cache while it is. Taught in notebook 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

SWITCHES = ("gradient_checkpointing", "training", "_gradient_checkpointing_func")


@contextmanager
def recomputing(model: torch.nn.Module) -> Iterator[None]:
    """Within, gradients come from layers that run again; ValueError for a model without such."""
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(f"recompute: {type(model).__name__} has no layers that can run again")
    before = [[vars(layer).get(name) for name in SWITCHES] for layer in layers]
    for layer in layers:
        layer.gradient_checkpointing = layer.training = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    try:
        yield
    finally:
        for layer, values in zip(layers, before):
            for name, value in zip(SWITCHES, values):
                delattr(layer, name) if value is None else setattr(layer, name, value)
