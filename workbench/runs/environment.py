"""Where a run happens: versions, device, repository state. Nothing here imports torch that was not
imported before."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import workbench

SHOWN = ("torch", "transformers", "numpy")


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
    """Threads that torch computes with: it says so once it is loaded, before that OMP_NUM_THREADS
    may; else None."""
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else None


def device() -> str:
    """What computes: the GPU if torch is loaded and sees one, else the CPU with its cores and
    threads."""
    torch, count = sys.modules.get("torch"), threads()
    if torch is not None and torch.cuda.is_available():
        return f"GPU, {torch.cuda.get_device_name()}"
    return f"CPU, {cores()} cores" + (f", {count} thread{'s' * (count != 1)}" if count else "")


def git_state(base: Path) -> str:
    """Short commit hash, with the number of changed files if there are any."""
    commit = _git(base, "rev-parse", "--short", "HEAD")
    changed = _git(base, "status", "--porcelain")
    if changed is None:
        return "no git"
    files = len(changed.splitlines())
    return (commit or "no commit yet") + (
        f" + {files} changed file{'s' * (files > 1)}" if files else ""
    )


def _git(base: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(base), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def describe(base: Path) -> dict[str, str]:
    """The lines of the environment card: package, Python, main libraries, device, git."""
    libraries = {name: installed(name) or "missing" for name in SHOWN}
    return {
        "workbench": workbench.__version__,
        "python": platform.python_version(),
        **libraries,
        "device": device(),
        "git": git_state(base),
    }
