"""Weights in 4 bits on a shipped model: layers against values by hand, scores and samples against
ordinary layers."""

import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from workbench.models import load_policy, load_verifier
from workbench.models.flops import Flops
from workbench.models.policy import HFPolicy
from workbench.models.quantised import fast_dtype, is_quantised, settled
from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.problems import quantities
from workbench.types import Meter, Prefix

# of the reference implementation of the paper
NF4 = """
-1 -0.6961928 -0.52507305 -0.3949175 -0.28444138 -0.18477343 -0.09105004 0 0.0795803 0.1609302
0.2461123 0.33791524 0.44070983 0.562617 0.72295684 1
""".split()
PROBLEMS = quantities.generate(4, levels=[1, 2], seed=3)
GOLD = [Prefix.of(p, p.solution.split("\n"), ended=True) for p in PROBLEMS]
HALF = [Prefix.of(p, p.solution.split("\n")[:1]) for p in PROBLEMS]
LIKELY = StepFormat(likelihood=1.0)


def flat(scores):
    return [s for row in scores for s in row]


def packed(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear4bit)}


def values(layer):
    """The weights that the layer stands for, (O, I) in float32."""
    return dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()


@pytest.fixture(scope="module")
def whole():
    return load_policy("base", device="cpu")


@pytest.fixture(scope="module")
def small():
    return load_policy("base", device="cpu", quantise=True)


@pytest.fixture(scope="module")
def rounded(whole, small):
    """An ordinary model in float32 with the weights that the one in 4 bits stands for."""
    model = deepcopy(whole.model)
    for name, layer in packed(small.model).items():
        model.get_submodule(name).weight.data = values(layer)
    return model


def test_every_matrix_but_embeddings_and_head_is_held_in_four_bits(whole, small):
    layers = packed(small.model)
    linear = {n for n, layer in whole.model.named_modules() if isinstance(layer, torch.nn.Linear)}
    assert (
        set(layers) == linear - {"lm_head"}
        and is_quantised(small.model)
        and not is_quantised(whole.model)
    )
    others = {
        n: p for n, p in small.model.named_parameters() if n.removesuffix(".weight") not in layers
    }
    assert "lm_head.weight" in others and "model.embed_tokens.weight" in others
    assert all(torch.equal(p, whole.model.get_parameter(n)) for n, p in others.items())
    states = [layer.weight.quant_state for layer in layers.values()]
    held = sum(
        layer.weight.nbytes + s.absmax.nbytes + s.state2.absmax.nbytes
        for layer, s in zip(layers.values(), states)
    )
    assert 8 * held / sum(s.shape.numel() for s in states) == pytest.approx(
        4 + 8 / 64 + 32 / (64 * 256), abs=0.01
    )


def test_each_weight_is_the_nearest_of_sixteen_values_times_its_blocks_scale(whole, small):
    z, checked = np.array(NF4, dtype=np.float32), 0
    for name, layer in list(packed(small.model).items())[::6]:
        w = whole.model.get_submodule(name).weight.detach().numpy().reshape(-1, 64)  # (blocks, 64)
        got = values(layer).numpy().reshape(-1, 64)
        # (blocks, 1); some z is 1 or -1
        scale, kept = abs(w).max(1, keepdims=True), abs(got).max(1, keepdims=True)
        nearest = z[abs(w[..., None] / scale[..., None] - z).argmin(-1)]
        assert (abs(got / kept - nearest) < 1e-5).mean() > 0.9999  # a tie may go either way
        assert abs(kept / scale - 1).max() < 0.05  # scales are in 8 bits
        # half the widest gap
        assert got.tobytes() != w.tobytes() and (abs(got - w) <= (0.152 + 0.05) * scale).all()
        checked += got.size
    assert checked > 500_000


