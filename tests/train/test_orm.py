"""ORM training: one label a solution, at its last separator, and what is trained there is what is
read."""

import math
import random

import pytest
import torch
from tiny import TOKENIZER, Ids, tiny_model

from workbench.analyse.verifiers import auc
from workbench.models import load_policy, load_verifier
from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier, save
from workbench.problems import quantities
from workbench.train.learner import Recipe
from workbench.train.orm import outcome_loss, outcome_rows, train_orm
from workbench.train.prm import IGNORE, collate, examples, step_loss
from workbench.types import LabelledSolution, Prefix, Problem

PROBLEMS = quantities.generate(8, levels=[2, 3], seed=4)
RECIPE = Recipe(rank=8, learning_rate=1e-2, batch_tokens=1600, epochs=4)


def toy(n, seed):
    """Solutions that are right if and only if their first step adds; all else is random, and says
    nothing."""
    rng, rows = random.Random(seed), []
    for i in range(n):
        a, b, right = rng.randint(1, 40), rng.randint(1, 40), bool(i % 2)
        problem = Problem(
            f"{seed}/{i}", "quantities", f"How many coins does Ava have? Max has {b} coins."
        )
        c, word, sign = rng.randint(1, 80), *(("more", "+") if right else ("fewer", "-"))
        first = f"Ava has {a} {word} than Max : {b} {sign} {a} = {c} ."
        rows.append((problem, [first, f"The answer is {rng.randint(1, 80)} ."], right))
    return rows


def prefixes(rows):
    return [Prefix.of(problem, steps, ended=True) for problem, steps, _ in rows]


def auc_of(verifier, rows):
    return auc([s for (s,) in verifier.score(prefixes(rows))], [right for *_, right in rows])


@pytest.mark.parametrize("labels, target", [((1, 0), 0.0), ((0, 1), 1.0), ((None, 1), 1.0)])
def test_the_only_target_is_at_the_last_separator(labels, target):
    """The row of REFERENCES, separators at 8 and 12: an earlier label, also a 0, neither counts nor
    ends the row."""
    form = StepFormat("1030", "648", "387", "{question}").bound(Ids())
    row = LabelledSolution(
        Problem("p", "math", "465 6766 318 298"), ("4 322 12", "4995 11 22"), labels
    )
    (example,) = examples(outcome_rows([row]), Ids(), form)
    assert example["input_ids"] == [0, 465, 6766, 318, 298, 4, 322, 12, 1030, 4995, 11, 22, 1030]
    assert example["targets"] == [IGNORE] * 12 + [target]


def test_prefixes_texts_steps_and_labelled_rows_are_the_same_solution():
    p, steps = PROBLEMS[0], tuple(PROBLEMS[0].solution.split("\n"))
    labelled = LabelledSolution(p, steps, (0,) * (len(steps) - 1) + (1,), source="grader")
    made = outcome_rows(
        [(p, Prefix.of(p, steps), True), (p, p.solution, 1), (p, list(steps), True), labelled]
    )
    assert [row.labels for row in made] == [(None,) * (len(steps) - 1) + (1,)] * 4
    assert [row.steps for row in made] == [steps] * 4
    assert [row.source for row in made] == ["", "", "", "grader"]


def test_an_orm_learns_which_solutions_are_right_and_tells_on_new_ones():
    held_out, seen = toy(100, "held out"), []

    def measure(verifier):
        assert verifier.per == "solution"
        seen.append(auc_of(verifier, held_out))
        return {"eval/auc": seen[-1]}

    model = tiny_model()
    before = auc_of(StepVerifier(model, TOKENIZER, per="solution"), held_out)
    verifier, log = train_orm(
        model, TOKENIZER, toy(256, 0), recipe=RECIPE, seed=0, held_out=measure, evaluations=2
    )
    assert before < 0.7 and seen[-1] > 0.9
    assert auc_of(verifier, held_out) == pytest.approx(seen[-1], abs=1e-6)
    assert [row["eval/auc"] for row in log if "eval/auc" in row] == seen and len(seen) == 2
    assert log[-1]["train/loss"] < 0.5 * log[0]["train/loss"]
    # a model that only knows how many are right: half of them
    assert all(row["train/trivial_loss"] == pytest.approx(math.log(2)) for row in log)


@pytest.mark.parametrize("rank", [8, 0])
def test_what_was_trained_is_what_is_read_and_loaded(rank, tmp_path):
    """Overfit random outcomes: the scores come back only if training, reading and loading mean the
    same position."""
    tiny_model().save_pretrained(tmp_path / "base")
    TOKENIZER.save_pretrained(tmp_path / "base")
    rng = random.Random(3)
    rows = [(p, p.solution, rng.random() < 0.5) for p in PROBLEMS[:4]]
    assert {right for *_, right in rows} == {True, False}
    recipe = Recipe(rank=rank, epochs=60, learning_rate=2e-2 if rank else 5e-3)
    host = load_policy(tmp_path / "base").model
    verifier, _ = train_orm(host, TOKENIZER, rows, recipe=recipe, seed=0)
    whole = [Prefix.of(p, p.solution.split("\n"), ended=True) for p, *_ in rows]
    scores = [s for (s,) in verifier.score(whole)]
    assert all(abs(score - right) < 0.2 for score, (*_, right) in zip(scores, rows))
    save(verifier, tmp_path / "orm")
    loaded = load_verifier(tmp_path / "orm")
    assert loaded.per == "solution" and loaded.name == "orm"
    assert [s for (s,) in loaded.score(whole)] == pytest.approx(scores, abs=1e-4)


def test_bad_input_is_one_line():
    p = PROBLEMS[0]
    with pytest.raises(ValueError, match=f"{p.id}: last label None, need 1 .* or 0"):
        outcome_rows([LabelledSolution(p, ("a", "b"), (1, None))])
    with pytest.raises(ValueError, match=r"last label 0\.5, need 1"):
        outcome_rows([(p, "a", 0.5)])
    with pytest.raises(ValueError, match=f"{p.id}: a solution without steps"):
        outcome_rows([(p, Prefix(p), True)])
    with pytest.raises(ValueError, match="none of 0 labelled steps"):
        train_orm(tiny_model(), TOKENIZER, [], seed=0)


def test_within_a_wrong_solution_the_fault_is_its_least_likely_word():
    form = StepFormat().bound(TOKENIZER)
    (problem, steps, _), *_ = toy(1, seed=3)
    for right in (False, True):
        batch = collate(examples(outcome_rows([(problem, steps, right)]), TOKENIZER, form), 0)
        noise = torch.Generator().manual_seed(0)
        logits = torch.randn(*batch["input_ids"].shape, len(TOKENIZER), generator=noise)
        words = (batch["steps"][0] > 0).nonzero()[:, 0].tolist()
        ids = batch["input_ids"][0]
        logp = {t: logits[0, t - 1].log_softmax(-1)[ids[t]].item() for t in words}
        chance = logits[0][:, [form.ids[1], form.ids[2]]].log_softmax(-1)  # (T, 2)
        fault = len(ids) if right else min(logp, key=logp.get)
        wanted = -sum(chance[t, 0].item() for t in words if t < fault) / len(words)
        bad = [-chance[t, 1].item() for t in words if t >= fault]
        wanted += 0 if right else (bad[0] + sum(bad) / len(bad)) / 2
        more = outcome_loss(logits, batch, form, within=1.0) - step_loss(logits, batch, form)
        assert more.item() == pytest.approx(wanted / 2, abs=1e-5)
