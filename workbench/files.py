"""Files that survive a kill, a full disk and a second run: one writer at a time, whole or not.

The lock is the system's own (`flock`): a process that is killed lets go of it. Where a system or a
file system knows none, nobody is kept out.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)


@contextmanager
def alone(path: str | Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a file, made if it is not there, or a folder, while this run writes to it.

    ValueError if another run still holds it after `wait_s` seconds.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = Path(path)
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    held, deadline = os.open(path, flags, 0o666), time.monotonic() + wait_s
    try:
        while not _locked(fcntl, held):
            if time.monotonic() >= deadline:
                raise ValueError(f"{path}: another run is writing there now")
            time.sleep(0.05)
        yield
    finally:
        os.close(held)


def _locked(fcntl: ModuleType, held: int) -> bool:
    """Take the lock of an open file; True also where there are no locks."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
