"""A server fails, refuses, is slow, or dies and comes back: what becomes of the run."""

import _thread
import json
import threading
import time
from dataclasses import replace

import pytest
from asking import PROBLEMS, asks, one_line, policy_at
from protocol_server import serving

from workbench import jsonl
from workbench.drive import solve
from workbench.models.server_client import ServerError
from workbench.search import METHODS
from workbench.types import Prefix, RowsFailed, Score


@pytest.fixture
def server():
    with serving() as about:
        yield about


def test_what_passes_is_asked_again_and_a_wish_to_wait_is_kept(server):
    server.faults.extend(
        [(500, {}, "no"), "hang up", (429, {"Retry-After": "0.3"}, "slow down"), (503, {}, "no")]
    )
    began = time.monotonic()
    (found,), meter = asks(policy_at(server, concurrency=1, retries=4))
    assert time.monotonic() - began > 0.3 and len(server.seen) == 5
    assert len({json.dumps(body) for body in server.bodies()}) == 1
    assert meter.samples == 1 and found.stop == "end"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((500, {}, "Internal\nServer Error"), r"status 500, 'Internal.*asked 3 times"),
        ((429, {"Retry-After": "86400"}, "tomorrow"), r"status 429, 'tomorrow'$"),
        ((401, {}, "Unauthorized"), r"status 401, 'Unauthorized'$"),
        ((404, {}, "no model"), r"status 404, 'no model'$"),
        ((200, {}, '{"choices": [{"te'), r"broken JSON, '\{\"choices"),
        ((200, {}, "[]"), r"need a JSON object, found '\[\]'"),
        ((200, {}, '{"error": "no"}'), r"not as in the OpenAI API, KeyError 'usage'"),
        ("hang up", r"no reply, RemoteProtocolError .*asked 3 times"),
    ],
)
def test_what_fails_for_good_is_one_line_with_path_status_and_reply(server, fault, said):
    server.faults.extend([fault] * 3)
    with pytest.raises(RowsFailed, match=said) as failure:
        asks(policy_at(server, retries=2))
    assert "127.0.0.1" in one_line(str(failure.value))
    assert isinstance(failure.value.replies[0], ServerError)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"finish_reason": "content_filter"}, "finish_reason 'content_filter', need stop or len"),
        ({"text": None}, "not as in the OpenAI API"),
        ({"message": {"content": "a", "reasoning": "b"}}, "start it without a parser"),
    ],
)
def test_a_reply_that_says_something_else_is_one_line(server, change, said):
    choice = {"index": 0, "text": "a", "finish_reason": "stop"} | change
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    server.faults.append((200, {}, json.dumps({"choices": [choice], "usage": usage})))
    with pytest.raises(RowsFailed, match=said):
        asks(policy_at(server))


def test_a_slow_reply_ends_in_time(server):
    server.delay = 0.3
    with pytest.raises(RowsFailed, match=r"no reply within 0\.05 seconds"):
        asks(policy_at(server, timeout=0.05, retries=1))


def test_rows_that_fail_fail_for_their_problem_alone(server, tmp_path):
    server.poison = PROBLEMS[2].question
    file, how = tmp_path / "runs.jsonl", {"policy": policy_at(server), "n": 3}
    results = solve(PROBLEMS, METHODS["sample"], save=file, **how)
    failed = [r for r in results if r.error]
    assert [r.problem.id for r in failed] == ["p2"] and "status 500" in one_line(failed[0].error)
    assert all(len(r.rollouts) == 3 for r in results if not r.error)
    assert len(server.seen) == 5 * 3 + 3 * 4  # nobody was asked again because of another
    server.poison = None  # mended: the same run gets what it lacks
    again = solve(PROBLEMS, METHODS["sample"], save=file, **how)
    assert not any(r.error for r in again) and ids_in(file) == sorted(p.id for p in PROBLEMS)


def test_what_fails_for_a_verifier_that_asks_a_policy_is_not_taken_for_its_scores(server, tmp_path):
    class Teacher:
        per = "step"

        def score(self, prefixes, *, meters=None):
            policy_at(server).sample(prefixes, [0] * len(prefixes), until="end", meters=meters)

    def scored(problem):
        yield Score([Prefix.of(problem, ["a"])])

    server.poison = PROBLEMS[0].question
    how = {"policy": policy_at(server), "verifier": Teacher(), "save": tmp_path / "runs.jsonl"}
    (result,) = solve(PROBLEMS[:1], scored, **how)
    assert "1 of 1 rows failed, the first: http" in one_line(result.error)
    assert ids_in(tmp_path / "runs.jsonl") == []


def test_an_interrupt_ends_the_asking_and_keeps_what_there_is(server):
    server.delay = 0.2
    policy = policy_at(server, concurrency=2)
    threading.Timer(0.5, _thread.interrupt_main).start()
    with pytest.warns(UserWarning, match="interrupted"):
        results = solve(PROBLEMS, METHODS["sample"], policy=policy, n=8)
    assert all(r.stopped == "interrupt" for r in results)
    time.sleep(0.5)
    assert len(server.seen) < 12  # of 48


def ids_in(file):
    return sorted(row["problem"]["id"] for row in list(jsonl.read_lines(file))[1:])


def test_killed_and_restarted_amid_a_run_no_problem_is_lost_or_doubled(server, tmp_path):
    problems = [replace(PROBLEMS[0], id=f"q{i}", question=f"And {i} ?") for i in range(24)]
    how = {"n": 3, "seed": 1, "in_flight": 4}
    policy = policy_at(server, retries=8, backoff=0.05)
    expected = solve(problems, METHODS["sample"], policy=policy, **how)
    server.kill_after = server.answered + 20
    killed = server.server

    def restart():
        while not killed.dead:
            time.sleep(0.01)
        time.sleep(0.4)
        server.start()

    thread = threading.Thread(target=restart)
    thread.start()
    file = tmp_path / "runs.jsonl"
    results = solve(problems, METHODS["sample"], policy=policy, save=file, **how)
    thread.join()
    assert [r.rollouts for r in results] == [r.rollouts for r in expected]
    assert ids_in(file) == sorted(p.id for p in problems)


def test_a_server_that_stays_away_ends_the_run_soon_and_the_rest_is_run_another_time(
    server, tmp_path
):
    problems = [replace(PROBLEMS[0], id=f"q{i}", question=f"And {i} ?") for i in range(40)]
    file, how = tmp_path / "runs.jsonl", {"n": 2, "in_flight": 4, "policy": policy_at(server)}
    server.kill_after = 20
    results = solve(problems, METHODS["sample"], save=file, **how)
    failed = {r.problem.id for r in results if r.error}
    assert failed and "no reply, ConnectError" in one_line(results[-1].error)
    assert ids_in(file) == sorted({p.id for p in problems} - failed)
    server.start()
    again = solve(problems, METHODS["sample"], save=file, **how)
    assert not any(r.error for r in again) and ids_in(file) == sorted(p.id for p in problems)
