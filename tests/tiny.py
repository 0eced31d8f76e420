"""Tiny random models of the families that the engine must serve, over the embedded tokenizer."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from workbench.models.policy import HFPolicy
from workbench.models.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 24},  # shorter than the contexts of the tests
    "gemma": {},
    "gemma3_text": {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
    "gpt2": {"tie_word_embeddings": True},  # learnt positions
    "gpt_neox": {},
}


def tiny_model(family: str = "llama", *, seed: int = 0, dtype=torch.float32):
    """Two layers, 32 wide, grouped-query heads; weights large enough for varied output."""
    config = CONFIG_MAPPING[family](
        vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=256,
        pad_token_id=0, eos_token_id=1, bos_token_id=None, initializer_range=0.35,
        **FAMILIES[family],
    )  # fmt: skip
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(dtype).eval()


def tiny_policy(family: str = "llama", *, dtype=torch.float32, **options) -> HFPolicy:
    return HFPolicy(
        tiny_model(family, dtype=dtype),
        TOKENIZER,
        **{"max_tokens": 40, "batch_tokens": 1024, **options},
    )


class Ids:
    """A tokenizer whose texts are its ids: "4 322 12" -> [4, 322, 12]; the question gets a
    beginning-of-text id."""

    unk_token_id = -1
    eos_token_id = None

    def __call__(self, text, add_special_tokens=True):
        if isinstance(text, list):
            return type(
                "", (), {"input_ids": [self(t, add_special_tokens).input_ids for t in text]}
            )
        ids = [int(i) for i in text.split()]
        return type("", (), {"input_ids": [0, *ids] if add_special_tokens else ids})
