"""The environment: Gymnasium's checker, episodes by hand, what it neither shows nor takes."""

import warnings
from dataclasses import replace

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

from workbench.problems import check_steps, is_right, programs, quantities, states_answer
from workbench.problems.environment import MOST_CHARACTERS, StepEnv, at_end
from workbench.types import Prefix, Problem, Step

QUESTION = (
    "How many coins does Tess have? Ava has 3 coins. "
    "Max has 4 more than Ava. Rosa has 2 times as many as Max. Tess has 5 fewer than Rosa."
)
GOLD = (
    "Max has 4 more than Ava : 3 + 4 = 7 .",
    "Rosa has 2 times as many as Max : 2 * 7 = 14 .",
    "Tess has 5 fewer than Rosa : 14 - 5 = 9 .",
    "The answer is 9 .",
)
TESS = Problem("tess", "quantities", QUESTION, "9", "\n".join(GOLD), 3, {"source": "by hand"})
PROBLEMS = [TESS, *quantities.generate(4, levels=[2, 3], seed=0), *programs.generate(3, seed=0)]
SUMS = Problem("sums", "math", "What is 2 + 3?", "5")


def right_so_far(problem, prefix):
    """1 for a right step, -1 for a wrong one; only the whole problem has the answer for more."""
    return 1.0 if check_steps(problem, prefix.texts)[-1] else -1.0


def right_answer(problem, prefix):
    return float(is_right(problem, prefix))


def play(env, steps, **reset):
    """All that an episode returns: the first observation and info, then each step's five."""
    return [env.reset(**reset), *map(env.step, steps)]


# -- Gymnasium's checker ---------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [TESS, PROBLEMS], ids=["one", "several"])
@pytest.mark.parametrize("reward", [right_so_far, right_answer])
def test_gymnasiums_checker_finds_nothing_in_an_environment_that_was_made(problem, reward):
    made = dict(problem=problem, reward=reward)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(EnvSpec("Steps-v0", entry_point=StepEnv, kwargs=made))
        check_env(env.unwrapped)  # with a spec it also looks for what is not deterministic


def test_built_by_hand_it_passes_too_with_one_note_on_rendering():
    with pytest.warns(UserWarning) as notes:
        check_env(StepEnv(TESS, reward=right_so_far))
    assert ["alternative render modes" in str(note.message) for note in notes] == [True]


# -- episodes by hand ------------------------------------------------------------------------------


def test_a_right_solution_step_by_step():
    env = StepEnv(TESS, reward=right_so_far)
    (seen, info), *steps = play(env, GOLD)
    assert seen == f"{QUESTION}\n" and info == {"prefix": Prefix(TESS.blind())}
    assert [earned for _, earned, *_ in steps] == [1.0, 1.0, 1.0, 1.0]
    assert [(over, cut) for _, _, over, cut, _ in steps] == [*[(False, False)] * 3, (True, False)]
    assert steps[0][0] == f"{QUESTION}\nMax has 4 more than Ava : 3 + 4 = 7 .\n"
    assert steps[-1][0] == "\n".join([QUESTION, *GOLD, ""])
    assert steps[-1][-1]["prefix"] == Prefix.of(TESS.blind(), GOLD, ended=True)


def test_a_wrong_solution_step_by_step():
    wrong = ["Max has 4 more than Ava : 3 + 4 = 8 .", "Tess", GOLD[0], "The answer is 8"]
    _, *steps = play(StepEnv(TESS, reward=right_so_far), wrong)
    assert [earned for _, earned, *_ in steps] == [-1.0, -1.0, -1.0, -1.0]
    assert [over for _, _, over, *_ in steps] == [False, False, False, True]
    _, *steps = play(StepEnv(TESS, reward=right_answer), wrong)
    assert [earned for _, earned, *_ in steps] == [0.0, 0.0, 0.0, 0.0]


def test_the_right_answer_by_wrong_steps_is_told_apart_by_the_reward_alone():
    wrong = ["Max has 4 more than Ava : 3 + 4 = 8 .", GOLD[-1]]
    for reward, expected in ((right_answer, [0.0, 1.0]), (right_so_far, [-1.0, -1.0])):
        _, *steps = play(StepEnv(TESS, reward=reward), wrong)
        assert [earned for _, earned, *_ in steps] == expected and steps[-1][2] is True


def test_too_many_steps_cut_an_episode_short_but_an_answer_in_time_does_not():
    _, *steps = play(StepEnv(TESS, reward=right_answer, most_steps=3), GOLD[:3])
    assert [(over, cut) for _, _, over, cut, _ in steps] == [(False, False)] * 2 + [(False, True)]
    assert steps[-1][-1]["prefix"].stop == "length"
    _, *steps = play(StepEnv(TESS, reward=right_answer, most_steps=4), GOLD)
    assert steps[-1][1:4] == (1.0, True, False)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.id)
