"""The family recipe: members are forked where they should be, a killed run goes on bit-equal,
checkpoints are whole."""

from itertools import islice

import pytest
import torch
from tiny import TOKENIZER
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from workbench.models.checkpoints import check_complete
from workbench.problems import quantities
from workbench.train import family
from workbench.train.sft import Recipe

MEMBERS = {
    "weak": family.Budget(6_000, 9_000, 9_000),
    "strong": family.Budget(14_000, 26_000, 22_000),
}
RECIPE = Recipe(batch_tokens=1000, warmup_updates=2)


@pytest.fixture(autouse=True)
def small_and_single_threaded(monkeypatch):
    def new_model(seed):
        torch.manual_seed(seed)
        sizes = dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
        )
        return LlamaForCausalLM(
            LlamaConfig(vocab_size=len(TOKENIZER), pad_token_id=0, eos_token_id=1, **sizes)
        )

    monkeypatch.setattr(family, "REPEATS", 3)
    monkeypatch.setattr(family, "new_model", new_model)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(folder, n=None):
    return list(
        islice(family.train_family(folder, seed=0, members=MEMBERS, recipe=RECIPE, save_every=4), n)
    )


def weights(folder, name):
    return AutoModelForCausalLM.from_pretrained(folder / name).state_dict()


def test_members_are_forked_from_one_trunk(tmp_path):
    seen = train(tmp_path)
    runs = [name for name, _ in seen]
    assert [run for i, run in enumerate(runs) if i == 0 or runs[i - 1] != run] == [
        "trunk",
        "weak",
        "trunk",
        "strong",
    ]
    trunk = [update for name, update in seen if name == "trunk"]
    # the trunk never sees a fork
    assert [u.updates for u in trunk] == list(range(1, len(trunk) + 1))
    for name, (decay_from, decay_to, stop) in MEMBERS.items():
        own = [update for run, update in seen if run == name]
        assert own[0].tokens > decay_from and own[-2].tokens < stop <= own[-1].tokens
        assert own[-1].lr == pytest.approx((decay_to - own[-2].tokens) / (decay_to - decay_from))
        check_complete(tmp_path / name)
    assert len(list(tmp_path.glob("trunk_*"))) == sum(u.updates % 4 == 0 for u in trunk)


def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path):
    train(tmp_path / "whole")
    train(tmp_path / "killed", 7)  # in the trunk, past its first save
    train(tmp_path / "killed", 6)  # again, in the fork
    train(tmp_path / "killed")
    for name in MEMBERS:
        whole, killed = weights(tmp_path / "whole", name), weights(tmp_path / "killed", name)
        assert all(torch.equal(whole[k], killed[k]) for k in whole)
    assert train(tmp_path / "killed") == []


def test_the_learning_curve_measures_every_checkpoint_on_the_way(tmp_path):
    train(tmp_path)
    problems = quantities.generate(6, levels=[1, 2], seed=0, split="validation")
    rows = list(family.learning_curve(tmp_path, "strong", problems=problems, samples=2, seed=0))
    assert [(row["tokens"], row["level"]) for row in rows] == sorted(
        (row["tokens"], row["level"]) for row in rows
    )
    passed = [p for p in tmp_path.glob("*_*/") if p.name.split("_")[0] in ("trunk", "strong")]
    assert any(p.name.startswith("strong_") for p in passed)
    assert len(rows) == 2 * len(passed) and all(0 <= row["value"] <= 1 for row in rows)


def test_the_card_says_how_it_was_trained_and_how_good_it_is(tmp_path):
    train(tmp_path)
    table = [
        {"level": level, "kind": kind, "value": 0.5, "low": 0.4, "high": 0.6}
        for level in (1, 2)
        for kind in ("pass@1", "pass@16")
    ]
    family.write_card(tmp_path / "weak", table, "6 problems.")
    card = (tmp_path / "weak" / "README.md").read_text()
    assert "| level | pass@1 | pass@16 |\n|---|---|---|\n| 1 | 0.50 (0.40–0.60) |" in card
    assert "| learning rate decays from token | 6,000 |" in card and "{" not in card