def test_it_computes_what_an_ordinary_model_of_the_rounded_weights_does(small, rounded):
    mine = StepVerifier(small.model, small.tokenizer, LIKELY)
    plain = StepVerifier(rounded, small.tokenizer, LIKELY)
    assert flat(mine.score(GOLD)) == pytest.approx(flat(plain.score(GOLD)), abs=1e-5)
    policy, keys = HFPolicy(rounded, small.tokenizer), [3, 1, 4, 1]
    for a, b in zip(small.sample(HALF, keys), policy.sample(HALF, keys)):
        assert a.ids == b.ids and a.steps[-1].logprobs == pytest.approx(
            b.steps[-1].logprobs, abs=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("dtype, near, same", [("float32", 1e-5, 4), ("bfloat16", 0.02, 3)])
def test_batched_and_from_the_cache_equals_one_by_one(dtype, near, same, small):
    policy = (
        small
        if dtype == "float32"
        else load_policy("base", dtype=dtype, device="cpu", quantise=True)
    )
    verifier = StepVerifier(policy.model, policy.tokenizer, LIKELY)
    verifier.score(HALF)
    together = verifier.score(GOLD)  # each goes on from its first step
    alone = [
        StepVerifier(policy.model, policy.tokenizer, LIKELY).score([prefix])[0] for prefix in GOLD
    ]
    assert flat(together) == pytest.approx(flat(alone), abs=near)
    keys = [11, 12, 13, 14]
    pairs = zip(policy.sample(HALF, keys), (policy.sample([p], [k])[0] for p, k in zip(HALF, keys)))
    assert sum(a.ids == b.ids for a, b in pairs) >= same
    assert not policy.engine.refresh() and policy.engine.cache.tokens > 0


def test_a_change_of_a_packed_weight_empties_the_cache():
    policy = load_policy("weak", device="cpu", quantise=True)
    policy.sample(HALF[:1], [0], until="step")
    assert not policy.engine.refresh()
    weight = next(iter(packed(policy.model).values())).weight
    weight.data = weight.data ^ 1
    assert policy.engine.refresh() and not policy.engine.cache.tokens


def test_operations_are_counted_by_weights_not_by_bytes(whole, small):
    flops = Flops(whole.model)
    assert vars(Flops(small.model)) == vars(flops) and flops.body + flops.head > 2 * 3_000_000
    meters = [Meter(), Meter()]
    for policy, meter in zip((whole, small), meters):
        StepVerifier(policy.model, policy.tokenizer).score(HALF[:1], meters=[meter])
    read = meters[0].verifier
    assert meters[0].flops == meters[1].flops == flops.cost(0, read, 1) > 0


def test_gradients_are_the_same_before_and_after_an_evaluation(small):
    """bitsandbytes' layout for AVX512-BF16, into which an evaluation turns weights, would lose
    them."""
    layer = deepcopy(next(iter(packed(small.model).values())))
    x = torch.randn(
        3, layer.in_features, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    layer.eval()
    with torch.no_grad():
        assert torch.allclose(layer(x), x @ values(layer).T, atol=1e-5)
    layer.train()(x).sum().backward()
    assert torch.allclose(x.grad, values(layer).sum(0).expand(3, -1), atol=1e-5)


def test_the_shipped_prm_in_four_bits_scores_nearly_as_before():
    whole, small = (load_verifier("prm", device="cpu", quantise=q) for q in (False, True))
    assert is_quantised(small.model) and not is_quantised(whole.model)
    gaps = np.abs(np.subtract(flat(whole.score(GOLD)), flat(small.score(GOLD))))
    assert 0 < gaps.max() < 0.1 and gaps.mean() < 0.02


@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_a_device_without_kernels_is_one_sentence(device):
    if {"mps": torch.backends.mps, "cuda": torch.cuda}[device].is_available():
        pytest.skip(f"there is {device} here")
    for load, name in ((load_policy, "base"), (load_verifier, "prm")):
        with pytest.raises(
            ValueError,
            match=rf"^bitsandbytes has no 4-bit kernels for device '{device}' here: [^\n]*$",
        ):
            load(name, device=device, quantise=True)


def test_a_missing_bitsandbytes_and_a_dtype_of_others_are_one_sentence(monkeypatch):
    with pytest.raises(
        ValueError,
        match=r"^weights in 4 bits compute in float32, bfloat16 or float16, not in torch\.fl",
    ):
        load_policy("base", dtype="float64", quantise=True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for load, name in ((load_policy, "base"), (load_verifier, "prm")):
        with pytest.raises(
            ValueError,
            match=r"^weights in 4 bits need bitsandbytes, which is not installed: pip install",
        ):
            load(name, quantise=True)
    assert not is_quantised(load_policy("weak").model)  # others load as ever


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_processor(small):
    policy = load_policy("base", device="cuda", quantise=True)
    assert all(layer.weight.is_cuda for layer in packed(policy.model).values())
    scores, expected = (
        StepVerifier(p.model, p.tokenizer, LIKELY).score(GOLD) for p in (policy, small)
    )
    assert flat(scores) == pytest.approx(flat(expected), abs=0.05)
    keys = [11, 12, 13, 14]
    together = policy.sample(HALF, keys)
    assert (
        sum(a.ids == policy.sample([p], [k])[0].ids for a, p, k in zip(together, HALF, keys)) >= 3
    )


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_fast_is_bfloat16_only_where_the_device_has_it(native, expected, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: asked.append(how) or native)
    assert fast_dtype() == fast_dtype("cuda") == expected
    assert asked == [{"including_emulation": False}]  # a T4 says yes, and is slow
    policy = load_policy("weak", dtype="fast", device="cpu")
    assert policy.model.dtype == expected


def test_of_several_processes_each_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert settled("float32", None) == (torch.float32, "cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert settled("float32", None) == (torch.float32, "cuda:3")
    assert settled("float32", "cpu") == (torch.float32, "cpu")
