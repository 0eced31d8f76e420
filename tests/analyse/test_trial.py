"""The trial of a verifier against loops over pairs, subsets and steps, on pools small enough to
see."""

import random
from itertools import combinations, product

import numpy as np
import pytest
from scripted import Judge, constant, oracle

from workbench.analyse.first_errors import best_threshold
from workbench.analyse.trial import forgiving_fault, trial
from workbench.analyse.verifiers import apply_temperature
from workbench.models.baselines import Position
from workbench.problems import check_steps, explain, programs, quantities
from workbench.types import Prefix, Problem, SearchResult, Unreadable

TESS, AVA = "Tess has 2 more than Max : 5 + 2 = 7 .", "Ava has 4 more than Tess : 7 + 4 = 11 ."
SLIP, CARRIED = TESS.replace("7", "8"), "Ava has 4 more than Tess : 8 + 4 = 12 ."
END = "The answer is 11 ."
COINS = Problem(
    "coins",
    "quantities",
    "How many coins does Ava have? Max has 5 coins. Tess has 2 more than Max. "
    "Ava has 4 more than Tess.",
    "11",
)


def spoilt(problem: Problem, rng: random.Random) -> list[str]:
    """The gold solution; one time in two a line of it has another value, is missing or is said
    twice."""
    steps = problem.solution.split("\n")
    t, how = rng.randrange(len(steps) - 1), rng.choice(["slip", "drop", "twice", *["right"] * 3])
    if how == "slip":
        steps[t] = steps[t].replace(" .", "1 .")
        if rng.random() < 0.5:
            steps[-1] = "The answer is 999 ."
    if how == "drop":
        del steps[t]
    if how == "twice":
        steps.insert(t, steps[t])
    return steps


def pool_of(problems, n=5, seed=0) -> list[SearchResult]:
    rng = random.Random(seed)
    rows = [(p, [spoilt(p, rng) for _ in range(n)]) for p in problems]
    return [
        SearchResult(p, tuple(Prefix.of(p, steps, ended=True) for steps in own)) for p, own in rows
    ]


def of_kind(kind, seed, count=6):
    if kind == "quantities":
        return quantities.generate(count, levels=[2, 3, 4], seed=seed, split="validation")
    return programs.generate(count, levels=[2, 3, 4], seed=seed)


def noisy(results, seed=0, noise=0.3):
    """Scores on a grid of tenths, higher for right steps: by problem and steps up to here."""

    def function(problem, texts):
        out = []
        for t, right in enumerate(check_steps(problem, texts), start=1):
            u = random.Random(f"{seed}{problem.id}{texts[:t]}").random()
            out.append(round(min(1, max(0, right * (1 - noise) + noise * (2 * u - 1) + 0.1)), 1))
        return out

    return Judge([result.problem for result in results], function)


class Whole:
    """One score per solution, from (problem with answer, texts)."""

    per = "solution"

    def __init__(self, results, function):
        self.judge = Judge([r.problem for r in results], lambda *row: [function(*row)])
        self.score = self.judge.score


def ece(scores, right):
    """Expected calibration error in ten bins, by its definition."""
    gaps = np.asarray(scores, float) - np.asarray(right, float)
    bins = np.minimum(np.floor(np.asarray(scores) * 10 + 1e-9), 9)  # an edge belongs above
    return sum(abs(gaps[bins == b].sum()) for b in range(10)) / len(gaps)


def got(found, measure, at="all"):
    row = found.table.loc[(measure, at)]
    assert row["low"] <= row["value"] <= row["high"] or measure == "ECE"  # folded at 0: biased up
    return row["value"]


def flat(found, results):
    """(problem, texts, scores) of every solution."""
    return [
        (result.problem, rollout.texts, own)
        for result, row in zip(results, found.scores)
        for rollout, own in zip(result.rollouts, row)
    ]


def first_wrong(right):
    return list(right).index(False) if False in right else -1


def right_answer(problem, texts):
    return texts[-1] == f"The answer is {problem.answer} ."


# -- against loops ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["quantities", "programs"])
def tried(request):
    """A pool of a kind, its trial by a noisy verifier, and the threshold and the pool behind it."""
    results, others = (pool_of(of_kind(request.param, seed), seed=seed) for seed in (1, 2))
    found = trial(noisy([*results, *others]), results, seed=0, choose_on=others)
    return results, others, found


def test_nothing_is_nan_and_every_number_is_named(tried):
    _, _, found = tried
    assert not found.table.isna().any().any() and (found.table["n"] > 0).all()
    assert found.table.index.is_unique and list(found.table.index.names) == ["measure", "at"]
    assert list(found.table.columns) == ["n", "value", "low", "high"]
    assert set(found.left_out) & set(found.table.index) == set()
    assert all(isinstance(why, str) and why for why in found.left_out.values())


