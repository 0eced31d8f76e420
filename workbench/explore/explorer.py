"""What the explorer does, without a widget: choose a problem, watch a search, score steps, show it.

Names and sizes are those that the shipped models manage in seconds on two cores. All that somebody
may type is checked here (`ValueError` says what is accepted), and every search has a limit of
tokens and of seconds, so that the notebook can be served to anybody. The widgets over it are in
`workbench.explore.controls`. Taught in notebook 11.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf
from typing import Any

from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.problems import frozen
from workbench.problems.typed import typed_problem
from workbench.search import METHODS
from workbench.search.watched import FollowedTree, Growing, Moment, watched
from workbench.show import explorer as views
from workbench.types import Budget, Prefix, Problem, SearchResult

SOLVERS, VERIFIERS = ("weak", "base", "strong"), ("prm_base", "prm_strong")
BUDGETS = (500, 1000, 2000, 4000, 8000)  # tokens of policy and verifier
# what the shipped policies can do, in sizes whose trees fit on a screen
OFFERED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "best_of_n": {"n": 8},
    "adaptive": {"n": 16},
    "beam_search": {"beam_width": 3, "expand": 4},
    "stepwise_best_of_n": {"n": 4},
    "lookahead": {"beam_width": 2, "expand": 3},
    "dvts": {"subtrees": 2, "expand": 4},
    "rebase": {"width": 8},
    "particle_filter": {"particles": 8},
    "critic_search": {"n": 2, "rounds": 2, "expand": 2},
    "mcts": {},
    "rstar": {"simulations": 6, "by": None},
}


@dataclass(frozen=True)
class Seen:
    """A search that was watched: its moments in order, and what it brought."""

    problem: Problem
    method: str
    moments: tuple[Moment, ...]
    result: SearchResult


@dataclass
class Explorer:
    """The models by name, loaded when they are first asked for, and the limits of a search."""

    seed: int = 0
    simulations: int = 12  # of one MCTS
    seconds: float = 20.0  # that a search started by a button may take
    models: dict[str, Any] = field(default_factory=dict)

    def policy(self, name: str) -> Any:
        """A shipped policy; ValueError for another name."""
        return self._model(name, SOLVERS, partial(load_policy, max_tokens=256))

    def verifier(self, name: str) -> Any:
        """A shipped verifier; ValueError for another name."""
        return self._model(name, VERIFIERS, load_verifier)

    def _model(self, name: str, known: Sequence[str], load: Callable[[str], Any]) -> Any:
        frozen.check_one_of("model", name, known)
        if name not in self.models:
            self.models[name] = load(name)
        return self.models[name]

    def search(
        self,
        problem: Problem,
        method: str,
        *,
        policy: str = "base",
        verifier: str = "prm_base",
        budget: int = BUDGETS[-1],
        seconds: float = inf,
        tell: Callable[[Moment], None] = lambda moment: None,
    ) -> Seen:
        """Run one of `OFFERED` under watch; `tell` hears of every moment as it happens.

        ValueError for a method or a model that is not offered, or a budget out of bounds.
        """
        frozen.check_one_of("method", method, list(OFFERED))
        if not 1 <= budget <= BUDGETS[-1]:
            raise ValueError(f"budget={budget} tokens: use 1 to {BUDGETS[-1]:,}")
        moments: list[Moment] = []

        def keep(moment: Moment) -> None:
            moments.append(moment)
            tell(moment)

        models = {"policy": self.policy(policy), "verifier": self.verifier(verifier)}
        sizes = OFFERED[method] | ({"simulations": self.simulations} if method == "mcts" else {})
        if method == "mcts":  # it tells of its simulations, the others are seen by their requests
            told = partial(METHODS["mcts"], at_once=1, kind=partial(FollowedTree, tell=keep))
            seen = watched(told, lambda *_: None, seconds=seconds)
        else:
            seen = watched(METHODS[method], Growing(problem, keep).note, seconds=seconds)
        limits = {"seed": self.seed, "budget": Budget(budget, "tokens")}
        (result,) = solve([problem], seen, **models, **limits, **sizes)
        return Seen(problem, method, tuple(moments), result)

    def scores(self, problem: Problem, steps: Sequence[str], verifier: str) -> list[float]:
        """What a verifier says of each step; ValueError for a solution that it cannot read."""
        if not steps:
            return []
        (row,) = self.verifier(verifier).score([Prefix.of(problem.blind(), steps)])
        return list(row)


def problem_of(text: str) -> Problem:
    """The problem that is meant: the number of a frozen validation problem, or a typed question.

    ValueError for a number that there is not, or a question that cannot be read.

    >>> problem_of("0").id, problem_of("How many coins does Zoe have? Zoe has 7 coins.").answer
    ('quantities/validation/1002/0', '7')
    """
    if not text.strip().isdecimal():
        return typed_problem(text)
    problems, number = frozen.load("validation"), text.strip()
    if len(number) > 6 or int(number) >= len(problems):
        raise ValueError(f"problem {number[:9]}: there are 0 to {len(problems) - 1}")
    return problems[int(number)]


def as_typed(problem: Problem) -> str:
    """What `problem_of` makes this problem of: its number, or its question."""
    ids = [frozen_one.id for frozen_one in frozen.load("validation")]
    return str(ids.index(problem.id)) if problem.id in ids else problem.question


def slip(steps: Sequence[str], at: int) -> list[str]:
    """The steps with the last number of step `at` (from 1) too large by one.

    ValueError for a step that is not there or holds no number.

    >>> slip(["Ava has 4 more than Max : 5 + 4 = 9 ."], 1)
    ['Ava has 4 more than Max : 5 + 4 = 10 .']
    """
    words = steps[at - 1].split(" ") if 1 <= at <= len(steps) else []
    places = [i for i, word in enumerate(words) if word.isdecimal()]
    if not places:
        raise ValueError(f"step {at} of {len(steps)}: there is no number to change")
    words[places[-1]] = str(int(words[places[-1]]) + 1)
    return [*steps[: at - 1], " ".join(words), *steps[at:]]


# -- views of what was seen: the same with and without widgets ----------------------------------


def last_view(seen: Seen) -> str:
    """A search at its end."""
    root = seen.moments[-1].root if seen.moments else None
    if root is None:
        return views.message(f"{seen.method}: {views.outcome(seen.result)}")
    return views.search_view(seen.problem, seen.method, root, "over", seen.result)


def whole_view(seen: Seen) -> str:
    """The question, and a search at its end."""
    return views.question_view(seen.problem) + last_view(seen)


def moment_view(seen: Seen, number: int) -> str:
    """Simulation `number` (from 1) of MCTS. ValueError for one that there was not."""
    if not 1 <= number <= len(seen.moments):
        raise ValueError(f"simulation {number}: there were {len(seen.moments)}, from 1 on")
    moment = seen.moments[number - 1]
    before = seen.moments[number - 2].root if number > 1 else None
    ways = [[asdict(way) for way in fork] for fork in moment.ways]
    return views.simulation_view(seen.problem, moment.root, before, moment.said, ways)


def pair_view(first: Seen, second: Seen) -> str:
    """Two searches of one problem side by side."""
    return views.question_view(first.problem) + views.columns(last_view(first), last_view(second))
