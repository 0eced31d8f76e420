"""Problems per second of the driver on Ray, with 1 and 2 workers, against one process.

    python benchmarks/scale.py [--problems 1000] [--in-flight 1] [--workers 1 2] [--policy base]
    [--solutions 200]

First a policy that only sleeps, 10 ms a call: what is lost then is the driver's own time ("busy" is
the share of the workers' time spent in calls). Then the embedded model: on one machine all
processes share its cores, so that workers gain little there, each on a machine of its own all.
Workers are warm: models loaded, methods imported. Last on a line stand the most memory that this
process held during the run, and how much that is above its start: flat, from 1,000 problems to
100,000. A run that takes long says every ten seconds how far it is.
"""

from __future__ import annotations

import argparse
import time

import psutil

from workbench.drive import stream
from workbench.models import load_policy
from workbench.problems import quantities
from workbench.scale.ray_engine import RayEngine
from workbench.search import METHODS
from workbench.types import Prefix, Problem, Step


class Sleeper:
    """A policy that takes 10 ms for a call, of however many rows."""

    name = "sleeper"

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        time.sleep(0.01)
        step = Step("The answer is 1 .", (1,), (0.0,))
        return [Prefix(prefix.problem, (*prefix.steps, step), "end") for prefix in prefixes]


def measure(label: str, problems, n_workers: int = 1, **arguments) -> None:
    """Run all problems and print how long it took, and the memory."""
    began = said = time.perf_counter()
    seconds, start, peak = 0.0, megabytes(), 0.0
    results = stream(problems, METHODS["sample"], seed=0, **arguments)
    for done, (_, result) in enumerate(results, 1):
        if result.error:
            raise SystemExit(result.error)
        seconds += result.meter.seconds
        if done % 100 == 0 or done == len(problems):
            peak = max(peak, megabytes())
        if time.perf_counter() - said > 10:
            said = time.perf_counter()
            print(f"  {label:12} {done} of {len(problems)}, {megabytes():.0f} MiB", flush=True)
    took = time.perf_counter() - began
    print(
        f"  {label:12} {took:8.2f} s {len(problems) / took:9.1f} problems/s   "
        f"busy {seconds / took / n_workers:4.0%}   "
        f"peak {peak:.0f} MiB ({peak - start:+.0f})",
        flush=True,
    )


def megabytes() -> float:
    """MiB of memory that this process holds now."""
    return psutil.Process().memory_info().rss / 2**20


def warm(engine: RayEngine, problems, n: int) -> None:
    """Until every worker has taken part in a run."""
    while not engine.places or not all(place.ready for place in engine.places):
        for _ in stream(problems, METHODS["sample"], engine=engine, n=n, in_flight=1):
            pass


def compare(problems, make, counts: list[int], **how) -> None:
    measure("one process", problems, policy=make(), **how)
    for count in counts:
        with RayEngine(policy=make, workers=count) as engine:
            warm(engine, problems[: 20 * count], how["n"])
            measure(f"{count} on Ray", problems, count, engine=engine, **how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=1000, help="for the policy that sleeps")
    parser.add_argument("--in-flight", type=int, default=1, help="of these in each worker")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--policy", default="base")
    parser.add_argument("--solutions", type=int, default=200, help="problems for the model")
    asked = parser.parse_args()
    print(f"{asked.problems} problems, 10 ms a call, {asked.in_flight} in flight:", flush=True)
    problems = [Problem(f"p{i}", "math", "?") for i in range(asked.problems)]
    compare(problems, Sleeper, asked.workers, n=1, in_flight=asked.in_flight)
    print(f"{asked.solutions} problems, 4 solutions each by {asked.policy}:", flush=True)
    problems = quantities.generate(asked.solutions, levels=range(2, 8), seed=31, split="train")
    name = asked.policy
    compare(problems, lambda: load_policy(name), asked.workers, n=4, in_flight=32)


if __name__ == "__main__":
    main()
