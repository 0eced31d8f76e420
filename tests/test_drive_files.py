"""Result files of the driver: saved and resumed without loss, each of one run only."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from walking import PROBLEMS, Scripted, run, walk

from workbench import jsonl
from workbench.drive import solve
from workbench.search import METHODS
from workbench.supervise import replay
from workbench.types import LabelledSolution, Meter, Prefix, Sample, SearchResult, Step, sees_answer


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
    file.write_text("\n".join([*lines[:3], '{"note": 1}', *lines[4:]]) + "\n")
    with pytest.raises(ValueError, match=r"results.jsonl, line 4: no result"):
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
        import walking as t
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


def test_a_partial_and_numbers_of_numpy_are_the_same_run_again(tmp_path):
    def go(width, seed):
        method = partial(walk, width=width)
        return run(method, PROBLEMS[:2], seed=seed, save=tmp_path / "r.jsonl")

    assert go(2, 3) == go(2, np.int64(3))
    with pytest.raises(ValueError, match="another run"):
        go(3, 3)
    for temperature in (0.5, np.float64(0.5)):
        about = {"n": 1, "temperature": temperature, "save": tmp_path / "sampled.jsonl"}
        run(METHODS["sample"], PROBLEMS[:1], **about)


def test_a_problem_that_holds_nan_is_read_back(tmp_path):
    odd = [replace(PROBLEMS[0], meta={"year": float("nan")})]
    first, again = (run(problems=odd, save=tmp_path / "r.jsonl") for _ in range(2))
    assert first[0].rollouts[0].texts == again[0].rollouts[0].texts


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
