"""Tiny checkpoints laid out as the public PRMs are, with their architectures, key names and special
ids.

One layer, keys and queries zero: attention is the mean over the tokens so far, so each position has
a score of its own. Each builder writes a folder and returns it, options for `load_public`, and a
function that scores by hand in NumPy.
"""

import json

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from workbench.types import Prefix, Problem

SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."
BYTES = {
    c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
}  # the first 256 ids of Qwen and Llama 3
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
PROBLEM = Problem("p1", "math", "How many?")
SOLUTION = Prefix.of(PROBLEM, ["one plus two", "so three"])


def piece(text):
    """Ids of ASCII text in the Mistral tokenizer below: one a character."""
    return [{" ": 28705, "\n": 13}.get(c, 28000 + ord(c)) for c in text]


def raw(text):
    """Ids of ASCII text in the Qwen and Llama tokenizers below: one a byte, with their public
    numbers."""
    return [{" ": 220, "\n": 198}.get(c, ord(c) - 33) for c in text]


def mistral_tokenizer(tag=12902):
    """SentencePiece-like, with byte fallback: only the newline is a byte here."""
    vocab = {
        "<unk>": 0,
        "<s>": 1,
        "</s>": 2,
        "<0x0A>": 13,
        "▁": 28705,
        "к": 29000,
        "и": 29001,
        "ки": 29002,
    }
    vocab |= {chr(i): 28000 + i for i in range(33, 127)} | {"▁ки": tag, "▁+": 648, "▁-": 387}
    return LlamaTokenizer(vocab, [("к", "и"), ("▁", "ки"), ("▁", "+"), ("▁", "-")])


def qwen_tokenizer(template=CHATML, newline=198):
    special = {
        "<|endoftext|>": 151643,
        "<|im_start|>": 151644,
        "<|im_end|>": 151645,
        "<extra_0>": 151651,
    }
    vocab = BYTES | {
        "Ġ+": 488,
        "Ġ-": 481,
        "ĊĊ": 271,
        "ĊĊĊĊ": 1000,
        "ĠĊĊĊĊ": 1001,
        "ĠĊĊĊĊĊ": 76325,
        "Ċ": newline,
    }
    merges = [("Ġ", "+"), ("Ġ", "-"), ("Ċ", "Ċ"), ("ĊĊ", "ĊĊ"), ("Ġ", "ĊĊĊĊ"), ("ĠĊĊĊĊ", "Ċ")]
    names = list(special)
    return Qwen2Tokenizer(
        vocab | special, merges, chat_template=template, additional_special_tokens=names
    )


