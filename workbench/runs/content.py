"""What a run depends on: a notebook's code, its parameters, the package version, the data files and
package modules.

`content_hash` turns the first four into one number, so that a committed notebook whose outputs no
longer belong to its code is noticed. Data files are hashed by content; those that count are in the
folders that the notebook read (see `workbench.runs.reads`), so a new checkpoint leaves the records
of all other notebooks fresh.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import workbench

DATA_FOLDERS = ("data/models", "data/samples")


def root() -> Path:
    """The repository root, found from the package (never from the working directory)."""
    folder = Path(workbench.__file__).resolve().parents[1]
    if not (folder / "pyproject.toml").is_file():
        raise ValueError(
            f"{folder} holds no pyproject.toml: use a git clone installed with `pip install -e .`"
        )
    return folder


def home() -> Path:
    """The repository whose data a notebook reads: that of its batch, else `root()`."""
    return Path(os.environ.get("WORKBENCH_ROOT") or root())


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def file_hash(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file's content."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


def counts(path: Path) -> bool:
    """Does a file under data/ count as data? Texts about it and hidden files do not."""
    return path.suffix != ".md" and path.name[0] != "."


def data_hashes(base: Path, names: Iterable[str] = DATA_FOLDERS) -> dict[str, str]:
    """Hash of each data file that `names` names, itself or by a folder above it, by its path
    ("missing" if gone)."""
    found = {}
    for path in (base / name for name in names):
        files = (
            sorted(p for p in path.rglob("*") if counts(p) and p.is_file())
            if path.is_dir()
            else [path]
        )
        found |= {
            p.relative_to(base).as_posix(): file_hash(p) if p.is_file() else "missing"
            for p in files
        }
    return found


def data_today(base: Path, record: Mapping) -> dict[str, str]:
    """Today's hashes of the data that a record names: what its notebook read, in older records the
    files listed."""
    return data_hashes(base, record.get("read", record["data"]))


def code_cells(notebook) -> list:
    """The notebook's own code cells: without the one that papermill injects."""
    return [
        c
        for c in notebook.cells
        if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", [])
    ]


def content_hash(notebook, parameters: Mapping[str, object], data: Mapping[str, str]) -> str:
    """One number for a notebook's code cells, parameter values, the package version and the data
    hashes."""
    parts = {
        "code": [cell.source.strip() for cell in code_cells(notebook)],
        "parameters": dict(parameters),
        "version": workbench.__version__,
        "data": dict(data),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def module_hash(path: Path) -> str:
    """Hash of a Python file's code: comments and layout do not count."""
    return hashlib.sha256(ast.dump(ast.parse(path.read_text())).encode()).hexdigest()[:16]


def loaded_modules() -> dict[str, str]:
    """Hash of each module of this package that is imported right now, by its path in the
    repository."""
    base = root()
    modules = [m for name, m in list(sys.modules.items()) if name.split(".")[0] == "workbench"]
    paths = sorted({Path(m.__file__).resolve() for m in modules if getattr(m, "__file__", None)})
    return {
        path.relative_to(base).as_posix(): module_hash(path)
        for path in paths
        if path.is_relative_to(base)
    }


def changed_modules(then: Mapping[str, str]) -> list[str]:
    """The modules of this package whose code differs from what it was `then`."""
    base = root()
    return [
        name
        for name, value in then.items()
        if not (base / name).is_file() or module_hash(base / name) != value
    ]
