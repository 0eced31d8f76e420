"""The frame of all policy learning: books, words, online and offline, going on exactly; and that
every method learns."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from bandit import ARMS, FAST, PROBLEMS, bandit, even, even_steps, run, weights
from tiny import TOKENIZER, tiny_model, tiny_policy

from workbench.drive import solve
from workbench.jsonl import read_lines
from workbench.models.verifier import StepVerifier
from workbench.problems import quantities
from workbench.search import METHODS
from workbench.train import rewards
from workbench.train.drawn import Drawn, groups_of, measures, why_silent
from workbench.train.grpo import GRPO, grpo
from workbench.types import Meter, Prefix, SearchResult, Step

pytestmark = pytest.mark.usefixtures("one_thread")  # equal runs are compared to the last bit
METHOD = pytest.mark.parametrize("name", ARMS)


# -- learning --------------------------------------------------------------------------------------


@pytest.mark.slow
@METHOD
def test_every_method_learns_a_task_in_reach(name):
    """Half of the ids are even at first, and at last a fifth of all more; by one measure for all.

    But PURE is judged by the worst step of a rollout: that is what it looks at.
    """

    def judged(policy):
        results = solve(PROBLEMS, METHODS["sample"], policy=policy, n=16, seed=5)
        solutions = [(result.problem, r) for result in results for r in result.rollouts]
        return np.mean([min(even_steps(*x)) if name == "pure" else even(*x) for x in solutions])

    policy, before = bandit(), judged(bandit())
    sizes = {"group": 8, "problems": 4, "beta": 0.3 if "dpo" in name else 0.0}
    list(run(name, policy, rounds=28 if name == "pure" else 14, **sizes))
    assert judged(policy) > before + 0.2


def test_nothing_is_learnt_at_a_rate_of_zero():
    policy = bandit()
    start = weights(policy)
    rows = list(run("grpo", policy, rounds=6, more={"recipe": replace(FAST, learning_rate=0.0)}))
    assert torch.equal(weights(policy), start)
    assert abs(rows[-1]["train/reward"] - rows[0]["train/reward"]) < 0.2


# -- stopping and going on -------------------------------------------------------------------------


@METHOD
def test_a_run_goes_on_exactly_where_it_was_stopped(name, tmp_path):
    options = {"refresh": 2, "rounds": 5}
    whole = bandit()
    expected = list(run(name, whole, **options))
    stored = {"checkpoints": tmp_path, "evaluations": 5, "log": tmp_path / "log.jsonl"}
    rows = run(name, bandit(), more=stored, **options)
    assert [next(rows) for _ in range(3)] == expected[:3]
    again = bandit()
    rows = run(name, again, more=stored, **options)
    assert list(rows) == expected and torch.equal(weights(again), weights(whole))
    assert list(read_lines(tmp_path / "log.jsonl")) == expected
    torch.load(tmp_path / "last.pt", weights_only=True)


@pytest.mark.parametrize(("name", "call"), [("grpo", 3), ("vine", 3), ("vine", 4), ("step-dpo", 4)])
def test_an_interrupt_loses_no_round_that_was_whole(name, call, tmp_path, monkeypatch):
    """The call to the engine falls into drawing rollouts, or into completing their prefixes."""
    options = {"rounds": 4, "more": {"checkpoints": tmp_path, "evaluations": 1}}
    expected = list(run(name, bandit(), rounds=4))
    policy, calls = bandit(), []
    engine_run = policy.engine.run

    def interrupted(*args, **named):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        engine_run(*args, **named)

    monkeypatch.setattr(policy.engine, "run", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        rows = list(run(name, policy, **options))
    assert 0 < len(rows) < 4 and rows == expected[: len(rows)]
    assert list(run(name, bandit(), **options)) == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"epsilon": 0.1}, r"settings: epsilon was 0\.2, is 0\.1"),
        ({"rounds": 3}, "rounds was 2, is 3"),
        ({"source": PROBLEMS[:3]}, "data was "),
        ({"reward": rewards.ends}, "reward was "),
        ({"recipe": replace(FAST, clip=2.0)}, r"recipe: clip was 1\.0, is 2\.0"),
        ({}, None),
    ],
)
def test_another_run_is_refused_by_the_name_of_what_differs(changed, message, tmp_path):
    def go(**changed):
        more = {name: changed.pop(name) for name in ("seed", "reward", "recipe") if name in changed}
        return list(run("grpo", bandit(), **{"rounds": 2, **changed}, more=stored | more))

    stored = {"checkpoints": tmp_path}
    first = go()
    if message is None:
        assert go() == first
    else:
        with pytest.raises(ValueError, match=f"last.pt is of another run, .*: {message}"):
            go(**changed)


def test_a_reward_by_a_verifier_is_known_by_what_it_depends_on_not_by_what_it_has_read(tmp_path):
    class Half:
        per = "step"

        def score(self, prefixes, *, meters=None):
            for meter in meters or ():
                meter.verifier += 7
            return [[0.5] * len(p.steps) for p in prefixes]

        def fingerprint(self):
            return "half"

    def go(aggregate, meter):
        reward = rewards.by_verifier(Half(), aggregate=aggregate, meter=meter)
        settings, reward = GRPO(group=2, problems=2), rewards.mixed({reward: 1.0, even: 0.5})
        return list(
            grpo(bandit(), PROBLEMS, settings=settings, reward=reward, seed=0, rounds=2,
                 meter=meter, checkpoints=tmp_path)
        )  # fmt: skip

    meter = Meter()
    rows = go("min", meter)
    assert [row["train/verifier_tokens"] for row in rows] == [28, 56] and meter.verifier == 56
    assert go("min", meter) == rows and meter.verifier == 56
    with pytest.raises(ValueError, match="reward was "):
        go("mean", meter)


@pytest.mark.parametrize("source", [PROBLEMS, "offline"])
def test_with_a_verifier_that_reads_it_goes_on_exactly_too(source, tmp_path):
    """What a verifier has read in earlier rounds is paid for again, stopped or not."""
    if source == "offline":
        source = solve(PROBLEMS, METHODS["sample"], policy=bandit(), n=4, seed=0)

    def begin(folder):
        meter, policy = Meter(), bandit()
        judge = StepVerifier(tiny_model(seed=3), TOKENIZER)
        rows = grpo(policy, source, settings=GRPO(group=4, problems=2, beta=0.0), seed=0,
                    recipe=replace(FAST, decay=1.0), until=3000, meter=meter, evaluations=8,
                    reward=rewards.by_verifier(judge, meter=meter), checkpoints=folder)  # fmt: skip
        return policy, rows

    whole, expected = begin(tmp_path / "whole")
    expected = list(expected)
    _, rows = begin(tmp_path / "parts")
    assert [next(rows) for _ in range(4)] == expected[:4]
    again, rows = begin(tmp_path / "parts")
    assert list(rows) == expected and torch.equal(weights(again), weights(whole))


@pytest.mark.parametrize("other", [{"templates": {"solve": "Hm {question}"}}, {"max_tokens": 5}])
def test_a_policy_that_writes_in_another_way_is_another_run(other, tmp_path):
    options = {"rounds": 2, "more": {"checkpoints": tmp_path}}
    list(run("grpo", bandit(), **options))
    with pytest.raises(ValueError, match=r"of another run, .*policy was "):
        list(run("grpo", bandit(**other), **options))


def test_replay_is_refused_on_several_processes(monkeypatch):
    monkeypatch.setattr("workbench.train.grpo.this_process", lambda: (0, 2))
    with pytest.raises(ValueError, match="replay=2 on 2 processes: the log-probabilities"):
        list(run("replay", bandit()))


def test_measures_of_held_out_problems_stand_in_the_log_and_the_best_weights_remain():
    policy, kept = bandit(), []

    def held_out():
        kept.append(weights(policy))
        return {"eval/even": -len(kept)}

    more = {"held_out": held_out, "evaluations": 2, "keep": "eval/even"}
    rows = list(run("grpo", policy, rounds=4, more=more))
    assert ["eval/even" in row for row in rows] == [False, True, False, True]
    assert torch.equal(weights(policy), kept[0]) and not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize("name", ["grpo", "tppo", "dpo"])
def test_a_run_until_tokens_are_spent_ends_with_the_round_that_spends_them(name):
    falling = {"recipe": replace(FAST, decay=1.0)}
    rows = list(run(name, bandit(), rounds=6, more=falling))
    columns = ("train/tokens", "train/trained_tokens", "train/critic_tokens")
    first = sum(rows[0].get(column, 0) for column in columns)
    for until, rounds in ((int(first), 1), (int(first) + 1, 2)):
        short = list(run(name, bandit(), rounds=None, more=falling | {"until": until}))
        assert len(short) == rounds and short[0]["train/rate"] == 1
    assert short[1]["train/rate"] == pytest.approx(1 - first / (first + 1))
    with pytest.raises(ValueError, match="rounds=6, until=5: say one"):
        list(run(name, bandit(), rounds=6, more={"until": 5}))


# -- online and offline ----------------------------------------------------------------------------


def recorded(policy, n=8):
    return solve(PROBLEMS, METHODS["sample"], policy=policy, n=n, seed=3)


@pytest.mark.parametrize("name", ["grpo", "process", "tppo", "appo", "dpo"])
def test_offline_nothing_is_sampled_and_the_recorded_rollouts_teach(name, monkeypatch):
    policy = bandit()
    pool = recorded(policy)
    before = weights(policy)
    monkeypatch.setattr(policy.engine, "run", None)  # nobody may call it
    # two groups a problem, each seen once before any is seen again
    rows = list(run(name, policy, source=pool, rounds=4))
    assert [row["train/tokens"] for row in rows] == [0.0] * 4
    assert rows[-1]["train/trained_tokens"] > 0 and not torch.equal(weights(policy), before)
    drawn = np.mean([even(x.problem, r) for x in pool for r in x.rollouts])
    if name == "grpo":
        assert np.mean([row["train/reward"] for row in rows]) == pytest.approx(drawn, abs=1e-6)


def test_offline_the_ratio_is_to_the_policy_that_drew():
    """The same rollouts, read by another policy: the ratio of the first update is no longer 1."""
    drew, reads = bandit(), bandit(family="qwen2")
    pool = recorded(drew, n=4)
    (own,) = run("grpo", drew, source=pool, rounds=1, beta=0.0)
    (other,) = run("grpo", reads, source=pool, rounds=1, beta=0.0)
    assert own["train/ratio_error"] < 1e-4 and own["train/clip_fraction"] == 0
    assert other["train/ratio_error"] > 1 and other["train/clip_fraction"] > 0.1


def test_a_pool_that_cannot_be_learnt_from_is_named():
    step = Step("a", (4, 5), (-1.0, -1.0))
    whole = Prefix(PROBLEMS[0], (step,), "end")
    with pytest.raises(ValueError, match="3 recorded rollouts, need a group of 4"):
        groups_of([SearchResult(PROBLEMS[0], (whole,) * 3)], 4)
    assert len(groups_of([SearchResult(PROBLEMS[0], (whole,) * 7)], 3)) == 2
    for bad in (Prefix(PROBLEMS[0], (step,)), Prefix.of(PROBLEMS[0], ["a"], ended=True)):
        with pytest.raises(ValueError, match="need whole ones as a policy drew them"):
            groups_of([SearchResult(PROBLEMS[0], (whole, bad))], 2)
    with pytest.raises(ValueError, match="have no answer to grade against"):
        grpo(None, [SearchResult(PROBLEMS[0].blind(), (whole,) * 4)], seed=0, rounds=1)


def test_replayed_rounds_are_trained_on_but_not_reported():
    rows = list(run("replay", bandit(), rounds=4, beta=0.0))
    assert [row["train/replayed"] for row in rows] == [0, 1 / 2, *[pytest.approx(2 / 3)] * 2]
    trained = np.diff([0, *(row["train/trained_tokens"] for row in rows)])
    assert trained[2] > 2 * trained[0]
    # sampler and trainer agree on what this round drew: nothing stale is in the numbers
    assert all(row["train/ratio_error"] < 1e-4 for row in rows)
    plain = list(run("grpo", bandit(), rounds=4, beta=0.0))
    assert plain[0]["train/loss"] == rows[0]["train/loss"] and "train/replayed" not in plain[0]
    assert plain[1]["train/loss"] != rows[1]["train/loss"]


# -- the books -------------------------------------------------------------------------------------

COINS = quantities.generate(1, levels=[2], seed=4)[0]
GOLD = COINS.solution.split("\n")
LUCKY = ["Ann has 1 fewer than Bob : 9 - 1 = 8 .", *GOLD]  # a step that nothing supports


def drawn_of(*rollouts, earned=None):
    ended = tuple(Prefix.of(COINS, steps, ended=True) for steps in rollouts)
    result = SearchResult(COINS, ended)
    right = torch.tensor([[rewards.answer(COINS, r) for r in ended]])
    return Drawn([result], earned or right.flatten().tolist(), right)


def test_right_answers_by_wrong_steps_are_told_apart():
    some = measures(drawn_of(GOLD, LUCKY, GOLD, ["The answer is 1000 ."]))
    assert some["accuracy"] == 0.75 and some["right_by_wrong_steps"] == pytest.approx(1 / 3)
    none = measures(drawn_of(["The answer is 1000 ."], ["x"]))
    assert none["accuracy"] == 0.0 and "right_by_wrong_steps" not in none


def test_reward_is_what_is_earned_and_accuracy_the_answer():
    some = measures(drawn_of(GOLD, ["x", "y"], earned=[[0.5] * len(GOLD), [0.25, 0.5]]))
    assert some["reward"] == pytest.approx((0.5 * len(GOLD) + 0.75) / 2)
    assert some["accuracy"] == 0.5


def test_rewards_of_the_wrong_form_are_refused_by_name():
    for name, reward, needs in (
        ("grpo", even_steps, "advantage='std' needs a reward a rollout, this one gives one a step"),
        ("vine", even_steps, "advantage='vine' needs a reward a rollout"),
        ("process", even, "advantage='process' needs a reward a step, this one gives one a roll"),
        ("pure", even, "advantage='pure' needs a reward a step"),
        ("dpo", even_steps, "a preference needs a reward a rollout"),
    ):
        with pytest.raises(ValueError, match=needs):
            list(run(name, bandit(), rounds=1, more={"reward": reward}))


@pytest.mark.parametrize(
    ("right", "silent", "told"),
    [
        ([[1, 1], [1, 1], [1, 0]], [1, 1, 0], "of 3 groups 2 are all right, 0 all wrong; use hard"),
        ([[0, 0], [0, 0]], [1, 1], "of 2 groups 0 are all right, 2 all wrong; use easier"),
        ([[0, 0], [1, 1]], [1, 1], "1 are all right, 1 all wrong; use problems of another level"),
        ([[0, 1], [1, 0]], [1, 1], "2 hold both and nothing tells them apart; look at what the"),
    ],
)
def test_why_nothing_is_learnt_is_said_in_words(right, silent, told):
    assert told in why_silent(torch.tensor(right), torch.tensor(silent).bool())


def test_a_run_says_once_that_most_groups_are_silent():
    def rarely(problem, rollout):
        return float(problem.id == PROBLEMS[0].id and rollout.ids[0] % 2)

    with pytest.warns(UserWarning) as told:
        rows = list(run("grpo", bandit(), rounds=3, more={"reward": rarely}))
    assert len(rows) == 3
    assert all("to learn in this round: of 2 groups" in str(one.message) for one in told)


def test_logs_are_json_with_a_round_in_each_line(tmp_path):
    rows = list(run("appo", bandit(), rounds=2, more={"log": tmp_path / "log"}))
    lines = [json.loads(line) for line in (tmp_path / "log").open()]
    assert lines == rows and [line["round"] for line in lines] == [1, 2]
    names = "reward accuracy entropy kl clip_fraction zero_signal length gradient_norm loss tokens"
    names += " trained_tokens value_loss explained_variance sampler_gap ratio_error rate"
    assert {f"train/{name}" for name in names.split()} <= set(lines[-1])


def test_recorded_rollouts_that_teach_nothing_end_a_run_by_tokens():
    policy = tiny_policy(max_tokens=12)
    problems = quantities.generate(4, levels=[1], seed=0, split="train")
    recorded = solve(problems, METHODS["sample"], policy=policy, seed=0, n=4)  # all wrong
    settings = GRPO(group=2, problems=2, beta=0)
    with pytest.raises(ValueError, match="spent no tokens"), pytest.warns(UserWarning):
        list(islice(grpo(policy, recorded, settings=settings, seed=0, until=100), 100))
