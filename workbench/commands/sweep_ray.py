"""The points of a sweep as tasks of Ray, on the cores of this machine or of a cluster.

    python -m workbench sweep 05 -p seed=0,1,2 --ray                # this machine alone
    python -m workbench sweep 05 -p seed=0,1,2 --ray 10.0.0.1:6379  # a cluster; auto: the one here

Each point waits for as many cores as it has threads: OMP_NUM_THREADS where it is set, else one. It
sees no GPU. All machines must see the repository and the folder of the results under the paths that
they have here, as on a shared disk. If a worker or its machine is lost, Ray starts its point again,
unless that was completed before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.commands.grid import Point
from workbench.commands.sweep import run_point
from workbench.files import alone
from workbench.runs import batch, notebook
from workbench.scale.cluster import start_ray

RETRIES = 10  # of a point whose worker is lost
WAIT_S = 60.0  # for a lost worker's hold of a point's folder to end
LAST_S = 5.0  # before a failure is told, in which a worker of a lost machine dies


def ray_for(address: str, threads: int) -> Any:
    """Ray for points of `threads` threads; `address` as for `cluster.start_ray`.

    ValueError without Ray, for no cluster, and if none of its machines has `threads` cores.
    """
    try:
        ray = start_ray(address, log_to_driver=False)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        asked = f"--ray {address}".strip()
        raise ValueError(f"{asked}: {notebook.first_line(str(error))}") from None
    most = max(n["Resources"].get("CPU", 0) for n in ray.nodes() if n["Alive"])
    if most < threads:
        raise ValueError(
            f"--ray: {threads} threads a point, but no machine has over {most:g} cores"
        )
    return ray


def run_on_ray(
    ray: Any, points: Sequence[Point], folder: Path, base: Path, threads: int
) -> dict[str, dict]:
    """Run the points; the record of each with its status, by name. Whatever ends it kills all."""
    task = ray.remote(run_once).options(num_cpus=threads, max_retries=RETRIES)
    where = folder.resolve(), base.resolve(), threads  # workers have other working directories
    waiting = {task.remote(point, *where): point for point in points}
    results = {}
    try:
        while waiting:
            (ended,), _ = ray.wait(list(waiting))
            record, point = _record(ray, ended), waiting.pop(ended)
            print(batch.ending(point.job, record, folder / point.name), flush=True)
            results[point.name] = record
    finally:
        for running in waiting:
            ray.cancel(running, force=True)
    return results


def run_once(point: Point, folder: Path, base: Path, threads: int) -> dict:
    """A point in a worker's process; what another one completed before it was lost stands."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not there on all machines: a sweep on Ray needs one disk")
    place = folder / point.name
    place.mkdir(exist_ok=True)
    with alone(place, wait_s=WAIT_S):
        record = batch.skipped(point.job, place, base)
        record = record or run_point(point, folder, base, threads)
    if record["error"]:  # of a machine that goes down a kernel dies first: no failure, but a loss
        time.sleep(LAST_S)
    return record


def _record(ray: Any, ended: Any) -> dict:
    try:
        return ray.get(ended)
    except ray.exceptions.RayTaskError as error:  # no notebook's error: those are records
        raise error.cause from error
    except ray.exceptions.RayError as error:
        why = f"its workers died {RETRIES + 1} times: {notebook.first_line(str(error))}"
        return {"status": "failed", "seconds": 0.0, "error": why}
