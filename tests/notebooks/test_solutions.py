"""The solutions of the exercises run, each from a fresh kernel's state, and their own asserts hold."""

import nbformat
import pytest
from workbench.runs.content import root

SOLUTIONS = [
    pytest.param(path, id=path.stem)
    for path in sorted((root() / "notebooks" / "solutions").glob("*.ipynb"))
]


@pytest.mark.parametrize("path", SOLUTIONS)
def test_solution_runs(path, capsys):
    names = {"__name__": "__main__"}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, path.name, "exec"), names)
    assert capsys.readouterr().out  # each says what it found
