"""Equal content, equal digest; whatever differs in content differs in its digest."""

import subprocess
import sys
from collections import deque
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.fingerprint import digest
from workbench.supervise import omegaprm, shepherd
from workbench.supervise.replay import given
from workbench.types import Prefix, Problem

PROBLEM = Problem("p", "math", "?")


def pools(text):
    return {"p": [Prefix.of(PROBLEM, [text], ended=True)]}


def plus(n):
    return lambda x: x + n


def minus(n):
    return lambda x: x - n


class Thing:
    def __init__(self, value):
        self.value, self.me = value, self  # a cycle


class Known:
    def __init__(self, name, calls=0):
        self.name, self.calls = name, calls

    def fingerprint(self):
        return self.name


DIFFERENT = [
    (1, 1.0), (1, True), ("1", 1), ((1, 2), [1, 2]), ([1, 2], [2, 1]), (["ab", "c"], ["a", "bc"]),
    ({"a": 1}, {"a": 2}), ({"a": 1}, {"b": 1}), ({1, 2}, {1, 3}), (None, "None"),
    (np.arange(3), np.arange(4)), (np.zeros(3), np.zeros((3, 1))), (np.zeros(1), np.zeros(1, int)),
    (torch.zeros(2), torch.ones(2)), (torch.zeros(2).bfloat16(), torch.zeros(2)),
    (PROBLEM, Problem("p", "math", "!")), (shepherd.label, omegaprm.label),
    (given(shepherd.label, pools("a")), given(shepherd.label, pools("b"))),
    (given(shepherd.label, pools("a")), given(omegaprm.label, pools("a"))),
    (plus(1), plus(2)), (plus(1), minus(1)), (partial(max, 1), partial(max, 2)),
    (Thing(1), Thing(2)), (Known("a"), Known("b")), (range(2), range(3)), (Path("a"), Path("b")),
    (slice(1), slice(2)), (np.dtype("f4"), np.dtype("f8")), (..., None), (torch.int8, torch.int16),
    (Fraction(1, 2), Fraction(1, 3)), (deque([1]), deque([2, 3])),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_differs_in_content_has_another_digest(one, other):
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"b": (1, [2.5]), "a": {3, 4}}, lambda: np.arange(5.0), lambda: torch.ones(2, 2),
        lambda: given(shepherd.label, pools("a")), lambda: plus(3), lambda: Thing("x"),
        lambda: partial(max, 1, key=abs), lambda: range(1, 9, 2), lambda: Path("a/b"),
        lambda: np.dtype("f4"), lambda: lambda x: x[..., 0],
    ],
)  # fmt: skip
def test_made_twice_it_has_the_same_digest(make):
    assert digest(make()) == digest(make())


NOTEBOOK = """
from dataclasses import dataclass
VOTES, OTHER, LEVELS, calls = 2, 0, (1, 2), 0
def vote(x): return x[:VOTES]
def method(x):
    global calls
    calls += 1
    return [vote(x.name), LEVELS]
class Base:
    def score(self, x): return vote(x)
class Judge(Base):
    pass
@dataclass
class Held:
    n: int = 0
    def score(self, x): return vote(x)
"""


def seen(changes=""):
    """Digests of a method and of a judge of a notebook, after so many changes."""
    world = {"__name__": "__main__"}
    exec(NOTEBOOK + changes, world)
    return digest(world["method"]), digest(world["Judge"]()), digest(world["Held"]())


def test_a_function_of_a_notebook_is_what_it_uses_too():
    known = seen()
    assert known == seen() == seen("OTHER = 1\nname = 5\ncalls = 7")
    for change in ("VOTES = 6", "def vote(x): return x[-VOTES:]"):
        assert all(a != b for a, b in zip(known, seen(change)))
    assert known[0] != seen("LEVELS = (1, 3)")[0]


def test_functions_that_all_use_each_other_are_gone_through_once():
    names = [f"f{i}" for i in range(14)]
    world = {"__name__": "__main__"}
    exec("\n".join(f"def {name}(): return {', '.join(names)}" for name in names), world)
    assert digest(world["f0"]) != digest(world["f1"])


def test_order_does_not_matter_where_there_is_none():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"x", "y", "z"}) == digest({"z", "y", "x"})


def test_an_object_that_says_what_it_is_is_believed():
    assert digest(Known("a", calls=0)) == digest(Known("a", calls=7))


def test_another_process_finds_the_same():
    code = "import numpy as np; from workbench.fingerprint import digest; "
    code += "print(digest({'a', 'b', ('c', 1.5)}), digest(np.array([10**20, 'x'], object)))"
    run = [sys.executable, "-c", code]
    found = {subprocess.run(run, capture_output=True, text=True).stdout for _ in range(2)}
    ours = digest({"a", "b", ("c", 1.5)}), digest(np.array([10**20, "x"], object))
    assert {tuple(text.split()) for text in found} == {ours}


def test_what_has_no_content_to_look_at_is_refused():
    with pytest.raises(ValueError, match="give object a method fingerprint"):
        digest({"by": object()})
