"""The published protocols on literal examples, and on the real files with scorers whose results are
known."""

import math

import numpy as np
import pytest

from workbench.analyse.first_errors import best_threshold, f1_interval, first_errors
from workbench.analyse.metrics import first_error_counts, harmonic_mean, hit_rates
from workbench.analyse.process_bench import (
    ASPECTS,
    prmbench_table,
    processbench_table,
    score_solutions,
)
from workbench.models.baselines import Position, Random
from workbench.problems.benchmarks import SUBSETS, load
from workbench.types import LabelledSolution, Meter, Problem


def solution(id, steps, first, subset="gsm8k"):
    """As `benchmarks.load` reads ProcessBench: nothing is labelled after the first error; "a-1"
    answers question a."""
    labels = tuple(
        1 if first == -1 or i < first else 0 if i == first else None for i in range(steps)
    )
    problem = Problem(id, "math", f"question {id.partition('-')[0]}", "7")
    return LabelledSolution(problem, ("x",) * steps, labels, meta={"subset": subset})


def chain(id, labels, kind="circular"):
    return LabelledSolution(
        Problem(f"{kind}/{id}", "math", "?"),
        ("x",) * len(labels),
        labels,
        meta={"classification": kind},
    )


ROWS = [
    solution("a", 3, 1), solution("b", 2, 0), solution("c", 2, -1), solution("d", 1, -1),
    solution("e", 3, 2, "math"), solution("f", 2, 1, "math"), solution("g", 2, -1, "math"),
]  # fmt: skip
SCORES = [[0.9, 0.2, 0.1], [0.6, 0.1], [0.8, 0.7], [0.3], [0.9, 0.8, 0.4], [0.1, 0.1], [0.9, 0.6]]


class Fixed:
    """A verifier that says what it is told, and remembers what it was shown."""

    per = "step"

    def __init__(self, *replies):
        self.replies, self.shown, self.meters = list(replies), [], []

    def score(self, prefixes, *, meters=None):
        self.shown.append(prefixes)
        self.meters.append(meters)
        return [self.replies.pop(0) for _ in range(min(len(prefixes), len(self.replies)))]


# -- scores ----------------------------------------------------------------------------------------


def test_scores_come_in_batches_from_blind_problems():
    verifier, meter = Fixed(*SCORES), Meter()
    assert score_solutions(ROWS, verifier, batch=3, meter=meter) == SCORES
    assert [len(part) for part in verifier.shown] == [3, 3, 1]
    assert [len(part) for part in verifier.meters] == [3, 3, 1] and verifier.meters[0][2] is meter
    shown = [prefix for part in verifier.shown for prefix in part]
    assert [prefix.texts for prefix in shown] == [row.steps for row in ROWS]
    assert all(
        prefix.ended and prefix.problem == row.problem.blind() for prefix, row in zip(shown, ROWS)
    )
    assert not any(prefix.problem.answer for prefix in shown)
    assert score_solutions([], Fixed()) == []


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ([[0.5] * 3, [0.5]], "b: scores .* for 2 steps"),
        ([[0.5] * 3, [0.5] * 3], "b: scores .* for 2 steps"),
        ([[0.5] * 3, []], "b: scores .* for 2 steps"),
        ([[0.5] * 3, [0.5, math.nan]], "b: .*nan"),
        ([[0.5] * 3], "scores of 1 solutions for 2"),
    ],
)
def test_a_number_of_scores_that_differs_is_refused(replies, words):
    with pytest.raises(ValueError, match=words):
        score_solutions(ROWS[:2], Fixed(*replies))
    for table in (processbench_table, prmbench_table):
        with pytest.raises(ValueError, match=words):
            table([chain(*x) for x in (("a", (1, 0, 0)), ("b", (1, 0)))], replies, seed=0)


# -- ProcessBench ----------------------------------------------------------------------------------


