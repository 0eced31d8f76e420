"""What is written as JSON lines is read back equal, types included."""

import json
import math
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.jsonl import from_json, from_plain, to_json, to_plain
from workbench.types import (
    Budget,
    LabelledSolution,
    Meter,
    Prefix,
    Problem,
    Sample,
    SearchResult,
    Step,
)

PROBLEM = Problem("p", "math", "1 + 1?", "2", level=3, meta={"tags": ["a"], "at": (1, 2)})


def again(value):
    return from_plain(json.loads(json.dumps(to_plain(value))))


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.text() | st.integers() | st.tuples(st.text(), st.booleans()) | st.sampled_from(["@list"])
nested = st.recursive(
    plain | st.builds(Step, st.text(), st.tuples(st.integers()), st.tuples(st.floats(-1, 0))),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner),
    max_leaves=8,
)


def typed(value):
    """The value with the type of every part beside it: 1 is neither 1.0 nor True."""
    if isinstance(value, dict):
        return dict, [(typed(key), typed(x)) for key, x in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [typed(x) for x in value]
    return type(value), typed(vars(value)) if isinstance(value, Step) else value


@given(nested)
def test_any_value_comes_back_equal_and_of_the_same_type(value):
    assert typed(again(value)) == typed(value)


def test_a_whole_result_comes_back_equal_with_records_in_meta():
    ends = [Prefix(PROBLEM, (Step("2", (5,), (-0.5,)),), "end"), Prefix.of(PROBLEM.blind(), ["x"])]
    meta = {"ends": ends, "budget": Budget(3, "samples"), "by": {("a", 1): [1, (2, None)]}}
    row = LabelledSolution(PROBLEM, ("a", "b"), (1, None), (0.5, None), "completions", meta)
    result = SearchResult(
        PROBLEM, tuple(ends[:1]), (0.25,), ends[0], (row,), ((0.25,),), Meter(samples=2, flops=1e9)
    )
    back = from_json(json.loads(json.dumps(to_json(result))))
    assert back == result
    assert type(back.labelled[0].meta["ends"]) is list
    assert type(back.labelled[0].meta["ends"][1]) is Prefix
    assert back.labelled[0].meta["by"] == {("a", 1): [1, (2, None)]}
    assert back.problem.meta == {"tags": ["a"], "at": (1, 2)}
    assert back.best is back.rollouts[0]


def test_the_best_may_be_none_of_the_rollouts_and_errors_are_kept():
    other = Prefix.of(PROBLEM, ["y"], ended=True)
    result = SearchResult(PROBLEM, best=other, error="broke", stopped="budget")
    assert from_json(json.loads(json.dumps(to_json(result)))) == result


def test_the_problem_is_written_once():
    many = tuple(Prefix.of(PROBLEM, [str(i)], ended=True) for i in range(50))
    assert json.dumps(to_json(SearchResult(PROBLEM, many))).count("1 + 1?") == 1


def test_numbers_of_numpy_become_plain_and_infinity_stays():
    assert again(np.float32(0.5)) == 0.5 and again(np.int64(3)) == 3
    assert again((math.inf, -math.inf)) == (math.inf, -math.inf)


def test_what_cannot_come_back_is_refused_by_name():
    with pytest.raises(ValueError, match="a set can't be saved"):
        to_plain({"meta": {1, 2}})
    with pytest.raises(ValueError, match="a object can't be saved"):
        to_plain((Sample([Prefix(PROBLEM)]), object()))
    pair = namedtuple("Pair", "a b")
    with pytest.raises(ValueError, match="a Pair can't be saved"):
        to_plain([pair(1, 2)])
