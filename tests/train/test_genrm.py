"""Lessons of the generative verifier: literal critiques, what carries loss, which are kept, and
that it learns."""

import random
import re
from dataclasses import replace

import pytest
import torch
from tiny import TOKENIZER, tiny_model

from workbench.analyse.verifiers import auc, step_table
from workbench.models import load_policy, load_verifier
from workbench.models.generative import ASKS, GenerativeFormat, GenerativeVerifier
from workbench.models.step_format import StepFormat
from workbench.models.verifier import save
from workbench.problems import check_steps, quantities
from workbench.train import genrm, prm
from workbench.train.genrm import IGNORE, Verdict
from workbench.train.learner import Recipe
from workbench.types import LabelledSolution, Prefix, Problem

QUESTION = (
    "How many coins does Tess have? Max has 5 coins. Ava has 3 times as many as Max. "
    "Theo has 2 coins. Zoe has as many as the difference between Ava and Theo. "
    "Tess has as many as Zoe and Max together."
)
STORY = Problem("story", "quantities", QUESTION)
AVA = "Ava has 3 times as many as Max : 3 * 5 = 15 ."
ZOE = "Zoe has as many as the difference between Ava and Theo : 15 - 2 = 13 ."
TESS = "Tess has as many as Zoe and Max together : 13 + 5 = 18 ."
FORMS = {kind: GenerativeFormat(ask).bound(TOKENIZER) for kind, ask in ASKS.items()}


LEARNT = {
    "direct": "No",
    "cot": "3 times as many as Max : 3 * 5 = 1 ##5 . \n No",
    "blind": "3 times as many as Max : 3 * 5 = 1 ##5 . \n No",
}
READ = {
    "direct": "Ava has|3 times as many as Max : 3 * 5 = 9 . \n Check : correct ? No",
    "cot": "Ava has|3 times as many as Max : 3 * 5 = 9 . \n "
    "Check : Ava has|3 times as many as Max : 3 * 5 = 1 ##5 . \n correct ? No",
    "blind": "Ava has|3 times as many as Max : 3 * 5 = 1 ##5 . \n "
    "Check : Ava has|3 times as many as Max : 3 * 5 = 9 . \n correct ? No",
}


@pytest.mark.parametrize("kind", ASKS)
def test_loss_falls_on_critique_and_verdict_and_nothing_else(kind):
    lesson = Verdict(STORY, ("Ava has 3 times as many as Max : 3 * 5 = 9 .",), False, AVA)
    (row,) = genrm.verdict_rows([lesson], TOKENIZER, FORMS[kind])
    question = TOKENIZER(f"{QUESTION}\n").input_ids
    tokens = [
        re.sub("^\n$", "\\\\n", token)
        for token in TOKENIZER.convert_ids_to_tokens(row["input_ids"])
    ]
    tokens = [token if token != "\\n" else "\n" for token in tokens]
    expected = [
        word.replace("Ava_has", "Ava has")
        for word in READ[kind].replace("Ava has|", "Ava_has ").split(" ")
    ]
    assert row["input_ids"][: len(question)] == question and tokens[len(question) :] == expected
    # what is learnt is the token that follows, and the two share no place
    learnt = [max(pair) for pair in zip(row["critique"], row["verdict"])]
    assert all(IGNORE in pair for pair in zip(row["critique"], row["verdict"]))
    at = [t + 1 for t, i in enumerate(learnt) if i != IGNORE]
    assert [row["input_ids"][t] for t in at] == [i for i in learnt if i != IGNORE]
    assert [tokens[t] for t in at] == LEARNT[kind].split(" ")
    assert row["verdict"][-2] == row["input_ids"][-1]
    words = [t for t, on in enumerate(row["steps"]) if on]
    assert words[-1] == row["last_word"]
    assert TOKENIZER.decode([row["input_ids"][t] for t in words]).strip() == lesson.steps[-1]


def by_hand(ids, critique, verdict, words):
    """A row whose critique is at one place after another, and its verdict at the end."""
    none = [IGNORE] * len(ids)
    row = {"input_ids": ids, "critique": [*critique, *none][: len(ids)]}
    row |= {"verdict": [*none[2:], verdict, IGNORE], "last_word": words[-1]}
    equal = [1 if t in words else IGNORE for t in range(len(ids))]
    return row | {"steps": [int(t in words) for t in range(len(ids))], "equal": equal}


