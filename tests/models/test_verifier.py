"""The PRM's scores: read where they were trained, the same in every batch, each token computed
once."""

import json
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import FAMILIES, TOKENIZER, tiny_model

from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.checkpoints import SHIPPED
from workbench.models.generative import ASKS, GenerativeFormat, GenerativeVerifier
from workbench.models.heads import HEADS, LabelHead, ScalarHead, with_scalar_head
from workbench.models.policy import HFPolicy
from workbench.models.step_format import StepFormat
from workbench.models.tokenizer import build_tokenizer
from workbench.models.verifier import StepVerifier, save, untrained
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.types import Meter, Prefix, Unreadable

PROBLEMS = quantities.generate(6, levels=[2, 3, 4], seed=8)
GOLD = [Prefix.of(p, p.solution.split("\n"), ended=True) for p in PROBLEMS]
CUT = [Prefix.of(p, p.solution.split("\n")[:t]) for p in PROBLEMS for t in (1, 2)]


def flat(scores):
    return [s for row in scores for s in row]


def by_hand(model, prefix, likelihood=0.0):
    """One whole forward per prefix, no cache: sigmoid of the logit difference at each newline that
    ends a step."""
    ids = TOKENIZER(f"{prefix.problem.question}\n").input_ids
    ends, words = [], []
    for text in prefix.texts:
        words.append(range(len(ids), len(ids) + len(TOKENIZER(text).input_ids)))
        ids = ids + TOKENIZER(text).input_ids + TOKENIZER("\n").input_ids
        ends.append(len(ids) - 1)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    good, bad = TOKENIZER.convert_tokens_to_ids(["<good>", "<bad>"])
    newline, end = TOKENIZER.convert_tokens_to_ids("\n"), TOKENIZER.eos_token_id
    over = [logits[step.stop - 1].softmax(-1)[[newline, end]].sum().log() for step in words]
    said = torch.stack(
        [sum(logits[i - 1].log_softmax(-1)[ids[i]] for i in step) for step in words]
    ) + torch.stack(over)
    return torch.sigmoid(logits[ends, good] - logits[ends, bad] + likelihood * said).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_equals_one_by_one_equals_a_plain_forward(family):
    model = tiny_model(family)
    together = StepVerifier(model, TOKENIZER, batch_tokens=600).score([*GOLD, *CUT, GOLD[0]])
    for prefix, scores in zip([*GOLD, *CUT, GOLD[0]], together):
        alone = StepVerifier(model, TOKENIZER).score([prefix])[0]
        assert len(scores) == len(prefix.steps)
        assert scores == pytest.approx(alone, abs=1e-4)
        assert scores == pytest.approx(by_hand(model, prefix), abs=1e-4)


def test_growing_prefixes_are_scored_from_the_cache_as_cold():
    model, meter = tiny_model(), Meter()
    verifier = StepVerifier(model, TOKENIZER)
    for t in range(1, len(GOLD[0].steps) + 1):
        prefix = Prefix.of(GOLD[0].problem, GOLD[0].texts[:t])
        assert verifier.score([prefix], meters=[meter])[0] == pytest.approx(
            by_hand(model, prefix), abs=1e-4
        )
    ids = sum(map(len, verifier.form.segments(TOKENIZER, GOLD[0].problem, GOLD[0].texts)))
    assert meter.verifier == ids
    assert meter.flops > 0


def test_the_likelihood_of_a_step_counts_as_the_format_says():
    model, form = tiny_model(), StepFormat(likelihood=0.3)
    verifier = StepVerifier(model, TOKENIZER, form)
    grown = [
        verifier.score([Prefix.of(GOLD[0].problem, GOLD[0].texts[:t])])[0]
        for t in range(1, len(GOLD[0].steps))
    ]
    whole = by_hand(model, GOLD[0], likelihood=0.3)
    # step by step, from the cache
    assert [row[-1] for row in grown] == pytest.approx(whole[:-1], rel=1e-3)
    together = StepVerifier(model, TOKENIZER, form, batch_tokens=600).score([*GOLD, *CUT])
    for prefix, scores in zip([*GOLD, *CUT], together):
        assert scores == pytest.approx(by_hand(model, prefix, likelihood=0.3), rel=1e-3)
    labels = StepVerifier(model, TOKENIZER)
    assert flat(together) != pytest.approx(flat(labels.score([*GOLD, *CUT])), rel=0.1)
    again = labels.with_likelihood(0.3)  # the same weights, read another way
    assert flat(again.score([*GOLD, *CUT])) == pytest.approx(flat(together), rel=1e-3)
    assert again.model is model and again.fingerprint() != labels.fingerprint()


