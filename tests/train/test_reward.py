"""The Bradley–Terry model: its pairs, its loss (by NumPy, and TRL's), and that it learns and comes
back."""

import random
from collections import Counter, defaultdict
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import TOKENIZER, tiny_model

from workbench.analyse.verifiers import auc
from workbench.models import load_policy, load_verifier
from workbench.models.heads import ScalarHead, head_outputs, with_scalar_head
from workbench.models.step_format import StepFormat
from workbench.models.verifier import save
from workbench.problems import quantities
from workbench.train import learner
from workbench.train.learner import Recipe
from workbench.train.reward import Pair, _batch, bt_loss, pairs, train_reward
from workbench.types import LabelledSolution, Prefix, Problem

PROBLEMS = quantities.generate(8, levels=[2, 3], seed=4)
RECIPE = Recipe(rank=8, learning_rate=1e-2, batch_tokens=3200, epochs=4)


def solutions(problem, right, wrong):
    """`right` right and `wrong` wrong solutions of a problem, each with its own text."""
    rows = [
        (problem, [f"{grade} {i}", "end"], grade)
        for grade, n in ((1, right), (0, wrong))
        for i in range(n)
    ]
    random.Random(0).shuffle(rows)
    return rows


def toy(n, seed):
    """Problems with two right and two wrong solutions: right if and only if the first step adds;
    all else is random."""
    rng, rows = random.Random(seed), []
    for i in range(n):
        problem = Problem(
            f"{seed}/{i}", "quantities", f"How many coins does Ava have? Max has {i % 40} coins."
        )
        for right in (True, False, True, False):
            a, b, c = (rng.randint(1, 80) for _ in range(3))
            word, sign = ("more", "+") if right else ("fewer", "-")
            first = f"Ava has {a} {word} than Max : {b} {sign} {a} = {c} ."
            rows.append((problem, [first, f"The answer is {rng.randint(1, 80)} ."], right))
    return rows


def auc_of(verifier, rows):
    scores = verifier.score([Prefix.of(problem, steps, ended=True) for problem, steps, _ in rows])
    return auc([s for (s,) in scores], [right for *_, right in rows])


# -- pairs -----------------------------------------------------------------------------------------


def test_pairs_stay_within_a_problem_and_join_right_with_wrong():
    """Two problems share an id, two a question: still none is crossed."""
    twin = Problem(PROBLEMS[0].id, "quantities", "Another question?")
    same = Problem("other", "quantities", PROBLEMS[0].question)
    rows = [row for p in (*PROBLEMS, twin, same) for row in solutions(p, 3, 2)]
    rows = [(p, [f"{p.id} {p.question}", *steps], right) for p, steps, right in rows]
    made = pairs(rows, most=4, seed=0)
    assert Counter((pair.problem.id, pair.problem.question) for pair in made) == {
        (p.id, p.question): 4 for p in (*PROBLEMS, twin, same)
    }
    for pair in made:
        own = f"{pair.problem.id} {pair.problem.question}"
        assert pair.chosen[0] == pair.rejected[0] == own
        assert (pair.chosen[1][0], pair.rejected[1][0]) == ("1", "0")


@pytest.mark.parametrize("right, wrong", [(1, 1), (1, 5), (4, 2), (4, 6), (3, 3), (7, 3)])
def test_pairs_of_a_problem_are_distinct_and_use_each_solution_equally_often(right, wrong):
    rows = solutions(PROBLEMS[0], right, wrong)
    everything = {(f"1 {i}", f"0 {j}") for i in range(right) for j in range(wrong)}
    for most in range(1, right * wrong + 3):
        made = [(pair.chosen[0], pair.rejected[0]) for pair in pairs(rows, most=most, seed=most)]
        assert len(made) == len(set(made)) == min(most, right * wrong) and set(made) <= everything
        for side, n in ((0, right), (1, wrong)):
            used = Counter(pair[side] for pair in made)
            counts = [used[f"{1 - side} {i}"] for i in range(n)]
            assert max(counts) - min(counts) <= 1


def test_the_seed_decides_on_pairs_and_neither_order_nor_other_problems_do():
    rows = [row for p in PROBLEMS for row in solutions(p, 4, 4)]
    first = pairs(rows, most=3, seed=5)
    assert first == pairs(rows, most=3, seed=5) != pairs(rows, most=3, seed=6)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert set(pairs(shuffled, most=3, seed=5)) == set(first)
    alone = pairs([row for row in rows if row[0] is PROBLEMS[2]], most=3, seed=5)
    assert alone == [pair for pair in first if pair.problem is PROBLEMS[2]]


def test_equal_texts_count_once_and_contradictions_not_at_all():
    p = PROBLEMS[0]
    rows = [(p, "a", 1), (p, "a", 1), (p, "b", 0), (p, "b", 0), (p, "c", 1), (p, "c", 0)]
    assert pairs(rows, most=9, seed=0) == [Pair(p, ("a",), ("b",))]


def test_only_the_last_label_of_a_labelled_solution_counts():
    p = PROBLEMS[0]
    rows = [LabelledSolution(p, ("a", "x"), (0, 1)), LabelledSolution(p, ("b", "y"), (1, 0))]
    assert pairs(rows, most=1, seed=0) == [Pair(p, ("a", "x"), ("b", "y"))]


# -- loss ------------------------------------------------------------------------------------------


