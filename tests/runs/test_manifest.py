"""The manifest survives being cut off."""

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
