"""The committed notebooks: they keep the rules, and their outputs belong to today's code, data and
checkpoints."""

import pytest
from workbench.runs.check import freshness_problems
from workbench.runs.content import root
from workbench.runs.rules import structure_problems

from workbench.runs.batch import available, load

NOTEBOOKS = [pytest.param(path, id=path.stem) for path in available(root())]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_structure(path):
    assert structure_problems(load(path), path.stem) == []


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_outputs_are_fresh(path):
    assert freshness_problems(load(path), path.stem, root()) == []


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_exercises_have_solutions(path):
    assert list((path.parent / "solutions").glob(f"{path.stem[:2]}_*")), (
        f"notebooks/solutions/{path.stem}… is missing"
    )


def test_numbers_are_unique():
    numbers = [path.stem[:2] for path in available(root())]
    assert sorted(set(numbers)) == numbers
