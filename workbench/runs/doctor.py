"""Is everything there that the notebooks need? One line for each thing looked at: `python -m
workbench doctor`."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import struct
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from workbench.runs import environment

LEAST_MEMORY, LEAST_DISK = 4e9, 2e9  # bytes


def examine(base: Path) -> Iterator[tuple[bool, str]]:
    """(is it all right, one line about it) for Python, packages, device, memory, disk, checkpoints,
    samples, git."""
    yield sys.version_info >= (3, 11), f"python {platform.python_version()} (needs 3.11 or newer)"
    yield from packages(base)
    yield _device()
    yield from _room(base)
    yield from checkpoints(base / "data" / "models")
    yield samples(base / "data" / "samples")
    yield True, f"git: {environment.git_state(base)}"


def packages(base: Path) -> Iterator[tuple[bool, str]]:
    """Each package that pyproject.toml asks for, against the version that constraints.txt holds."""
    project = tomllib.loads((base / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (base / "constraints.txt").read_text(), re.M))
    pins = {name.lower(): pin for name, pin in pins.items()}
    asked = [Requirement(line) for line in project["dependencies"]]
    for name in [one.name for one in asked if one.marker is None or one.marker.evaluate()]:
        have, pin = environment.installed(name), pins.get(name.lower())
        right = have is not None and (pin is None or have.partition("+")[0] == pin)
        yield (
            right,
            f"{name} {have or 'is missing'}" + ("" if right else f" (constraints.txt: {pin})"),
        )


def _device() -> tuple[bool, str]:
    try:
        import torch  # noqa: F401  (so that the device is known)
    except Exception as error:  # a broken installation fails in many ways
        return False, f"torch can't be imported: {error}"
    return True, f"device: {environment.device()}"


def _room(base: Path) -> Iterator[tuple[bool, str]]:
    import psutil

    for name, free, least in (
        ("memory", psutil.virtual_memory().available, LEAST_MEMORY),
        ("disk", shutil.disk_usage(base).free, LEAST_DISK),
    ):
        yield free >= least, f"free {name}: {free / 1e9:.1f} GB (needs {least / 1e9:.0f})"


def checkpoints(folder: Path) -> Iterator[tuple[bool, str]]:
    """Each folder with weights under `folder`: are its files whole?"""
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        yield False, "checkpoints: none in data/models"
    for path in files:
        problem = weights_problem(path)
        name = path.relative_to(folder.parent.parent).as_posix()
        yield (
            problem is None,
            f"checkpoint {name}: {problem or f'{path.stat().st_size / 1e6:.1f} MB'}",
        )


def weights_problem(path: Path) -> str | None:
    """What is wrong with a safetensors file, judged by its header and length alone; None if nothing
    is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + length > size:
            return "cut off within its header"
        try:
            tensors = json.loads(file.read(length))
        except ValueError:
            return "header is not JSON (not a safetensors file, or a Git LFS pointer)"
    end = max(
        (t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__"), default=0
    )
    if 8 + length + end != size:
        return f"is {size:,} bytes, its header asks for {8 + length + end:,}: half-written?"
    return None


def samples(folder: Path) -> tuple[bool, str]:
    """The committed sample files: are there any, and is none empty?"""
    files = [
        Path(place) / name
        for place, _, names in os.walk(folder)
        for name in names
        if name[0] != "."
    ]
    empty = [path.name for path in files if not path.stat().st_size]
    if not files or empty:
        return False, "samples: " + (
            f"empty: {', '.join(empty)}" if files else "none in data/samples"
        )
    return True, f"samples: {len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.1f} MB"