@pytest.mark.parametrize("reward", [right_so_far, right_answer])
def test_each_step_earns_what_the_prefix_is_worth_by_hand(problem, reward):
    texts = problem.solution.split("\n")
    texts.insert(1, "So far so good .")
    _, *steps = play(StepEnv(problem, reward=reward), texts)
    for t, (_, earned, over, _, info) in enumerate(steps, start=1):
        prefix = Prefix.of(problem, texts[:t], ended=t == len(texts))
        assert earned == reward(problem, prefix) and over == prefix.ended
        assert info["prefix"] == replace(prefix, problem=problem.blind())


def test_the_observation_is_what_a_policy_of_ours_reads():
    from workbench.models import load_policy

    policy = load_policy("base")
    env = StepEnv(TESS, reward=right_answer)
    for seen, *_, info in play(env, GOLD[:3]):
        ids = [i for text in info["prefix"].texts for i in policy._step_ids(text)]
        assert policy.tokenizer(seen).input_ids == [*policy.prompt_ids(TESS), *ids]


def test_a_policy_plays_an_episode_from_the_prefix_in_info():
    from workbench.models import load_policy

    policy = load_policy("base", temperature=0.0)
    env = StepEnv(TESS, reward=right_answer)
    _, info = env.reset()
    over = cut = False
    while not over and not cut:
        (longer,) = policy.sample([info["prefix"]], [0], until="step")
        *_, over, cut, info = env.step(longer.texts[-1])
    (whole,) = policy.sample([Prefix(TESS)], [0])
    assert over and info["prefix"].texts == whole.texts


# -- rewards ---------------------------------------------------------------------------------------


def test_of_a_list_of_rewards_the_last_one_is_the_new_steps():
    env = StepEnv(TESS, reward=lambda problem, prefix: [float(len(text)) for text in prefix.texts])
    _, *steps = play(env, ["a", "bcd", ""])
    assert [earned for _, earned, *_ in steps] == [1.0, 3.0, 0.0]


def test_a_list_of_another_length_than_the_steps_is_refused():
    env = StepEnv(TESS, reward=lambda problem, prefix: [0.5])
    play(env, ["a"])
    with pytest.raises(ValueError, match=r"tess: 1 rewards for 2 steps, need one per step"):
        env.step("b")


def test_a_reward_at_the_end_is_0_before():
    env = StepEnv(TESS, reward=at_end(lambda problem, prefix: 10.0 - len(prefix.steps)))
    _, *steps = play(env, GOLD)
    assert [earned for _, earned, *_ in steps] == [0.0, 0.0, 0.0, 6.0]
    env = StepEnv(TESS, reward=at_end(lambda problem, prefix: -1.0), most_steps=2)
    _, *steps = play(env, GOLD[:2])
    assert [earned for _, earned, *_ in steps] == [0.0, -1.0]


# -- what is seen ----------------------------------------------------------------------------------


def test_only_the_reward_sees_answer_and_solution():
    asked = []

    def reward(problem, prefix):
        asked.append(problem)
        return 0.0

    problem = replace(TESS, answer="ANSWER", solution="SOLUTION", meta={"hint": "HINT"})
    env = StepEnv(problem, reward=reward)
    told = repr(play(env, ["a", "The answer is 9 ."]))
    assert asked == [problem, problem]
    assert not any(secret in told for secret in ("ANSWER", "SOLUTION", "HINT"))


def test_equal_seeds_draw_equal_problems_and_all_are_drawn():
    def drawn(env, seed):
        first = env.reset(seed=seed)
        return [info["prefix"].problem.id for _, info in (first, *(env.reset() for _ in range(40)))]

    one, other = (StepEnv(PROBLEMS, reward=right_answer) for _ in range(2))
    assert drawn(one, 3) == drawn(other, 3) == drawn(one, 3)
    assert drawn(one, 3) != drawn(one, 4)
    assert set(drawn(one, 3)) == {problem.id for problem in PROBLEMS}


def test_a_problem_can_be_chosen():
    env = StepEnv(PROBLEMS, reward=right_answer)
    for i, problem in enumerate(PROBLEMS):
        seen, info = env.reset(options={"problem": i})
        assert seen == f"{problem.question}\n" and info["prefix"].problem == problem.blind()


