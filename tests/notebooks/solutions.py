"""Runs the code of a notebook in this process, one thread: what test_solutions does in two."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import nbformat


def one_thread() -> None:
    """Compute with one thread, as two processes share two cores."""
    import torch

    torch.set_num_threads(1)


def run(path: Path) -> str:
    """Execute all code cells, from a fresh kernel's state; returns what they printed."""
    names, printed = {"__name__": "__main__"}, StringIO()
    with redirect_stdout(printed):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, path.name, "exec"), names)
    return printed.getvalue()
