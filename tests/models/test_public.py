"""Public PRMs: their ids, reading positions and heads, against ids written down and a forward by hand in NumPy.

The checkpoints are tiny, but laid out as the public ones are, with their architectures, key names and special ids. One
layer, keys and queries zero: attention is the mean over the tokens so far, so each position has a score of its own.
"""

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, LlamaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from workbench.models import load_verifier, public
from workbench.models.public import load_public
from workbench.types import Meter, Prefix, Problem

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
    """Ids of ASCII text in the Qwen and Llama tokenizers below: one a byte, with their public numbers."""
    return [{" ": 220, "\n": 198}.get(c, ord(c) - 33) for c in text]


def flat(rows):
    return [item for row in rows for item in row]


def by_step(hand, segments, rel=1e-4):
    """Scores by hand where each segment but the first ends, as near as float32 comes."""
    odds = hand(flat(segments))[np.cumsum([len(segment) for segment in segments])[1:] - 1]
    return pytest.approx(1 / (1 + np.exp(-odds)), rel=rel)


# -- tiny checkpoints -------------------------------------------------------------------------------------------------


def mistral_tokenizer(tag=12902):
    """SentencePiece-like, with byte fallback: only the newline is a byte here."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 13, "▁": 28705, "к": 29000, "и": 29001, "ки": 29002}
    vocab |= {chr(i): 28000 + i for i in range(33, 127)} | {"▁ки": tag, "▁+": 648, "▁-": 387}
    return LlamaTokenizer(vocab, [("к", "и"), ("▁", "ки"), ("▁", "+"), ("▁", "-")])


def qwen_tokenizer(template=CHATML, newline=198):
    special = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<extra_0>": 151651}
    vocab = BYTES | {"Ġ+": 488, "Ġ-": 481, "ĊĊ": 271, "ĊĊĊĊ": 1000, "ĠĊĊĊĊ": 1001, "ĠĊĊĊĊĊ": 76325, "Ċ": newline}
    merges = [("Ġ", "+"), ("Ġ", "-"), ("Ċ", "Ċ"), ("ĊĊ", "ĊĊ"), ("Ġ", "ĊĊĊĊ"), ("ĠĊĊĊĊ", "Ċ")]
    names = list(special)
    return Qwen2Tokenizer(vocab | special, merges, chat_template=template, additional_special_tokens=names)


def llama_tokenizer(template=LLAMA):
    names = {128000: "begin_of_text", 128006: "start_header_id", 128007: "end_header_id", 128009: "eot_id"}
    special = {f"<|{name}|>": i for i, name in names.items()}
    core = Tokenizer(models.BPE(BYTES | {"ĊĊ": 271} | special, [("Ċ", "Ċ")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.add_special_tokens(list(special))
    core.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 128000)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|begin_of_text|>", chat_template=template)


def tiny(family, vocab, *, width=8, **extra):
    config = CONFIG_MAPPING[family](
        vocab_size=vocab, hidden_size=width, intermediate_size=width, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=False, **extra,
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
    """Log-odds of good at every position, (T,): attention is the mean so far, no MLP. `delta` adds to W_v."""
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
    logits = np.maximum(h @ w["score.0.weight"].T + w["score.0.bias"], 0) @ w["score.2.weight"].T + w["score.2.bias"]
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
    folder = write(root / "math-shepherd-mistral-7b-prm", weights, model.config, mistral_tokenizer(), binary=True)
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
        model, LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"])
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
    weights |= {"v_head.summary.weight": torch.randn(1, 8), "v_head.summary.bias": torch.tensor([0.3])}
    code = {"AutoConfig": "configuration_qwen2_rm.Qwen2RMConfig", "AutoModel": "modeling_qwen2_rm.Qwen2ForRewardModel"}
    folder = root / "models--Skywork--Skywork-o1-Open-PRM-Qwen-2.5-1.5B" / "snapshots" / "ff174c"
    write(folder, weights, model.config, qwen_tokenizer(), binary=binary, auto_map=code)
    return folder, {}, lambda ids: by_hand(weights, ids, value_head)


def skywork_safe(root):
    return skywork(root, binary=False)


REMOTE = """
import torch
from transformers import Qwen2Config, Qwen2Model

