"""The doctor sees half-written files, missing samples and wrong versions."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench import doctor
from workbench.runs import environment


@pytest.fixture
def weights(tmp_path):
    """A file with weights as an adapter has it: without a config.json beside it."""
    folder = tmp_path / "data/models/prm"
    folder.mkdir(parents=True)
    save_file({"a": np.zeros((3, 4), dtype=np.float32)}, folder / "adapter_model.safetensors")
    return folder / "adapter_model.safetensors"


def test_whole_weights(weights):
    assert list(doctor.checkpoints(weights.parents[1])) == [(True, "checkpoint prm: 0.0 MB")]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-5],
        lambda data: data + b"x",
        lambda data: data[:20],
        lambda data: b"",
        lambda data: b"\x04" + bytes(7) + b"none",
    ],
)
def test_broken_weights(weights, change):
    weights.write_bytes(change(weights.read_bytes()))
    ((right, line),) = doctor.checkpoints(weights.parents[1])
    assert not right and line.startswith("checkpoint prm: ") and "is not whole" in line


def test_samples_and_missing_checkpoints(tmp_path):
    none = (False, "checkpoints: none in data/models")
    assert list(doctor.checkpoints(tmp_path)) == [none]
    assert doctor.samples(tmp_path) == (False, "samples: none in data/samples")
    (tmp_path / "pool.jsonl").write_text("")
    assert doctor.samples(tmp_path) == (False, "samples: empty: pool.jsonl")
    (tmp_path / "pool.jsonl").write_text("{}\n")
    assert doctor.samples(tmp_path) == (True, "samples: 1 files, 0.0 MB")


def test_packages_are_held_against_the_constraints(tmp_path, monkeypatch):
    asked = ["numpy>=1", "Torch>=2", "gone[x]>=1", "elsewhere; platform_system == 'None'"]
    (tmp_path / "pyproject.toml").write_text(f"[project]\ndependencies = {asked}\n")
    (tmp_path / "constraints.txt").write_text("numpy==1.0\ntorch==2.13.0\n")
    versions = {"numpy": "2.0", "Torch": "2.13.0+cpu"}
    monkeypatch.setattr(environment, "installed", versions.get)
    assert list(doctor.packages(tmp_path)) == [
        (False, "numpy 2.0 (constraints.txt: 1.0)"),
        (True, "Torch 2.13.0+cpu"),
        (False, "gone is missing (constraints.txt: None)"),
    ]


def test_every_package_of_the_project_has_a_constraint():
    lines = (environment.root() / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    asked = [line.split()[0].lower() for _, line in doctor.packages(environment.root())]
    assert set(asked) <= pinned
