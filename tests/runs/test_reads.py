"""Which data a run read: what the hook sees, and what a record made from it notices."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench.__main__ import main
from workbench.runs import content, manifest, reads
from workbench.runs.batch import available, load
from workbench.runs.check import check
from workbench.runs.job import Job, is_done
from workbench.runs.record import record

NAME = "00_reader"
WORK = """import json
from safetensors import safe_open
n = len(pd.read_csv("../data/tables/a/x.csv"))
config = json.load(open("../data/models/one/config.json"))
with safe_open("../data/models/one/model.safetensors", "np") as file:
    weights = file.get_tensor("w")
assert n == 2 and weights.sum() == config["sum"]"""


@pytest.fixture
def files(tmp_path):
    reads.watch()
    for name in ("a/b/c.txt", "a/b/d/e.txt", "a/f.txt", "g.txt", "a/README.md", "h/i/j.txt"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("")
    return tmp_path


def test_files_count_by_folder_or_alone(files, monkeypatch):
    assert reads.data_read(files) == []
    (files / "data/a/b/d/e.txt").read_text()
    assert reads.data_read(files) == ["data/a/b"]
    monkeypatch.chdir(files / "data" / "a")
    open("f.txt").close()
    os.close(os.open(os.fsencode(files / "data/g.txt"), os.O_RDONLY))
    assert reads.data_read(files) == ["data/a/b", "data/a/f.txt", "data/g.txt"]
    assert list(content.data_hashes(files, reads.data_read(files))) == [
        "data/a/b/c.txt",
        "data/a/b/d/e.txt",
        "data/a/f.txt",
        "data/g.txt",
    ]


def test_writing_listing_and_reading_about_data_do_not_count(files):
    (files / "data/h/i/j.txt").write_text("new")
    (files / "data/a/README.md").read_text()
    assert len(list((files / "data").rglob("*.txt"))) == 5
    os.close(os.open(files / "data/h", os.O_RDONLY))
    assert reads.data_read(files) == []


def test_a_link_to_the_data_is_followed(files):
    (files / "link").symlink_to(files / "data")
    (files / "link/a/f.txt").read_text()
    assert reads.data_read(files) == ["data/a/f.txt"]


def test_the_hook_leaves_errors_alone(files):
    with pytest.raises(FileNotFoundError):
        (files / "data/gone.txt").read_text()
    with pytest.raises(ValueError, match="null"):
        Path("a\0b").read_text()
    sys.audit("open", "only a path")


@pytest.fixture(scope="module")
def recorded(shared_repository):
    """A recorded notebook that reads tables/a and models/one and leaves models/two and samples
    alone."""
    base = shared_repository.base
    (base / "data/tables/a").mkdir(parents=True)
    (base / "data/tables/a/x.csv").write_text("x\n1\n2\n")
    for name, value in (("one", 1.0), ("two", 2.0)):
        (base / "data/models" / name).mkdir()
        (base / "data/models" / name / "config.json").write_text('{"sum": 3}')
        save_file(
            {"w": np.full(3, value, dtype=np.float32)},
            base / "data/models" / name / "model.safetensors",
        )
    shared_repository.add(NAME, WORK)
    assert main(["run", "0", "--output", str(base / "out")], base) == 0
    record(base / "out", base)
    return shared_repository


def test_the_record_names_what_was_read(recorded):
    stored = recorded.read(NAME).metadata["workbench"]
    assert stored["read"] == ["data/models/one", "data/tables/a"]
    assert list(stored["data"]) == [
        "data/models/one/config.json",
        "data/models/one/model.safetensors",
        "data/tables/a/x.csv",
    ]


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("data/models/two/model.safetensors", False),
        ("data/samples/pool.jsonl", False),
        ("data/models/two/new.json", False),
        ("data/models/three/config.json", False),
        ("data/models/new.csv", False),
        ("data/models/one/README.md", False),
        ("data/tables/a/x.csv", True),
        ("data/models/one/model.safetensors", True),
        ("data/models/one/new.json", True),
        ("data/tables/a/deeper/new.csv", True),
    ],
)
def test_only_what_was_read_makes_it_stale(recorded, name, stale):
    path = recorded.base / name
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"other")
    try:
        assert check(recorded.base)[NAME] == (
            [f"stale: changed since recording: {name}"] if stale else []
        )
        outcome = manifest.outcomes(manifest.read(recorded.base / "out"))[NAME]
        job = Job(recorded.base / "notebooks" / f"{NAME}.ipynb", outcome["parameters"])
        assert is_done(outcome, job, recorded.base / "out", recorded.base) != stale
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def test_a_folder_that_is_gone_makes_it_stale(recorded):
    folder = recorded.base / "data/models/one"
    folder.rename(recorded.base / "away")
    assert "data/models/one/model.safetensors" in check(recorded.base)[NAME][0]
    (recorded.base / "away").rename(folder)
    assert check(recorded.base)[NAME] == []


def test_imports_of_the_notebooks_open_no_data():
    """Their set-up cells import first and start then: data that an import read would be missed."""
    trees = [
        ast.parse(content.code_cells(load(path))[1].source) for path in available(content.root())
    ]
    kinds = (ast.Import, ast.ImportFrom)
    lines = sorted(
        {ast.unparse(node) for tree in trees for node in tree.body if isinstance(node, kinds)}
    )
    code = ["from workbench.runs import content, reads", "reads.watch()", *lines]
    code += [
        "found = reads.data_read(content.root())",
        "assert found == [] and len(reads.opened) > 100, found",
    ]
    assert len(lines) > 10
    assert (
        subprocess.run(
            [sys.executable, "-c", "\n".join(code)], cwd=Path(__file__).parents[2]
        ).returncode
        == 0
    )
