"""Rounds of rollouts: one frame for every method by which a policy learns from what it wrote.

A round draws problems, gets a group of rollouts for each, asks the reward, grades the answers, and
hands all that to the method (`Learn`): GRPO (`grpo`), PPO (`ppo`), VinePPO (`vine`), DPO
(`preferences`). What a method makes of it is its own affair; the frame keeps the books, on the loop
of `loop.repeat`: a round is one of its turns, so runs stop, go on and write their log like others.

*Online* the rollouts are drawn anew in each round, by the policy as it is then. *Offline* they were
drawn before, by whomever, and are given as `SearchResult`s. Equal seeds draw equal problems for
every method, and online equal rollouts in the first round. Taught in notebook 06.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from numbers import Integral
from typing import Any

import torch

from workbench.drive import solve
from workbench.fingerprint import PLAIN, digest
from workbench.models.policy import HFPolicy
from workbench.search import METHODS
from workbench.task import stream_key
from workbench.train.drawn import (
    Drawn,
    Rounds,
    Source,
    check_errors,
    earned_by,
    grade,
    groups_of,
    measures,
    why_silent,
)
from workbench.train.learner import Learner, check_rank, this_process, together
from workbench.train.loop import rate_at, repeat, run_of
from workbench.train.rewards import Earned, Reward, answer
from workbench.train.rows import passes
from workbench.types import Meter, Method, Problem, SearchResult

# metrics, and which groups taught nothing (P,); None: interrupted before anything was learnt
Learn = Callable[[Drawn, float], tuple[dict[str, float], torch.Tensor] | None]


# -- the frame -------------------------------------------------------------------------------------


def take_rounds(
    learner: Learner,
    learn: Learn,
    policy: HFPolicy,
    source: Source,
    settings: Rounds,
    *,
    seed: int,
    rounds: int | None = None,
    until: int | None = None,
    reward: Reward = answer,
    meter: Meter | None = None,
    state: Callable[[], Any] = lambda: None,
    restore: Callable[[Any], None] = lambda state: None,
    known: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[dict[str, float]]:
    """Let a method `learn` in so many rounds, or until tokens are spent; yields each one's metrics.

    What is spent `until` the end are tokens sampled, trained on (by a critic of its own, too) and
    read by the reward's verifier: at equal tokens methods can be compared.

    `learn(drawn, rate)` changes the weights of `policy`, at that share of the peak rates. `state`,
    `restore` and `options` (held_out, evaluations, keep, patience, log ...) as for
    `loop.repeat`; `known` is what tells this run from others beside settings, seed, data, weights
    and reward. `meter` is the one that the reward's verifier adds to.

    A row has `round`, `train/rate`, what the method says, and `train/` reward (what a rollout
    earned, over its steps if each did), accuracy (the share of right answers, whatever the reward
    is), zero_signal (the share of groups that taught nothing), length (tokens a rollout), tokens
    (sampled so far, with what was drawn from prefixes), trained_tokens (so far, questions
    included), verifier_tokens (so far, with a `meter`), and, if there are right answers to embedded
    problems, right_by_wrong_steps (the share of them that hold a wrong step).
    """
    goal = _goal(rounds, until)
    if not callable(reward):
        raise ValueError(f"reward={reward!r:.60}: need a function reward(problem, rollout)")
    check_rank(policy.model, learner.recipe)
    cards = source if isinstance(source[0], Problem) else groups_of(source, settings.group)
    books = Books()

    def stood() -> int:
        return books.round if until is None else books.spent + learner.done.tokens

    def turn() -> dict[str, float] | None:
        # 1. draw and learn
        number, read, before = books.round, meter.verifier if meter else 0, stood()
        drawn = _draw(policy, cards, settings, reward, seed, number, meter or Meter())
        rate = rate_at(learner.recipe, number, stood() / goal, rounds)
        if drawn is None or (learnt := learn(drawn, rate)) is None:
            return None
        metrics, silent = learnt
        # 2. keep the books
        books.enter(drawn, metrics, meter.verifier - read if meter else 0)
        books.idle = 0 if stood() > before else books.idle + 1
        if books.idle * settings.problems > len(cards):  # each has come once, and none taught
            why = why_silent(drawn.right, silent)
            raise ValueError(f"until={until}: a pass over the rollouts spent no tokens: {why}")
        books.warned |= _warn(drawn, silent, again=not books.warned)
        # 3. say how it went
        spent = {"tokens": books.tokens, "trained_tokens": learner.done.tokens}
        spent |= {"verifier_tokens": books.verifier} if meter else {}
        row = {"rate": rate, **measures(drawn), **spent, "zero_signal": silent.float().mean()}
        row = {f"train/{name}": float(x) for name, x in row.items()}
        return {"round": number + 1, **row, **metrics}

    def take_back(kept: Mapping[str, Any]) -> None:
        vars(books).update(kept["books"])
        restore(kept["method"])

    if options.get("checkpoints") is not None:
        about = _about(policy, source, settings, reward, known or {})
        options["run"] = run_of(learner.recipe, **about, seed=seed, rounds=rounds, until=until)
    more = {"state": lambda: {"books": asdict(books), "method": state()}, "restore": take_back}
    yield from repeat(learner, turn, goal, stood=stood, **more, **options)


def _goal(rounds: int | None, until: int | None) -> int:
    """How many rounds or tokens, whichever is given; ValueError unless one is, and can be."""
    if (goal := rounds if until is None else until) is None or None not in (rounds, until):
        raise ValueError(f"rounds={rounds}, until={until}: say one, how many rounds or tokens")
    if not isinstance(goal, Integral) or goal < 1:
        name = "rounds" if until is None else "until"
        raise ValueError(f"{name}={goal!r}: need a whole number of at least 1")
    return goal


@dataclass
class Books:
    """What a run has spent so far, beside the tokens that its learner trained on."""

    round: int = 0
    tokens: int = 0  # sampled
    verifier: int = 0  # read by the reward's verifier
    critic: int = 0  # trained on by a critic of its own
    warned: bool = False  # that most groups teach nothing
    idle: int = 0  # rounds in a row that spent nothing

    @property
    def spent(self) -> int:
        return self.tokens + self.critic + self.verifier

    def enter(self, drawn: Drawn, metrics: Mapping[str, float], read: int) -> None:
        """One more round, for whose rewards a verifier read so many tokens."""
        self.round += 1
        self.tokens += drawn.cost.generated
        self.verifier += read
        self.critic = metrics.get("train/critic_tokens", 0)


def _about(
    policy: HFPolicy, source: Source, settings: Rounds, reward: Reward, known: Mapping[str, Any]
) -> dict[str, Any]:
    """What tells runs apart, each long or unprintable value as its digest."""
    about = {f"settings: {name}": x for name, x in asdict(settings).items()} | dict(known)
    about |= {"reward": reward, "data": repr(source)}
    about |= {"policy": policy.fingerprint()}  # its weights, how it is asked and cut
    plain = {name: isinstance(x, PLAIN) and len(repr(x)) < 80 for name, x in about.items()}
    return {name: x if plain[name] else digest(x) for name, x in about.items()}


# -- what a round draws ----------------------------------------------------------------------------


def _draw(
    policy: HFPolicy,
    cards: Source,
    settings: Rounds,
    reward: Reward,
    seed: int,
    number: int,
    meter: Meter,
) -> Drawn | None:
    """The rollouts of a round with their rewards; None if sampling was interrupted.

    `cards` are problems to write solutions of, or the groups that were recorded; `meter` is that of
    the reward's verifier.
    """
    of_round, cost = stream_key(seed, "grpo", number, 0, 0), Meter()
    order, size = chain.from_iterable(passes(cards, f"grpo/{seed}")), settings.problems
    results = list(islice(order, number * size, (number + 1) * size))
    if online := isinstance(cards[0], Problem):
        policy.engine.cache.clear()  # what a run that goes on does not have, none shall have
        parts = _drawn_together(policy, results, settings, reward, of_round, meter)
        if parts is None:
            return None
        results, earned = parts
        cost.generated = sum(result.meter.generated for result in results)
    else:
        earned = earned_by(reward, results)
    graded = torch.tensor(earned).view(len(results), -1) if reward is answer else None
    right = grade(results) if graded is None else graded  # (P, G)
    own = {"policy": policy, "reward": reward, "seed": of_round, "cost": cost}
    return Drawn(results, earned, right, **own, number=number, online=online)


def _drawn_together(
    policy: HFPolicy,
    problems: Sequence[Problem],
    settings: Rounds,
    reward: Reward,
    seed: int,
    meter: Meter,
) -> tuple[list[SearchResult], list[Earned]] | None:
    """Rollouts and what they earn; of several processes each draws those of its problems."""
    process, processes = this_process()
    # all with one id are drawn by one process, which numbers them as one alone does
    names = list(dict.fromkeys(problem.id for problem in problems))
    owner = {name: i % processes for i, name in enumerate(names)}
    mine, read = [p for p in problems if owner[p.id] == process], meter.verifier
    sizes = {"n": settings.group, "temperature": settings.temperature}

    def draw() -> tuple[list[SearchResult] | None, list[Earned], int]:
        results = sampled(METHODS["sample"], mine, policy, Meter(), seed=seed, **sizes)
        earned = earned_by(reward, results) if results else []
        return results, earned, meter.verifier - read

    parts = together(draw)
    meter.verifier = read + sum(own for *_, own in parts)
    if any(results is None for results, *_ in parts):
        return None
    drawn, paid = zip(*[(iter(results), iter(earned)) for results, earned, _ in parts])
    whole = [next(drawn[owner[problem.id]]) for problem in problems]
    return whole, [x for p in problems for x in islice(paid[owner[p.id]], settings.group)]


def sampled(
    method: Method, problems: Sequence[Problem], policy: HFPolicy, cost: Meter, **options: Any
) -> list[SearchResult] | None:
    """`drive.solve`, whose tokens are added to `cost`; None if it was interrupted.

    ValueError for a problem that could not be sampled.
    """
    results = solve(problems, method, policy=policy, **options)
    check_errors(results)
    cost.generated += sum(result.meter.generated for result in results)
    return None if any(result.stopped for result in results) else results


def _warn(drawn: Drawn, silent: torch.Tensor, *, again: bool) -> bool:
    """Say why a round taught nothing or, if `again`, why most of its groups did not; said it?"""
    said = bool(silent.all() or (again and silent.float().mean() >= 0.75))
    if said:
        head, why = "nothing" if silent.all() else "little", why_silent(drawn.right, silent)
        warnings.warn(f"{head} to learn in this round: {why}", stacklevel=4)
    return said
