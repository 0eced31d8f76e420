"""What forward passes cost, held against torch's own counter, token by token: nothing is masked."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import TOKENIZER, tiny_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from workbench.models.flops import Flops

LENGTH = 30  # longer than the sliding windows


@torch.no_grad()
def counted(model, start: int, end: int) -> int:
    """torch's count of the matrix products for tokens start + 1 to end, one after the other."""
    model.set_attn_implementation("eager")  # the counter knows no fused attention on a processor
    cache, total = None, 0
    for i in range(end):
        with FlopCounterMode(display=False) as counter:
            out = model(torch.tensor([[5 + i]]), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        by_module = counter.get_flop_counts()
        angles = sum(  # rotary angles are a product in transformers, and a table by nature
            sum(ops.values()) for name, ops in by_module.items() if name.endswith("rotary_emb")
        )
        total += (counter.get_total_flops() - angles) * (i >= start)
    return total


def wide_model(**options):
    """Grouped queries and heads of 16, which is not hidden size / heads."""
    config = tiny_model().config
    config.update({"head_dim": 16, **options})
    return AutoModelForCausalLM.from_config(config).eval()


HOSTS = ["llama", "qwen2", "gemma", "gpt2", "gpt_neox", "mistral", "gemma3_text"]


@pytest.mark.slow
@pytest.mark.parametrize("family", HOSTS)
def test_flops_are_torchs_count(family):
    model = tiny_model(family)
    flops = Flops(model)
    assert flops.cost(0, LENGTH, LENGTH) == counted(model, 0, LENGTH)
    assert flops.cost(11, LENGTH, LENGTH - 11) == counted(model, 11, LENGTH)


def test_query_heads_count_by_their_real_size_and_a_tied_head_counts_once():
    tied = wide_model(tie_word_embeddings=True)
    assert tied.get_output_embeddings().weight is tied.get_input_embeddings().weight
    assert Flops(tied).cost(0, 9, 9) == counted(tied, 0, 9) == Flops(wide_model()).cost(0, 9, 9)
    assert Flops(tied).pair == 4 * 4 * 16 and Flops(tied).head == 2 * 32 * len(TOKENIZER)


def test_the_head_counts_only_where_logits_are_computed():
    model = wide_model()
    assert Flops(model).cost(0, 9) == counted(model.model, 0, 9)
    assert Flops(model.model).cost(0, 9, 9) == Flops(model).cost(0, 9)


def test_adapters_count_while_they_are_in_use():
    model = tiny_model()
    plain = Flops(model).cost(0, 5, 5)
    options = {"r": 3, "target_modules": "all-linear", "modules_to_save": ["lm_head"]}
    adapted = get_peft_model(model, LoraConfig(**options))
    adapted.add_adapter("other", LoraConfig(r=5, target_modules=["q_proj"]))
    costs = [Flops(adapted).cost(0, 5, 5)]
    assert costs[0] == counted(adapted, 0, 5) > plain
    adapted.set_adapter("other")
    costs.append(Flops(adapted).cost(0, 5, 5))
    assert costs[1] == counted(adapted, 0, 5) == plain + 5 * 2 * 2 * 5 * (32 + 32)
    with adapted.disable_adapter():
        assert Flops(adapted).cost(0, 5, 5) == counted(adapted, 0, 5) == plain
    adapted.merge_adapter()
    assert Flops(adapted).cost(0, 5, 5) == plain