def test_auc_counts_pairs_of_steps_up_to_the_first_fault(tried):
    results, _, found = tried
    steps = []
    for problem, texts, scores in flat(found, results):
        for t, (score, right) in enumerate(zip(scores, check_steps(problem, texts))):
            steps.append((problem.id, t, score, right))
            if not right:
                break

    def in_order(key, same=lambda a, b: True):
        pairs = [(a, b) for a, b in product(steps, steps) if a[3] and not b[3] and same(a, b)]
        return np.mean([(key(a) > key(b)) + (key(a) == key(b)) / 2 for a, b in pairs])

    assert got(found, "step AUC") == pytest.approx(in_order(lambda step: step[2]))
    within = in_order(lambda step: step[2], lambda a, b: a[0] == b[0])
    assert got(found, "step AUC", "within a problem") == pytest.approx(within)
    alone = in_order(lambda step: -step[1])
    assert got(found, "step AUC", "position alone") == pytest.approx(alone)
    scores, right = [step[2] for step in steps], [step[3] for step in steps]
    assert found.table.loc[("ECE", "as read"), "n"] == len(steps)
    assert got(found, "ECE", "as read") == pytest.approx(ece(scores, right))
    warm = apply_temperature(scores, found.temperature)
    assert got(found, "ECE", "after a temperature") == pytest.approx(ece(warm, right))


def test_first_errors_are_those_of_the_exact_truth_at_a_threshold_of_other_problems(tried):
    results, others, found = tried
    chosen = [(r.problem, x.texts) for r in others for x in r.rollouts]
    judge = noisy(others)
    scores = [judge.function(problem, texts) for problem, texts in chosen]
    truth = [first_wrong(check_steps(problem, texts)) for problem, texts in chosen]
    assert found.threshold == best_threshold(scores, truth)
    rows = []
    for problem, texts, own in flat(found, results):
        guess = first_wrong([score >= found.threshold for score in own])
        faults = explain(problem, texts)
        t = first_wrong([fault is None for fault in faults])
        kind = faults[t].split(":")[0] if t >= 0 else ""
        rows.append((guess, t, kind, right_answer(problem, texts)))
    error = np.mean([guess == t for guess, t, *_ in rows if t >= 0])
    clean = np.mean([guess == t for guess, t, *_ in rows if t < 0])
    assert got(found, "hit rate", "exact") == pytest.approx(error)
    assert got(found, "clean passed", "exact") == pytest.approx(clean)
    f1 = 2 * error * clean / (error + clean)
    assert got(found, "first-error F1", "exact") == pytest.approx(f1)
    lucky = [guess >= 0 for guess, t, _, right in rows if t >= 0 and right]
    assert got(found, "right by wrong steps caught", "exact") == pytest.approx(np.mean(lucky))
    kinds = {kind for _, _, kind, _ in rows} - {""}
    assert {"restated", "not yet derivable"} <= kinds
    for kind in kinds:
        hits = [guess == t for guess, t, own, _ in rows if own == kind]
        assert got(found, "hit rate", kind) == pytest.approx(np.mean(hits))
        assert found.table.loc[("hit rate", kind), "n"] == len(hits)
    assert ("hit rate", "malformed") in found.left_out


def test_bias_compares_right_steps_above_the_median_with_the_rest(tried):
    results, _, found = tried
    steps = []
    for problem, texts, scores in flat(found, results):
        right = check_steps(problem, texts)
        until = len(texts) - 1 if all(right) else min(right.index(False), len(texts) - 1)
        steps += [(len(texts[t].split()), t, scores[t]) for t in range(until)]
    for i, at in ((0, "longer"), (1, "later")):
        middle = np.median([step[i] for step in steps])
        more, rest = ([s[2] for s in steps if (s[i] > middle) == side] for side in (True, False))
        if not more:  # programs: all steps have as many words
            assert ("bias to the", at) in found.left_out
            continue
        share = np.mean([(a > b) + (a == b) / 2 for a, b in product(more, rest)])
        assert got(found, "bias to the", at) == pytest.approx(share)


