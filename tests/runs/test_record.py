"""From a finished batch to committed notebooks, and what `check` finds when something changed
afterwards."""

import json

import nbformat
import pytest
from workbench.runs.check import check, compare, package_source

from workbench.__main__ import main
from workbench.runs import content, manifest
from workbench.runs.record import record

NAME = "00_good"


@pytest.fixture(scope="module")
def done(shared_repository):
    """A repository and the folder of a finished batch of one notebook."""
    shared_repository.add(NAME)
    folder = shared_repository.base / "out"
    assert (
        main(["run", "0", "--profile", "full", "--output", str(folder)], shared_repository.base)
        == 0
    )
    return shared_repository, folder


@pytest.fixture
def recorded(done):
    """The same, recorded afresh."""
    repository, folder = done
    repository.add(NAME)
    assert record(folder, repository.base) == [NAME]
    return repository


def test_recorded_notebook_is_fresh_and_keeps_all_rules(recorded, capsys):
    assert check(recorded.base) == {NAME: []}
    assert main(["check"], recorded.base) == 0 and capsys.readouterr().out == f"✓ {NAME}\n"
    notebook = recorded.read(NAME)
    nbformat.validate(notebook)
    stored = notebook.metadata["workbench"]
    assert (
        stored["profile"] == "full"
        and stored["parameters"]["rate"] == 0.5
        and stored["figures"] == ["line"]
    )
    assert (
        stored["metrics"] == {"sizes": 4, "eval/accuracy": [0.4, 0.3, 0.5]}
        and stored["seconds"] > 0
    )
    assert stored["recorded_at"].endswith("+00:00") and "threads" in stored
    assert stored["read"] == list(stored["data"]) == ["data/samples/pool.jsonl"]
    assert "papermill" not in json.dumps(notebook) and str(recorded.base) not in json.dumps(
        notebook
    )
    assert [c.execution_count for c in notebook.cells if c.cell_type == "code"] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    files = sorted(p.name for p in (recorded.base / "figures" / NAME).iterdir())
    assert files == ["line.csv", "line.png", "metrics.json"]


def test_recording_keeps_newer_text(done):
    repository, folder = done
    notebook = nbformat.read(repository.add(NAME), as_version=4)
    notebook.cells[0].source += "\n\nA newer sentence."
    repository.write(NAME, notebook)
    record(folder, repository.base)
    assert "A newer sentence." in repository.read(NAME).cells[0].source and check(
        repository.base
    ) == {NAME: []}


def problems(repository, change):
    notebook = repository.read(NAME)
    change(notebook)
    repository.write(NAME, notebook)
    return check(repository.base)[NAME]


def test_check_finds_changed_code(recorded, capsys):
    def change(notebook):
        notebook.cells[4].source += "\nprint(1)"

    assert problems(recorded, change) == ["stale: code cells or parameters changed since recording"]
    assert main(["check"], recorded.base) == 1
    assert capsys.readouterr().out.startswith(f"✗ {NAME}\n    stale: code cells")


def test_check_finds_other_parameters_version_and_shown_code(recorded):
    def parameters(notebook):
        notebook.metadata["workbench"]["parameters"]["rate"] = 0.6

    def version(notebook):
        notebook.metadata["workbench"]["package_version"] = "0.0.1"

    def shown(notebook):
        notebook.cells[5].outputs[0]["data"]["text/plain"] = "def parse_value(): ..."

    (stale,) = problems(recorded, shown)
    assert stale.startswith("stale: shows the code of workbench.runs.parameters:parse_value")
    assert "stale: code cells or parameters changed since recording" in problems(
        recorded, parameters
    )
    assert problems(recorded, version)[0].startswith("stale: recorded with version 0.0.1")


def test_check_finds_changed_data_but_allows_new_data(recorded):
    new, old = (
        recorded.base / "data/models/new.safetensors",
        recorded.base / "data/samples/pool.jsonl",
    )
    new.write_text("weights")
    assert check(recorded.base) == {NAME: []}
    old.write_text("[]\n")
    assert check(recorded.base)[NAME] == ["stale: changed since recording: data/samples/pool.jsonl"]
    old.write_text("{}\n")
    assert check(recorded.base) == {NAME: []}
    new.unlink()


