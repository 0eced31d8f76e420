"""Models without weights: a policy that errs at a known rate, verifiers with known scores."""

import numpy as np

from workbench.models.draws import uniforms
from workbench.problems import check_steps
from workbench.types import Prefix, Problem, Step


class Walker:
    """Writes the gold solution; each step but the last goes wrong with chance `p`, and the answer
    is right only after right steps. Counts its rows."""

    name = "walker"

    def __init__(self, problems: list[Problem], p: float = 0.3):
        self.gold = {problem.id: problem.solution.split("\n") for problem in problems}
        self.p, self.rows = p, 0

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        self.rows += len(prefixes)
        return [
            self._go_on(*row, until, temperature, prompt) for row in zip(prefixes, keys, meters)
        ]

    def _go_on(self, prefix, key, meter, until, temperature, prompt):
        gold, steps = self.gold[prefix.problem.id], list(prefix.steps)
        draws = uniforms(np.array([key], np.uint64), np.zeros(1, np.uint64), len(gold))[0]
        first = len(steps)
        while len(steps) < len(gold):
            wrong = draws[len(steps) - first] < self.p and temperature != 0
            text = gold[len(steps)]
            if len(steps) == len(gold) - 1:
                wrong = tuple(s.text for s in steps) != tuple(gold[:-1])
            steps.append(Step(text.replace(" .", "9 .") if wrong else text, (1,), (0.0,)))
            if until == "step":
                break
        meter.samples += 1
        meter.generated += len(steps) - first
        return Prefix(
            prefix.problem, tuple(steps), "end" if len(steps) == len(gold) else None, prompt
        )


class Judge:
    """A verifier made of a function from (problem with answer, steps) to step scores."""

    per = "step"

    def __init__(self, problems, function):
        self.whole, self.function = {p.id: p for p in problems}, function

    def score(self, prefixes, *, meters=None):
        return [self.function(self.whole[p.problem.id], p.texts) for p in prefixes]


def oracle(problems):
    """1 for every right step, 0 for every wrong one."""
    return Judge(
        problems, lambda problem, steps: [float(right) for right in check_steps(problem, steps)]
    )


def constant(problems):
    return Judge(problems, lambda problem, steps: [0.5] * len(steps))
