"""Small real disks: a tmpfs of a few pages, where this system lets us mount one."""

import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def mounted(folder, size="64k"):
    """A disk of that size at `folder`; skips the test where it can't be had."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can't be mounted here: that takes root and tmpfs")
    try:
        yield folder
    finally:
        # lazily: a traceback that is kept may hold a file open
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder, options):
    """Change a disk in place: `size=1m` or `ro`."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def fill(folder):
    """Leave no room at all."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return
