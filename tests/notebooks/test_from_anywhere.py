"""papermill and jupyter run a notebook by its path, from whatever folder one stands in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHEAP = "00_start_here"
SOURCE = str(NOTEBOOKS / f"{CHEAP}.ipynb")
COMMANDS = {
    "papermill": ["papermill", SOURCE, "out.ipynb", "-p", "seed", "1"],
    "jupyter": ["jupyter", "execute", SOURCE, "--output", "OUT"],
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("tool", COMMANDS)
def test_a_notebook_runs_from_another_folder(tool, tmp_path):
    env = {name: x for name, x in os.environ.items() if not name.startswith("WORKBENCH_")}
    env |= {"PYTHONPATH": str(NOTEBOOKS.parent), "OMP_NUM_THREADS": "1"}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    command = [str(tmp_path / "out") if word == "OUT" else word for word in COMMANDS[tool]]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code and all(cell.execution_count for cell in code if "".join(cell.source).strip())
    assert f"{CHEAP} finished in" in json.dumps([cell.outputs for cell in code])
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]  # nothing else is left
