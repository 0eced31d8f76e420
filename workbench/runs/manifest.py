"""The manifest of a run: what was asked, how each notebook ended, and what it depended on.

One JSON record a line, appended in one write and flushed to disk, so several processes may append
at once; a line that a crash cut off is skipped on reading. A notebook depends on the data that it
reads and the package code that it loads, both kept as hashes. Python reports each file it opens to
audit hooks; native readers (safetensors, tokenizers) do not, so models count by folder: whoever
opens data/models/base/config.json has read all of data/models/base. Of data/samples, which Python
reads, each file counts by itself. What subprocesses open is not seen.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from workbench.runs.environment import root

NAME = "manifest.jsonl"
DATA_FOLDERS = ("data/models", "data/samples")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

MEANWHILE = "changed meanwhile"
AT_FIRST = {p.resolve(): p.read_text() for p in (root() / "workbench").rglob("*.py") if p.is_file()}

opened: set[str] = set()  # files opened by this process since `watch`


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append(folder: Path, record: Mapping[str, object]) -> None:
    """Add a record to the folder's manifest; it is on disk when this returns."""
    line = json.dumps({**record, "at": now()}, allow_nan=False).encode() + b"\n"
    with (folder / NAME).open("ab+", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = (b"" if file.read() == b"\n" else b"\n") + line
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError as error:  # a full disk names no file
            raise OSError(error.errno, error.strerror, str(folder / NAME)) from None


def read(folder: Path) -> list[dict]:
    """All whole records of the folder's manifest, oldest first; none if there is no manifest."""
    path, records = folder / NAME, []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError):
            records.append(json.loads(line))
    return records


def header(records: Iterable[Mapping]) -> Mapping | None:
    """What the batch was asked to do, or None if this is no batch."""
    return next((r for r in records if r.get("event") == "batch"), None)


def outcomes(records: Iterable[Mapping]) -> dict[str, Mapping]:
    """For each notebook its latest outcome: the last record that says `completed` or `failed`."""
    return {r["notebook"]: r for r in records if r.get("event") in ("completed", "failed")}


@cache
def watch() -> None:
    """Note every file that is opened to be read from now on; later calls do nothing."""
    sys.addaudithook(_note)  # can't be removed


def _note(event: str, arguments: tuple) -> None:
    if event != "open":
        return
    with suppress(Exception):  # one that is raised here would be raised by the caller's `open`
        path, _, flags = arguments
        # a number is a file that is open already
        if isinstance(path, (str, bytes)) and not flags & os.O_WRONLY:
            opened.add(os.path.abspath(os.fsdecode(path)))


def data_read(base: Path) -> list[str]:
    """What was read under `base`/data: folders of models, and single files, sorted."""
    data, found = base.resolve() / "data", set()
    for name in list(opened):
        for path in {Path(name), Path(name).resolve()}:
            if path.is_relative_to(data) and _counts(path) and not path.is_dir():
                parts = path.relative_to(data).parts
                found.add("/".join(("data", *(parts if parts[0] == "samples" else parts[:2]))))
    return sorted(found)


def _counts(path: Path) -> bool:
    """Does a file under data/ count as data? Texts about it and hidden files do not."""
    return path.suffix != ".md" and path.name[0] != "."


def data_hashes(base: Path, names: Iterable[str] = DATA_FOLDERS) -> dict[str, str]:
    """Hash of each data file that `names` names, itself or by its folder; "missing" if gone."""
    found = {}
    for path in (base / name for name in names):
        inside = sorted(p for p in path.rglob("*") if p.is_file() and _counts(p))
        for file in inside if path.is_dir() else [path]:
            found[file.relative_to(base).as_posix()] = _file_hash(file)
    return found


def data_today(base: Path, record: Mapping) -> dict[str, str]:
    """Today's hashes of the data that a record names: what was read, or in old ones its files."""
    return data_hashes(base, record.get("read", record["data"]))


def _file_hash(path: Path) -> str:
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def short_hash(value: object) -> str:
    """First 16 hex digits of the SHA-256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_hash(code: str) -> str:
    """Hash of what Python code does: comments, layout and docstrings do not count."""
    try:
        return short_hash(_meaning(ast.parse(code)))
    except SyntaxError:  # a cell with magics counts as it is written
        return short_hash(code.strip())


def _meaning(node: object) -> object:
    """A syntax tree as lists; without empty fields, which differ between versions of Python."""
    if isinstance(node, list):
        return [_meaning(part) for part in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    shown = isinstance(node, ast.Module) and len(node.body) == 1  # a cell's only line is its output
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None and not shown:
        fields["body"] = node.body[1:]
    parts = [[name, _meaning(v)] for name, v in fields.items() if v is not None and v != []]
    return [type(node).__name__, *parts]


def module_hash(path: Path) -> str:
    """Hash of a Python file's code."""
    return code_hash(path.read_text() + "\npass")  # so that a lone docstring is no output


def loaded_modules() -> dict[str, str]:
    """Hash of each module of this package that is imported now, by its path in the repository.

    MEANWHILE if its code is another one than when this module was imported: which was used?
    """
    modules = [m for name, m in list(sys.modules.items()) if name.split(".")[0] == "workbench"]
    paths = {Path(m.__file__).resolve() for m in modules if getattr(m, "__file__", None)}
    inside = sorted(path for path in paths if path.is_relative_to(root()))
    then = {path.relative_to(root()).as_posix(): AT_FIRST.get(path, "") for path in inside}
    hashes = {name: code_hash(code + "\npass") for name, code in then.items()}
    return hashes | dict.fromkeys(changed_modules(hashes), MEANWHILE)


def changed_modules(then: Mapping[str, str]) -> list[str]:
    """The modules of this package whose code differs from what it was `then`."""
    files = {name: root() / name for name in then}
    return [n for n, file in files.items() if not file.is_file() or module_hash(file) != then[n]]
