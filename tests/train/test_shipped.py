"""Shipped policies: forked where they should be; a killed run goes on bit-equal; whole files."""

from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch
from tiny import TOKENIZER
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from workbench.models.checkpoints import check_complete
from workbench.problems import quantities
from workbench.train import shipped
from workbench.train.sft import RECIPE as SFT

MEMBERS = {
    "weak": shipped.Milestones(3_000, 4_500, 4_500),
    "strong": shipped.Milestones(7_000, 13_000, 11_000),
}
RECIPE = replace(SFT, batch_tokens=500, warmup=2)


@pytest.fixture(autouse=True, scope="module")
def small_and_single_threaded():
    def new_model(seed):
        torch.manual_seed(seed)
        sizes = dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
        )
        return LlamaForCausalLM(
            LlamaConfig(vocab_size=len(TOKENIZER), pad_token_id=0, eos_token_id=1, **sizes)
        )

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipped, "REPEATS", 3)
        patch.setattr(shipped, "new_model", new_model)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of the whole recipe, and what its training yielded."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


def train(folder, n=None):
    return list(
        islice(
            shipped.train_policies(folder, seed=0, members=MEMBERS, recipe=RECIPE, save_every=4), n
        )
    )


def weights(folder, name):
    return AutoModelForCausalLM.from_pretrained(folder / name).state_dict()


def test_members_are_forked_from_one_trunk(whole):
    folder, seen = whole
    runs = [name for name, _ in seen]
    assert [run for i, run in enumerate(runs) if i == 0 or runs[i - 1] != run] == [
        "trunk",
        "weak",
        "trunk",
        "strong",
    ]
    trunk = [update for name, update in seen if name == "trunk"]
    # the trunk never sees a fork
    assert [u["update"] for u in trunk] == list(range(1, len(trunk) + 1))
    for name, (decay_from, decay_to, stop) in MEMBERS.items():
        own = [update for run, update in seen if run == name]
        assert (
            own[0]["train/tokens"] > decay_from
            and own[-2]["train/tokens"] < stop <= own[-1]["train/tokens"]
        )
        assert own[-1]["train/rate"] == pytest.approx(
            (decay_to - own[-2]["train/tokens"]) / (decay_to - decay_from)
        )
        check_complete(folder / name)
    assert len(list(folder.glob("trunk_*"))) == sum(u["update"] % 4 == 0 for u in trunk)


@pytest.mark.slow
def test_a_killed_run_ends_where_an_undisturbed_one_does(whole, tmp_path):
    train(tmp_path / "killed", 7)  # in the trunk, past its first save
    train(tmp_path / "killed", 6)  # again, in the fork
    train(tmp_path / "killed")
    for name in MEMBERS:
        undisturbed, killed = weights(whole[0], name), weights(tmp_path / "killed", name)
        assert all(torch.equal(undisturbed[k], killed[k]) for k in undisturbed)
    assert train(tmp_path / "killed") == []


def test_another_recipe_or_seed_is_refused_by_its_name(tmp_path):
    train(tmp_path, 5)
    other = replace(RECIPE, clip=0.5)
    options = dict(members=MEMBERS, save_every=4)
    with pytest.raises(ValueError, match=r"trunk.pt is .*: recipe: clip was 1\.0, is 0\.5$"):
        next(shipped.train_policies(tmp_path, seed=0, recipe=other, **options))
    with pytest.raises(ValueError, match=r"seed was 0, is 1; host weights was"):
        next(shipped.train_policies(tmp_path, seed=1, recipe=RECIPE, **options))


def test_the_learning_curve_measures_every_checkpoint_on_the_way(whole, monkeypatch):
    folder, _ = whole
    monkeypatch.setattr(shipped, "load_policy", partial(shipped.load_policy, max_tokens=8))
    problems = quantities.generate(6, levels=[1, 2], seed=0, split="validation")
    rows = list(shipped.learning_curve(folder, "strong", problems=problems, samples=2, seed=0))
    assert [(row["tokens"], row["level"]) for row in rows] == sorted(
        (row["tokens"], row["level"]) for row in rows
    )
    passed = [p for p in folder.glob("*_*/") if p.name.split("_")[0] in ("trunk", "strong")]
    assert any(p.name.startswith("strong_") for p in passed)
    assert len(rows) == 2 * len(passed) and all(0 <= row["value"] <= 1 for row in rows)


def test_the_card_says_how_it_was_trained_and_how_good_it_is(whole):
    folder, _ = whole
    table = [
        {"level": level, "kind": kind, "value": 0.5, "low": 0.4, "high": 0.6}
        for level in (1, 2)
        for kind in ("pass@1", "pass@16")
    ]
    shipped.write_card(folder / "weak", table, "6 problems.")
    card = (folder / "weak" / "README.md").read_text()
    assert "| level | pass@1 | pass@16 |\n|---|---|---|\n| 1 | 0.50 (0.40–0.60) |" in card
    assert "| learning rate decays from token | 3,000 |" in card and "{" not in card
