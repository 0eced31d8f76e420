"""Which data a run reads: `watch` notes what Python opens from then on, `data_read` says what of it
lies under data/.

Python reports each file that it opens to audit hooks. Native readers (safetensors, tokenizers) do
not, so data are counted by folder: whoever opens data/models/base/config.json has read all of
data/models/base. Files that lie directly in data/ or in data/<folder>/ count alone. What
subprocesses open, and what is opened before `watch`, is not seen.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from workbench.runs import content

opened: set[str] = set()  # by this process, since `watch`


@cache
def watch() -> None:
    """Note every file that is opened to be read from now on. A hook can't be removed: later calls
    do nothing."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple) -> None:
    if event != "open":
        return
    with suppress(Exception):  # one that is raised here would be raised by the caller's `open`
        path, _, flags = arguments
        # a number is a file that is open already
        if isinstance(path, (str, bytes)) and not flags & os.O_WRONLY:
            opened.add(os.path.abspath(os.fsdecode(path)))


def data_read(base: Path) -> list[str]:
    """What was read under `base`/data: folders data/X/Y and single files, sorted, as paths under
    `base`."""
    data, found = base.resolve() / "data", set()
    for name in list(opened):
        for path in {Path(name), Path(name).resolve()}:
            if path.is_relative_to(data) and content.counts(path) and not path.is_dir():
                found.add("/".join(("data", *path.relative_to(data).parts[:2])))
    return sorted(found)
