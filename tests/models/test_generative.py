"""The generative verifier: its scores by plain forwards, its critiques by their streams, its costs
by count."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hosts import host_config, host_tokenizer
from tiny import FAMILIES, TOKENIZER, tiny_model
from transformers import AutoModelForCausalLM

from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.draws import draw, uniforms
from workbench.models.flops import Flops
from workbench.models.generative import ASKS, GenerativeFormat, GenerativeVerifier, stream_of
from workbench.models.prefix_cache import Context
from workbench.models.prompts import critic_format
from workbench.models.step_format import StepFormat
from workbench.models.verifier import save
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.types import Meter, Prefix, Problem, Unreadable

PROBLEMS = quantities.generate(4, levels=[2, 3], seed=8, distractors=[0])
GOLD = [Prefix.of(p, p.solution.split("\n"), ended=True) for p in PROBLEMS]
CUT = [Prefix.of(p, p.solution.split("\n")[:t]) for p in PROBLEMS for t in (1, 2)]
TESS = Problem(
    "tess",
    "quantities",
    "How many coins does Tess have? Max has 5 coins. Tess has 4 more than Max.",
)
YES, NO = TOKENIZER.convert_tokens_to_ids(["Yes", "No"])
STOPS = TOKENIZER.convert_tokens_to_ids(["\n", "<end>"])


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False).input_ids


def verifier_of(kind, critiques=1, model=None, **options):
    form = GenerativeFormat(ASKS[kind], critiques)
    return GenerativeVerifier(
        model or tiny_model(dtype=torch.float64), TOKENIZER, form, longest=12, **options
    )


def flat(scores):
    return [s for row in scores for s in row]


def last_logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1]


def p_yes(model, ids):
    return torch.softmax(last_logits(model, ids)[[YES, NO]].double(), 0)[0].item()


def written_by_hand(model, segments, k, *, seed, longest):
    """The k-th critique token by token: a whole forward each, one uniform each from the stream of
    what stands before"""
    start = [i for segment in segments for i in segment]
    key, ids = stream_of(seed, Context(segments).names[-1], k), []
    while len(ids) < longest:
        u = uniforms(np.array([key], np.uint64), np.array([len(ids)], np.uint64), 1)[:, 0]
        token = draw(last_logits(model, start + ids)[None], 1.0, u)[0].item()
        if token in STOPS:
            break
        ids.append(token)
    return [*ids, STOPS[0]]


def p_yes_beside(model, start, judged, rest, likelihood):
    """P(Yes) with the step's log-probability beside the two words, by a forward for each of its
    tokens and its end."""
    said = sum(
        last_logits(model, start + judged[:i]).log_softmax(0)[judged[i]]
        for i in range(len(judged) - 1)
    )
    said = said + last_logits(model, start + judged[:-1]).log_softmax(0)[STOPS].logsumexp(0)
    logits = last_logits(model, start + judged + rest)
    return torch.sigmoid((logits[YES] - logits[NO] + likelihood * said).double()).item()


def by_hand(model, prefix, kind, critiques, *, seed=0, longest=12):
    """Scores and critiques of each step without engine, cache or format: the texts are written out
    here."""
    scores, texts = [], []
    for t, step in enumerate(prefix.texts):
        lines = [
            ids_of(f"{prefix.problem.question}\n"),
            *(ids_of(f"{before}\n") for before in prefix.texts[:t]),
        ]
        judged, opening = ids_of(f"{step}\n"), ids_of(step)[:1]
        before, after = {
            "direct": ([*lines, judged, ids_of("Check : correct ?")], None),
            "cot": ([*lines, judged, ids_of("Check :"), opening], [ids_of("correct ?")]),
            "blind": ([*lines, opening], [ids_of("Check :"), judged, ids_of("correct ?")]),
        }[kind]
        start = [i for segment in before for i in segment]
        if after is None:
            scores.append(p_yes(model, start))
            continue
        own = [
            written_by_hand(model, before, k, seed=seed, longest=longest) for k in range(critiques)
        ]
        rest = [i for segment in after for i in segment]
        scores.append(sum(p_yes(model, start + ids + rest) for ids in own) / critiques)
        texts.append(
            [TOKENIZER.decode(opening + ids, skip_special_tokens=True).strip() for ids in own]
        )
    return scores, texts


@pytest.mark.parametrize("family", FAMILIES)
def test_a_direct_verdict_is_the_softmax_of_a_plain_forward(family):
    model = tiny_model(family)
    together = verifier_of("direct", model=model, batch_tokens=600).score([*GOLD, *CUT, GOLD[0]])
    for prefix, scores in zip([*GOLD, *CUT, GOLD[0]], together):
        assert scores == pytest.approx(by_hand(model, prefix, "direct", 1)[0], abs=1e-4)
        assert scores == pytest.approx(
            verifier_of("direct", model=model).score([prefix])[0], abs=1e-4
        )
    assert np.ptp(flat(together)) > 0.1  # or nothing would have been tested


@pytest.mark.parametrize("kind", ["cot", "blind"])
def test_k_critiques_come_from_their_own_streams_and_their_votes_are_averaged(kind):
    model = tiny_model(dtype=torch.float64)
    verifier = verifier_of(kind, 3, model, seed=5)
    for prefix, scores in zip(GOLD[:2], verifier.score(GOLD[:2])):
        expected, texts = by_hand(model, prefix, kind, 3, seed=5)
        assert scores == pytest.approx(expected, abs=1e-6)
        assert verifier.critiques(prefix) == texts
        assert all(len(set(own)) == 3 for own in texts)


@pytest.mark.parametrize("kind", ASKS)
def test_batched_equals_one_by_one_in_any_order_and_with_a_tiny_cache(kind):
    model, k = tiny_model(dtype=torch.float64), 1 if kind == "direct" else 2
    rows = [*GOLD, *CUT, GOLD[1]]
    together = verifier_of(kind, k, model, batch_tokens=700).score(rows)
    assert together == [
        pytest.approx(verifier_of(kind, k, model).score([row])[0], abs=1e-9) for row in rows
    ]
    small = verifier_of(kind, k, model, cache_tokens=64)
    assert small.score(rows[::-1])[::-1] == [pytest.approx(row, abs=1e-9) for row in together]


def test_another_seed_writes_other_critiques_and_the_same_one_the_same():
    model = tiny_model(dtype=torch.float64)
    first, again, other = (
        verifier_of("cot", 2, model, seed=seed).critiques(GOLD[0]) for seed in (0, 0, 1)
    )
    assert first == again and all(a != b for a, b in zip(first, other))


def test_the_host_recomputes_a_step_that_says_something_else():
    """Blind, before any training: it writes what its policy would, given only which quantity the
    step is about."""
    host = load_policy("strong")
    verifier = GenerativeVerifier(
        host.model, host.tokenizer, GenerativeFormat(ASKS["blind"]), temperature=0
    )
    wrong = Prefix.of(TESS, ["Tess has 4 more than Max : 5 + 4 = 8 .", "The answer is 8 ."])
    assert verifier.critiques(wrong) == [
        ["Tess has 4 more than Max : 5 + 4 = 9 ."],
        ["The answer is 8 ."],
    ]


def test_every_token_is_computed_once_and_paid_for():
    host = load_policy("strong")
    prefix = Prefix.of(
        TESS, ["Tess has 4 more than Max : 5 + 4 = 9 .", "Tess has 4 more than Max : 5 + 4 = 9 ."]
    )
    question, step = len(ids_of(f"{TESS.question}\n")), len(ids_of(f"{prefix.texts[0]}\n"))
    direct = GenerativeVerifier(host.model, host.tokenizer)
    meters = [Meter(), Meter()]
    for t in (1, 2):
        direct.score([Prefix.of(TESS, prefix.texts[:t])], meters=meters[:1])
    assert meters[0].verifier == question + 2 * step + 2 * 4  # "Check : correct ?" after each
    GenerativeVerifier(host.model, host.tokenizer).score([prefix, prefix], meters=meters[::-1])
    assert meters[1].verifier == question + 2 * step + 2 * 4  # the first of equal rows pays
    # every one of the tokens at least meets all weights of the body
    weights = sum(p.numel() for p in host.model.model.layers.parameters())
    assert meters[1].flops > 2 * weights * meters[1].verifier
    blind = GenerativeVerifier(
        host.model, host.tokenizer, GenerativeFormat(ASKS["blind"]), temperature=0
    )
    blind.score([Prefix.of(TESS, prefix.texts[:1])], meters=[meter := Meter()])
    assert blind.critiques(Prefix.of(TESS, prefix.texts[:1])) == [[prefix.texts[0]]]
    # its opening is given; the last token written is read once more with what follows
    written = step - 1
    assert meter.verifier == (question + 1) + written + (1 + 2 + step + 2)


def test_steps_with_one_opening_share_their_blind_critiques():
    model = tiny_model(dtype=torch.float64)
    rival = Prefix.of(GOLD[0].problem, [GOLD[0].texts[0].replace(" .", "1 .")])
    gold = Prefix.of(GOLD[0].problem, GOLD[0].texts[:1])
    costs = []
    for rows in ([gold], [gold, rival]):
        verifier, meters = verifier_of("blind", 4, model), [Meter() for _ in rows]
        verifier.score(rows, meters=meters)
        costs.append(sum(meter.verifier for meter in meters))
    assert verifier.critiques(gold) == verifier.critiques(rival)
    assert costs[1] < 1.7 * costs[0]  # only the second half, from the critiques on, is read twice
    assert verifier.score([gold]) != verifier.score([rival])


def test_what_is_written_is_paid_for_as_what_is_read():
    """Each token meets the model once, or twice in a critique cut off; a drawn one a head, too."""
    model, meter = tiny_model(), Meter()
    verifier, prefix = verifier_of("cot", model=model), CUT[0]
    verifier.score([prefix], meters=[meter])
    (step,) = verifier._to_judge(prefix, Meter())
    ((*line, _),) = verifier._written[step.before.names[-1]]
    start, drawn = len(step.before.ids), min(len(line) + 1, 12)  # the newline is drawn, too, if any
    whole = start + len(line) + 1 + sum(map(len, step.after))
    again = drawn - 1 if len(line) == 12 else 0  # cut off: the newline that follows is not drawn
    cost = Flops(model).cost
    assert meter.flops == cost(0, whole, drawn + 2) + cost(start, start + again)
    assert meter.verifier == whole + 1 + again and not (meter.generated or meter.prefilled)


@pytest.mark.parametrize("kind", ASKS)
def test_scored_again_costs_nothing_until_weights_change(kind):
    model, meter = tiny_model(dtype=torch.float64), Meter()
    verifier = verifier_of(kind, model=model)
    first = verifier.score(GOLD)
    assert verifier.score(GOLD, meters=[meter] * len(GOLD)) == first and meter.verifier == 0
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    again = verifier.score(GOLD, meters=[meter] * len(GOLD))
    assert meter.verifier > 0
    assert (
        again[0] == pytest.approx(by_hand(model, GOLD[0], kind, 1)[0], abs=1e-6) and again != first
    )


def test_likelihood_counts_the_words_of_the_step_that_follows_the_critique():
    model, form = (
        tiny_model(dtype=torch.float64),
        GenerativeFormat(ASKS["blind"], 2, StepFormat(good="Yes", bad="No")),
    )
    counting = replace(form, lines=replace(form.lines, likelihood=0.3))
    make = lambda: GenerativeVerifier(model, TOKENIZER, counting, longest=12)  # noqa: E731
    # an empty step only ends
    verifier, odd = make(), Prefix.of(PROBLEMS[0], [GOLD[0].texts[0], ""])
    rows = [*GOLD[:2], odd]
    together = verifier.score(rows)
    for prefix, scores in zip(rows, together):
        assert scores == pytest.approx(make().score([prefix])[0], abs=1e-9)
        for t, step in enumerate(prefix.texts):
            lines = [
                ids_of(f"{prefix.problem.question}\n"),
                *(ids_of(f"{before}\n") for before in prefix.texts[:t]),
            ]
            before = [*lines, *([ids_of(step)[:1]] if step else [])]
            own = [written_by_hand(model, before, k, seed=0, longest=12) for k in range(2)]
            starts = [
                [i for segment in before for i in segment] + ids + ids_of("Check :") for ids in own
            ]
            votes = [
                p_yes_beside(model, s, ids_of(f"{step}\n"), ids_of("correct ?"), 0.3)
                for s in starts
            ]
            assert scores[t] == pytest.approx(np.mean(votes), abs=1e-6)
    without = verifier_of("blind", 2, model).score(rows)
    assert np.abs(np.subtract(flat(together), flat(without))).max() > 0.05


@pytest.mark.parametrize("kind", ASKS)
def test_per_solution_there_is_one_verdict_on_the_last_step(kind, tmp_path):
    form = GenerativeFormat(ASKS[kind], per="solution")
    verifier = GenerativeVerifier(load_policy("weak").model, TOKENIZER, form, longest=12)
    steps = verifier_of(kind, model=verifier.model).score(GOLD)
    meters = [Meter() for _ in GOLD]
    assert verifier.per == "solution"
    assert flat(verifier.score(GOLD, meters=meters)) == pytest.approx(
        [row[-1] for row in steps], abs=1e-5
    )
    texts = [len(ids_of(f"{prefix.problem.question}\n")) for prefix in GOLD]
    assert all(meter.verifier > n for meter, n in zip(meters, texts))
    with pytest.raises(ValueError, match="no steps to judge"):
        verifier.score([Prefix(PROBLEMS[0])])
    save(verifier, tmp_path)
    read_back = load_verifier(tmp_path, longest=12)
    assert read_back.score(GOLD[:1])[0] == pytest.approx(verifier.score(GOLD[:1])[0], abs=1e-5)
    with pytest.raises(ValueError, match="per='word'"):
        GenerativeFormat(per="word").bound(TOKENIZER)


def test_no_steps_an_empty_step_and_one_too_long():
    for kind in ASKS:
        verifier = verifier_of(kind)
        none, (first, empty) = verifier.score(
            [Prefix(PROBLEMS[0]), Prefix.of(PROBLEMS[0], [GOLD[0].texts[0], ""])]
        )
        assert none == [] and 0 < first < 1 and 0 < empty < 1
        with pytest.raises(Unreadable, match="the verifier reads 256"):
            verifier.score([Prefix.of(PROBLEMS[0], ["The answer is 1 ."] * 60)])


def test_it_serves_a_search():
    verifier = verifier_of("blind", 2, tiny_model())
    models = {"policy": load_policy("weak"), "verifier": verifier}
    few = {"beam_width": 2, "expand": 2, "seed": 2}
    for result in solve(PROBLEMS[:2], METHODS["beam_search"], **models, **few):
        read = len(ids_of(f"{result.problem.question}\n")) + sum(
            len(ids_of(f"{t}\n")) for t in result.best.texts
        )
        assert result.error is None and result.meter.verifier > read


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (GenerativeFormat("Check : correct ?"), "need {step}"),
        (GenerativeFormat("{step}{step}correct ?"), "each once"),
        (GenerativeFormat("{step}{answer}correct ?"), "need {step}"),
        (GenerativeFormat("{step}flawless ?"), "words that this tokenizer does not know"),
        (GenerativeFormat(critiques=2), "critiques=2"),
        (GenerativeFormat(ASKS["cot"], critiques=0), "critiques=0"),
        (GenerativeFormat(lines=StepFormat(good="Yes indeed", bad="No")), "need one known token"),
        (GenerativeFormat(ask_ids=((1, 2),)), "the ask had ids"),
        (
            GenerativeFormat(lines=StepFormat(good="Yes", bad="No", likelihood=0.4)),
            "no step after a critique",
        ),
    ],
)
def test_formats_that_make_no_sense_are_one_line(form, message):
    with pytest.raises(ValueError, match=message):
        form.bound(TOKENIZER)


def test_critiques_that_could_not_differ_are_refused():
    with pytest.raises(ValueError, match="temperature 0"):
        verifier_of("cot", 2, temperature=0)
    with pytest.raises(ValueError, match="longest 0"):
        GenerativeVerifier(tiny_model(), TOKENIZER, longest=0)


def test_a_whole_checkpoint_is_read_back_with_its_format(tmp_path):
    verifier = verifier_of("blind", 2, tiny_model())
    save(verifier, tmp_path / "genrm")
    loaded = load_verifier(tmp_path / "genrm", longest=12)
    assert loaded.form == verifier.form and loaded.name == "genrm" and loaded.per == "step"
    assert flat(loaded.score(GOLD)) == pytest.approx(flat(verifier.score(GOLD)), abs=1e-5)
    assert load_verifier(tmp_path / "genrm", critiques=5).form == replace(
        verifier.form, critiques=5
    )
    file = tmp_path / "genrm" / "verifier.json"
    text = file.read_text()
    swapped = text.replace('"good": "Yes"', '"good": "No"').replace('"bad": "No"', '"bad": "Yes"')
    file.write_text(swapped)
    with pytest.raises(ValueError, match="in training, this tokenizer has"):
        load_verifier(tmp_path / "genrm")
    file.write_text(text.replace("correct ?", "right ?"))
    with pytest.raises(ValueError, match="the ask had ids"):
        load_verifier(tmp_path / "genrm")


def test_a_critique_is_one_line_whatever_token_ends_it():
    tokenizer = host_tokenizer("qwen3")  # knows a blank line as one token, and its own end
    tokenizer.add_tokens([".\n", " 7\n"])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(host_config("qwen3", vocabulary=len(tokenizer)))
    form = critic_format(tokenizer, writes=True, critiques=40)
    critic = GenerativeVerifier(model, tokenizer, form, longest=60)
    prefix = Prefix.of(Problem("p", "math", "2 + 3 = ?"), ["2 + 3 = 5", "The answer is 5"])
    written = [text for texts in critic.critiques(prefix) for text in texts]
    assert len(written) == 80 and not any("\n" in text for text in written)
    rows = [ids for own in critic._written.values() for ids in own]
    assert all(ids[-1:] == tokenizer("\n").input_ids for ids in rows)
    assert max(map(len, rows)) <= 61
    texts = tokenizer.batch_decode(rows)
    assert not any("<|im_end|>" in text for text in texts)
    assert any(text.endswith(".\n") for text in texts)  # what the last token said is kept


def test_it_comes_back_as_it_drew(tmp_path):
    form = GenerativeFormat(ask=ASKS["cot"], critiques=2)
    kept = GenerativeVerifier(tiny_model(), TOKENIZER, form, longest=6, temperature=0.5, seed=3)
    save(kept, tmp_path)
    again = load_verifier(tmp_path)
    problem = quantities.generate(1, levels=[2], seed=0)[0]
    whole = [Prefix.of(problem, problem.solution.split("\n"))]
    assert again.fingerprint() == kept.fingerprint() and again.score(whole) == kept.score(whole)
    assert load_verifier(tmp_path, longest=9).longest == 9
