"""The engine on Ray, on a real local cluster of two nodes: equal results, resume, deaths of workers
and of a node, errors, interrupts, memory and how busy workers are."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from workbench import jsonl
from workbench.drive import solve, stream
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.supervise.omegaprm import omegaprm
from workbench.supervise.shepherd import shepherd
from workbench.types import Prefix, Problem, Sample, SearchResult, Step, Stopped

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

from workbench.scale.ray_engine import RayEngine  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]
TESTS = Path(__file__).parents[1]


class Told:
    """Three steps, whose text is the row's key; what else happens, the question says."""

    name = "told"

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        out = []
        for told in {prefix.problem.question for prefix in prefixes}:
            if told == "die":
                os._exit(1)
            if told == "break":
                raise RuntimeError("this problem breaks the model")
        time.sleep(max(float(prefix.problem.question) for prefix in prefixes))
        for prefix, key, meter in zip(prefixes, keys, meters):
            n = 1 if until == "step" else 3 - len(prefix.steps)
            steps = (*prefix.steps, *(Step(f"{key}:{i}", (key % 97,)) for i in range(n)))
            meter.samples += 1
            out.append(Prefix(prefix.problem, steps, "end" if len(steps) >= 3 else None, prompt))
        return out


def told(n, what=0.0, **others):
    """n problems that take so many seconds a call, or what is said of single ones."""
    return [
        Problem(f"p{i}", "quantities", str(others.get(f"p{i}", what)), str(i)) for i in range(n)
    ]


def walk(problem, *, width=2):
    """Step by step, the last child of each."""
    prefixes = [Prefix(problem)]
    try:
        while not prefixes[-1].ended:
            prefixes = yield Sample(prefixes[-1:], n=width, until="step")
    except Stopped:
        pass
    return SearchResult(problem, tuple(prefixes), best=prefixes[-1])


def tiny():
    import torch
    from tiny import tiny_policy

    return tiny_policy(dtype=torch.float64)


def judge():
    from workbench.models.verifier import untrained

    return untrained(tiny())


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each, so that of two workers each has its node."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    head = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    try:
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        second = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    except Exception as error:  # Ray waits 30 seconds for a node, no more
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("Ray's nodes did not start within 30 seconds: the machine is too busy")
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address=cluster.address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False
    )
    cluster.second = second
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def workers(cluster):
    """Two workers with a scripted policy, one on each node."""
    with RayEngine(policy=Told, workers=2, cpus=0.6, restarts=20) as engine:
        yield engine


