"""Curves from a pool: equal to brute force, bands over problems, bad pools named."""

from itertools import combinations

import numpy as np
import pytest

from workbench.analyse.scaling import answers_of, correctness, curve, doublings, majority_curve, pass_curve
from workbench.types import Prefix, Problem, SearchResult

PROBLEM = Problem("p", "quantities", "How many?", "7")


def result(*lines: str, stop: bool = True) -> SearchResult:
    rollouts = tuple(Prefix.of(PROBLEM, ["x", line], ended=stop) for line in lines)
    return SearchResult(PROBLEM, rollouts)


def test_answers_and_correctness_read_the_last_step():
    results = [
        result("The answer is 7 .", "The answer is 17 .", "no answer here 7 x"),
        result(*["The answer is 7 ."] * 3),
    ]
    assert answers_of(results)[0][:2] == ["7", "17"]
    assert correctness(results)[:, :2].tolist() == [[True, False], [True, True]]
    assert answers_of([result("The answer is 7 .", stop=False)]) == [[None]]  # ran out of room
    with pytest.raises(ValueError, match=r"pools of \[1, 2\]"):
        correctness([result("a"), result("a", "b")])


def test_pass_curve_is_the_mean_over_all_subsets():
    correct = np.array([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]], bool)
    for row in pass_curve(correct, seed=0):
        subsets = list(combinations(range(5), row["budget"]))
        assert row["value"] == pytest.approx(np.mean([correct[:, list(s)].any(1).mean() for s in subsets]))
        assert row["low"] <= row["value"] <= row["high"]


def test_majority_curve_is_the_mean_over_all_subsets_with_shared_ties():
    answers = [["7", "7", "8", "9"], ["1", "2", "2", None]]
    for row in majority_curve(answers, ["7", "2"], seed=0):
        values = []
        for pool, gold in zip(answers, ["7", "2"]):
            for subset in combinations(pool, row["budget"]):
                counts = {a: subset.count(a) for a in subset if a is not None}
                best = [a for a in counts if counts[a] == max(counts.values())]
                values.append((gold in best) / len(best) if best else 0)
        assert row["value"] == pytest.approx(np.mean(values))


def test_rows_carry_what_they_are_told():
    rows = curve("greedy", [1, 2], np.ones((3, 2)), seed=0, level=4)
    assert rows[1] == {"method": "greedy", "budget": 2, "value": 1.0, "low": 1.0, "high": 1.0, "level": 4}
    assert doublings(64) == [1, 2, 4, 8, 16, 32, 64] and doublings(1) == [1]
