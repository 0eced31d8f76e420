"""From a finished batch to committed notebooks, and what `check` finds when something changed."""

import json

import nbformat
import pytest
from little_repository import Repository, well_formed
from nbformat.v4 import new_output

from workbench.__main__ import main
from workbench.runs import manifest
from workbench.runs.notebook import content_hash
from workbench.runs.record import Findings, check, compare, record
from workbench.runs.run import source_text

NAME = "00_good"
MODULE = "workbench/runs/run.py"

pytestmark = pytest.mark.slow  # the batch that they share


@pytest.fixture(scope="module")
def done(batch, tmp_path_factory):
    """A repository of its own, and the folder of a batch of one notebook."""
    repository = Repository(tmp_path_factory.mktemp("recorded"))
    return repository, batch.of(repository.base / "out", NAME)


@pytest.fixture
def recorded(done):
    """The same, recorded afresh."""
    repository, folder = done
    repository.add(NAME)
    assert record(folder, repository.base) == [NAME]
    return repository


def test_recorded_notebook_is_fresh(recorded, capsys):
    assert check(recorded.base) == {NAME: Findings()}
    assert main(["check"], recorded.base) == 0 and capsys.readouterr().out == f"✓ {NAME}\n"
    notebook = recorded.read(NAME)
    nbformat.validate(notebook)
    stored = notebook.metadata["workbench"]
    parameters = {"profile": "quick", "seed": 7, "rate": 0.25, "loud": False}
    assert stored["parameters"] == parameters and stored["profile"] == "quick"
    assert stored["metrics"] == {"sizes": 2, "eval/accuracy": [0.4, 0.3, 0.5]}
    assert stored["figures"] == ["line"] and stored["seconds"] > 0 and stored["threads"] == 3
    assert stored["recorded_at"].endswith("+00:00")
    assert stored["read"] == list(stored["data"]) == ["data/samples/pool.jsonl"]
    assert MODULE in stored["modules"]
    text = json.dumps(notebook)
    assert "papermill" not in text and str(recorded.base) not in text
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == [1, 2, 3, 4, 5, 6]
    files = sorted(p.name for p in (recorded.base / "figures" / NAME).iterdir())
    assert files == ["line.csv", "line.png", "metrics.json"]


def test_recording_keeps_newer_text(done):
    repository, folder = done
    notebook = nbformat.read(repository.add(NAME), as_version=4)
    notebook.cells[0].source += "\n\nA newer sentence."
    repository.write(NAME, notebook)
    record(folder, repository.base)
    assert "A newer sentence." in repository.read(NAME).cells[0].source
    assert check(repository.base) == {NAME: Findings()}


def found(repository, change):
    """What `check` finds after `change(notebook, stored)`."""
    notebook = repository.read(NAME)
    change(notebook, notebook.metadata["workbench"])
    repository.write(NAME, notebook)
    return check(repository.base)[NAME]


def test_changed_code_or_parameters_are_errors(recorded, capsys):
    def code(notebook, stored):
        notebook.cells[4].source += "\nprint(1)"

    def parameters(notebook, stored):
        stored["parameters"]["rate"] = 0.6

    stale = Findings(("code cells or parameters changed since recording",))
    assert found(recorded, code) == stale
    assert main(["check"], recorded.base) == 1
    assert capsys.readouterr().out == f"✗ {NAME}\n    ✗ {stale.errors[0]}\n"
    recorded.add(NAME)
    record(recorded.base / "out", recorded.base)
    assert found(recorded, parameters) == stale


def test_layout_of_code_is_no_change(recorded):
    def laid_out(notebook, stored):
        notebook.cells[3].source = "S = run.sizes(  # two\n    quick=dict(n=2), full=dict(n=4)\n)\n"

    assert found(recorded, laid_out) == Findings()


def version(notebook, stored):
    stored["package_version"] = "0.0.1"


def package(notebook, stored):
    stored["modules"][MODULE] = "0" * 16


def older(notebook, stored):
    del stored["modules"], stored["read"], stored["threads"]


def shown(notebook, stored):
    notebook.cells[5].outputs[0]["data"]["text/plain"] = "def parse_value(): ..."


def amended(notebook, stored):
    stored["amended"] = [{"at": "2026-11-24", "why": "a name changed"}]


NOTES = [
    (version, "recorded with version 0.0.1, this is"),
    (package, "package code changed since recording: runs: run"),
    (older, "recorded before records held the package code that was loaded"),
    (shown, "shows the code of workbench.runs.notebook:parse_value, which reads differently"),
    (amended, "amended since recording: a name changed (2026-11-24)"),
]


@pytest.mark.parametrize(("change", "note"), NOTES)
def test_what_may_change_outputs_is_a_note(recorded, change, note, capsys):
    """Package code used not to count at all; shown code and the version made notebooks stale."""
    findings = found(recorded, change)
    assert findings.errors == () and len(findings.notes) == 1 and note in findings.notes[0]
    assert main(["check"], recorded.base) == 0
    assert capsys.readouterr().out == f"✓ {NAME}\n    · {findings.notes[0]}\n"


def test_changed_data_are_an_error_and_new_data_are_not(recorded):
    new, old = [recorded.base / "data" / name for name in ("models/new", "samples/pool.jsonl")]
    new.write_text("weights")
    assert check(recorded.base) == {NAME: Findings()}
    old.write_text("[]\n")
    stale = Findings(("changed since recording: data/samples/pool.jsonl",))
    assert check(recorded.base) == {NAME: stale}
    old.write_text("{}\n")
    assert check(recorded.base) == {NAME: Findings()}
    new.unlink()


