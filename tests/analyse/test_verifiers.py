"""Step scores against brute force: pairs counted one by one, calibration by hand."""

import time
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from workbench.analyse.verifiers import (
    apply_temperature,
    auc,
    auc_interval,
    fit_temperature,
    position_baseline,
    step_table,
)
from workbench.types import Problem


def problem(name: str, level: int | None = 1) -> Problem:
    return Problem(name, "quantities", "?", level=level)


def random_table(problems=30, *, seed=0, grid=5, signal=1.0):
    """Solutions whose right steps tend to score higher; `grid` coarse scores, so that there are
    ties."""
    rng, rows = np.random.default_rng(seed), []
    for p in range(problems):
        for _ in range(3):
            right = rng.random(rng.integers(1, 7)) < 0.7
            scores = (
                np.round(
                    grid / (1 + np.exp(-signal * (right * 2 - 1) - rng.normal(size=len(right))))
                )
                / grid
            )
            rows.append((problem(f"p{p}", p % 3), scores.tolist(), right.tolist()))
    return step_table(rows)


def auc_within(table: pd.DataFrame, by) -> float:
    return auc_interval(table, seed=0, by=by, draws=1)["value"]


def in_order(table: pd.DataFrame, same=lambda a, b: True) -> float:
    """Share of (right, wrong) pairs that satisfy `same` whose right step scores higher, by looking
    at every pair."""
    steps = table.to_dict("records")
    pairs = [
        (a, b) for a, b in product(steps, steps) if a["right"] and not b["right"] and same(a, b)
    ]
    return np.mean([(a["score"] > b["score"]) + (a["score"] == b["score"]) / 2 for a, b in pairs])


# -- the table -------------------------------------------------------------------------------------


def test_table_ends_at_the_first_fault_and_counts_solutions():
    p, q = problem("p", 2), problem("q", None)
    rows = [
        (p, [0.9, 0.4, 0.8], [1, 0, 1]),
        (q, [0.5], [1]),
        (p, [0.7, 0.6], [1, 1]),
        (p, [0.1, 0.2], [0, 0]),
        (q, [], []),
    ]
    table = step_table(iter(rows))
    assert list(table.columns) == ["problem", "solution", "position", "level", "score", "right"]
    assert table["problem"].tolist() == ["p", "p", "q", "p", "p", "p"]
    assert table["solution"].tolist() == [0, 0, 0, 1, 1, 2]
    assert table["position"].tolist() == [0, 1, 0, 0, 1, 0]
    assert table["score"].tolist() == [0.9, 0.4, 0.5, 0.7, 0.6, 0.1]
    assert table["right"].tolist() == [True, False, True, True, True, False]
    assert step_table([]).empty and list(step_table([]).columns) == list(table.columns)


def test_a_missing_score_is_an_error_never_zero():
    with pytest.raises(ValueError, match="p7: 2 scores for 3 steps"):
        step_table([(problem("p7"), [0.5, 0.5], [True, True, True])])
    with pytest.raises(ValueError, match="p7: a score is NaN"):
        step_table([(problem("p7"), [0.5, float("nan")], [True, True])])


def test_position_baseline_falls_with_the_position():
    table = random_table()
    baseline = position_baseline(table)
    assert (baseline["score"] == -table["position"]).all() and baseline["right"].equals(
        table["right"]
    )
    assert auc_interval(baseline, seed=0)["value"] == pytest.approx(in_order(baseline))
    # nothing is left of it among steps of one position
    assert auc_within(baseline, "position") == 0.5


# -- ranking ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=20))
def test_auc_is_the_share_of_pairs_in_order(steps):
    scores, right = zip(*steps)
    if len(set(right)) == 2:
        pairs = [(a, b) for (a, x), (b, y) in product(steps, steps) if x and not y]
        assert auc(scores, right) == pytest.approx(
            np.mean([(a > b) + (a == b) / 2 for a, b in pairs])
        )


@pytest.mark.parametrize(
    "by", ["position", "problem", "level", ["problem", "position"], ["problem", "solution"]]
)
def test_auc_within_groups_counts_the_pairs_of_a_group(by):
    table = random_table(seed=3)
    keys = [by] if isinstance(by, str) else by
    expected = in_order(table, lambda a, b: all(a[key] == b[key] for key in keys))
    assert auc_within(table, by) == pytest.approx(expected)


def test_auc_within_is_the_mean_weighted_by_pairs():
    rows = [("p", [0.9, 0.1]), ("p", [0.8, 0.3]), ("q", [0.2, 0.7])]
    table = step_table([(problem(name, None), scores, [True, False]) for name, scores in rows])
    assert auc_within(table, "problem") == pytest.approx((4 * 1.0 + 1 * 0.0) / 5)
    # no level at all is a level, too
    assert auc_within(table, "level") == pytest.approx(in_order(table))