def test_the_loss_is_the_sum_of_two_means_by_hand():
    none = IGNORE
    rows = [
        by_hand([5, 6, 7, 8, 9, 10], [6, 7], 10, [3, 4]),
        by_hand([11, 12, 13, 14], [12], 14, [2]),
    ]
    batch = genrm.verdict_batch(rows, pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 0, 0]]
    assert batch["critique"].tolist() == [[6, 7, *[none] * 4], [12, *[none] * 5]]
    assert batch["verdict"].tolist() == [[*[none] * 4, 10, none], [none, none, 14, *[none] * 3]]
    assert batch["steps"].tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0]]
    form = GenerativeFormat(lines=StepFormat(ids=((2,), 10, 14)))  # 10: yes, 14: no
    logits = torch.randn(2, 6, 20, generator=torch.Generator().manual_seed(0))
    logp, pair = logits.log_softmax(-1), logits[..., [10, 14]].log_softmax(-1)
    critique = -(logp[0, 0, 6] + logp[0, 1, 7] + logp[1, 0, 12]) / 3
    verdict = -(pair[0, 4, 0] + pair[1, 2, 1]) / 2
    loss = genrm.verdict_loss(logits, batch, form)
    assert loss.item() == pytest.approx((critique + verdict).item(), abs=1e-6)
    # words 8 9 and 13, closers 2 and 3
    counting = GenerativeFormat(lines=replace(form.lines, likelihood=0.5, end=3))
    first = logp[0, 2, 8] + logp[0, 3, 9] + logp[0, 4, [2, 3]].logsumexp(0)
    other = logp[1, 1, 13] + logp[1, 2, [2, 3]].logsumexp(0)
    one = logits[0, 4, 10] - logits[0, 4, 14] + 0.5 * first
    two = logits[1, 2, 10] - logits[1, 2, 14] + 0.5 * other
    verdict = -(torch.sigmoid(one).log() + torch.sigmoid(-two).log()) / 2
    loss = genrm.verdict_loss(logits, batch, counting)
    assert loss.item() == pytest.approx((critique + verdict).item(), abs=1e-5)
    # verdict alone
    direct = genrm.verdict_batch([by_hand([5, 6, 14], [], 14, [1])], pad=0)
    loss = genrm.verdict_loss(logits[:1, :3], direct, form)
    assert loss.item() == pytest.approx(-pair[0, 1, 1].item(), abs=1e-6)


def test_words_are_labelled_by_whether_they_still_equal_the_critique():
    wrong = "Ava has 3 times as many as Max : 3 * 5 = 9 ."
    lessons = [Verdict(STORY, (wrong,), False, AVA), Verdict(STORY, (AVA,), True, AVA)]
    rows = genrm.verdict_rows(lessons, TOKENIZER, FORMS["blind"])
    batch, (_, yes, no) = genrm.verdict_batch(rows, 0), FORMS["blind"].lines.ids
    words = [batch["equal"][i][batch["steps"][i] == 1].tolist() for i in (0, 1)]
    # Ava has 3 times as many as Max : 3 * 5 = | 9 .
    assert words[0] == [1] * (len(words[0]) - 2) + [0, 0] and set(words[1]) == {1}
    assert (batch["equal"][batch["steps"] == 0] == IGNORE).all()
    model = load_policy("weak").model
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"]).logits
    d = (logits[..., yes] - logits[..., no]).double()
    good = -torch.sigmoid(d[batch["equal"] == 1]).log().sum() / sum(map(len, words))
    first, second = -torch.sigmoid(-d[batch["equal"] == 0]).log()
    bad = (first + (first + second) / 2) / 2  # the fault is one half, the mean from it on another
    losses = [
        genrm.verdict_loss(logits, batch, FORMS["blind"], within=weight) for weight in (0.0, 0.5)
    ]
    expected = 0.5 * (good + bad) / 2
    assert (losses[1] - losses[0]).item() == pytest.approx(expected.item(), abs=1e-5)


def test_words_have_labels_only_where_a_step_follows_its_critique():
    lessons = [Verdict(STORY, (AVA,), True, AVA)]
    for form in (None, FORMS["cot"], FORMS["direct"]):
        with pytest.raises(ValueError, match=r"within=1.0: need an ask in which the step follows"):
            genrm.train_genrm(tiny_model(), TOKENIZER, lessons, form=form, within=1.0, seed=0)


