"""Recorded completions: labellers get different ones, pay for what they take, and label as if they
had drawn."""

import pytest
from scripted import Walker

from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.supervise import omegaprm, shepherd
from workbench.supervise.replay import Replay, completions, given
from workbench.types import Meter, Prefix

PROBLEMS = quantities.generate(8, levels=[3, 4], seed=15)
POOLS = {
    r.problem.id: r.rollouts
    for r in solve(PROBLEMS, METHODS["sample"], policy=Walker(PROBLEMS, 0.3), n=3)
}


def record(n=16, p=0.4):
    return solve(PROBLEMS, given(completions, POOLS), policy=Walker(PROBLEMS, p), seed=3, n=n)


def test_every_prefix_that_goes_on_is_completed_once():
    for result in record(n=5):
        prefixes = {s.texts[:t] for s in POOLS[result.problem.id] for t in range(1, len(s.steps))}
        assert sorted(row.steps for row in result.labelled) == sorted(prefixes)
        for row in result.labelled:
            assert len(row.meta["ends"]) == 5 and set(row.labels) == {None}
            assert all(
                end.ended and end.texts[: len(row.steps)] == row.steps for end in row.meta["ends"]
            )


@pytest.mark.parametrize("start", [0, 4, 14])
def test_shepherd_counts_the_recorded_completions_from_the_start_on(start):
    made = record()
    results = solve(PROBLEMS, given(shepherd.label, POOLS), policy=Replay(made).at(start), n=4)
    for source, result in zip(made, results):
        ends = {row.steps: row.meta["ends"] for row in source.labelled}
        taken = {steps: [own[(start + i) % 16] for i in range(4)] for steps, own in ends.items()}
        assert len(result.labelled) == 3 and result.error is None
        for row in result.labelled:
            for t, value in enumerate(row.values[:-1], start=1):
                assert (
                    value == sum(is_right(source.problem, end) for end in taken[row.steps[:t]]) / 4
                )
        tokens = sum(
            len(end.ids) - len(steps_ids(source, steps))
            for steps, own in taken.items()
            for end in own
        )
        assert (result.meter.samples, result.meter.generated) == (4 * len(taken), tokens)


def steps_ids(result, steps):
    pool = POOLS[result.problem.id]
    (prefix, *_) = [
        Prefix(s.problem, s.steps[: len(steps)]) for s in pool if s.texts[: len(steps)] == steps
    ]
    return prefix.ids


def test_labellers_pay_only_for_what_they_ask():
    recorded = Replay(record())
    every = solve(PROBLEMS, given(shepherd.label, POOLS), policy=recorded, n=8)
    lazy = solve(PROBLEMS, given(omegaprm.label, POOLS), policy=recorded, n=8)
    assert 0 < sum(r.meter.generated for r in lazy) < sum(r.meter.generated for r in every)
    assert all(r.error is None and len(r.labelled) == 3 for r in lazy)


def test_what_was_not_recorded_is_refused():
    made = record(n=2)
    recorded, problem = Replay(made), PROBLEMS[0]
    (result,) = solve([problem], given(shepherd.label, POOLS), policy=recorded, n=3)
    assert "3 completions asked for, 2 recorded" in result.error
    (result,) = solve([problem], METHODS["sample"], policy=recorded, n=1)
    assert "no completions were recorded after ()" in result.error
    with pytest.raises(ValueError, match="until='step'"):
        recorded.sample([Prefix(problem)], [0], until="step", meters=[Meter()])
    (result,) = solve([problem], given(completions, POOLS), policy=Walker(PROBLEMS), n=0)
    assert "n=0 completions a prefix" in result.error


@pytest.mark.parametrize("labeller", [shepherd, omegaprm])
def test_solutions_that_are_not_over_are_not_graded(labeller):
    problems = quantities.generate(3, levels=[2], seed=0)
    pools = {p.id: [Prefix.of(p, p.solution.split("\n")[:1])] for p in problems}  # right so far
    results = solve(problems, given(labeller.label, pools), policy=Walker(problems, p=0.0), n=4)
    assert all("need whole ones" in (result.error or "") for result in results)