def test_an_empty_step_and_one_cut_off_in_its_middle_are_unlikely():
    """The words alone would be likelier the fewer they are; that the step ends after them must
    count, too."""
    verifier = load_verifier("prm")
    for whole in GOLD:
        cut = Prefix.of(whole.problem, [" ".join(whole.texts[0].split()[:-2])])
        (good, *_), (short,), (empty,) = verifier.score(
            [whole, cut, Prefix.of(whole.problem, [""])]
        )
        assert good > 0.5 > max(short, empty)


def test_hopeless_steps_keep_their_order():
    """Rounded to float32, scores below 1e-45 would all be 0; a threshold could no longer tell them
    apart."""
    odd = [Prefix.of(PROBLEMS[0], [" ".join(["The answer"] * n)]) for n in (10, 14, 18)]
    short, longer, longest = flat(untrained(load_policy("weak")).score(odd))
    assert 1e-45 > short > longer > longest > 0


def test_a_tiny_cache_changes_costs_not_scores():
    model = tiny_model()
    large, small = StepVerifier(model, TOKENIZER), StepVerifier(model, TOKENIZER, cache_tokens=64)
    for rows in (CUT, GOLD, GOLD[::-1]):
        assert flat(large.score(rows)) == pytest.approx(flat(small.score(rows)), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [0.0, 1.0])
@pytest.mark.parametrize("method", ["best_of_n", "beam_search"])
def test_a_whole_search_computes_question_and_generated_tokens_once(method, likelihood):
    policy = load_policy("weak")
    verifier = StepVerifier(tiny_model(seed=1), TOKENIZER, StepFormat(likelihood=likelihood))
    for result in solve(PROBLEMS[:3], METHODS[method], policy=policy, verifier=verifier, seed=2):
        question = len(TOKENIZER(f"{result.problem.question}\n").input_ids)
        assert result.error is None
        assert 0 < result.meter.verifier <= 1.1 * (question + result.meter.generated)


def test_scored_again_costs_nothing_until_weights_change():
    model = tiny_model()
    verifier = StepVerifier(model, TOKENIZER)
    first, meter = verifier.score(GOLD), Meter()
    assert verifier.score(GOLD, meters=[meter] * len(GOLD)) == first and meter.verifier == 0
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    again = verifier.score(GOLD, meters=[meter] * len(GOLD))
    assert meter.verifier > 0 and again != first
    assert again[0] == pytest.approx(by_hand(model, GOLD[0]), abs=1e-4)


@pytest.mark.parametrize("make", [StepVerifier, GenerativeVerifier])
def test_scores_without_the_adapter_are_never_those_with_it(make):
    """What is known of one must not be served for the other, nor what was written by it."""
    adapted = get_peft_model(tiny_model(), LoraConfig(r=2, init_lora_weights=False))
    options = {"form": GenerativeFormat(ASKS["cot"])} if make is GenerativeVerifier else {}
    verifier = make(adapted, TOKENIZER, **options)

    def equal_to_a_fresh_one():
        scores = verifier.score(CUT)
        assert scores == make(adapted, TOKENIZER, **options).score(CUT)
        return scores

    outside = equal_to_a_fresh_one()
    with adapted.disable_adapter():
        assert equal_to_a_fresh_one() != outside
    assert equal_to_a_fresh_one() == outside


