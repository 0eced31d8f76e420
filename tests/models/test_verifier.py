"""The PRM's scores: read where they were trained, the same in every batch, each token computed
once."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, TOKENIZER, tiny_model

from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier, untrained
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.types import Meter, Prefix

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
    assert flat(together) != pytest.approx(
        flat(StepVerifier(model, TOKENIZER).score([*GOLD, *CUT])), rel=0.1
    )


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


@pytest.mark.parametrize("likelihood", [0.0, 1.0])
@pytest.mark.parametrize("method", ["best_of_n", "beam_search"])
def test_a_whole_search_computes_question_and_generated_tokens_once(method, likelihood):
    policy = load_policy("weak", dtype="bfloat16")
    verifier = StepVerifier(tiny_model(seed=1), TOKENIZER, StepFormat(likelihood=likelihood))
    for result in solve(PROBLEMS, METHODS[method], policy=policy, verifier=verifier, seed=2):
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


def test_a_prefix_without_steps_has_no_scores_and_one_too_long_is_named():
    verifier = StepVerifier(tiny_model(), TOKENIZER)
    assert verifier.score([Prefix(PROBLEMS[0]), GOLD[0]])[0] == []
    long = Prefix.of(PROBLEMS[0], ["The answer is 1 ."] * 60)
    with pytest.raises(ValueError, match="the verifier reads 256"):
        verifier.score([long])


def test_a_whole_checkpoint_is_read_back(tmp_path):
    from workbench.train.prm import save

    verifier = StepVerifier(tiny_model(), TOKENIZER)
    save(verifier, tmp_path / "prm")
    loaded = load_verifier(tmp_path / "prm")
    assert loaded.form == verifier.form and loaded.per == "step"
    assert flat(loaded.score(GOLD)) == pytest.approx(flat(verifier.score(GOLD)), abs=1e-6)


def test_the_shipped_prm_loads_by_name_and_prefers_the_truth():
    verifier = load_verifier("prm")
    assert verifier.form.likelihood > 0 and verifier.name == "prm"
    # 5 + 3 = 81
    slips = [Prefix.of(p.problem, [p.texts[0].replace(" .", "1 ."), *p.texts[1:]]) for p in GOLD]
    pairs = zip(verifier.score(GOLD), verifier.score(slips))
    assert all(right[0] > 0.5 > wrong[0] for right, wrong in pairs)


def test_missing_or_contradicting_formats_are_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"step_format\.json is missing"):
        load_verifier(tmp_path)
    form = StepFormat().bound(TOKENIZER)
    with pytest.raises(ValueError, match="in training, this tokenizer has"):
        replace(form, ids=((3,), 9, 10)).bound(TOKENIZER)
    with pytest.raises(ValueError, match="in training, this tokenizer has"):
        replace(form, end=5).bound(TOKENIZER)
    with pytest.raises(ValueError, match="separator '' is no token"):
        StepFormat(separator="").bound(TOKENIZER)
    with pytest.raises(ValueError, match="need one known token"):
        StepFormat(good="5 apples").bound(TOKENIZER)
    old = {key: value for key, value in vars(form).items() if key != "end"}
    (tmp_path / "step_format.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match="from an older version, train it again"):
        StepFormat.load(tmp_path)


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
