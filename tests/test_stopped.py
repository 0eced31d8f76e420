"""Stopped by a budget or an interrupt, every method gives back what was paid for."""

import warnings

import pytest
from scripted import Walker, oracle

from workbench.drive import solve
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.supervise.judge import judge
from workbench.supervise.mips import mips
from workbench.supervise.shepherd import shepherd
from workbench.supervise.star import star
from workbench.types import Budget, sees_answer

PROBLEMS = quantities.generate(3, levels=[4], seed=8, split="train")
RUNS = {
    "best_of_n": (METHODS["best_of_n"], {"n": 3}),
    "beam_search": (METHODS["beam_search"], {"beam_width": 2, "expand": 2}),
    "judge": (judge, {"solutions": 3}),
    "shepherd": (shepherd, {"solutions": 3, "n": 2}),
    "mips": (mips, {"solutions": 3, "n": 2}),
    "star": (star, {"n": 3, "hints": 2}),
}


def solved(name, policy, *, method=None, problems=3, **more):
    """The method on some problems; `method` in the place of the one that goes by that name."""
    known, options = RUNS[name]
    models = {"policy": policy, "verifier": oracle(PROBLEMS), "helpers": {"helper": policy}}
    return solve(PROBLEMS[:problems], method or known, seed=3, **(models | options | more))


def requests_of(name, policy):
    """The tokens that the meter of the first problem shows before each of its requests."""
    shown, (method, _) = [], RUNS[name]

    def watched(problem, **options):
        generator, reply = method(problem, **options), None
        while True:
            try:
                request = generator.send(reply)
            except StopIteration as end:
                return end.value
            shown.append(policy.paid)
            reply = yield request

    watched = sees_answer(watched) if getattr(method, "sees_answer", False) else watched
    solved(name, policy, method=watched, problems=1)
    return shown


class Counted(Walker):
    """Notes the tokens it was paid for, and everything that it wrote."""

    def __init__(self, p, stop_at=None):
        super().__init__(PROBLEMS, p=p)
        self.paid, self.wrote, self.calls, self.stop_at = 0, [], 0, stop_at

    def sample(self, prefixes, keys, **how):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        before = sum(len(p.steps) for p in prefixes)
        out = super().sample(prefixes, keys, **how)
        self.paid += sum(len(p.steps) for p in out) - before
        self.wrote += out
        return out


def chance(name):
    return 1.0 if name == "star" else 0.4


@pytest.mark.parametrize("name", RUNS)
def test_wherever_the_budget_ends_the_pool_comes_back(name):
    before_each = requests_of(name, Counted(chance(name)))
    assert before_each[0] == 0 and len(before_each) >= 2
    for paid in sorted({x for x in before_each if x}):
        policy = Counted(chance(name))
        (result,) = solved(name, policy, problems=1, budget=Budget(paid, "tokens"))
        assert result.error is None and result.stopped == "budget"
        assert result.meter.tokens == policy.paid == paid
        assert result.rollouts
        if name == "beam_search":
            assert {r.texts for r in result.rollouts} <= {p.texts for p in policy.wrote}
        else:
            pool = 3
            assert [r.texts for r in result.rollouts] == [p.texts for p in policy.wrote[:pool]]


def test_beams_come_back_scored_or_as_unscored_candidates():
    before_each = requests_of("beam_search", Counted(0.4))
    seen = set()
    for paid in sorted({x for x in before_each if x}):
        (result, *_) = solved("beam_search", Counted(0.4), budget=Budget(paid, "tokens"))
        seen.add(result.scores is None)
        assert result.best is None or result.best.ended
        assert result.scores is None or len(result.scores) == len(result.rollouts)
    assert True in seen


@pytest.mark.parametrize("name", ["judge", "shepherd", "mips"])
def test_rows_hold_the_labels_that_were_reached_and_none_beyond(name):
    whole = solved(name, Counted(0.4))[0]
    done = {tuple(row.steps): row for row in whole.labelled}
    for paid in sorted({x for x in requests_of(name, Counted(0.4)) if x}):
        (result, *_) = solved(name, Counted(0.4), budget=Budget(paid, "tokens"))
        assert len(result.labelled) == len(whole.labelled)
        for row in result.labelled:
            full = done[tuple(row.steps)]
            known = [v is not None for v in row.values]
            assert [x is not None for x in row.labels] == known
            assert all(v in (None, w) for v, w in zip(row.values, full.values))
            if name != "judge":  # the end is graded, completions go from the front
                assert known == [*sorted(known[:-1], reverse=True), True]


@pytest.mark.parametrize("name", ["best_of_n", "shepherd", "star"])
def test_an_interrupt_gives_back_the_pool_too(name):
    def interrupted(prefixes, *, meters=None):
        raise KeyboardInterrupt

    # the second request of best_of_n goes to the verifier
    policy = Counted(chance(name), stop_at=None if name == "best_of_n" else 2)
    verifier = oracle(PROBLEMS)
    verifier.score = interrupted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = solved(name, policy, verifier=verifier)
    assert all(r.stopped == "interrupt" and len(r.rollouts) == 3 for r in results)
