"""Reading a notebook: its parameters cell, and a hash of what its code does."""

import pytest
from little_repository import well_formed
from nbformat.v4 import new_code_cell, new_notebook

from workbench.runs.batch import Job, plan
from workbench.runs.notebook import content_hash, parse_assignments, parse_value, read_parameters

CELL = """profile: str = "quick"  # quick or full
seed: int = 0
rate: float = 1  # an int is a fine float
name: str = "a=b"
loud: bool = False"""


def knobs(source=CELL):
    cell = new_code_cell(source, metadata={"tags": ["parameters"]})
    return read_parameters(new_notebook(cells=[cell]))


def test_reads_names_and_defaults():
    found = knobs()
    defaults = {"profile": "quick", "seed": 0, "rate": 1.0, "name": "a=b", "loud": False}
    assert found == defaults
    assert [type(found[name]) for name in defaults] == [str, int, float, str, bool]
    assert read_parameters(new_notebook()) == {}


@pytest.mark.parametrize(
    "line",
    [
        "seed = 1",
        "seed: int",
        "seed: list = []",
        "seed: int | None = None",
        "seed: int = 1.5",
        "seed: int = n",
        "seed: int = True",
        "print(1)",
    ],
)
def test_refuses_lines_that_are_no_parameter(line):
    with pytest.raises(ValueError, match="parameters cell"):
        knobs(line)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "-3", -3),
        ("rate", "1e-4", 1e-4),
        ("rate", "2", 2.0),
        ("name", "", ""),
        ("name", "none", "none"),
        ("loud", "True", True),
        ("loud", "false", False),
    ],
)
def test_parses_values(name, text, value):
    parsed = parse_value(name, text, type(knobs()[name]))
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("seed", "1.5"),
        ("seed", "none"),
        ("seed", ""),
        ("rate", "fast"),
        ("rate", "nan"),
        ("rate", "inf"),
        ("loud", "1"),
    ],
)
def test_refuses_values_of_the_wrong_type(name, text):
    with pytest.raises(ValueError, match=f"-p {name}={text}: must be"):
        parse_value(name, text, type(knobs()[name]))


def test_assignments():
    assert parse_assignments(["seed=3", "name=a=b"]) == {"seed": "3", "name": "a=b"}
    for wrong in (["seed"], ["=3"], ["a b=3"], ["profile=full"], ["seed=1", "seed=2"]):
        with pytest.raises(ValueError, match="-p"):
            parse_assignments(wrong)


def test_jobs_take_only_names_that_their_notebook_knows(repository):
    paths = [repository.add("00_a"), repository.write("01_b", well_formed("01_b"))]
    notebook = repository.read("01_b")
    notebook.cells[1].source += "\nwidth: int = 4  # of something"
    repository.write("01_b", notebook)
    jobs = plan(paths, profile="full", given={"seed": "5", "width": "6"})
    values = {"profile": "full", "seed": 5, "rate": 0.5, "loud": False}
    assert jobs == [Job(paths[0], values), Job(paths[1], {**values, "width": 6})]


LAID_OUT = [
    ("x = f(1, 2)", "x = f(\n    1,\n    2,\n)  # why"),
    ("s = 'a'", 's = "a"'),
    ("def f():\n    return 1", 'def f():\n    """Says what it does."""\n\n    return 1'),
    ("%matplotlib inline\nx", "%matplotlib inline\nx\n"),
]
CHANGED = [
    ("x = f(1, 2)", "x = f(1, 3)"),
    ("'shown'", "'shown too'"),
    ("%matplotlib inline", "%matplotlib widget"),
    ("x = 1", "x = 1.0"),
    ("x = 1", "x = '1'"),
]


def hash_of(source, parameters=None, data=None):
    notebook = new_notebook(cells=[new_code_cell(source)])
    return content_hash(notebook, parameters or {}, data or {})


def test_layout_comments_and_docstrings_are_no_change():
    for before, after in LAID_OUT:
        assert hash_of(before) == hash_of(after), after


def test_code_parameters_and_data_are_a_change():
    for before, after in CHANGED:
        assert hash_of(before) != hash_of(after), after
    assert len({hash_of("x"), hash_of("x", {"seed": 1}), hash_of("x", {}, {"data/x": "1"})}) == 3
