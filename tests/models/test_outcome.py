"""Verifiers of whole solutions: one score, read after the last step, the same in every batch and
after every load."""

import json

import pytest
import torch
from tiny import FAMILIES, TOKENIZER, tiny_model, tiny_policy

from workbench.drive import solve
from workbench.models import load_verifier
from workbench.models.outcome import (
    RewardVerifier,
    SolutionVerifier,
    load_outcome,
    with_scalar_head,
)
from workbench.models.step_format import StepFormat
from workbench.models.tokenizer import build_tokenizer
from workbench.models.verifier import StepVerifier
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.train.orm import save
from workbench.types import Meter, Prefix

PROBLEMS = quantities.generate(6, levels=[1, 2, 3, 4], seed=8)
GOLD = [Prefix.of(p, p.solution.split("\n"), ended=True) for p in PROBLEMS]
CUT = [Prefix.of(p, p.solution.split("\n")[:1]) for p in PROBLEMS]
EXPIT = torch.nn.functional.sigmoid


def read_by_hand(prefix, tokenizer=TOKENIZER):
    """Question, newline, then each step and a newline, tokenised one by one."""
    ids = tokenizer(f"{prefix.problem.question}\n").input_ids
    for text in prefix.texts:
        ids = ids + tokenizer(text).input_ids + tokenizer("\n").input_ids
    return torch.tensor([ids])


@torch.no_grad()
def label_by_hand(model, prefix):
    logits = model(input_ids=read_by_hand(prefix)).logits[0, -1].float()
    good, bad = TOKENIZER.convert_tokens_to_ids(["<good>", "<bad>"])
    return EXPIT(logits[good] - logits[bad]).item()


@torch.no_grad()
def reward_by_hand(model, prefix):
    hidden = model.model(input_ids=read_by_hand(prefix)).last_hidden_state[0, -1]
    return (hidden @ model.score.weight[0]).item()


def scorer(family="llama", tokenizer=TOKENIZER):
    model = with_scalar_head(tiny_model(family), tokenizer)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(1))
    return model