class Qwen2ForProcessRewardModel(Qwen2Model):
    config_class = Qwen2Config

    def forward(self, input_ids, **options):
        return (torch.tensor([0.0, 3.0]).log1p().expand(*input_ids.shape, 2) * 0.5,)
"""


def qwen(root):
    model = tiny("qwen2", 152064)
    weights = model.state_dict()
    for layer, rows in (("score.0", 8), ("score.2", 2)):
        weights |= {f"{layer}.weight": torch.randn(rows, 8), f"{layer}.bias": torch.randn(rows)}
    code = {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"}
    folder = write(root / "Qwen2.5-Math-PRM-7B", weights, model.config, qwen_tokenizer(), auto_map=code)
    (folder / "modeling_qwen2_rm.py").write_text(REMOTE)
    return folder, {}, lambda ids: by_hand(weights, ids, class_head)


PSA_IDS = [raw("How many?"), [*raw(" Step 1: one plus two"), 76325], [*raw(" Step 2: so three"), 76325]]
SKYWORK_IDS = [[151644, *raw("How many?\n")], [*raw("one plus two"), 198], [*raw("so three"), 198]]
TOLD = [151644, *raw(f"system\n{SYSTEM}"), 151645, 198, 151644, *raw("user\nHow many?"), 151645, 198]
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
FAMILIES = pytest.mark.parametrize("build", SEGMENTS, ids=lambda build: build.__name__)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The verifier of a family and its scores by hand, each built once."""
    known = {}

    def get(build):
        if build not in known:
            folder, options, hand = build(tmp_path_factory.mktemp(build.__name__))
            known[build] = load_public(folder, dtype="float32", device="cpu", **options), hand
        return known[build]

    return get


# -- scores -----------------------------------------------------------------------------------------------------------


@FAMILIES
def test_each_step_is_read_where_and_as_its_authors_do(build, loaded):
    verifier, hand = loaded(build)
    segments = SEGMENTS[build]
    assert verifier.form.layout(verifier.tokenizer, PROBLEM.question, SOLUTION.texts) == segments
    ends = np.cumsum([len(segment) for segment in segments])[1:] - 1
    odds = hand(flat(segments))
    assert np.abs(odds[ends - 1] - odds[ends]).min() > 0.02  # one position earlier or later would be seen
    assert abs(odds[ends[0] + 1] - odds[ends[0]]) > 0.02 and abs(odds[ends[0]] - odds[ends[1]]) > 0.01
    assert verifier.per == "step" and not verifier.body.training
    assert verifier.score([SOLUTION])[0] == by_step(hand, segments)


@FAMILIES
def test_batch_equals_one_by_one_and_tokens_are_paid(build, loaded):
    verifier, _ = loaded(build)
    other = Prefix.of(Problem("p2", "math", "How many? How many?"), ["so", "so three plus one", "three two"])
    rows = [Prefix.of(PROBLEM, ["one plus two"]), other, Prefix(PROBLEM), SOLUTION, other, Prefix.of(PROBLEM, [""])]
    alone = [verifier.score([row])[0] for row in rows]
    assert [len(scores) for scores in alone] == [1, 3, 0, 2, 3, 1]
    for batch_tokens in (1, 60, 16_384):
        verifier.batch_tokens, meters = batch_tokens, [Meter() for _ in rows]
        together = verifier.score(rows, meters=meters)
        assert flat(together) == pytest.approx(flat(alone), abs=1e-5)
        assert [len(scores) for scores in together] == [1, 3, 0, 2, 3, 1]
    paid = [meter.verifier for meter in meters]
    assert paid[3] == sum(map(len, SEGMENTS[build])) and paid[2] == 0 and paid[1] == paid[4]
    assert meters[3].flops / paid[3] == meters[0].flops / paid[0] > 0
    assert verifier.score([]) == []


