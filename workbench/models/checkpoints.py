"""Where checkpoints are, whether they are whole, and what exactly a loaded model is.

A model is its weights and the adapters in use. `weights_digest` reads every byte, to tell models
apart in files; the engine's own look at every call is a cheap one (`Engine.refresh`).
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from safetensors import SafetensorError, safe_open

from workbench.models.smollm2 import CONVERTED, SMOLLM2, smollm2

SHIPPED = Path(__file__).parents[2] / "data" / "models"
VERIFIER = "verifier.json"  # what a model that judges has beside it


def locate(name_or_path: str | Path) -> str:
    """A folder for a shipped name, `smollm2` or a path, else the name unchanged (for the hub).

    ValueError if the folder is missing or incomplete.
    """
    if str(name_or_path) == SMOLLM2:
        return smollm2()
    for folder in (Path(name_or_path), SHIPPED / str(name_or_path)):
        if folder.is_dir():
            check_complete(folder)
            return str(folder)
    name = str(name_or_path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ValueError(f"no checkpoint folder {name!r} (shipped: {shipped_names()})")
    return name


def is_verifier(folder: str | Path) -> bool:
    """Does the folder hold a model that judges?"""
    return (Path(folder) / VERIFIER).is_file()


def shipped_names(*, judging: bool = False) -> str:
    """The shipped models that write or, if `judging`, those that judge."""
    folders = (folder for folder in SHIPPED.glob("*/") if is_verifier(folder) == judging)
    return ", ".join(sorted(folder.name for folder in folders)) or "none"


def portable(path: str) -> str:
    """How a file should name a checkpoint: what we know by name, to be found in another clone; a
    folder by its whole path, to be found from another one."""
    place = Path(path).resolve()
    known = place.parent == SHIPPED.resolve() or place == CONVERTED.resolve()
    if known:
        return place.name
    return str(place) if place.is_dir() else path


# -- whole or not ----------------------------------------------------------------------------------


def check_complete(path: str | Path) -> None:
    """ValueError, in one line, for a checkpoint folder or .safetensors file that is not whole."""
    path = Path(path)
    if path.suffix == ".safetensors" and not path.is_dir():
        return _check_weights(path)
    if not path.is_dir():
        raise ValueError(f"{path} is no checkpoint: there is no such folder")
    if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ValueError(f"{path} is no checkpoint: config.json is missing")
    weights = {*path.glob("*.safetensors")}
    for index in path.glob("*.safetensors.index.json"):
        weights |= {path / name for name in json.loads(index.read_text())["weight_map"].values()}
    if not weights and not list(path.glob("*.bin")):
        raise ValueError(f"{path} is no checkpoint: no .safetensors file")
    for file in sorted(weights):
        _check_weights(file)


def _check_weights(file: Path) -> None:
    if not file.is_file():
        raise ValueError(f"{file} is missing")
    with file.open("rb") as stream:
        if stream.read(8) == b"version ":
            raise ValueError(f"{file} is a Git LFS pointer, not the weights: run `git lfs pull`")
    try:
        with safe_open(file, "np"):  # reads the header, and compares the sizes that it names
            pass
    except SafetensorError as why:
        said = f"{file} is not whole, or no .safetensors file: get it again"
        raise ValueError(f"{said} ({why})") from why


# -- what a loaded model is ------------------------------------------------------------------------


def adapter_layers(model) -> list:
    """The layers of a model that peft has put adapters on."""
    return [layer for layer in model.modules() if hasattr(layer, "adapter_layer_names")]


def adapters_in_use(layer) -> tuple[str, ...]:
    """The adapters that a layer of `adapter_layers` applies; merged ones are in its weights."""
    off = layer.disable_adapters or getattr(layer, "merged", False)
    return () if off else tuple(layer.active_adapters)


def adapter_state(model) -> str:
    """All that decides, besides the weights, what adapters do: which are applied, how strongly."""
    layers = adapter_layers(model)
    return str([(adapters_in_use(layer), getattr(layer, "scaling", None)) for layer in layers])


def weights_digest(model) -> str:
    """An exact digest of a torch model: all weights by their bytes, dtypes, adapters in use."""
    import torch

    digest = blake2b(adapter_state(model).encode(), digest_size=16)
    for name, weight in model.state_dict().items():  # in 4 bits: codes and scales
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        flat = weight.detach().reshape(-1).cpu().contiguous()
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


# -- loading ---------------------------------------------------------------------------------------


def no_bars_in_notebooks() -> None:
    """In a kernel, load without transformers' bars: they would stay in the notebook as widgets."""
    if "ipykernel" in sys.modules:
        from transformers.utils import logging as told

        told.disable_progress_bar()


@contextmanager
def without_library_notes() -> Iterator[None]:
    """Silence what libraries say of 4-bit kernels, renamed flags and heads that we read."""
    loggers = [logging.getLogger(name) for name in ("bitsandbytes", "transformers.modeling_utils")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
