"""The manifest survives being cut off, and knows which data and code a notebook depended on."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.runs import environment, manifest
from workbench.runs.batch import Job, is_done
from workbench.runs.notebook import available, code_cells, load


def test_appends_and_reads_back(tmp_path):
    assert manifest.read(tmp_path) == []
    manifest.append(tmp_path, {"event": "batch", "notebooks": ["a"]})
    manifest.append(tmp_path, {"event": "completed", "notebook": "a"})
    records = manifest.read(tmp_path)
    assert [r["event"] for r in records] == ["batch", "completed"]
    assert manifest.header(records)["notebooks"] == ["a"]


def test_half_written_line_is_skipped_and_harms_no_other(tmp_path):
    manifest.append(tmp_path, {"event": "failed", "notebook": "a"})
    with (tmp_path / manifest.NAME).open("a") as file:
        file.write('{"event": "completed", "noteb')
    assert [r["event"] for r in manifest.read(tmp_path)] == ["failed"]
    manifest.append(tmp_path, {"event": "completed", "notebook": "a"})
    assert [r["event"] for r in manifest.read(tmp_path)] == ["failed", "completed"]
    assert manifest.outcomes(manifest.read(tmp_path))["a"]["event"] == "completed"


def test_refuses_what_is_not_json(tmp_path):
    with pytest.raises(ValueError):
        manifest.append(tmp_path, {"loss": float("nan")})
    assert manifest.read(tmp_path) == []


def test_processes_append_whole_lines_at_once(tmp_path):
    code = """
import sys; from pathlib import Path; from workbench.runs import manifest
for i in range(50):
    manifest.append(Path(sys.argv[1]), {"by": sys.argv[2], "i": i, "text": sys.argv[2] * 30_000})"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "abcd"
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    records = manifest.read(tmp_path)
    assert sorted((r["by"], r["i"]) for r in records) == [
        (name, i) for name in "abcd" for i in range(50)
    ]
    assert all(r["text"] == r["by"] * 30_000 for r in records)


@pytest.fixture
def files(tmp_path):
    manifest.watch()
    for name in ("a/b/c.txt", "a/b/d/e.txt", "a/f.txt", "g.txt", "a/README.md", "h/i/j.txt"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("")
    return tmp_path


def test_files_count_by_folder_or_alone(files, monkeypatch):
    assert manifest.data_read(files) == []
    (files / "data/a/b/d/e.txt").read_text()
    assert manifest.data_read(files) == ["data/a/b"]
    monkeypatch.chdir(files / "data" / "a")
    open("f.txt").close()
    os.close(os.open(os.fsencode(files / "data/g.txt"), os.O_RDONLY))
    assert manifest.data_read(files) == ["data/a/b", "data/a/f.txt", "data/g.txt"]
    assert list(manifest.data_hashes(files, manifest.data_read(files))) == [
        "data/a/b/c.txt",
        "data/a/b/d/e.txt",
        "data/a/f.txt",
        "data/g.txt",
    ]


def test_samples_count_one_by_one(files):
    for name in ("one.npz", "other.npz"):
        (files / "data/samples/pools").mkdir(parents=True, exist_ok=True)
        (files / "data/samples/pools" / name).write_text("")
    (files / "data/samples/pools/one.npz").read_text()
    assert manifest.data_read(files) == ["data/samples/pools/one.npz"]
    assert list(manifest.data_hashes(files, ["data/samples/pools"])) == [
        "data/samples/pools/one.npz",
        "data/samples/pools/other.npz",
    ]  # as records of before name them


def test_writing_listing_and_reading_about_data_do_not_count(files):
    (files / "data/h/i/j.txt").write_text("new")
    (files / "data/a/README.md").read_text()
    assert len(list((files / "data").rglob("*.txt"))) == 5
    os.close(os.open(files / "data/h", os.O_RDONLY))
    assert manifest.data_read(files) == []


def test_a_link_to_the_data_is_followed(files):
    (files / "link").symlink_to(files / "data")
    (files / "link/a/f.txt").read_text()
    assert manifest.data_read(files) == ["data/a/f.txt"]


def test_the_hook_leaves_errors_alone(files):
    with pytest.raises(FileNotFoundError):
        (files / "data/gone.txt").read_text()
    with pytest.raises(ValueError, match="null"):
        Path("a\0b").read_text()
    sys.audit("open", "only a path")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("data/models/two/model.safetensors", False),
        ("data/samples/pool.jsonl", False),
        ("data/models/two/new.json", False),
        ("data/models/three/config.json", False),
        ("data/models/new.csv", False),
        ("data/models/one/README.md", False),
        ("data/tables/a/x.csv", True),
        ("data/models/one/model.safetensors", True),
        ("data/models/one/new.json", True),
        ("data/tables/a/deeper/new.csv", True),
    ],
)
def test_only_what_was_read_has_to_run_again(batch, name, stale):
    base = batch.repository.base
    path = base / name
    before = path.read_bytes() if path.exists() else None
    outcome = manifest.outcomes(manifest.read(batch.folder))["07_reader"]
    assert outcome["read"] == ["data/models/one", "data/tables/a"]
    job = Job(base / "notebooks/07_reader.ipynb", outcome["parameters"])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"other")
    try:
        assert is_done(outcome, job, batch.folder, base) != stale
    finally:
        path.unlink() if before is None else path.write_bytes(before)
    assert is_done(outcome, job, batch.folder, base)


