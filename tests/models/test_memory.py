"""Bytes computed from a config alone, against those of models that are there."""

import json

import pytest
import torch
from hosts import HOSTS, host, host_config
from tiny import tiny_policy
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from workbench.models import load_policy, load_verifier, memory, smollm2
from workbench.models.memory import GIB, check_fits, matrices, memory_of, skeleton, weight_bytes
from workbench.models.presets import PRESETS, preset, preset_table
from workbench.models.speed import Speed, measure
from workbench.problems import quantities
from workbench.train.learner import MasterWeights, Recipe
from workbench.train.lora import with_lora
from workbench.types import Prefix

CARDS = {  # numbers of parameters that their authors state, and the configs
    "Qwen/Qwen2.5-1.5B-Instruct": (1_543_714_304, 1536, 8960, 28, 12, 2, 151_936, True),
    "Qwen/Qwen2.5-7B-Instruct": (7_615_616_512, 3584, 18_944, 28, 28, 4, 152_064, False),
    "smollm2": (134_515_008, 576, 1536, 30, 9, 3, 49_152, True),
}


def public_config(name):
    _, width, inner, layers, heads, pairs, words, tied = CARDS[name]
    return CONFIG_MAPPING["llama" if name == "smollm2" else "qwen2"](
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, vocab_size=words,
        num_attention_heads=heads, num_key_value_heads=pairs, tie_word_embeddings=tied,
    )  # fmt: skip


def real_bytes(model):
    held = {id(x): x.nbytes for x in (*model.parameters(), *model.buffers())}
    return sum(held.values())


@pytest.mark.parametrize("family", HOSTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_computed_to_the_byte(family, dtype):
    config = host_config(family)
    state = torch.get_rng_state()
    need = memory_of(config, dtype=dtype)
    assert torch.equal(torch.get_rng_state(), state)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    assert need.weights == need.total == real_bytes(model)


def test_key_values_are_computed_to_the_byte():
    policy = tiny_policy("gemma3_text")
    (problem,) = quantities.generate(1, levels=[2], seed=0)
    policy.sample([Prefix(problem)], [0], until="step", temperature=0)
    entry = next(iter(policy.engine.cache._order.values()))
    held = sum(x.nbytes for pair in entry.layers for x in pair)
    need = memory_of(policy.model.config, dtype="float32", cache_tokens=entry.length)
    assert need.key_values == held
    assert memory_of(policy.model.config, dtype="float32", rows=3, length=5).key_values == (
        2 * 3 * 5 * held // entry.length
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_and_their_training_are_computed_to_the_byte(dtype):
    config = host_config("qwen3")
    model = with_lora(AutoModelForCausalLM.from_config(config, dtype=dtype), Recipe(rank=4))
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:  # peft makes them in float32
        p.data = p.data.to(dtype)
    need = memory_of(config, dtype=dtype, rank=4)
    assert need.adapters == sum(p.nbytes for p in trained)
    masters = list(MasterWeights(model).weights.values())
    copies = sum(p.nbytes for p in masters) * 2 if dtype == torch.bfloat16 else 0
    moments = 2 * 4 * sum(p.numel() for p in trained)
    assert need.training == copies + moments + sum(p.nbytes for p in trained)
    assert memory_of(config, dtype=dtype, rank=0).training > need.training


def test_four_bits_are_computed_to_the_byte_but_for_the_tables(tmp_path):
    policy = load_policy(host(tmp_path, "llama"), quantise=True, device="cpu")
    packed = [p for p in policy.model.parameters() if hasattr(p, "quant_state")]
    states = [p.quant_state for p in packed]
    scales = sum(s.absmax.nbytes + s.state2.absmax.nbytes for s in states)
    need = memory_of(policy.model.config, dtype="float32", quantise=True)
    assert len(packed) == len(matrices(skeleton(policy.model.config, torch.float32)))
    assert need.weights == real_bytes(policy.model) + scales


@pytest.mark.parametrize("name", CARDS)
def test_parameters_of_public_models_are_those_of_their_cards(name):
    model = skeleton(public_config(name), torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == CARDS[name][0]


@pytest.mark.skipif(
    not (smollm2.CONVERTED / "model.safetensors").is_file(), reason="SmolLM2 is not converted here"
)
def test_smollm2_takes_what_its_file_holds():
    config = AutoConfig.from_pretrained(smollm2.CONVERTED)
    file = smollm2.CONVERTED / "model.safetensors"
    size = file.stat().st_size - 8 - int.from_bytes(file.open("rb").read(8), "little")
    assert memory_of(config, dtype="bfloat16").weights == pytest.approx(size, rel=0.01)


# -- before loading --------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_in_one_line_before_it_is_read(tmp_path, monkeypatch):
    folder = host(tmp_path, "qwen3")
    need = weight_bytes(skeleton(host_config("qwen3"), torch.float32))
    monkeypatch.setattr(memory, "free_bytes", lambda device: need - 1)
    with pytest.raises(ValueError, match=r"free: try dtype='bfloat16', quantise=True, a smaller"):
        load_policy(folder, device="cpu")
    monkeypatch.setattr(memory, "free_bytes", lambda device: need + 1)
    with pytest.warns(UserWarning, match="there will be little room for anything else"):
        load_policy(folder, device="cpu")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2 * need)
    found = check_fits(folder, dtype=torch.float32, device="cpu", quantise=False)
    assert found.total == need
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard-of"}))
    with pytest.raises(ValueError):
        load_policy(folder, device="cpu")


def test_a_verifier_that_does_not_fit_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    for name in ("prm_base", "orm_base", "reward_base"):
        with pytest.raises(ValueError, match="GiB free: try "):
            load_verifier(name, device="cpu")


# -- presets and minutes ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "server"])
def test_a_preset_fits_its_machine_sampling_and_training(name):
    p = preset(name)
    about = {"dtype": "float32" if p.dtype == "fast" else p.dtype, "quantise": p.quantise}
    config = public_config(p.model)
    length = p.batch_tokens // p.rows
    sampling = memory_of(config, **about, rows=p.rows, length=length, cache_tokens=p.cache_tokens)
    training = memory_of(config, **about, rank=p.rank, tokens=p.micro_tokens)
    assert max(sampling.total, training.total) < 0.9 * p.gib * GIB
    assert Recipe(**p.training).rank == p.rank


def test_presets_are_known_by_name_and_stand_in_a_table():
    assert len(preset_table().splitlines()) == 2 + len(PRESETS)
    assert preset("server").loading == {"chat": True, "max_tokens": 2048, "concurrency": 256}
    with pytest.raises(ValueError, match=r"^preset 'tpu': use one of laptop, t4, 24gb, 80gb"):
        preset("tpu")


def test_minutes_come_from_a_short_measurement():
    policy = tiny_policy()
    problems = quantities.generate(4, levels=[1], seed=0)
    before = [p.clone() for p in policy.model.parameters()]
    speed = measure(policy, problems, tokens=8, training_tokens=64)
    assert min(speed.read, speed.written, speed.trained) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters()))
    assert all(p.grad is None for p in policy.model.parameters())
    assert Speed(1000, 100, 50).minutes(trained=6000) == 2
    with pytest.raises(ValueError, match="the speed of training was not measured"):
        Speed(1, 1).minutes(trained=1)
