import numpy as np
import pytest

from workbench.analyse.process_truth import trace_error, trace_error_ratio, wrong_steps
from workbench.problems import check_steps, quantities
from workbench.types import Prefix, SearchResult, Step


def solved(problem, *texts):
    return Prefix(problem, tuple(Step(text) for text in texts), "end")


def test_a_sample_with_a_wrong_step_is_found():
    problem = quantities.generate(1, levels=[3], seed=0, split="train")[0]
    gold = problem.solution.split("\n")
    spoilt = [gold[0].replace(gold[0].split()[-2], "999"), *gold[1:]]
    assert check_steps(problem, gold) == [True] * len(gold)
    assert not all(check_steps(problem, spoilt))
    pool = [SearchResult(problem, (solved(problem, *gold), solved(problem, *spoilt)))]
    assert wrong_steps(pool).tolist() == [[False, True]]
    with pytest.raises(ValueError, match=r"pools of \[1, 2\] samples"):
        wrong_steps([*pool, SearchResult(problem, (solved(problem, *gold),))])


def test_the_share_is_of_right_answers_and_its_interval_covers():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        right = rng.random((80, 8)) < 0.6
        wrong = rng.random((80, 8)) < 0.25
        found = trace_error(right, wrong, seed=seed)
        assert found["value"] == (right & wrong).sum() / right.sum()
        covered += found["low"] <= 0.25 <= found["high"]
    assert 88 <= covered <= 100


def test_without_a_right_answer_there_is_no_share():
    none = trace_error(np.zeros((3, 2)), np.ones((3, 2)), seed=0)
    assert all(np.isnan(x) for x in none.values())
    with pytest.raises(ValueError, match="need one shape"):
        trace_error(np.zeros((3, 2)), np.ones((3, 1)), seed=0)


def test_a_ratio_is_paired_over_problems():
    rng = np.random.default_rng(1)
    right, wrong = rng.random((2, 60, 8)) < [[[0.6]], [[0.3]]]
    same = trace_error_ratio((right, wrong), (right, wrong), seed=0)
    assert same == {"value": 1.0, "low": 1.0, "high": 1.0}
    half = wrong & (np.arange(8) % 2 == 0)
    found = trace_error_ratio((right, half), (right, wrong), seed=0)
    assert found["value"] == (right & half).sum() / (right & wrong).sum()
    assert found["low"] < found["value"] < found["high"] < 1
