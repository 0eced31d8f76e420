"""Records as JSON lines, read back equal to what was written; a result file that survives a kill.

JSON knows neither tuples nor records. So an array is a tuple here, a list is `{"@list": [...]}`, a
record of ours `{"@Step": {its fields}}` without its defaults. `to_plain` and `from_plain` reach
whatever lies in `meta`. The problem of a result is written once.

A file's first line names the run: what its models are, method, options, seed, budget. Each further
line is one finished problem. A last line that was cut off is dropped and its problem run again; any
other unreadable line is an error that names file and line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from workbench import types
from workbench.files import alone
from workbench.types import Meter, Problem, SearchResult

RECORDS = {
    kind.__name__: kind
    for kind in (
        types.Problem, types.Step, types.Prefix, types.LabelledSolution, types.Sample, types.Score,
        types.Meter, types.Budget, types.SearchResult,
    )
}  # fmt: skip


def read_lines(path: str | Path, *, drop_cut_off: bool = False) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; ValueError with file and line number for a line that is none.

    `drop_cut_off`: a last line without its newline (the writer was killed) is left out instead.
    """
    return (row for row, _, _ in _placed_lines(path, drop_cut_off))


def _placed_lines(
    path: str | Path, drop_cut_off: bool
) -> Iterator[tuple[dict[str, Any], int, int]]:
    """The objects of a JSONL file, each with the bytes where its line begins and ends."""
    end = 0
    with Path(path).open("rb") as file:  # bytes: a line may be cut off inside a letter
        for number, line in enumerate(file, 1):
            if drop_cut_off and not line.endswith(b"\n"):
                return
            start, end = end, end + len(line)
            try:
                row = json.loads(line.decode())
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                found = f"need an object, found {line.decode()[:40]!r}"
                raise ValueError(f"{path}, line {number}: {found}")
            yield row, start, end


# -- values as JSON --------------------------------------------------------------------------------


def to_plain(value: Any, problem: Problem | None = None) -> Any:
    """A value as plain JSON; where `problem` stands in it, a mark. ValueError for other classes.

    >>> to_plain((1, [2.5], {"a": types.Step("x", (7,))}))
    [1, {'@list': [2.5]}, {'a': {'@Step': {'text': 'x', 'ids': [7]}}}]
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if type(value) is tuple:  # a named one would come back without its names
        return [to_plain(x, problem) for x in value]
    if isinstance(value, list):
        return {"@list": [to_plain(x, problem) for x in value]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and key[:1] != "@" for key in value):
            return {key: to_plain(x, problem) for key, x in value.items()}
        pairs = [[to_plain(key, problem), to_plain(x, problem)] for key, x in value.items()]
        return {"@dict": pairs}
    if value is problem or (isinstance(value, Problem) and value == problem):
        return {"@Problem": {}}
    if RECORDS.get(type(value).__name__) is type(value):
        return {f"@{type(value).__name__}": _fields(value, problem)}
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return to_plain(value.item(), problem)  # a number of NumPy or torch
    may = "numbers, text, tuples, lists, dictionaries and the records of workbench.types"
    given = f"a {type(value).__name__} can't be saved ({value!r:.40})"
    raise ValueError(f"{given}: results may hold {may}")


def _fields(record: Any, problem: Problem | None = None) -> dict[str, Any]:
    """The fields of a record that differ from their defaults, encoded."""
    out = {}
    for field in fields(record):
        value = getattr(record, field.name)
        made = MISSING if field.default_factory is MISSING else field.default_factory()
        if value != field.default and value != made:
            out[field.name] = to_plain(value, problem)
    return out


def as_written(value: Any) -> str:
    """A value as a file would hold it, by which two can be compared."""
    return json.dumps(to_plain(value), sort_keys=True)


def from_plain(value: Any, problem: Problem | None = None) -> Any:
    """What `to_plain` wrote, with `problem` where the mark stands.

    >>> from_plain(json.loads(json.dumps(to_plain((1, [2], {"a": types.Step("x")})))))
    (1, [2], {'a': Step(text='x', ids=(), logprobs=())})
    """
    if isinstance(value, list):
        return tuple(from_plain(x, problem) for x in value)
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if tag[:1] != "@":
        return {key: from_plain(x, problem) for key, x in value.items()}
    content = from_plain(value[tag], problem)
    if tag == "@list":
        return list(content)
    if tag == "@dict":
        return dict(content)
    return problem if tag == "@Problem" and not content else RECORDS[tag[1:]](**content)


def to_json(result: SearchResult) -> dict[str, Any]:
    """A plain dictionary of a result; `from_json` makes an equal one of it, types included."""
    row = _fields(result, result.problem)
    row |= {"problem": _fields(result.problem), "meter": asdict(result.meter)}
    if result.best in result.rollouts:
        row["best"] = result.rollouts.index(result.best)  # written once
    return row


def from_json(row: Mapping[str, Any]) -> SearchResult:
    """The result that `to_json` wrote."""
    problem = Problem(**from_plain(row["problem"]))
    others = [name for name in row if name not in ("problem", "meter")]
    found = {name: from_plain(row[name], problem) for name in others}
    if isinstance(best := found.get("best"), int):
        found["best"] = found["rollouts"][best]
    return SearchResult(problem, meter=Meter(**row["meter"]), **found)


# -- the file --------------------------------------------------------------------------------------


def held(path: str | Path) -> AbstractContextManager[None]:
    """Keep other runs from a result file; a killed run's kernel may need a moment to let go."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return alone(path, wait_s=3.0)


