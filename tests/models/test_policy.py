"""Loading policies: shipped names, folders, half-written checkpoints; what the shipped ones
promise."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from workbench.drive import solve
from workbench.models import load_policy
from workbench.models.checkpoints import SHIPPED, check_complete, locate
from workbench.models.tokenizer import build_tokenizer
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.types import Prefix

NAMES = ("weak", "base", "strong")


@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(SHIPPED / "weak", tmp_path / "weak"))


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


def test_shipped_policies_solve_held_out_problems_in_their_order():
    problems = quantities.generate(60, levels=range(2, 8), seed=9, split="test")
    greedy = {
        n: solve(problems, METHODS["greedy"], policy=load_policy(n, dtype="bfloat16"))
        for n in NAMES
    }
    right = {
        name: sum(is_right(r.problem, r.best) for r in results) for name, results in greedy.items()
    }
    assert right["weak"] < right["base"] < right["strong"]


def test_a_checkpoint_without_its_config_or_weights_is_named(copy):
    (copy / "config.json").rename(copy / "elsewhere.json")
    with pytest.raises(ValueError, match=r"is no checkpoint: config.json is missing"):
        load_policy(copy)
    (copy / "elsewhere.json").rename(copy / "config.json")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is no checkpoint: no .safetensors file"):
        load_policy(copy)


@pytest.mark.parametrize("length", [0, 4, 5000, -1])
def test_a_half_written_checkpoint_is_named(copy, length):
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[:length])
    with pytest.raises(ValueError, match=r"model.safetensors is not whole"):
        load_policy(copy)


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(
        ValueError, match=r"no checkpoint folder './nowhere' \(shipped: base, prm, strong, weak\)"
    ):
        load_policy("./nowhere")


def test_a_name_that_the_hub_cannot_give_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"cannot load 'no-such-model'") as error:
        load_policy("no-such-model")
    assert "\n" not in str(error.value)


def test_names_of_the_hub_pass_through():
    assert locate("Qwen/Qwen2.5-Math-1.5B") == "Qwen/Qwen2.5-Math-1.5B"


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
