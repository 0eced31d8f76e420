"""Labelling that is killed or interrupted loses nothing, doubles nothing and ends with the rows of
an undisturbed run.

Run as a script this file is the labelling process: it loads a policy once and forks one process for
each line of its standard input, so that the tests can kill many.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
from scripted import Walker, oracle

from workbench import jsonl
from workbench.drive import solve
from workbench.models import load_policy
from workbench.problems import quantities
from workbench.supervise.judge import judge
from workbench.supervise.omegaprm import omegaprm
from workbench.supervise.shepherd import shepherd
from workbench.types import Problem, SearchResult, sees_answer

pytestmark = pytest.mark.slow  # each trains or starts processes

PROBLEMS = quantities.generate(12, levels=[1], seed=3)
LABELLERS = {
    "shepherd": (shepherd, {"solutions": 1, "n": 2}),
    "omegaprm": (omegaprm, {"n": 2, "searches": 1}),
}


# -- the labelling process -------------------------------------------------------------------------


def serve():
    """One process for each line of standard input; prints its number, and its status when it is
    over."""
    policy = load_policy("weak", dtype="float64")  # labels are exact whatever is batched together
    answer = policy.sample
    for line in sys.stdin:
        job = json.loads(line) | {"server": os.getpid()}
        if not (pid := os.fork()):
            policy.sample = lambda *args, job=job, **options: hold(job) or answer(*args, **options)
            os._exit(label(policy, job))
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


def hold(job):
    """A model call that takes until the signal comes (or the tests are gone), once the file holds
    `rows`."""
    while job["rows"] and rows_in(job["save"]) >= job["rows"] and os.getppid() == job["server"]:
        Path(job["save"]).with_suffix(".held").touch()
        time.sleep(0.005)


def label(policy, job):
    """Do the job; the log says how each problem ended. 1 if an exception comes out of it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    method, options = LABELLERS[job["labeller"]]
    options = options | {"seed": 7, "save": job["save"], "in_flight": job["in_flight"]}
    with Path(job["save"]).with_suffix(".log").open("w") as log, contextlib.redirect_stderr(log):
        try:
            results = solve(PROBLEMS, method, policy=policy, **options)
        except BaseException:
            traceback.print_exc()
            return 1
        log.write(json.dumps([result and (result.error or result.stopped) for result in results]))
    return 0


def rows_in(file):
    """Whole rows of a result file, its head not counted."""
    return max(0, Path(file).read_bytes().count(b"\n") - 1) if Path(file).exists() else 0


# -- killed and interrupted ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    """Label into a file; at `more` rows send the signal, amid saving or amid sampling. Returns the
    wait status."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    with subprocess.Popen([sys.executable, __file__], **pipes) as server:

        def run(labeller, file, in_flight=12, *, more=None, send=None, amid=None):
            rows, held = more and rows_in(file) + more, file.with_suffix(".held")
            held.unlink(missing_ok=True)
            job = {"labeller": labeller, "save": str(file), "in_flight": in_flight, "rows": rows}
            print(json.dumps(job), file=server.stdin, flush=True)
            pid = int(server.stdout.readline())
            if send:
                while rows_in(file) < rows if amid == "saving" else not held.exists():
                    time.sleep(0.001)
                os.kill(pid, send)
            return int(server.stdout.readline())

        yield run
        server.kill()


@pytest.fixture(scope="module", params=LABELLERS)
def labeller(request):
    return request.param


@pytest.fixture(scope="module")
def expected(run, labeller, tmp_path_factory):
    """What a run brings that nothing disturbs."""
    file = tmp_path_factory.mktemp("undisturbed") / "r.jsonl"
    assert run(labeller, file) == 0
    found = contents(file)
    rows = [one["@LabelledSolution"] for row in found.values() for one in row["labelled"]]
    labels = {label for row in rows for label in row["labels"]}
    assert labels >= {0, 1} and set(found) == {problem.id for problem in PROBLEMS}
    return found