@pytest.mark.parametrize(("kind", "likelihood"), [*((kind, 0.0) for kind in ASKS), ("blind", 0.1)])
def test_what_is_trained_is_what_is_read(kind, likelihood):
    """The loss at the last position is of the very logits that the verifier reads, given the same
    critique."""
    model, (_, yes, no) = load_policy("weak").model, FORMS[kind].lines.ids
    lines = replace(FORMS[kind].lines, likelihood=likelihood)
    verifier = GenerativeVerifier(
        model, TOKENIZER, GenerativeFormat(ASKS[kind], lines=lines), temperature=0
    )
    steps = (AVA, ZOE)
    score, written = (
        verifier.score([Prefix.of(STORY, steps)])[0][-1],
        verifier.critiques(Prefix.of(STORY, steps))[-1],
    )
    lesson = Verdict(STORY, steps, True, *written)
    batch = genrm.verdict_batch(genrm.verdict_rows([lesson], TOKENIZER, FORMS[kind]), 0)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"]).logits
    at = (batch["verdict"] == yes).nonzero()
    assert len(at) == 1
    margin = logits[0, at[0, 1], yes] - logits[0, at[0, 1], no]
    margin = margin + likelihood * prm.step_logps(logits, batch, lines)[0, batch["last_word"][0, 0]]
    assert 0.001 < score < 0.999 and score == pytest.approx(torch.sigmoid(margin).item(), abs=1e-4)


def test_lessons_end_with_the_first_bad_step_and_skip_what_has_no_label():
    row = LabelledSolution(STORY, (AVA, ZOE, TESS, "The answer is 18 ."), (1, None, 0, 1))
    assert genrm.verdicts([row]) == [
        Verdict(STORY, (AVA,), True),
        Verdict(STORY, (AVA, ZOE, TESS), False),
    ]


class Writer:
    """A policy that writes Ava's and Zoe's steps alone, and remembers what it was asked."""

    tokenizer = TOKENIZER

    def sample(self, prefixes, keys, *, until):
        from workbench.types import Step

        assert until == "step" and len({*keys}) > 1
        self.seen = [(*p.texts[:-1], TOKENIZER.decode(p.steps[-1].ids)) for p in prefixes]
        lines = {"Ava has": AVA, "Zoe has": ZOE.replace("13", "12")}
        new = [TOKENIZER(lines[opening] + "\n").input_ids[1:] for *_, opening in self.seen]
        return [
            Prefix(p.problem, (*p.steps, Step("", tuple(ids)))) for p, ids in zip(prefixes, new)
        ]


def test_resampled_critiques_start_from_the_same_prefix_and_opening_and_are_filtered():
    writer = Writer()
    slip = AVA.replace("15", "16")
    lessons = [
        Verdict(STORY, (AVA,), True),  # it writes the same: agrees
        Verdict(STORY, (slip,), False),  # it writes another: agrees
        Verdict(STORY, (slip,), True),  # a wrong label: dropped
        Verdict(STORY, (AVA, ZOE), True),  # the writer errs: dropped
        # the writer errs and the label, too: kept, that is what automatic means
        Verdict(STORY, (AVA, ZOE), False),
    ]
    kept = genrm.resampled(lessons, writer, seed=0)
    assert writer.seen == [("Ava has",)] * 3 + [(AVA, "Zoe has")] * 2
    assert [(x.steps[-1], x.good, x.critique) for x in kept] == [
        (AVA, True, AVA),
        (slip, False, AVA),
        (ZOE, False, ZOE.replace("13", "12")),
    ]


def test_a_real_policy_writes_the_critiques():
    lessons = [
        Verdict(STORY, (AVA, ZOE.replace("13", "12")), False),
        Verdict(STORY, (AVA, ZOE), True),
    ]
    kept = genrm.resampled(lessons, load_policy("strong", temperature=0), seed=0)
    assert [x.critique for x in kept] == [ZOE, ZOE]
    unknown = Verdict(STORY, (AVA, "##9 ."), False)  # as a policy may write: no text says its ids
    assert not genrm.resampled([unknown], load_policy("strong", temperature=0), seed=0)


def mixed(problems, seed):
    """Gold solutions, in most of which one step breaks off before its result; labels of the
    checker."""
    rng, rows = random.Random(seed), []
    for problem in problems:
        steps = problem.solution.split("\n")
        if rng.random() < 0.8:
            t = rng.randrange(len(steps))
            steps = [*steps[:t], re.sub(r"( =)? \d+ \.$", "", steps[t]), *steps[t + 1 :]]
        rows.append(
            LabelledSolution(problem, tuple(steps), tuple(map(int, check_steps(problem, steps))))
        )
    return rows


def held_out_auc(verifier, rows):
    scores = verifier.score([Prefix.of(row.problem, row.steps) for row in rows])
    table = step_table(
        [(row.problem, own, list(map(bool, row.labels))) for row, own in zip(rows, scores)]
    )
    return auc(table.score, table.right)