def test_a_prefix_without_steps_has_no_scores_and_one_too_long_is_named():
    verifier = StepVerifier(tiny_model(), TOKENIZER)
    assert verifier.score([Prefix(PROBLEMS[0]), GOLD[0]])[0] == []
    long = Prefix.of(PROBLEMS[0], ["The answer is 1 ."] * 60)
    with pytest.raises(Unreadable, match=f"^{PROBLEMS[0].id}: .* the verifier reads 256$"):
        verifier.score([GOLD[0], long], meters=[meter := Meter()] * 2)
    assert meter.verifier == 0  # before anything is computed


def test_a_whole_checkpoint_is_read_back(tmp_path):
    verifier = StepVerifier(tiny_model(), TOKENIZER)
    save(verifier, tmp_path / "prm")
    loaded = load_verifier(tmp_path / "prm")
    assert loaded.form == verifier.form and loaded.per == "step"
    assert flat(loaded.score(GOLD)) == pytest.approx(flat(verifier.score(GOLD)), abs=1e-6)


def test_whole_weights_saved_over_an_adapter_are_those_that_are_read(tmp_path):
    lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(tiny_model(), lora, autocast_adapter_dtype=False)
    tiny_model().save_pretrained(tmp_path / "base")
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    save(StepVerifier(adapted, TOKENIZER), tmp_path / "own")
    whole = StepVerifier(tiny_model(seed=5), TOKENIZER)
    save(whole, tmp_path / "own")
    assert load_verifier(tmp_path / "own").score(GOLD[:2]) == whole.score(GOLD[:2])


def test_the_shipped_prm_loads_by_name_and_prefers_the_truth():
    verifier = load_verifier("prm")
    assert verifier.form.likelihood > 0 and verifier.name == "prm"
    assert load_verifier("prm", per="solution").per == "solution"  # read as an ORM
    # 5 + 3 = 81
    slips = [Prefix.of(p.problem, [p.texts[0].replace(" .", "1 ."), *p.texts[1:]]) for p in GOLD]
    pairs = zip(verifier.score(GOLD), verifier.score(slips))
    assert all(right[0] > 0.5 > wrong[0] for right, wrong in pairs)


def test_missing_or_contradicting_formats_are_one_line(tmp_path):
    form = StepFormat().bound(TOKENIZER)
    with pytest.raises(ValueError, match="in training, this tokenizer has"):
        replace(form, ids=((3,), 9, 10)).bound(TOKENIZER)
    with pytest.raises(ValueError, match="in training, this tokenizer has"):
        replace(form, end=5).bound(TOKENIZER)
    with pytest.raises(ValueError, match="separator '' is no token"):
        StepFormat(separator="").bound(TOKENIZER)
    with pytest.raises(ValueError, match="verifiers read steps without numbers"):
        StepFormat(separator="\nStep {n}:").bound(TOKENIZER)
    with pytest.raises(ValueError, match="need one known token"):
        StepFormat(good="5 apples").bound(TOKENIZER)
    with pytest.raises(ValueError, match="in training, this tokenizer has"):
        StepFormat.read(json.loads(json.dumps(vars(replace(form, ids=((3,), 6, 5)))))).bound(
            TOKENIZER
        )


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "tea leaves"}', '{"kind": "labels", "form": {}, "head": {}}']
)
def test_what_describes_no_verifier_is_one_line(text, tmp_path):
    (tmp_path / "verifier.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"verifier\.json describes no verifier .*labels, scalar, gen[^\n]*$"
    ):
        load_verifier(tmp_path)


def test_a_name_that_nobody_has_lists_those_that_there_are():
    with pytest.raises(
        ValueError,
        match=r"^no verifier 'nobody': .*shipped name \(genrm_strong, orm_base, prm.*Qwen/",
    ):
        load_verifier("nobody")


