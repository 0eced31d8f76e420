"""Where a run happens: repository, versions, device; and the doctor, who looks for what is missing.

Only the doctor imports torch; all else asks it where it was imported before. Used by `start` and by
`python -m workbench doctor`.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import workbench

LEAST_MEMORY, LEAST_DISK = 4e9, 2e9  # bytes


def root() -> Path:
    """The repository root, found from the package (never from the working directory)."""
    folder = Path(workbench.__file__).resolve().parents[1]
    if not (folder / "pyproject.toml").is_file():
        raise ValueError(f"{folder} holds no pyproject.toml: install a git clone by pip install -e")
    return folder


def home() -> Path:
    """The repository whose data a notebook reads: that of its batch, else `root()`."""
    return Path(os.environ.get("WORKBENCH_ROOT") or root())


def installed(package: str) -> str | None:
    """The installed version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int | None:
    """Threads that torch computes with, where it is loaded or OMP_NUM_THREADS says so."""
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else None


def device() -> str:
    """What computes: the GPU if torch is loaded and sees one, else the CPU."""
    torch, count = sys.modules.get("torch"), threads()
    if torch is not None and torch.cuda.is_available():
        return f"GPU, {torch.cuda.get_device_name()}"
    return f"CPU, {cores()} cores" + (f", {count} thread{'s' * (count != 1)}" if count else "")


def git_state(base: Path) -> str:
    """Short commit hash, with `-dirty` behind it if files were changed."""
    command = ["git", "-C", str(base), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "no git"
    return done.stdout.strip() if done.returncode == 0 else "no commit"


def describe(base: Path) -> dict[str, str]:
    """The lines of the environment card: package, Python, main libraries, device, git."""
    libraries = {name: installed(name) or "missing" for name in ("torch", "transformers", "numpy")}
    versions = {"workbench": workbench.__version__, "python": platform.python_version()}
    return versions | libraries | {"device": device(), "git": git_state(base)}


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
    yield True, f"git: {git_state(base)}"


def packages(base: Path) -> Iterator[tuple[bool, str]]:
    """Each package that pyproject.toml asks for, against the version that constraints.txt holds."""
    from packaging.requirements import Requirement

    project = tomllib.loads((base / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (base / "constraints.txt").read_text(), re.M))
    pins = {name.lower(): pin for name, pin in pins.items()}
    asked = [Requirement(line) for line in project["dependencies"]]
    for name in [one.name for one in asked if one.marker is None or one.marker.evaluate()]:
        have, pin = installed(name), pins.get(name.lower())
        right = have is not None and (pin is None or have.partition("+")[0] == pin)
        wanted = "" if right else f" (constraints.txt: {pin})"
        yield right, f"{name} {have or 'is missing'}{wanted}"


def _torch() -> tuple[bool, str]:
    try:
        import torch  # noqa: F401  (so that the device is known)
    except Exception as error:  # a broken installation fails in many ways
        return False, f"torch can't be imported: {error}"
    return True, f"device: {device()}"


def checkpoints(folder: Path) -> Iterator[tuple[bool, str]]:
    """Each file with weights under `folder`: is it whole?"""
    from workbench.models.checkpoints import check_weights

    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        yield False, "checkpoints: none in data/models"
    for file in files:
        try:
            check_weights(file)
            yield True, f"checkpoint {file.parent.name}: {file.stat().st_size / 1e6:.1f} MB"
        except ValueError as error:
            yield False, f"checkpoint {file.parent.name}: {error}"


def samples(folder: Path) -> tuple[bool, str]:
    """The committed sample files: are there any, and is none empty?"""
    sizes = {
        p.name: p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name[0] != "."
    }
    empty = [name for name, size in sizes.items() if not size]
    if not sizes or empty:
        problem = f"empty: {', '.join(empty)}" if sizes else "none in data/samples"
        return False, f"samples: {problem}"
    return True, f"samples: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB"
