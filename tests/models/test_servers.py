"""Several servers with one model: fair shares, the results of one, and the loss of some or all."""

import time
from dataclasses import replace

import pytest
from protocol_server import serving

from workbench import jsonl
from workbench.drive import solve
from workbench.models import load_policy
from workbench.models.server_client import ServerClient
from workbench.search import METHODS
from workbench.types import Prefix, Problem, RowsFailed

PROBLEMS = [Problem(f"p{i}", "math", f"How many are {i} ?", answer="3") for i in range(24)]
FAST = {"backoff": 0.01, "retries": 2}


@pytest.fixture
def servers():
    with serving() as a, serving() as b:
        yield a, b


def both(servers, **options):
    urls = ",".join(about.url for about in servers)
    return load_policy(f"{urls}#scripted", **{**FAST, **options})


def one(about, **options):
    return both([about], **options)


def asked(servers):
    return [len(about.seen) for about in servers]


def rows(n):
    return [Prefix(problem) for problem in PROBLEMS[:n]], range(n)


def saved(file):
    return sorted(row["problem"]["id"] for row in list(jsonl.read_lines(file))[1:])


@pytest.mark.parametrize(("n", "concurrency"), [(11, 6), (10, 16)])
def test_what_is_asked_at_once_is_shared_to_one_request(servers, n, concurrency):
    for about in servers:
        about.delay = 1.0  # until all have come
    both(servers, concurrency=concurrency).sample(*rows(n))
    assert sorted(asked(servers)) == [n // 2, n - n // 2]


def test_what_is_asked_one_by_one_is_shared_to_one_request(servers):
    policy = both(servers)
    for n in range(1, 8):
        policy.sample(*rows(1))
        assert sorted(asked(servers)) == [n // 2, n - n // 2]


def test_a_slow_server_gets_less_and_each_no_more_than_fits(servers):
    slow, quick = servers
    slow.delay, quick.delay = 1.0, 0.01
    both(servers, concurrency=2).sample(*rows(24))
    assert 2 <= len(slow.seen) < len(quick.seen) and sum(asked(servers)) == 24
    assert slow.most == 2 and quick.most <= 2


def test_results_are_those_of_one_server_which_may_go_on_with_them(servers, tmp_path):
    alone, together, file = one(servers[0]), both(servers), tmp_path / "runs.jsonl"
    for method, options in [("greedy", {}), ("sample", {"n": 3, "seed": 5})]:
        expected = solve(PROBLEMS, METHODS[method], policy=alone, **options)
        found = solve(PROBLEMS, METHODS[method], policy=together, **options)
        assert [r.rollouts for r in found] == [r.rollouts for r in expected]
        assert [replace(r.meter, seconds=0) for r in found] == [
            replace(r.meter, seconds=0) for r in expected
        ]
    assert alone.fingerprint() == together.fingerprint() and alone.name == together.name
    solve(PROBLEMS[:9], METHODS["greedy"], policy=alone, save=file)
    before = sum(asked(servers))
    solve(PROBLEMS, METHODS["greedy"], policy=together, save=file)
    assert sum(asked(servers)) - before == 15
    assert saved(file) == sorted(problem.id for problem in PROBLEMS)


def test_a_server_killed_amid_a_run_loses_and_doubles_nothing(servers, tmp_path):
    a, b = servers
    how, file = {"n": 4, "seed": 1, "in_flight": 4}, tmp_path / "runs.jsonl"
    expected = solve(PROBLEMS, METHODS["sample"], policy=one(b), **how)
    a.kill_after, before = 12, b.answered
    began = time.monotonic()
    results = solve(PROBLEMS, METHODS["sample"], policy=both(servers, backoff=99), save=file, **how)
    assert a.server.dead and time.monotonic() - began < 99  # nobody waited for it
    assert [r.rollouts for r in results] == [r.rollouts for r in expected]
    assert all(r.meter.samples == 4 and not r.error for r in results)
    assert a.answered + b.answered - before == 4 * len(PROBLEMS)
    assert saved(file) == sorted(problem.id for problem in PROBLEMS)


@pytest.mark.parametrize(("rest", "least"), [(600.0, 1), (0.0, 3)])
def test_a_silent_server_is_left_out_for_a_while(servers, monkeypatch, rest, least):
    monkeypatch.setattr("workbench.models.server_client.REST", rest)
    policy = both(servers)
    servers[0].faults.append("hang up")
    for _ in range(6):
        policy.sample(*rows(1))
    assert sum(asked(servers)) == 7 and min(asked(servers)) == least


def test_a_server_that_is_busy_for_a_moment_is_not_left_out(servers):
    policy = both(servers)
    servers[0].faults.append((503, {}, "no"))
    for _ in range(6):
        policy.sample(*rows(1))
    assert sum(asked(servers)) == 7 and min(asked(servers)) >= 3


def test_only_when_all_are_gone_there_is_an_error_which_names_one(servers):
    policy = both(servers)
    for about in servers:
        about.kill()
    said = r"none of 2 servers answers, one of them: http.*no reply, ConnectError.*asked 3 times"
    with pytest.raises(RowsFailed, match=said) as failure:
        policy.sample(*rows(1))
    assert "\n" not in str(failure.value)
    servers[1].start()
    assert policy.sample(*rows(1))[0].stop == "end"


def test_a_server_without_the_model_is_named_though_the_other_has_it(servers):
    servers[0].faults.append((404, {}, "no model"))
    with pytest.raises(RowsFailed, match=rf"1 of 8 rows.*{servers[0].url}.*404, 'no model'$"):
        both(servers).sample(*rows(8))


def test_addresses_are_read_one_by_one():
    client = ServerClient("http://a/v1/, https://b:8000/v1,http://a/v1")
    assert client.urls == ("http://a/v1", "https://b:8000/v1")
    for wrong in ("http://a/v1,", "http://a/v1,b:8000/v1", "http://a/v1,ftp://b"):
        with pytest.raises(ValueError, match=r"base_url=.*need one like"):
            ServerClient(wrong)
