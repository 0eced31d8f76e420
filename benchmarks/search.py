"""Searches under a verifier: ours with all problems together, ours one by one, and its_hub.

    python benchmarks/search.py [--policy base] [--verifier prm_base] [--problems 16]
    [--only beam_search]

Beam search 4 x 4 and MCTS with 16 simulations on the same frozen validation problems, model and
verifier, in one process, one after the other, each from cold caches. its_hub is Red Hat's library
for inference-time scaling: its beam search asks our policy and verifier, with their caches, through
its own interfaces, and takes one problem at a time, as its `infer` does (a server behind these
interfaces could batch problems that run side by side). Equal candidates are kept once by us, each
by its_hub, which therefore draws more tokens for the same sizes. It has no MCTS. `pip install
its_hub` brings it, and nothing else; without it that row is left out.

CPU s: seconds of this process's processors. On a busy machine read their ratio, not the clock's.
verifier: tokens that the verifier computed, of those that the policy generated. search: share of
the time outside the calls of policy and verifier, that is driver and method. right: of the choices.
x: times the first row. `--problems 64` measures for real; a run says every ten seconds where it is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from workbench.analyse.compare import paired
from workbench.analyse.metrics import aggregate
from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.problems import frozen, is_right, quantities
from workbench.search import METHODS
from workbench.search.watched import watched
from workbench.task import stream_key
from workbench.types import Meter, Prefix, Problem

SEARCHES = {
    "beam_search": dict(beam_width=4, expand=4, aggregate="min"),
    "mcts": dict(simulations=16, aggregate="min"),
}
MAX_STEPS = 16
HEADS = {
    "seconds": 9, "CPU s": 8, "tokens": 9, "tokens/s": 10, "verifier": 10, "search": 8, "right": 7,
    "x seconds": 11, "x CPU s": 9,
}  # fmt: skip


class Run(NamedTuple):
    """All problems searched once: what it took, what was chosen."""

    seconds: float
    cpu: float
    meters: list[Meter]
    chosen: list[Prefix | None]
    right: list[bool]


class Pulse:
    """Says every ten seconds how many requests were answered."""

    def __init__(self, name: str):
        self.name, self.answered, self.said = name, 0, time.perf_counter()
        self.began = self.said

    def beat(self, *_) -> None:
        self.answered += 1
        if (now := time.perf_counter()) - self.said > 10:
            self.said = now
            print(
                f"  {self.name}: {self.answered} requests in {now - self.began:.0f} s", flush=True
            )


Search = Callable[[], tuple[list[Meter], list[Prefix | None]]]


def timed(models: dict, problems: Sequence[Problem], search: Search) -> Run:
    """Run a search on all problems from cold caches."""
    reader = models["verifier"].reader
    models["policy"].engine.cache.clear()
    reader.engine.cache.clear()
    reader.known.clear()
    began, cpu = time.perf_counter(), time.process_time()
    meters, chosen = search()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    right = [best is not None and is_right(p, best) for p, best in zip(problems, chosen)]
    return Run(seconds, cpu, meters, chosen, right)


def ours(models: dict, problems, name: str, in_flight: int, pulse: Pulse) -> Search:
    """Our search, so many problems at once."""

    def search() -> tuple[list[Meter], list[Prefix | None]]:
        method, options = watched(METHODS[name], pulse.beat), SEARCHES[name]
        how = {**options, "max_steps": MAX_STEPS, "seed": 0, "in_flight": in_flight}
        results = solve(problems, method, **models, **how)
        if errors := [result.error for result in results if result.error]:
            raise SystemExit(errors[0])
        return [result.meter for result in results], [result.best for result in results]

    return search


# -- its_hub ---------------------------------------------------------------------------------------


@contextmanager
def on(meter: Meter):
    """Add to the meter the seconds of a call to a model."""
    began = time.perf_counter()
    yield
    meter.seconds += time.perf_counter() - began


def its_hub(models: dict, problems, pulse: Pulse) -> Search:
    """Beam search of its_hub, one problem after the other; ImportError where it is missing."""
    from its_hub.core.algorithms.beam_search import BeamSearch
    from its_hub.core.lms.step_generation import StepGeneration

    policy, options = models["policy"], SEARCHES["beam_search"]
    width, end = options["beam_width"], policy.tokenizer.eos_token
    policy_of, verifier_of = interfaces(models, end, pulse)
    # it counts the steps before the new one
    steps = StepGeneration(MAX_STEPS - 1, "\n", end, temperature=policy.temperature)

    def search() -> tuple[list[Meter], list[Prefix | None]]:
        meters, chosen = [Meter() for _ in problems], []
        for problem, meter in zip(problems, meters):
            method = BeamSearch(steps, verifier_of(problem.blind(), meter), width)
            lm = policy_of(problem.blind(), meter)
            reply = method.infer(lm, problem.question, budget=width * options["expand"])
            chosen.append(read(problem, reply["content"], end))
        return meters, chosen

    return search


def read(problem: Problem, text: str, end: str) -> Prefix:
    """A solution from its text: a step a line; the mark `end` says that it is over."""
    lines = text.removesuffix(end).removesuffix("\n").split("\n")
    return Prefix.of(problem, lines, ended=text.endswith(end))


def interfaces(models: dict, end: str, pulse: Pulse) -> tuple[type, type]:
    """Our policy and verifier behind its_hub's interfaces, for one problem each."""
    from its_hub import AbstractLanguageModel, AbstractProcessRewardModel

    policy, verifier = models["policy"], models["verifier"]

    class ForOne:
        def __init__(self, problem: Problem, meter: Meter):
            self.problem, self.meter, self.asked = problem, meter, 0

    class PolicyForOne(ForOne, AbstractLanguageModel):
        async def agenerate(self, messages, stop=None, temperature=None, **_):
            told = [chat[1].content if chat[1:] else None for chat in messages]
            begun = [read(self.problem, t, end) if t else Prefix(self.problem) for t in told]
            name = (0, self.problem.id, 0, self.asked)
            keys = [stream_key(*name, row) for row in range(len(begun))]
            self.asked += 1
            how = {"until": "step", "temperature": temperature, "prompt": "solve"}
            with on(self.meter):
                drawn = policy.sample(begun, keys, **how, meters=[self.meter] * len(begun))
            pulse.beat()
            texts = [prefix.texts[-1] + end * prefix.ended for prefix in drawn]
            return [{"role": "assistant", "content": text} for text in texts]

    class VerifierForOne(ForOne, AbstractProcessRewardModel):
        def score(self, prompt_or_messages, steps):
            prefixes = [read(self.problem, text, end) for text in steps]
            with on(self.meter):
                rows = verifier.score(prefixes, meters=[self.meter] * len(prefixes))
            pulse.beat()
            return [aggregate(row, "min") for row in rows]

        async def ascore(self, prompt_or_messages, steps):
            return self.score(prompt_or_messages, steps)

    return PolicyForOne, VerifierForOne


