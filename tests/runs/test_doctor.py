"""The doctor sees half-written files, missing samples and wrong versions."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench.runs import content, doctor


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "data/models/base"
    folder.mkdir(parents=True)
    save_file({"a": np.zeros((3, 4), dtype=np.float32)}, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_whole_weights(weights):
    assert doctor.weights_problem(weights) is None
    ((right, line),) = doctor.checkpoints(weights.parents[1])
    assert right and line.startswith("checkpoint data/models/base/model.safetensors")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-5], "half-written"),
        (lambda data: data + b"x", "header asks for"),
        (lambda data: data[:20], "cut off within its header"),
        (lambda data: b"", "cut off within its header"),
        (lambda data: b"\x04" + bytes(7) + b"none", "not JSON"),
    ],
)
def test_broken_weights(weights, change, problem):
    weights.write_bytes(change(weights.read_bytes()))
    assert problem in doctor.weights_problem(weights)


def test_samples_and_missing_checkpoints(tmp_path):
    assert list(doctor.checkpoints(tmp_path)) == [(False, "checkpoints: none in data/models")]
    assert doctor.samples(tmp_path)[0] is False
    (tmp_path / "pool.jsonl").write_text("")
    assert doctor.samples(tmp_path) == (False, "samples: empty: pool.jsonl")
    (tmp_path / "pool.jsonl").write_text("{}\n")
    assert doctor.samples(tmp_path)[0] is True


def test_packages_are_held_against_the_constraints(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy>=1", "Torch>=2", "gone[x]>=1", "elsewhere; platform_system == \\"None\\""]\n'
    )
    (tmp_path / "constraints.txt").write_text("numpy==1.0\ntorch==2.13.0\n")
    versions = {"numpy": "2.0", "Torch": "2.13.0+cpu"}
    monkeypatch.setattr(doctor.environment, "installed", versions.get)
    assert list(doctor.packages(tmp_path)) == [
        (False, "numpy 2.0 (constraints.txt: 1.0)"),
        (True, "Torch 2.13.0+cpu"),
        (False, "gone is missing (constraints.txt: None)"),
    ]


def test_every_package_of_the_project_has_a_constraint():
    lines = dict(
        line.split("==")
        for line in (content.root() / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    pinned = {name.lower() for name in lines}
    asked = [line.split()[0].lower() for _, line in doctor.packages(content.root())]
    assert set(asked) <= pinned
