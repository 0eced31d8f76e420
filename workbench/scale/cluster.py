"""Ray, joined or started: a cluster that does not answer is named at once."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

ANSWER_S = 10.0  # within which a cluster answers


def start_ray(address: str | None = None, **options: Any) -> Any:
    """Ray on the cluster at `address` (empty: RAY_ADDRESS, else one of this machine is started).

    Where Ray runs already it stays as it is. `options` are those of `ray.init`. ImportError without
    Ray, ConnectionError if nothing answers at an address: Ray itself would ask again for minutes.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("Ray is not here: pip install -e '.[scale]'") from error
    if not ray.is_initialized():
        _check_answers(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=address or None, **options)
    return ray


def _check_answers(address: str) -> None:
    """ConnectionError for host:port, or ray://host:port, where nobody listens."""
    if not (place := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address)):
        return  # "auto", "local" or nothing: Ray looks for itself
    host, port = place[1], int(place[2])
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no cluster of Ray answers at {address}: {error}") from error
