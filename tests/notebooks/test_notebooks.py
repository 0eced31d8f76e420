"""The committed notebooks keep the rules, and their outputs belong to today's code and data."""

import pytest
from notebooks.rules import PATH, long_lines, missing_names, structure_problems

from workbench.runs.environment import root
from workbench.runs.notebook import available, load
from workbench.runs.record import freshness

NOTEBOOKS = [pytest.param(path, id=path.stem) for path in available(root())]
SOLUTIONS = root() / "notebooks" / "solutions"


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_structure(path):
    assert structure_problems(load(path), path.stem) == []


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_outputs_are_fresh(path):
    assert freshness(load(path), path.stem, root()).errors == ()


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_code_fits_on_a_screen(path):
    assert [long_lines(load(file)) for file in (path, SOLUTIONS / path.name)] == [[], []]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_all_that_cells_take_from_the_package_is_there(path):
    assert [missing_names(load(file)) for file in (path, SOLUTIONS / path.name)] == [[], []]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_exercises_have_solutions(path):
    assert (SOLUTIONS / path.name).is_file()


@pytest.mark.parametrize("path", sorted(SOLUTIONS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_solutions_are_recorded_warn_of_nothing_and_name_no_place(path):
    code = [cell for cell in load(path).cells if cell.cell_type == "code" and cell.source]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in load(path).cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert not PATH.search("".join(str(output.get("text", "")) for output in outputs))


def test_numbers_are_unique():
    numbers = [path.stem[:2] for path in available(root())]
    assert sorted(set(numbers)) == numbers
