"""Policies on disk: whole checkpoints or adapters, with how they write beside them.

A folder holds weights, or those of an adapter alone, which names its base; a tokenizer; and
`policy.json`, where a policy writes in another way than the embedded ones: its prompts, its
separator, and how long a solution may be. What `save_policy` wrote, `load_policy` reads.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.models.checkpoints import is_verifier, locate, portable, without_library_notes
from workbench.models.quantised import is_quantised, load_model
from workbench.models.templates import OF_METHODS

if TYPE_CHECKING:
    from workbench.models.policy import HFPolicy

WAY_OF_WRITING = "policy.json"
ADAPTER = "adapter_config.json"
# what a policy's folder consists of
OWN_SUFFIXES = {".json", ".safetensors", ".jinja", ".model", ".bin"}
OWN_NAMES = {"README.md", "merges.txt", "vocab.txt"}


def save_policy(policy: HFPolicy, folder: str | Path) -> None:
    """Write weights, or adapters alone, tokenizer and way of writing, whole or not at all.

    What policy the folder held before is replaced; ValueError if it holds something else.
    """
    folder = Path(folder)
    names = ("config.json", ADAPTER)
    a_policy = any((folder / name).is_file() for name in names) and not is_verifier(folder)
    held = [*folder.iterdir()] if folder.is_dir() else []
    own = [file for file in held if file.suffix in OWN_SUFFIXES or file.name in OWN_NAMES]
    if held and (len(own) < len(held) or not a_policy):
        raise ValueError(f"{folder} holds other files than a policy: name another folder")
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)  # of a writing that was stopped
    save_weights(policy.model, part, replaced=(folder, old))
    policy.tokenizer.save_pretrained(part)
    own = {name: text for name, text in policy.templates.items() if OF_METHODS.get(name) != text}
    way = {"templates": own, "separator": policy.separator, "max_tokens": policy.max_tokens}
    way |= {"stop": policy.stop} if policy.stop else {}
    text = json.dumps(way, indent=1, ensure_ascii=False)
    (part / WAY_OF_WRITING).write_text(text + "\n", encoding="utf-8")
    if folder.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    part.rename(folder)  # stopped before it: the older one is beside it, whole
    shutil.rmtree(old, ignore_errors=True)


def save_weights(model, folder: Path, *, replaced: Sequence[Path] = ()) -> None:
    """Write a model, or its adapters alone, which will find a shipped base in another clone.

    Adapters whose base has changed since it was read, or stands in a folder that is being
    `replaced`, would be put on other weights when they are read again: these are written merged, as
    a whole model.
    """
    going = [place.resolve() for place in (folder, *replaced)]
    adapters = getattr(model, "peft_config", {})
    if not all(_stands_on(model, own.base_model_name_or_path, going) for own in adapters.values()):
        model, adapters = copy.deepcopy(model).merge_and_unload(), {}
    for config in adapters.values():
        config.base_model_name_or_path = portable(config.base_model_name_or_path)
    model.save_pretrained(folder, **({"save_embedding_layers": False} if adapters else {}))


def _stands_on(model, name: str | None, going: Sequence[Path]) -> bool:
    """Does the checkpoint hold the weights that the adapters stand on, and stay where it is?

    Reads it once more; bases in 4 bits do not train and are believed.
    """
    from transformers import AutoModelForCausalLM

    if not name or is_quantised(model):
        return True
    if Path(name).resolve() in going:
        return False
    as_here = {"dtype": model.dtype, "device": "cpu", "quantise": False}
    there = dict(load_model(AutoModelForCausalLM, locate(name), **as_here).named_parameters())
    own = {n.replace(".base_layer", ""): p for n, p in model.get_base_model().named_parameters()}
    # a scalar head is saved with the adapters
    own = {n: p for n, p in own.items() if "lora_" not in n and not n.startswith("score.")}
    # rounded, for it may have been trained in another dtype than it was read in
    return all(
        n in there and there[n].shape == p.shape
        and torch.equal(p.cpu().bfloat16(), there[n].bfloat16()) for n, p in own.items()
    )  # fmt: skip


def way_of_writing(folder: str | Path) -> dict[str, Any]:
    """What `save_policy` noted of how a policy writes, or of its base; nothing of others."""
    file = Path(folder) / WAY_OF_WRITING
    if not file.is_file():
        base = base_of(folder)
        return way_of_writing(locate(base)) if base else {}
    way = json.loads(file.read_text(encoding="utf-8"))
    return way | {"templates": OF_METHODS | way["templates"]}


def base_of(folder: str | Path) -> str | None:
    """What the adapter in a folder sits on; None for a whole checkpoint, or none.

    A base that is gone from where it was is looked for beside the adapter's folder.
    """
    file = Path(folder) / ADAPTER
    if not file.is_file():
        return None
    name = json.loads(file.read_text())["base_model_name_or_path"]
    beside = Path(folder).resolve().parent / Path(name).name  # both may have been moved
    moved = Path(name).is_absolute() and not Path(name).is_dir() and beside.is_dir()
    return str(beside) if moved else name


def adapted(model, folder: str | Path, *, trainable: bool = False):
    """A model with the adapter in a folder: merged into its weights, in 4 bits on top of them.

    `trainable`: on top in any case, to train on.
    """
    with without_library_notes():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        if trainable or is_quantised(model):
            return model
        return model.merge_and_unload().requires_grad_(True)  # peft has frozen the base