def contents(file):
    """Each row by problem, without cost and log-probs (their last bits depend on the batch); none
    may come twice."""
    rows = list(jsonl.read_lines(file))[1:]
    for row in rows:
        del row["meter"]
        for rollout in row["rollouts"]:
            for step in rollout["@Prefix"]["steps"]:
                del step["@Step"]["logprobs"]
    found = {row["problem"]["id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_killed_again_and_again_it_ends_with_the_rows_of_an_undisturbed_run(
    run, labeller, expected, tmp_path
):
    file, whole = tmp_path / "r.jsonl", b""
    half = json.dumps(expected[PROBLEMS[-1].id]).encode()[:-40]
    for in_flight, more, amid, tear in (
        (4, 2, "saving", b""),
        (4, 1, "sampling", half),
        (2, 1, "saving", None),
    ):
        status = run(labeller, file, in_flight, more=more, send=signal.SIGKILL, amid=amid)
        data = file.read_bytes()
        assert status == signal.SIGKILL and rows_in(file) < len(PROBLEMS) and data.startswith(whole)
        data = data[:-9] if tear is None else data + tear  # half a row more, or less of the last
        file.write_bytes(data)
        whole = data[: data.rindex(b"\n") + 1]
    assert run(labeller, file) == 0
    assert file.read_bytes().startswith(whole) and contents(file) == expected


def test_interrupted_it_stops_with_the_finished_saved_and_the_rest_named(
    run, labeller, expected, tmp_path
):
    file = tmp_path / "r.jsonl"
    for in_flight, more in ((4, 2), (4, 1)):
        assert run(labeller, file, in_flight, more=more, send=signal.SIGINT, amid="sampling") == 0
        log = file.with_suffix(".log").read_text()
        assert "interrupted: problems in flight" in log and "Traceback" not in log
        ends = {problem.id: end for problem, end in zip(PROBLEMS, json.loads(log.splitlines()[-1]))}
        assert set(ends.values()) == {None, "interrupt"} and len(ends) == len(PROBLEMS)
        saved = contents(file)
        assert saved == {id: expected[id] for id, end in ends.items() if end is None}
    assert run(labeller, file) == 0
    assert contents(file) == expected


# -- the moments that a signal seldom meets --------------------------------------------------------


def by_walker(method=shepherd, **arguments):
    try:
        return solve(
            PROBLEMS,
            method,
            policy=Walker(PROBLEMS),
            **{"solutions": 2, "in_flight": 4, **arguments},
        )
    except KeyboardInterrupt:
        pytest.fail("the interrupt came through")


@pytest.mark.parametrize("written", [True, False])
def test_an_interrupt_amid_saving_doubles_nothing_and_loses_no_result(
    tmp_path, monkeypatch, written
):
    file, append = tmp_path / "r.jsonl", jsonl.ResultFile.append
    undisturbed = by_walker()

    def interrupted(self, result, occurrence):
        monkeypatch.setattr(jsonl.ResultFile, "append", append)
        if written:
            append(self, result, occurrence)
        raise KeyboardInterrupt

    monkeypatch.setattr(jsonl.ResultFile, "append", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        results = by_walker(save=file)
    assert {result.stopped for result in results} == {None, "interrupt"}
    finished = [result.problem.id for result in results if result.stopped is None]
    assert list(contents(file)) == finished[not written :]
    assert [result.labelled for result in by_walker(save=file)] == [
        result.labelled for result in undisturbed
    ]
    assert len(contents(file)) == len(PROBLEMS)


def test_an_interrupt_amid_a_start_loses_no_problem():
    presses = iter(PROBLEMS[5:6])

    @sees_answer
    def pressed(problem, **options):
        if problem == PROBLEMS[5] and next(presses, None):
            raise KeyboardInterrupt
        return (yield from shepherd(problem, **options))

    with pytest.warns(UserWarning, match="interrupted"):
        results = by_walker(pressed)
    assert [result and result.problem for result in results] == PROBLEMS and results[
        5
    ].stopped == "interrupt"


def test_a_row_torn_at_any_byte_loses_itself_alone(tmp_path):
    file = jsonl.ResultFile(tmp_path / "r.jsonl", {"seed": 1})
    results = [SearchResult(Problem(id, "math", f"Één «数» {id}?")) for id in ("é1", "é2")]
    for result in results:
        file.append(result, 0)
    data = file.path.read_bytes()
    start = data.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(data)):
        file.path.write_bytes(data[:end])
        again = jsonl.ResultFile(file.path, {"seed": 1})
        assert (again.get("é1", 0), again.get("é2", 0)) == (results[0], None)
        assert file.path.read_bytes() == data[:start]
    again.append(results[1], 0)
    assert file.path.read_bytes() == data


def test_a_file_of_other_options_or_of_another_verifier_is_refused_in_one_line(tmp_path):
    verifier, other = oracle(PROBLEMS), oracle(PROBLEMS)
    verifier.name, other.name = "one", "other"
    by_walker(judge, verifier=verifier, save=tmp_path / "r.jsonl")
    before = (tmp_path / "r.jsonl").read_bytes()
    for change in ({"verifier": other}, {"solutions": 3}, {"method": shepherd}):
        with pytest.raises(ValueError, match=r"belongs to another run .* name a new file") as error:
            by_walker(
                **{"method": judge, "verifier": verifier, "save": tmp_path / "r.jsonl"} | change
            )
        assert "\n" not in str(error.value) and (tmp_path / "r.jsonl").read_bytes() == before


if __name__ == "__main__":
    serve()
