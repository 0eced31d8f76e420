"""Replies of models that do not fit are the error of their problem alone."""

from contextlib import suppress

import pytest
from walking import PROBLEMS, Scripted

from workbench.drive import solve
from workbench.types import Prefix, Sample, Score, SearchResult, Stopped


class Off(Scripted):
    """A model whose replies to one problem, p3, are spoilt by `spoil`."""

    name = "off"

    def __init__(self, spoil):
        super().__init__()
        self.spoil = spoil

    def sample(self, prefixes, *args, **kwargs):
        return self.spoilt(prefixes, super().sample(prefixes, *args, **kwargs))

    def score(self, prefixes, *, meters):
        return self.spoilt(prefixes, super().score(prefixes, meters=meters))

    def spoilt(self, prefixes, replies):
        at = [i for i, p in enumerate(prefixes) if p.problem.id == "p3"]
        return self.spoil(replies, at[0]) if at else replies


def without(replies, i):
    return replies[:i] + replies[i + 1 :]


def doubled(replies, i):
    return [*replies, replies[i]]


def put(value):
    return lambda replies, i: [*replies[:i], value, *replies[i + 1 :]]


def pool_and_scores(problem, *, n=2):
    rollouts = yield Sample([Prefix(problem)], n=n)
    yield Score(rollouts)
    return SearchResult(problem, tuple(rollouts))


@pytest.mark.parametrize(
    ("role", "spoil", "says"),
    [
        ("policy", without, "off: expected 2 replies, one per row, found 1"),
        ("policy", doubled, "off: expected 2 replies, one per row, found 3"),
        ("policy", put("text"), "off: expected a Prefix, found 'text'"),
        ("verifier", without, "off: expected 2 replies, one per row, found 1"),
        ("verifier", doubled, "off: expected 2 replies, one per row, found 3"),
        ("verifier", put([0.5]), "off: expected 3 scores, found 1 ([0.5]): need one per step"),
        ("verifier", put([0.5] * 4), "off: expected 3 scores, found 4"),
        ("verifier", put([0.5, 0.5, float("nan")]), "off: expected scores from 0 to 1, found nan"),
        ("verifier", put([0.5, float("inf"), 0.5]), "off: expected scores from 0 to 1, found inf"),
        ("verifier", put([1.5, 0.5, 0.5]), "off: expected scores from 0 to 1, found 1.5"),
        ("verifier", put([0.5, 0.5, -0.1]), "off: expected scores from 0 to 1, found -0.1"),
        ("policy", lambda *_: None, "off: expected 2 replies, one per row, found None"),
        ("verifier", lambda *_: None, "off: expected 2 replies, one per row, found None"),
        ("verifier", put(0.5), "off: expected 3 scores, found 0.5: need one per step"),
        ("verifier", put("abc"), "off: expected 3 scores, found 'abc': need one per step"),
        ("verifier", put([0.5, None, 0.5]), "off: expected scores from 0 to 1, found None in"),
    ],
)
def test_a_reply_that_does_not_fit_is_the_error_of_its_problem_alone(role, spoil, says):
    models = {"policy": Scripted(), "verifier": Scripted(), role: Off(spoil)}
    results = solve(PROBLEMS, pool_and_scores, **models)
    assert says in results[3].error
    assert [r.error for r in results if r.problem.id != "p3"] == [None] * 9
    fine = solve(PROBLEMS, pool_and_scores, policy=Scripted(), verifier=Scripted())
    assert [r.rollouts for i, r in enumerate(results) if i != 3] == [
        r.rollouts for i, r in enumerate(fine) if i != 3
    ]


def test_a_verifier_of_whole_solutions_gives_one_score_each():
    class Whole(Scripted):
        per = "solution"

        def score(self, prefixes, *, meters):
            return [[0.5] for _ in prefixes]

    class Three(Whole):
        name, score = "three", Scripted.score

    fine = solve(PROBLEMS, pool_and_scores, policy=Scripted(), verifier=Whole())
    assert not any(r.error for r in fine)
    (wrong,) = solve(PROBLEMS[:1], pool_and_scores, policy=Scripted(), verifier=Three())
    assert "three: expected 1 scores, found 3" in wrong.error
    assert "need one per solution" in wrong.error


@pytest.mark.parametrize("value", [None, 3, ["a"], [None], {"labelled": []}])
def test_a_method_that_returns_nothing_of_use_is_an_error(value):
    def method(problem):
        yield Sample([Prefix(problem)])
        return value

    results = solve(PROBLEMS[:2], method, policy=Scripted())
    assert all("returns a SearchResult or a list of LabelledSolutions" in r.error for r in results)
    assert all(r.meter.samples == 1 for r in results)


@pytest.mark.filterwarnings("ignore:interrupted", "ignore:1 of 2 problems failed")
@pytest.mark.parametrize(
    "wrong",
    [{"best": "7"}, {"best": 0}, {"rollouts": (None,)}, {"rollouts": 3}, {"labelled": ("x",)}],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_result_of_other_things_than_prefixes_is_the_error_of_its_problem_alone(
    wrong, interrupted
):
    class Policy(Scripted):
        def sample(self, *args, **options):
            if interrupted:
                raise KeyboardInterrupt
            return super().sample(*args, **options)

    def method(problem):
        rollouts = ()
        with suppress(Stopped):
            rollouts = yield Sample([Prefix(problem)])
        spoilt = wrong if problem.id == PROBLEMS[0].id else {}
        return SearchResult(problem, **({"rollouts": tuple(rollouts)} | spoilt))

    bad, good = solve(PROBLEMS[:2], method, policy=Policy())
    need = "labelled are LabelledSolutions" if "labelled" in wrong else "best are Prefixes"
    assert f"{need}, found" in bad.error and good.error is None
    assert good.stopped == ("interrupt" if interrupted else None)
