"""Tiny random checkpoints on disk, with the tokenizer, chat template and quirks of a family."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.decoders import ByteLevel
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

MERGES = [("Ċ", "Ċ"), ("Y", "e"), ("Ye", "s"), ("N", "o"), ("Ġ", "Yes"), ("Ġ", "No")]
CHATML = (
    "{%- if messages[0].role != 'system' %}<|im_start|>system\nBe {helpful}.<|im_end|>\n{% endif %}"
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n"
    "{%- if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{%- endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|end|>\n\n"
    "{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
TURNS = (  # no system prompt
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}</turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
# family: its config beside the common one, chat template, special tokens (BOS, ends), adds BOS?
HOSTS = {
    "qwen3": ({"tie_word_embeddings": True}, CHATML, (None, "<|im_end|>"), "<|im_start|>"),
    "llama": (
        {
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        HEADERS, ("<|begin|>", "<|eot|>"), "<|start|> <|end|>",
    ),
    "gemma3_text": (
        {
            "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 16,
        },
        TURNS, ("<bos>", "</turn>"), "<turn>",
    ),
    "qwen2": ({"tie_word_embeddings": False}, CHATML, (None, "<|im_end|>"), "<|im_start|>"),
    "mistral": ({"sliding_window": 24}, HEADERS, ("<|begin|>", "<|eot|>"), "<|start|> <|end|>"),
    "phi3": ({}, CHATML, (None, "<|im_end|>"), "<|im_start|>"),
}  # fmt: skip


def host_tokenizer(family):
    """A byte-level tokenizer without a pad token."""
    _, template, (bos, eos), others = HOSTS[family]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [token for token in (bos, eos, *others.split()) if token]
    words = [*special, *alphabet, *(a + b for a, b in MERGES)]
    core = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, MERGES))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = ByteLevel()
    core.add_special_tokens(special)
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=eos, chat_template=template
    )


def host_config(family, vocabulary=288, **changes):
    """Two layers, 64 wide, grouped queries; weights large enough for varied output."""
    own, *_ = HOSTS[family]
    common = {
        "vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 512, "initializer_range": 0.2, "pad_token_id": None,
    }  # fmt: skip
    return CONFIG_MAPPING[family](**(common | own | changes))


def host(folder, family):
    """The checkpoint of a family, written to a folder."""
    tokenizer = host_tokenizer(family)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(host_config(family, **ends))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
