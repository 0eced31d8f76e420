"""Is everything there that the notebooks need? `python -m workbench doctor` says it."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from workbench.models.checkpoints import check_complete
from workbench.models.smollm2 import CONVERTED, GET_IT, in_package
from workbench.runs import environment

LEAST_MEMORY, LEAST_DISK = 4e9, 2e9  # bytes


def examine(base: Path) -> Iterator[tuple[bool, str]]:
    """(is it all right, one line about it) for everything that the notebooks need."""
    import psutil

    yield sys.version_info >= (3, 11), f"python {platform.python_version()} (needs 3.11 or newer)"
    yield from packages(base)
    yield _torch()
    memory, disk = psutil.virtual_memory().available, shutil.disk_usage(base).free
    for name, free, least in (("memory", memory, LEAST_MEMORY), ("disk", disk, LEAST_DISK)):
        yield free >= least, f"free {name}: {free / 1e9:.1f} GB (needs {least / 1e9:.0f})"
    yield from checkpoints(base / "data" / "models")
    yield samples(base / "data" / "samples")
    yield True, smollm2_line()
    yield True, f"git: {environment.git_state(base)}"


def smollm2_line() -> str:
    """Where the real model is that notebook 10 uses; it is optional."""
    if (CONVERTED / "config.json").is_file():
        return "SmolLM2: converted"
    return f"SmolLM2: {'in its package' if in_package() else f'not here ({GET_IT})'}"


def packages(base: Path) -> Iterator[tuple[bool, str]]:
    """Each package that pyproject.toml asks for, against the version that constraints.txt holds."""
    from packaging.requirements import Requirement

    project = tomllib.loads((base / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (base / "constraints.txt").read_text(), re.M))
    pins = {name.lower(): pin for name, pin in pins.items()}
    asked = [Requirement(line) for line in project["dependencies"]]
    for name in [one.name for one in asked if one.marker is None or one.marker.evaluate()]:
        have, pin = environment.installed(name), pins.get(name.lower())
        right = have is not None and (pin is None or have.partition("+")[0] == pin)
        wanted = "" if right else f" (constraints.txt: {pin})"
        yield right, f"{name} {have or 'is missing'}{wanted}"


def _torch() -> tuple[bool, str]:
    try:
        import torch  # noqa: F401  (so that the device is known)
    except Exception as error:  # a broken installation fails in many ways
        return False, f"torch can't be imported: {error}"
    return True, f"device: {environment.device()}"


def checkpoints(folder: Path) -> Iterator[tuple[bool, str]]:
    """Each file with weights under `folder`: is it whole?"""
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        yield False, "checkpoints: none in data/models"
    for file in files:
        try:
            check_complete(file)
            yield True, f"checkpoint {file.parent.name}: {file.stat().st_size / 1e6:.1f} MB"
        except ValueError as error:
            yield False, f"checkpoint {file.parent.name}: {error}"


def samples(folder: Path) -> tuple[bool, str]:
    """The committed sample files: are there any, and is none empty?"""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    sizes = {path.name: path.stat().st_size for path in files}
    empty = [name for name, size in sizes.items() if not size]
    if not sizes or empty:
        problem = f"empty: {', '.join(empty)}" if sizes else "none in data/samples"
        return False, f"samples: {problem}"
    return True, f"samples: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB"
