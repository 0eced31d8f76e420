"""A policy without a model, and a method that walks: what tests of the driver run."""

from workbench.drive import solve
from workbench.types import Prefix, Problem, Sample, Score, SearchResult, Step, Stopped

PROBLEMS = [
    Problem(f"p{i}", "quantities", f"Question {i}?", str(i), f"The answer is {i} .", 1)
    for i in range(10)
]


class Scripted:
    """A policy without a model: three steps, whose text is the row's key; counts its calls and
    rows."""

    per, name = "step", "scripted"

    def __init__(self, broken: str | None = None):
        self.calls: list[int] = []
        self.broken = broken

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        self.calls.append(len(prefixes))
        if self.broken and any(p.problem.id == self.broken for p in prefixes):
            raise RuntimeError("this problem breaks the model")
        out = []
        for prefix, key, meter in zip(prefixes, keys, meters):
            n = 1 if until == "step" else 3 - len(prefix.steps)
            steps = tuple(Step(f"{key}:{i}", (key % 97,), (0.0,)) for i in range(n))
            meter.samples += 1
            meter.generated += n
            done = len(prefix.steps) + n >= 3
            out.append(
                Prefix(prefix.problem, prefix.steps + steps, "end" if done else None, prompt)
            )
        return out

    def score(self, prefixes, *, meters):
        for prefix, meter in zip(prefixes, meters):
            meter.verifier += len(prefix.steps)
        return [[len(prefix.steps) / 10] * len(prefix.steps) for prefix in prefixes]


def walk(problem, *, width=2):
    """Step by step, the newest child of each; brings back its best so far when stopped."""
    prefixes = [Prefix(problem)]
    try:
        while not prefixes[0].ended:
            prefixes = (yield Sample(prefixes[:1], n=width, until="step"))[-1:]
            yield Score(prefixes)
    except Stopped as stop:
        return SearchResult(
            problem, rollouts=tuple(prefixes), best=prefixes[0], stopped=stop.reason
        )
    return SearchResult(problem, rollouts=tuple(prefixes), best=prefixes[0])


def run(method=walk, problems=PROBLEMS, **arguments):
    model = arguments.pop("model", None) or Scripted()
    return solve(problems, method, policy=model, verifier=model, **arguments)
