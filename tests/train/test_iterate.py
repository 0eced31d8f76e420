"""Rounds of collecting and fine-tuning: each from the original start, on what the newest policy
wrote."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_policy

from workbench.drive import solve
from workbench.models.checkpoints import weights_digest
from workbench.models.policy import HFPolicy
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.train.iterate import GENTLE, fine_tune, fine_tuning, iterate, lessons_of
from workbench.train.learner import Recipe
from workbench.train.lora import with_lora
from workbench.train.sft import Lesson, batches
from workbench.types import LabelledSolution, SearchResult

pytestmark = pytest.mark.usefixtures("one_thread")  # equal runs are compared to the last bit
PROBLEMS = quantities.generate(6, levels=[1], seed=1)
RECIPE = replace(GENTLE, batch_tokens=256, matrix_rate=0.02, learning_rate=1e-2, warmup=1)


def weights(policy):
    return torch.cat([p.detach().float().flatten() for p in policy.model.parameters()])


def test_each_round_begins_at_the_start_and_learns_from_the_newest_policy():
    seen = []

    def collect(policy, number):
        seen.append(weights(policy))
        return [Lesson(p) for p in PROBLEMS[: 2 + number]]

    rounds = list(iterate(tiny_policy, collect, rounds=3, tokens=2000, seed=0, recipe=RECIPE))
    assert torch.equal(seen[0], weights(tiny_policy()))
    for (policy, lessons), after, number in zip(rounds, seen[1:], range(3)):
        assert torch.equal(weights(policy), after) and len(lessons) == 2 + number
    alone = tiny_policy()  # the third round knows nothing of the second but its lessons
    fine_tune(alone, rounds[2][1], tokens=2000, seed=2, recipe=RECIPE)
    assert torch.equal(weights(alone), weights(rounds[2][0]))


@pytest.mark.slow
def test_fine_tuning_teaches_its_lessons_as_often_as_it_takes():
    policy = tiny_policy()
    loss = fine_tune(policy, [Lesson(PROBLEMS[0])], tokens=12_000, seed=0, recipe=RECIPE)
    (result,) = solve(PROBLEMS[:1], METHODS["greedy"], policy=policy)
    assert loss < 0.1 and result.rollouts[0].text == PROBLEMS[0].solution
    for lessons, tokens in (([], 10), ([Lesson(PROBLEMS[0])], 0)):
        with pytest.raises(
            ValueError, match=f"{len(lessons)} lessons, tokens={tokens}: need at least one of each"
        ):
            fine_tune(policy, lessons, tokens=tokens, seed=0)
    with pytest.raises(ValueError, match="prompt 'rephrase': this policy has solve"):
        asked = [Lesson(PROBLEMS[0], "rephrase")]
        fine_tune(tiny_policy(templates={"solve": "{question}"}), asked, tokens=10, seed=0)


def test_with_its_usual_recipe_adapters_learn():
    """Muon has all their matrices, and AdamW nothing to do."""
    model = with_lora(tiny_policy().model, Recipe(rank=4))
    start = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
    policy = HFPolicy(model, tiny_policy().tokenizer, max_tokens=40)
    fine_tune(policy, [Lesson(PROBLEMS[0])], tokens=200, seed=0)
    moved = [not torch.equal(p, start[n]) for n, p in model.named_parameters() if n in start]
    assert all(moved)


def test_few_lessons_are_not_copied_into_one_update(monkeypatch):
    made = []

    def spied(*args, **options):
        for update in batches(*args, **options):
            made.append([tuple(row) for b in update for row in b.tensors["input_ids"].tolist()])
            yield update

    monkeypatch.setattr("workbench.train.iterate.batches", spied)
    lessons = [Lesson(p) for p in quantities.generate(50, levels=range(1, 9), seed=5)]
    recipe = replace(RECIPE, batch_tokens=600)
    fine_tune(tiny_policy(), lessons, tokens=9_000, seed=0, recipe=recipe)
    assert sum(map(len, made)) > 50 and all(len(set(rows)) == len(rows) for rows in made)


@pytest.mark.slow
def test_a_policy_is_taught_by_its_own_prompts_and_adapters_learn_alone():
    """Asked in another way than it was taught, it does not know the answer."""
    plain = tiny_policy()
    before = {name: p.clone() for name, p in plain.model.named_parameters()}
    model = with_lora(plain.model, Recipe(rank=8, alpha=16))
    asked = {"templates": {"solve": "In other words :\n{question}\n"}, "max_tokens": 40}
    policy = HFPolicy(model, plain.tokenizer, **asked)
    recipe = Recipe(rank=8, batch_tokens=300, learning_rate=5e-3, warmup=1, decay=0.0)
    fine_tune(policy, [Lesson(PROBLEMS[0])], tokens=20_000, seed=0, recipe=recipe)
    (result,) = solve(PROBLEMS[:1], METHODS["greedy"], policy=policy)
    assert result.rollouts[0].text == PROBLEMS[0].solution
    other = HFPolicy(model, plain.tokenizer, max_tokens=40)
    (result,) = solve(PROBLEMS[:1], METHODS["greedy"], policy=other)
    assert result.rollouts[0].text != PROBLEMS[0].solution
    after = {n.replace(".base_layer", ""): p for n, p in model.named_parameters()}
    for name, p in before.items():  # `fine_tune` computes in bfloat16 where the machine does
        now = after[f"base_model.model.{name}"]
        assert torch.equal(now, p.to(now.dtype))


def test_lessons_are_texts_without_their_hint():
    row = LabelledSolution(PROBLEMS[0], ("a", "b"), (1, 1), source="star", meta={"hinted": True})
    wrong = LabelledSolution(PROBLEMS[0], ("a", "c"), (1, 0), source="shepherd")
    assert lessons_of([SearchResult(PROBLEMS[0], labelled=(row, wrong))]) == [
        Lesson(PROBLEMS[0], "solve", "a\nb")
    ]


def test_a_training_goes_on_only_where_the_same_one_stood(tmp_path):
    small = replace(GENTLE, batch_tokens=256, matrix_rate=None)
    lessons = [Lesson(p) for p in quantities.generate(6, levels=[1], seed=0, split="train")]

    def run(some, seed):
        policy = tiny_policy()
        kept = {"recipe": small, "checkpoints": tmp_path}
        list(fine_tuning(policy, some, tokens=1500, seed=seed, **kept))
        return weights_digest(policy.model)

    assert run(lessons[:3], 0) == run(lessons[:3], 0)
    for others in ((lessons[3:], 0), (lessons[:3], 1)):
        with pytest.raises(ValueError, match="is of another run"):
            run(*others)


def test_a_training_left_in_the_middle_leaves_no_dropout_behind():
    policy = tiny_policy("gpt2")  # which has dropout
    lessons = [Lesson(p) for p in quantities.generate(6, levels=[1], seed=0, split="train")]
    next(
        fine_tuning(policy, lessons, tokens=5000, seed=0, recipe=replace(GENTLE, batch_tokens=256))
    )
    assert not policy.model.training


def test_a_recipe_with_adapters_does_not_train_all_weights():
    with pytest.raises(ValueError, match="rank=4, but the model has no adapters"):
        fine_tune(tiny_policy(), [Lesson(p) for p in quantities.generate(2, levels=[1], seed=0)],
                  tokens=100, seed=0, recipe=Recipe(rank=4))  # fmt: skip
