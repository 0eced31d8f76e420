"""Solving a problem as a Markov decision process, for reinforcement learning from elsewhere.

State: the question and the steps so far. Action: one step, as text. Reward: any function of (whole
problem, prefix), asked after each step. An answer line ends the episode, `most_steps` cut it short.
The interface is Gymnasium's (Towers et al. 2024, arXiv 2407.17032), so that its wrappers and vector
environments work on it. It is no second world: a step is added to a `types.Prefix`, judged and
graded as everywhere else, and no driver or model is needed. Taught in notebook 06.

How this deviates from training here: a policy of ours ends a solution by its end token, here the
answer line does; steps come as text and are tokenised when a model first reads them; one episode
at a time, where `drive.solve` asks models in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from string import printable
from typing import Any

import gymnasium
from gymnasium.spaces import Text

from workbench.problems import states_answer
from workbench.types import Prefix, Problem, Step

PRINTABLE = "".join(c for c in printable if c.isprintable())
MOST_CHARACTERS = 5_000  # of a question, and of a step

StepReward = Callable[[Problem, Prefix], float | list[float]]


def at_end(reward: StepReward) -> StepReward:
    """The reward of a whole solution, paid when it is over: 0 at every step before."""
    return lambda problem, prefix: reward(problem, prefix) if prefix.ended else 0.0


class StepEnv(gymnasium.Env[str, str]):
    """Solve a problem step by step: `step(text)` appends one and says what it earned.

    The observation is what a policy reads: the question and the steps, a line each. It never holds
    answer or solution; nor does the `Prefix` in `info["prefix"]`, whose problem is blind.

    `reward(problem, prefix)` gets the problem whole, and the prefix with the new step. What it says
    is what this step earned; of a list, one per step, it is the last. A reward of whole solutions
    that is not 0 before the end belongs in `at_end`.

    Of several problems `reset` draws one; `reset(options={"problem": i})` takes that one. Steps and
    questions are written in `characters` (questions in line breaks, too). ValueError for a question
    in others, a step in others, and a step when no episode is going on.
    """

    def __init__(
        self,
        problem: Problem | Sequence[Problem],
        *,
        reward: StepReward,
        most_steps: int = 16,
        characters: str = PRINTABLE,
    ):
        self.problems = (problem,) if isinstance(problem, Problem) else tuple(problem)
        self.reward, self.most_steps = reward, most_steps
        if not self.problems:
            raise ValueError("no problems: need one, or a sequence with at least one")
        if most_steps < 1:
            raise ValueError(f"most_steps={most_steps}: need at least 1")
        # the same for all problems, as vector environments need it
        self.action_space = Text(MOST_CHARACTERS, min_length=0, charset=characters)
        lines, charset = 1 + most_steps, f"{characters}\n"
        self.observation_space = Text((MOST_CHARACTERS + 1) * lines, charset=charset)
        for one in self.problems:
            _check_question(one, charset)
        self._problem = self.problems[0]
        self._prefix: Prefix | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Begin an episode: observation and info. Equal seeds draw equal problems."""
        super().reset(seed=seed)
        options = dict(options or {})
        number = options.pop("problem", None)
        if options:
            raise ValueError(f"options {', '.join(map(str, options))}: only 'problem' is known")
        if number is None:
            number = int(self.np_random.integers(len(self.problems)))
        if number not in range(len(self.problems)):
            raise ValueError(f"problem {number!r}: use a number from 0 to {len(self.problems) - 1}")
        self._problem = self.problems[number]
        self._prefix = Prefix(self._problem.blind())
        return _text(self._prefix), {"prefix": self._prefix}

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Append one step: observation, reward, terminated (answered), truncated, info."""
        name, before = self._problem.id, self._prefix
        if before is None or before.ended:
            raise ValueError(f"{name}: no episode is going on, call reset() before {text!r:.80}")
        if text not in self.action_space:
            need = f"need text of at most {MOST_CHARACTERS} of the allowed characters"
            raise ValueError(f"{name}: {text!r:.80} is no step, {need} (no line break by default)")
        prefix = replace(before, steps=(*before.steps, Step(text)))
        if states_answer(self._problem, text):
            prefix = replace(prefix, stop="end")
        elif len(prefix.steps) == self.most_steps:
            prefix = replace(prefix, stop="length")
        earned, self._prefix = self._earned(prefix), prefix
        over = prefix.stop == "end", prefix.stop == "length"
        return _text(prefix), earned, *over, {"prefix": prefix}

    def _earned(self, prefix: Prefix) -> float:
        """What the last step earned."""
        earned, steps = self.reward(self._problem, prefix), len(prefix.steps)
        if not isinstance(earned, list):
            return float(earned)
        if len(earned) != steps:
            given = f"{len(earned)} rewards for {steps} steps"
            raise ValueError(f"{self._problem.id}: {given}, need one per step, or one number")
        return float(earned[-1])


def _check_question(problem: Problem, charset: str) -> None:
    """ValueError for a question that no observation could hold."""
    if strange := "".join(sorted(set(problem.question) - {*charset})):
        need = "pass characters= that hold them, too"
        raise ValueError(f"{problem.id}: the question is written in {strange!r:.80}, {need}")
    if (length := len(problem.question)) > MOST_CHARACTERS:
        given = f"a question of {length} characters"
        raise ValueError(f"{problem.id}: {given}, need at most {MOST_CHARACTERS}")


def _text(prefix: Prefix) -> str:
    return "".join(f"{line}\n" for line in (prefix.problem.question, *prefix.texts))
