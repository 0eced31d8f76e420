r"""Weights in 4 bits by bitsandbytes, the base of QLoRA (Dettmers et al. 2023, arXiv 2305.14314).

Each block of 64 weights of a matrix W has a scale c and keeps the number of the nearest of 16
values z, which have equal shares of a normal distribution ("NF4"); the scales are themselves kept
in 8 bits ("double quantisation"). With adapters A and B of rank r on top, which alone train:

$$Y = X \, \text{dequant}(W)^T + \tfrac{\alpha}{r} X A^T B^T,
\qquad \text{dequant}(W)_i = c_i z_{k(i)},$$

and stores 4.13 bits a weight instead of 16 or 32. Embeddings, norms and head stay as they are.

An adapter makes up for what rounding did, too: it is best read on the base that it was trained on.

Deviations: adapters train on the model as it is read afterwards, where the paper's code turns
embeddings, norms and head into float32. Adapters are never merged into a 4-bit base: rounding would
undo much of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from workbench.models.checkpoints import no_bars_in_notebooks, without_library_notes

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def fast_dtype(device: str | torch.device = "cpu") -> torch.dtype:
    """bfloat16 where the device multiplies in it, else float32: emulated, it is 20 times slower."""
    kind = torch.device(device).type
    if kind == "cuda":  # a T4 only emulates it
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = kind != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def load_model(
    family: type,
    path: str | Path,
    *,
    dtype: str | torch.dtype,
    device: str | None,
    quantise: bool,
    **options,
) -> torch.nn.Module:
    """A model of a transformers `family`, on a GPU if there is one and nothing else is asked for.

    `dtype` "fast" is bfloat16 where the device has it, else float32 (`fast_dtype`).
    `options` go to `from_pretrained`. ValueError for a checkpoint that lacks weights, which
    transformers would draw at random, and where there is no computing in 4 bits.
    """
    dtype, device = settled(dtype, device)
    options |= {"dtype": dtype, "output_loading_info": True, "trust_remote_code": False}
    options |= four_bit(dtype, device) if quantise else {}
    no_bars_in_notebooks()
    model, loaded = family.from_pretrained(path, **options)
    if lost := sorted(loaded["missing_keys"]):
        raise ValueError(f"{path} is not whole: {lost[0]} and {len(lost) - 1} more weights missing")
    return keep_plain_layout(model.to(device))


def settled(dtype: str | torch.dtype, device: str | None) -> tuple[torch.dtype, str]:
    """What a dtype by name and a device left open come to here: of processes each its own GPU."""
    own = os.environ.get("LOCAL_RANK")
    cuda = f"cuda:{own}" if own else "cuda"
    device = device or (cuda if torch.cuda.is_available() else "cpu")
    dtype = fast_dtype(device) if dtype == "fast" else dtype
    known = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(known, torch.dtype):
        raise ValueError(f"dtype={dtype!r}: use float32, bfloat16, float16 or fast")
    return known, device


def four_bit(dtype: torch.dtype, device: str) -> dict:
    """What `from_pretrained` needs to load a model in 4 bits that computes in `dtype` on `device`.

    ValueError in one line if bitsandbytes is missing or cannot compute so.
    """
    from transformers import BitsAndBytesConfig

    if dtype not in DTYPES:
        known = "float32, bfloat16 or float16"
        raise ValueError(f"weights in 4 bits compute in {known}, not in {dtype}")
    check_device(device)
    kind = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype, **kind)
    return {"quantization_config": config, "device_map": {"": device}}


def check_device(device: str) -> None:
    """ValueError, in one line, if bitsandbytes is missing or cannot compute on this device."""
    try:
        with without_library_notes():
            from bitsandbytes import functional
    except ImportError as error:
        missing = "which is not installed: pip install bitsandbytes"
        raise ValueError(f"weights in 4 bits need bitsandbytes, {missing}") from error
    try:
        small = torch.ones(64, 64, device=device)
        codes = functional.quantize_4bit(small, quant_type="nf4", compress_statistics=True)
        functional.dequantize_4bit(*codes)
    # what torch and bitsandbytes raise for a device without kernels
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        what = f"no 4-bit kernels for device {device!r} here"
        raise ValueError(f"bitsandbytes has {what}: {reason}") from error


def keep_plain_layout(model: torch.nn.Module) -> torch.nn.Module:
    """The model, its 4-bit layers kept from bitsandbytes' layout for AVX512-BF16 processors.

    With bitsandbytes 0.50 such a layer repacks its weights at the first forward in eval mode. From
    then on it computes in bfloat16 whatever its dtype, stops gradients (also in later training),
    saves other scales than it had, and fails where a matrix is no multiple of 32 x 64.
    """
    for layer in model.modules():
        if getattr(layer, "support_avx512bf16_for_cpu", False):
            layer.support_avx512bf16_for_cpu = False
    return model


def is_quantised(model: torch.nn.Module) -> bool:
    """Does the model hold weights in 4 bits?"""
    return any(hasattr(p, "quant_state") for p in model.parameters())


def check_trainable(model: torch.nn.Module) -> None:
    """ValueError if weights in 4 bits would train: only adapters on top of them can."""
    if is_quantised(model) and not hasattr(model, "peft_config"):
        instead = "train adapters on them (rank > 0), or load it unquantised"
        raise ValueError(f"weights in 4 bits stay as they are: {instead}")
