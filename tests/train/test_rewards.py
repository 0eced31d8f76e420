"""Rewards: their values on solutions by hand, verifiers asked once and blind, mixes by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scripted import oracle

from workbench.models import load_verifier
from workbench.problems import quantities
from workbench.problems.environment import StepEnv, at_end
from workbench.train import rewards
from workbench.train.rewards import by_verifier, mixed, rewards_of, too_long
from workbench.types import Meter, Prefix, Problem

TESS = Problem(
    "tess", "quantities", "How many coins does Tess have? Ava has 3 coins. "
    "Max has 4 more than Ava. Rosa has 2 times as many as Max. Tess has 5 fewer than Rosa.", "9",
    "never shown", meta={"source": "by hand"},
)  # fmt: skip
MAX, ROSA, COINS = (
    "Max has 4 more than Ava : 3 + 4 = 7 .",
    "Rosa has 2 times as many as Max : 2 * 7 = 14 .",
    "Tess has 5 fewer than Rosa : 14 - 5 = 9 .",
)
SLIP, ANSWER = "Max has 4 more than Ava : 3 + 4 = 8 .", "The answer is 9 ."


def solution(*steps, stop="end", problem=TESS):
    return replace(Prefix.of(problem, steps), stop=stop)


RIGHT = solution(MAX, ROSA, COINS, ANSWER)
LUCKY = solution(MAX, SLIP, ROSA, COINS, ANSWER)  # the right answer, but Max's coins said twice
WRONG = solution(SLIP, ROSA, "The answer is 8 .")
UNSAID = solution(MAX, ROSA, COINS)  # ended without an answer line, on the right number
CUT = solution(MAX, ROSA, COINS, ANSWER, stop="length")
OPEN = solution(MAX, ROSA, stop=None)
ALL = [RIGHT, LUCKY, WRONG, UNSAID, CUT, OPEN]


class Scripted:
    """A verifier with given scores by text, which keeps what it was asked."""

    def __init__(self, scores=None, per="step"):
        self.scores, self.per, self.asked = scores or {}, per, []

    def score(self, prefixes, *, meters=None):
        self.asked.append(list(prefixes))
        for meter in meters or ():
            meter.verifier += 10
        if self.per == "solution":
            return [[self.scores.get(prefix.texts[-1], 0.5)] for prefix in prefixes]
        return [[self.scores.get(text, 0.5) for text in prefix.texts] for prefix in prefixes]


def of_all(reward, rollouts=ALL):
    return rewards_of(reward, [TESS] * len(rollouts), rollouts)


# -- from the answer, the form and the exact truth -------------------------------------------------


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (rewards.answer, [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
        (rewards.ends, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
        (rewards.exact, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
        (too_long(3), [-1 / 3, -2 / 3, 0.0, 0.0, -1 / 3, 0.0]),
        (too_long(1), [-1.0, -1.0, -1.0, -1.0, -1.0, -1.0]),
    ],
)
def test_rewards_of_whole_rollouts_by_hand(reward, expected):
    assert of_all(reward) == pytest.approx(expected)
    assert all(type(earned) is float for earned in of_all(reward))


def test_exact_steps_are_right_up_to_the_first_fault():
    after_a_fault = solution(MAX, "Tess", ROSA, COINS, ANSWER)  # what follows is right by itself
    assert rewards.exact_steps(TESS, after_a_fault) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert of_all(rewards.exact_steps) == [
        [1.0] * 4, [1.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 3, [1.0] * 3, [1.0] * 4, [1.0] * 2,
    ]  # fmt: skip


def test_elsewhere_an_answer_counts_as_an_ending_wherever_it_is_stated():
    sums = Problem("sums", "math", "What is 2 + 3?", "5")
    for steps, expected in (
        (["2 + 3 = 5", r"So it is \boxed{6}."], 1.0),
        ([r"It is \boxed{5}.", "Done."], 1.0),
        (["2 + 3 = 5"], 0.0),
    ):
        assert rewards.ends(sums, solution(*steps, problem=sums)) == expected


def test_exact_truth_is_refused_where_there_is_none_also_for_a_wrong_answer():
    sums = Problem("sums", "math", "What is 2 + 3?", "5")
    for reward in (rewards.exact, rewards.exact_steps):
        with pytest.raises(ValueError, match="no exact truth for kind 'math'"):
            reward(sums, solution("#### 6", problem=sums))


def test_a_blind_problem_has_no_answer_to_reward():
    with pytest.raises(ValueError, match="tess has no answer to grade against"):
        rewards.answer(TESS.blind(), RIGHT)


# -- from a verifier -------------------------------------------------------------------------------

SCORES = {MAX: 0.75, ROSA: 0.5, COINS: 0.25, ANSWER: 1.0}


@pytest.mark.parametrize(
    ("aggregate", "signed", "expected"),
    [
        ("min", False, 0.25), ("last", False, 1.0), ("mean", False, 0.625), ("max", False, 1.0),
        ("prod", False, 0.09375), ("sum", False, 2.5),
        ("min", True, -0.5), ("last", True, 1.0), ("mean", True, 0.25), ("sum", True, 1.0),
        ("steps", False, [0.75, 0.5, 0.25, 1.0]), ("steps", True, [0.5, 0.0, -0.5, 1.0]),
    ],
)  # fmt: skip
def test_what_a_verifier_scores_as_a_reward(aggregate, signed, expected):
    reward = by_verifier(Scripted(SCORES), aggregate=aggregate, signed=signed)
    assert reward(TESS, RIGHT) == of_all(reward, [RIGHT])[0] == expected


def test_the_oracles_steps_are_the_exact_ones_up_to_the_first_fault():
    reward = by_verifier(oracle([TESS]), aggregate="steps")
    assert of_all(reward, [RIGHT, UNSAID]) == of_all(rewards.exact_steps, [RIGHT, UNSAID])
    assert of_all(by_verifier(oracle([TESS]))) == [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def test_a_verifier_of_whole_solutions_has_one_score_whatever_the_aggregate():
    verifier = Scripted({ANSWER: 0.75}, per="solution")
    for aggregate in ("min", "mean", "prod"):
        assert of_all(by_verifier(verifier, aggregate=aggregate), [RIGHT, WRONG]) == [0.75, 0.5]
    assert by_verifier(verifier, signed=True)(TESS, RIGHT) == 0.5
    with pytest.raises(ValueError, match="'steps' of a verifier per solution: need one per step"):
        by_verifier(verifier, aggregate="steps")


def test_a_verifier_is_asked_once_for_all_rollouts_and_never_sees_an_answer():
    verifier, meter = Scripted(), Meter()
    problems = quantities.generate(3, levels=[2, 3], seed=0)
    rollouts = [solution(*p.solution.split("\n"), problem=p) for p in problems]
    reward = by_verifier(verifier, meter=meter)
    assert rewards_of(reward, problems, rollouts) == [0.5, 0.5, 0.5]
    assert len(verifier.asked) == 1 and meter.verifier == 30
    assert [p.texts for p in verifier.asked[0]] == [r.texts for r in rollouts]
    assert [p.problem for p in verifier.asked[0]] == [p.blind() for p in problems]


def test_the_shipped_verifier_rewards_a_right_solution_above_a_wrong_one():
    verifier, meter = load_verifier("prm_base"), Meter()
    pair = [RIGHT, solution(MAX, "Rosa has 2 times as many as Max : 2 * 3 = 6 .", ANSWER)]
    steps = of_all(by_verifier(verifier, aggregate="steps", meter=meter), pair)
    assert steps == verifier.score([replace(one, problem=TESS.blind()) for one in pair])
    assert min(steps[0]) > 0.5 > steps[1][1] and meter.verifier > 0
    signed = of_all(by_verifier(verifier, aggregate="steps", signed=True), pair)
    assert signed == [[2 * score - 1 for score in row] for row in steps]
    assert of_all(by_verifier(verifier), pair) == [min(row) for row in steps]
    assert of_all(by_verifier(verifier), []) == []


# -- mixes -----------------------------------------------------------------------------------------


def test_a_mix_is_the_weighted_sum():
    parts = {rewards.answer: 1.0, rewards.ends: 0.5, too_long(3): 0.25}
    expected = [1.5 - 0.25 / 3, 1.5 - 0.5 / 3, 0.5, 1.0, -0.25 / 3, 0.0]
    assert of_all(mixed(parts)) == pytest.approx(expected)
    assert of_all(mixed([(weight, reward) for reward, weight in parts.items()])) == of_all(
        mixed(parts)
    )


def test_whole_rewards_of_a_mix_are_added_at_the_last_step():
    steps = by_verifier(Scripted(SCORES), aggregate="steps", signed=True)
    mix = mixed([(1, steps), (2, rewards.answer), (1, rewards.exact_steps), (0.5, rewards.ends)])
    assert mix(TESS, RIGHT) == [1.5, 1.0, 0.5, 1.0 + 2 + 1 + 0.5]
    assert mix(TESS, WRONG) == [0.0, 0.0, 0.0 + 0.5]  # SLIP and the answer line score 0.5


def test_a_mix_asks_each_verifier_once_and_mixes_can_be_mixed():
    one, other = Scripted({ANSWER: 1.0}), Scripted({ANSWER: 0.0})
    inner = mixed({by_verifier(one, aggregate="last"): 1.0, rewards.answer: 1.0})
    outer = mixed({inner: 0.5, by_verifier(other, aggregate="last"): 0.5})
    assert of_all(outer, [RIGHT, WRONG]) == [1.0, 0.5]
    assert [len(verifier.asked) for verifier in (one, other)] == [1, 1]


def test_a_gate_multiplies_and_a_verifier_behind_it_reads_only_what_passes():
    verifier, meter = Scripted({MAX: 0.75, SLIP: 0.25}), Meter()
    reward = rewards.gated(rewards.answer, by_verifier(verifier, meter=meter))
    assert of_all(reward) == [0.5, 0.25, 0.0, 0.5, 0.0, 0.0]
    assert [p.texts for p in verifier.asked[0]] == [r.texts for r in (RIGHT, LUCKY, UNSAID)]
    assert len(verifier.asked) == 1 and meter.verifier == 30
    assert of_all(reward, [WRONG]) == [0.0]
    scaled = of_all(rewards.gated(too_long(3), rewards.answer))
    assert scaled[:2] == pytest.approx([-1 / 3, -2 / 3])
    with pytest.raises(ValueError, match="rewards per step"):
        of_all(rewards.gated(rewards.answer, by_verifier(Scripted(), aggregate="steps")))


def test_over_an_episode_the_environment_hands_out_what_the_rollout_is_worth():
    steps = by_verifier(Scripted(SCORES), aggregate="steps", signed=True)
    mix = mixed([(1.0, steps), (1.0, rewards.answer), (0.5, at_end(too_long(2)))])
    env = StepEnv(TESS, reward=mix)
    env.reset()
    earned = [env.step(text)[1] for text in RIGHT.texts]
    assert earned == mix(TESS, RIGHT) == [0.5, 0.0, -0.5, 1.0 + 1.0 - 0.5]


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: too_long(0), "most=0: need at least 1 step"),
        (lambda: by_verifier(Scripted(), aggregate="median"), "'median': use steps, min, last"),
        (lambda: by_verifier(Scripted(), aggregate="prod", signed=True), "two wrong steps"),
        (lambda: mixed({}), "no rewards to mix"),
        (lambda: mixed([(rewards.answer, 1.0)]), "need a finite number, and a function"),
        (lambda: mixed({rewards.answer: float("nan")}), "weight nan of reward"),
    ],
)
def test_rewards_that_there_are_not(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("row", [[0.5] * 3, [0.5] * 5, [], [0.5, 0.5, 0.5, 1.5], [0.5, np.nan] * 2])
@pytest.mark.parametrize("aggregate", ["min", "steps"])
def test_scores_that_do_not_fit_the_steps_are_an_error_and_never_0(row, aggregate):
    verifier = Scripted()
    verifier.score = lambda prefixes, *, meters=None: [row for _ in prefixes]
    with pytest.raises(ValueError, match=r"tess: scores \[.*\] for 4 steps, need 4 in \[0, 1\]"):
        of_all(by_verifier(verifier, aggregate=aggregate), [RIGHT])


def test_a_verifier_that_answers_for_too_few_rollouts_is_refused():
    verifier = Scripted()
    verifier.score = lambda prefixes, *, meters=None: [[0.5] * 4]
    with pytest.raises(ValueError, match="1 rows of scores for 2 rollouts, need one each"):
        of_all(by_verifier(verifier), [RIGHT, CUT])


@pytest.mark.parametrize(
    ("earned", "message"),
    [
        ([0.5], "tess: 1 rewards for 4 steps, need one per step, or one number"),
        (float("inf"), "tess: reward inf, need finite numbers"),
        ([0.0, 0.0, 0.0, float("nan")], r"tess: reward \[.*nan\], need finite numbers"),
        (None, "tess: reward None, need a number, or a list of one per step"),
        (["1"] * 4, "tess: reward .*, need a number, or a list of one per step"),
    ],
)
def test_rewards_of_ones_own_must_fit_too(earned, message):
    with pytest.raises(ValueError, match=message):
        of_all(lambda problem, rollout: earned, [RIGHT])


def of_scalars(values):
    return [torch.tensor(x) for x in values]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, of_scalars])
def test_rewards_of_ones_own_may_come_in_any_row(kind):
    found = of_all(lambda problem, rollout: kind([0.0, 0.5, 1.0, 1.0]), [RIGHT])
    assert found == [[0.0, 0.5, 1.0, 1.0]] and type(found[0]) is list
    assert of_all(lambda problem, rollout: kind([1.0])[0], [RIGHT]) == [1.0]


def test_every_rollout_has_its_problem_and_steps():
    with pytest.raises(ValueError, match="1 problems for 2 rollouts, need one each"):
        rewards_of(rewards.answer, [TESS], [RIGHT, WRONG])
    with pytest.raises(ValueError, match="tess: a rollout without steps, need at least one"):
        of_all(rewards.answer, [RIGHT, Prefix(TESS)])
