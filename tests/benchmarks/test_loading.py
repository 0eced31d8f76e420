"""Every benchmark finds what it imports: none of them may rot between two measurements."""

import runpy
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_loads(file):
    assert callable(runpy.run_path(str(file))["main"])