def test_best_of_n_is_the_mean_over_all_subsets(tried):
    results, _, found = tried
    for k in (1, 2, 4):
        best, some, votes = [], [], []
        for result, row in zip(results, found.scores):
            texts = [rollout.texts for rollout in result.rollouts]
            right = [right_answer(result.problem, own) for own in texts]
            for chosen in combinations(range(len(texts)), k):
                top = max(min(row[i]) for i in chosen)
                best.append(np.mean([right[i] for i in chosen if min(row[i]) == top]))
                some.append(any(right[i] for i in chosen))
                ends = [texts[i][-1] for i in chosen]
                most = {end for end in ends if ends.count(end) == max(map(ends.count, ends))}
                votes.append(sum(f" {result.problem.answer} ." in end for end in most) / len(most))
        assert got(found, "best of n", k) == pytest.approx(np.mean(best))
        assert got(found, "pass@k", k) == pytest.approx(np.mean(some))
        assert got(found, "majority", k) == pytest.approx(np.mean(votes))
        gap = np.mean(best) - np.mean(votes)
        assert got(found, "best of n minus majority", k) == pytest.approx(gap)


# -- verifiers whose numbers are known -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["quantities", "programs"])
def test_an_oracle_is_perfect_but_for_what_the_forgiving_convention_calls_right(kind):
    results, others = (pool_of(of_kind(kind, seed, 12), seed=seed) for seed in (3, 4))
    knows = oracle([result.problem for result in [*results, *others]])
    found = trial(knows, results, seed=0, choose_on=others)
    exact = ["first-error F1", "hit rate", "clean passed", "right by wrong steps caught"]
    assert [got(found, measure, "exact") for measure in exact] == [1] * 4
    assert got(found, "step AUC") == got(found, "hit rate", "restated") == 1
    assert got(found, "ECE", "as read") == 0 and got(found, "bias to the", "later") == 0.5
    # those who only say a line twice are no longer wrong, and the oracle flags them
    assert got(found, "clean passed", "restating forgiven") < 1
    assert got(found, "hit rate", "restating forgiven") == 1
    assert got(found, "best of n past its peak", 4) == 0


def test_position_alone_is_what_the_baseline_gets():
    results, others = (pool_of(of_kind("quantities", seed, 12), seed=seed) for seed in (5, 6))
    found = trial(Position(), results, seed=0, choose_on=others)
    assert got(found, "step AUC") == got(found, "step AUC", "position alone")
    assert got(found, "bias to the", "later") == 0
    assert got(found, "tokens read per solution") == got(found, "unread") == 0


def test_a_constant_verifier_finds_nothing_and_has_no_bias():
    results = pool_of(of_kind("quantities", 7))
    found = trial(constant([r.problem for r in results]), results, seed=0, threshold=0.4)
    assert got(found, "step AUC") == got(found, "bias to the", "later") == 0.5
    assert got(found, "first-error F1", "exact") == 0 == got(found, "hit rate", "exact")
    assert got(found, "clean passed", "exact") == 1
    assert got(found, "best of n", 4) == pytest.approx(got(found, "pass@k", 1))


def test_a_fooled_verifier_falls_past_its_peak():
    """One wrong solution of eight has the highest score; the others are ordered rightly."""
    problems = of_kind("quantities", 8, 10)
    wrong = [["The answer is 998 ."], *[["The answer is 999 ."]] * 3]
    results = [
        SearchResult(
            p, tuple(Prefix.of(p, s, ended=True) for s in [*wrong, *[p.solution.split("\n")] * 4])
        )
        for p in problems
    ]

    def score(problem, texts):
        return 0.9 if texts[-1] == wrong[0][0] else 0.2 + right_answer(problem, texts) / 2

    found = trial(Whole(results, score), results, seed=0)
    curve = [got(found, "best of n", k) for k in (1, 2, 4, 8)]
    assert curve[0] == 0.5 and curve[1] == max(curve) and curve[3] == 0
    assert got(found, "best of n past its peak", 8) == pytest.approx(-curve[1])


# -- self-correction -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "exact", "forgiven"),
    [
        ([TESS, AVA, END], -1, -1),
        ([TESS, TESS, AVA, END], 1, -1),
        ([TESS, AVA, TESS, AVA, END], 2, -1),
        ([TESS, SLIP, CARRIED, "The answer is 12 ."], 1, 1),  # a wrong second statement
        ([TESS, TESS, AVA, "The answer is 12 ."], 1, 3),  # the next fault
        ([SLIP, TESS, AVA, END], 0, 0),  # corrected: the slip was the first fault all the same
        ([TESS, "Max has 5 more than Tess : 7 + 5 = 12 .", AVA, END], 1, 1),  # of a given
        ([TESS, AVA, END, TESS], 3, 3),  # after the answer
        (["?"], 0, 0),
    ],
)
def test_a_right_second_statement_is_forgiven_and_nothing_else(steps, exact, forgiven):
    assert first_wrong(check_steps(COINS, steps)) == exact
    assert forgiving_fault(COINS, steps) == forgiven


