"""The manifest of a run: one JSON record a line, appended in one write and flushed to disk before
going on.

A line that was cut off by a crash or a power failure is skipped on reading and never damages the
one after it. Several processes may append at once: lines stay whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

NAME = "manifest.jsonl"


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append(folder: Path, record: Mapping[str, object]) -> None:
    """Add a record to the folder's manifest; it is on disk when this returns."""
    path = folder / NAME
    line = json.dumps({**record, "at": now()}, allow_nan=False) + "\n"
    with path.open("ab+", buffering=0) as file:
        if file.tell() and not _ends_with_newline(file):
            line = "\n" + line
        if file.write(line.encode()) < len(line.encode()):
            raise OSError(f"{path}: the disk is full")
        os.fsync(file.fileno())


def _ends_with_newline(file) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read(folder: Path) -> list[dict]:
    """All whole records of the folder's manifest, oldest first; none if there is no manifest."""
    path = folder / NAME
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def outcomes(records: list[dict]) -> dict[str, dict]:
    """For each notebook its latest outcome: the last record whose event is `completed` or `failed`."""
    return {r["notebook"]: r for r in records if r.get("event") in ("completed", "failed")}


def header(records: list[dict]) -> dict | None:
    """What the batch was asked to do: its first record, or None if this is no batch."""
    return next((r for r in records if r.get("event") == "batch"), None)


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    os.replace(part, path)
