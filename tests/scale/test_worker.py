"""What runs in a worker's process, called from here: no Ray needed."""

import threading
import time

import pytest
from protocol_server import serving

from workbench import drive
from workbench.models import load_policy
from workbench.scale.ray_engine import RayEngine
from workbench.scale.worker import Worker
from workbench.search import METHODS
from workbench.types import Prefix, Problem, Step
from workbench.workers import Numbered, Work

PROBLEMS = [Numbered(i, 0, Problem(f"p{i}", "math", "?")) for i in range(6)]
WORK = Work(METHODS["sample"], {"n": 2}, seed=3, in_flight=2)


class Gate:
    """A policy that waits until it may go on."""

    name = "gate"

    def __init__(self):
        self.open = threading.Event()

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        assert self.open.wait(10)
        return [Prefix(p.problem, (Step(str(key)),), "end") for p, key in zip(prefixes, keys)]


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def worker(gate):
    worker = Worker({"policy": lambda: gate})
    worker.begin(1, WORK, None)
    yield worker
    gate.open.set()
    worker.stop(1)


def collect(worker, n, run=1):
    """Until n are finished."""
    found = []
    while len(found) < n:
        found += worker.finished(run)
    return {finished.at.index: finished for finished in found}


def begun(worker, left):
    """Wait until only so many are not begun."""
    while len(worker.desk.inbox) > left:
        time.sleep(0.001)


def test_works_off_what_it_is_given_as_one_machine_does(worker, gate):
    gate.open.set()
    worker.give(1, PROBLEMS[:4])
    worker.give(1, PROBLEMS[4:])
    found = collect(worker, 6)
    whole = drive.solve([at.problem for at in PROBLEMS], WORK.method, policy=gate, n=2, seed=3)
    assert [found[i].result.rollouts for i in range(6)] == [result.rollouts for result in whole]
    assert all(finished.keep for finished in found.values())


def test_gives_back_what_it_has_not_begun(worker, gate):
    worker.give(1, PROBLEMS)
    begun(worker, 4)
    assert worker.take_back(1, 3) == [5, 4, 3]
    gate.open.set()
    assert set(collect(worker, 3)) == {0, 1, 2}


def test_told_to_stop_it_hands_over_everything(worker, gate):
    worker.give(1, PROBLEMS)
    begun(worker, 4)
    worker.stop(1)
    gate.open.set()
    found = collect(worker, 6)
    assert [found[i].result.stopped for i in range(6)] == [None] * 2 + ["interrupt"] * 4
    assert [found[i].keep for i in range(6)] == [True] * 2 + [False] * 4
    worker.thread.join(10)
    worker.give(1, PROBLEMS[:1])  # a stop that overtook what was given before it
    assert collect(worker, 1)[0].result.stopped == "interrupt"


def test_the_next_run_is_another_one(worker, gate):
    gate.open.set()
    worker.give(1, PROBLEMS[:2])
    worker.begin(2, WORK, None)
    worker.begin(1, WORK, None)  # late
    worker.stop(1)
    assert worker.finished(1) == []
    worker.give(2, PROBLEMS[:2])
    assert set(collect(worker, 2, run=2)) == {0, 1}
    worker.stop(2)


def test_other_models_than_the_run_has_and_errors_of_its_own_are_named(worker, gate):
    assert worker.about() == {"policy": "gate"}
    with pytest.raises(ValueError, match="this worker has other models"):
        worker.begin(2, WORK, {"policy": "another"})
    worker.give(1, ["no problem"])
    with pytest.raises(AttributeError, match="'str' object has no attribute 'problem'"):
        worker.finished(1)


def test_a_policy_may_be_a_server():
    with serving() as about:
        worker, url = Worker({"policy": f"{about.url}#scripted"}), f"{about.url}#scripted"
        worker.begin(1, WORK, {"policy": drive.identify(load_policy(url))})
        worker.give(1, PROBLEMS)
        found = collect(worker, 6)
        whole = drive.solve(
            [at.problem for at in PROBLEMS], WORK.method, policy=load_policy(url), n=2, seed=3
        )
        assert [found[i].result.rollouts for i in range(6)] == [r.rollouts for r in whole]
        worker.stop(1)


def test_what_an_engine_needs_is_named():
    with pytest.raises(ValueError, match="workers=0"):
        RayEngine(policy="base", workers=0)
    with pytest.raises(ValueError, match="need one at least"):
        RayEngine()
    with pytest.raises(ValueError, match="coach='base': give a function"):
        RayEngine(policy="base", helpers={"coach": "base"})
