"""Whole and broken checkpoints, each named in one line; digests that tell models apart."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_model

from workbench.models import load_policy
from workbench.models.checkpoints import SHIPPED, check_complete, locate, portable, weights_digest

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 7340032\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(SHIPPED / "weak", tmp_path / "weak"))


@pytest.mark.parametrize("name", ["weak", "base", "strong"])
def test_shipped_folders_and_files_are_whole(name):
    check_complete(SHIPPED / name)
    check_complete(SHIPPED / name / "model.safetensors")
    check_complete(SHIPPED / "prm" / "adapter_model.safetensors")


def test_a_folder_without_its_config_or_weights_is_named(folder):
    (folder / "config.json").rename(folder / "elsewhere.json")
    with pytest.raises(ValueError, match=r"is no checkpoint: config.json is missing$"):
        load_policy(folder)
    (folder / "elsewhere.json").rename(folder / "config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is no checkpoint: no .safetensors file$"):
        load_policy(folder)


def test_a_part_that_the_index_lists_and_nobody_copied_is_named(folder):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"model-2.safetensors is missing$"):
        check_complete(folder)


@pytest.mark.parametrize("length", [0, 4, 5000, 50_000, -1])
def test_a_half_written_checkpoint_is_named(folder, length):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    for path in (folder, file):
        with pytest.raises(ValueError, match=r"model.safetensors is not whole, .*: get it again"):
            check_complete(path)


def test_a_pointer_and_other_text_in_place_of_weights_are_named(folder):
    file = folder / "model.safetensors"
    file.write_text(POINTER)
    with pytest.raises(ValueError, match=r"is a Git LFS pointer, not the weights: run `git lfs"):
        load_policy(folder)
    for header in (b"<html>", b"[1]", b'{"a": 1}'):
        file.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(ValueError, match=r"not whole, or no .safetensors file: get it"):
            check_complete(folder)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"weights.safetensors is missing$"):
        check_complete(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"nothing is no checkpoint: there is no such folder$"):
        check_complete(tmp_path / "nothing")
    shipped = r"\(shipped: base, smollm2-sft, strong, weak\)"
    with pytest.raises(ValueError, match=rf"no checkpoint folder './nowhere' {shipped}"):
        locate("./nowhere")


def test_names_of_the_hub_pass_through_and_shipped_ones_are_written_short():
    assert locate("Qwen/Qwen2.5-Math-1.5B") == "Qwen/Qwen2.5-Math-1.5B"
    assert portable(locate("weak")) == "weak" and portable("some/where") == "some/where"


# -- digests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_weights_have_one_digest_and_each_single_bit_counts(dtype):
    model = tiny_model(dtype=dtype)
    digest = weights_digest(model)
    assert digest == weights_digest(tiny_model(dtype=dtype)) != weights_digest(tiny_model(seed=1))
    last = [p for p in model.parameters()][-1]  # a norm
    bits = last.data.view(torch.uint8)
    bits[0] ^= 1
    assert weights_digest(model) != digest
    bits[0] ^= 1
    assert weights_digest(model) == digest


def test_the_same_values_in_another_dtype_are_another_model():
    rounded = tiny_model(dtype=torch.bfloat16)
    assert weights_digest(rounded) != weights_digest(tiny_model(dtype=torch.bfloat16).float())


def test_adapters_and_whether_they_are_in_use_are_part_of_the_digest():
    model = tiny_model()
    seen = [weights_digest(model)]
    adapted = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False))
    seen.append(weights_digest(adapted))
    with adapted.disable_adapter():
        seen.append(weights_digest(adapted))
    assert weights_digest(adapted) == seen[1]
    adapted.add_adapter("other", LoraConfig(r=2, init_lora_weights=False))
    for names in (["other"], ["default"], ["default", "other"]):
        adapted.base_model.set_adapter(names)
        seen.append(weights_digest(adapted))
    next(m for m in adapted.modules() if hasattr(m, "set_scale")).set_scale("other", 5.0)
    seen.append(weights_digest(adapted))
    assert len(set(seen)) == len(seen)


def test_weights_in_four_bits_have_a_digest_of_codes_and_scales():
    one, model = (load_policy("weak", device="cpu", quantise=True).model for _ in range(2))
    digest = weights_digest(one)
    assert weights_digest(model) == digest != weights_digest(load_policy("weak").model)
    weight = next(p for p in model.parameters() if hasattr(p, "quant_state"))
    weight.quant_state.absmax[0] ^= 1  # scales are codes, too
    assert weights_digest(model) != digest