def test_older_records_list_all_files_and_count_only_those(recorded):
    """Before runs noted what they read, a record held every data file and no `read`."""
    new, unread = recorded.base / "data/samples/new.jsonl", recorded.base / "data/models/unread.csv"
    unread.write_text("1\n")

    def older(notebook):
        stored = notebook.metadata["workbench"]
        del stored["read"], stored["threads"]
        stored["data"] = content.data_hashes(recorded.base)
        stored["hash"] = content.content_hash(notebook, stored["parameters"], stored["data"])

    assert problems(recorded, older) == []
    assert list(recorded.read(NAME).metadata["workbench"]["data"]) == [
        "data/models/unread.csv",
        "data/samples/pool.jsonl",
    ]
    new.write_text("{}\n")
    assert check(recorded.base) == {NAME: []}
    unread.write_text("2\n")
    assert check(recorded.base)[NAME] == ["stale: changed since recording: data/models/unread.csv"]
    unread.unlink()
    assert check(recorded.base)[NAME] == ["stale: changed since recording: data/models/unread.csv"]
    new.unlink()


def test_check_finds_missing_figures_and_unrecorded_notebooks(recorded):
    (recorded.base / "figures" / NAME / "line.csv").unlink()
    assert check(recorded.base)[NAME] == [f"figures/{NAME} lacks line.csv"]
    recorded.add(NAME)
    assert "never recorded" in check(recorded.base)[NAME][-1]


def test_record_refuses_what_changed_or_is_incomplete(done, tmp_path, monkeypatch):
    repository, folder = done
    repository.add(NAME, "x = 1\nassert x")
    with pytest.raises(ValueError, match="changed since the run"):
        record(folder, repository.base)
    before = repository.add(NAME).read_bytes()
    with (
        monkeypatch.context() as patch,
        pytest.raises(ValueError, match=r"changed since the run: workbench/runs/run\.py"),
    ):
        patch.setattr(content, "changed_modules", lambda then: ["workbench/runs/run.py"])
        record(folder, repository.base)
    with pytest.raises(ValueError, match="no batch"):
        record(tmp_path, repository.base)
    (folder / "figures" / NAME / "line.csv").rename(tmp_path / "line.csv")
    with pytest.raises(ValueError, match=r"incomplete: no line\.csv"):
        record(folder, repository.base)
    (tmp_path / "line.csv").rename(folder / "figures" / NAME / "line.csv")
    assert (repository.base / "notebooks" / f"{NAME}.ipynb").read_bytes() == before


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (None, "has not run yet: finish with --resume"),
        ({"event": "failed", "error": "cell [3]: E: x"}, "failed: cell"),
    ],
)
def test_record_refuses_batches_that_did_not_complete(repository, outcome, message):
    manifest.append(repository.base, {"event": "batch", "notebooks": [NAME]})
    if outcome:
        manifest.append(repository.base, {"notebook": NAME, **outcome})
    with pytest.raises(ValueError, match=message):
        record(repository.base, repository.base)


def test_compare_flags_intervals_that_do_not_overlap(recorded, tmp_path, capsys):
    metrics = {"eval/accuracy": [0.55, 0.51, 0.6], "sizes": 9, "other": [0, 0, 0]}
    manifest.append(tmp_path, {"event": "completed", "notebook": NAME, "metrics": metrics})
    found = compare(recorded.base, tmp_path)
    assert found == {NAME: ["eval/accuracy is 0.55 [0.51, 0.6], recorded 0.4 [0.3, 0.5]"]}
    assert main(["check", "--against", str(tmp_path)], recorded.base) == 1
    assert "eval/accuracy is 0.55" in capsys.readouterr().out
    manifest.append(
        tmp_path,
        {"event": "completed", "notebook": NAME, "metrics": {"eval/accuracy": [0.5, 0.45, 0.7]}},
    )
    assert compare(recorded.base, tmp_path) == {NAME: []}
    with pytest.raises(ValueError, match="no completed"):
        compare(recorded.base, tmp_path / "nothing")


def test_package_source_reads_what_inspect_reads():
    import inspect

    from workbench.runs import run

    for thing, name in (
        (run.start, "start"),
        (run.Run, "Run"),
        (run.Run.log, "Run.log"),
        (run, ""),
    ):
        expected = inspect.cleandoc("\n" + inspect.getsource(thing)) if name != "Run.log" else None
        shown = package_source(f"workbench.runs.run:{name}")
        assert shown.startswith("def log(self") if expected is None else shown == expected.rstrip()
    assert (
        package_source("workbench.runs.run:gone") is None
        and package_source("workbench.gone:x") is None
    )
