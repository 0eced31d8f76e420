"""Policies: what the shipped ones promise, any host with any tokenizer, and what one is."""

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import TOKENIZER, tiny_model, tiny_policy
from tokenizers.processors import TemplateProcessing

from workbench.drive import solve
from workbench.models import load_policy
from workbench.models.checkpoints import SHIPPED, check_complete
from workbench.models.policy import HFPolicy
from workbench.models.templates import front_ids
from workbench.models.tokenizer import build_tokenizer
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.types import Prefix

NAMES = ("weak", "base", "strong")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_checkpoints_are_ordinary_small_and_described(name):
    folder = SHIPPED / name
    check_complete(folder)
    assert sum(f.stat().st_size for f in folder.glob("*.safetensors")) <= 8_000_000
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    card = (folder / "README.md").read_text()
    assert all(
        word in card
        for word in ("data seed", "tokens seen", "updates", "loss per solution token", "pass@1")
    )
    policy = load_policy(name)
    assert 2_000_000 <= sum(p.numel() for p in policy.model.parameters()) <= 4_000_000
    assert policy.tokenizer.get_vocab() == build_tokenizer().get_vocab()


@pytest.mark.slow
def test_shipped_policies_solve_held_out_problems_in_their_order():
    problems = quantities.generate(24, levels=range(2, 8), seed=9, split="test")
    greedy = {n: solve(problems, METHODS["greedy"], policy=load_policy(n)) for n in NAMES}
    right = {
        name: sum(is_right(r.problem, r.best) for r in results) for name, results in greedy.items()
    }
    assert right["weak"] < right["base"] < right["strong"]


def test_a_name_that_the_hub_cannot_give_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"cannot load 'no-such-model'") as error:
        load_policy("no-such-model")
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_lacks_weights_is_named_instead_of_drawn_at_random(tmp_path):
    model, name = tiny_model(), "model.layers.1.mlp.up_proj.weight"
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    left = {key: weight for key, weight in load_file(file).items() if key != name}
    save_file(left, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"is not whole: {name} and 0 more weights missing$"):
        load_policy(tmp_path)


def test_text_prefixes_continue_like_sampled_ones():
    """A data set's solution, given as text, is tokenised to the ids that the policy itself would
    have written."""
    policy = load_policy("strong", dtype="float64")
    problem = quantities.generate(1, levels=[3], seed=2, split="test")[0]
    sampled = policy.sample([Prefix(problem)], [1], until="step", temperature=0)[0]
    again = Prefix.of(problem, sampled.texts)
    one, other = (policy.sample([p], [5])[0] for p in (sampled, again))
    assert policy._step_ids(sampled.texts[0]) == list(sampled.ids)
    assert [s.ids for s in one.steps[1:]] == [s.ids for s in other.steps[1:]]


def test_dtype_and_options_reach_the_model():
    policy = load_policy("weak", dtype="bfloat16", temperature=0.5, max_tokens=7)
    assert policy.model.dtype == torch.bfloat16 and policy.temperature == 0.5
    problem = quantities.generate(1, levels=[5], seed=2, split="test")[0]
    out = policy.sample([Prefix(problem)], [1])[0]
    assert out.stop == "length" and len(out.ids) == 7


# -- any host --------------------------------------------------------------------------------------


BOS, EOS = "<spare0>", "<spare1>"
PROBLEMS = [p.blind() for p in quantities.generate(4, levels=range(1, 5), seed=3)]
HOSTS = ["llama", "qwen2", "gemma", "gpt2", "mistral"]  # the last with a sliding window


def tokenizer_that_adds(layout: str):
    """The embedded tokenizer with BOS or EOS around every text, as `layout` says; no pad token."""
    tokenizer = build_tokenizer()
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (BOS, EOS)]
    core = tokenizer.backend_tokenizer
    core.post_processor = TemplateProcessing(single=layout, special_tokens=special)
    tokenizer.bos_token, tokenizer.pad_token = BOS, None
    return tokenizer


def bare_model(family: str):
    model = tiny_model(family, dtype=torch.float64)
    model.config.pad_token_id = model.generation_config.pad_token_id = None
    return model


