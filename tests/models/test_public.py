"""Public PRMs: their ids, reading positions and heads, against ids written down and a forward by
hand in NumPy."""

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from public_checkpoints import (
    LLAMA,
    PROBLEM,
    PSA_IDS,
    SEGMENTS,
    SOLUTION,
    by_hand,
    llama_tokenizer,
    mistral_tokenizer,
    psa,
    qwen,
    qwen_tokenizer,
    shepherd,
    skywork,
    tiny,
    token_head,
    write,
)
from safetensors.torch import load_file, save_file

from workbench.models import load_verifier, public
from workbench.models.public import load_public
from workbench.models.verifier import StepVerifier, save
from workbench.types import Meter, Prefix, Problem, Unreadable


def flat(rows):
    return [item for row in rows for item in row]


def by_step(hand, segments, rel=1e-4):
    """Scores by hand where each segment but the first ends, as near as float32 comes."""
    odds = hand(flat(segments))[np.cumsum([len(segment) for segment in segments])[1:] - 1]
    return pytest.approx(1 / (1 + np.exp(-odds)), rel=rel)


def fresh(verifier, **options):
    """The same model, format and head with an empty memory."""
    return StepVerifier(
        verifier.model, verifier.tokenizer, verifier.form, head=verifier.head, **options
    )


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


# -- scores ----------------------------------------------------------------------------------------


@FAMILIES
def test_each_step_is_read_where_and_as_its_authors_do(build, loaded):
    verifier, hand = loaded(build)
    segments = SEGMENTS[build]
    assert verifier.form.segments(verifier.tokenizer, PROBLEM, SOLUTION.texts) == segments
    ends = np.cumsum([len(segment) for segment in segments])[1:] - 1
    odds = hand(flat(segments))
    # one position earlier or later would be seen
    assert np.abs(odds[ends - 1] - odds[ends]).min() > 0.02
    assert (
        abs(odds[ends[0] + 1] - odds[ends[0]]) > 0.02 and abs(odds[ends[0]] - odds[ends[1]]) > 0.01
    )
    assert verifier.per == "step" and not verifier.model.training
    assert verifier.score([SOLUTION])[0] == by_step(hand, segments)
    assert verifier.fingerprint() == fresh(verifier).fingerprint()


@FAMILIES
def test_batch_equals_one_by_one_and_each_token_is_paid_once(build, loaded):
    verifier, _ = loaded(build)
    problem = Problem("p2", "math", "How many? How many?")
    other = Prefix.of(problem, ["so", "so three plus one", "three two"])
    short, empty = Prefix.of(PROBLEM, ["one plus two"]), Prefix.of(PROBLEM, [""])
    rows = [short, other, Prefix(PROBLEM), SOLUTION, other, empty]
    alone = [fresh(verifier).score([row])[0] for row in rows]
    assert [len(scores) for scores in alone] == [1, 3, 0, 2, 3, 1]
    for batch_tokens in (1, 60, 16_384):
        cold, meters = fresh(verifier, batch_tokens=batch_tokens), [Meter() for _ in rows]
        together = cold.score(rows, meters=meters)
        assert flat(together) == pytest.approx(flat(alone), abs=1e-5)
        assert [len(scores) for scores in together] == [1, 3, 0, 2, 3, 1]
    paid = [meter.verifier for meter in meters]
    assert paid[2] == paid[4] == 0 and all(meter.flops > 0 for meter in meters[:2])
    grown = fresh(verifier)
    for t in (1, 2):
        cut = Prefix.of(PROBLEM, SOLUTION.texts[:t])
        assert grown.score([cut], meters=[meter := Meter()])[0][-1] == pytest.approx(
            alone[3][t - 1], abs=1e-5
        )
    # the second step goes on from the cache, after the first
    assert meter.verifier == len(SEGMENTS[build][2])


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
    assert verifier.form.segments(verifier.tokenizer, PROBLEM, texts) == SEGMENTS[build]


# -- loading ---------------------------------------------------------------------------------------


def test_the_base_of_the_adapter_is_looked_up_where_none_is_given(tmp_path, monkeypatch):
    folder, options, hand = psa(tmp_path)
    asked = []
    monkeypatch.setattr(
        public, "snapshot_download", lambda name: asked.append(name) or options["base"]
    )
    verifier = load_public(folder, dtype="float32", device="cpu", name="mine", batch_tokens=50)
    assert asked == ["Qwen/Qwen2.5-Math-7B-Instruct"]
    assert (verifier.name, verifier.reader.engine.batch_tokens) == ("mine", 50)
    assert verifier.score([SOLUTION])[0] == by_step(hand, PSA_IDS)

    def offline(name):
        raise OSError("no network\nat all")

    monkeypatch.setattr(public, "snapshot_download", offline)
    with pytest.raises(
        ValueError, match=r"^openreasoner/Math-psa is an adapter, give .* as base=.*: no network$"
    ):
        load_public(folder)
    with pytest.raises(ValueError, match=r"^cannot get 'openreasoner/Math-psa': no network$"):
        load_public("openreasoner/Math-psa", base=options["base"])
    (folder / "checkpoint-2127" / "adapter_config.json").unlink()
    with pytest.raises(ValueError, match=r"holds 0 adapter_config\.json, need one"):
        load_public(folder, **options)


