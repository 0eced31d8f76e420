"""`python -m workbench recipe`: which there are, and what a wrong name is told."""

import re

import pytest

from workbench.__main__ import main
from workbench.recipes import RECIPES


def test_without_a_name_every_recipe_is_listed_below_what_it_makes(capsys):
    assert main(["recipe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = []
    for name in " ".join(line for line in lines if line.startswith("    ")).split():
        stem, _, numbers = name.rstrip("}").partition("-{")
        names += [f"{stem}-{number}" for number in numbers.split(",")] if numbers else [stem]
    assert sorted(names) == sorted(RECIPES)
    assert all(line.endswith(".") for line in lines if not line.startswith(" "))


def test_a_wrong_name_is_told_the_nearest_ones_and_nothing_is_made(tmp_path, capsys):
    assert main(["recipe", "prm-bse"], tmp_path) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"workbench: recipe 'prm-bse': .* did you mean prm-base or .*\n", said)
    assert not [*tmp_path.iterdir()]


def test_what_a_command_does_not_know_it_says_itself(capsys):
    for words, said in (
        (["run", "00", "--seed", "3"], r"--seed 3; a notebook's parameter: -p NAME=VALUE \(help"),
        (
            ["doctor", "now"],
            r"unrecognized arguments: now \(help: python -m workbench doctor --help",
        ),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert re.search(said, capsys.readouterr().err)
