"""Any host by its name alone: chat template, greedy, cache, padding, adapters, 4 bits."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from hosts import HOSTS, host

from workbench.models import load_policy
from workbench.models.policy import HFPolicy
from workbench.models.quantised import check_device, is_quantised
from workbench.models.saved_policy import save_policy
from workbench.models.verifier import untrained
from workbench.train.iterate import fine_tune
from workbench.train.learner import Recipe
from workbench.train.lora import with_lora
from workbench.train.sft import Lesson
from workbench.types import Meter, Prefix, Problem

PROBLEMS = [
    Problem(f"p{i}", "math", question, str(i), f"{i} + 0 = {i}\nThe answer is {i}")
    for i, question in enumerate(["2 - 1?", "How many are 7 {apples}?", "So?", "9 and 3, then 4?"])
]
SHORT = {"messages": {"solve": "{question}"}}
RECIPE = Recipe(rank=4, alpha=8, batch_tokens=200, learning_rate=1e-2, warmup=0)
SLOW = {"qwen2", "mistral", "phi3"}
FAMILIES = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in HOSTS]
any_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a family, written once."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = host(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get


@pytest.fixture
def loaded(folder_of):
    options = {"dtype": "float64", "max_tokens": 24, "asked": SHORT, "device": "cpu"}
    return lambda family, **own: load_policy(folder_of(family), **(options | own))


@any_family
def test_it_is_asked_by_its_own_chat_template_unless_told_otherwise(family, loaded):
    policy = loaded(family, asked=None)
    for problem in PROBLEMS:
        text = policy.templates["solve"]
        assert "{question}" in text and "one step a line" in text
        content = text[text.index("{question}") : text.index("The answer is ...") + 17]
        told = {"role": "user", "content": content.format(question=problem.question)}
        own = policy.tokenizer.apply_chat_template(
            [told], add_generation_prompt=True, return_dict=True
        )
        assert policy.prompt_ids(problem) == list(own["input_ids"])
    plain = loaded(family, asked={"chat": False})
    assert plain.templates["solve"] == "Question: {question}\nSolution:\n"
    assert plain.stop == ("\nQuestion:",) and policy.stop == ()


@any_family
def test_greedy_is_what_generate_writes_and_steps_from_the_cache_are_the_same(family, loaded):
    policy = loaded(family)
    assert len({len(policy.prompt_ids(problem)) for problem in PROBLEMS}) > 2
    wholes = policy.sample([Prefix(p) for p in PROBLEMS], range(4), temperature=0)
    for problem, whole in zip(PROBLEMS, wholes):
        ids = torch.tensor([policy.prompt_ids(problem)])
        told = policy.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
        )
        assert list(whole.ids) == told[0, ids.shape[1] :].tolist()
    begun = [Prefix(w.problem, w.steps[:1]) for w in wholes if len(w.steps) > 1]
    cold = loaded(family).sample(begun, range(len(begun)), temperature=0)
    warm = policy.sample(begun, range(len(begun)), temperature=0)
    assert [p.ids for p in warm] == [p.ids for p in cold]


@any_family
def test_what_is_sampled_from_the_cache_is_what_a_cold_run_samples(family, loaded):
    warm = loaded(family)
    prefixes, keys = [Prefix(p) for p in PROBLEMS for _ in range(3)], range(12)
    begun = warm.sample(prefixes, keys, room=[8] * 12)
    begun = [Prefix(p.problem, p.steps) for p in begun]
    meters = [Meter() for _ in begun]
    more = warm.sample(begun, keys, meters=meters)
    assert [p.ids for p in more] == [p.ids for p in loaded(family).sample(begun, keys)]
    assert sum(meter.cached for meter in meters) > 0


@any_family
def test_left_padding_never_changes_a_score(family, loaded):
    policy = loaded(family)
    rows = [
        Prefix.of(p, ["so 1", "and 2", "or 3 and 4"][: 1 + i % 3]) for i, p in enumerate(PROBLEMS)
    ]
    for drawn in policy.sample([Prefix(p) for p in PROBLEMS], range(4)):
        start = policy.prompt_ids(drawn.problem)
        with torch.no_grad():  # no padding, no cache
            logits = policy.model(torch.tensor([[*start, *drawn.ids]])).logits[0]
        plain = logits.log_softmax(-1)[len(start) - 1 : -1]
        own = plain[range(len(drawn.ids)), list(drawn.ids)]
        assert drawn.logprobs == pytest.approx(own.tolist(), abs=1e-9)
    together = untrained(policy).score(rows)
    for row, scores in zip(rows, together):
        assert scores == pytest.approx(untrained(policy).score([row])[0], rel=1e-6)
    assert len({len(scores) for scores in together}) == 3


@any_family
def test_adapters_train_save_and_load(family, loaded, tmp_path):
    base = loaded(family, dtype="float32")
    policy = HFPolicy(
        with_lora(base.model, RECIPE), base.tokenizer, templates=base.templates, max_tokens=24
    )
    teach = partial(fine_tune, policy, [Lesson(p) for p in PROBLEMS], seed=0, recipe=RECIPE)
    before, after = teach(tokens=200), teach(tokens=2000)
    assert after < before
    save_policy(policy, tmp_path / "own")
    again = load_policy(tmp_path / "own", device="cpu")
    assert again.templates == policy.templates
    row = torch.tensor([policy.prompt_ids(PROBLEMS[0])])
    bare = loaded(family, dtype="float32")
    with torch.no_grad():
        trained, read, untaught = (p.model(row).logits.float() for p in (policy, again, bare))
    near = 0.05 * trained.abs().max()  # it may have trained in bfloat16
    assert (trained - read).abs().max() < near < (trained - untaught).abs().max()


def has_four_bits(device):
    try:
        check_device(device)
    except ValueError:
        return False
    return True


@any_family
def test_in_four_bits_adapters_train_save_and_load(family, loaded, tmp_path):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not has_four_bits(device):
        pytest.skip(f"bitsandbytes has no 4-bit kernels for {device} here")
    base = loaded(family, dtype="float32", quantise=True, device=device)
    model = with_lora(base.model, RECIPE)
    policy = HFPolicy(model, base.tokenizer, templates=base.templates, max_tokens=24)
    assert is_quantised(policy.model)
    loss = fine_tune(policy, [Lesson(p) for p in PROBLEMS], tokens=400, seed=0, recipe=RECIPE)
    assert np.isfinite(loss)
    save_policy(policy, tmp_path / "own")
    again = load_policy(tmp_path / "own", quantise=True, device=device)
    assert is_quantised(again.model)
    rows = [Prefix(p) for p in PROBLEMS]
    lengths = [len(p.ids) for p in again.sample(rows, range(4), temperature=0)]
    assert min(lengths) > 0


def test_code_that_comes_with_a_model_is_never_run_nor_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    folder = host(tmp_path / "host", "qwen3")
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    file = folder / "tokenizer_config.json"
    maps = {"AutoTokenizer": ["theirs.Tokenizer", None]}
    told = json.loads(file.read_text()) | {"tokenizer_class": "Theirs", "auto_map": maps}
    file.write_text(json.dumps(told))
    load_policy(folder)  # the plain file of words is enough
    file = folder / "config.json"
    maps = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    told = json.loads(file.read_text()) | {"model_type": "theirs", "auto_map": maps}
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_policy(folder)
    assert not (tmp_path / "ran").exists()