def test_both_conventions_are_in_the_table():
    said_twice, slip = [TESS, TESS, AVA, END], [SLIP, CARRIED, "The answer is 12 ."]
    rollouts = [Prefix.of(COINS, s, ended=True) for s in ([TESS, AVA, END], said_twice, slip)]
    results = [SearchResult(COINS, tuple(rollouts))]
    blames = Judge([COINS], lambda _, texts: [float(text != SLIP) for text in texts])
    found = trial(blames, results, seed=0, threshold=0.5)
    rates = [(got(found, "hit rate", at), got(found, "clean passed", at))
             for at in ("exact", "restating forgiven")]  # fmt: skip
    assert rates == [(0.5, 1), (1, 1)]
    assert got(found, "right by wrong steps caught", "exact") == 0
    assert ("right by wrong steps caught", "restating forgiven") in found.left_out
    assert (
        got(found, "hit rate", "restated") == 0 and got(found, "hit rate", "arithmetic slip") == 1
    )


# -- verifiers per solution, unread solutions, costs -----------------------------------------------


def test_a_verifier_per_solution_is_held_against_answers():
    results, others = (pool_of(of_kind("quantities", seed, 8), seed=seed) for seed in (9, 10))

    def score(problem, texts):
        u = random.Random(f"{problem.id}{texts}").random()
        return round(0.5 * right_answer(problem, texts) + 0.5 * u, 1)

    found = trial(Whole([*results, *others], score), results, seed=0, choose_on=others)
    assert not found.table.isna().any().any()
    rows = [(own[0], right_answer(p, t), check_steps(p, t)) for p, t, own in flat(found, results)]
    good, bad = ([s for s, right, _ in rows if right == side] for side in (True, False))
    pairs = np.mean([(a > b) + (a == b) / 2 for a, b in product(good, bad)])
    assert got(found, "solution AUC") == pytest.approx(pairs) and pairs > 0.7
    known = [(score(r.problem, x.texts), right_answer(r.problem, x.texts))
             for r in others for x in r.rollouts]  # fmt: skip
    truth = [-1 if right else 0 for _, right in known]
    assert found.threshold == best_threshold([[s] for s, _ in known], truth)
    assert 0.3 < found.threshold < 0.7
    lucky = [s < found.threshold for s, right, steps in rows if right and not all(steps)]
    assert got(found, "right by wrong steps caught", "exact") == pytest.approx(np.mean(lucky))
    assert got(found, "ECE", "as read") == pytest.approx(ece(*zip(*[row[:2] for row in rows])))
    assert {key[0] for key in found.left_out} >= {"first-error F1, hit rate", "bias to the"}
    measures = {measure for measure, _ in found.table.index}
    assert not measures & {"step AUC", "first-error F1", "hit rate", "clean passed", "bias to the"}


class Short:
    """An oracle that reads at most `most` steps and counts what it reads; sees no answers."""

    per = "step"

    def __init__(self, results, most):
        self.oracle, self.most = oracle([r.problem for r in results]), most

    def score(self, prefixes, *, meters=None):
        assert not any(p.problem.answer or p.problem.solution for p in prefixes)
        if any(len(p.steps) > self.most for p in prefixes):
            raise Unreadable("too long")
        for prefix, meter in zip(prefixes, meters):
            meter.verifier += len(prefix.steps)
        return self.oracle.score(prefixes)


def test_an_unread_solution_is_missed_counted_and_chosen_last():
    right, wrong = [TESS, AVA, END], [SLIP, CARRIED, "The answer is 12 ."]
    long = [[TESS, TESS, AVA, END], [*right, TESS]]
    rollouts = tuple(Prefix.of(COINS, s, ended=True) for s in (right, wrong, wrong, *long))
    found = trial(Short([SearchResult(COINS)], 3), [SearchResult(COINS, rollouts)], seed=0,
                  threshold=0.5)  # fmt: skip
    assert got(found, "unread") == 2 / 5 and found.table.loc[("unread", "all"), "n"] == 5
    assert [own is None for own in found.scores[0]] == [False] * 3 + [True] * 2
    assert got(found, "hit rate", "exact") == 2 / 4 and got(found, "clean passed", "exact") == 1
    assert got(found, "hit rate", "restated") == got(found, "hit rate", "after the answer") == 0
    assert got(found, "right by wrong steps caught", "exact") == 0
    assert got(found, "step AUC") == 1 and found.table.loc[("step AUC", "all"), "n"] == 5
    assert got(found, "tokens read per solution") == 9 / 5
    # of two: the right one in 4 pairs; one wrong and the other wrong or unread in 5; both unread
    both = np.mean([end == END for end in (long[0][-1], long[1][-1])])
    assert got(found, "best of n", 2) == pytest.approx((4 + both) / 10)