def test_processbench_by_hand():
    table = processbench_table(ROWS, SCORES, seed=0, threshold=0.5).set_index("subset")
    # gsm8k: a hit at 1, b missed (says 1), c hit (no error), d missed; math: e hit, f missed (says
    # 0), g hit
    assert table.loc["gsm8k", ["error", "correct", "f1"]].tolist() == [0.5, 0.5, 0.5]
    assert table.loc["math", ["error", "correct", "f1"]].tolist() == pytest.approx([0.5, 1, 2 / 3])
    assert table.loc["average", "f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (
        table["n"].tolist() == [4, 3, 7]
        and not table["chosen_here"].any()
        and set(table["threshold"]) == {0.5}
    )
    for name in ("error", "correct", "f1"):
        assert (table[f"{name}_low"] <= table[name]).all() and (
            table[name] <= table[f"{name}_high"]
        ).all()


def test_the_threshold_of_one_subset_holds_for_the_others():
    table = processbench_table(ROWS, SCORES, seed=0, threshold="math").set_index("subset")
    t = best_threshold(SCORES[4:], [2, 1, -1])
    assert set(table["threshold"]) == {t} and table["chosen_here"].tolist() == [
        False,
        True,
        False,
        False,
    ]
    expected = hit_rates(first_error_counts(first_errors(SCORES[:4], t), [1, 0, -1, -1]).sum(0))
    assert table.loc["gsm8k", ["error", "correct", "f1"]].tolist() == pytest.approx(expected)
    assert (
        table.loc["held out", "f1"] == table.loc["gsm8k", "f1"] and table.loc["held out", "n"] == 4
    )
    other = processbench_table(ROWS, SCORES, seed=0)
    assert other["chosen_here"].tolist() == [True, False, False, False] and set(
        other["threshold"]
    ) != {t}
    alone = processbench_table(ROWS[:4], SCORES[:4], seed=0)
    assert alone["subset"].tolist() == ["gsm8k", "average"]  # there is nothing held out


def test_processbench_intervals_draw_questions_of_each_subset():
    rng = np.random.default_rng(0)
    rows = [
        solution(f"{s}{i % 80}-{i}", 3, int(rng.integers(-1, 3)), s)
        for s in ("gsm8k", "math")
        for i in range(200)
    ]
    scores = [
        [float(label != 0) if rng.random() < 0.7 else 0.5 for label in row.labels] for row in rows
    ]
    table = processbench_table(rows, scores, seed=4, threshold=0.3).set_index("subset")
    for i, subset in enumerate(("gsm8k", "math")):
        part = [(r, s) for r, s in zip(rows, scores) if r.meta["subset"] == subset]
        labels = [row.first_error for row, _ in part]
        guess = first_errors([s for _, s in part], 0.3)
        known = f1_interval([row.problem.question for row, _ in part], guess, labels, seed=[4, i])
        assert table.loc[subset, ["f1", "f1_low", "f1_high"]].tolist() == pytest.approx(
            list(known.values())
        )
        error, correct, _ = hit_rates(first_error_counts(guess, labels).sum(0))
        assert table.loc[subset, ["error", "correct"]].tolist() == pytest.approx([error, correct])
        single = [(f"{n}", g, x) for n, (g, x) in enumerate(zip(guess, labels))]
        # not single solutions
        assert f1_interval(*zip(*single), seed=[4, i])["low"] != table.loc[subset, "f1_low"]
    wide = table["f1_high"] - table["f1_low"]
    assert wide["average"] < min(wide["gsm8k"], wide["math"])
    assert table.loc["average", "f1"] == pytest.approx(table.loc[["gsm8k", "math"], "f1"].mean())