def test_a_folder_of_data_that_is_gone_is_missing(tmp_path):
    record = {"read": ["data/models/one"], "data": {"data/models/one/config.json": "abc"}}
    assert manifest.data_today(tmp_path, record) == {"data/models/one": "missing"}


def test_what_a_module_does_counts_not_how_it_reads(tmp_path):
    file = tmp_path / "module.py"
    texts = [
        '"""About it."""',
        '"""Otherwise."""',
        "# nothing",
        'def f(x):\n    """Doc."""\n    return x',
        "def f(\n    x,  # the only one\n): return x",
        "def f(x): return -x",
    ]
    hashes = []
    for text in texts:
        file.write_text(text)
        hashes.append(manifest.module_hash(file))
    assert hashes[0] == hashes[1] == hashes[2] and hashes[3] == hashes[4]
    assert len({hashes[0], hashes[3], hashes[5]}) == 3


def test_changed_modules_are_those_of_other_code_or_gone():
    then = manifest.loaded_modules()
    assert "workbench/runs/manifest.py" in then and manifest.changed_modules(then) == []
    changed = then | {"workbench/types.py": "0" * 16, "workbench/gone.py": "0" * 16}
    assert set(manifest.changed_modules(changed)) == {"workbench/types.py", "workbench/gone.py"}


def test_a_module_that_changes_while_a_notebook_runs_is_not_taken_for_the_one_that_ran(monkeypatch):
    path = manifest.root() / "workbench/types.py"
    assert path in manifest.AT_FIRST
    monkeypatch.setitem(manifest.AT_FIRST, path, "x = 1")
    then = manifest.loaded_modules()
    assert then["workbench/types.py"] == manifest.MEANWHILE
    assert manifest.changed_modules(then) == ["workbench/types.py"]


@pytest.mark.slow
def test_imports_of_the_notebooks_open_no_data():
    """Their set-up cells import first and start then: data that an import read would be missed."""
    trees = [ast.parse(code_cells(load(path))[1].source) for path in available(environment.root())]
    kinds = (ast.Import, ast.ImportFrom)
    lines = sorted(
        {ast.unparse(node) for tree in trees for node in tree.body if isinstance(node, kinds)}
    )
    code = ["from workbench.runs import environment, manifest", "manifest.watch()", *lines]
    code += [
        "found = manifest.data_read(environment.root())",
        "assert found == [] and len(manifest.opened) > 100, found",
    ]
    assert len(lines) > 10
    assert (
        subprocess.run(
            [sys.executable, "-c", "\n".join(code)], cwd=Path(__file__).parents[2]
        ).returncode
        == 0
    )
