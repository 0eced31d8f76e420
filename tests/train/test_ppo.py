"""PPO: places of values, advantages and both losses against loops; tokens and steps as actions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bandit import FAST, PROBLEMS, bandit, even, even_steps
from tiny import FAMILIES, tiny_model
from torch import tensor

from workbench.drive import solve
from workbench.search import METHODS
from workbench.train import rl
from workbench.train.advantages import ends_of, step_ratio
from workbench.train.clipped import batches_of, update
from workbench.train.critic import Valued, acts, before, estimate, prepare, summed, with_ends
from workbench.train.drawn import Drawn
from workbench.train.grpo import GRPO
from workbench.train.learner import Learner
from workbench.train.ppo import PPO, critic_parts, policy_parts, ppo, shared_parts

pytestmark = pytest.mark.usefixtures("one_thread")
ACTION = pytest.mark.parametrize("action", ["token", "step"])
NORMALISE = ("sequence", "token", "constant")


def drawn_by(policy, reward=even):
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=5, n=3)
    rollouts = [r for result in results for r in result.rollouts]
    earned = [reward(r.problem, r) for r in rollouts]
    return Drawn(results, earned, torch.zeros(len(results), 3))


def wise(model, seed=0):
    """A critic whose values are not zero."""
    critic = Valued(model)
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(critic.value.weight.shape, generator=draw, dtype=torch.float64) / 4
    critic.value.weight.data = weight.to(critic.value.weight.dtype)
    critic.value.bias.data += 0.25
    return critic


def prepared(settings, *, reward=even, micro_tokens=None, **options):
    """A policy in float64, its round in batches with all that a loss needs, totals, critic."""
    policy = bandit(dtype=torch.float64)
    settings = replace(settings, constant_length=20)
    drawn, critic = drawn_by(policy, reward), wise(policy.model)
    made = batches_of(policy, drawn.results, None, settings, micro_tokens)
    batches, totals = with_ends(*made, drawn, settings)
    metrics = prepare(batches, drawn, settings, critic)
    draw = torch.Generator().manual_seed(1)
    shift = torch.randn(1, 200, generator=draw, dtype=torch.float64) * 0.1  # by place
    for batch in batches:
        tensors, mask = batch.tensors, batch.tensors["labels"] != rl.IGNORE
        with torch.no_grad():
            logp = rl.token_logps(policy.model, tensors["input_ids"], tensors["labels"], 1.0)[0]
        moved = shift[:, : mask.shape[1]] * mask
        tensors["old"], tensors["ref"] = logp + moved, logp - moved
        tensors["values"] = tensors["values"] + 0.3 * acts(batch, settings)  # beyond their clip
    return policy, drawn, critic, batches, totals, settings, metrics


# -- the critic ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_value_is_read_from_what_the_next_token_is_read_from(family):
    model = tiny_model(family)
    critic, ids = wise(model), tensor([[5, 9, 30, 7]])
    logits, values = critic(ids)
    torch.testing.assert_close(logits, model(input_ids=ids).logits)
    states = model.base_model(input_ids=ids)[0]  # (1, T, D)
    torch.testing.assert_close(values, critic.value(states)[..., 0])
    for t in range(1, 5):  # what comes later is not seen
        torch.testing.assert_close(
            critic(ids[:, :t])[1][0, -1], values[0, t - 1], rtol=0, atol=1e-5
        )
    assert not Valued(model)(ids)[1].any()  # it begins at zero


@ACTION
def test_values_stand_before_the_first_token_of_each_action(action):
    policy, drawn, critic, batches, _, settings, _ = prepared(PPO(action=action), micro_tokens=200)
    assert len(batches) > 2
    for batch in batches:
        counts = acts(batch, settings)
        for row, own, values in zip(batch.tensors["rollout"], counts, batch.tensors["values"]):
            rollout = drawn.rollouts[row]
            start, ends = policy.prompt_ids(rollout.problem), ends_of(rollout)
            firsts = range(len(rollout.ids)) if action == "token" else [0, *(e + 1 for e in ends)]
            firsts = list(firsts)[: int(own.sum())]
            assert len(firsts) == (len(rollout.ids) if action == "token" else len(rollout.steps))
            for value, first in zip(values[own], firsts):
                ids = tensor([[*start, *rollout.ids[:first]]])  # unpadded, nothing of the action
                told = critic(ids)[1][0, -1].item()
                assert value.item() - 0.3 == pytest.approx(told, abs=1e-6)


# -- advantages ------------------------------------------------------------------------------------


def by_loop(earned, ends, values, action, gamma, lam):
    """Advantages as the paper sums them, action by action."""
    size = len(values)
    rewards, onward = np.zeros(size), np.ones(size)
    for s, end in enumerate(ends):
        place = end if action == "token" else s
        rewards[place] += earned[s] if isinstance(earned, list) else 0.0
        onward[place] = gamma  # discounted where a step is over
    if not isinstance(earned, list):
        rewards[-1] += earned
    after = [*values[1:], 0.0]  # beyond the end there is nothing
    deltas = [rewards[t] + onward[t] * after[t] - values[t] for t in range(size)]
    out = []
    for t in range(size):
        total, weight = 0.0, 1.0
        for k in range(t, size):
            total += weight * deltas[k]
            weight *= onward[k] * lam
        out.append(total)
    return out


@ACTION
@pytest.mark.parametrize("earned", [0.7, [0.5, -1.0, 2.0]])
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.8), (0.5, 1.0), (0.9, 0.0)])
def test_advantages_by_their_definition(action, earned, gamma, lam):
    ends = [1, 2, 5]  # the last token is the end token
    values = np.random.default_rng(0).normal(size=6 if action == "token" else 3)
    settings = PPO(action=action, gamma=gamma, lam=lam)
    told = estimate(earned, ends, tensor(values), settings)
    expected = by_loop(earned, ends, values.tolist(), action, gamma, lam)
    np.testing.assert_allclose(told, expected, rtol=1e-12)


def test_within_a_step_nothing_is_discounted():
    """Values 0, a reward at the very end: what is left of it before each token."""
    zeros = torch.zeros(6)
    told = estimate(1.0, [1, 2, 5], zeros, PPO(gamma=0.5, lam=1.0))
    assert told.tolist() == [0.25, 0.25, 0.5, 1.0, 1.0, 1.0]
    told = estimate(1.0, [1, 2, 5], zeros[:3], PPO(action="step", gamma=0.5, lam=1.0))
    assert told.tolist() == [0.25, 0.5, 1.0]


def test_where_each_token_is_a_step_both_forms_are_one():
    values = tensor([0.1, 0.5, -0.2, 0.3])
    for earned in (1.0, [0.1, 0.2, 0.3, 0.4]):
        forms = [PPO(action=action, gamma=0.9, lam=0.8) for action in ("token", "step")]
        one, other = (estimate(earned, [0, 1, 2, 3], values, form) for form in forms)
        torch.testing.assert_close(one, other)


@ACTION
@pytest.mark.parametrize("reward", [even, even_steps])
def test_a_round_is_prepared_whatever_its_batches(action, reward):
    found, explained = {}, []
    for micro_tokens in (None, 200):
        settings = PPO(action=action, gamma=0.9)
        _, drawn, _, batches, _, settings, metrics = prepared(
            settings, reward=reward, micro_tokens=micro_tokens
        )
        explained.append(metrics["train/explained_variance"])
        for batch in batches:
            names = ("advantages", "returns", "values")
            rows = zip(acts(batch, settings), *(batch.tensors[name] for name in names))
            for i, (own, *numbers) in zip(batch.tensors["rollout"].tolist(), rows):
                assert not any(x[~own].any() for x in numbers[:2])
                found.setdefault(i, []).append(torch.stack([x[own] for x in numbers]))  # (3, A)
    for one, other in found.values():
        torch.testing.assert_close(one, other)
    # over the round: whitened advantages, and what the values foretold
    order = range(len(drawn.rollouts))
    advantages, returns, values = torch.cat([found[i][0] for i in order], 1).numpy()
    told = values - 0.3  # as they were
    args = [(drawn.earned[i], ends_of(r)) for i, r in enumerate(drawn.rollouts)]
    sizes = [found[i][0].shape[1] for i in order]
    rows = np.split(told, np.cumsum(sizes)[:-1])
    raw = np.concatenate([by_loop(*x, row, action, 0.9, 0.95) for x, row in zip(args, rows)])
    earned = [by_loop(*x, np.zeros(n), action, 0.9, 1.0) for x, n in zip(args, sizes)]
    earned = np.concatenate(earned)
    np.testing.assert_allclose(returns, told + raw, atol=1e-6)
    spread = raw.std(ddof=1) + 1e-4
    np.testing.assert_allclose(advantages, (raw - raw.mean()) / spread, atol=1e-6)
    assert explained == pytest.approx([1 - np.var(earned - told) / np.var(earned)] * 2, abs=1e-6)


# -- losses ----------------------------------------------------------------------------------------


def average(rows, normalise, length):
    """The mean of `rl.average`, from a list of numbers a rollout."""
    if normalise == "sequence":
        return np.mean([np.mean(row) for row in rows])
    total = sum(map(sum, rows))
    return total / (sum(map(len, rows)) if normalise == "token" else len(rows) * length)


@ACTION
@pytest.mark.parametrize("normalise", NORMALISE)
def test_the_loss_action_by_action(action, normalise):
    chosen = PPO(action=action, normalise=normalise, beta=0.1, epsilon=0.05, epsilon_high=0.08)
    policy, drawn, critic, (batch,), _, settings, _ = prepared(chosen)
    with torch.no_grad():
        loss, watched = shared_parts(critic, batch, settings)
        apart = policy_parts(policy.model, batch, settings)[0]
        apart = apart + settings.value_weight * critic_parts(critic, batch, settings)[0]
        tensors, counts = batch.tensors, acts(batch, settings)
        logp, _, mask = rl.token_logps(policy.model, tensors["input_ids"], tensors["labels"], 1.0)
        values = before(critic(tensors["input_ids"])[1], batch, settings)
    policy_rows, value_rows, beyond = [], [], []
    for b, row in enumerate(tensors["rollout"].tolist()):
        new, old, ref = (x[b][mask[b]].numpy() for x in (logp, tensors["old"], tensors["ref"]))
        ends = ends_of(drawn.rollouts[row])
        spans = [(t, t + 1) for t in range(len(new))]
        if action == "step":
            spans = list(zip([0, *(e + 1 for e in ends[:-1])], (e + 1 for e in ends)))
        terms, errors = [], []
        for k, (a, z) in enumerate(spans):
            ratio, advantage = np.exp((new - old)[a:z].sum()), tensors["advantages"][b, k].item()
            if action == "token":
                advantage = tensors["advantages"][b][mask[b]][k].item()
            gain = min(ratio * advantage, np.clip(ratio, 0.95, 1.08) * advantage)
            d = (ref - new)[a:z]
            terms.append(-gain + 0.1 * (np.exp(d) - d - 1).sum())
            beyond.append((ratio > 1.08 and advantage > 0) or (ratio < 0.95 and advantage < 0))
            own = [
                x[b][counts[b]][k].item() for x in (values, tensors["values"], tensors["returns"])
            ]
            value, was, target = own
            near = was + np.clip(value - was, -0.2, 0.2)
            errors.append(max((value - target) ** 2, (near - target) ** 2) / 2)
        policy_rows.append(terms)
        value_rows.append(errors)
    expected = average(policy_rows, normalise, 20) + 0.5 * average(value_rows, normalise, 20)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert apart.item() == pytest.approx(expected, rel=1e-6)
    assert watched["clip_fraction"].float().mean().item() == pytest.approx(np.mean(beyond))
    assert 0.05 < np.mean(beyond) < 0.9
    assert watched["value_loss"].mean().item() == pytest.approx(np.mean(np.concatenate(value_rows)))


def test_the_ratio_of_a_step_is_that_of_the_advantages():
    policy, drawn, _, (batch,), _, settings, _ = prepared(PPO(action="step"))
    tensors = batch.tensors
    logp, _, mask = rl.token_logps(policy.model, tensors["input_ids"], tensors["labels"], 1.0)
    told = summed(logp - tensors["old"], batch, settings).exp()
    for b, row in enumerate(tensors["rollout"].tolist()):
        ends = ends_of(drawn.rollouts[row])
        expected = step_ratio(logp[b][mask[b]], tensors["old"][b][mask[b]], ends)
        torch.testing.assert_close(told[b, : len(ends)], expected)


@ACTION
@pytest.mark.parametrize("normalise", NORMALISE)
def test_micro_batches_add_up_to_one_batch(action, normalise):
    found = []
    for micro_tokens in (None, 200):
        chosen = PPO(action=action, normalise=normalise, beta=0.1)
        _, _, critic, batches, totals, settings, _ = prepared(chosen, micro_tokens=micro_tokens)
        learner = Learner(critic, replace(FAST, clip=1e9))
        metrics = update(learner, batches, totals, settings, 0.0, shared_parts)
        gradient = torch.cat([p.grad.flatten() for p in critic.parameters()])
        found.append((len(batches), metrics, gradient))
    (one, metrics, gradient), (several, others, again) = found
    assert one == 1 < several and gradient.norm() > 0.01
    torch.testing.assert_close(again, gradient, rtol=1e-6, atol=1e-9)
    assert others == pytest.approx(metrics, rel=1e-5)


def test_beyond_the_clip_neither_policy_nor_values_are_pulled():
    policy, _, critic, (batch,), _, settings, _ = prepared(PPO(action="step", epsilon=0.0))
    tensors, counts = batch.tensors, acts(batch, settings)
    tensors["old"] = tensors["old"] - 5.0 * (tensors["labels"] != rl.IGNORE)  # every ratio is large
    tensors["advantages"] = counts.double()  # and all of them should grow
    loss, _ = policy_parts(policy.model, batch, replace(settings, beta=0.0))
    loss.backward()
    assert all(not p.grad.any() for p in policy.model.parameters() if p.grad is not None)
    tensors["values"] = tensors["returns"] + 10.0  # far above; their clip is nearer to the target
    error, watched = critic_parts(critic, batch, replace(settings, value_epsilon=None))
    clipped, seen = critic_parts(critic, batch, settings)
    assert (seen["value_loss"] >= watched["value_loss"]).all() and clipped > error


def test_a_critic_of_its_own_leaves_the_policy_alone():
    options = {"problems": 2, "group": 4, "beta": 0.0}
    found = []
    for rate in (1e-2, 1e-9):  # of the critic: it shows in later rounds alone
        policy = bandit()
        critic_recipe = replace(FAST, learning_rate=rate)
        list(
            ppo(policy, PROBLEMS, settings=PPO(shared=False, **options), recipe=FAST, seed=0,
                rounds=1, reward=even, critic_recipe=critic_recipe)
        )  # fmt: skip
        found.append(torch.cat([p.detach().flatten() for p in policy.model.parameters()]))
    assert torch.equal(*found)
    assert len(list(policy.model.parameters())) == len(list(bandit().model.parameters()))


@pytest.mark.slow
def test_a_critic_learns_what_the_rollouts_earn():
    """Fixed rollouts, so that there is something to know; the policy hardly moves."""
    policy = bandit()
    pool = solve(PROBLEMS, METHODS["sample"], policy=policy, n=8, seed=3)
    still, quick = replace(FAST, learning_rate=1e-9), replace(FAST, learning_rate=1e-2)
    settings = PPO(shared=False, problems=4, group=8, updates=4, value_epsilon=None)
    rows = list(
        ppo(policy, pool, settings=settings, recipe=still, critic_recipe=quick, seed=0, rounds=20,
            reward=even)
    )  # fmt: skip
    assert rows[0]["train/explained_variance"] <= 0 and rows[-1]["train/explained_variance"] > 0.5
    assert rows[-1]["train/value_loss"] < 0.5 * rows[0]["train/value_loss"]


def test_parts_of_a_round_share_out_its_rollouts_and_leave_the_policy_its_update():
    _, drawn, *_ = prepared(PPO())
    number = len(drawn.rollouts)
    policy = bandit(dtype=torch.float64)
    whole, totals = batches_of(policy, drawn.results, None, PPO(), 200)
    parts, same = batches_of(policy, drawn.results, None, PPO(), 200, parts=4)
    assert same == totals and min(len(parts), len(whole)) > 1
    seen = [batch.tensors["rollout"].tolist() for batch in parts]
    assert all(len({i % 4 for i in own}) == 1 for own in seen)
    assert sorted(i for own in seen for i in own) == list(range(number))
    found = []
    for n in (1, 4):  # critics differ, the first update of the policy does not
        policy = bandit(dtype=torch.float64)
        settings = PPO(shared=False, critic_batches=n, problems=2, group=4, beta=0.0)
        list(ppo(policy, PROBLEMS, settings=settings, recipe=FAST, seed=0, rounds=1, reward=even))
        found.append(torch.cat([p.detach().flatten() for p in policy.model.parameters()]))
    torch.testing.assert_close(*found, rtol=0, atol=1e-9)


def test_a_critic_starts_from_a_model_that_is_given():
    policy, critic = bandit(), bandit().model
    start = [p.detach().clone() for p in critic.parameters()]
    settings = PPO(shared=False, critic_batches=2, problems=2, group=4, beta=0.0)
    list(ppo(policy, PROBLEMS, settings=settings, recipe=FAST, seed=0, rounds=2, reward=even,
             critic=critic))  # fmt: skip
    assert any(not torch.equal(a, b) for a, b in zip(start, critic.parameters()))


def test_a_group_of_one_teaches_and_equal_rewards_are_told():
    one = {"problems": 2, "group": 1, "beta": 0.0}
    (row,) = ppo(bandit(), PROBLEMS, settings=PPO(**one), seed=0, rounds=1, reward=even)
    assert row["train/zero_signal"] == 0 and row["train/gradient_norm"] > 0
    with pytest.warns(UserWarning, match="nothing to learn in this round: of 2 groups 0 .* 2 all"):
        (row,) = ppo(bandit(), PROBLEMS, settings=PPO(**one), seed=0, rounds=1)
    assert row["train/zero_signal"] == 1 and "train/explained_variance" not in row


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PPO(action="sentence"), "action='sentence': use one of token, step"),
        (lambda: PPO(gamma=1.5), r"gamma=1\.5, lam=0\.95: need both in \[0, 1\]"),
        (lambda: PPO(lam=-0.1), r"lam=-0\.1"),
        (lambda: PPO(value_epsilon=0.0), r"value_epsilon=0\.0: need at least 0, and above 0"),
        (lambda: PPO(group=0), "group=0: need at least 1"),
        (lambda: ppo(None, [], seed=0, rounds=1), "no problems to train on"),
        (
            lambda: ppo(None, PROBLEMS, seed=0, rounds=1, critic_recipe=FAST),
            "a shared critic learns by the policy's own recipe",
        ),
        (
            lambda: ppo(None, PROBLEMS, seed=0, rounds=1, critic=torch.nn.Linear(1, 1)),
            "critic: a shared one is the policy itself",
        ),
        (lambda: PPO(critic_batches=2), "critic_batches=2, shared=True: need at least 1"),
        (
            lambda: list(
                ppo(bandit(), PROBLEMS, settings=PPO(beta=0.0, refresh=2), seed=0, rounds=1)
            ),
            "refresh=2 with beta=0: there is no reference",
        ),
        (lambda: GRPO(advantage="gae"), "use one of std, none, leave_one_out, process, pure, vine"),
    ],
)
def test_what_cannot_be_trained_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