@pytest.mark.parametrize(
    ("name", "kind", "per"),
    [
        ("prm_base", "labels", "step"),
        ("prm_strong", "labels", "step"),
        ("orm_base", "labels", "solution"),
        ("reward_base", "scalar", "solution"),
        ("genrm_strong", "generative", "step"),
    ],
)
def test_every_shipped_verifier_is_found_by_its_name_and_judges(name, kind, per):
    verifier = load_verifier(name, dtype="fast")
    assert (verifier.settings()["kind"], verifier.per) == (kind, per)
    wrong = [Prefix.of(p, [*p.solution.split("\n")[:-1], "The answer is 3 ."]) for p in PROBLEMS]
    right, wrong = (verifier.score(own) for own in (GOLD, wrong))
    assert [len(row) for row in right] == [len(p.steps) if per == "step" else 1 for p in GOLD]
    better = [good[-1] > bad[-1] for good, bad in zip(right, wrong)]
    assert sum(better) >= 5, (right, wrong)


def test_the_shipped_description_is_what_saving_writes(tmp_path):
    verifier = load_verifier("prm")
    written = json.loads((SHIPPED / "prm" / "verifier.json").read_text())
    assert written == json.loads(json.dumps(verifier.settings()))


def test_a_new_head_needs_a_class_and_a_line(tmp_path, monkeypatch):
    """How sure the host is of each token, in the module's example: scored, saved and read back."""

    @dataclass(frozen=True)
    class ConfidenceHead:
        kind: ClassVar = "confidence"
        weight: float = 1.0

        def wanted(self, form, step):
            return range(step.start, step.end)

        def odds(self, form, found, ids):
            return self.weight * found.softmax(-1).amax(-1).log().sum()

    monkeypatch.setitem(HEADS, "confidence", ConfidenceHead)
    model = tiny_model()
    verifier = StepVerifier(model, TOKENIZER, head=ConfidenceHead(0.5))
    ids = TOKENIZER(f"{GOLD[0].problem.question}\n").input_ids
    step = TOKENIZER(GOLD[0].texts[0]).input_ids
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + step])).logits[0, len(ids) - 1 :]
    sure = 0.5 * logits.softmax(-1).amax(-1).log().sum().item()
    assert verifier.log_odds(GOLD)[0][0] == pytest.approx(sure, abs=1e-4)
    save(verifier, tmp_path)
    assert load_verifier(tmp_path).head == ConfidenceHead(0.5)


def test_fingerprints_tell_weights_heads_formats_and_draws_apart():
    model, other = tiny_model(), tiny_model(seed=1)
    scalar = with_scalar_head(tiny_model(), TOKENIZER)
    form = StepFormat(good="Yes", bad="No")
    make = (
        lambda: StepVerifier(model, TOKENIZER),
        lambda: StepVerifier(other, TOKENIZER),
        lambda: StepVerifier(model, TOKENIZER, form),
        lambda: StepVerifier(model, TOKENIZER, per="solution"),
        lambda: StepVerifier(model, TOKENIZER, StepFormat(likelihood=0.5)),
        lambda: StepVerifier(model, TOKENIZER, StepFormat(likelihood=0.4)),
        lambda: StepVerifier(model, TOKENIZER, head=LabelHead(labels=False)),
        lambda: StepVerifier(scalar, TOKENIZER, head=ScalarHead()),
        lambda: StepVerifier(scalar, TOKENIZER, head=ScalarHead(0.1)),
        lambda: GenerativeVerifier(model, TOKENIZER),
        lambda: GenerativeVerifier(model, TOKENIZER, seed=1),
        lambda: GenerativeVerifier(model, TOKENIZER, temperature=0.5),
        lambda: GenerativeVerifier(model, TOKENIZER, longest=12),
    )
    found = [one().fingerprint() for one in make]
    assert len(set(found)) == len(make) and found == [one().fingerprint() for one in make]
    # what changes costs but no score is no part of it
    assert StepVerifier(model, TOKENIZER, name="x", batch_tokens=9).fingerprint() == found[0]
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-3
    assert make[0]().fingerprint() != found[0]


# -- any host --------------------------------------------------------------------------------------


