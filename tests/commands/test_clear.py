"""`clear` takes outputs off copies; the recorded notebooks stay, unless that is asked for."""

import nbformat
import pytest
from little_repository import Repository, well_formed
from nbformat.v4 import new_code_cell, new_output

from workbench.__main__ import main
from workbench.runs.notebook import code_cells, read_parameters

NAME = "00_good"


@pytest.fixture
def repository(tmp_path):
    """One recorded notebook with an exercise, and the glossary that it links to."""
    repository, notebook = Repository(tmp_path), well_formed(NAME)
    notebook.cells.insert(-1, new_code_cell("# your code"))
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count, cell.outputs = count, [new_output("stream", text="seen")]
    notebook.metadata["workbench"] = {"metrics": {"eval/accuracy": 0.4}}
    repository.write(NAME, notebook)
    (tmp_path / "notebooks/glossary.md").write_text("# Glossary\n")
    return repository


def is_cleared(before, after):
    """No outputs, counts or record; all cells, tags and parameters as before."""
    assert [c.source for c in after.cells] == [c.source for c in before.cells]
    assert [c.metadata for c in after.cells] == [c.metadata for c in before.cells]
    assert read_parameters(after) == read_parameters(before)
    assert "workbench" not in after.metadata
    return not any(cell.outputs or cell.execution_count for cell in code_cells(after))


def test_copies_lose_their_outputs_and_the_recorded_ones_keep_them(repository, tmp_path, capsys):
    file, folder = tmp_path / f"notebooks/{NAME}.ipynb", tmp_path / "class"
    recorded = file.read_bytes()
    assert main(["clear", "--output", str(folder)], tmp_path) == 0
    assert capsys.readouterr().out == f"without outputs: {NAME}, in {folder}\n"
    assert file.read_bytes() == recorded
    assert is_cleared(nbformat.read(file, 4), nbformat.read(folder / file.name, 4))
    assert sorted(path.name for path in folder.iterdir()) == [file.name, "glossary.md"]


def test_in_place_only_if_asked(repository, tmp_path):
    before = repository.read(NAME)
    assert main(["clear", "00", "--in-place"], tmp_path) == 0
    assert is_cleared(before, repository.read(NAME))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["07"], "07: no such notebook"),
        (["--output", "notebooks"], "notebooks is not empty"),
        (["--output", "notebooks/glossary.md"], "is not empty"),
    ],
)
def test_bad_input_writes_nothing(repository, tmp_path, words, complaint, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["clear", *words], tmp_path) == 2
    assert complaint in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before