def test_no_batch_is_larger_than_asked(loaded):
    verifier, _ = loaded(skywork)
    seen, forward = [], verifier.body.forward
    verifier.body.forward = lambda **given: seen.append(tuple(given["input_ids"].shape)) or forward(**given)
    try:
        verifier.batch_tokens = 40
        verifier.score([SOLUTION, Prefix.of(PROBLEM, ["one"])] * 4)
    finally:
        del verifier.body.forward
    assert sum(b for b, _ in seen) == 8 and max(b for b, _ in seen) > 1
    assert max(b * t for b, t in seen) <= 40


@FAMILIES
def test_a_step_is_one_step_whatever_it_holds(build, loaded):
    verifier, _ = loaded(build)
    texts = ["one ки two", "so\nthree", "three <extra_0> +", "one \n\n\n\n\n two"]
    scores = verifier.score([Prefix.of(PROBLEM, texts)])[0]
    assert len(scores) == 4 and all(0 < score < 1 for score in scores)


@pytest.mark.parametrize("build", [shepherd, psa])
def test_steps_that_are_numbered_already_stay_as_they_are(build, loaded):
    verifier, _ = loaded(build)
    texts = ["Step 1: one plus two ", " so three"]
    assert verifier.form.layout(verifier.tokenizer, PROBLEM.question, texts) == SEGMENTS[build]


# -- loading ----------------------------------------------------------------------------------------------------------


def test_the_base_of_the_adapter_is_looked_up_where_none_is_given(tmp_path, monkeypatch):
    folder, options, hand = psa(tmp_path)
    asked = []
    monkeypatch.setattr(public, "snapshot_download", lambda name: asked.append(name) or options["base"])
    verifier = load_public(folder, dtype="float32", device="cpu", name="mine", batch_tokens=50)
    assert asked == ["Qwen/Qwen2.5-Math-7B-Instruct"] and (verifier.name, verifier.batch_tokens) == ("mine", 50)
    assert verifier.score([SOLUTION])[0] == by_step(hand, PSA_IDS)

    def offline(name):
        raise OSError("no network\nat all")

    monkeypatch.setattr(public, "snapshot_download", offline)
    with pytest.raises(ValueError, match=r"^openreasoner/Math-psa is an adapter, give .* as base=.*: no network$"):
        load_public(folder)
    with pytest.raises(ValueError, match=r"^cannot get 'openreasoner/Math-psa': no network$"):
        load_public("openreasoner/Math-psa", base=options["base"])
    (folder / "checkpoint-2127" / "adapter_config.json").unlink()
    with pytest.raises(ValueError, match=r"holds 0 adapter_config\.json, need one"):
        load_public(folder, **options)


