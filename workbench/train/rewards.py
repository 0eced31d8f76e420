r"""What a rollout is worth: rewards as plain functions, and their weighted mix.

A reward is a function `reward(problem, rollout)`. It returns one number for the whole rollout, or a
list of one per step:

| reward | per | says |
|---|---|---|
| `answer` | rollout | 1 if the final answer is right |
| `ends` | rollout | 1 if it ends with an answer that can be read: the format |
| `too_long(most)` | rollout | 0, below 0 for more steps than `most`: the length |
| `by_verifier(verifier)` | either | what a verifier scores, or 2s - 1: a punishment below 1/2 |
| `exact` | rollout | 1 if answer and steps are right: for comparison only |
| `exact_steps` | step | 1 up to the first fault, 0 from there: for comparison only |
| `mixed({reward: weight})` | either | their weighted sum |
| `gated(gate, reward)` | rollout | their product; the second is asked only where it counts |

`rewards_of` asks any of them for many rollouts: once, where it has a `batch(problems, rollouts)`,
so that a verifier reads full batches, also inside a mix. A verifier sees blind problems.

Step rewards: DeepSeekMath's process supervision (arXiv 2402.03300, section 4.1.3; a reward model's
raw output there, a probability here). `min` over them: PURE (arXiv 2504.15275), here without its
soft form. `too_long`: DAPO's overlong punishment (arXiv 2503.14476, equation 13), in steps instead
of tokens. Taught in notebook 06.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import isfinite
from numbers import Real
from typing import Any

from workbench.analyse.metrics import AGGREGATES
from workbench.analyse.metrics import aggregate as combine
from workbench.fingerprint import digest
from workbench.problems import KINDS, answer_of, check_steps, is_right, states_answer
from workbench.types import Meter, Prefix, Problem, Verifier

Earned = float | list[float]  # by a whole rollout, or by each of its steps
Reward = Callable[[Problem, Prefix], Earned]


def rewards_of(
    reward: Reward, problems: Sequence[Problem], rollouts: Sequence[Prefix]
) -> list[Earned]:
    """The reward of every rollout, in order; `problems[i]` is the whole problem of `rollouts[i]`.

    ValueError for a rollout without steps, and for rewards that are not finite or not as many as
    rollouts, or as steps.
    """
    if len(problems) != len(rollouts):
        raise ValueError(f"{len(problems)} problems for {len(rollouts)} rollouts, need one each")
    for problem, rollout in zip(problems, rollouts):
        if not rollout.steps:
            raise ValueError(f"{problem.id}: a rollout without steps, need at least one")
    batch = getattr(reward, "batch", None)
    found = batch(problems, rollouts) if batch else list(map(reward, problems, rollouts))
    if len(found) != len(rollouts):
        raise ValueError(f"{len(found)} rewards for {len(rollouts)} rollouts, need one each")
    return [_checked(rollout, earned) for rollout, earned in zip(rollouts, found)]


def _checked(rollout: Prefix, earned: Earned) -> Earned:
    """The same as floats; ValueError unless it is a finite number, or one per step."""
    name = rollout.problem.id
    earned = earned.tolist() if hasattr(earned, "tolist") else earned  # of NumPy or torch
    per_step = isinstance(earned, (list, tuple))
    if per_step:
        earned = [x.tolist() if hasattr(x, "tolist") else x for x in earned]
    if not all(isinstance(x, Real) for x in (earned if per_step else [earned])):
        raise ValueError(f"{name}: reward {earned!r:.60}, need a number, or a list of one per step")
    if per_step and len(earned) != len(rollout.steps):
        given = f"{len(earned)} rewards for {len(rollout.steps)} steps"
        raise ValueError(f"{name}: {given}, need one per step, or one number")
    if not all(map(isfinite, earned if per_step else [earned])):
        raise ValueError(f"{name}: reward {earned}, need finite numbers")
    return list(map(float, earned)) if per_step else float(earned)


@dataclass(frozen=True)
class Batched:
    """A reward that is asked for many rollouts at once; called for one, it asks for that one.

    `known` is all that its rewards depend on; a training that goes on asks if it is the same.
    """

    batch: Callable[[Sequence[Problem], Sequence[Prefix]], list[Earned]]
    known: Any = field(default=None, compare=False)  # None: what the function holds

    def fingerprint(self) -> str:
        return digest(self.batch if self.known is None else self.known)

    def __call__(self, problem: Problem, rollout: Prefix) -> Earned:
        return self.batch([problem], [rollout])[0]


# -- from the answer, the form and the exact truth -------------------------------------------------


def answer(problem: Problem, rollout: Prefix) -> float:
    """1 if the final answer is right, else 0: also by wrong steps, and 0 before the end."""
    return float(is_right(problem, rollout))


def ends(problem: Problem, rollout: Prefix) -> float:
    """1 if the rollout ends with an answer that can be read, right or wrong, else 0.

    It must be stated as one (`states_answer`): a last number that happens to be there is none.
    """
    if answer_of(rollout) is None:
        return 0.0
    stated = rollout.texts[-1] if problem.kind in KINDS else rollout.text
    return float(states_answer(problem, stated))


def too_long(most: int) -> Reward:
    """0 up to `most` steps, then falling linearly to -1 at twice as many, and -1 from there.

    >>> problem = Problem("p", "math", "?")
    >>> [too_long(4)(problem, Prefix.of(problem, ["a"] * n)) for n in (3, 4, 5, 6, 8, 20)]
    [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]
    """
    if most < 1:
        raise ValueError(f"most={most}: need at least 1 step")
    return lambda problem, rollout: max(-1.0, min(0.0, 1 - len(rollout.steps) / most))


def exact(problem: Problem, rollout: Prefix) -> float:
    """1 if the final answer is right and so is every step, else 0; embedded problems only."""
    return float(all(check_steps(problem, rollout.texts)) and is_right(problem, rollout))


def exact_steps(problem: Problem, rollout: Prefix) -> list[float]:
    """1 for each step before the first fault, 0 from the fault on; embedded problems only."""
    return list(accumulate(map(float, check_steps(problem, rollout.texts)), min))


# -- from a verifier -------------------------------------------------------------------------------


def by_verifier(
    verifier: Verifier, *, aggregate: str = "min", signed: bool = False, meter: Meter | None = None
) -> Batched:
    """What a verifier scores, asked once per batch: an aggregate, or "steps" for one per step.

    `signed` turns each score s into 2s - 1 first: a bad step is punished. What is read is added
    to `meter`. A verifier of whole solutions has one score, whatever the aggregate. ValueError for
    an unknown aggregate, a product of signed scores, and scores that are not there or do not fit.
    """
    if aggregate != "steps" and aggregate not in AGGREGATES:
        raise ValueError(f"aggregate {aggregate!r}: use steps, {', '.join(AGGREGATES)}")
    if aggregate == "steps" and verifier.per != "step":
        raise ValueError(f"aggregate 'steps' of a verifier per {verifier.per}: need one per step")
    if aggregate == "prod" and signed:
        raise ValueError("aggregate 'prod', signed: two wrong steps would make a right one")

    def batch(problems: Sequence[Problem], rollouts: Sequence[Prefix]) -> list[Earned]:
        blind = [replace(r, problem=p.blind()) for p, r in zip(problems, rollouts)]
        if forget := getattr(verifier, "forget", None):
            forget()  # what a run that goes on does not have, none shall have
        rows = verifier.score(blind, meters=None if meter is None else [meter] * len(blind))
        if len(rows) != len(blind):
            raise ValueError(f"{len(rows)} rows of scores for {len(blind)} rollouts, need one each")
        found = [_scores(verifier, *pair, signed) for pair in zip(blind, rows)]
        return found if aggregate == "steps" else [combine(row, aggregate) for row in found]

    return Batched(batch, (verifier, aggregate, signed))


def _scores(
    verifier: Verifier, rollout: Prefix, scores: Sequence[float], signed: bool
) -> list[float]:
    """The scores of one rollout, signed if asked; ValueError unless all are there, in [0, 1]."""
    need = len(rollout.steps) if verifier.per == "step" else 1
    if len(scores) != need or not all(0 <= score <= 1 for score in scores):
        given = f"scores {list(scores)!r:.80} for {len(rollout.steps)} steps"
        raise ValueError(f"{rollout.problem.id}: {given}, need {need} in [0, 1]")
    return [float(2 * score - 1 if signed else score) for score in scores]


# -- several ---------------------------------------------------------------------------------------


def mixed(parts: Mapping[Reward, float] | Iterable[tuple[float, Reward]]) -> Batched:
    """The weighted sum of rewards, given as {reward: weight} or as pairs of (weight, reward).

    If one is per step, so is the sum, and whole ones are added at the last step. ValueError without
    parts, or for one that is no weight and reward.
    """
    pairs = [(w, r) for r, w in parts.items()] if isinstance(parts, Mapping) else list(parts)
    if not pairs:
        raise ValueError("no rewards to mix: need at least one, with its weight")
    for weight, reward in pairs:
        if not (isinstance(weight, Real) and isfinite(weight) and callable(reward)):
            given = f"weight {weight!r:.40} of reward {reward!r:.40}"
            raise ValueError(f"{given}: need a finite number, and a function")

    def batch(problems: Sequence[Problem], rollouts: Sequence[Prefix]) -> list[Earned]:
        columns = [rewards_of(reward, problems, rollouts) for _, reward in pairs]
        return [_weighted_sum([w for w, _ in pairs], row) for row in zip(*columns)]

    return Batched(batch, pairs)


def gated(gate: Reward, reward: Reward) -> Batched:
    """`gate` times `reward`, which is asked only where the gate is not 0: one number a rollout.

    `gated(answer, by_verifier(prm))`: only a right answer earns anything, more by better steps, and
    the verifier reads no others. ValueError for rewards per step.
    """

    def batch(problems: Sequence[Problem], rollouts: Sequence[Prefix]) -> list[Earned]:
        gates = rewards_of(gate, problems, rollouts)
        some = [i for i, earned in enumerate(gates) if earned]
        asked = rewards_of(reward, [problems[i] for i in some], [rollouts[i] for i in some])
        if any(isinstance(earned, list) for earned in (*gates, *asked)):
            raise ValueError("rewards per step, behind a gate or as one: need one per rollout")
        opened = dict(zip(some, asked))
        return [earned * opened.get(i, 0.0) for i, earned in enumerate(gates)]

    return Batched(batch, (gate, reward))


def _weighted_sum(weights: Sequence[float], rewards: Sequence[Earned]) -> Earned:
    """Of the rewards of one rollout; whole ones count at the last step where there are steps'.

    >>> _weighted_sum([1.0, 0.5], [1.0, -1.0]), _weighted_sum([1.0, 0.5], [[0.25, 0.75], 1.0])
    (0.5, [0.25, 1.25])
    """
    pairs = list(zip(weights, rewards))
    whole = sum(w * x for w, x in pairs if not isinstance(x, list))
    rows = [[w * x for x in row] for w, row in pairs if isinstance(row, list)]
    steps = [sum(each) for each in zip(*rows)]
    return [*steps[:-1], steps[-1] + whole] if steps else whole
