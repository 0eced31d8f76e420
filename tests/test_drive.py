"""The driver: order, batching, streams, budget, errors, interrupts and the meter, with a scripted
policy."""

import contextlib
import json
from dataclasses import replace
from weakref import WeakSet

import pytest
from tiny import tiny_model
from walking import PROBLEMS, Scripted, run, walk

from workbench.drive import solve, stream
from workbench.search import METHODS
from workbench.task import stream_key
from workbench.types import (
    Budget,
    LabelledSolution,
    Prefix,
    Sample,
    Score,
    SearchResult,
    Stopped,
    sees_answer,
)


def test_batched_equals_one_by_one_whatever_runs_beside():
    alone = [run(problems=[p])[0] for p in PROBLEMS]
    for in_flight in (1, 3, 64):
        together = run(in_flight=in_flight)
        assert [r.rollouts for r in together] == [r.rollouts for r in alone]
        assert [r.problem for r in together] == PROBLEMS
    assert [r.rollouts for r in run(problems=PROBLEMS[::-1])] == [r.rollouts for r in alone][::-1]


def test_streams_differ_by_seed_problem_occurrence_request_and_row():
    first, changes = (0, "a", 0, 0, 0), (1, "b", 1, 1, 1)
    keys = {stream_key(*first)} | {
        stream_key(*first[:i], changes[i], *first[i + 1 :]) for i in range(5)
    }
    assert len(keys) == 6
    twice = run(METHODS["sample"], [PROBLEMS[0]] * 2, n=2)
    texts = [p.text for r in twice for p in r.rollouts]
    assert len(set(texts)) == 4
    assert run(seed=1)[0].rollouts != run(seed=0)[0].rollouts


def test_requests_of_a_kind_are_answered_together_and_batches_stay_full():
    model = Scripted()
    run(model=model, width=2)
    assert model.calls == [20, 20, 20]
    model = Scripted()
    list(stream(PROBLEMS, METHODS["sample"], policy=model, n=3, in_flight=4))
    assert model.calls == [12, 12, 6]


def test_search_methods_see_no_answer_and_labellers_do():
    seen = []

    def nosy(problem):
        seen.append(problem)
        yield Sample([Prefix(problem)])
        return SearchResult(problem)

    run(nosy)
    assert all(p.answer is None and p.solution is None and not p.meta for p in seen)
    for method in METHODS.values():
        assert not getattr(method, "sees_answer", False)
    seen.clear()

    @sees_answer
    def labeller(problem):
        seen.append(problem)
        (rollout,) = yield Sample([Prefix(problem)])
        return [LabelledSolution(problem, rollout.texts, (1,) * len(rollout.steps))]

    results = run(labeller)
    assert seen == PROBLEMS and results[3].labelled[0].labels == (1, 1, 1)


def test_results_carry_the_whole_problem_again():
    result = run()[4]
    assert (
        result.problem.answer == "4"
        and result.best.problem.answer == "4"
        and result.rollouts[0] == result.best
    )


def test_meter_counts_what_was_thrown_away():
    result = run(width=5)[0]
    assert (result.meter.samples, result.meter.generated, result.meter.verifier) == (
        15,
        15,
        1 + 2 + 3,
    )
    assert result.meter.calls == 6 and result.meter.tokens == 21 and result.meter.seconds > 0


def test_budget_ends_a_problem_with_its_best_so_far():
    result = run(width=4, budget=Budget(5, "samples"))[0]
    assert result.stopped == "budget" and result.meter.samples == 5 and len(result.best.steps) == 2
    assert result.meter.verifier == 1 + 2  # the budget never stops scoring
    pool = run(METHODS["sample"], n=9, budget=Budget(5, "samples"))[0]
    assert pool.stopped == "budget" and len(pool.rollouts) == pool.meter.samples == 5
    with pytest.raises(ValueError, match="use samples, tokens or flops"):
        Budget(5, "dollars")
    for amount in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="need a finite number, 0 or more"):
            Budget(amount, "samples")


def test_a_method_that_ignores_the_end_of_its_budget_is_ended():
    def stubborn(problem):
        while True:
            with contextlib.suppress(Stopped):
                yield Sample([Prefix(problem)])

    result = run(stubborn, PROBLEMS[:2], budget=Budget(3, "samples"))[0]
    assert result.stopped == "budget" and result.rollouts == ()


def test_an_error_inside_one_problem_is_its_own():
    def picky(problem):
        yield Sample([Prefix(problem)])
        if problem.id == "p3":
            raise KeyError("no such thing")
        return SearchResult(problem)

    results = run(picky)
    assert "KeyError" in results[3].error and "test_drive.py" in results[3].error
    assert sum(r.error is None for r in results) == 9


def test_an_error_of_the_model_falls_on_the_culprit_alone():
    results = run(model=Scripted(broken="p3"))
    assert "this problem breaks the model" in results[3].error
    assert [r.rollouts for i, r in enumerate(results) if i != 3] == [
        r.rollouts for i, r in enumerate(run()) if i != 3
    ]


