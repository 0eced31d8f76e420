"""A sweep on Ray, on a real local cluster of two nodes: lost workers, a lost node, an interrupt."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from little_repository import Repository

from workbench.__main__ import main
from workbench.runs import manifest

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]
PACKAGE = Path(__file__).parents[2]
KILL = """import os
threads = int(os.environ["OMP_NUM_THREADS"])
if seed == 1 and not os.path.exists("../killed"):
    open("../killed", "w").close()
    os.kill(os.getppid(), 9)  # the worker, amid its run
assert seed != 2, "no luck"
run.log(right=seed, threads=threads)"""
WAIT = """import os, time
open(f"../started_{seed}_{os.getpid()}", "w").close()
while not os.path.exists("../go"):
    time.sleep(0.1)
run.log(right=seed)"""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each."""
    head = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    try:
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        cluster.second = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    except Exception as error:  # Ray waits 30 seconds for a node, no more
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("Ray's nodes did not start within 30 seconds: the machine is too busy")
    path = os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address=cluster.address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Repository:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return Repository(tmp_path)


def sweep(repository, work, *words):
    """The exit code; results are in the repository's `out`."""
    repository.add("05_little", work)
    return main(["sweep", *words], repository.base)


def fresh(repository, seeds):
    return ["5", "-p", f"seed={seeds}", "--ray", "--output", str(repository.base / "out")]


def completed(repository):
    """How often each point was completed."""
    found = Counter()
    for place in (repository.base / "out").iterdir():
        if place.is_dir():
            found[place.name] += sum(r["event"] == "completed" for r in manifest.read(place))
    return found


def started(repository):
    """Process ids of the notebooks that have begun, by seed."""
    names = [path.name.split("_") for path in repository.base.glob("started_*")]
    return sorted((int(seed), int(process)) for _, seed, process in names)


def when(condition, act):
    """Do something as soon as a condition holds, in a thread."""

    def wait():
        deadline = time.monotonic() + 400
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.1)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def alive(process):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_lost_workers_point_is_run_again_and_a_failed_one_stops_no_other(
    cluster, repository, capsys
):
    assert sweep(repository, KILL, *fresh(repository, "0,1,2,3")) == 1
    said, out = capsys.readouterr().out, repository.base / "out"
    assert "on Ray, 1 thread each" in said and "failed: 003_seed=2" in said
    assert said.count("ok  ") == 3 and "AssertionError: no luck" in said
    assert (repository.base / "killed").exists()
    names = ["001_seed=0", "002_seed=1", "003_seed=2", "004_seed=3"]
    assert completed(repository) == dict(zip(names, (1, 1, 0, 1)))
    table = pd.read_csv(out / "sweep.csv")
    right = table[table["metric"] == "right"]
    assert right[["seed", "value"]].values.tolist() == [[0, 0], [1, 1], [3, 3]]
    assert set(table[table["metric"] == "threads"]["value"]) == {1}
    # one machine goes on with it; what is done stays as it is
    before = {name: manifest.read(out / name) for name in names if name != "003_seed=2"}
    assert sweep(repository, KILL, "--resume", str(out), "--workers", "1") == 1
    assert capsys.readouterr().out.count("skipped, completed before") == 3
    assert {name: manifest.read(out / name) for name in before} == before


def test_an_interrupt_ends_all_and_ray_or_one_machine_goes_on(cluster, repository, capsys):
    press = when(lambda: len(started(repository)) == 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert sweep(repository, WAIT, *fresh(repository, "0,1,2")) == 130
    press.join()
    out = repository.base / "out"
    assert f"sweep --resume {out}" in capsys.readouterr().err and not completed(repository).total()
    kernels, deadline = [process for _, process in started(repository)], time.monotonic() + 60
    while any(map(alive, kernels)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, kernels))
    (repository.base / "go").touch()
    assert main(["sweep", "--resume", str(out), "--ray"], repository.base) == 0
    assert set(completed(repository).values()) == {1} and completed(repository).total() == 3


def test_more_threads_than_a_machine_has_cores_are_one_line_before_anything_is_made(
    cluster, repository, capsys, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert sweep(repository, WAIT, *fresh(repository, "0,1")) == 2
    error = capsys.readouterr().err
    assert "3 threads a point, but no machine has over 1 cores" in error and error.count("\n") == 1
    assert not (repository.base / "out").exists()


def test_a_lost_nodes_point_is_run_again(cluster, repository):
    """The last test: one node is left."""

    def lose():
        cluster.remove_node(cluster.second, allow_graceful=False)
        (repository.base / "go").touch()

    losing = when(lambda: len(started(repository)) == 2, lose)
    assert sweep(repository, WAIT, *fresh(repository, "0,1")) == 0
    losing.join()
    assert completed(repository) == {"001_seed=0": 1, "002_seed=1": 1}
    assert Counter(seed for seed, _ in started(repository)).total() == 3
