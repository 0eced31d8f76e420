"""What a round has drawn: rollouts in groups, what they earned, and how to say it.

`Rounds` holds a round's sizes, `Drawn` its rollouts; `measures` and `why_silent` are what a log and
a warning say of them. `rounds` draws, methods learn. Taught in notebook 06.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from workbench.models.policy import HFPolicy
from workbench.problems import KINDS, check_steps
from workbench.train.rewards import Earned, Reward, answer, rewards_of
from workbench.types import Meter, Prefix, Problem, SearchResult

Source = Sequence[Problem] | Sequence[SearchResult]  # online, offline


@dataclass(frozen=True)
class Rounds:
    """What a round is: its sizes, and the reference that the policy is held to."""

    group: int = 8  # rollouts a problem, G
    problems: int = 16  # a round, P
    updates: int = 1  # a round, each on all of its rollouts
    temperature: float = 1.0
    beta: float = 0.01  # how strongly the reference holds; 0: none is kept
    refresh: int | None = None  # rounds until the reference is the policy of then; None: never

    def __post_init__(self):
        for name in ("group", "problems", "updates", "refresh"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value}: need at least 1")
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature}: rollouts must differ, need above 0")
        if self.beta < 0:
            raise ValueError(f"beta={self.beta}: need at least 0")


@dataclass(frozen=True)
class Drawn:
    """A round's rollouts in groups, what each earned, and which have the right answer."""

    results: Sequence[SearchResult]  # P groups of G rollouts
    earned: Sequence[Earned]  # P * G, in the order of the rollouts
    right: torch.Tensor  # (P, G)
    policy: HFPolicy | None = None  # and the reward, for what the method itself draws
    reward: Reward = answer
    seed: int = 0
    cost: Meter = field(default_factory=Meter)  # to which it adds that
    number: int = 0  # of the round
    online: bool = True

    @property
    def rollouts(self) -> list[Prefix]:
        return [rollout for result in self.results for rollout in result.rollouts]

    @property
    def sums(self) -> torch.Tensor:
        """What each rollout earned in all, (P, G)."""
        sums = [sum(x) if isinstance(x, list) else x for x in self.earned]
        return torch.tensor(sums).view(self.right.shape)

    def wholes(self, what: str) -> torch.Tensor:
        """Rewards of whole rollouts, (P, G); ValueError, naming `what` needs them, for steps'."""
        if any(isinstance(x, list) for x in self.earned):
            raise ValueError(f"{what} needs a reward a rollout, this one gives one a step")
        return self.sums

    def steps(self, what: str) -> list[list[float]]:
        """The rewards of steps, P * G; ValueError, naming `what` needs them, if there are none."""
        if not all(isinstance(x, list) for x in self.earned):
            raise ValueError(f"{what} needs a reward a step, this one gives one a rollout")
        return [list(x) for x in self.earned]


# -- where rollouts come from ----------------------------------------------------------------------


def check_source(source: Source) -> None:
    """ValueError without problems or without their answers."""
    if not source:
        raise ValueError("no problems to train on: need at least one, with its answer")
    problems = [one if isinstance(one, Problem) else one.problem for one in source]
    if missing := [problem.id for problem in problems if problem.answer is None]:
        given = f"{len(missing)} of {len(problems)} problems have no answer to grade against"
        raise ValueError(f"{given}, the first is {missing[0]!r}")


def groups_of(results: Sequence[SearchResult], size: int) -> list[SearchResult]:
    """Recorded rollouts in groups of `size`, as many as there are; a rest is left out.

    ValueError for a problem with fewer, or for a rollout without the sampler's log-probabilities.
    """
    groups = []
    for result in results:
        name, rollouts = result.problem.id, result.rollouts
        if len(rollouts) < size:
            raise ValueError(f"{name}: {len(rollouts)} recorded rollouts, need a group of {size}")
        if not all(r.ended and r.ids and len(r.ids) == len(r.logprobs) for r in rollouts):
            need = "need whole ones as a policy drew them, with ids and log-probabilities"
            raise ValueError(f"{name}: a recorded rollout cannot be learnt from, {need}")
        starts = range(0, len(rollouts) - size + 1, size)
        groups += [replace(result, rollouts=rollouts[i : i + size]) for i in starts]
    return groups


def check_errors(results: Sequence[SearchResult]) -> None:
    """ValueError, naming the problem, for a result that is an error."""
    for result in results:
        if result.error:
            raise ValueError(f"{result.problem.id} could not be sampled: {result.error}")


# -- the books -------------------------------------------------------------------------------------


def earned_by(reward: Reward, results: Sequence[SearchResult]) -> list[Earned]:
    """What every rollout earns, group after group."""
    problems = [result.problem for result in results for _ in result.rollouts]
    return rewards_of(reward, problems, [r for result in results for r in result.rollouts])


def grade(results: Sequence[SearchResult]) -> torch.Tensor:
    """1 where a rollout's final answer is right, else 0: (P, G). ValueError for an error."""
    check_errors(results)
    return torch.tensor(earned_by(answer, results)).view(len(results), -1)


def measures(drawn: Drawn) -> dict[str, float]:
    """Reward, accuracy, length, and the share of right answers that hold a wrong step."""
    rollouts, flat = drawn.rollouts, drawn.right.flatten()
    length = sum(len(rollout.ids) for rollout in rollouts) / len(rollouts)
    right = [r for r, x in zip(rollouts, flat.tolist()) if x and r.problem.kind in KINDS]
    faulty = [not all(check_steps(r.problem, r.texts)) for r in right]
    by_luck = {"right_by_wrong_steps": sum(faulty) / len(faulty)} if faulty else {}
    means = {"reward": drawn.sums.mean().item(), "accuracy": flat.mean().item()}
    return means | {"length": length, **by_luck}


def why_silent(right: torch.Tensor, silent: torch.Tensor) -> str:
    """In words, why groups teach nothing, and what helps. right (P, G), silent (P,)

    >>> why_silent(torch.ones(3, 4), torch.ones(3).bool())
    'of 3 groups 3 are all right, 0 all wrong; use harder problems'
    """
    all_right = int(((right > 0).all(1) & silent).sum())
    all_wrong = int(((right == 0).all(1) & silent).sum())
    mixed = int(silent.sum()) - all_right - all_wrong
    told = f"of {len(silent)} groups {all_right} are all right, {all_wrong} all wrong"
    told += f", {mixed} hold both and nothing tells them apart" if mixed else ""
    advice = "use problems of another level, larger groups or more of them"
    if all_right > 0.75 * silent.sum():
        advice = "use harder problems"
    elif all_wrong > 0.75 * silent.sum():
        advice = "use easier problems, or fine-tune the policy first"
    elif mixed > 0.5 * silent.sum():
        advice = "look at what the reward says of them"
    return f"{told}; {advice}"
