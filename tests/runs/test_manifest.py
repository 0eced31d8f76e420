"""The manifest survives being cut off."""

import subprocess
import sys

import pytest

from workbench.runs import manifest


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