def test_a_vector_of_environments_runs_different_problems_side_by_side():
    problems = PROBLEMS[:3]
    envs = SyncVectorEnv([lambda p=p: StepEnv(p, reward=right_answer) for p in problems])
    seen, _ = envs.reset(seed=0)
    assert seen == tuple(f"{problem.question}\n" for problem in problems)
    texts = [problem.solution.split("\n") for problem in problems]
    last = max(map(len, texts))
    gone = [""] * last  # what a finished one is told: it begins anew instead
    for t in range(last):
        seen, earned, over, cut, info = envs.step([(own + gone)[t] for own in texts])
        ends = [t == len(own) - 1 for own in texts]
        assert over.tolist() == ends and earned.tolist() == [float(end) for end in ends]
        assert not cut.any() and seen in envs.observation_space
        running = [i for i, own in enumerate(texts) if t < len(own)]
        assert all(info["prefix"][i].texts == tuple(texts[i][: t + 1]) for i in running)
    assert len({len(own) for own in texts}) > 1  # they ended at different times


# -- answer lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["The answer is 9 .", "The answer is 9", " The answer is 123. "])
def test_an_answer_line_ends_a_solution(step):
    assert states_answer(TESS, step)


@pytest.mark.parametrize(
    "step", ["", *GOLD[:3], "The answer is -9 .", "The answer is", "9", "#### 9"]
)
def test_no_other_step_of_an_embedded_problem_does(step):
    assert not states_answer(TESS, step)


@pytest.mark.parametrize(
    ("step", "states"),
    [
        (r"So it is $\boxed{\frac{1}{2}}$.", True), ("#### 5", True), ("A: 5", True),
        ("Answer: 5", True), ("The final answer is $5$.", True), ("the answer is x + 1", True),
        ("2 + 3 = 5", False), ("", False), ("It is 5.", False), (r"\boxed{", False),
        ("####", False), ("The answer is", False), ("We look for the answer in 3 parts", False),
    ],
)  # fmt: skip
def test_elsewhere_it_is_what_states_an_answer(step, states):
    assert states_answer(SUMS, step) is states
    *_, over, _, info = play(StepEnv(SUMS, reward=lambda problem, prefix: 0.0), [step])[-1]
    assert over is states and info["prefix"] == Prefix(
        SUMS.blind(), (Step(step),), "end" if states else None
    )


# -- refused ---------------------------------------------------------------------------------------


def test_no_step_without_an_episode():
    env = StepEnv(TESS, reward=right_answer, most_steps=1)
    with pytest.raises(
        ValueError, match=r"tess: no episode is going on, call reset\(\) before 'a'"
    ):
        env.step("a")
    for last in ("The answer is 9 .", "too long"):
        play(env, [last])
        with pytest.raises(ValueError, match=r"no episode is going on"):
            env.step("a")
    env.reset()
    env.step("a")


@pytest.mark.parametrize("step", ["a\nb", "5 − 2", "x" * (MOST_CHARACTERS + 1), 7, None])
def test_no_step_of_other_characters_lines_or_types(step):
    env = StepEnv(TESS, reward=right_answer)
    env.reset()
    with pytest.raises(ValueError, match=r"tess: .* is no step, need text of at most 5000"):
        env.step(step)
    assert env.step("a")[-1]["prefix"].texts == ("a",)  # and nothing has changed


def test_other_characters_can_be_allowed():
    problem = replace(SUMS, question="What is √4?\nThink.")
    with pytest.raises(ValueError, match=r"sums: the question is written in '√', pass characters="):
        StepEnv(problem, reward=right_answer)
    env = StepEnv(problem, reward=right_answer, characters="What is√4?Tknk.=2\n")
    seen = play(env, ["√4 = 2\n."])[-1][0]
    assert seen == "What is √4?\nThink.\n√4 = 2\n.\n" and seen in env.observation_space


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"problem": []}, "no problems: need one"),
        ({"most_steps": 0}, "most_steps=0: need at least 1"),
        ({"problem": replace(TESS, question="?" * 5001)}, "tess: a question of 5001 characters"),
    ],
)
def test_what_makes_no_environment(given, message):
    with pytest.raises(ValueError, match=message):
        StepEnv(**{"problem": TESS, "reward": right_answer, **given})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem": 2}, "problem 2: use a number from 0 to 1"),
        ({"problem": -1}, "problem -1: use a number from 0 to 1"),
        ({"problem": "tess"}, "problem 'tess': use a number from 0 to 1"),
        ({"level": 3}, "options level: only 'problem' is known"),
    ],
)
def test_options_that_there_are_not(options, message):
    env = StepEnv(PROBLEMS[:2], reward=right_answer)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