def test_rows_of_batch_invariance_are_taken_over():
    results = pool_of(of_kind("quantities", 11, 2))
    gaps = [
        {"dtype": "float32", "batch_size": 8, "n": 40, "rows": 3, "largest": 2e-7, "mean": 1e-8}
    ]
    found = trial(constant([r.problem for r in results]), results, seed=0, invariance=gaps)
    row = found.table.loc[("largest gap in a batch", "float32, 8")]
    assert row.tolist() == [40, 2e-7, 2e-7, 2e-7]


def test_what_needs_another_pool_is_left_out_and_says_so():
    results, others = (pool_of(of_kind("quantities", seed, 3), 3) for seed in (12, 13))
    judge = noisy([*results, *others])
    bare = trial(judge, results, seed=0)
    assert bare.threshold is None and bare.temperature is None
    assert ("threshold, and all first errors", "all") in bare.left_out
    assert "choose_on" in bare.left_out["ECE", "after a temperature"]
    assert "first-error F1" not in bare.table.index.get_level_values("measure")
    chosen = trial(judge, results, seed=0, choose_on=others, threshold=0.5)
    assert chosen.threshold == 0.5 and chosen.temperature is not None
    again = trial(judge, results, seed=0, threshold=0.5, temperature=chosen.temperature)
    assert again.table.equals(chosen.table)


# -- bad input -------------------------------------------------------------------------------------

RESULTS = pool_of([of_kind("quantities", 14, 1)[0]], n=3)
ALL_RIGHT = SearchResult(COINS, (Prefix.of(COINS, [TESS, AVA, END], ended=True),))
ODD = SearchResult(COINS, RESULTS[0].rollouts[:1])
MATH = Problem("m", "math", "1 + 1", "2")


@pytest.mark.parametrize(
    ("results", "options", "message"),
    [
        ([], {}, "0 problems, 0 different"),
        (RESULTS * 2, {}, "2 problems, 1 different: need each in one pool"),
        (RESULTS, {"choose_on": RESULTS}, "2 problems, 1 different: need each in one pool"),
        ([*RESULTS, ODD], {}, r"pools of \[1, 3\] samples"),
        ([SearchResult(COINS)], {}, "coins: need rollouts, and steps in each"),
        ([SearchResult(COINS, (Prefix(COINS),))], {}, "coins: need rollouts, and steps in each"),
        (
            [SearchResult(MATH, (Prefix.of(MATH, ["2"], ended=True),))],
            {},
            "no exact truth for kind 'math'",
        ),
        (RESULTS, {"aggregate": "median"}, "aggregate 'median': use min"),
        (RESULTS, {"choose_on": [ALL_RIGHT]}, "0 solutions with an error, 1 without"),
        (RESULTS, {"temperature": 0.0}, "temperature 0.0: must be positive"),
        (RESULTS, {"invariance": [{"dtype": "float32"}]}, "lacks batch_size, largest, n"),
    ],
)
def test_bad_input_is_one_line(results, options, message):
    problems = [COINS, MATH, *(r.problem for r in RESULTS)]
    with pytest.raises(ValueError, match=message) as error:
        trial(Judge(problems, lambda _, texts: [0.5] * len(texts)), results, seed=0, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _, texts: [0.5], r"scores \[0.5\], need 3 in \[0, 1\]"),
        (lambda _, texts: [0.5, 0.5, float("nan")], r"scores .*nan\], need 3 in \[0, 1\]"),
        (lambda _, texts: [0.5, 0.5, -2.0], r"scores .*-2.0\], need 3 in \[0, 1\]"),
    ],
)
def test_scores_that_do_not_fit_are_errors(function, message):
    with pytest.raises(ValueError, match=f"coins: {message}"):
        trial(Judge([COINS], function), [ALL_RIGHT], seed=0)


def test_replies_must_be_as_many_and_something_must_be_read():
    judge = constant([COINS])
    judge.score = lambda prefixes, *, meters=None: []
    with pytest.raises(ValueError, match="coins: 0 replies to 1 rollouts"):
        trial(judge, [ALL_RIGHT], seed=0)
    with pytest.raises(ValueError, match="none of 1 solutions could be read"):
        trial(Short([ALL_RIGHT], 2), [ALL_RIGHT], seed=0)