def test_scores_that_only_know_the_problem_say_nothing_within_it():
    table = random_table(seed=1)
    share = table.groupby("problem")["right"].transform("mean")
    knows = table.assign(score=share)
    assert auc(knows["score"], knows["right"]) > 0.6 and auc_within(knows, "problem") == 0.5


def resampled(table: pd.DataFrame, *, by_problem: bool, seed: int, draws: int) -> list[float]:
    """The bootstrap by its definition: problems drawn with replacement, rows copied, AUC by
    scikit-learn."""
    rng, names, values = np.random.default_rng(seed), list(table["problem"].unique()), []
    for _ in range(draws):
        drawn = [names[i] for i in rng.integers(len(names), size=len(names))]
        copies = [table[table["problem"] == name].assign(problem=i) for i, name in enumerate(drawn)]
        copy = pd.concat(copies)
        values.append(
            auc_within(copy, "problem")
            if by_problem
            else roc_auc_score(copy["right"], copy["score"])
        )
    return values


@pytest.mark.parametrize("by", [None, "problem"])
def test_interval_draws_whole_problems(by):
    table = random_table(8, seed=2)
    found = auc_interval(table, seed=5, by=by, draws=30)
    expected = np.percentile(
        resampled(table, by_problem=by is not None, seed=5, draws=30), [2.5, 97.5]
    )
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected))
    assert found["low"] < found["value"] < found["high"]
    assert (
        found
        == auc_interval(table, seed=5, by=by, draws=30)
        != auc_interval(table, seed=6, by=by, draws=30)
    )


def test_equal_scores_are_ties_even_at_minus_infinity():
    table = random_table(8, seed=2).assign(score=-np.inf)
    assert auc_interval(table, seed=0)["value"] == 0.5


def test_interval_is_wider_than_steps_alone_would_make_it():
    table = random_table(40, grid=1000)
    # nothing new is known
    copied = pd.concat([table, table.assign(solution=table["solution"] + 3)])
    once, twice = auc_interval(table, seed=0), auc_interval(copied, seed=0)
    assert twice == pytest.approx(once)


def test_interval_is_quick():
    table = random_table(1000, grid=10**6)
    start = time.process_time()
    auc_interval(table, seed=0, draws=200)
    assert time.process_time() - start < 5


# -- calibration -----------------------------------------------------------------------------------


def test_temperature_is_found_again():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.02, 0.98, 20_000)
    right = rng.random(20_000) < p
    for temperature in (0.4, 1.0, 3.0):
        scores = apply_temperature(p, 1 / temperature)  # over- or under-confident by this much
        assert fit_temperature(scores, right) == pytest.approx(temperature, rel=0.06)
    tried = np.linspace(2.5, 3.5, 51)
    best = tried[np.argmin([log_loss(right, apply_temperature(scores, t)) for t in tried])]
    assert fit_temperature(scores, right) == pytest.approx(best, rel=0.01)


def test_temperature_keeps_the_order_and_the_ends():
    scores = np.array([0.0, 0.01, 0.3, 0.5, 0.9, 1.0])
    for temperature in (0.5, 1, 4):
        warm = apply_temperature(scores, temperature)
        assert (np.diff(warm) > 0).all() and warm[3] == 0.5
    np.testing.assert_allclose(apply_temperature(scores, 1.0), scores, atol=2e-6)
    assert np.isfinite(fit_temperature([0, 1, 1], [1, 0, 1]))
    # separable: the lower end
    assert fit_temperature([0.4, 0.6], [0, 1]) == pytest.approx(0.05, rel=0.01)
    # upside down: the upper end
    assert fit_temperature([0.9, 0.1], [0, 1]) == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: auc([0.5, 0.6], [1, 1]), "2 right steps of 2"),
        (lambda: auc([0.5, float("nan")], [1, 0]), "1 of 2 scores are NaN"),
        (lambda: auc([0.5], [1, 0]), "shape"),
        (lambda: auc([], []), "shape"),
        (lambda: auc_within(random_table(), ["problem", "solution", "position"]), "no pairs"),
        (lambda: auc_interval(random_table().query("right"), seed=0), "no pairs"),
        (lambda: auc_interval(step_table([]), seed=0), "at least 1"),
        (lambda: fit_temperature([float("nan")], [1]), "1 of 1 scores are NaN"),
        (lambda: fit_temperature([-0.1], [1]), "score -0.1"),
        (lambda: apply_temperature([0.5], 0), "temperature 0"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
