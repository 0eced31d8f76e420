"""One batch of little notebooks, two at once, that all tests of runs share."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from little_repository import FAILURES, WORK, Repository
from safetensors.numpy import save_file

from workbench.__main__ import main
from workbench.runs import environment, manifest

MEET = """import os, sys, time
assert sys.executable == {python!r} and os.getcwd() == {folder!r}
assert os.environ["HF_HUB_OFFLINE"] == "1" and os.environ["TOKENIZERS_PARALLELISM"] == "false"
assert "torch" not in sys.modules
run.path("here").write_text("kept")
other, deadline = run.folder / "files" / {other!r} / "here", time.monotonic() + 120
while not other.exists() and time.monotonic() < deadline:
    time.sleep(0.05)
assert other.exists(), "the other one never ran beside this one"
run.log(threads=int(os.environ["OMP_NUM_THREADS"]), rate=rate, seed=seed)"""
READER = """import json
from safetensors import safe_open
n = len(pd.read_csv("../data/tables/a/x.csv"))
config = json.load(open("../data/models/one/config.json"))
with safe_open("../data/models/one/model.safetensors", "np") as file:
    weights = file.get_tensor("w")
assert n == 2 and weights.sum() == config["sum"]"""


@dataclass(frozen=True)
class Batch:
    """A repository, the folder of its batch, and the exit code."""

    repository: Repository
    folder: Path
    code: int

    def of(self, folder: Path, *names: str) -> Path:
        """A copy of the batch in `folder`, as if only some notebooks had been asked for."""
        shutil.copytree(self.folder, folder)
        records = manifest.read(self.folder)
        lines = [
            json.dumps({**records[0], "notebooks": list(names)}),
            *map(json.dumps, records[1:]),
        ]
        (folder / manifest.NAME).write_text("\n".join(lines) + "\n")
        return folder


def write_notebooks(repository: Repository) -> None:
    """Good and bad ones; 08 and 09 wait for each other, so they were recorded as the shortest."""
    repository.add("00_good", WORK)
    for name, work in {**FAILURES, "07_reader": READER}.items():
        repository.add(name, work)
    for name, other in (("08_meets", "09_meets"), ("09_meets", "08_meets")):
        folder = str(repository.base / "notebooks")
        work = MEET.format(python=sys.executable, folder=folder, other=other)
        repository.add(name, work)
        repository.recorded(name, seconds=1.0)


def write_data(base: Path) -> None:
    """tables/a and models/one, which 07_reader reads; models/two, which nobody reads."""
    (base / "data/tables/a").mkdir(parents=True)
    (base / "data/tables/a/x.csv").write_text("x\n1\n2\n")
    for name, value in (("one", 1.0), ("two", 2.0)):
        folder = base / "data/models" / name
        folder.mkdir()
        (folder / "config.json").write_text('{"sum": 3}')
        save_file({"w": np.full(3, value, dtype=np.float32)}, folder / "model.safetensors")


@pytest.fixture
def repository(tmp_path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture(scope="session")
def batch(tmp_path_factory) -> Batch:
    """All notebooks, two at once on six cores; JUPYTER_PATH holds a broken `python3` kernel."""
    repository = Repository(tmp_path_factory.mktemp("repository"))
    base, folder = repository.base, repository.base / "out {x}"
    write_notebooks(repository)
    write_data(base)
    kernel = base / "jupyter/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    broken = {"argv": ["/bin/false"], "display_name": "x", "language": "python"}
    kernel.write_text(json.dumps(broken))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "cores", lambda: 6)
        patch.setenv("OMP_NUM_THREADS", "7")
        patch.setenv("JUPYTER_PATH", str(base / "jupyter"))
        before = dict(os.environ), Path.cwd()
        words = ["run", "all", "--jobs", "2", "-p", "rate=0.25", "-p", "seed=7"]
        code = main([*words, "--output", str(folder)], base)
        assert (dict(os.environ), Path.cwd()) == before
    return Batch(repository, folder, code)