def test_older_records_list_all_files_and_count_only_those(recorded):
    """Before runs noted what they read, a record held every data file and no `read`."""
    new, unread = recorded.base / "data/samples/new.jsonl", recorded.base / "data/models/unread.csv"
    unread.write_text("1\n")

    def all_files(notebook, stored):
        del stored["read"], stored["threads"]
        stored["data"] = manifest.data_hashes(recorded.base)
        stored["hash"] = content_hash(notebook, stored["parameters"], stored["data"])

    assert found(recorded, all_files) == Findings()
    listed = list(recorded.read(NAME).metadata["workbench"]["data"])
    assert listed == ["data/models/unread.csv", "data/samples/pool.jsonl"]
    new.write_text("{}\n")
    assert check(recorded.base) == {NAME: Findings()}
    stale = Findings(("changed since recording: data/models/unread.csv",))
    unread.write_text("2\n")
    assert check(recorded.base) == {NAME: stale}
    unread.unlink()
    assert check(recorded.base) == {NAME: stale}
    new.unlink()


def test_missing_figures_and_unrecorded_notebooks_are_errors(recorded):
    (recorded.base / "figures" / NAME / "line.csv").unlink()
    assert check(recorded.base)[NAME].errors == (f"figures/{NAME} lacks line.csv",)
    recorded.add(NAME)
    assert "never recorded" in check(recorded.base)[NAME].errors[0]


def test_record_refuses_what_changed_or_is_incomplete(done, tmp_path, monkeypatch):
    repository, folder = done
    repository.add(NAME, "x = 1\nassert x")
    with pytest.raises(ValueError, match="changed since the run"):
        record(folder, repository.base)
    before = repository.add(NAME).read_bytes()
    changed = pytest.raises(ValueError, match=f"changed since the run: {MODULE}")
    with monkeypatch.context() as patch, changed:
        patch.setattr(manifest, "changed_modules", lambda then: [MODULE])
        record(folder, repository.base)
    with pytest.raises(ValueError, match="no batch"):
        record(tmp_path, repository.base)
    figure = folder / "figures" / NAME / "line.csv"
    figure.rename(tmp_path / "line.csv")
    with pytest.raises(ValueError, match=r"incomplete: no line\.csv"):
        record(folder, repository.base)
    (tmp_path / "line.csv").rename(figure)
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


def test_compare_finds_intervals_that_do_not_overlap(recorded, tmp_path, capsys):
    metrics = {"eval/accuracy": [0.55, 0.51, 0.6], "sizes": 9, "other": [0, 0, 0]}
    measured = {"event": "completed", "notebook": NAME, "metrics": metrics}
    nbformat.write(recorded.read(NAME), tmp_path / f"{NAME}.ipynb")
    manifest.append(tmp_path, measured)
    apart = ["eval/accuracy is 0.55 [0.51, 0.6], recorded 0.4 [0.3, 0.5]"]
    assert compare(recorded.base, tmp_path) == {NAME: apart}
    assert main(["check", "--against", str(tmp_path)], recorded.base) == 1
    assert capsys.readouterr().out == f"✗ {NAME}\n    ✗ {apart[0]}\n"
    manifest.append(tmp_path, {**measured, "metrics": {"eval/accuracy": [0.5, 0.45, 0.7]}})
    assert compare(recorded.base, tmp_path) == {NAME: []}
    assert main(["check", "--against", str(tmp_path)], recorded.base) == 0
    with pytest.raises(ValueError, match="no completed"):
        compare(recorded.base, tmp_path / "nothing")


def test_compare_says_at_which_sizes_a_metric_that_misses_was_measured(repository, tmp_path):
    tables = (
        "quick  full (this run)\nn     2      1,500",
        "quick (this run)  full\nn     2       1,500",
    )
    recorded, executed = well_formed(NAME), well_formed(NAME)
    for notebook, table in zip((recorded, executed), tables):
        notebook.cells[3].outputs = [new_output("display_data", {"text/plain": f"size  {table}"})]
    repository.write(NAME, recorded)
    repository.recorded(NAME, metrics={"eval/accuracy": [0.4, 0.3, 0.5]})
    nbformat.write(executed, tmp_path / f"{NAME}.ipynb")
    measured = {"event": "completed", "notebook": NAME}
    manifest.append(tmp_path, {**measured, "metrics": {"eval/accuracy": [0.55, 0.51, 0.6]}})
    apart = "eval/accuracy is 0.55 [0.51, 0.6], recorded 0.4 [0.3, 0.5]"
    sizes = "measured at other sizes (n: 2, recorded 1,500)"
    assert compare(repository.base, tmp_path) == {NAME: [apart, sizes]}
    manifest.append(tmp_path, {**measured, "metrics": {"eval/accuracy": [0.5, 0.45, 0.7]}})
    assert compare(repository.base, tmp_path) == {NAME: []}


def test_compare_names_what_did_not_complete(recorded, tmp_path):
    manifest.append(tmp_path, {"event": "batch", "notebooks": [NAME, "00_other", "02_late"]})
    manifest.append(tmp_path, {"event": "completed", "notebook": NAME, "metrics": {}})
    manifest.append(tmp_path, {"event": "failed", "notebook": "00_other", "error": "E: x"})
    late = [f"did not complete in {tmp_path}"]
    assert compare(recorded.base, tmp_path) == {"00_other": late, "02_late": late, NAME: []}


@pytest.mark.parametrize(
    ("name", "first"),
    [("start", "def start("), ("Run", "class Run:"), ("Run.log", "def log(self"), ("", '"""What')],
)
def test_source_text_is_found_by_name(name, first):
    assert source_text(f"workbench.runs.run:{name}").startswith(first)
    assert source_text("workbench.runs.run:gone") is source_text("workbench.gone:x") is None


def test_source_text_is_found_where_a_function_is_named_like_its_module():
    assert source_text("workbench.search.sample:sample").startswith("def sample(")
