"""The solutions of the exercises run, each from a fresh kernel's state, and their asserts hold."""

from contextlib import redirect_stdout
from io import StringIO

import nbformat
import pytest

from workbench.runs.environment import root

PATHS = sorted((root() / "notebooks" / "solutions").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # they train: minutes on a processor without bfloat16 units
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_solution_runs(path, one_thread):
    names, printed = {"__name__": "__main__"}, StringIO()
    with redirect_stdout(printed):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, path.name, "exec"), names)
    assert printed.getvalue()  # each says what it found
