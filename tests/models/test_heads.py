"""Verifiers of whole solutions and scalar heads: one number, read after the last step, in any batch
and after every load."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from tiny import FAMILIES, TOKENIZER, tiny_model, tiny_policy

from workbench.drive import solve
from workbench.models import load_verifier
from workbench.models.heads import LabelHead, ScalarHead, head_outputs, with_scalar_head
from workbench.models.step_format import StepFormat
from workbench.models.tokenizer import build_tokenizer
from workbench.models.verifier import StepVerifier, save
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.train.rows import pad_right
from workbench.types import Meter, Prefix, Unreadable

PROBLEMS = quantities.generate(6, levels=[1, 2, 3, 4], seed=8)
GOLD = [Prefix.of(p, p.solution.split("\n"), ended=True) for p in PROBLEMS]
CUT = [Prefix.of(p, p.solution.split("\n")[:1]) for p in PROBLEMS]


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
    return (logits[good] - logits[bad]).item()


@torch.no_grad()
def reward_by_hand(model, prefix):
    hidden = model.base_model(input_ids=read_by_hand(prefix)).last_hidden_state[0, -1]
    return (hidden @ model.score.weight[0]).item()


def scorer(family="llama", tokenizer=TOKENIZER):
    model = with_scalar_head(tiny_model(family), tokenizer)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(1))
    return model


def verifier_of(kind, family="llama", **options):
    """An ORM or a reward model, and its log-odds by hand."""
    if kind == "orm":
        model, by_hand = tiny_model(family), label_by_hand
    else:
        model, by_hand = scorer(family), reward_by_hand
        options = {"head": ScalarHead(), **options}
    verifier = StepVerifier(model, TOKENIZER, **{"per": "solution", **options})
    return verifier, lambda prefix: by_hand(model, prefix)


def numbers(rows):
    assert {len(row) for row in rows} == {1}  # one score each
    return [row[0] for row in rows]


KINDS = pytest.mark.parametrize("kind", ["orm", "reward"])


@KINDS
@pytest.mark.parametrize("family", FAMILIES)
def test_one_number_is_read_after_the_last_separator_in_any_batch(kind, family):
    rows = [*GOLD, *CUT, GOLD[0]]
    _, by_hand = verifier_of(kind, family)
    expected = [by_hand(prefix) for prefix in rows]
    assert np.ptp(expected) > 0.5
    for batch_tokens in (1, 300, 10**6):
        verifier, _ = verifier_of(kind, family, batch_tokens=batch_tokens)
        assert numbers(verifier.log_odds(rows)) == pytest.approx(expected, abs=1e-4)
    assert numbers(verifier.score(rows)) == pytest.approx(expit(expected).tolist(), abs=1e-4)


def test_a_shift_is_taken_off_and_values_are_read_at_every_step():
    verifier, by_hand = verifier_of("reward", head=ScalarHead(0.7), per="step")
    expected = [by_hand(Prefix.of(GOLD[0].problem, GOLD[0].texts[:t])) - 0.7 for t in (1, 2)]
    assert verifier.log_odds(GOLD)[0][:2] == pytest.approx(expected, abs=1e-4)
    assert [len(row) for row in verifier.score(GOLD)] == [len(prefix.steps) for prefix in GOLD]


def test_scores_change_with_the_head_and_with_the_body():
    verifier, _ = verifier_of("reward")
    first = verifier.score(GOLD)
    for weight in (verifier.model.score.weight, verifier.model.model.norm.weight):
        with torch.no_grad():
            weight.mul_(-0.5)
        assert verifier.score(GOLD) != first
        first = verifier.score(GOLD)
        assert numbers(verifier.log_odds(GOLD)) == pytest.approx(
            [reward_by_hand(verifier.model, prefix) for prefix in GOLD], abs=1e-4
        )


def test_outputs_for_training_do_not_depend_on_padding_and_have_gradients():
    model = scorer()
    rows = [read_by_hand(prefix)[0].tolist() for prefix in [*GOLD, *CUT]]
    expected = pytest.approx([reward_by_hand(model, p) for p in [*GOLD, *CUT]], abs=1e-4)
    for pad in (0, TOKENIZER.eos_token_id, 3):  # 3: the separator itself
        mask = pad_right([[1] * len(row) for row in rows], 0)
        found = head_outputs(model, pad_right(rows, pad), mask)
        assert found.tolist() == expected
    found.sum().backward()
    assert model.score.weight.grad.any() and model.model.layers[0].mlp.up_proj.weight.grad.any()


@pytest.mark.parametrize("pad", ["<end>", None])
def test_a_tokenizer_without_padding_changes_nothing(pad):
    tokenizer = build_tokenizer()
    tokenizer.pad_token = pad
    model = scorer(tokenizer=tokenizer)
    assert model.config.pad_token_id == TOKENIZER.eos_token_id
    verifier = StepVerifier(model, tokenizer, head=ScalarHead(), per="solution")
    expected = [reward_by_hand(model, prefix) for prefix in [*GOLD, *CUT]]
    assert numbers(verifier.log_odds([*GOLD, *CUT])) == pytest.approx(expected, abs=1e-4)


def test_a_fresh_head_shares_the_body_and_says_zero():
    host = tiny_model()
    model = with_scalar_head(host, TOKENIZER)
    assert model.model is host.model and model.config is not host.config
    verifier = StepVerifier(model, TOKENIZER, head=ScalarHead(), per="solution")
    assert verifier.score(GOLD) == [[0.5]] * len(GOLD)


def test_a_prm_read_as_an_orm_gives_its_last_score():
    model = tiny_model()
    steps = StepVerifier(model, TOKENIZER).score(GOLD)
    whole = StepVerifier(model, TOKENIZER, per="solution").score(GOLD)
    assert numbers(whole) == pytest.approx([s[-1] for s in steps], abs=1e-5)


@KINDS
def test_best_of_n_takes_the_highest_score_and_pays_for_each_token_once(kind):
    verifier, by_hand = verifier_of(kind)
    policy, options = tiny_policy(), {"seed": 2, "n": 3}
    for result in solve(
        PROBLEMS[:3], METHODS["best_of_n"], policy=policy, verifier=verifier, **options
    ):
        assert result.error is None
        expected = expit([by_hand(prefix) for prefix in result.rollouts])
        assert result.scores == pytest.approx(expected.tolist(), abs=1e-4)
        assert result.best is result.rollouts[int(np.argmax(result.scores))]
        lengths = [read_by_hand(prefix).shape[1] for prefix in result.rollouts]
        question = len(TOKENIZER(f"{result.problem.question}\n").input_ids)
        once = sum(lengths) - 2 * question
        assert once <= result.meter.verifier <= 1.1 * once  # rows of like length


@KINDS
def test_equal_solutions_are_computed_once_and_the_first_pays(kind):
    meters = [Meter() for _ in range(3)]
    verifier, _ = verifier_of(kind)
    first, other, again = verifier.score([GOLD[0], GOLD[1], GOLD[0]], meters=meters)
    assert first == again != other
    paid = [read_by_hand(prefix).shape[1] for prefix in GOLD[:2]]
    # two rows of about one length are computed in as many columns
    assert paid[0] <= meters[0].verifier <= 1.1 * paid[0] and meters[2].verifier == 0
    assert all(meter.flops > 0 for meter in meters[:2])


@KINDS
def test_solutions_without_steps_or_too_long_are_one_line(kind):
    verifier, _ = verifier_of(kind)
    with pytest.raises(ValueError, match=f"{PROBLEMS[0].id}: no steps to judge"):
        verifier.score([GOLD[1], Prefix(PROBLEMS[0])])
    with pytest.raises(Unreadable, match="tokens to judge, the verifier reads 256"):
        verifier.score([Prefix.of(PROBLEMS[0], ["The answer is 1 ."] * 60)])
    assert verifier.score([]) == []
    with pytest.raises(ValueError, match="per='word': use 'step' or 'solution'"):
        verifier_of(kind, per="word")


@KINDS
def test_whole_checkpoints_come_back_as_what_they_were(kind, tmp_path):
    options = {} if kind == "orm" else {"head": ScalarHead(0.25)}
    made, _ = verifier_of(kind, form=StepFormat(separator=". \n"), **options)
    save(made, tmp_path / kind)
    loaded = load_verifier(tmp_path / kind, batch_tokens=500)
    assert (loaded.form, loaded.head, loaded.per) == (made.form, made.head, "solution")
    assert loaded.name == kind and loaded.fingerprint() == made.fingerprint()
    assert numbers(loaded.score(GOLD)) == pytest.approx(numbers(made.score(GOLD)), abs=1e-6)


def test_an_untrained_judge_reads_on_whatever_device_the_logits_are():
    form = StepFormat(ids=((5,), 1, 2), likelihood=1.0, end=3)
    odds = LabelHead(labels=False).odds(form, torch.zeros(4, 10, device="meta"), [4, 6, 5])
    assert odds.device.type == "meta"
