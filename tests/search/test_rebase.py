"""REBASE: how children are shared out, and that the weights matter."""

from itertools import pairwise
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played import Branches, play, scores_by

from workbench.search import METHODS
from workbench.search.rebase import allocate
from workbench.types import Problem

PROBLEM = Problem("p", "math", "?")


def test_the_reference_values():
    assert allocate([0.9, 0.5, 0.1], 8, temperature=1) == [4, 3, 1]
    assert allocate([0.1, 0.9, 0.5], 8, temperature=1) == [1, 4, 3]  # in the order given
    assert allocate([0.5] * 4, 8, temperature=0.2) == [2, 2, 2, 2]
    assert allocate([0.5] * 3, 8, temperature=0.2) == [3, 3, 2]
    assert allocate([0.9, 0.1], 5, temperature=1e-6) == [5, 0]
    assert allocate([0.3], 7, temperature=1) == [7] and allocate([0.3, 0.4], 0, temperature=1) == [
        0,
        0,
    ]


@settings(max_examples=200, deadline=None)
@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    width=st.integers(0, 40),
    temperature=st.floats(1e-3, 1e3),
)
def test_all_of_the_width_is_given_and_the_better_never_get_less(scores, width, temperature):
    shares = allocate(scores, width, temperature=temperature)
    assert sum(shares) == width and min(shares) >= 0
    order = np.argsort(-np.array(scores), kind="stable")
    assert all(shares[a] >= shares[b] for a, b in pairwise(order))


def test_it_is_the_equation():
    scores, width, t = [0.8, 0.75, 0.3, 0.1], 13, 0.4
    weights, left, expected = [exp(s / t) for s in scores], width, []
    for i, weight in enumerate(weights):
        expected.append(int(np.ceil(left * weight / sum(weights[i:]))))
        left -= expected[-1]
    assert allocate(scores, width, temperature=t) == expected


@pytest.mark.parametrize(
    ("scores", "width", "temperature"),
    [([], 3, 1), ([0.5], -1, 1), ([0.5], 3, 0), ([0.5], 3, -1), ([float("nan")], 3, 1)],
)
def test_what_cannot_be_shared_out_is_named(scores, width, temperature):
    with pytest.raises(ValueError, match="need width >= 0, finite scores") as error:
        allocate(scores, width, temperature=temperature)
    assert "\n" not in str(error.value)


def rows_after_the_first_step(**options):
    """How often each first step is continued, when a, b, c are scored .9, .5, .1."""
    policy = Branches({"": ["a", "b", "c"], **{key: ["1", "2", "3", "4"] for key in "abc"}})
    verifier = scores_by({"a": 0.9, "b": 0.5, "c": 0.1})
    method = METHODS["rebase"](PROBLEM, **options)
    result, requests = play(method, {"policy": policy, "verifier": verifier})
    asked = [p.text for p in requests[2].prefixes]
    return (
        result,
        [asked.count(x) for x in "abc"],
        [len(r.prefixes) * getattr(r, "n", 1) for r in requests],
    )


def test_children_go_where_the_scores_say_and_evenly_without_weights():
    _, weighted, rows = rows_after_the_first_step(width=9, balance=1.0)
    shares = allocate([0.9, 0.5, 0.1] * 3, 9, temperature=1)
    assert weighted == [sum(shares[i::3]) for i in range(3)] and set(rows) == {9}
    assert weighted[0] > weighted[1] > weighted[2]
    _, even, _ = rows_after_the_first_step(width=9, balance=1e12)
    assert even == [3, 3, 3]
    _, greedy, _ = rows_after_the_first_step(width=9, balance=1e-3)
    assert greedy[1:] == [0, 0]


def test_what_ends_takes_its_place_with_it():
    policy = Branches({"": ["1", "a"], "a": ["b"], "b": ["c"], "ab": ["2"]})
    verifier = scores_by({}, default=0.5)
    method = METHODS["rebase"](PROBLEM, width=6)
    result, requests = play(method, {"policy": policy, "verifier": verifier})
    drawn = [len(r.prefixes) for r in requests[::2]]
    assert drawn == [6, 3, 3] and len(result.rollouts) == 6
