"""Scores in batches against scores one by one, for every kind of verifier, and a verifier that is
found out."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from tiny import TOKENIZER, tiny_model

from workbench.models import load_policy, load_verifier
from workbench.models.generative import ASKS, GenerativeFormat, GenerativeVerifier
from workbench.models.heads import ScalarHead, with_scalar_head
from workbench.models.invariance import ALL, afresh, batch_gaps
from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.problems import quantities
from workbench.task import stream_key
from workbench.types import Prefix

PROBLEMS = quantities.generate(9, levels=[1, 2, 4, 6], seed=8)
GOLD = [Prefix.of(p, p.solution.split("\n")[: 1 + i % 4]) for i, p in enumerate(PROBLEMS)]


@pytest.fixture(scope="module")
def sampled():
    """12 solutions of unequal length: 2 of each of 6 problems."""
    rows = [Prefix(p.blind()) for p in PROBLEMS[:6] for _ in range(2)]
    keys = [stream_key(0, row.problem.id, 0, 0, i % 2) for i, row in enumerate(rows)]
    return load_policy("weak").sample(rows, keys)


def record(model, calls):
    """Note of each forward: its rows, and whether some are padded."""

    def note(_, args, kwargs):
        mask = kwargs.get("attention_mask")
        calls.append((len(kwargs["input_ids"]), mask is not None and not mask.all()))

    model.register_forward_pre_hook(note, with_kwargs=True)
    return model


@pytest.mark.slow
def test_the_shipped_prm_is_invariant_in_float32_and_not_in_bfloat16(sampled):
    hosts = {dtype: load_verifier("prm", dtype=dtype) for dtype in ("float32", "bfloat16")}
    # (rows, padded) of each forward: by this verifier, and by dtype and batch_tokens
    calls, read = [], {}
    for host in hosts.values():
        record(host.model, calls)

    def make(dtype, batch_tokens):
        calls.clear()
        read.setdefault((dtype, batch_tokens == 1), []).append(own := [])
        host = hosts[dtype]
        verifier = StepVerifier(host.model, host.tokenizer, host.form, batch_tokens=batch_tokens)
        score = verifier.score
        verifier.score = lambda prefixes: (score(prefixes), own.extend(calls))[0]
        return verifier

    table = batch_gaps(make, sampled, seed=0, batch_sizes=(2, 12))
    assert len({len(p.ids) for p in sampled}) > 6  # lengths
    for dtype in hosts:
        alone, together = ([*chain(*read[dtype, one])] for one in (True, False))
        # each prefix in one forward of its own, cold
        assert len(read[dtype, True]) == len(alone) == len(sampled)
        assert set(alone) == {(1, False)}
        assert max(rows for rows, _ in together) > 3 and (2, True) in together
    assert [(row["dtype"], row["batch_size"]) for row in table] == [
        (dtype, size) for dtype in ("float32", "bfloat16") for size in (2, 12)
    ]
    assert {row["n"] for row in table} == {sum(len(p.steps) for p in sampled)}
    gaps = {dtype: [row["largest"] for row in table if row["dtype"] == dtype] for dtype in hosts}
    assert max(gaps["float32"]) <= 1e-4 and np.isfinite(gaps["bfloat16"]).all()
    assert max(gaps["bfloat16"]) > max(gaps["float32"])
    for row in table:
        assert row["mean"] <= row["largest"] and row["mean_float32"] <= row["largest_float32"] < 0.2
        assert row["dtype"] != "float32" or row["largest"] == row["largest_float32"]


@pytest.mark.slow
def test_the_shipped_prm_without_likelihood_is_invariant_in_float32(sampled):
    host = load_verifier("prm")
    form = replace(host.form, likelihood=0.0)
    table = batch_gaps(
        lambda _, tokens: StepVerifier(host.model, host.tokenizer, form, batch_tokens=tokens),
        sampled, seed=0, dtypes=("float32",), batch_sizes=(2, 12),
    )  # fmt: skip
    assert max(row["largest"] for row in table) <= 1e-4


def scorer(dtype):
    model = with_scalar_head(tiny_model(dtype=dtype), TOKENIZER)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(1))
    return model


def asked(ask, critiques=1):
    form = GenerativeFormat(ASKS[ask], critiques)
    return lambda model, tokens: GenerativeVerifier(
        model, TOKENIZER, form, longest=6, batch_tokens=tokens
    )


KINDS = {
    "labels": lambda model, tokens: StepVerifier(model, TOKENIZER, batch_tokens=tokens),
    "likelihood": lambda model, tokens: StepVerifier(
        model, TOKENIZER, StepFormat(likelihood=0.3), batch_tokens=tokens
    ),
    "orm": lambda model, tokens: StepVerifier(
        model, TOKENIZER, per="solution", batch_tokens=tokens
    ),
    "reward": lambda model, tokens: StepVerifier(
        model, TOKENIZER, head=ScalarHead(), per="solution", batch_tokens=tokens
    ),
    "direct": asked("direct"),
    "cot": asked("cot", 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_verifier_is_invariant_in_float32(kind):
    model = scorer(torch.float32) if kind == "reward" else tiny_model(dtype=torch.float32)
    calls, most = [], {}  # by prefixes: the most rows that one forward took, of each call
    record(model.base_model, calls)

    def make(dtype, batch_tokens):
        verifier = KINDS[kind](model, batch_tokens)
        score = verifier.score

        def noted(prefixes):
            calls.clear()
            scores = score(prefixes)
            most.setdefault(len(prefixes), []).append(max(rows for rows, _ in calls))
            return scores

        verifier.score = noted
        return verifier

    table = batch_gaps(make, GOLD[:6], seed=1, batch_sizes=(1, 2, 6), dtypes=("float32",))
    assert [row["largest"] for row in table] == pytest.approx([0, 0, 0], abs=1e-4)
    assert table[0]["largest"] == 0
    assert set(most[1]) == {1}, most  # one by one is row by row
    assert min(most[6]) > 1, most  # and a batch is read together


@pytest.mark.parametrize("kind", ["labels", "cot"])
def test_a_verifier_afresh_reads_and_writes_anew_and_leaves_the_other_as_it_was(kind):
    calls = []
    model = record(tiny_model(), calls)
    KINDS[kind](model, ALL).score(GOLD[:1])  # a model's first forwards try what it can do, once
    calls.clear()
    verifier = KINDS[kind](model, ALL)
    scores, cold = verifier.score(GOLD[:2]), len(calls)
    new = afresh(verifier, ALL)
    assert new.model is verifier.model and new.score(GOLD[:2]) == scores
    assert len(calls) == 2 * cold  # nothing was remembered, not even what was written
    assert verifier.score(GOLD[:2]) == scores and len(calls) == 2 * cold  # here, all was


class Fake:
    """A verifier whose scores move with the size of the batch, by `drift`."""

    def __init__(self, drift=0.0, per="step", reply=None):
        self.drift, self.per, self.reply = drift, per, reply

    def score(self, prefixes, *, meters=None):
        whole = [
            [0.5 + self.drift * (len(prefixes) - 1)] * (len(p.steps) if self.per == "step" else 1)
            for p in prefixes
        ]
        return whole if self.reply is None else self.reply(whole)


def test_scores_that_depend_on_the_batch_are_found_out():
    table = batch_gaps(
        lambda dtype, _: Fake(0.01 if dtype == "float32" else 0.02),
        GOLD,
        seed=0,
        batch_sizes=(1, 4, 9),
    )
    drift = [0.0, 0.03, 0.08, 0.0, 0.06, 0.16]
    for name in ("largest", "mean", "largest_float32", "mean_float32"):
        assert [row[name] for row in table] == pytest.approx(drift)
    assert {row["n"] for row in table} == {sum(len(p.steps) for p in GOLD)}
    solutions = batch_gaps(
        lambda *_: Fake(0.01, per="solution"), GOLD, seed=0, batch_sizes=(9,), dtypes=("float32",)
    )
    assert solutions[0]["n"] == 9 and solutions[0]["mean"] == pytest.approx(0.08)


def test_a_score_of_a_neighbour_is_found_out_at_the_place_of_both():
    def swap(whole):
        return [[s + 0.1 * (i % 2) for s in row] for i, row in enumerate(whole)]

    (row,) = batch_gaps(
        lambda *_: Fake(reply=swap), GOLD[:2], seed=0, batch_sizes=(2,), dtypes=("float32",)
    )
    # one of the two stays as it was
    assert row["largest"] == pytest.approx(0.1) and row["mean"] < 0.1


@pytest.mark.parametrize(
    ("prefixes", "options", "message"),
    [
        (GOLD, {"batch_sizes": (2, 32)}, "^batches of 32 from 9 prefixes: need 1 to 9$"),
        (GOLD, {"batch_sizes": (0,)}, "^batches of 0 from 9 prefixes"),
        ([], {}, "^batches of 2 from 0 prefixes"),
        ([Prefix(p) for p in PROBLEMS], {"batch_sizes": (2,)}, "^no steps in 9 prefixes"),
    ],
)
def test_batches_that_make_no_sense_are_one_line(prefixes, options, message):
    with pytest.raises(ValueError, match=message):
        batch_gaps(lambda *_: Fake(), prefixes, seed=0, **options)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda whole: whole[1:], "^scores of 0 prefixes in a batch of 1, need as many$"),
        (lambda whole: [row[1:] for row in whole], r": scores \[.*\] in a batch of 1, need"),
        (
            lambda whole: [[float("nan")] * len(row) for row in whole],
            r": scores \[nan.* in a batch of 1, need",
        ),
    ],
)
def test_scores_that_do_not_fit_are_one_line(reply, message):
    with pytest.raises(ValueError, match=message):
        batch_gaps(lambda *_: Fake(reply=reply), GOLD, seed=0, batch_sizes=(2,))


def test_one_verifier_for_all_batches_is_refused():
    same = StepVerifier(tiny_model(), TOKENIZER)
    with pytest.raises(ValueError, match="make gave the same StepVerifier twice"):
        batch_gaps(lambda *_: same, GOLD, seed=0, batch_sizes=(2,))