def numbers(rows):
    assert {len(row) for row in rows} == {1}  # one score each
    return [row[0] for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_orm_reads_the_last_separator_in_any_batch(family):
    model, rows = tiny_model(family), [*GOLD, *CUT, GOLD[0]]
    expected = [label_by_hand(model, prefix) for prefix in rows]
    assert max(expected) - min(expected) > 0.1
    together = SolutionVerifier(model, TOKENIZER, batch_tokens=300).score(rows)
    assert numbers(together) == pytest.approx(expected, abs=1e-4)
    alone = [SolutionVerifier(model, TOKENIZER).score([prefix])[0][0] for prefix in rows]
    assert alone == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reward_is_the_head_on_the_last_token_in_any_batch(family):
    model, rows = scorer(family), [*GOLD, *CUT, GOLD[0]]
    expected = [reward_by_hand(model, prefix) for prefix in rows]
    assert max(expected) - min(expected) > 0.5
    for batch_tokens in (1, 300, 10**6):
        verifier = RewardVerifier(model, TOKENIZER, batch_tokens=batch_tokens)
        assert verifier.rewards(rows) == pytest.approx(expected, abs=1e-4)
    shifted = RewardVerifier(model, TOKENIZER, shift=0.7)
    assert numbers(shifted.score(rows)) == pytest.approx(
        EXPIT(torch.tensor(expected) - 0.7).tolist(), abs=1e-4
    )


def test_padding_that_is_the_end_of_text_or_missing_changes_nothing():
    """Llama's tokenizers have no padding token; many set it to the end of text."""
    expected = [reward_by_hand(scorer(), prefix) for prefix in [*GOLD, *CUT]]
    for pad in (TOKENIZER.eos_token, None):
        tokenizer = build_tokenizer()
        tokenizer.pad_token = pad
        verifier = RewardVerifier(scorer(tokenizer=tokenizer), tokenizer)
        assert verifier.pad == TOKENIZER.eos_token_id != TOKENIZER.pad_token_id
        assert verifier.rewards([*GOLD, *CUT]) == pytest.approx(expected, abs=1e-4)


def test_a_fresh_head_shares_the_body_and_says_zero():
    host = tiny_model()
    model = with_scalar_head(host, TOKENIZER)
    assert model.model is host.model and model.config is not host.config
    assert RewardVerifier(model, TOKENIZER).score(GOLD) == [[0.5]] * len(GOLD)


def test_a_prm_read_as_an_orm_gives_its_last_score_for_less():
    model = tiny_model()
    steps = StepVerifier(model, TOKENIZER).score(GOLD)
    assert numbers(SolutionVerifier(model, TOKENIZER).score(GOLD)) == pytest.approx(
        [s[-1] for s in steps], abs=1e-5
    )


@pytest.mark.parametrize("kind", ["orm", "reward"])
def test_best_of_n_takes_the_highest_score_and_pays_for_what_was_read(kind):
    verifier = (
        SolutionVerifier(tiny_model(), TOKENIZER)
        if kind == "orm"
        else RewardVerifier(scorer(), TOKENIZER)
    )
    by_hand = (
        label_by_hand
        if kind == "orm"
        else lambda model, p: EXPIT(torch.tensor(reward_by_hand(model, p))).item()
    )
    assert verifier.per == "solution"
    for result in solve(
        PROBLEMS[:3], METHODS["best_of_n"], policy=tiny_policy(), verifier=verifier, seed=2, n=3
    ):
        assert result.error is None
        assert result.scores == pytest.approx(
            [by_hand(verifier.model, p) for p in result.rollouts], abs=1e-4
        )
        assert result.best is result.rollouts[max(range(3), key=result.scores.__getitem__)]
        lengths = [read_by_hand(p).shape[1] for p in result.rollouts]
        question = len(TOKENIZER(f"{result.problem.question}\n").input_ids)
        again = 2 * question if kind == "orm" else 0  # an ORM finds the question in its cache
        # rows of like length
        assert sum(lengths) - again <= result.meter.verifier <= 1.1 * (sum(lengths) - again)


def test_equal_solutions_are_computed_once_and_the_first_pays():
    meters = [Meter() for _ in range(3)]
    verifier = RewardVerifier(scorer(), TOKENIZER)
    first, other, again = verifier.rewards([GOLD[0], GOLD[1], GOLD[0]], meters=meters)
    assert first == again != other
    paid = [read_by_hand(GOLD[0]).shape[1], read_by_hand(GOLD[1]).shape[1], 0]
    assert [meter.verifier for meter in meters] == paid
    assert meters[1].flops / meters[0].flops == pytest.approx(paid[1] / paid[0])


@pytest.mark.parametrize("kind", ["orm", "reward"])
def test_solutions_without_steps_or_too_long_are_one_line(kind):
    verifier = (
        SolutionVerifier(tiny_model(), TOKENIZER)
        if kind == "orm"
        else RewardVerifier(scorer(), TOKENIZER)
    )
    with pytest.raises(ValueError, match=f"{PROBLEMS[0].id}: no steps to judge"):
        verifier.score([GOLD[1], Prefix(PROBLEMS[0])])
    with pytest.raises(ValueError, match="tokens to judge, the verifier reads 256"):
        verifier.score([Prefix.of(PROBLEMS[0], ["The answer is 1 ."] * 60)])
    assert verifier.score([]) == []


def test_padding_that_ends_the_separator_is_refused():
    tokenizer = build_tokenizer()
    tokenizer.pad_token = "\n"
    with pytest.raises(ValueError, match=r"need one that does not end the separator '\\n'"):
        RewardVerifier(scorer(tokenizer=tokenizer), tokenizer)


@pytest.mark.parametrize("kind", ["orm", "reward"])
def test_whole_checkpoints_come_back_as_what_they_were(kind, tmp_path):
    form = StepFormat(separator=". \n")
    made = SolutionVerifier(tiny_model(), TOKENIZER, form) if kind == "orm" else (
        RewardVerifier(scorer(), TOKENIZER, form, shift=0.25)
    )  # fmt: skip
    save(made, tmp_path / kind)
    loaded = load_outcome(tmp_path / kind, batch_tokens=500)
    assert type(load_verifier(tmp_path / kind)) is type(loaded)
    assert type(loaded) is type(made) and loaded.form == made.form and loaded.name == kind
    assert numbers(loaded.score(GOLD)) == pytest.approx(numbers(made.score(GOLD)), abs=1e-6)
    assert kind == "orm" or loaded.shift == 0.25


def test_folders_that_hold_something_else_are_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"outcome\.json is missing"):
        load_outcome("prm")
    save(RewardVerifier(scorer(), TOKENIZER), tmp_path)
    fields = json.loads((tmp_path / "step_format.json").read_text())
    (tmp_path / "step_format.json").write_text(json.dumps({**fields, "ids": [[4], 5, 6]}))
    with pytest.raises(ValueError, match="in training, this tokenizer has"):
        load_outcome(tmp_path)
    (tmp_path / "outcome.json").write_text('{"read": "tea leaves"}')
    with pytest.raises(ValueError, match="read = 'tea leaves', need labels or reward"):
        load_outcome(tmp_path)
