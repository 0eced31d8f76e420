r"""Bytes that a model will take, computed from its config before a single weight is read.

- **Weights**: parameters and buffers of the model built on torch's `meta` device, which holds
  shapes and no numbers. In 4 bits (`quantised`) a packed weight takes half a byte, a block of 64 a
  byte for its scale, and 256 blocks four bytes for theirs.
- **Key-values**: $2 \cdot \text{layers} \cdot \text{key-value heads} \cdot \text{head size}$
  numbers a token. The engine holds those of the live rows twice while it puts a batch together
  anew, and once what it keeps of prefixes (`cache_tokens`).
- **Training**: of each weight that trains its gradient and the two moments of AdamW in float32,
  and where it computes in 16 bits a copy in float32 with a gradient of its own. LoRA of rank r on a
  matrix (m, n) trains r (m + n).
- **Activations**: about 34 bytes a hidden number, layer and token in 16 bits (Korthikanti et al.
  2022, arXiv 2205.05198, equation 2, without the attention scores, which are not stored), and the
  logits with their log-softmax and its gradient. With `Recipe.recompute` of all layers but one only
  what goes in is kept, a hidden number each.

The first three are exact, to the byte (but for small tables in 4 bits); activations are an
estimate. What torch, CUDA and fragments take comes on top: a tenth or so. Taught in notebook 10.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

import torch

from workbench.models.quantised import check_device

GIB = 2**30
TIGHT = 0.9  # of what is free: beyond it a warning


@dataclass(frozen=True)
class Memory:
    """Bytes, by what they are for.

    >>> print(Memory(weights=3 * GIB, key_values=GIB // 2))
    3.5 GiB (weights 3.0, key-values 0.5)
    """

    weights: int
    key_values: int = 0
    adapters: int = 0
    training: int = 0  # gradients, moments, copies in float32
    activations: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))

    def __str__(self) -> str:
        parts = {part.name.replace("_", "-"): getattr(self, part.name) for part in fields(self)}
        named = ", ".join(f"{name} {_gib(n)}" for name, n in parts.items() if n)
        return f"{_gib(self.total)} GiB ({named})"


def memory_of(
    config: Any,
    *,
    dtype: str | torch.dtype = "bfloat16",
    quantise: bool = False,
    rows: int = 0,
    length: int = 0,
    cache_tokens: int = 0,
    rank: int | None = None,
    tokens: int = 0,
    recompute: bool = False,
) -> Memory:
    """What a model of this config takes: loaded, and with so much going on.

    Sampling: `rows` at once of `length` tokens each, prompt included, and `cache_tokens` kept.
    Training: with adapters of a `rank`, or whole with rank 0, on `tokens` tokens at a time, with
    `Recipe.recompute` or without.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    model = skeleton(config, dtype)
    adapters = sum(rank * sum(p.shape) for p in matrices(model)) if rank else 0  # numbers
    trained = adapters if rank else sum(p.numel() for p in model.parameters()) if rank == 0 else 0
    narrow = dtype.itemsize < 4
    each = 2 * max(4, dtype.itemsize) + dtype.itemsize + (8 if narrow else 0)
    return Memory(
        weights=weight_bytes(model, quantise=quantise),
        key_values=key_value_bytes(config, dtype) * (2 * rows * length + cache_tokens),
        adapters=adapters * dtype.itemsize,
        training=trained * each,
        activations=activation_bytes(config, dtype, recompute) * tokens,
    )


# -- parts -----------------------------------------------------------------------------------------


def skeleton(config: Any, dtype: torch.dtype) -> torch.nn.Module:
    """A causal LM of this config without any numbers in it; no random number is drawn."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def matrices(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights of all linear layers but the next-token head: what is packed, and adapted."""
    head = model.get_output_embeddings()
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    return [layer.weight for layer in linear if layer is not head]


def weight_bytes(model: torch.nn.Module, *, quantise: bool = False) -> int:
    """Bytes of parameters and buffers, tied ones once; `quantise`: once they are in 4 bits."""
    packed = {id(p): p.numel() for p in matrices(model)} if quantise else {}
    held = {id(x): x.nbytes for x in (*model.parameters(), *model.buffers())}
    plain = sum(n for name, n in held.items() if name not in packed)
    return plain + sum(map(four_bit_bytes, packed.values()))


def four_bit_bytes(weights: int) -> int:
    """Bytes of so many weights of one matrix in 4 bits, with their scales and the scales' scales.

    >>> four_bit_bytes(64 * 256)  # 4.13 bits a weight
    8452
    """
    blocks = ceil(weights / 64)
    return ceil(weights / 2) + blocks + 4 * ceil(blocks / 256)


def key_value_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the key-values of one token, in all layers."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * size * dtype.itemsize


def activation_bytes(config: Any, dtype: torch.dtype, recompute: bool = False) -> int:
    """About how many bytes one token leaves behind for the backward pass, logits included."""
    text = config.get_text_config()
    whole, entered = (1, text.num_hidden_layers) if recompute else (text.num_hidden_layers, 0)
    layers = (17 * whole + entered) * dtype.itemsize * text.hidden_size
    return layers + text.vocab_size * (dtype.itemsize + 2 * 4)


# -- before loading --------------------------------------------------------------------------------


def free_bytes(device: str | torch.device) -> int:
    """What is free on a device; of any but CUDA ones, what the machine's memory has."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def check_fits(path: str | Path, *, dtype: torch.dtype, device: str, quantise: bool) -> Memory:
    """What the checkpoint will take, of weights alone, before it is loaded.

    ValueError in one line where that is more than the device has free; a warning where nothing much
    would be left. OSError where there is no config.
    """
    from transformers import AutoConfig

    if quantise:
        check_device(device)  # better said than what torch says of a device that is not there
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    need, free = memory_of(config, dtype=dtype, quantise=quantise), free_bytes(device)
    if need.total > TIGHT * free:
        kind = "4 bits" if quantise else dtype
        said = f"{path}: its weights take {_gib(need.total)} GiB as {kind}"
        said += f", {device} has {_gib(free)} GiB free"
        if need.total > free:
            raise ValueError(f"{said}: {_way_out(dtype, quantise)}")
        warnings.warn(f"{said}: there will be little room for anything else", stacklevel=4)
    return need


def _way_out(dtype: torch.dtype, quantise: bool) -> str:
    """What takes less."""
    ways = [] if quantise or dtype.itemsize <= 2 else ["dtype='bfloat16'"]
    ways += [] if quantise else ["quantise=True"]
    return f"try {', '.join([*ways, 'a smaller model'])}"


def _gib(n: float) -> str:
    return f"{n / GIB:.1f}" if n >= 0.05 * GIB else f"{n / GIB:.2g}"
