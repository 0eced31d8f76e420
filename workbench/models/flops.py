r"""Operations of a forward pass: two for each weight that a token meets, and attention.

The i-th token of a row (from 1) costs, with H query heads of size D and a window $w_l$ in layer l,

$$2 \sum_{W \in \text{body}} |W| + \sum_l 4 H D \min(i, w_l)$$

and $2 |W_{\text{head}}|$ more where its logits are computed. Averaged over a whole row this is what
Kaplan et al. (2020, arXiv 2001.08361, table 1) count. Embeddings are looked up and cost nothing; a
head tied to them multiplies and counts.

Deviations: matrix products only, as `torch.utils.flop_counter` counts them (no norms, biases,
softmax); a mixture of experts counts as if each token met all of them. Notebook 09.
"""

from __future__ import annotations

from collections import Counter
from math import prod

import torch

from workbench.models.checkpoints import adapter_layers, adapters_in_use


class Flops:
    """What a model's forward passes cost, with the adapters that are in use when this is made."""

    def __init__(self, model: torch.nn.Module):
        config, head = model.config.get_text_config(), model.get_output_embeddings()
        idle = _idle_parameters(model)
        self.head = 0 if head is None else _products(head, idle)  # a token whose logits are wanted
        self.body = _products(model, idle) - self.head  # a token
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.pair = 4 * heads * size  # a token and one that it sees, in one layer
        window = getattr(config, "sliding_window", None)
        kind = "sliding_attention" if window else "full_attention"
        kinds = getattr(config, "layer_types", None) or [kind] * config.num_hidden_layers
        # how many layers there are with each window
        self.windows = Counter(window if kind == "sliding_attention" else None for kind in kinds)

    def cost(self, start: int, end: int, logits: int = 0) -> int:
        """Operations for tokens start + 1 to end of a row, with so many of them having logits."""
        seen = ((n, _pairs(end, w) - _pairs(start, w)) for w, n in self.windows.items())
        pairs = sum(layers * more for layers, more in seen)
        return (end - start) * self.body + pairs * self.pair + logits * self.head


def _pairs(n: int, window: int | None) -> int:
    """Of the first n tokens: each with itself and those before it that it sees."""
    seen = min(n, window or n)
    return seen * (seen + 1) // 2 + (n - seen) * seen


def _products(module: torch.nn.Module, idle: set[int]) -> int:
    """Two for each weight of the module's matrices, packed in 4 bits or not, but embeddings."""
    parts = (part for part in module.modules() if not isinstance(part, torch.nn.Embedding))
    met = (p for part in parts for p in part.parameters(recurse=False) if id(p) not in idle)
    shapes = [getattr(p, "quant_state", p).shape for p in met]
    return 2 * sum(prod(shape) for shape in shapes if len(shape) > 1)


def _idle_parameters(model: torch.nn.Module) -> set[int]:
    """The ids of what adapters hold and no token meets: they are off, or merged, or replace it."""
    idle: list[torch.nn.Parameter] = []
    for layer in adapter_layers(model):
        used = adapters_in_use(layer)
        for kind in layer.adapter_layer_names:
            for name, part in getattr(layer, kind, {}).items():
                # an adapter of an embedding looks up its first matrix
                if name not in used or kind == "lora_embedding_A":
                    idle += part.parameters() if isinstance(part, torch.nn.Module) else [part]
        if used and hasattr(layer, "modules_to_save"):
            idle += layer.original_module.parameters()
    return {id(p) for p in idle}