@pytest.mark.parametrize(
    ("rows", "threshold", "words"),
    [
        (ROWS, "olympiadbench", "use a number or one of gsm8k, math"),
        (ROWS[:2], "gsm8k", "no threshold from gsm8k: 2 solutions with an error, 0 without"),
        (ROWS[2:4], "gsm8k", "no threshold from gsm8k: 0 solutions with an error, 2 without"),
    ],
)
def test_processbench_refusals(rows, threshold, words):
    with pytest.raises(ValueError, match=words):
        processbench_table(
            rows, [[0.5] * len(row.steps) for row in rows], seed=0, threshold=threshold
        )


@pytest.mark.filterwarnings("error")
def test_a_subset_of_one_kind_has_no_f1_and_the_mean_has_none():
    table = processbench_table(ROWS[2:], SCORES[2:], seed=0, threshold=0.5).set_index("subset")
    for name in ("gsm8k", "average"):
        one = table.loc[name]
        assert np.isnan(one[["error", "f1", "f1_low", "f1_high"]].astype(float)).all()
        assert one["correct_low"] <= one["correct"] <= one["correct_high"]
    assert table.loc["math", "f1"] == pytest.approx(2 / 3)


def test_draws_without_both_kinds_are_left_out_of_the_interval():
    rows = [solution("a", 2, 0), solution("b", 2, -1)]
    table = processbench_table(rows, [[0.1, 0.9], [0.9, 0.9]], seed=0, threshold=0.5)
    assert (table[["f1", "f1_low", "f1_high"]] == 1).all(axis=None)


# -- PRMBench --------------------------------------------------------------------------------------


def f1(pairs, kind):
    """F1 of one kind of step from (label, verdict) pairs, by precision and recall."""
    both = sum(label == verdict == kind for label, verdict in pairs)
    labels, verdicts = (sum(row == kind for row in column) for column in zip(*pairs))
    return harmonic_mean(both / verdicts, both / labels) if both else 0.0


def test_prmbench_by_hand():
    rows = [
        chain("p_0", (1, 1, 0)),
        chain("p_1", (1, 0, 1)),
        chain("p_0", (1, 1), "multi_solutions"),
    ]
    scores = [[0.9, 0.2, 0.1], [0.5, 0.7, 0.6], [0.9, 0.4]]
    table = prmbench_table(rows, scores, seed=0).set_index("class")
    assert table.index.tolist() == ["circular", "multi_solutions", "overall"]
    # circular, right steps: 3 of 4 found, 1 wrong one called right: 6/8; wrong: 1 of 2 found, 1
    # right one called wrong
    assert table.loc["circular", ["right_f1", "wrong_f1", "score"]].tolist() == pytest.approx(
        [6 / 8, 2 / 4, 5 / 8]
    )
    # overall: right 4 of 6, wrong 1 of 2, so 8 / (8 + 3) and 2 / (2 + 3)
    assert table.loc["overall", ["right_f1", "wrong_f1", "score"]].tolist() == pytest.approx(
        [8 / 11, 2 / 5, 31 / 55]
    )
    assert table[["n", "steps", "wrong"]].to_numpy().tolist() == [[2, 6, 2], [1, 2, 0], [3, 8, 2]]
    assert table["aspect"].tolist() == ["simplicity", "sensitivity", "all"]
    only = table.loc["multi_solutions"]
    assert (
        only["right_f1"] == pytest.approx(2 / 3)
        and np.isnan([only["wrong_f1"], only["score"], only["score_low"]]).all()
    )


def test_prmscore_is_the_mean_of_two_f1s():
    rng = np.random.default_rng(1)
    labels = [tuple(int(x) for x in rng.random(5) < 0.8) for _ in range(60)]
    scores = [rng.random(5).round(1).tolist() for _ in labels]
    rows = [chain(f"p_{i}", row, list(ASPECTS)[i % 8]) for i, row in enumerate(labels)]
    table = prmbench_table(rows, scores, seed=0, threshold=0.3).set_index("class")
    for name in [*list(ASPECTS)[:8], "overall"]:
        kept = [i for i, row in enumerate(rows) if name in (row.meta["classification"], "overall")]
        pairs = [(label, int(s >= 0.3)) for i in kept for label, s in zip(labels[i], scores[i])]
        expected = [f1(pairs, 1), f1(pairs, 0), (f1(pairs, 1) + f1(pairs, 0)) / 2]
        assert table.loc[name, ["right_f1", "wrong_f1", "score"]].tolist() == pytest.approx(
            expected
        )
        assert (
            table.loc[name, "score_low"] < table.loc[name, "score"] < table.loc[name, "score_high"]
        )


