"""Cost of step labels: OmegaPRM and Math-Shepherd, many problems in flight against one problem at a time.

    python benchmarks/labelling.py [--policy base] [--problems 200]

For each labeller: seconds, policy tokens, prompt and prefix tokens that had to be computed as a share of those
generated, and forward calls, all per problem: with all problems in flight, then the same problems one at a time. Same
process, one after the other: read the ratios.
"""

from __future__ import annotations

import argparse
import time

from workbench.drive import solve
from workbench.models import load_policy
from workbench.problems import quantities
from workbench.supervise.omegaprm import omegaprm
from workbench.supervise.shepherd import shepherd

LABELLERS = {
    "OmegaPRM": (omegaprm, dict(n=8, searches=20)),
    "Math-Shepherd": (shepherd, dict(solutions=8, n=8)),
}


def measure(policy, problems, method, options, in_flight: int) -> dict[str, float]:
    """What labelling costs, per problem, from a cold cache."""
    policy.engine.cache.clear()
    calls, began = policy.engine.forwards, time.perf_counter()
    results = solve(problems, method, policy=policy, seed=0, in_flight=in_flight, **options)
    seconds = time.perf_counter() - began
    if errors := [result.error for result in results if result.error]:
        raise SystemExit(errors[0])
    meters = [result.meter for result in results]
    generated, prefilled = sum(m.generated for m in meters), sum(m.prefilled for m in meters)
    labels = sum(label is not None for result in results for row in result.labelled for label in row.labels)
    return {
        "seconds": seconds / len(problems),
        "tokens": generated / len(problems),
        "prefilled / generated": prefilled / generated,
        "forward calls": (policy.engine.forwards - calls) / len(problems),
        "labels": labels / len(problems),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="base")
    parser.add_argument("--problems", type=int, default=200)
    asked = parser.parse_args()
    policy = load_policy(asked.policy, dtype="bfloat16")
    problems = quantities.generate(asked.problems, levels=range(2, 8), seed=31, split="train")
    for name, (method, options) in LABELLERS.items():
        together = measure(policy, problems, method, options, in_flight=len(problems))
        alone = measure(policy, problems, method, options, in_flight=1)
        print(f"\n{name}, {options}; per problem")
        for key in together:
            ratio = alone[key] / together[key]
            print(f"  {key:22} {together[key]:10.2f} together {alone[key]:10.2f} alone   {ratio:5.1f} x", flush=True)


if __name__ == "__main__":
    main()
