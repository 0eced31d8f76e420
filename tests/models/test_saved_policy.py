"""Policies on disk: whole or as adapters, each writes as before, and finds its base by name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_policy

from workbench.drive import solve
from workbench.models import load_policy, verifier
from workbench.models.deeper import deeper
from workbench.models.policy import HFPolicy
from workbench.models.saved_policy import ADAPTER, save_policy
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.train.iterate import fine_tune, fine_tuning
from workbench.train.learner import Recipe
from workbench.train.lora import under_lora, with_lora
from workbench.train.sft import Lesson

PROBLEMS = quantities.generate(3, levels=[1], seed=1)
OWN = {"templates": {"solve": "Q: {question}\nA:\n"}, "separator": " .", "max_tokens": 24}


def texts(policy):
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=3, n=2)
    assert not any(result.error for result in results)
    return [rollout.texts for result in results for rollout in result.rollouts]


def test_a_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files than a policy"):
        save_policy(tiny_policy(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_neither_a_policy_nor_a_verifier_is_written_over_the_other(tmp_path):
    policy = tiny_policy()
    verifier.save(verifier.untrained(policy), tmp_path / "judge")
    with pytest.raises(ValueError, match="holds other files than a policy"):
        save_policy(policy, tmp_path / "judge")
    assert verifier.load_verifier(tmp_path / "judge").name == "judge"
    with pytest.raises(ValueError, match=r"judge judges, it does not write: use load_verifier$"):
        load_policy(tmp_path / "judge")
    save_policy(policy, tmp_path / "own")
    with pytest.raises(ValueError, match="holds a policy: name another folder"):
        verifier.save(verifier.untrained(policy), tmp_path / "own")
    assert texts(load_policy(tmp_path / "own")) == texts(policy)
    (tmp_path / "own" / "policy.json").unlink()  # a plain checkpoint of anybody
    with pytest.raises(ValueError, match="holds a policy: name another folder"):
        verifier.save(verifier.untrained(policy), tmp_path / "own")


def test_a_verifier_whose_writing_is_stopped_can_be_written_again(tmp_path, monkeypatch):
    judge = verifier.untrained(tiny_policy())

    def stop():
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(judge.tokenizer, "save_pretrained", interrupted)
            verifier.save(judge, tmp_path / "own")

    stop()
    with pytest.raises(ValueError, match="no verifier"):
        verifier.load_verifier(tmp_path / "own")
    for _ in range(2):
        verifier.save(judge, tmp_path / "own")
        stop()  # over a whole one, which stays
        assert verifier.load_verifier(tmp_path / "own").fingerprint() == judge.fingerprint()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    verifier.save(judge, tmp_path / "own")
    assert (tmp_path / "own" / "notes.txt").is_file()
    assert not any(".part" in file.name for file in (tmp_path / "own").iterdir())


def test_an_adapter_finds_its_base_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_policy(tiny_policy(), "models/base")
    learner = under_lora(load_policy("models/base"), Recipe(rank=2), seed=0)
    save_policy(learner, "adapted")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_policy(tmp_path / "adapted").model.config.vocab_size
    # moved together, side by side
    (tmp_path / "models/base").rename(tmp_path / "elsewhere/base")
    (tmp_path / "adapted").rename(tmp_path / "elsewhere/adapted")
    assert load_policy(tmp_path / "elsewhere/adapted").model.config.vocab_size


def test_asked_anew_a_saved_policy_stops_where_its_new_prompts_say(tmp_path):
    policy = tiny_policy(templates={"solve": "{question}"}, stop=("\nQuestion:",))
    save_policy(policy, tmp_path / "own")
    assert load_policy(tmp_path / "own").stop == ("\nQuestion:",)
    plain = {"messages": {"solve": "{question}"}, "chat": False}
    again = load_policy(tmp_path / "own", asked=plain)
    assert again.stop == ("\nQuestion:",)  # of the plain prompts
    assert load_policy(tmp_path / "own", asked={}).stop == ()  # of the words that it was taught


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_writing_that_is_stopped_leaves_the_older_policy_whole(tmp_path, monkeypatch):
    old, new = tiny_policy(), tiny_policy(max_tokens=20)
    save_policy(old, tmp_path / "own")

    def stop(path, to):
        if path.suffix == ".part":
            raise KeyboardInterrupt
        return rename(path, to)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        save_policy(new, tmp_path / "own")
    monkeypatch.undo()
    assert load_policy(tmp_path / ".own.old").max_tokens == old.max_tokens
    (tmp_path / "own.old").mkdir()  # somebody else's
    save_policy(new, tmp_path / "own")
    assert load_policy(tmp_path / "own").max_tokens == 20
    assert {folder.name for folder in tmp_path.iterdir()} == {"own", "own.old"}


@pytest.mark.parametrize("options", [{}, OWN])
def test_a_whole_policy_comes_back_as_it_wrote(options, tmp_path):
    policy = tiny_policy(**options)
    for _ in range(2):  # also over an older one
        save_policy(policy, tmp_path / "own")
    again = load_policy(tmp_path / "own", batch_tokens=1024)
    assert texts(again) == texts(policy) and again.fingerprint() == policy.fingerprint()
    assert again.name == "own" and not (tmp_path / "own.part").exists()
    assert load_policy(tmp_path / "own", max_tokens=9).max_tokens == 9


@pytest.mark.slow
def test_adapters_alone_are_written_and_find_a_shipped_base_by_its_name(tmp_path):
    recipe = Recipe(rank=4, batch_tokens=600, learning_rate=1e-2, warmup=1)
    base = load_policy("base", batch_tokens=8192, **OWN)
    before, policy = texts(base), under_lora(base, recipe, seed=0)
    assert texts(policy) == before and policy.engine.batch_tokens == 8192  # they begin at zero
    with pytest.raises(ValueError, match="rank=0 makes no adapters"):
        under_lora(load_policy("base"), replace(recipe, rank=0), seed=0)
    with pytest.raises(ValueError, match="it has adapters already"):
        under_lora(policy, recipe, seed=0)
    twins = [under_lora(load_policy("base"), recipe, seed=seed) for seed in (0, 0, 1)]
    first, same, other = (twin.fingerprint() for twin in twins)
    assert first == same != other
    fine_tune(policy, [Lesson(p) for p in PROBLEMS], tokens=3_000, seed=0, recipe=recipe)
    save_policy(policy, tmp_path / "own")
    note = json.loads((tmp_path / "own" / "adapter_config.json").read_text())
    assert note["base_model_name_or_path"] == "base"
    assert sum(f.stat().st_size for f in (tmp_path / "own").glob("*.safetensors")) < 1_000_000
    again = load_policy(tmp_path / "own")
    assert texts(again) == texts(policy) != before
    assert all(weight.requires_grad for weight in again.model.parameters())  # it can learn on


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["whole", "by a loaded adapter", "deeper", "in its own folder"])
def test_adapters_on_a_base_that_changed_are_saved_as_a_whole(changed, tmp_path):
    recipe = Recipe(rank=4, batch_tokens=600, learning_rate=1e-2, warmup=1)

    def learn(policy, recipe):
        how = {"tokens": 600, "seed": 0, "dtype": torch.float32, "recipe": recipe}
        list(fine_tuning(policy, [Lesson(p) for p in PROBLEMS], **how))

    start = load_policy("base")
    if changed == "whole":
        learn(start, replace(recipe, rank=0))
    if changed == "deeper":
        deeper(start.model, 1)
    if changed == "by a loaded adapter":
        first = HFPolicy(with_lora(start.model, recipe), start.tokenizer)
        learn(first, recipe)
        save_policy(first, tmp_path / "first")
        start = load_policy(tmp_path / "first")
    if changed == "in its own folder":
        save_policy(start, tmp_path / "own")
        start = load_policy(tmp_path / "own")
    policy = HFPolicy(with_lora(start.model, recipe), start.tokenizer)
    learn(policy, recipe)
    save_policy(policy, tmp_path / "own")
    ids = torch.arange(20)[None]
    again = load_policy(tmp_path / "own").model(ids).logits
    torch.testing.assert_close(again, policy.model(ids).logits, atol=1e-3, rtol=1e-4)
    assert not (tmp_path / "own" / ADAPTER).exists() and policy.model.peft_config


def test_other_files_beside_a_policy_are_not_lost(tmp_path):
    save_policy(tiny_policy(), tmp_path / "own")
    (tmp_path / "own" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files than a policy"):
        save_policy(tiny_policy(), tmp_path / "own")
    assert (tmp_path / "own" / "notes.txt").read_text() == "mine"