def test_variants_of_a_problem_are_drawn_together():
    rng = np.random.default_rng(2)
    labels = [tuple(int(x) for x in rng.random(4) < 0.7) for _ in range(40)]
    scores = [rng.random(4).tolist() for _ in labels]
    once = [chain(f"p_{i}", row) for i, row in enumerate(labels)]
    twice = once + [chain(f"p_{i}", row, "confidence") for i, row in enumerate(labels)]
    repeated = once + [chain(f"p_{i}#2", row) for i, row in enumerate(labels)]
    ends = ["score", "score_low", "score_high"]
    single = prmbench_table(once, scores, seed=0).set_index("class").loc["overall", ends].tolist()
    for rows in (twice, repeated):  # copies tell nothing new
        assert (
            prmbench_table(rows, scores * 2, seed=0)
            .set_index("class")
            .loc["overall", ends]
            .tolist()
            == single
        )
    fresh = once + [chain(f"q_{i}", row) for i, row in enumerate(labels)]
    low, high = (
        prmbench_table(fresh, scores * 2, seed=0).set_index("class").loc["overall", ends[1:]]
    )
    assert high - low < 0.9 * (single[2] - single[1])


def test_prmbench_refusals():
    with pytest.raises(ValueError, match="'luck'"):
        prmbench_table([chain("a", (1, 0), "luck")], [[0.5, 0.5]], seed=0)
    with pytest.raises(ValueError, match="circular/a: labels"):
        prmbench_table([chain("a", (1, None))], [[0.5, 0.5]], seed=0)


# -- the real files --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process(real_data):
    return load("processbench", path=real_data / "processbench")


@pytest.fixture(scope="module")
def prm(real_data):
    return load("prmbench", path=real_data / "prmbench" / "prmbench_all.jsonl.gz")


def oracle(solutions):
    """What is labelled wrong scores 0, all else 1."""
    return [[float(label != 0) for label in row.labels] for row in solutions]


def constant(solutions, score):
    return [[score] * len(row.steps) for row in solutions]


def test_processbench_of_an_oracle_and_of_constants(process):
    table = processbench_table(process, oracle(process), seed=0).set_index("subset")
    assert table.index.tolist() == [*SUBSETS, "average", "held out"]
    assert table["n"].tolist() == [400, 1000, 1000, 1000, 3400, 3000]
    assert (table[[c for c in table if c.startswith(("error", "correct", "f1"))]] == 1).all(
        axis=None
    )
    silent = processbench_table(process, constant(process, 1.0), seed=0, threshold=0.5).set_index(
        "subset"
    )
    assert (
        (silent["error"] == 0).all()
        and (silent["correct"] == 1).all()
        and (silent["f1"] == 0).all()
    )
    strict = processbench_table(process, constant(process, 0.0), seed=0, threshold=0.5).set_index(
        "subset"
    )
    # errors at step 0
    first = {"gsm8k": 37 / 207, "math": 115 / 594, "olympiadbench": 48 / 661, "omnimath": 72 / 759}
    assert strict.loc[list(SUBSETS), "error"].to_dict() == pytest.approx(first)
    assert (strict["correct"] == 0).all() and (strict["f1"] == 0).all()


