"""A PRM from answers alone: its loss by hand, its gradient, and that bags teach what is in them."""

import math

import pytest
import torch
from tiny import TOKENIZER, tiny_model

from workbench.models.step_format import StepFormat
from workbench.problems import quantities
from workbench.train import every_step, prm
from workbench.train.learner import Recipe
from workbench.types import LabelledSolution, Prefix


@pytest.fixture(scope="module")
def batch():
    problems, form = quantities.generate(3, levels=[2, 4, 6], seed=0), StepFormat().bound(TOKENIZER)
    rows = [
        LabelledSolution(p, steps := tuple(p.solution.split("\n")), (label,) * len(steps))
        for p, label in zip(problems, (1, 0, 1))
    ]
    data = prm.collate(prm.examples(rows, TOKENIZER, form, past_error=True), TOKENIZER.pad_token_id)
    return rows, data, form


def logits_of(data, scale=1.0):
    shape = (*data["input_ids"].shape, len(TOKENIZER))
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_loss_by_hand(batch):
    rows, data, form = batch
    logits, terms = logits_of(data), []
    margin = prm.margins(logits, data, form).double()
    for b, row in enumerate(rows):
        at = torch.nonzero(data["targets"][b] != prm.IGNORE)[:, 0]
        product = math.prod(1 / (1 + math.exp(-d)) for d in margin[b, at].tolist())
        terms.append(-math.log(product if row.labels[-1] else 1 - product))
    loss = every_step.every_step_loss(logits, data, form)
    assert loss.item() == pytest.approx(sum(terms) / 3, abs=1e-5)
    totals = {"rows": 10, "cut": 1}
    share = every_step.every_step_loss(logits, data, form, totals)
    assert share.item() == pytest.approx(sum(terms) / 9, abs=1e-5)


def test_a_wrong_answer_blames_the_step_thought_worst(batch):
    _, data, form = batch
    logits = logits_of(data).requires_grad_()
    every_step.every_step_loss(logits, data, form).backward()
    at = torch.nonzero(data["targets"][1] != prm.IGNORE)[:, 0]
    d, blame = prm.margins(logits.detach(), data, form)[1, at], logits.grad[1, at, form.ids[1]]
    assert (blame > 0).all() and blame.argmax() == d.argmin()  # down with the lowest most


def test_sure_of_a_wrong_solution_is_a_finite_loss_with_a_gradient(batch):
    _, data, form = batch
    logits = torch.zeros(*data["input_ids"].shape, len(TOKENIZER))
    logits[..., form.ids[1]] = 80.0
    logits.requires_grad_()
    loss = every_step.every_step_loss(logits, data, form)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_cut_solutions_teach_nothing(batch):
    _, data, form = batch
    cut = data | {"whole": torch.tensor([True, False, True])}
    loss = every_step.every_step_loss(logits_of(data), cut, form)
    other = cut | {"targets": torch.where(cut["targets"] == 0, 1.0, cut["targets"])}
    assert torch.equal(every_step.every_step_loss(logits_of(data), other, form), loss)


def test_answers_teach_which_of_two_steps_was_bad():
    """A bad step stands second or alone; only whole solutions have labels."""
    problem = quantities.generate(1, levels=[2], seed=3)[0]
    good, fine, bad = "Ava has 5 .", "Zoe has 7 .", "Max has 4 ."
    rows = [(problem, [good, fine], True), (problem, [fine, good], True)] * 12
    rows += [(problem, [good, bad], False), (problem, [bad], False)] * 12
    recipe = Recipe(rank=0, epochs=30, batch_tokens=4096, learning_rate=3e-3)
    verifier, log = every_step.train_every_step(
        tiny_model(seed=0), TOKENIZER, rows, recipe=recipe, seed=0
    )
    scores = verifier.score([Prefix.of(problem, [good, bad]), Prefix.of(problem, [bad, fine])])
    assert scores[0][0] > 0.9 > 0.1 > scores[0][1] and scores[1][0] < 0.1
    assert log[0]["train/trivial_loss"] == pytest.approx(math.log(2), abs=1e-6)
