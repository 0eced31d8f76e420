"""Where a run happens: repository, versions, device. Nothing here imports torch itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import workbench


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
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "no git"
    return done.stdout.strip()


def describe(base: Path) -> dict[str, str]:
    """The lines of the environment card: package, Python, main libraries, device, git."""
    libraries = {name: installed(name) or "missing" for name in ("torch", "transformers", "numpy")}
    versions = {"workbench": workbench.__version__, "python": platform.python_version()}
    return versions | libraries | {"device": device(), "git": git_state(base)}
