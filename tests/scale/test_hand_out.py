"""Who gets what, and what becomes of those whose worker dies: the engine over threads, no Ray."""

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import SimpleNamespace

import pytest

from workbench.drive import solve
from workbench.scale.ray_engine import LIVES, RayEngine, _Place
from workbench.scale.worker import Worker
from workbench.search import METHODS
from workbench.types import Prefix, Problem, Step


class Died(BaseException):
    """The end of a worker's process."""


class Lost(Exception):
    """What Ray says of it."""


class Policy:
    name = "policy"

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        if any(prefix.problem.question == "die" for prefix in prefixes):
            raise Died
        return [Prefix(p.problem, (Step(str(key)),), "end") for p, key in zip(prefixes, keys)]


class Threads:
    """As much of Ray as the engine uses."""

    exceptions = SimpleNamespace(RayError=Lost, RayTaskError=type("Never", (Exception,), {}))

    def __init__(self):
        self.pool = ThreadPoolExecutor(32)

    def wait(self, calls):
        return [next(iter(wait(calls, return_when=FIRST_COMPLETED).done))], []

    def get(self, call: Future):
        try:
            return call.result(timeout=20)
        except Died:
            raise Lost("it died") from None

    def kill(self, actor):
        actor.worker.desk.stop()

    def actor(self, worker):
        def method(name):
            call = getattr(worker, name)
            return SimpleNamespace(remote=lambda *args: self.pool.submit(call, *args))

        names = ("about", "begin", "give", "take_back", "finished", "stop")
        return SimpleNamespace(worker=worker, **{name: method(name) for name in names})


@pytest.fixture
def engine():
    threads = Threads()

    class Engine(RayEngine):
        def start(self):
            while len(self.places) < self.workers:
                self.add(threads)
            return threads

        def add(self, ray):
            self.places.append(_Place(ray.actor(Worker(self.makers))))
            return self.places[-1]

    engine = Engine(policy=Policy, workers=2)
    yield engine
    for place in engine.places:
        place.actor.worker.desk.stop()
    threads.pool.shutdown()


@pytest.mark.parametrize("in_flight", [1, 3, 64])
def test_a_problem_that_kills_its_workers_is_given_up_and_no_other(engine, in_flight):
    problems = [Problem(f"p{i}", "math", "die" if i == 3 else "?") for i in range(40)]
    results = solve(problems, METHODS["sample"], engine=engine, in_flight=in_flight, n=1)
    assert f"{LIVES} workers died with it" in results[3].error
    assert [i for i, result in enumerate(results) if result.error] == [3]
    assert engine.runs == 1 and len(engine.places) == 2


def test_when_nobody_is_left_it_says_so(engine):
    engine.restarts = 1
    problems = [Problem(f"p{i}", "math", "die") for i in range(9)]
    with pytest.raises(ConnectionError, match="all workers have died; the last one: it died"):
        solve(problems, METHODS["sample"], engine=engine, n=1)
