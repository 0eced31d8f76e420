"""GRPO: a round against a slow re-computation, and a reward that rises; TRL: test_grpo_and_trl."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rolled import PROBLEMS, rows_of
from tiny import TOKENIZER, tiny_model, tiny_policy
from torch import tensor

from workbench.drive import solve
from workbench.models.policy import HFPolicy
from workbench.search import METHODS
from workbench.train import clipped, drawn, rewards, rounds, sft
from workbench.train.grpo import GRPO, grpo, rejection_lessons
from workbench.train.grpo import RECIPE as OURS
from workbench.train.learner import Learner, Recipe
from workbench.train.lora import with_lora
from workbench.train.rl import group_advantages, token_logps
from workbench.types import Prefix, Problem, SearchResult

pytestmark = pytest.mark.usefixtures("one_thread")  # equal runs are compared to the last bit
RECIPE = replace(OURS, learning_rate=1e-2)
NORMALISE = ("sequence", "token", "constant")


@pytest.fixture
def even(monkeypatch):
    """A reward that a random model can reach: the share of even token ids."""
    monkeypatch.setattr(
        rewards, "is_right", lambda problem, rollout: np.mean([i % 2 == 0 for i in rollout.ids])
    )


def settings(**options):
    return GRPO(**{"group": 4, **options})


def run(policy, *, rounds=3, problems=PROBLEMS, recipe=RECIPE, seed=0, ref_policy=None, **options):
    chosen = settings(**{"problems": min(3, len(problems)), **options})
    given = dict(settings=chosen, recipe=recipe, seed=seed, rounds=rounds, ref_policy=ref_policy)
    return list(grpo(policy, problems, **given))


def weights(policy):
    return torch.cat([p.detach().flatten() for p in policy.model.parameters()])


# -- a round ---------------------------------------------------------------------------------------


def gradients(policy, batches, totals, chosen):
    """Metrics and gradients of one update, as one flat vector; the weights stay."""
    learner = Learner(policy.model, replace(RECIPE, clip=1e9))
    metrics = clipped.update(learner, batches, totals, chosen, rate=0.0)
    return metrics, torch.cat([p.grad.flatten() for p in policy.model.parameters()])


def of_round(policy, results, micro_tokens, **options):
    """Number of micro-batches, metrics and gradients of a round."""
    chosen = settings(constant_length=20, **options)
    advantages = group_advantages(drawn.grade(results))
    batches, totals = clipped.batches_of(policy, results, advantages, chosen, micro_tokens)
    for batch in batches:
        with torch.no_grad():
            reference = tiny_model(seed=1, dtype=torch.float64)
            batch.tensors["ref"] = clipped.logps_of_batch(reference, batch, chosen)[0]
    return len(batches), *gradients(policy, batches, totals, chosen)


@pytest.mark.parametrize("normalise", NORMALISE)
def test_micro_batches_add_up_to_one_batch_exactly(normalise, even):
    policy = tiny_policy(dtype=torch.float64)
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=5, n=3)
    assert len({len(rollout.ids) for result in results for rollout in result.rollouts}) > 3
    options = dict(normalise=normalise, beta=0.1)
    whole, metrics, expected = of_round(policy, results, None, **options)
    for micro_tokens, number in ((1, 18), (400, None)):
        n, others, gradient = of_round(policy, results, micro_tokens, **options)
        assert n == number if number else 1 < n < 18
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
        assert others == pytest.approx(metrics, rel=1e-6)
    assert whole == 1 and expected.norm() > 0.01


@pytest.mark.parametrize("normalise", NORMALISE)
def test_rollouts_without_an_advantage_are_left_out_and_missed_by_nobody(normalise):
    policy = tiny_policy(dtype=torch.float64)
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=5, n=3)
    rewards = tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]])
    found = []
    for beta in (0.0, 1.0):  # which rows there are; the loss is without KL in both
        chosen = settings(normalise=normalise, constant_length=20, beta=beta)
        made = clipped.batches_of(policy, results, group_advantages(rewards), chosen, 400)
        _, gradient = gradients(policy, *made, replace(chosen, beta=0.0))
        found.append((sum(batch.rows for batch in made[0]), gradient))
    assert [n for n, _ in found] == [6, 18]
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-9, atol=1e-12)


def test_the_rates_fall_to_zero_unless_told_otherwise(monkeypatch, even):
    rates, step = [], torch.optim.AdamW.step

    def watched(self, *args, **options):
        rates.append([group["lr"] for group in self.param_groups])
        assert [{w.ndim for w in group["params"]} for group in self.param_groups] == [{2}, {1}]
        assert self.defaults["eps"] == 1e-3
        return step(self, *args, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    for decay in (1.0, 0.0):
        recipe = replace(RECIPE, learning_rate=4e-3, vector_rate=8e-3, adam_epsilon=1e-3)
        run(tiny_policy(max_tokens=8), rounds=4, recipe=replace(recipe, decay=decay))
    assert [lr for lr, _ in rates] == [
        pytest.approx(4e-3 * share) for share in (1, 0.75, 0.5, 0.25, 1, 1, 1, 1)
    ]
    assert [gain_lr for _, gain_lr in rates] == pytest.approx([2 * lr for lr, _ in rates])


def slow_round(model, reference, results, advantages, chosen, normalise, length):
    """GRPO as its equation says it, rollout by rollout and token by token."""
    start = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RECIPE.learning_rate, weight_decay=0.0)
    flat = [
        (r, a)
        for result, row in zip(results, advantages.tolist())
        for r, a in zip(result.rollouts, row)
    ]

    def logps(model, rollout):
        prompt = TOKENIZER(rollout.problem.question + "\n").input_ids
        logits = model(tensor([[*prompt, *rollout.ids]])).logits[0] / chosen.temperature
        return torch.stack(
            [logits[len(prompt) + t - 1].log_softmax(-1)[i] for t, i in enumerate(rollout.ids)]
        )

    for _ in range(chosen.updates):
        loss = 0.0
        for rollout, advantage in flat:
            new = logps(model, rollout)
            with torch.no_grad():
                old, ref = logps(start, rollout), logps(reference, rollout)
            for t in range(len(new)):
                ratio = (new[t] - old[t]).exp()
                gain = min(
                    ratio * advantage,
                    ratio.clamp(1 - chosen.epsilon, 1 + chosen.epsilon) * advantage,
                )
                kl = (ref[t] - new[t]).exp() - (ref[t] - new[t]) - 1
                tokens = sum(len(r.ids) for r, _ in flat)
                weight = {
                    "sequence": len(flat) * len(new),
                    "token": tokens,
                    "constant": len(flat) * length,
                }[normalise]
                loss = loss - (gain - chosen.beta * kl) / weight
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.clip)
        optimizer.step()
    return model


@pytest.mark.parametrize("normalise", NORMALISE)
def test_a_round_is_the_equation_token_by_token(normalise, even, monkeypatch):
    policy = tiny_policy(dtype=torch.float64, max_tokens=8)
    other = HFPolicy(tiny_model(seed=1, dtype=torch.float64), TOKENIZER)
    began, kept = copy.deepcopy(policy.model), []
    monkeypatch.setattr(
        rounds, "solve", lambda *args, **options: kept.append(solve(*args, **options)) or kept[-1]
    )
    chosen = dict(updates=3, epsilon=0.05, beta=0.1, temperature=0.8, normalise=normalise)
    options = dict(
        ref_policy=other, problems=PROBLEMS[:3], recipe=replace(RECIPE, micro_tokens=300)
    )
    (metrics,) = run(policy, rounds=1, **options, **chosen)
    (results,) = kept
    advantages = group_advantages(drawn.grade(results))
    expected = slow_round(
        began, other.model, results, advantages, settings(**chosen), normalise, policy.max_tokens
    )
    torch.testing.assert_close(
        weights(policy), weights(SimpleNamespace(model=expected)), rtol=1e-6, atol=1e-8
    )
    assert metrics["train/clip_fraction"] > 0.05 and metrics["train/kl"] > 0.1


@pytest.mark.parametrize("micro_tokens", [None, 300])
def test_each_token_gets_its_own_advantage_wherever_it_stands(micro_tokens):
    policy = tiny_policy(max_tokens=9)
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=5, n=3)
    flat = [r for result in results for r in result.rollouts]
    told = [torch.arange(1.0, len(r.ids) + 1) + 100 * i for i, r in enumerate(flat)]
    told[4] = torch.zeros(len(flat[4].ids))  # has no gradient: left out
    chosen = settings(beta=0.0)
    batches, totals = clipped.batches_of(policy, results, told, chosen, micro_tokens)
    seen = {}
    for batch in batches:
        mask = batch.tensors["labels"] != -100
        for i, row, own, ids in zip(
            batch.tensors["rollout"].tolist(), batch.tensors["advantages"], mask,
            batch.tensors["labels"],
        ):  # fmt: skip
            assert ids[own].tolist() == list(flat[i].ids) and not row[~own].any()
            seen[i] = row[own].tolist()
    assert totals == {"weight": 18} and sorted(seen) == [i for i in range(18) if i != 4]
    assert all(row == told[i].tolist() for i, row in seen.items())


# -- training --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 1e-4), (torch.bfloat16, 0.5)])
def test_the_reward_rises_on_a_task_in_reach(even, dtype, gap):
    options = dict(group=8, problems=4 * PROBLEMS[:2], beta=0.0, recipe=replace(RECIPE, decay=0.0))
    metrics = run(tiny_policy(max_tokens=12, dtype=dtype), rounds=32, **options)
    rewards = [m["train/reward"] for m in metrics]
    assert np.mean(rewards[:3]) < 0.65 and np.mean(rewards[-3:]) > 0.9
    learnt = [m for m in metrics if "train/entropy" in m]  # equal rewards update nothing
    # no key-values of old weights are sampled from
    assert max(m["train/ratio_error"] for m in learnt) < gap
    assert learnt[-1]["train/entropy"] < learnt[0]["train/entropy"]
    assert "train/kl" not in metrics[0]


def test_metrics_of_the_rounds(even):
    policy = tiny_policy(max_tokens=12)
    metrics = run(policy, updates=2, beta=0.05)
    names = "loss reward kl entropy clip_fraction zero_signal ratio_error sampler_gap tokens length"
    names += " gradient_norm accuracy rate trained_tokens right_by_wrong_steps"
    expected = {"round", *(f"train/{name}" for name in names.split())}
    assert all(set(m) == expected for m in metrics)
    assert all(type(x) in (int, float) and np.isfinite(x) for m in metrics for x in m.values())
    assert metrics[0]["train/kl"] == 0.0 and min(m["train/kl"] for m in metrics[1:]) > 1e-4
    assert all(
        m["train/ratio_error"] <= 1e-4 and 0 < m["train/sampler_gap"] < 1e-5 for m in metrics
    )
    written = np.diff([0, *(m["train/tokens"] for m in metrics)])
    assert written == pytest.approx([12 * m["train/length"] for m in metrics])
    # the policy still serves, with new weights
    fresh = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=9, n=2)
    rows = rows_of(policy, [r for x in fresh for r in x.rollouts])
    logp, _, mask = token_logps(policy.model, *sft.collate(rows, 0), 1.0)
    sampled = tensor(
        [x for result in fresh for rollout in result.rollouts for x in rollout.logprobs]
    )
    torch.testing.assert_close(logp[mask], sampled, rtol=0, atol=2e-5)


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_a_reference_that_is_given_is_reported_and_left_alone(beta, even):
    policy, other = tiny_policy(max_tokens=8), HFPolicy(tiny_model(seed=1), TOKENIZER)
    before = weights(other)
    assert all(m["train/kl"] > 0.1 for m in run(policy, rounds=2, beta=beta, ref_policy=other))
    assert torch.equal(weights(other), before) and all(
        p.grad is None for p in other.model.parameters()
    )
    # as it is now, not as it will be
    first, second = run(policy, rounds=2, beta=beta, ref_policy=policy)
    assert first["train/kl"] == 0.0 < second["train/kl"]


def test_a_reference_under_the_policys_own_adapters_stays_where_it_was():
    base = tiny_policy(max_tokens=16)
    policy = HFPolicy(with_lora(base.model, Recipe(rank=4)), TOKENIZER, max_tokens=16)
    recipe = replace(OURS, learning_rate=3e-2, rank=4)
    how = {"settings": GRPO(group=4, problems=2), "recipe": recipe, "seed": 0, "rounds": 2}
    reward = lambda problem, rollout: float(sum(rollout.ids) % 5)  # noqa: E731
    rows = list(grpo(policy, PROBLEMS[:4], reward=reward, ref_policy=base, **how))
    assert rows[-1]["train/kl"] > 0.01


def test_a_reference_that_is_renewed_is_the_policy_of_then(even):
    rows = run(tiny_policy(max_tokens=8), rounds=5, beta=0.05, refresh=2)
    kl = [m["train/kl"] for m in rows]
    assert kl[0] == kl[2] == kl[4] == 0.0 and min(kl[1], kl[3]) > 1e-4


def test_equal_seeds_are_equal_to_the_last_bit_and_others_differ(even):
    runs = {name: tiny_policy(max_tokens=10) for name in ("one", "again", "other")}
    metrics = {
        name: run(policy, updates=2, seed=int(name == "other")) for name, policy in runs.items()
    }
    assert metrics["one"] == metrics["again"] and torch.equal(
        weights(runs["one"]), weights(runs["again"])
    )
    assert metrics["one"] != metrics["other"]


def test_a_problem_that_comes_again_draws_anew_and_twins_are_groups_of_their_own(monkeypatch):
    groups = []

    def reward(problem, rollout):
        groups.append(rollout.ids)
        # the first group of a round all wrong, the second all right
        return (len(groups) - 1) // 4 % 2

    monkeypatch.setattr(rewards, "is_right", reward)
    policy = tiny_policy()
    before = weights(policy)
    with pytest.warns(
        UserWarning,
        match="nothing to learn in this round: of 2 groups 1 are all right, 1 all wrong",
    ):
        metrics = run(policy, rounds=2, problems=[PROBLEMS[0]] * 2, beta=0.0)
    assert [(m["train/reward"], m["train/zero_signal"], "train/loss" in m) for m in metrics] == [
        (0.5, 1.0, False)
    ] * 2
    assert torch.equal(weights(policy), before)
    assert len(set(groups)) > 12


def test_the_share_of_groups_without_signal_is_counted(monkeypatch):
    odd = {p.id for p in PROBLEMS[:4]}  # in four of six groups all rewards are equal
    monkeypatch.setattr(
        rewards, "is_right", lambda problem, r: problem.id not in odd and r.ids[0] % 2 == 0
    )
    (metrics,) = grpo(
        tiny_policy(), PROBLEMS, settings=settings(problems=6, group=8), seed=0, rounds=1
    )
    assert metrics["train/zero_signal"] == pytest.approx(4 / 6)


def test_an_interrupt_while_sampling_ends_the_training(even, monkeypatch):
    policy, calls = tiny_policy(max_tokens=8), []
    engine_run = policy.engine.run

    def run_twice(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        engine_run(*args, **options)

    monkeypatch.setattr(policy.engine, "run", run_twice)
    with pytest.warns(UserWarning, match="interrupted"):
        assert len(run(policy, rounds=5)) == 2


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grpo(None, [], seed=0, rounds=1), "no problems to train on"),
        (
            lambda: grpo(None, [*PROBLEMS, PROBLEMS[0].blind()], seed=0, rounds=1),
            "1 of 7 problems have no answer",
        ),
        (lambda: GRPO(group=1), "group=1: .* at least 2"),
        (lambda: GRPO(updates=0), "updates=0: need at least 1"),
        (lambda: GRPO(temperature=0), "temperature=0: "),
        (lambda: GRPO(advantage="rloo"), "advantage='rloo': use one of std, none, leave_one_out"),
        (lambda: GRPO(epsilon=-0.1), r"epsilon=-0\.1, epsilon_high=None: need at least 0"),
        (lambda: GRPO(beta=-1.0), r"beta=-1\.0: need at least 0"),
        (lambda: GRPO(refresh=0), "refresh=0: need at least 1"),
        (lambda: GRPO(replay=-1), "completions=4, replay=-1: need at least 1 and 0"),
        (lambda: GRPO(min_temperature=0.0), r"min_temperature=0\.0: need above 0"),
        (lambda: GRPO(answer_weight=1.0), "it belongs to 'pure', elsewhere mix the rewards"),
        (
            lambda: GRPO(normalise="batch"),
            "normalise='batch': use one of sequence, token, constant",
        ),
        (lambda: GRPO(constant_length=0), "constant_length=0: need at least 1"),
    ],
)
def test_what_cannot_be_trained_on_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_problem_that_cannot_be_sampled_is_named():
    long = Problem("long", "quantities", "How " * 300, "1")
    with pytest.raises(ValueError, match="long could not be sampled: ValueError: long: 301 prompt"):
        run(tiny_policy(), problems=[long])


# -- rejection sampling ----------------------------------------------------------------------------


def test_rejection_lessons_are_the_right_texts_once_a_problem():
    def result(problem, *solutions):
        return SearchResult(
            problem, tuple(Prefix.of(problem, s.split("\n"), ended=True) for s in solutions)
        )

    a, b, c = PROBLEMS[:3]
    other = a.solution.split("\n")[-1]  # another right text: the answer line alone
    results = [
        result(a, a.solution, other, a.solution, "x"),
        result(b, "x"),
        result(c, c.solution),
        result(a, other),
    ]
    lessons = rejection_lessons(results)
    assert [(lesson.problem, lesson.text) for lesson in lessons] == [
        (a, a.solution),
        (a, other),
        (c, c.solution),
    ]
    (start, n), *_ = sft.encode(TOKENIZER, lessons)
    assert (
        start == sft.encode(TOKENIZER, [sft.Lesson(a)])[0][0]
        and TOKENIZER.decode(start[n:-1]) == a.solution
    )
    (batch,) = sft.batches(lessons, TOKENIZER, batch_tokens=4096, seed=0)
    assert [micro.rows for micro in batch] == [3]