# -- side by side ----------------------------------------------------------------------------------


def line(run: Run, first: Run) -> str:
    """The numbers of one row."""
    generated = sum(meter.generated for meter in run.meters)
    judged = sum(meter.verifier for meter in run.meters)
    inside = sum(meter.seconds for meter in run.meters)
    cells = [
        f"{run.seconds:.1f}", f"{run.cpu:.1f}", f"{generated}", f"{generated / run.seconds:.0f}",
        f"{judged / generated:.2f}", f"{1 - inside / run.seconds:.1%}",
        f"{sum(run.right) / len(run.right):.0%}",
        f"{run.seconds / first.seconds:.1f}", f"{run.cpu / first.cpu:.1f}",
    ]  # fmt: skip
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, HEADS.values()))


def compare(models: dict, problems, name: str) -> dict[str, Run]:
    """Every contender on one search, each printed as it comes."""
    print(f"\n{name}, {SEARCHES[name]}, {len(problems)} problems", flush=True)
    print(" " * 14 + "".join(f"{head:>{width}}" for head, width in HEADS.items()), flush=True)
    contenders = {
        "together": lambda pulse: ours(models, problems, name, len(problems), pulse),
        "one by one": lambda pulse: ours(models, problems, name, 1, pulse),
    }
    if name == "beam_search":
        contenders["its_hub"] = lambda pulse: its_hub(models, problems, pulse)
    runs: dict[str, Run] = {}
    for who, make in contenders.items():
        try:
            search = make(Pulse(who))
        except ImportError as error:
            print(f"{who:14} left out: {error}; pip install its_hub", flush=True)
            continue
        runs[who] = timed(models, problems, search)
        print(f"{who:14}{line(runs[who], runs['together'])}", flush=True)
    side_by_side(runs)
    return runs


def side_by_side(runs: dict[str, Run]) -> None:
    """What the others chose, problem for problem against the first."""
    first, *others = runs
    for who in others:
        texts = [[best and best.texts for best in runs[name].chosen] for name in (first, who)]
        same = sum(a == b for a, b in zip(*texts))
        gap = paired(runs[first].right, runs[who].right, seed=0)
        print(
            f"{first} - {who}: {100 * gap.difference:+.0f} points right "
            f"({100 * gap.low:+.0f} to {100 * gap.high:+.0f}), same choice in {same} of "
            f"{len(texts[0])}",
            flush=True,
        )


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="base")
    parser.add_argument("--verifier", default="prm_base")
    parser.add_argument("--problems", type=int, default=16, help="at most 200")
    parser.add_argument("--only", choices=SEARCHES, help="one search")
    asked = parser.parse_args(words)
    models = {"policy": load_policy(asked.policy), "verifier": load_verifier(asked.verifier)}
    warm = quantities.generate(2, levels=[2], seed=1, split="train")
    timed(models, warm, ours(models, warm, "beam_search", 2, Pulse("warming up")))
    problems = frozen.load("validation")[: asked.problems]
    for name in SEARCHES:
        if asked.only in (None, name):
            compare(models, problems, name)


if __name__ == "__main__":
    main()
