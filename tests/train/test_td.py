"""TD(lambda) values: returns against their definition, the loss at its positions, what is learnt on
a known chain."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TOKENIZER, tiny_model
from torch.nn.functional import binary_cross_entropy_with_logits

from workbench.models.step_format import StepFormat
from workbench.problems import quantities
from workbench.train import prm, td
from workbench.train.learner import Recipe
from workbench.types import LabelledSolution, Prefix


def n_step_returns(values, reward, lam):
    """Equation 12.3 of Sutton & Barto: a weighted sum of n-step returns, here values ahead or the
    reward at the end."""
    S, out = len(values), []
    for t in range(S):
        left = S - 1 - t  # transitions to the end, whose value is the reward
        ahead = [reward if t + n == S - 1 else values[t + n] for n in range(1, left + 1)]
        weights = [(1 - lam) * lam ** (n - 1) for n in range(1, left)] + [
            lam ** max(left - 1, 0)
        ] * (left > 0)
        out.append(np.dot(weights, ahead) if left else reward)
    return out


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.9, 1.0])
def test_returns_are_the_weighted_sum_of_n_step_returns(lam):
    rng = np.random.default_rng(0)
    lengths, values, rewards = [1, 2, 5, 7], rng.random((4, 7)), np.array([1.0, 0.0, 1.0, 0.0])
    ends = torch.tensor([n - 1 for n in lengths])
    returns = td.lambda_returns(torch.tensor(values), torch.tensor(rewards), ends, lam=lam).numpy()
    for b, n in enumerate(lengths):
        np.testing.assert_allclose(
            returns[b, :n], n_step_returns(values[b, :n], rewards[b], lam), atol=1e-12
        )
        assert (returns[b, n:] == rewards[b]).all()


def test_lambda_one_is_the_answer_for_every_step_and_lambda_outside_is_refused():
    values, rewards, ends = torch.rand(3, 4), torch.tensor([1.0, 0.0, 1.0]), torch.tensor([3, 1, 2])
    returns = td.lambda_returns(values, rewards, ends, lam=1.0)
    assert torch.equal(returns, rewards[:, None].expand(3, 4))
    with pytest.raises(ValueError, match=r"lam=1\.5"):
        td.lambda_returns(values, rewards, ends, lam=1.5)


@pytest.fixture(scope="module")
def batch():
    problems, tokenizer = quantities.generate(3, levels=[2, 4, 6], seed=0), TOKENIZER
    form = StepFormat().bound(tokenizer)
    rows = [
        LabelledSolution(p, steps := tuple(p.solution.split("\n")), (label,) * len(steps))
        for p, label in zip(problems, (1, 0, 1))
    ]
    data = prm.collate(prm.examples(rows, tokenizer, form, past_error=True), tokenizer.pad_token_id)
    return rows, data, form, len(tokenizer)


def test_loss_at_lambda_one_is_that_of_the_answers_labels(batch):
    _, data, form, size = batch
    logits = torch.randn(*data["input_ids"].shape, size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        td.td_loss(logits, data, form, lam=1.0), prm.step_loss(logits, data, form), atol=1e-6
    )


def test_loss_by_hand_and_no_gradient_through_targets(batch):
    rows, data, form, size = batch
    logits = torch.randn(*data["input_ids"].shape, size, generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    margin, terms, residue = prm.margins(logits.detach(), data, form), [], {}
    for b, row in enumerate(rows):
        at = torch.nonzero(data["targets"][b] != prm.IGNORE)[:, 0]
        assert len(at) == len(row.steps)
        d = margin[b, at]
        returns = torch.tensor(
            n_step_returns(torch.sigmoid(d).tolist(), float(row.labels[-1]), 0.6),
            dtype=torch.float32,
        )
        terms.append(binary_cross_entropy_with_logits(d, returns, reduction="none"))
        residue |= {(b, int(i)): (torch.sigmoid(x) - g).item() for i, x, g in zip(at, d, returns)}
    loss = td.td_loss(logits, data, form, lam=0.6)
    assert torch.allclose(loss, torch.cat(terms).mean(), atol=1e-6)
    # of a cross-entropy with fixed targets: (V - G) / number of steps, at the separators alone
    loss.backward()
    for (b, i), want in residue.items():
        assert logits.grad[b, i, form.ids[1]].item() == pytest.approx(want / len(residue), abs=1e-6)
    assert int((logits.grad.abs().sum(-1) > 0).sum()) <= len(residue)


def test_a_rollout_cut_for_length_has_no_reward_and_its_last_step_leads_those_before(batch):
    """The ending of a cut rollout is unknown: V of its last step stands in for it, as a target."""
    rows, whole, form, size = batch
    logits = torch.randn(
        *whole["input_ids"].shape, size, generator=torch.Generator().manual_seed(2)
    )
    cut = whole | {"whole": torch.tensor([True, False, True])}
    margin, terms = prm.margins(logits, cut, form), []
    for b, row in enumerate(rows):
        d = margin[b, cut["targets"][b] != prm.IGNORE]
        ending = torch.sigmoid(d[-1]).item() if b == 1 else float(row.labels[-1])
        returns = torch.tensor(n_step_returns(torch.sigmoid(d).tolist(), ending, 0.6)).float()
        own = binary_cross_entropy_with_logits(d, returns, reduction="none")
        terms.append(own[:-1] if b == 1 else own)
    loss = td.td_loss(logits, cut, form, lam=0.6)
    assert torch.allclose(loss, torch.cat(terms).mean(), atol=1e-6)
    other = cut | {"targets": torch.where(cut["targets"] == 0, 1.0, cut["targets"])}
    assert torch.equal(td.td_loss(logits, other, form, lam=0.6), loss)  # its grade says nothing


def test_training_bootstraps_from_where_the_models_window_ends():
    problem, model = quantities.generate(1, levels=[4], seed=3)[0], tiny_model()
    rows, seen = [(problem, problem.solution, False)], []
    form = StepFormat().bound(TOKENIZER)
    (row,) = prm.examples([LabelledSolution(problem, tuple(problem.solution.split("\n")),
                           (0,) * 5)], TOKENIZER, form, past_error=True)  # fmt: skip
    model.config.max_position_embeddings = len(row["input_ids"]) - 1

    def watched(logits, tensors, totals, form):
        seen.append((tensors["whole"].tolist(), dict(totals)))
        return td.td_loss(logits, tensors, form, totals, lam=0.5)

    labelled = [LabelledSolution(problem, tuple(rows[0][1].split("\n")), (0,) * 5)]
    recipe = Recipe(rank=0, epochs=1)
    with pytest.warns(UserWarning, match="1 of 5 labelled steps"):
        prm.train_prm(
            model, TOKENIZER, labelled, past_error=True, loss=watched, recipe=recipe, seed=0
        )
    ((whole, totals),) = seen
    assert (whole, totals["steps"], totals["cut"]) == ([False], 4, 1)


def trained(stop, right):
    """What TD makes of eight solutions, half of them over for the reason `stop`, graded so."""
    problem, recipe = quantities.generate(1, levels=[2], seed=3)[0], Recipe(rank=0, epochs=2)
    prefix = Prefix.of(problem, ["Ava has 5 .", "Max has 4 ."])
    rows = [(problem, replace(prefix, stop=stop), right), (problem, prefix.texts, True)] * 4
    verifier, log = td.train_td(tiny_model(), TOKENIZER, rows, recipe=recipe, seed=0)
    return verifier.score([prefix]), [row["train/loss"] for row in log]


def test_a_solution_cut_for_length_when_it_was_written_has_no_reward(one_thread):
    """Though all of it fits the window. Of one that ended, the grade counts."""
    assert trained("length", True) == trained("length", False)
    assert trained("end", True) != trained("end", False)


def test_training_learns_the_values_of_a_known_chain():
    """One first step ends right three times in four, another never: TD must find .75 and 0 by their
    endings alone."""
    problem, tokenizer = quantities.generate(1, levels=[2], seed=3)[0], TOKENIZER
    good, bad = "Ava has 5 .", "Max has 4 ."
    rows = [(problem, [good, "The answer is 5 ."], True)] * 24 + [
        (problem, [good, "The answer is 4 ."], False)
    ] * 8
    rows += [(problem, [bad, "The answer is 4 ."], False)] * 16
    model = tiny_model(seed=0)
    recipe = Recipe(rank=0, epochs=30, batch_tokens=4096, learning_rate=3e-3)
    verifier, log = td.train_td(model, tokenizer, rows, lam=0.5, recipe=recipe, seed=0)
    (first, _), (other, _) = verifier.score(
        [Prefix.of(problem, [good, "The answer is 5 ."]), Prefix.of(problem, [bad, "."])]
    )
    assert first == pytest.approx(0.75, abs=0.1) and other < 0.1
    assert log[-1]["train/loss"] < log[0]["train/loss"]


def test_missing_grades_are_refused():
    problem, tokenizer = quantities.generate(1, levels=[2], seed=3)[0], TOKENIZER
    model = tiny_model(seed=0)
    with pytest.raises(ValueError, match="last label None"):
        td.train_td(
            model, tokenizer, [LabelledSolution(problem, ("Ava has 5 .",), (None,))], seed=0
        )
