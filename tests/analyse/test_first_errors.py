"""First errors against brute force: every threshold tried, halves by hand, F1 over problems."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyse.first_errors import (
    best_threshold,
    f1_gain,
    f1_interval,
    first_error_hits,
    first_errors,
)
from workbench.analyse.metrics import processbench_f1


def every_threshold(step_scores, labels):
    """The best F1 by trying a threshold at, and beyond, every score."""
    tried = [*{score for scores in step_scores for score in scores}, -math.inf, math.inf]
    return max(processbench_f1(first_errors(step_scores, t), labels) for t in tried)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(-1, 4)),
        min_size=2,
        max_size=8,
    )
)
def test_best_threshold_is_the_best_of_all(solutions):
    step_scores, labels = zip(*[(scores, min(t, len(scores) - 1)) for scores, t in solutions])
    if -1 in labels and set(labels) != {-1}:
        threshold = best_threshold(step_scores, labels)
        f1 = processbench_f1(first_errors(step_scores, threshold), labels)
        assert f1 == pytest.approx(every_threshold(step_scores, labels))


def test_best_threshold_between_neighbouring_floats():
    low = 0.5
    high = math.nextafter(low, 1)
    threshold = best_threshold([[high, low], [high]], [1, None])
    assert first_errors([[high, low], [high]], threshold) == [1, -1]
    # nothing separates them, and it does not fail
    assert best_threshold([[0.5], [0.5]], [0, -1]) == 0.5


def test_best_threshold_of_many_solutions_is_quick():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 10_000)
    step_scores = [rng.random(n).tolist() for n in lengths]
    labels = [int(rng.integers(-1, n)) for n in lengths]
    start = time.process_time()
    threshold = best_threshold(step_scores, labels)
    assert time.process_time() - start < 1.5
    f1 = processbench_f1(first_errors(step_scores, threshold), labels)
    tried = np.linspace(0, 1, 11)
    assert f1 >= max(processbench_f1(first_errors(step_scores, t), labels) for t in tried)


def test_first_errors_are_strictly_below():
    assert first_errors([[0.5, 0.4], [0.5], []], 0.5) == [1, -1, -1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: best_threshold([[0.5]], [0, 1]), "1 solutions for 2 labels"),
        (lambda: best_threshold([[0.5], [0.4]], [1, -1]), "first error 1 with scores"),
        (lambda: best_threshold([[0.5], []], [0, -1]), "first error -1 with scores"),
        (lambda: best_threshold([[0.5, float("nan")], [0.4]], [0, -1]), "a number per step"),
        (lambda: best_threshold([[0.5], [0.4]], [0, 0]), "2 solutions with an error, 0 without"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_f1_interval_is_the_f1_of_processbench_and_draws_whole_problems():
    rng = np.random.default_rng(3)
    labels = [int(i) if i >= 0 else None for i in rng.integers(-1, 3, 200)]
    guess = [x if rng.random() < 0.7 else -1 for x in labels]
    one_each = f1_interval([str(i) for i in range(200)], guess, labels, seed=0)
    assert one_each["value"] == pytest.approx(processbench_f1(guess, labels))
    assert one_each["low"] < one_each["value"] < one_each["high"]
    copies = f1_interval([str(i % 200) for i in range(800)], guess * 4, labels * 4, seed=0)
    assert copies == pytest.approx(one_each)  # copies of a problem's solutions tell nothing new
    with pytest.raises(ValueError, match="need as many"):
        f1_interval(["a"], [0, 1], [0, 1], seed=0)


def test_the_gain_in_f1_is_a_paired_difference():
    rng = np.random.default_rng(0)
    problems, labels = [f"p{i // 4}" for i in range(80)], rng.integers(-1, 3, 80).tolist()
    one, other = ([t if rng.random() < p else -1 for t in labels] for p in (0.9, 0.5))
    hits = [first_error_hits(problems, guess, labels) for guess in (one, other)]
    gain = f1_gain(*hits, seed=0)
    f1s = [f1_interval(problems, guess, labels, seed=0)["value"] for guess in (one, other)]
    assert (
        gain["value"] == pytest.approx(f1s[0] - f1s[1])
        and 0 < gain["low"] < gain["value"] < gain["high"]
    )
    assert f1_gain(hits[0], hits[0], seed=0) == {"value": 0.0, "low": 0.0, "high": 0.0}
    with pytest.raises(ValueError, match="19 and 20 problems"):
        f1_gain(hits[0][1:], hits[1], seed=0)


@pytest.mark.filterwarnings("error")
def test_draws_without_both_kinds_are_left_out_of_intervals():
    """Two problems, one with an error: half of the draws lack a kind, all others hit everything."""
    assert f1_interval(["a", "b"], [0, -1], [0, -1], seed=0) == {"value": 1, "low": 1, "high": 1}
    hits, none = (first_error_hits(["a", "b"], guess, [0, -1]) for guess in ([0, -1], [-1, 0]))
    assert f1_gain(hits, none, seed=0) == {"value": 1, "low": 1, "high": 1}
    alone = f1_interval(["a", "b"], [0, 0], [0, 1], seed=0)
    assert all(math.isnan(x) for x in alone.values())