class ResultFile:
    """Finished problems on disk, by (id, occurrence); appended and flushed to disk one by one.

    `run` says which run this is. ValueError, naming what differs, if another one began the file.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any]):
        self.path = Path(path)
        self._lines: dict[tuple[str, int], int] = {}  # where each one begins: results may be many
        if self.path.exists() and self.path.stat().st_size:
            self._read(run)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write({"run": dict(run)})

    def has(self, id: str, occurrence: int) -> bool:
        """Was the result of this problem there when the file was opened?"""
        return (id, occurrence) in self._lines

    def get(self, id: str, occurrence: int) -> SearchResult | None:
        """The saved result of a problem, None if it is still to be run."""
        if not self.has(id, occurrence):
            return None
        with self.path.open("rb") as file:
            file.seek(self._lines[id, occurrence])
            row = json.loads(file.readline())
        del row["occurrence"]
        return from_json(row)

    def append(self, result: SearchResult, occurrence: int) -> None:
        """Write one finished problem; it is on disk when this returns."""
        self._write({"occurrence": occurrence, **to_json(result)})

    def _read(self, run: Mapping[str, Any]) -> None:
        """Remember where each result stands; drop what follows the last newline, so that the
        next line starts on its own."""
        end = 0
        lines = _placed_lines(self.path, drop_cut_off=True)
        for number, (row, start, stop) in enumerate(lines, 1):
            if start == 0:
                self._compare(row.get("run"), run)
            else:
                try:
                    key = row["problem"]["id"], row["occurrence"]
                    if not row.get("error"):  # of an older version: to be tried again
                        self._lines[key] = start
                except (KeyError, TypeError):
                    raise ValueError(f"{self.path}, line {number}: no result") from None
            end = stop
        if not end and not self._begins_as_ours():
            raise ValueError(f"{self.path} holds something else than results: name a new file")
        os.truncate(self.path, end)
        if not end:
            self._write({"run": dict(run)})

    def _begins_as_ours(self) -> bool:
        """Is the file empty, or does it begin as a first line that was cut off?"""
        first = b'{"run": '
        with self.path.open("rb") as file:
            return first.startswith(file.read(len(first)))

    def _compare(self, written: Any, run: Mapping[str, Any]) -> None:
        """ValueError if the first line names another run: it says what differs."""
        written = written if isinstance(written, dict) else {}
        differs = [
            f"{name} was {written.get(name, 'not there')}, is {run.get(name, 'not there')}"
            for name in dict.fromkeys([*run, *written])
            if written.get(name) != run.get(name)
        ]
        if differs:
            another = f"another run ({'; '.join(differs)})"
            raise ValueError(f"{self.path} belongs to {another}: name a new file")

    def _write(self, row: dict[str, Any]) -> None:
        try:
            line = json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # half of a pair, from a server: JSON has a name for it
            line = json.dumps(row).encode()
        try:
            with self.path.open("ab") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # a full disk names no file
            raise OSError(error.errno, error.strerror, str(self.path)) from None
