"""Where checkpoints are, and whether they are whole."""

from __future__ import annotations

import json
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "data" / "models"


def locate(name_or_path: str | Path) -> str:
    """A folder for a shipped name or a path, else the name unchanged (for the hub); ValueError if
    it is incomplete."""
    for folder in (Path(name_or_path), SHIPPED / str(name_or_path)):
        if folder.is_dir():
            check_complete(folder)
            return str(folder)
    name = str(name_or_path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        shipped = ", ".join(sorted(p.name for p in SHIPPED.glob("*/"))) or "none"
        raise ValueError(f"no checkpoint folder {name!r} (shipped: {shipped})")
    return name


def portable(path: str) -> str:
    """How a file should name a checkpoint so that it is found in another clone: a shipped one by
    its name alone."""
    return Path(path).name if Path(path).resolve().parent == SHIPPED.resolve() else path


def check_complete(folder: Path) -> None:
    """ValueError, in one line, for a checkpoint folder without its files or with a half-written
    weight file."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no checkpoint: config.json is missing")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights and not list(folder.glob("*.bin")):
        raise ValueError(f"{folder} is no checkpoint: no .safetensors file")
    for file in weights:
        check_weights(file)


def check_weights(file: Path) -> None:
    """ValueError for a safetensors file that is not whole, judged by header and length alone."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(size)) if size < 1 << 28 else {}
        except ValueError:
            header = {}
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if not ends or file.stat().st_size != 8 + size + max(ends):
        raise ValueError(f"{file} is not whole (an interrupted copy?): get it again")