@pytest.mark.parametrize("family", HOSTS)
def test_any_host_writes_what_generate_does(family):
    """Prompts of different lengths in one batch, whole and step by step; no pad token, BOS, EOS."""
    model = bare_model(family)
    policy = HFPolicy(model, tokenizer_that_adds(f"{BOS} $A {EOS}"), max_tokens=12)
    prompts = [policy.prompt_ids(problem) for problem in PROBLEMS]
    assert len(set(map(len, prompts))) > 1
    questions = [Prefix(problem) for problem in PROBLEMS]
    wholes = policy.sample(questions, range(4), temperature=0)
    steps = policy.sample(questions, range(4), until="step", temperature=0)
    for ids, whole, step in zip(prompts, wholes, steps):
        row = torch.tensor([ids])
        expected = model.generate(row, max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
        assert list(whole.ids) == expected
        more = step if step.ended else policy.sample([step], [0], temperature=0)[0]
        assert list(more.ids) == expected


@pytest.mark.parametrize(
    ("layout", "begins"), [("$A", 0), (f"{BOS} $A", 1), (f"$A {EOS}", 0), (f"{BOS} $A {EOS}", 1)]
)
def test_bos_stands_once_at_the_start_of_a_row_and_eos_nowhere(layout, begins):
    tokenizer = tokenizer_that_adds(layout)
    policy, bare = HFPolicy(bare_model("llama"), tokenizer), build_tokenizer()
    front = [tokenizer.bos_token_id] * begins
    assert front_ids(tokenizer) == front
    ids = policy.prompt_ids(PROBLEMS[0])
    assert ids == front + bare(PROBLEMS[0].question + "\n").input_ids
    (context, _) = policy._context(Prefix.of(PROBLEMS[0], ["The answer is 3 ."]), "solve")
    assert context.ids == ids + bare("The answer is 3 .\n").input_ids


@pytest.mark.parametrize("layout", [f"{BOS} $A", f"{BOS} $A {EOS}"])
def test_a_template_that_brings_bos_gets_no_second_one(layout):
    tokenizer = tokenizer_that_adds(layout)
    templates = {"solve": BOS + "{question}\n"}
    policy = HFPolicy(bare_model("llama"), tokenizer, templates=templates)
    bos = tokenizer.bos_token_id
    ids = policy.prompt_ids(PROBLEMS[0])
    assert ids[0] == bos and bos not in ids[1:] and front_ids(tokenizer) == [bos]


def test_a_prompt_longer_than_the_window_is_one_line_with_problem_lengths_and_window():
    policy = tiny_policy(max_tokens=1000)
    long = replace(PROBLEMS[0], question="many " * 300)
    needed = r"301 prompt and 0 solution tokens leave no room \(the model reads 256, a solution"
    with pytest.raises(ValueError, match=rf"^{long.id}: {needed} may take 1000\)$"):
        policy.sample([Prefix(long)], [0])
    fits = replace(PROBLEMS[0], question="many " * 250)
    (out,) = policy.sample([Prefix(fits)], [0])
    assert len(out.ids) <= 256 - 251


# -- what a policy is ------------------------------------------------------------------------------


def test_equal_policies_have_one_fingerprint_whatever_their_names_and_batches(tmp_path):
    policy = tiny_policy(name="one")
    policy.model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    again = load_policy(tmp_path, max_tokens=40, batch_tokens=77)
    assert policy.fingerprint() == tiny_policy(name="two").fingerprint() == again.fingerprint()
    policy.sample([Prefix(p) for p in PROBLEMS], range(4))
    assert policy.fingerprint() == again.fingerprint()


def test_everything_that_changes_what_a_policy_writes_changes_its_fingerprint():
    options = [
        {}, {"temperature": 0.7}, {"max_tokens": 41}, {"separator": "."},
        {"templates": {"solve": "{question}"}}, {"dtype": torch.float64}, {"family": "gemma"},
    ]  # fmt: skip
    seen = [tiny_policy(**option).fingerprint() for option in options]
    policy = tiny_policy()
    with torch.no_grad():  # trained in place
        next(policy.model.parameters())[0, 0] += 1e-3
    seen.append(policy.fingerprint())
    model = get_peft_model(policy.model, LoraConfig(r=2, init_lora_weights=False))
    adapted = HFPolicy(model, TOKENIZER, max_tokens=40)
    seen.append(adapted.fingerprint())
    with model.disable_adapter():
        seen.append(adapted.fingerprint())
    assert len(set(seen)) == len(seen) and adapted.fingerprint() == seen[-2]
