"""Cost of step labels: OmegaPRM and Math-Shepherd, many problems in flight against one problem at a
time.

    python benchmarks/labelling.py [--policy base] [--problems 200] [--alone 25] [--batch-tokens
    196608]

For each labeller: policy tokens per problem, prompt and prefix tokens that had to be computed as a
share of those generated, and seconds and forward calls per 1,000 generated tokens: with all
problems in flight, then `--alone` of them, spread evenly, one at a time. Same process, one after
the other: read the ratios.
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
    """What labelling costs, from a cold cache."""
    policy.engine.cache.clear()
    calls, began = policy.engine.forwards, time.perf_counter()
    results = solve(problems, method, policy=policy, seed=0, in_flight=in_flight, **options)
    seconds = time.perf_counter() - began
    if errors := [result.error for result in results if result.error]:
        raise SystemExit(errors[0])
    meters = [result.meter for result in results]
    generated, prefilled = sum(m.generated for m in meters), sum(m.prefilled for m in meters)
    return {
        "tokens per problem": generated / len(problems),
        "prefilled / generated": prefilled / generated,
        "seconds / 1,000 tokens": 1000 * seconds / generated,
        "calls / 1,000 tokens": 1000 * (policy.engine.forwards - calls) / generated,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="base")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--alone", type=int, default=25, help="problems for the slow way")
    parser.add_argument(
        "--batch-tokens", type=int, default=196_608, help="tokens of one forward call, at most"
    )
    parser.add_argument("--only", choices=LABELLERS, help="one labeller")
    asked = parser.parse_args()
    policy = load_policy(asked.policy, dtype="bfloat16", batch_tokens=asked.batch_tokens)
    problems = quantities.generate(asked.problems, levels=range(2, 8), seed=31, split="train")
    for name, (method, options) in LABELLERS.items():
        if asked.only not in (None, name):
            continue
        together = measure(policy, problems, method, options, in_flight=len(problems))
        few = problems[:: max(1, asked.problems // asked.alone)]
        alone = measure(policy, few, method, options, in_flight=1)
        print(f"\n{name}, {options}: {asked.problems} together, {len(few)} alone")
        for key in together:
            ratio = alone[key] / together[key]
            print(
                f"  {key:22} {together[key]:10.2f} together {alone[key]:10.2f} alone {ratio:5.1f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