def special(before=(), after=()):
    """The embedded tokenizer, adding tokens of its own before and after each text."""
    from tokenizers import processors

    tokenizer = build_tokenizer()
    names = [*before, *after]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]),
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names],
    )
    return tokenizer


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["<spare0>"], []),
        ([], ["<end>"]),
        (["<spare0>"], ["<end>"]),
        (["<spare0>", "<spare1>"], ["<end>"]),
    ],
)
def test_a_row_begins_with_what_the_tokenizer_adds_and_holds_no_more_of_it(before, after):
    tokenizer = special(before, after)
    added = tokenizer.convert_tokens_to_ids(before)
    form, plain = (StepFormat().bound(t) for t in (tokenizer, TOKENIZER))
    rows = [f.segments(t, PROBLEMS[0], GOLD[0].texts) for f, t in ((form, tokenizer),
                                                                   (plain, TOKENIZER))]  # fmt: skip
    assert rows[0] == [added + rows[1][0], *rows[1][1:]]
    own = replace(form, template="".join(before) + form.template)  # the template brings it
    assert own.segments(tokenizer, PROBLEMS[0], [])[0] == rows[0][0]
    assert len(GenerativeVerifier(tiny_model(), tokenizer).score(GOLD[:1])[0]) == len(GOLD[0].steps)


def test_untrained_leaves_tied_embeddings_alone_and_needs_no_label_tokens():
    """The old one copied the row of one label token to the other, in the embeddings, too."""
    model = tiny_model("gemma")
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    before = deepcopy(model.state_dict())
    verifier = untrained(HFPolicy(model, TOKENIZER, templates={"solve": "{question} ?\n"}))
    assert tied and verifier.model is not model
    assert verifier.form.template == "{question} ?\n"  # as the policy itself reads a question
    for state in (model.state_dict(), verifier.model.state_dict()):
        assert all(torch.equal(weight, before[name]) for name, weight in state.items())
    no_labels = replace(verifier.form, good="", bad="", ids=None)
    alone = StepVerifier(model, TOKENIZER, no_labels).log_odds(GOLD)
    assert flat(verifier.log_odds(GOLD)) == pytest.approx(flat(alone), rel=0.1)
    with pytest.raises(ValueError, match="label '' is 0 tokens"):
        StepFormat(good="").bound(TOKENIZER)


def test_one_solution_beyond_the_window_fails_alone():
    policy, verifier = load_policy("weak"), StepVerifier(tiny_model(), TOKENIZER)
    texts = {PROBLEMS[1].id: ["The answer is 1 ."] * 60}
    score = verifier.score

    def longer(prefixes, *, meters):
        return score(
            [Prefix.of(p.problem, texts.get(p.problem.id, p.texts)) for p in prefixes],
            meters=meters,
        )

    verifier.score = longer
    results = solve(PROBLEMS[:3], METHODS["best_of_n"], policy=policy, verifier=verifier, n=2)
    assert [bool(result.error) for result in results] == [False, True, False]
    assert results[1].error.startswith(f"Unreadable: {PROBLEMS[1].id}: ")


def test_the_untrained_verifier_says_how_likely_the_policy_finds_a_step():
    policy = load_policy("weak")
    before = {name: p.clone() for name, p in policy.model.state_dict().items()}
    scores = untrained(policy).score(GOLD[:3])
    newline, end = TOKENIZER.convert_tokens_to_ids("\n"), TOKENIZER.eos_token_id
    for prefix, row in zip(GOLD[:3], scores):
        ids = policy.tokenizer(f"{prefix.problem.question}\n").input_ids
        for text, score in zip(prefix.texts, row):
            words = policy.tokenizer(text, add_special_tokens=False).input_ids
            with torch.no_grad():
                logp = policy.model(input_ids=torch.tensor([ids + words])).logits[0].log_softmax(-1)
            said = sum(logp[len(ids) + i - 1, word] for i, word in enumerate(words))
            p = (said + logp[-1, [newline, end]].logsumexp(0)).exp().item()
            assert score == pytest.approx(p / (1 + p), abs=1e-4)
            ids = ids + words + [newline]
    assert all(torch.equal(p, before[name]) for name, p in policy.model.state_dict().items())
