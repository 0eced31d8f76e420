"""A real `transformers serve` on loopback: the text of the model in this process, and no problem
lost or doubled when it is killed amid a run."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from workbench.drive import solve
from workbench.models import load_policy, smollm2
from workbench.models.checkpoints import locate
from workbench.models.server import ServerPolicy
from workbench.problems import quantities, stories
from workbench.search import METHODS
from workbench.types import Prefix

MISSING = [n for n in ("fastapi", "uvicorn", "openai") if not importlib.util.find_spec(n)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"{MISSING} not installed: pip install transformers[serving]"
    ),
]
PROBLEMS = {
    "weak": quantities.generate(6, levels=[1, 2], seed=5),
    "smollm2": stories.generate(6, levels=[1], seed=5),
}
HERE = smollm2.in_package() or (smollm2.CONVERTED / "config.json").is_file()
SMOLLM2 = pytest.mark.skipif(not HERE, reason=f"SmolLM2 is not here: {smollm2.GET_IT}")
HOSTS = ["weak", pytest.param("smollm2", marks=SMOLLM2)]


class Served:
    """A server in a process of its own, that may be killed and started again."""

    def __init__(self, name, log, patience=300):
        self.folder, self.log, self.patience = locate(name), log, patience
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.start()

    def start(self):
        call = ["-m", "transformers.cli.transformers", "serve", self.folder, "--device", "cpu"]
        call += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(self.port)]
        own = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with open(self.log, "w") as said:
            self.process = subprocess.Popen(
                [sys.executable, *call], stdout=said, stderr=said, env={**os.environ, **own}
            )
        until = time.monotonic() + self.patience
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        self.kill()
        raise RuntimeError(f"transformers serve did not start: {self.log.read_text()[-500:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The server of a host, each started once."""
    known = {}

    def get(name):
        if name not in known:
            known[name] = Served(name, tmp_path_factory.mktemp("served") / "log.txt")
        return known[name]

    yield get
    for server in known.values():
        server.kill()


def both(name, server, **options):
    """The host in this process, and behind the server, asked alike."""
    here = load_policy(name, device="cpu", max_tokens=40)
    connection = {"logprobs": False, "concurrency": 1, "timeout": 300, **options}
    there = ServerPolicy(
        server.url, server.folder, templates=here.templates, max_tokens=40, **connection
    )
    return here, there


def bare(prefix):
    return [text.strip() for text in prefix.texts if text.strip()], prefix.stop


@pytest.mark.parametrize("name", HOSTS)
def test_at_temperature_zero_it_writes_what_the_model_writes_here(name, served):
    here, there = both(name, served(name))
    rows, keys = [Prefix(problem) for problem in PROBLEMS[name][:4]], range(4)
    wholes = [policy.sample(rows, keys, temperature=0) for policy in (here, there)]
    assert [*map(bare, wholes[0])] == [*map(bare, wholes[1])]
    assert any(len(whole.steps) > 1 for whole in wholes[0])
    if name == "weak":  # transformers' stop strings know no tokenizer of whole words
        return
    steps = [policy.sample(rows, keys, temperature=0, until="step") for policy in (here, there)]
    assert [*map(bare, steps[0])] == [*map(bare, steps[1])]


@pytest.mark.parametrize("name", HOSTS)
def test_killed_and_started_again_amid_a_run_no_problem_is_lost_or_doubled(name, served, tmp_path):
    server, file = served(name), tmp_path / "runs.jsonl"
    here, there = both(name, server, retries=12, backoff=0.5)
    expected = solve(PROBLEMS[name], METHODS["greedy"], policy=here)

    def ids():
        lines = file.read_text().splitlines()[1:] if file.exists() else []
        return [json.loads(line)["problem"]["id"] for line in lines]

    def interfere():
        while not ids():
            time.sleep(0.01)
        server.kill()
        server.start()

    thread = threading.Thread(target=interfere)
    thread.start()
    how = {"policy": there, "in_flight": 1, "save": file}
    results = solve(PROBLEMS[name], METHODS["greedy"], **how)
    thread.join()
    assert [result.error for result in results] == [None] * len(results)
    assert [bare(r.best) for r in results] == [bare(r.best) for r in expected]
    assert sorted(ids()) == sorted(problem.id for problem in PROBLEMS[name])
