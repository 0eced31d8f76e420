"""PRM training: targets on the separators only, the loss by hand, and the trained logits are the
logits read."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from tiny import TOKENIZER, Ids, tiny_model

from workbench.models import load_policy, load_verifier
from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier, save
from workbench.problems import quantities
from workbench.train.learner import Recipe
from workbench.train.prm import (
    IGNORE,
    _logits_of_steps,
    collate,
    examples,
    margins,
    step_loss,
    train_prm,
    word_targets,
)
from workbench.types import LabelledSolution, Prefix, Problem

FORM = StepFormat().bound(TOKENIZER)
PROBLEMS = quantities.generate(8, levels=[2, 3], seed=4)


def labelled(problem, labels=None, values=None):
    steps = tuple(problem.solution.split("\n"))
    labels = labels or (1,) * len(steps)
    return LabelledSolution(problem, steps, labels, values)


def test_masked_labels_match_the_reference_row():
    """REFERENCES: prompt, two steps, separator 1030, labels 1 and 0: targets at indices 8 and 12
    and nowhere else."""
    form = StepFormat("1030", "648", "387", "{question}").bound(Ids())
    row = LabelledSolution(
        Problem("p", "math", "465 6766 318 298"), ("4 322 12", "4995 11 22"), (1, 0)
    )
    (example,) = examples([row], Ids(), form)
    assert example["input_ids"] == [0, 465, 6766, 318, 298, 4, 322, 12, 1030, 4995, 11, 22, 1030]
    assert example["targets"] == [IGNORE] * 8 + [1.0] + [IGNORE] * 3 + [0.0]
    assert example["steps"] == [0] * 5 + [1, 1, 1, 0, 2, 2, 2, 0]


def test_every_target_stands_on_a_separator_and_every_step_has_one():
    rows = [
        labelled(p, values=[i / 10 for i in range(len(p.solution.split("\n")))]) for p in PROBLEMS
    ]
    for row, example in zip(rows, examples(rows, TOKENIZER, FORM, soft=True, past_error=True)):
        at = [i for i, target in enumerate(example["targets"]) if target != IGNORE]
        newline = TOKENIZER.convert_tokens_to_ids("\n")
        assert (
            at == [i for i, token in enumerate(example["input_ids"]) if token == newline][1:]
        )  # [0] ends the question
        assert [example["targets"][i] for i in at] == list(row.values)


def test_unlabelled_steps_carry_no_loss_and_long_solutions_are_cut_at_a_step_border():
    row = labelled(PROBLEMS[0], (1, None, 0, 1)[: PROBLEMS[0].level + 1])
    (whole,) = examples([row], TOKENIZER, FORM, past_error=True)
    assert sum(t != IGNORE for t in whole["targets"]) == len(row.steps) - 1
    (cut,) = examples([row], TOKENIZER, FORM, past_error=True, longest=len(whole["input_ids"]) - 1)
    assert cut["input_ids"] == whole["input_ids"][: len(cut["input_ids"])]
    assert cut["input_ids"][-1] == TOKENIZER.convert_tokens_to_ids("\n")
    assert examples([labelled(PROBLEMS[0], (None,) * len(row.steps))], TOKENIZER, FORM) == []
    with pytest.raises(ValueError, match="has no values"):
        examples([row], TOKENIZER, FORM, soft=True)


def test_a_solution_ends_with_its_first_bad_step():
    row = labelled(PROBLEMS[0], (1, 0, 1, 0)[: PROBLEMS[0].level + 1])
    (whole,), (cut,) = (
        examples([row], TOKENIZER, FORM, past_error=True),
        examples([row], TOKENIZER, FORM),
    )
    assert [t for t in cut["targets"] if t != IGNORE] == [1.0, 0.0]
    assert (
        cut["input_ids"] == whole["input_ids"][: len(cut["input_ids"])]
        and cut["targets"][-1] == 0.0
    )


def test_the_loss_is_the_binary_cross_entropy_of_the_labelled_steps():
    rows = [
        labelled(p, (1, 0, 1, 0)[: p.level + 1], (0.9, 0.25, 0.5, 0.0)[: p.level + 1])
        for p in PROBLEMS[:3]
    ]
    batch = collate(examples(rows, TOKENIZER, FORM, soft=True, past_error=True), 0)
    logits = torch.randn(
        *batch["input_ids"].shape, len(TOKENIZER), generator=torch.Generator().manual_seed(0)
    )
    terms = []
    for b, row in enumerate(rows):
        ends = (batch["targets"][b] != IGNORE).nonzero()[:, 0].tolist()
        for end, y in zip(ends, row.values):
            pair = torch.softmax(logits[b, end, [FORM.ids[1], FORM.ids[2]]], 0)
            terms.append(-(y * pair[0].log() + (1 - y) * pair[1].log()))
    assert len(terms) == sum(len(row.steps) for row in rows)
    assert step_loss(logits, batch, FORM).item() == pytest.approx(
        torch.stack(terms).mean().item(), abs=1e-6
    )


def test_a_bad_step_is_bad_from_its_least_likely_word_on():
    rows = [labelled(p, (1, None, 0, 1)[: p.level + 1]) for p in PROBLEMS[:3] if p.level > 1]
    batch = collate(examples(rows, TOKENIZER, FORM), 0)
    ids, steps = batch["input_ids"], batch["steps"]
    noise = torch.Generator().manual_seed(0)
    logits = torch.randn(*ids.shape, len(TOKENIZER), generator=noise)
    found, faults = word_targets(logits, batch, FORM)
    chance = logits[..., [FORM.ids[1], FORM.ids[2]]].softmax(-1)  # (B, T, 2)
    bad, others, words = [], [], 0
    for b, row in enumerate(rows):
        assert (found[b, steps[b] == 0] == IGNORE).all()
        for number, label in enumerate(row.labels[:3], 1):
            places = (steps[b] == number).nonzero()[:, 0].tolist()
            words += len(places)
            logp = {t: logits[b, t - 1].log_softmax(-1)[ids[b, t]].item() for t in places}
            fault = min(logp, key=logp.get)
            for t in places:
                assert found[b, t].item() == {1: 1.0, None: IGNORE, 0: float(t < fault)}[label]
                assert faults[b, t] == (label == 0 and t == fault)
            if label == 0:
                terms = [-chance[b, t, 1].log().item() for t in places if t >= fault]
                bad.append((terms[0] + sum(terms) / len(terms)) / 2)
            good = [t for t in places if label == 1 or (label == 0 and t < fault)]
            others += [-chance[b, t, 0].log().item() for t in good]
    wanted = (sum(bad) / len(bad) + sum(others) / words) / 2
    more = step_loss(logits, batch, FORM, within=0.5) - step_loss(logits, batch, FORM)
    assert more.item() == pytest.approx(0.5 * wanted, abs=1e-5)


@pytest.mark.parametrize("empty_first", [False, True])
@pytest.mark.parametrize("likelihood", [0.0, 0.4])
def test_logits_that_are_not_computed_change_no_loss(likelihood, empty_first):
    form = StepFormat(likelihood=likelihood).bound(TOKENIZER)
    rows = [labelled(p, (1,) * p.level + (0,)) for p in PROBLEMS[:4]]
    if empty_first:  # its separator is judged before any word of a step
        rows = [replace(row, steps=("", *row.steps), labels=(0, *row.labels)) for row in rows]
    batch = collate(examples(rows, TOKENIZER, form, past_error=True), 0)
    model = tiny_model(dtype=torch.float64)
    whole, some = model(input_ids=batch["input_ids"]).logits, _logits_of_steps(model, batch, 1)
    assert not some[:, 0].any() and whole[:, 0].all()
    about = {"language": 0.1, "within": 0.5}
    expected = step_loss(whole, batch, form, **about)
    torch.testing.assert_close(step_loss(some, batch, form, **about), expected)


def test_labels_of_words_know_separators_of_several_ids():
    form = StepFormat("1030 1031", "648", "387", "{question}").bound(Ids())
    row = LabelledSolution(Problem("p", "math", "465 6766"), ("4 322", "4995 11 22"), (1, 0))
    (example,) = examples([row], Ids(), form)
    assert example["steps"] == [0, 0, 0, 1, 1, 0, 0, 2, 2, 2, 0, 0]  # words at 3, 4 and 7, 8, 9
    logits = torch.zeros(1, 12, 7000)
    logits[0, 7, 11] = -5.0  # before 8: its word, 11, is the least likely of the bad step
    found, faults = word_targets(logits, collate([example], 0), form)
    no = IGNORE
    assert found[0].tolist() == [no, no, no, 1, 1, no, no, 1, 0, 0, no, no]
    assert faults[0].nonzero()[:, 0].tolist() == [8]


def test_the_language_term_is_the_cross_entropy_of_the_words_of_good_steps():
    rows = [labelled(p, (1, 1, 0, 1)[: p.level + 1]) for p in PROBLEMS[:3]]
    data = examples(rows, TOKENIZER, FORM)
    batch = collate(data, 0)
    logits = torch.randn(
        *batch["input_ids"].shape, len(TOKENIZER), generator=torch.Generator().manual_seed(0)
    )
    terms = []
    for b, row in enumerate(rows):
        question, *segments = FORM.segments(TOKENIZER, row.problem, row.steps[:2])
        at = len(question)  # the first two steps are good
        for token in (token for segment in segments for token in segment):
            terms.append(-logits[b, at - 1].log_softmax(0)[token])
            at += 1
    expected = step_loss(logits, batch, FORM) + 0.5 * torch.stack(terms).mean()
    assert step_loss(logits, batch, FORM, language=0.5).item() == pytest.approx(
        expected.item(), abs=1e-6
    )
    totals = {"steps": int((batch["targets"] != IGNORE).sum()), "words": len(terms)}
    parts = [
        step_loss(logits[b : b + 1], collate(data[b : b + 1], 0) | _of(batch, b), FORM, totals,
                  language=0.5)
        for b in range(3)
    ]  # fmt: skip
    assert sum(parts).item() == pytest.approx(expected.item(), abs=1e-6)


def _of(batch, b):
    """Row b of a batch, as wide as the batch."""
    return {name: x[b : b + 1] for name, x in batch.items()}


@pytest.mark.parametrize("separator", ["\n", ". \n"])
@pytest.mark.parametrize("likelihood", [0.0, 0.5])
def test_margins_of_a_padded_batch_are_the_log_odds_that_the_verifier_reads(likelihood, separator):
    form, model = StepFormat(separator, likelihood=likelihood).bound(TOKENIZER), tiny_model()
    batch = collate(examples([labelled(p) for p in PROBLEMS], TOKENIZER, form), 0)
    with torch.no_grad():
        margin = margins(model(input_ids=batch["input_ids"]).logits, batch, form)
    read = StepVerifier(model, TOKENIZER, form).score(
        [Prefix.of(p, p.solution.split("\n")) for p in PROBLEMS]
    )
    trained = torch.sigmoid(margin[batch["targets"] != IGNORE]).tolist()
    assert trained == pytest.approx([score for row in read for score in row], rel=1e-3)


@pytest.mark.parametrize("likelihood", [0.0, 1.0])
@pytest.mark.parametrize("rank", [8, 0])
def test_what_was_trained_is_what_is_read(rank, likelihood, tmp_path):
    """Overfit random labels: only if training and reading meet at the same position can the scores
    come back."""
    rng = random.Random(1)
    problems = PROBLEMS[:4]
    rows = [labelled(p, tuple(rng.randint(0, 1) for _ in p.solution.split("\n"))) for p in problems]
    recipe = Recipe(rank=rank, epochs=60, learning_rate=2e-2 if rank else 5e-3)
    model = tiny_model()
    before = model.lm_head.weight.detach().clone()
    options = dict(recipe=recipe, past_error=True, form=StepFormat(likelihood=likelihood))
    verifier, log = train_prm(model, TOKENIZER, rows, seed=0, **options)
    prefixes = [Prefix.of(row.problem, row.steps, ended=True) for row in rows]
    scores = verifier.score(prefixes)
    assert all(abs(s - y) < 0.2 for row, own in zip(rows, scores) for s, y in zip(own, row.labels))
    assert log[0]["train/loss"] > 0.3 > 0.1 > log[-1]["train/loss"]
    assert (rank == 0) == (not torch.equal(before, model.lm_head.weight))
    if rank:
        model.config._name_or_path = verifier.model.peft_config[
            "default"
        ].base_model_name_or_path = str(tmp_path / "base")
        tiny_model().save_pretrained(tmp_path / "base")
        TOKENIZER.save_pretrained(tmp_path / "base")
    save(verifier, tmp_path / "prm")
    loaded = load_verifier(tmp_path / "prm")
    for again, own in zip(loaded.score(prefixes), scores):
        assert again == pytest.approx(own, abs=1e-4)


def test_the_log_holds_held_out_measures_and_empty_data_is_named():
    rows = [labelled(p, (1, 1, 0, 1)[: p.level + 1]) for p in PROBLEMS]
    recipe = Recipe(rank=4, epochs=2, batch_tokens=300)
    seen = []

    def held_out(verifier):
        seen.append(verifier.score([Prefix.of(PROBLEMS[0], rows[0].steps)]))
        return {"eval/auc": 0.5}

    _, log = train_prm(
        tiny_model(), TOKENIZER, rows, recipe=recipe, seed=0, held_out=held_out, evaluations=2
    )
    measured = [row["update"] for row in log if "eval/auc" in row]
    assert measured == [len(log) // 2, len(log)] and len(log) > 2
    seen_labels = [y for row in rows for y in row.labels[:3]]
    assert log[0]["train/trivial_loss"] == pytest.approx(
        scipy_entropy(list(Counter(seen_labels).values()))
    )
    assert seen[0] != seen[1]  # the weights had changed, and so had the scores
    with pytest.raises(ValueError, match="none of 0 labelled steps"):
        train_prm(tiny_model(), TOKENIZER, [], seed=0)


def test_an_adapter_names_a_shipped_base_by_its_name_alone(tmp_path):
    host = load_policy("weak")
    rows = [labelled(p) for p in PROBLEMS[:2]]
    verifier, _ = train_prm(
        host.model, host.tokenizer, rows, recipe=Recipe(rank=2, epochs=1), seed=0
    )
    save(verifier, tmp_path)
    assert (
        json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "weak"
    )
    prefixes = [Prefix.of(row.problem, row.steps) for row in rows]
    again = load_verifier(tmp_path).score(prefixes)
    assert [s for row in again for s in row] == pytest.approx(
        [s for row in verifier.score(prefixes) for s in row], abs=1e-4
    )


def test_what_the_model_cannot_read_is_cut_with_a_warning():
    model = tiny_model()
    rows = [labelled(p) for p in PROBLEMS]
    longest = max(
        len(row["input_ids"]) for row in examples(rows, TOKENIZER, StepFormat().bound(TOKENIZER))
    )
    model.config.max_position_embeddings = longest - 1
    with pytest.warns(
        UserWarning, match=rf"1 of \d+ labelled steps lie beyond the {longest - 1} tokens"
    ):
        train_prm(model, TOKENIZER, rows, recipe=Recipe(rank=2, epochs=1), seed=0)


def test_a_gradient_that_is_no_number_ends_the_training_and_harms_nothing():
    rows = [LabelledSolution(Problem(str(i), "math", "a ?"), ("a b",), (i % 2,)) for i in range(20)]
    calls = []

    def broken(*args, **named):
        calls.append(1)
        return step_loss(*args, **named) * (float("nan") if len(calls) == 2 else 1)

    model, recipe = tiny_model(), Recipe(rank=0, batch_tokens=32, micro_tokens=None)
    with pytest.raises(ValueError, match="update 2: loss nan"):
        train_prm(model, TOKENIZER, rows, recipe=recipe, seed=0, loss=broken)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("target", [-1, float("nan"), 5.0])
def test_a_target_is_a_probability(target):
    rows = [LabelledSolution(Problem("p", "math", "a ?"), ("a b",), (target,))]
    with pytest.raises(ValueError, match=r"target .* of a step, need None or 0 to 1"):
        train_prm(tiny_model(), TOKENIZER, rows, recipe=Recipe(rank=0), seed=0)