def test_the_loss_is_minus_log_sigma_of_the_difference():
    chosen, rejected = np.random.default_rng(0).normal(0, 3, (2, 16))
    expected = -np.log(1 / (1 + np.exp(-(chosen - rejected)))).mean()
    assert bt_loss(torch.tensor(chosen), torch.tensor(rejected)).item() == pytest.approx(
        expected, rel=1e-9
    )
    assert bt_loss(torch.tensor(rejected), torch.tensor(chosen)).item() != pytest.approx(
        expected, rel=0.1
    )
    # no overflow
    assert bt_loss(torch.tensor([-200.0]), torch.tensor([0.0])).item() == pytest.approx(200)


def test_batches_and_loss_are_those_of_trl():
    trl = pytest.importorskip("trl.trainer.reward_trainer")
    model = with_scalar_head(tiny_model(), TOKENIZER)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(1))
    form = StepFormat().bound(TOKENIZER)
    ids = [[*chain(*form.segments(TOKENIZER, p, p.solution.split("\n")))] for p in PROBLEMS]
    right, wrong = ids[:4], ids[4:]
    batch = trl.DataCollatorForPreference(pad_token_id=0)(
        [{"chosen_ids": a, "rejected_ids": b} for a, b in zip(right, wrong)]
    )
    ours = _batch([*zip(right, wrong)]).tensors
    assert set(batch) == set(ours) and all(torch.equal(batch[name], ours[name]) for name in ours)
    here = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=here,
        args=SimpleNamespace(center_rewards_coefficient=None),
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    theirs = trl.RewardTrainer.compute_loss(trainer, model, dict(batch))
    loss = bt_loss(*head_outputs(model, **ours).chunk(2))
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert abs(loss.item() - np.log(2)) > 0.05  # no loss of equal rewards


# -- training --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_reward_model_learns_which_solutions_are_right_and_tells_on_new_ones(capfd, recwarn):
    held_out, seen = toy(25, "held out"), []

    def measure(verifier):
        seen.append(auc_of(verifier, held_out))
        return {"eval/auc": seen[-1]}

    rows = toy(64, 0)
    verifier, log = train_reward(
        tiny_model(), TOKENIZER, rows, recipe=RECIPE, seed=0, held_out=measure, evaluations=2
    )
    assert seen[-1] > 0.9 and len(seen) == 2
    assert auc_of(verifier, held_out) == pytest.approx(seen[-1], abs=1e-3)
    assert log[-1]["train/rows"] == 4 * 64 * 4  # epochs, problems, pairs
    assert log[0]["train/loss"] == pytest.approx(np.log(2), abs=1e-6)  # the head begins at zero
    assert log[0]["train/trivial_loss"] == pytest.approx(np.log(2))
    assert log[-1]["train/loss"] < 0.5 * np.log(2)
    rewards = verifier.log_odds([Prefix.of(problem, steps) for problem, steps, _ in rows])
    # every solution is in some pair
    assert np.mean(rewards) == pytest.approx(0, abs=1e-4) and verifier.head.shift != 0
    assert capfd.readouterr() == ("", "") and [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize("rank", [8, 0])
def test_what_was_trained_comes_back_from_disk(rank, tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    TOKENIZER.save_pretrained(tmp_path / "base")
    rows = toy(16, 1)
    host = load_policy(tmp_path / "base").model
    recipe = Recipe(rank=rank, learning_rate=1e-2, batch_tokens=1600, epochs=4)
    verifier, _ = train_reward(host, TOKENIZER, rows, recipe=recipe, seed=0)
    whole = [Prefix.of(problem, steps, ended=True) for problem, steps, _ in rows]
    scores = [s for (s,) in verifier.score(whole)]
    assert max(scores) - min(scores) > 0.1
    save(verifier, tmp_path / "reward")
    loaded = load_verifier(tmp_path / "reward")
    assert loaded.per == "solution" and loaded.head == verifier.head != ScalarHead()
    assert [s for (s,) in loaded.score(whole)] == pytest.approx(scores, abs=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_equal_seeds_train_equal_models_and_bfloat16_another(monkeypatch):
    monkeypatch.setattr(learner, "fast_dtype", lambda device: torch.bfloat16)  # on any processor
    rows, recipe = toy(8, 2), Recipe(rank=4, epochs=2, batch_tokens=800)

    def losses(seed, **options):
        _, log = train_reward(tiny_model(), TOKENIZER, rows, recipe=recipe, seed=seed, **options)
        return [row["train/loss"] for row in log]

    exact = losses(0)
    assert losses(0) == exact != losses(1)
    rounded = losses(0, bf16=True)
    assert rounded != exact and rounded == pytest.approx(exact, abs=0.05)


def test_bad_input_is_one_line():
    p = PROBLEMS[0]
    with pytest.raises(ValueError, match="none of 2 problems has a right and a wrong solution"):
        pairs([(p, "a", 1), (p, "b", 1), (PROBLEMS[1], "c", 0)], most=4, seed=0)
    with pytest.raises(ValueError, match="0 pairs a problem, need at least 1"):
        pairs([(p, "a", 1), (p, "b", 0)], most=0, seed=0)
    long = "\n".join(["The answer is 1 ."] * 60)
    with pytest.raises(ValueError, match=r"none of 1 pairs to learn from \(the model reads 256"):
        train_reward(tiny_model(), TOKENIZER, [(p, p.solution, 1), (p, long, 0)], seed=0)