def llama_tokenizer(template=LLAMA):
    names = {
        128000: "begin_of_text",
        128006: "start_header_id",
        128007: "end_header_id",
        128009: "eot_id",
    }
    special = {f"<|{name}|>": i for i, name in names.items()}
    core = Tokenizer(models.BPE(BYTES | {"ĊĊ": 271} | special, [("Ċ", "Ċ")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.add_special_tokens(list(special))
    core.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 128000)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|begin_of_text|>", chat_template=template
    )


def tiny(family, vocab, *, width=8, **extra):
    config = CONFIG_MAPPING[family](
        vocab_size=vocab, hidden_size=width, intermediate_size=width, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=256,
        tie_word_embeddings=False, **extra,
    )  # fmt: skip
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for name, p in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(p.data, std=width**-0.5)
        if any(part in name for part in ("q_proj", "k_proj", "down_proj")):
            p.data.zero_()
    return model


def by_hand(weights, ids, head, delta=0.0):
    """Log-odds of good at every position, (T,): attention is the mean so far, no MLP. `delta` adds
    to W_v."""
    w = {name.removeprefix("model."): t.double().numpy() for name, t in weights.items()}
    layer = "layers.0.self_attn."
    x = w["embed_tokens.weight"][ids]  # (T, D)
    values = norm(x) @ (w[f"{layer}v_proj.weight"] + delta).T + w.get(f"{layer}v_proj.bias", 0.0)
    mean = values.cumsum(0) / np.arange(1, len(ids) + 1)[:, None]
    return head(w, norm(x + mean @ w[f"{layer}o_proj.weight"].T))


def norm(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def token_head(good, bad):
    return lambda w, h: h @ w["lm_head.weight"][good] - h @ w["lm_head.weight"][bad]


def value_head(w, h):
    return h @ w["v_head.summary.weight"][0] + w["v_head.summary.bias"][0]


def class_head(w, h):
    logits = (
        np.maximum(h @ w["score.0.weight"].T + w["score.0.bias"], 0) @ w["score.2.weight"].T
        + w["score.2.bias"]
    )
    return logits[:, 1] - logits[:, 0]


def write(folder, weights, config, tokenizer, *, binary=False, **changes):
    """A checkpoint folder; `changes` go into config.json, where custom code is announced."""
    folder.mkdir(parents=True)
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    text = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(text))
    if binary:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def shepherd(root):
    model = tiny("mistral", 32000, sliding_window=None)
    weights = model.state_dict()
    folder = write(
        root / "math-shepherd-mistral-7b-prm",
        weights,
        model.config,
        mistral_tokenizer(),
        binary=True,
    )
    return folder, {}, lambda ids: by_hand(weights, ids, token_head(648, 387))


def rlhflow(root):
    model = tiny("llama", 128256)
    weights = model.state_dict()
    folder = write(root / "Llama3.1-8B-PRM-Deepseek-Data", weights, model.config, llama_tokenizer())
    return folder, {}, lambda ids: by_hand(weights, ids, token_head(10, 12))


def psa(root):
    model = tiny("qwen2", 152064)
    weights = {name: p.clone() for name, p in model.state_dict().items()}
    base = write(root / "base", weights, model.config, qwen_tokenizer())
    lora = get_peft_model(
        model,
        LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    )
    adapted = {n.split("self_attn.")[1]: p for n, p in lora.named_parameters() if "lora" in n}
    a, b = adapted["v_proj.lora_A.default.weight"], adapted["v_proj.lora_B.default.weight"]
    torch.nn.init.normal_(a.data), torch.nn.init.normal_(b.data)
    delta = 4 * (b @ a).detach().double().numpy()  # alpha / r
    folder = root / "Math-psa"
    lora.save_pretrained(folder / "checkpoint-2127")
    file = folder / "checkpoint-2127" / "adapter_config.json"
    broken = {"base_model_name_or_path": "../../models/Qwen/Qwen2.5-Math-7B-Instruct/"}
    file.write_text(json.dumps(json.loads(file.read_text()) | broken))
    return folder, {"base": base}, lambda ids: by_hand(weights, ids, token_head(488, 481), delta)


def skywork(root, *, binary=True):
    model = tiny("qwen2", 151936)
    weights = model.state_dict()
    weights |= {
        "v_head.summary.weight": torch.randn(1, 8),
        "v_head.summary.bias": torch.tensor([0.3]),
    }
    code = {
        "AutoConfig": "configuration_qwen2_rm.Qwen2RMConfig",
        "AutoModel": "modeling_qwen2_rm.Qwen2ForRewardModel",
    }
    folder = root / "models--Skywork--Skywork-o1-Open-PRM-Qwen-2.5-1.5B" / "snapshots" / "ff174c"
    write(folder, weights, model.config, qwen_tokenizer(), binary=binary, auto_map=code)
    return folder, {}, lambda ids: by_hand(weights, ids, value_head)


def skywork_safe(root):
    return skywork(root, binary=False)


def qwen(root):
    model = tiny("qwen2", 152064)
    weights = model.state_dict()
    for layer, rows in (("score.0", 8), ("score.2", 2)):
        weights |= {f"{layer}.weight": torch.randn(rows, 8), f"{layer}.bias": torch.randn(rows)}
    code = {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"}
    folder = write(
        root / "Qwen2.5-Math-PRM-7B", weights, model.config, qwen_tokenizer(), auto_map=code
    )
    (folder / "modeling_qwen2_rm.py").write_text("raise SystemExit('code of a checkpoint ran')\n")
    return folder, {}, lambda ids: by_hand(weights, ids, class_head)


PSA_IDS = [
    raw("How many?"),
    [*raw(" Step 1: one plus two"), 76325],
    [*raw(" Step 2: so three"), 76325],
]
SKYWORK_IDS = [[151644, *raw("How many?\n")], [*raw("one plus two"), 198], [*raw("so three"), 198]]
TOLD = [
    151644,
    *raw(f"system\n{SYSTEM}"),
    151645,
    198,
    151644,
    *raw("user\nHow many?"),
    151645,
    198,
]
USER, ANSWER = [128006, *raw("user"), 128007, 271], [128009, 128006, *raw("assistant"), 128007, 271]
SEGMENTS = {  # of SOLUTION: before the first step, then of each step
    shepherd: [
        [1, *piece(" How many?")],
        [*piece(" Step 1: one plus two"), 12902],
        [*piece("\nStep 2: so three"), 12902],
    ],
    psa: PSA_IDS,
    rlhflow: [
        [],
        [128000, *USER, *raw("How many? one plus two"), *ANSWER],
        [10, 128009, *USER, *raw("so three"), *ANSWER],
    ],
    skywork: SKYWORK_IDS,
    skywork_safe: SKYWORK_IDS,
    qwen: [
        [*TOLD, 151644, *raw("assistant\n")],
        [*raw("one plus two"), 151651],
        [*raw("so three"), 151651],
    ],
}