def test_code_of_a_checkpoint_runs_only_when_asked(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, _, hand = qwen(tmp_path)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokenization.None", "tokenization.None"]}  # never asked for
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    verifier = load_public(folder, dtype="float32", device="cpu", trust_remote_code=True)
    assert verifier.score([SOLUTION])[0] == pytest.approx([2 / 3, 2 / 3])  # logits 0 and log(4) / 2
    caplog.clear()
    ours = load_public(folder, dtype="float32", device="cpu")
    assert "UNEXPECTED" not in caplog.text  # the weights of the head are no news
    assert not logging.getLogger("transformers.modeling_utils").disabled
    assert ours.score([SOLUTION])[0] == by_step(hand, SEGMENTS[qwen])


@FAMILIES
def test_bfloat16_is_the_default_but_not_for_the_head(build, tmp_path):
    folder, options, hand = build(tmp_path)
    verifier = load_public(folder, device="cpu", **options)
    assert verifier.body.dtype == torch.bfloat16 and verifier.head[0][0].dtype == torch.float32
    assert verifier.score([SOLUTION])[0] == by_step(hand, SEGMENTS[build], rel=0.05)


def test_in_four_bits_the_scores_are_those_of_the_rounded_weights(tmp_path):
    model = tiny("mistral", 32000, width=64, sliding_window=None)
    folder = write(tmp_path / "math-shepherd-mistral-7b-prm", model.state_dict(), model.config, mistral_tokenizer())
    whole, small = (load_public(folder, dtype="float32", device="cpu", quantise=q) for q in (False, True))
    weights, attention = model.state_dict(), small.body.layers[0].self_attn
    for name in ("v_proj", "o_proj"):
        p = getattr(attention, name).weight
        weights[f"model.layers.0.self_attn.{name}.weight"] = dequantize_4bit(p.data, p.quant_state).float()
    near = by_step(lambda ids: by_hand(weights, ids, token_head(648, 387)), SEGMENTS[shepherd], rel=5e-3)
    assert small.score([SOLUTION])[0] == near != whole.score([SOLUTION])[0]
    assert small._flops == whole._flops


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path):
    folder, _, _ = skywork(tmp_path, binary=False)
    with pytest.raises(ValueError, match="'gpt2' is no public PRM that we can read; known are peiyi9979/math-shep"):
        load_public("gpt2")
    with pytest.raises(ValueError, match=r"^base='x' is of no use for Skywork/"):
        load_public(folder, base="x")
    with pytest.raises(ValueError, match=r"^trust_remote_code='True' is of no use for Skywork/"):
        load_public(folder, trust_remote_code=True)
    weights = load_file(folder / "model.safetensors")
    lacking = {
        "v_head.summary.bias": r"is not whole: v_head\.summary\.bias missing$",
        "model.layers.0.mlp.up_proj.weight": "is not whole: layers.0.mlp.up_proj.weight and 0 more weights missing$",
    }
    for name, message in lacking.items():
        left = {key: w for key, w in weights.items() if key != name}
        save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=message):
            load_public(folder, device="cpu")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no \.safetensors file"):
        load_public(folder)


@pytest.mark.parametrize(
    ("form", "tokenizer", "message"),
    [
        (
            public.SHEPHERD,
            mistral_tokenizer(tag=12903),
            r"^x: 'ки' should end in id 12902, this tokenizer has \[12903\]$",
        ),
        (public.SKYWORK, qwen_tokenizer(newline=201), r"^x: '\\n' should end in id 198, this tokenizer has \[201\]$"),
        (public.PSA, llama_tokenizer(), "should end in id 76325"),
        (public.RLHFLOW, llama_tokenizer(LLAMA.replace("in messages", "in messages[-1:]")), "rewrites earlier turns"),
        (public.QWEN, qwen_tokenizer(template=None), "chat_template is not set"),
    ],
)
def test_another_tokenizer_than_in_training_is_refused(form, tokenizer, message):
    with pytest.raises(ValueError, match=message):
        form.check(tokenizer, "x")


def test_a_tag_that_melts_into_the_newline_is_refused():
    def merging(text, **_):
        return SimpleNamespace(input_ids=[7] if "ки\n" in text else [12902])

    with pytest.raises(ValueError, match=r"'ки' before a newline should be ids \[12902\], this tokenizer has \[7\]"):
        replace(public.SHEPHERD, marks={}).check(merging, "x")


def test_a_solution_that_is_too_long_is_named_before_anything_is_computed(loaded):
    verifier, _ = loaded(qwen)
    long, meter = Prefix.of(PROBLEM, ["one plus two"] * 20), Meter()
    with pytest.raises(ValueError, match=r"^p1: 368 tokens to judge, Qwen2\.5-Math-PRM-7B reads 256$"):
        verifier.score([SOLUTION, long], meters=[meter, meter])
    assert meter.verifier == 0


def test_load_verifier_takes_public_names(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="cannot get 'Qwen/Qwen2"):
        load_verifier("Qwen/Qwen2.5-Math-PRM-7B")
    assert load_verifier("prm").per == "step"