@pytest.mark.parametrize("kind", ["cot", "blind"])
def test_critiques_and_verdicts_learnt_by_heart_are_written(kind):
    """Only if training and writing meet at the same positions can critiques come back."""
    steps = [(AVA.replace("15", "16"),), (AVA, ZOE), (AVA, ZOE, TESS)]
    critiques, labels = (
        ["Ava has right times , wrong .", "Zoe has it , not Ava .", "Tess has now 7 2 coins ."],
        [0, 1, 0],
    )
    lessons = [Verdict(STORY, own, bool(y), text) for own, y, text in zip(steps, labels, critiques)]
    recipe = Recipe(rank=0, epochs=80, learning_rate=5e-3)
    form = GenerativeFormat(ASKS[kind])
    about = {"recipe": recipe, "form": form, "seed": 0}
    trained, _ = genrm.train_genrm(tiny_model(), TOKENIZER, lessons, **about)
    verifier = GenerativeVerifier(trained.model, TOKENIZER, form, temperature=0)
    for own, y, text in zip(steps, labels, critiques):
        prefix = Prefix.of(STORY, own)
        assert verifier.critiques(prefix)[-1] == [text]
        assert verifier.score([prefix])[0][-1] == pytest.approx(y, abs=0.2)


@pytest.mark.slow
def test_a_short_training_ranks_held_out_steps_and_comes_back_from_a_folder(tmp_path):
    """The fault is one that can be seen: to learn to compute or to compare takes more than a test's
    time."""
    host = load_policy("base")
    rows = mixed(quantities.generate(120, levels=[1], seed=1, distractors=[0]), seed=1)
    test = mixed(quantities.generate(40, levels=[1], seed=2, split="test", distractors=[0]), seed=2)
    before = held_out_auc(GenerativeVerifier(host.model, host.tokenizer), test)
    recipe = Recipe(rank=8, epochs=1, batch_tokens=700, learning_rate=3e-3)
    verifier, log = genrm.train_genrm(
        host.model, host.tokenizer, genrm.verdicts(rows), recipe=recipe, seed=0
    )
    after = held_out_auc(verifier, test)
    losses = [row["train/loss"] for row in log]
    assert after > 0.9 and after > before + 0.1
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    save(verifier, tmp_path)
    prefixes = [Prefix.of(row.problem, row.steps) for row in test[:4]]
    again = load_verifier(tmp_path).score(prefixes)
    assert [s for own in again for s in own] == pytest.approx(
        [s for own in verifier.score(prefixes) for s in own], abs=1e-3
    )


def test_the_log_holds_held_out_measures():
    lessons = genrm.verdicts(mixed(quantities.generate(8, levels=[2], seed=3), seed=3))[:8]
    _, log = genrm.train_genrm(
        tiny_model(),
        TOKENIZER,
        lessons,
        recipe=Recipe(rank=4, epochs=2, batch_tokens=200),
        seed=0,
        evaluations=2,
        held_out=lambda verifier: {"eval/score": verifier.score([Prefix.of(STORY, (AVA,))])[0][0]},
    )
    assert [row["update"] for row in log if "eval/score" in row] == [(len(log) + 1) // 2, len(log)]
    first, second = [row["eval/score"] for row in log if "eval/score" in row]
    assert first != second  # the weights had changed, and so had the scores


def test_lessons_that_can_not_be_learnt_are_one_line():
    with pytest.raises(ValueError, match="none of 0 verdicts"):
        genrm.train_genrm(tiny_model(), TOKENIZER, [], seed=0)
    with pytest.raises(ValueError, match="no critique, but the ask"):
        genrm.verdict_rows([Verdict(STORY, (AVA,), True)], TOKENIZER, FORMS["cot"])
    with pytest.raises(ValueError, match="critique 'Zoe has"):
        genrm.verdict_rows([Verdict(STORY, (AVA,), True, ZOE)], TOKENIZER, FORMS["blind"])
    lesson = Verdict(STORY, (AVA,), True, AVA)
    (row,) = genrm.verdict_rows([lesson], TOKENIZER, FORMS["cot"])
    assert (
        genrm.verdict_rows([lesson], TOKENIZER, FORMS["cot"], longest=len(row["input_ids"]) - 1)
        == []
    )
    assert genrm.verdict_rows([lesson], TOKENIZER, FORMS["cot"], longest=len(row["input_ids"])) == [
        row
    ]


def test_a_prm_format_of_other_verdicts_is_trained_on_those():
    form = GenerativeFormat(lines=StepFormat(good="right", bad="wrong")).bound(TOKENIZER)
    rows = genrm.verdict_rows(
        [Verdict(STORY, (AVA,), good) for good in (True, False)], TOKENIZER, form
    )
    assert [TOKENIZER.decode(row["input_ids"][-1:]) for row in rows] == ["right", "wrong"]
