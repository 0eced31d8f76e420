r"""Verifiers that need no training, to hold a trained one against.

| | score of a step | what it shows |
|---|---|---|
| `Random` | a fixed uniform number | chance |
| `Position` | 1 / (2 + its index) | how much "errors come late" alone explains |
| `OwnLikelihood` | how likely the policy found it when it wrote it | a judge for nothing |
| `Oracle` | is it right | what a perfect verifier is worth |
| `Dial` | how likely it is right, as seen through noise | what a verifier of any AUC is worth |

Whatever is drawn is keyed by (seed, problem id, step texts up to here), so a score depends neither
on what follows nor on what else is in the batch.

`Oracle` and `Dial` know the problems: a search shows its verifier blind copies, so they look up the
whole one by its id. They are ceilings and teachers, no methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from math import exp, sqrt
from statistics import NormalDist

from scipy.special import expit

from workbench.fingerprint import digest
from workbench.problems import check_steps
from workbench.types import Meter, Prefix, Problem, Scores, Unreadable


class _Weightless:
    """A verifier that needs no weights: `_score` judges the steps of one solution."""

    per, name = "step", ""
    whole: dict[str, Problem] | None = None  # those that know the problems: by id

    def score(self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None) -> Scores:
        return [self._score(prefix) for prefix in prefixes]

    def fingerprint(self) -> str:
        """What this verifier is: its name, and the problems that it knows."""
        return self.name if self.whole is None else f"{self.name}-{digest(self.whole)}"


class Random(_Weightless):
    """Chance: every step has a uniform score that is fixed by its content and the seed.

    >>> problem = Problem("p", "math", "?")
    >>> pair = [Prefix.of(problem, ["x", "y"]), Prefix.of(problem, ["x", "z"])]
    >>> (x, y), (same, z) = Random(seed=0).score(pair)
    >>> x == same, y == z
    (True, False)
    """

    def __init__(self, seed: int = 0):
        self.seed, self.name = seed, f"random-{seed}"

    def _score(self, prefix: Prefix) -> list[float]:
        return [_uniform(name) for name in _names(self.name, prefix)]


class Position(_Weightless):
    """Position alone: the later a step, the lower its score, and never 0 or 1.

    >>> Position().score([Prefix.of(Problem("p", "math", "?"), ["x", "y", "z"])])
    [[0.5, 0.3333333333333333, 0.25]]
    """

    name = "position"

    def _score(self, prefix: Prefix) -> list[float]:
        return [1 / (2 + i) for i in range(len(prefix.steps))]


class OwnLikelihood(_Weightless):
    """How likely the policy found each step when it wrote it: p / (1 + p), as `verifier.untrained`.

    From the log-probabilities that come with sampled steps, so that nothing has to be read: it is
    free beside another verifier (`models.ensemble`). Of steps drawn at temperature 1; at others the
    policy's probabilities are tempered, and so is its judgement. `Unreadable` for a step without
    log-probabilities: one that came as text, or from a server that sends none.

    >>> from workbench.types import Step
    >>> steps = Step("2 + 3 = 5", (4, 2), (-0.5, -0.1)), Step("2 + 3 = 6", (5, 2), (-4.0, -0.1))
    >>> (scores,) = OwnLikelihood().score([Prefix(Problem("p", "stories", "?"), steps)])
    >>> [round(score, 3) for score in scores]
    [0.354, 0.016]
    """

    name = "own likelihood"

    def _score(self, prefix: Prefix) -> list[float]:
        for step in prefix.steps:
            if not step.logprobs:
                given = f"{prefix.problem.id}: step {step.text!r:.40} has no log-probabilities"
                raise Unreadable(f"{given}: use verifier.untrained(policy), which reads it")
        return [float(expit(sum(step.logprobs))) for step in prefix.steps]

    def price(self, prefixes: Sequence[Prefix]) -> int:
        """Nothing: it has been paid with the sampling."""
        return 0


class Oracle(_Weightless):
    """Exact truth of embedded problems (`check_steps`), 1.0 or 0.0; with noise: `Dial`.

    ValueError for a problem without exact truth, `Unreadable` for an unknown one.
    """

    name = "oracle"

    def __init__(self, problems: Sequence[Problem]):
        self.whole = _by_id(problems)

    def _score(self, prefix: Prefix) -> list[float]:
        verdicts = check_steps(_look_up(self.whole, prefix), prefix.texts)
        return [float(verdict) for verdict in verdicts]


class Dial(_Weightless):
    """Exact truth of embedded problems seen through noise, so that its AUC over steps is `auc`.

    It sees z = m + n of a right step and -m + n of a wrong one, with n standard normal and
    m = inverse normal of `auc` / sqrt(2), and scores how likely the step then is to be right, were
    as many right as wrong. Of n's variance the share `stubborn` belongs to the step's text in its
    problem, wherever it is written: a verifier that is taken in by a step is so every time.
    ValueError unless 0.5 <= auc < 1 and 0 <= stubborn <= 1, else as `Oracle`.
    """

    def __init__(
        self, problems: Sequence[Problem], *, auc: float, stubborn: float = 0.0, seed: int = 0
    ):
        if not (0.5 <= auc < 1 and 0 <= stubborn <= 1):
            given = f"auc={auc}, stubborn={stubborn}"
            raise ValueError(f"{given}: need 0.5 <= auc < 1 and 0 <= stubborn <= 1")
        self.whole, self.apart = _by_id(problems), NormalDist().inv_cdf(auc) / sqrt(2)
        self.parts = sqrt(stubborn), sqrt(1 - stubborn)
        self.name = f"dial-{auc}-{stubborn}-{seed}"
        self._salt = f"dial-{seed}"

    def _score(self, prefix: Prefix) -> list[float]:
        verdicts = check_steps(_look_up(self.whole, prefix), prefix.texts)
        alone = [replace(prefix, steps=(step,)) for step in prefix.steps]
        own = [_normal(_names(self._salt, one)[0]) for one in alone]
        here = [_normal(name) for name in _names(f"{self._salt}-here", prefix)]
        noise = [self.parts[0] * a + self.parts[1] * b for a, b in zip(own, here)]
        seen = [(self.apart if right else -self.apart) + n for right, n in zip(verdicts, noise)]
        return [1 / (1 + exp(-2 * self.apart * z)) for z in seen]


# -- problems by id, draws by content --------------------------------------------------------------


def _by_id(problems: Sequence[Problem]) -> dict[str, Problem]:
    known: dict[str, Problem] = {}
    for problem in problems:
        if known.setdefault(problem.id, problem) != problem:
            raise ValueError(f"two different problems with id {problem.id!r}: ids must be unique")
    return known


def _look_up(known: dict[str, Problem], prefix: Prefix) -> Problem:
    name, n = prefix.problem.id, len(known)
    problem = known.get(name)
    if problem is None or problem.question != prefix.problem.question:
        raise Unreadable(f"{name}: not one of the {n} problems that this verifier knows")
    return problem


def _names(salt: str, prefix: Prefix) -> list[bytes]:
    """For each step a digest of (salt, problem id, the texts up to and including it)."""
    digest, names = blake2b(digest_size=16), []
    for text in (salt, prefix.problem.id, *prefix.texts):
        data = text.encode()
        # with lengths: "ab", "c" is not "a", "bc"
        digest.update(len(data).to_bytes(8, "little") + data)
        names.append(digest.digest())
    return names[2:]


def _uniform(name: bytes) -> float:
    return (int.from_bytes(name[:8], "little") >> 11) * 2.0**-53  # [0, 1)


def _normal(name: bytes) -> float:
    return NormalDist().inv_cdf(_uniform(name) or 2.0**-54)
