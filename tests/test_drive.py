"""The driver: order, batching, streams, budget, errors, interrupts, resume and the meter, with a
scripted policy."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from weakref import WeakSet

import numpy as np
import pytest

from workbench import jsonl
from workbench.drive import solve, stream
from workbench.search import METHODS
from workbench.supervise import replay
from workbench.task import stream_key
from workbench.types import (
    Budget,
    LabelledSolution,
    Meter,
    Prefix,
    Problem,
    Sample,
    Score,
    SearchResult,
    Step,
    Stopped,
    sees_answer,
)

PROBLEMS = [
    Problem(f"p{i}", "quantities", f"Question {i}?", str(i), f"The answer is {i} .", 1)
    for i in range(10)
]


class Scripted:
    """A policy without a model: three steps, whose text is the row's key; counts its calls and
    rows."""

    per, name = "step", "scripted"

    def __init__(self, broken: str | None = None):
        self.calls: list[int] = []
        self.broken = broken

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        self.calls.append(len(prefixes))
        if self.broken and any(p.problem.id == self.broken for p in prefixes):
            raise RuntimeError("this problem breaks the model")
        out = []
        for prefix, key, meter in zip(prefixes, keys, meters):
            n = 1 if until == "step" else 3 - len(prefix.steps)
            steps = tuple(Step(f"{key}:{i}", (key % 97,), (0.0,)) for i in range(n))
            meter.samples += 1
            meter.generated += n
            done = len(prefix.steps) + n >= 3
            out.append(
                Prefix(prefix.problem, prefix.steps + steps, "end" if done else None, prompt)
            )
        return out

    def score(self, prefixes, *, meters):
        for prefix, meter in zip(prefixes, meters):
            meter.verifier += len(prefix.steps)
        return [[len(prefix.steps) / 10] * len(prefix.steps) for prefix in prefixes]


def walk(problem, *, width=2):
    """Step by step, the newest child of each; brings back its best so far when stopped."""
    prefixes = [Prefix(problem)]
    try:
        while not prefixes[0].ended:
            prefixes = (yield Sample(prefixes[:1], n=width, until="step"))[-1:]
            yield Score(prefixes)
    except Stopped as stop:
        return SearchResult(
            problem, rollouts=tuple(prefixes), best=prefixes[0], stopped=stop.reason
        )
    return SearchResult(problem, rollouts=tuple(prefixes), best=prefixes[0])


def run(method=walk, problems=PROBLEMS, **arguments):
    model = arguments.pop("model", None) or Scripted()
    return solve(problems, method, policy=model, verifier=model, **arguments)


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
    assert (
        "asks for 'coach'"
        in run(lambda problem: (yield Sample([Prefix(problem)], by="coach")))[0].error
    )
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
    running = stream(many, counted, policy=Scripted(), seed=0, in_flight=4)
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
        results = solve(PROBLEMS, method, policy=Scripted(), seed=0, in_flight=3)
    assert len(results) == len(PROBLEMS)
    assert [r.problem.id for r in results] == [p.id for p in PROBLEMS]
    assert any(r.stopped == "interrupt" for r in results) and any(not r.stopped for r in results)


def test_save_and_resume_lose_and_double_nothing(tmp_path):
    file = tmp_path / "results.jsonl"
    problems = [*PROBLEMS, PROBLEMS[0]]  # one of them twice
    whole = run(problems=problems)
    run(problems=problems[:4], save=file)
    with file.open("a") as f:
        f.write('{"occurrence": 0, "problem": {"id": "p7"')  # a kill in the middle of a line
    model = Scripted()
    resumed = run(problems=problems, save=file, model=model)
    assert [r.rollouts for r in resumed] == [r.rollouts for r in whole]
    assert [replace(r.meter, seconds=0) for r in resumed] == [
        replace(r.meter, seconds=0) for r in whole
    ]
    assert model.calls == [14, 14, 14]
    rows = list(jsonl.read_lines(file))[1:]
    assert sorted((r["problem"]["id"], r["occurrence"]) for r in rows) == sorted(
        [*((p.id, 0) for p in PROBLEMS), ("p0", 1)]
    )


def test_a_file_of_something_else_is_not_emptied(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"my": 1}')  # as json.dump ends: without a new line
    with pytest.raises(ValueError, match="holds something else than results: name a new file"):
        run(save=file)
    assert file.read_text() == '{"my": 1}'


def test_a_result_file_of_another_run_or_with_a_corrupt_line_is_refused(tmp_path):
    file = tmp_path / "results.jsonl"
    run(save=file)
    with pytest.raises(ValueError, match="belongs to another run"):
        run(save=file, seed=5)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], lines[3][:20], *lines[4:]]) + "\n")
    with pytest.raises(ValueError, match=r"results.jsonl, line 4: not JSON"):
        run(save=file)


@pytest.mark.slow
def test_a_killed_process_resumes(tmp_path):
    """SIGKILL in the middle of a run: the next run goes on and ends with what an undisturbed one
    has."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_drive as t
        class Slow(t.Scripted):
            def sample(self, *a, **k):
                time.sleep(0.05)
                return super().sample(*a, **k)
        t.run(model=Slow(), in_flight=1, save={str(tmp_path / "r.jsonl")!r})
        """)
    )
    process = subprocess.Popen([sys.executable, script])
    while not (tmp_path / "r.jsonl").exists() or (tmp_path / "r.jsonl").read_text().count("\n") < 4:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    model = Scripted()
    resumed = run(model=model, save=tmp_path / "r.jsonl", in_flight=1)
    assert len(model.calls) <= 3 * 7
    assert [r.rollouts for r in resumed] == [r.rollouts for r in run()]


def test_results_survive_json():
    problem = PROBLEMS[0]
    rollout = Prefix(problem, (Step("5 + 4 = 9 · é", (1, 2), (-0.25, -1e-9)),), "end")
    row = LabelledSolution(problem, ("a", "b"), (1, None), (0.5, None), "shepherd")
    result = SearchResult(
        problem, (rollout, rollout), (0.5, 1.0), rollout, (row,), ((0.5,), (1.0,)),
        Meter(samples=2, flops=1e9),
        None, "budget",
    )  # fmt: skip
    assert jsonl.from_json(json.loads(json.dumps(jsonl.to_json(result)))) == result
    other = replace(result, best=Prefix(problem), scores=None)
    assert jsonl.from_json(json.loads(json.dumps(jsonl.to_json(other)))) == other


# -- replies that do not fit -----------------------------------------------------------------------


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


# -- result files belong to one run ----------------------------------------------------------------


class Weighted(Scripted):
    """A model that says what it is."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def fingerprint(self):
        return f"weights {self.weights}"


