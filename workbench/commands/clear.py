"""Notebooks for class: the same cells without outputs, so that nobody reads ahead.

The recorded notebooks stay as they are unless that is asked for; git holds them in any case.
Exercises keep their empty cells, and parameters their tags.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat

from workbench.runs.batch import select
from workbench.runs.notebook import code_cells, load


def without_outputs(notebook):
    """A copy of a notebook as if it had never run: no outputs, no counts, no record."""
    copy = nbformat.from_dict(notebook)
    for cell in code_cells(copy):
        cell.outputs, cell.execution_count = [], None
    copy.metadata.pop("workbench", None)
    return copy


def clear_outputs(base: Path, wanted: Sequence[str], folder: Path | None) -> list[Path]:
    """Write notebooks without outputs into `folder`, or in place if it is None; returns the files.

    The glossary goes along, since every notebook links to it. ValueError, and nothing is written,
    for an unknown notebook, or a folder that holds something.
    """
    notebooks = {path: without_outputs(load(path)) for path in select(base, wanted)}
    if folder and (folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        raise ValueError(f"{folder} is not empty: name a new folder, as in --output class")
    target = folder or base / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    for path, notebook in notebooks.items():
        nbformat.write(notebook, target / path.name)
    glossary = base / "notebooks" / "glossary.md"
    if folder and glossary.is_file():
        shutil.copyfile(glossary, folder / glossary.name)
    return [target / path.name for path in notebooks]


def clear(arguments: argparse.Namespace, base: Path) -> int:
    """The command: 0, or a ValueError before anything is written."""
    folder = None if arguments.in_place else arguments.output or Path("class")
    paths = clear_outputs(base, arguments.notebooks, folder)
    print(f"without outputs: {', '.join(path.stem for path in paths)}, in {paths[0].parent}")
    return 0
