"""More layers change nothing at first, learn, and are saved and loaded with the rest."""

import pytest
import torch
from tiny import TOKENIZER, tiny_model

from workbench.models import load_policy, load_verifier
from workbench.models.deeper import deeper
from workbench.models.verifier import StepVerifier, save
from workbench.problems import quantities
from workbench.types import Prefix

IDS = torch.arange(30, 60)[None]  # (1, 30)


@pytest.mark.parametrize("look_back", [False, True])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_logits_stay_as_they_are_until_something_is_learnt(layers, look_back):
    model = tiny_model()
    before, depth = model(IDS).logits, model.config.num_hidden_layers
    deeper(model, layers, look_back=look_back)
    assert model.config.num_hidden_layers == len(model.model.layers) == depth + layers
    assert torch.equal(model(IDS).logits, before)
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [*range(depth + layers)]


def test_half_of_the_heads_look_at_the_token_before_whatever_it_is():
    model = deeper(load_policy("weak", dtype="float32").model, 2, look_back=True)
    model.set_attn_implementation("eager")
    seen = []
    for layer in model.model.layers[-2:]:
        layer.self_attn.register_forward_hook(lambda *call: seen.append(call[-1][1][0]))
    model(IDS)
    first, second = (torch.diagonal(a, -1, 1, 2) for a in seen)  # (H, T - 1)
    assert first[:2].min() > 0.9 and first[2:].mean() < 0.5 > second.mean()
    del model.model.rotary_emb
    with pytest.raises(ValueError, match="cannot look back: need attention_bias and rotary"):
        deeper(model, 1, look_back=True)
    assert len(model.model.layers) == 8  # nothing was added


def test_the_new_layers_get_gradients_and_share_nothing_with_the_old_ones():
    model = deeper(tiny_model(), 2)
    model(IDS).logits.square().mean().backward()
    for layer in model.model.layers[-2:]:
        assert layer.self_attn.o_proj.weight.grad.abs().max() > 0
    pointers = [p.data_ptr() for p in model.parameters()]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize("look_back", [False, True])
def test_a_deeper_verifier_scores_in_any_batch_and_comes_back_from_disk(look_back, tmp_path):
    model = deeper(tiny_model(), 2, look_back=look_back)
    with torch.no_grad():
        for layer in model.model.layers[-2:]:
            layer.mlp.down_proj.weight.normal_(std=0.1)
    problems = quantities.generate(4, levels=[2, 3], seed=4)
    prefixes = [Prefix.of(p, p.solution.split("\n"), ended=True) for p in problems]
    verifier = StepVerifier(model, TOKENIZER)
    scores = verifier.score(prefixes)
    alone = [StepVerifier(model, TOKENIZER).score([prefix])[0] for prefix in prefixes]
    for a, b in zip(scores, alone):
        assert a == pytest.approx(b, abs=1e-5)
    save(verifier, tmp_path)
    again = load_verifier(tmp_path).score(prefixes)
    for a, b in zip(scores, again):
        assert a == pytest.approx(b, abs=1e-5)


def test_what_is_not_built_like_a_llama_is_refused():
    with pytest.raises(ValueError, match="2 more layers on Linear: need 0 or more, and layers as"):
        deeper(torch.nn.Linear(2, 2), 2)
