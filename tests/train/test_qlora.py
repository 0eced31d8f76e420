"""QLoRA on a shipped model: adapters learn, the base in 4 bits stays bit by bit, and what was saved
is read back."""

import pytest
import torch

from workbench.models import load_policy, load_verifier
from workbench.models.checkpoints import without_library_notes
from workbench.models.policy import HFPolicy
from workbench.models.quantised import is_quantised
from workbench.models.verifier import StepVerifier, save
from workbench.problems import quantities
from workbench.train import genrm, iterate, orm, prm, reward
from workbench.train.grpo import GRPO, grpo
from workbench.train.learner import MasterWeights, Recipe
from workbench.train.lora import with_lora
from workbench.types import LabelledSolution, Prefix

pytestmark = pytest.mark.slow  # each trains or starts processes

PROBLEMS = quantities.generate(4, levels=[1], seed=3)
RIGHT = [p.solution.split("\n") for p in PROBLEMS]
WRONG = [[*steps[:-1], "The answer is 0 ."] for steps in RIGHT]
ROWS = [LabelledSolution(p, tuple(s), (1,) * len(s)) for p, s in zip(PROBLEMS, RIGHT)] + [
    LabelledSolution(p, tuple(s), (*[1] * (len(s) - 1), 0)) for p, s in zip(PROBLEMS, WRONG)
]
SOLUTIONS = [Prefix.of(row.problem, row.steps, ended=True) for row in ROWS]
RECIPE = Recipe(rank=4, epochs=1, batch_tokens=400)


def flat(scores):
    return [s for row in scores for s in row]


def host(dtype="bfloat16"):
    return load_policy("base", dtype=dtype, device="cpu", quantise=True)


def bits(model):
    return [p.data.clone() for p in model.parameters() if hasattr(p, "quant_state")]


def others(model):
    """What is neither in 4 bits nor an adapter."""
    return [
        p.data.clone()
        for n, p in model.named_parameters()
        if not hasattr(p, "quant_state") and "lora_" not in n
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_prm_learns_by_its_adapters_alone_and_is_read_back(dtype, tmp_path):
    base, measured = host(dtype), []
    before, rest = bits(base.model), others(base.model)

    def held_out(verifier):
        measured.append(flat(verifier.score(SOLUTIONS[:2])))
        return {"first": measured[-1][0]}

    recipe = Recipe(rank=4, epochs=4, batch_tokens=300, learning_rate=5e-3)
    options = dict(recipe=recipe, seed=0, held_out=held_out, evaluations=2)
    verifier, log = prm.train_prm(base.model, base.tokenizer, ROWS, **options)
    losses = [row["train/loss"] for row in log if "train/loss" in row]
    assert sum(losses[-2:]) / 2 < 0.8 * losses[0] and measured[0] != measured[1]
    trained = {name: p for name, p in verifier.model.named_parameters() if p.requires_grad}
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    # gradients reached every layer
    assert all(p.abs().max() > 0 for name, p in trained.items() if "lora_B" in name)
    assert len(before) == 42 and all(map(torch.equal, before, bits(verifier.model)))
    assert all(map(torch.equal, rest, others(verifier.model)))
    save(verifier, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) < 1_000_000
    # nothing cached
    scores = flat(StepVerifier(verifier.model, verifier.tokenizer, verifier.form).score(SOLUTIONS))
    again = load_verifier(tmp_path, dtype=dtype, device="cpu", quantise=True)
    assert flat(again.score(SOLUTIONS)) == pytest.approx(scores, abs=1e-5)
    whole = load_verifier(tmp_path, dtype=dtype, device="cpu")
    assert not is_quantised(whole.model) and flat(whole.score(SOLUTIONS)) == pytest.approx(
        scores, abs=0.5
    )


def train_orm():
    return orm.train_orm(*_parts(), ROWS, recipe=RECIPE, seed=0)


def train_reward():
    return reward.train_reward(*_parts(), ROWS, recipe=RECIPE, seed=0)


def train_genrm():
    return genrm.train_genrm(*_parts(), genrm.verdicts(ROWS), recipe=RECIPE, seed=0)


def _parts():
    base = host()
    return base.model, base.tokenizer


@pytest.mark.parametrize("train", [train_orm, train_reward, train_genrm])
def test_the_other_verifiers_are_read_back_too(train, tmp_path):
    verifier, _ = train()
    assert is_quantised(verifier.model)
    save(verifier, tmp_path)
    again = load_verifier(tmp_path, dtype="bfloat16", device="cpu", quantise=True)
    assert is_quantised(again.model)
    assert flat(again.score(SOLUTIONS)) == pytest.approx(flat(verifier.score(SOLUTIONS)), abs=1e-5)


def test_a_policy_learns_from_rewards_by_its_adapters_alone():
    base = host()
    with without_library_notes():
        policy = HFPolicy(with_lora(base.model, RECIPE), base.tokenizer, max_tokens=128)
    before, rest = bits(policy.model), others(policy.model)
    problems = quantities.generate(4, levels=[5], seed=9)
    (row,) = grpo(policy, problems, settings=GRPO(group=4, problems=4), seed=0, rounds=1)
    assert row["train/gradient_norm"] > 0
    assert any(p.abs().max() > 0 for name, p in policy.model.named_parameters() if "lora_B" in name)
    assert all(map(torch.equal, before, bits(policy.model)))
    assert all(map(torch.equal, rest, others(policy.model)))


def test_a_change_of_precision_leaves_packed_weights_alone():
    base = host("float32")
    with without_library_notes():
        model = with_lora(base.model, RECIPE)
    before = bits(model)
    master = MasterWeights(model, torch.bfloat16)
    assert all("lora_" in name and w.dtype == torch.float32 for name, w in master.weights.items())
    assert (
        all(map(torch.equal, before, bits(model)))
        and model.get_output_embeddings().weight.dtype == torch.bfloat16
    )


def test_all_weights_cannot_train_in_four_bits():
    base, recipe = host(), Recipe(rank=0)
    before = bits(base.model)
    for train in (
        lambda: prm.train_prm(base.model, base.tokenizer, ROWS, recipe=recipe, seed=0),
        lambda: reward.train_reward(base.model, base.tokenizer, ROWS, recipe=recipe, seed=0),
        lambda: iterate.fine_tune(base, [iterate.Lesson(PROBLEMS[0])], tokens=10, seed=0),
        lambda: list(grpo(base, PROBLEMS, seed=0, rounds=1)),
    ):
        with pytest.raises(
            ValueError,
            match=r"^weights in 4 bits stay as they are: train adapters on them \(rank > 0\)",
        ):
            train()
    assert all(map(torch.equal, before, bits(base.model)))
