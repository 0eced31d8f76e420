"""Each rule of committed notebooks, broken one at a time."""

import pytest
from little_repository import well_formed
from nbformat.v4 import new_output
from notebooks.rules import long_lines, structure_problems

NAME = "00_good"


@pytest.fixture
def executed():
    notebook = well_formed(NAME)
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    return notebook


def test_a_well_formed_notebook_has_no_problems(executed):
    assert structure_problems(executed, NAME) == []


BROKEN = [
    (0, "no title", "must be text that begins with '# title'"),
    (0, "# Title\n- you will, time, needs, makes", "one-line subtitle"),
    (0, "# Title\nsubtitle. You will, time, makes", "must say 'needs'"),
    (0, "# Title\nsubtitle. You will, time, needs, makes", "must link to the [glossary]"),
    (1, 'seed: int = 0  # s\nprofile: str = "quick"  # p', "profile, then seed"),
    (1, 'profile: str = "full"  # p\nseed: int = 0  # s', "'quick' by default"),
    (1, 'profile: str = "quick"\nseed: int = 0  # s', "needs its help after #"),
    (
        1,
        'profile: str = "quick"  # p\nseed: int = 0  # s\nn: int | None = None  # n',
        "the type must be one of",
    ),
    (1, 'profile: str = "quick"  # p\nseed = 0  # s', "parameters cell"),
    (2, 'run = start("01_other", profile=profile, seed=seed)', "must be the set-up"),
    (3, "n = 3", "must call run.sizes"),
    (4, "\n".join("abcdefghijklmnop"), "has 16 lines, at most 15"),
    (4, "  ", "is empty"),
    (4, "x = 1", "no visible assert"),
    (4, "assert 1\nopen('/home/me/x')", "holds an absolute path"),
    (4, "assert 1\n!pip install x", "installs something"),
    (6, "![x](https://x.org/x.png)\n# What we learned\n# Exercises ★", "remote image"),
    (6, "# Exercises ★\n# What we learned", "needs the headings"),
    (6, "# What we learned\n# Exercises", "★"),
    (7, "run.finish()\nprint(1)", "must end with run.finish()"),
]


@pytest.mark.parametrize(("cell", "source", "problem"), BROKEN)
def test_finds_each_broken_rule(executed, cell, source, problem):
    executed.cells[cell].source = source
    assert any(problem in found for found in structure_problems(executed, NAME))


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (new_output("stream", text="see /home/me/file"), "holds an absolute path"),
        (new_output("error", ename="ValueError", evalue="no"), "failed: ValueError: no"),
        (
            new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}}),
            "widget",
        ),
        (new_output("stream", text="one / two, https://x.org/home/x, 3/4, data/models/x"), None),
    ],
)
def test_finds_bad_outputs(executed, output, problem):
    executed.cells[4].outputs = [output]
    found = structure_problems(executed, NAME)
    assert found == [] if problem is None else problem in found[0]


def test_finds_cells_that_were_not_executed_in_order(executed):
    executed.cells[4].execution_count = None
    executed.cells[5].execution_count = 9
    assert len(structure_problems(executed, NAME)) == 2


def test_too_short():
    notebook = well_formed(NAME)
    notebook.cells = notebook.cells[:2]
    assert structure_problems(notebook, NAME) == [
        "too short: needs a title, parameters, set-up, sizes, sections, run.finish()"
    ]


def test_long_lines_are_found_in_code_only(executed):
    executed.cells[0].source += "\n" + "w" * 99
    assert long_lines(executed) == []
    executed.cells[4].source = "x = 1\n" + "y" * 89
    assert long_lines(executed) == ["y" * 89]