def test_weights_changed_in_place_under_one_name_never_read_old_rows(tmp_path):
    model = Weighted(1)
    run(model=model, save=tmp_path / "r.jsonl")
    model.weights = 2
    with pytest.raises(ValueError, match=r"another run \(policy was scripted .*, is scripted "):
        run(model=model, save=tmp_path / "r.jsonl")
    model.weights, model.calls = 1, []
    run(model=model, save=tmp_path / "r.jsonl")
    assert model.calls == []  # the same again: all is read back


def label_pool(problem, pool):
    yield Sample([Prefix(problem)])
    return [LabelledSolution(problem, solution.texts, (1,)) for solution in pool]


def test_a_pool_given_as_an_option_belongs_to_the_run_by_its_content(tmp_path):
    def go(text):
        pools = {p.id: [Prefix.of(p, [text], ended=True)] for p in PROBLEMS}
        given_pools = replay.given(label_pool, pools)
        return solve(PROBLEMS, given_pools, policy=Scripted(), save=tmp_path / "r.jsonl")

    first = go("one")
    assert go("one") == first
    with pytest.raises(ValueError, match=r"another run \(method was replay\.given"):
        go("two")


def test_options_are_compared_by_content_not_by_how_they_print(tmp_path):
    def method(problem, *, table):
        (rollout,) = yield Sample([Prefix(problem)])
        return SearchResult(problem, (rollout,))

    def go(last):
        table = np.zeros(5000)  # printed, its middle is left out
        table[2500] = last
        solve(PROBLEMS, method, policy=Scripted(), table=table, save=tmp_path / "r.jsonl")

    go(1), go(1)
    with pytest.raises(ValueError, match="option table was"):
        go(2)


def test_another_problem_under_the_same_id_is_refused(tmp_path):
    run(save=tmp_path / "r.jsonl")
    other = [replace(PROBLEMS[0], question="Another?"), *PROBLEMS[1:]]
    with pytest.raises(ValueError, match="holds another problem by the id 'p0'"):
        run(problems=other, save=tmp_path / "r.jsonl")


def test_what_is_read_back_equals_what_was_written_with_records_in_meta(tmp_path):
    def method(problem):
        ends = yield Sample([Prefix(problem)], n=2)
        meta = {"ends": ends, "first": ends[0].steps[0], "at": (1, [2])}
        return [LabelledSolution(problem, ("a",), (1,), meta=meta)]

    method = sees_answer(method)
    written = solve(PROBLEMS, method, policy=Scripted(), save=tmp_path / "r.jsonl")
    read = solve(PROBLEMS, method, policy=Scripted(), save=tmp_path / "r.jsonl")
    assert read == written
    assert isinstance(read[0].labelled[0].meta["ends"][0], Prefix)