def test_misuse_is_named():
    def wrong(problem):
        yield "please"

    assert "yields Sample or Score requests" in run(wrong)[0].error
    with pytest.raises(ValueError, match="asks for 'coach', but solve was given only policy"):
        run(lambda problem: (yield Sample([Prefix(problem)], by="coach")))
    with pytest.warns(UserWarning, match=r"^10 of 10 problems failed, the first with: TypeError: "):
        run(wrong)
    with pytest.raises(ValueError, match="no generator function"):
        run(lambda problem: SearchResult(problem))
    with pytest.raises(ValueError, match="in_flight=0"):
        run(in_flight=0)


def test_interrupt_brings_back_the_best_so_far(tmp_path):
    class Interrupted(Scripted):
        def sample(self, *args, **kwargs):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().sample(*args, **kwargs)

    with pytest.warns(UserWarning, match="interrupted"):
        results = run(model=Interrupted(), in_flight=4, save=tmp_path / "r.jsonl")
    assert [r.stopped for r in results] == ["interrupt"] * 10
    assert [len(r.rollouts[0].steps) if r.rollouts else 0 for r in results] == [2] * 4 + [0] * 6
    # the header: nothing unfinished is saved
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 1


def test_problems_are_begun_when_there_is_room_and_their_results_let_go():
    alive = WeakSet()

    def counted(problem):
        alive.add(generator := walk(problem))
        return generator

    many = [replace(PROBLEMS[0], id=f"p{i}") for i in range(200)]
    running = stream(many, counted, policy=Scripted(), verifier=Scripted(), seed=0, in_flight=4)
    seen = set()
    for index, _ in running:
        seen.add(index)
        assert len(alive) <= 8
    assert seen == set(range(200)) and not alive


def test_an_interrupt_while_a_problem_is_begun_leaves_none_out():
    calls = []

    def method(problem):
        calls.append(problem.id)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return walk(problem)

    with pytest.warns(UserWarning, match="interrupted"):
        results = solve(PROBLEMS, method, policy=Scripted(), verifier=Scripted(), in_flight=3)
    assert len(results) == len(PROBLEMS)
    assert [r.problem.id for r in results] == [p.id for p in PROBLEMS]
    assert any(r.stopped == "interrupt" for r in results) and any(not r.stopped for r in results)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"problems": PROBLEMS[0]}, "need a list of Problem, found a Problem$"),
        ({"problems": ["What is 2 + 3?"]}, "need a list of Problem, found a list$"),
        ({"problems": iter(PROBLEMS)}, "need a list of Problem, found a list_iterator$"),
        ({"method": "best_of_n"}, r"'best_of_n': need a function, as METHODS\['best_of_n'\]$"),
        ({"policy": "base"}, r"policy='base': need a model that can sample \(load_policy gives"),
        ({"policy": tiny_model()}, "policy=a LlamaForCausalLM: need a model that can sample"),
        ({"verifier": "prm_base"}, "verifier='prm_base': need a model that can score"),
        ({"helpers": {"critic": 3}}, "critic=3: need a model that can sample .* or can score"),
        ({"budget": 100}, r"budget=100: need one with its unit, as Budget\(500, 'tokens'\)"),
        ({"seed": "a"}, "seed='a': need a whole number"),
        ({"in_flight": "8"}, "in_flight='8': need a whole number of at least 1"),
    ],
)
def test_what_cannot_be_a_run_is_refused_before_it_begins(changed, said):
    policy = Scripted()
    given = {"problems": PROBLEMS, "method": METHODS["sample"], "policy": policy, "n": 2} | changed
    with pytest.raises(ValueError, match=said) as refused:
        solve(**given)
    assert "\n" not in str(refused.value) and not policy.calls


def test_a_model_that_was_forgotten_is_named_and_what_is_finished_stays_in_the_file(tmp_path):
    def asks_late(problem):
        rollouts = yield Sample([Prefix(problem)])
        if problem.id == "p3":
            yield Score(rollouts)
        return SearchResult(problem, tuple(rollouts))

    file = tmp_path / "runs.jsonl"
    with pytest.raises(ValueError, match="asks for 'verifier', but solve was given only policy"):
        solve(PROBLEMS, asks_late, policy=Scripted(), save=file)
    rows = [json.loads(line) for line in file.read_text().splitlines()][1:]
    assert {row["problem"]["id"] for row in rows} == {p.id for p in PROBLEMS} - {"p3"}


def test_what_failed_is_tried_again(tmp_path):
    model, file = Scripted(broken="p3"), tmp_path / "runs.jsonl"
    how = {"policy": model, "n": 2, "save": file}
    with pytest.warns(UserWarning, match="^1 of 10 problems failed, the first with: "):
        results = solve(PROBLEMS, METHODS["sample"], **how)
    assert [r.problem.id for r in results if r.error] == ["p3"]
    model.broken = None  # mended
    before = len(model.calls)
    again = solve(PROBLEMS, METHODS["sample"], **how)
    assert not any(r.error for r in again) and model.calls[before:] == [2]  # it alone
    assert [r.rollouts for r in again] == [r.rollouts for r in run(METHODS["sample"], n=2)]
