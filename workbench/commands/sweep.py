"""`python -m workbench sweep NN -p name=a,b`: one notebook at every point of a grid.

Each point is a run of its own, in a sub-folder that looks like any batch: it has a manifest, a
report, and can be given to `compare`. One that fails leaves the others alone. A point is done when
its own manifest says so, for the code and data of today; a resumed sweep runs all others, and each
in its one folder, so that none is lost or there twice.

Workers: each has at least one core and 2 GiB of the memory that is free now. All points compute
with equally many threads, also after `--resume`, because sums depend on that in their last digits:
OMP_NUM_THREADS where it is set, else each worker's share of the cores. With `--ray` there may be
many machines (`sweep_ray`); either way can go on with what the other one began.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from workbench.commands.grid import Point, grid
from workbench.commands.sweep_page import write_sweep
from workbench.commands.sweep_table import by_point
from workbench.files import alone
from workbench.runs import batch, environment, manifest
from workbench.runs.report import write_report
from workbench.show.cards import plain_table

MEMORY = 2 * 2**30  # bytes for each worker: torch, a small model with its optimiser, its cache


def sweep(arguments: Namespace, base: Path) -> int:
    """Run what is missing of a grid: 0 if all points completed, 1 if one failed, 130 if stopped."""
    # 1. what is asked for, now or when the sweep was started
    asked = _resumed(arguments, base) if arguments.resume else _asked(arguments, base)
    path = batch.select(base, [asked["notebook"]])[0]
    points = grid(path, profile=asked["profile"], given=asked["given"])
    ray, workers, threads = _where(arguments, len(points), asked["threads"])
    # 2. the folder, and whose it is
    folder = arguments.resume or batch.open_folder(base, arguments.output, f"sweep-{path.stem}")
    if not arguments.resume:
        manifest.append(folder, {"event": "sweep", **asked, "threads": threads})
    resume = f"python -m workbench sweep --resume {folder}"
    print(f"{len(points)} points of {path.stem}, {asked['profile']} profile, ", end="")
    at_once = "on Ray" if ray else f"{workers} at once"
    print(f"{at_once}, {threads} thread{'s' * (threads > 1)} each, ", end="")
    print(f"results in {folder}", flush=True)
    # 3. the runs
    with alone(folder / manifest.NAME):
        try:
            how = {"workers": workers, "threads": threads, "ray": ray}
            results = run_points(points, folder, base, **how)
        except KeyboardInterrupt:
            print(f"\nstopped; go on with: {resume}", file=sys.stderr)
            return 130
        write_sweep(folder, points, results, asked["profile"])
    return _summary(points, results, folder, resume)


def _asked(arguments: Namespace, base: Path) -> dict:
    found = batch.select(base, [arguments.notebook]) if arguments.notebook else []
    if len(found) != 1:
        raise ValueError("a sweep runs one notebook: sweep NN -p name=a,b")
    wishes = {"profile": arguments.profile or "quick", "given": arguments.given}
    asked_threads = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(asked_threads) if asked_threads.isdecimal() and int(asked_threads) else None
    return {"notebook": found[0].stem, **wishes, "threads": threads}


def _resumed(arguments: Namespace, base: Path) -> dict:
    """What the sweep in the folder was asked to do; ValueError if other things are asked for."""
    folder, records = arguments.resume, manifest.read(arguments.resume)
    asked = next((r for r in records if r.get("event") == "sweep"), None)
    if asked is None:
        raise ValueError(f"--resume {folder}: no sweep was started there")
    name = arguments.notebook and [path.stem for path in batch.select(base, [arguments.notebook])]
    same = name in (None, [asked["notebook"]]) and arguments.given in ([], asked["given"])
    if not same or arguments.profile not in (None, asked["profile"]):
        raise ValueError(f"--resume continues {folder} as it was asked for: give nothing else")
    return {name: asked[name] for name in ("notebook", "profile", "given", "threads")}


def _where(arguments: Namespace, points: int, threads: int | None) -> tuple[Any, int, int]:
    """Ray, if it is asked for; workers on this machine, if not; threads of each point."""
    if arguments.ray is None:
        return None, *share(points, arguments.workers, threads)
    if arguments.workers:
        raise ValueError("--ray fills all cores of its machines: leave out --workers")
    from workbench.commands.sweep_ray import ray_for

    return ray_for(arguments.ray, threads or 1), 0, threads or 1


def share(points: int, workers: int | None, threads: int | None) -> tuple[int, int]:
    """Workers, and threads of each; ValueError for more workers than the cores allow.

    `threads` that are asked for are kept; without them the workers share all cores out.
    """
    import psutil

    cores = environment.cores()
    most = max(1, cores // (threads or 1))
    if workers is None:
        workers = max(1, min(points, most, psutil.virtual_memory().available // MEMORY))
    elif workers > most:
        each = f" for {threads} threads each" if threads else ""
        raise ValueError(f"--workers {workers}: {cores} cores{each} allow {most} at most")
    return workers, threads or cores // workers


def run_points(
    points: Sequence[Point],
    folder: Path,
    base: Path,
    *,
    workers: int,
    threads: int,
    ray: Any = None,
) -> list[dict]:
    """Run the points that are not done; the record of each with its status, in order."""
    # 1. skip what was done before
    earlier = {p.name: batch.skipped(p.job, folder / p.name, base) for p in points}
    results = {name: record for name, record in earlier.items() if record}
    # 2. run the others
    missing = [point for point in points if point.name not in results]
    if ray:
        from workbench.commands.sweep_ray import run_on_ray

        results |= run_on_ray(ray, missing, folder, base, threads)
    else:
        waiting = {p.name: (p, _kernels(p, folder, base, threads)) for p in missing}
        work = {name: partial(_run_point, *pair) for name, pair in waiting.items()}
        results |= batch.all_of(work, workers, [kernels for _, kernels in waiting.values()])
    return [results[point.name] for point in points]


def _kernels(point: Point, folder: Path, base: Path, threads: int) -> batch.Kernels:
    """The point's folder with its header, and what starts kernels that write into it."""
    place, parameters = folder / point.name, point.job.parameters
    place.mkdir(exist_ok=True)
    if manifest.header(manifest.read(place)) is None:
        given = [f"{name}={value}" for name, value in point.values.items()]
        asked = {"notebooks": [point.job.name], "profile": parameters["profile"], "given": given}
        manifest.append(place, {"event": "batch", **asked})
    kernels = batch.Kernels(place.resolve(), base.resolve(), 1)
    kernels.environment["OMP_NUM_THREADS"] = str(threads)
    return kernels


def run_point(point: Point, folder: Path, base: Path, threads: int) -> dict:
    """Run a point here and now; its record with its status."""
    return _run_point(point, _kernels(point, folder, base, threads))


def _run_point(point: Point, kernels: batch.Kernels) -> dict:
    record = batch.run_job(point.job, kernels)
    record["status"] = record["event"]
    write_report(kernels.folder, [record], point.job.parameters["profile"])
    return record


def _summary(points: Sequence[Point], results: Sequence[Mapping], folder: Path, resume: str) -> int:
    rows = by_point(points, results, ())
    print(f"\n{plain_table(rows)}\n\nsweep: {folder / 'sweep.html'}, {folder / 'sweep.csv'}")
    failed = [point.name for point, r in zip(points, results) if r["status"] == "failed"]
    if failed:
        print(f"failed: {', '.join(failed)}; repair, then: {resume}")
    return 1 if failed else 0