def test_code_of_a_checkpoint_never_runs(tmp_path, caplog):
    folder, _, hand = qwen(tmp_path)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokenization.None", "tokenization.None"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert (folder / "modeling_qwen2_rm.py").read_text().startswith("raise")
    verifier = load_public(folder, dtype="float32", device="cpu")
    assert "UNEXPECTED" not in caplog.text  # the weights of the head are no news
    assert not logging.getLogger("transformers.modeling_utils").disabled
    assert verifier.score([SOLUTION])[0] == by_step(hand, SEGMENTS[qwen])


@FAMILIES
def test_bfloat16_is_the_default_but_not_for_the_head(build, tmp_path):
    folder, options, hand = build(tmp_path)
    verifier = load_public(folder, device="cpu", **options)
    assert verifier.model.body.dtype == torch.bfloat16
    assert verifier.model.head[0].weight.dtype == torch.float32
    assert verifier.score([SOLUTION])[0] == by_step(hand, SEGMENTS[build], rel=0.05)


def test_in_four_bits_the_scores_are_those_of_the_rounded_weights(tmp_path):
    model = tiny("mistral", 32000, width=64, sliding_window=None)
    folder = write(
        tmp_path / "math-shepherd-mistral-7b-prm",
        model.state_dict(),
        model.config,
        mistral_tokenizer(),
    )
    whole, small = (
        load_public(folder, dtype="float32", device="cpu", quantise=q) for q in (False, True)
    )
    weights, attention = model.state_dict(), small.model.body.layers[0].self_attn
    for name in ("v_proj", "o_proj"):
        p = getattr(attention, name).weight
        weights[f"model.layers.0.self_attn.{name}.weight"] = dequantize_4bit(
            p.data, p.quant_state
        ).float()
    near = by_step(
        lambda ids: by_hand(weights, ids, token_head(648, 387)), SEGMENTS[shepherd], rel=5e-3
    )
    assert small.score([SOLUTION])[0] == near != whole.score([SOLUTION])[0]
    meters = [Meter(), Meter()]
    for verifier, meter in zip((whole, small), meters):
        verifier.reader.engine.cache.clear(), verifier.reader.known.clear()
        verifier.score([SOLUTION], meters=[meter])
    assert meters[0].flops == meters[1].flops > 0


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path):
    folder, _, _ = skywork(tmp_path, binary=False)
    with pytest.raises(ValueError, match=r"^Skywork.* is no verifier of ours: load it by name"):
        save(load_public(folder, device="cpu"), tmp_path / "copy")
    with pytest.raises(ValueError, match=r"^base='x' is of no use for Skywork/"):
        load_public(folder, base="x")
    weights = load_file(folder / "model.safetensors")
    lacking = {
        "v_head.summary.bias": r"is not whole: v_head\.summary\.bias missing$",
        "model.layers.0.mlp.up_proj.weight": r"layers\.0\.mlp\.up_proj\.weight and 0 more weights",
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
            r"^'ки' should end in id 12902, this tokenizer has \[12903\]$",
        ),
        (
            public.SKYWORK,
            qwen_tokenizer(newline=201),
            r"^'\\n' should end in id 198, this tokenizer has \[201\]$",
        ),
        (public.PSA, llama_tokenizer(), "should end in id 76325"),
        (
            public.RLHFLOW,
            llama_tokenizer(LLAMA.replace("in messages", "in messages[-1:]")),
            "rewrites earlier turns",
        ),
        (public.QWEN, qwen_tokenizer(template=None), "chat_template is not set"),
    ],
)
def test_another_tokenizer_than_in_training_is_refused(form, tokenizer, message):
    with pytest.raises(ValueError, match=message):
        form.bound(tokenizer)


def test_a_tag_that_melts_into_the_newline_is_refused():
    def merging(text, **_):
        return SimpleNamespace(input_ids=[7] if "ки\n" in text else [12902])

    with pytest.raises(
        ValueError, match=r"'ки' before a newline should be ids \[12902\], this tokenizer has \[7\]"
    ):
        replace(public.SHEPHERD, marks={}).bound(merging)


def test_a_solution_that_is_too_long_is_named_before_anything_is_computed(loaded):
    verifier, _ = loaded(qwen)
    long, meter = Prefix.of(PROBLEM, ["one plus two"] * 20), Meter()
    with pytest.raises(Unreadable, match=r"^p1: 368 tokens to judge, the verifier reads 256$"):
        verifier.score([SOLUTION, long], meters=[meter, meter])
    assert meter.verifier == 0


def test_load_verifier_takes_public_names(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="cannot get 'Qwen/Qwen2"):
        load_verifier("Qwen/Qwen2.5-Math-PRM-7B")
    assert load_verifier("prm").per == "step"
