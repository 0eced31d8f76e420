"""Reading the parameters cell and refusing what does not fit, before anything runs."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from workbench.runs.parameters import parse_assignments, parse_value, read_parameters, values_for

CELL = """profile: str = "quick"  # quick or full
seed: int = 0
rate: float = 1  # an int is a fine float
name: str = "a=b"
loud: bool = False
limit: int | None = None
shift: Optional[float] = -0.5"""


def knobs(source=CELL):
    return read_parameters(
        new_notebook(cells=[new_code_cell(source, metadata={"tags": ["parameters"]})])
    )


def test_reads_names_types_and_defaults():
    found = knobs()
    assert [(k.name, k.type, k.default, k.optional) for k in found.values()] == [
        ("profile", "str", "quick", False),
        ("seed", "int", 0, False),
        ("rate", "float", 1, False),
        ("name", "str", "a=b", False),
        ("loud", "bool", False, False),
        ("limit", "int", None, True),
        ("shift", "float", -0.5, True),
    ]
    assert read_parameters(new_notebook()) == {}


@pytest.mark.parametrize(
    "line",
    [
        "seed = 1",
        "seed: int",
        "seed: list = []",
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
        ("limit", "None", None),
        ("limit", "7", 7),
        ("shift", "none", None),
    ],
)
def test_parses_values(name, text, value):
    parsed = parse_value(knobs()[name], text)
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
        parse_value(knobs()[name], text)


def test_assignments():
    assert parse_assignments(["seed=3", "name=a=b"]) == {"seed": "3", "name": "a=b"}
    for wrong in (["seed"], ["=3"], ["a b=3"], ["profile=full"], ["seed=1", "seed=2"]):
        with pytest.raises(ValueError, match="-p"):
            parse_assignments(wrong)


def test_values_take_only_names_that_the_notebook_knows():
    values = values_for(knobs(), {"seed": "5", "elsewhere": "x"}, "full")
    assert values["seed"] == 5 and values["profile"] == "full" and "elsewhere" not in values