def warm(engine):
    """Until both workers have taken part, whatever they had to import."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        solve(told(20, 0.01), walk, engine=engine, in_flight=1)
        if len(engine.places) == 2 and all(place.ready for place in engine.places):
            return engine
    pytest.fail("the second worker never came")


def content(result):
    """All of a result but what depends on the company: time, what a cache had, and the last bits of
    log-probabilities (of one machine, too: they come from batches of other sizes)."""

    def rounded(prefix):
        return prefix and replace(
            prefix,
            steps=tuple(
                replace(step, logprobs=tuple(round(x, 9) for x in step.logprobs))
                for step in prefix.steps
            ),
        )

    return replace(
        result,
        rollouts=tuple(map(rounded, result.rollouts)),
        best=rounded(result.best),
        # a verifier reads a token again where its cache ends in another place
        meter=replace(result.meter, seconds=0, prefilled=0, cached=0, verifier=0, flops=0),
    )


def same(results, others):
    assert [content(r) for r in results] == [content(r) for r in others]


def keys(file):
    return [(row["problem"]["id"], row["occurrence"]) for row in list(jsonl.read_lines(file))[1:]]


def checked(stream_of, problems, file):
    """The results in order; every problem once, here and in the file, and as on one machine."""
    results = list(stream_of)
    assert sorted(index for index, _ in results) == list(range(len(problems)))
    in_order = [result for _, result in sorted(results, key=lambda pair: pair[0])]
    free = [replace(problem, question="0") for problem in problems]
    alone = solve(free, walk, policy=Told())
    assert [r.best.texts for r in in_order] == [r.best.texts for r in alone]
    assert sorted(keys(file)) == sorted((problem.id, 0) for problem in problems)
    return in_order


def test_a_lost_worker_loses_no_problem_and_doubles_none(workers, tmp_path):
    problems, file = told(60, 0.02), tmp_path / "r.jsonl"

    def disturbed():
        running = stream(problems, walk, engine=warm(workers), in_flight=4, save=file)
        for n, pair in enumerate(running):
            yield pair
            if n == 10:
                assert workers.places[0].given
                ray.kill(workers.places[0].actor)

    checked(disturbed(), problems, file)


def test_errors_stay_with_their_problem(workers):
    results = solve(told(20, p3="break"), walk, engine=workers, in_flight=8)
    assert "this problem breaks the model" in results[3].error
    assert [i for i, result in enumerate(results) if result.error] == [3]
    with pytest.raises(ValueError, match="no generator function"):
        solve(told(3), lambda problem: None, engine=workers)
    running = stream(told(20, 0.01), walk, engine=workers)
    next(running)
    assert len(solve(told(3), walk, engine=workers)) == 3
    with pytest.raises(ValueError, match="begun another run"):
        list(running)
    with pytest.raises(ValueError, match="policy beside an engine"):
        solve(told(3), walk, engine=workers, policy=Told())


def test_only_problems_on_their_way_are_held(workers):
    class Asked(list):
        """Problems made when asked for, and counted."""

        made = 0

        def __len__(self):
            return 2000

        def __iter__(self):
            for i in range(2000):
                self.made += 1
                yield Problem(f"p{i}", "quantities", "0")

    problems, finished, held = Asked(), Counter(), 0
    for index, _ in stream(problems, walk, engine=warm(workers), in_flight=16):
        held = max(held, problems.made - len(finished))
        finished[index] += 1
    assert finished == Counter(range(2000))
    # of two workers those that run and as many behind them, of one those just come; one looked at
    assert held <= (2 + 1) * 2 * 16 + 1


def test_workers_are_busy_and_a_slow_problem_holds_up_nobody(workers):
    problems = told(200, 0.01, p0=1.0)
    warm(workers)
    began, seconds, order = time.perf_counter(), 0.0, []
    for index, result in stream(problems, walk, engine=workers, in_flight=1, width=1):
        seconds += result.meter.seconds
        order.append(index)
    assert seconds / (2 * (time.perf_counter() - began)) > 0.8


def test_what_lies_behind_a_slow_problem_is_taken_back(workers):
    problems = told(12, 0.01, p0=0.7)
    order = [i for i, _ in stream(problems, walk, engine=warm(workers), in_flight=1)]
    assert order[-1] == 0


def test_an_interrupt_brings_back_the_best_so_far(workers, tmp_path):
    problems, file = told(60, 0.05), tmp_path / "r.jsonl"
    running = stream(problems, walk, engine=warm(workers), in_flight=4, save=file)
    results = [next(running)]
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.warns(UserWarning, match="interrupted"):
        results += running
    assert sorted(i for i, _ in results) == list(range(60))
    stopped = [result for _, result in results if result.stopped == "interrupt"]
    assert 20 < len(stopped) < 60 and any(result.best and result.best.steps for result in stopped)
    assert len(keys(file)) == 60 - len(stopped)
    checked(stream(problems, walk, engine=workers, save=file), problems, file)


def test_row_for_row_as_on_one_machine_and_files_go_from_one_to_the_other(cluster, tmp_path):
    problems = quantities.generate(6, levels=[2, 3], seed=3, split="train")
    problems = [*problems, problems[0]]  # one of them twice
    policy, file = tiny(), tmp_path / "r.jsonl"
    search = {"n": 3, "seed": 7, "in_flight": 2}
    label = {"solutions": 2, "n": 2, "seed": 7, "in_flight": 2}
    alone = solve(problems, METHODS["sample"], policy=policy, **search)
    with RayEngine(policy=tiny, workers=2, cpus=0.2) as engine:
        same(solve(problems, METHODS["sample"], engine=engine, **search), alone)
        labelled = solve(problems, shepherd, engine=engine, **label)
        same(labelled, solve(problems, shepherd, policy=policy, **label))
        assert all(result.labelled and not result.error for result in labelled)
        # some by one machine, others by the workers, and all read back
        by = [{"policy": policy}, {"engine": engine}, {"policy": policy}, {"engine": engine}]
        for n, models in zip((2, 4, 7, 7), by):
            results = solve(problems[:n], METHODS["sample"], save=file, **models, **search)
            same(results, alone[:n])
        assert len(keys(file)) == len(set(keys(file))) == len(problems)
        with pytest.raises(ValueError, match="belongs to another run"):
            solve(problems, shepherd, engine=engine, save=file, **label)


def test_searches_with_a_verifier_and_labellers_that_search_are_the_same_there(cluster):
    problems = quantities.generate(4, levels=[2, 3], seed=3, split="train")
    models = {"policy": tiny(), "verifier": judge()}
    about = {"seed": 7, "in_flight": 2}
    beams = {"beam_width": 2, "expand": 2, "max_steps": 4, **about}
    bisect = {"n": 2, "searches": 3, "rollouts": 12, **about}
    with RayEngine(policy=tiny, verifier=judge, workers=2, cpus=0.2) as engine:
        found = solve(problems, METHODS["beam_search"], engine=engine, **beams)
        same(found, solve(problems, METHODS["beam_search"], **models, **beams))
        labelled = solve(problems, omegaprm, engine=engine, **bisect)
        same(labelled, solve(problems, omegaprm, **models, **bisect))
    assert all(result.best and not result.error for result in found)
    assert any(result.labelled for result in labelled)


def test_models_that_cannot_be_made_are_named(cluster):
    def none():
        raise ValueError("no such weights")

    with (
        RayEngine(policy=none, cpus=0.2) as engine,
        pytest.raises(ValueError, match="no such weights"),
    ):
        solve(told(3), walk, engine=engine)


def test_a_lost_node_loses_no_problem_and_doubles_none(cluster, workers, tmp_path):
    problems, file = told(60, 0.1), tmp_path / "r.jsonl"

    def disturbed():
        running = stream(problems, walk, engine=warm(workers), in_flight=4, save=file)
        for n, pair in enumerate(running):
            yield pair
            if n == 10:
                cluster.remove_node(cluster.second, allow_graceful=False)

    before = {*warm(workers).places}
    checked(disturbed(), problems, file)
    assert len(before & {*workers.places}) == 1