def test_processbench_at_random(process):
    scores = score_solutions(process, Random(0))
    t = 0.2
    table = processbench_table(process, scores, seed=0, threshold=t).set_index("subset")
    for subset in SUBSETS:
        rows = [row for row in process if row.meta["subset"] == subset]
        error = [t * (1 - t) ** row.first_error for row in rows if row.first_error is not None]
        correct = [(1 - t) ** len(row.steps) for row in rows if row.first_error is None]
        for name, chances in (("error", error), ("correct", correct)):
            p = np.mean(chances)
            assert table.loc[subset, name] == pytest.approx(
                p, abs=4 * (p * (1 - p) / len(chances)) ** 0.5
            )
    best = processbench_table(process, scores, seed=0).set_index("subset")
    assert (best["f1"] < 0.3).all() and best.loc["gsm8k", "f1"] >= table.loc["gsm8k", "f1"]


def test_processbench_thresholds_of_one_subset_on_the_others(process):
    rng = np.random.default_rng(0)  # a weak verifier: the truth and noise, as sharp in all subsets
    scores = [[float(s * 0.5 + rng.random()) for s in row] for row in oracle(process)]
    tables = {
        name: processbench_table(process, scores, seed=0, threshold=name).set_index("subset")
        for name in SUBSETS
    }
    for own in SUBSETS:
        found = tables[own]
        assert found["chosen_here"].to_dict()[own] and found["chosen_here"].sum() == 1
        for other in SUBSETS:  # no other threshold is better where it was chosen
            assert found.loc[own, "f1"] >= tables[other].loc[own, "f1"]
        held = [s for s in SUBSETS if s != own]
        assert found.loc["held out", "f1"] == pytest.approx(found.loc[held, "f1"].mean())
        assert found.loc["held out", "n"] == 3400 - found.loc[own, "n"]
    assert len({table["threshold"].iloc[0] for table in tables.values()}) == 4


def test_position_alone_is_no_verifier(process):
    table = processbench_table(
        process, score_solutions(process, Position(), batch=1000), seed=0
    ).set_index("subset")
    assert (table["correct"] < 1).all() and (table["f1"] < 0.35).all()


@pytest.mark.slow
def test_prmbench_of_an_oracle_and_of_constants(prm):
    table = prmbench_table(prm, oracle(prm), seed=0).set_index("class")
    assert table.index.tolist() == [*ASPECTS, "overall"]
    assert table.loc["overall", ["n", "steps", "wrong"]].tolist() == [6216, 83456, 13149]
    assert (
        table.loc["multi_solutions", ["n", "wrong"]].tolist() == [165, 0]
        and table["score"].isna().sum() == 1
    )
    assert (table["right_f1"] == 1).all() and (table["score"].drop("multi_solutions") == 1).all()
    assert (table["score_low"].drop("multi_solutions") == 1).all()
    for score, kind in ((1.0, 1), (0.0, 0)):
        overall = (
            prmbench_table(prm, constant(prm, score), seed=0).set_index("class").loc["overall"]
        )
        named = 83456 - 13149 if kind else 13149
        assert overall["right_f1" if kind else "wrong_f1"] == pytest.approx(
            2 * named / (named + 83456)
        )
        assert overall["wrong_f1" if kind else "right_f1"] == 0
        assert overall["score"] == pytest.approx(named / (named + 83456))


@pytest.mark.slow
def test_prmbench_at_random_and_past_the_end(prm):
    past = [row for row in prm if row.meta["past_end"]]
    assert len(past) == 100 and all(
        i >= len(row.steps) for row in past for i in row.meta["past_end"]
    )
    overall = (
        prmbench_table(prm, score_solutions(prm, Random(0), batch=512), seed=0)
        .set_index("class")
        .loc["overall"]
    )
    share = 13149 / 83456
    # precision: the share; recall: a half
    right, wrong = harmonic_mean(1 - share, 0.5), harmonic_mean(share, 0.5)
    assert overall[["right_f1", "wrong_f1", "score"]].tolist() == pytest.approx(
        [right, wrong, (right + wrong) / 2], abs=0.01
    )
    assert overall["score_low"] < (right + wrong) / 2 < overall["score_high"]
