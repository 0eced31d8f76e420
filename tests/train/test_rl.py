"""The equations of policy learning: reference values, definitions in NumPy, and one token at a
time."""

import numpy as np
import pytest
import torch
from rolled import rollouts, rows_of
from tiny import tiny_policy
from torch import tensor

from workbench.train.rl import (
    beyond_clip,
    clipped_gain,
    clipped_loss,
    explained_variance,
    gae,
    group_advantages,
    kl_k3,
    token_logps,
    value_loss,
)
from workbench.train.sft import collate

NORMALISE = ("sequence", "token", "constant")


# -- advantages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normalise", "value"), [("std", 1.4997), ("none", 0.75), ("leave_one_out", 1.0)]
)
def test_advantages_have_the_values_of_each_convention(normalise, value):
    advantages = group_advantages([[1, 0, 0, 0]], normalise=normalise)
    assert advantages.tolist()[0] == pytest.approx([value, *[-value / 3] * 3], abs=1e-5)


@pytest.mark.parametrize("normalise", ["std", "none", "leave_one_out"])
def test_advantages_by_their_definition_in_numpy(normalise):
    rewards = np.random.default_rng(0).normal(size=(5, 7))
    expected = np.zeros_like(rewards)
    for p, row in enumerate(rewards):
        for g, reward in enumerate(row):
            others = np.delete(row, g)
            expected[p, g] = {
                "std": (reward - row.mean()) / (row.std(ddof=1) + 1e-4),
                "none": reward - row.mean(),
                "leave_one_out": reward - others.mean(),
            }[normalise]
    np.testing.assert_allclose(group_advantages(rewards, normalise=normalise), expected, rtol=1e-12)


@pytest.mark.parametrize("normalise", ["std", "none", "leave_one_out"])
def test_a_group_is_judged_by_itself_and_equal_rewards_say_nothing(normalise):
    groups = tensor([[1, 0, 0, 1], [0.1] * 4, [1 / 3] * 4, [0, 0, 0, 0], [0, 0, 1, 0]])
    together = group_advantages(groups, normalise=normalise)
    for group, advantages in zip(groups, together):
        assert torch.equal(group_advantages(group[None], normalise=normalise)[0], advantages)
    assert together[1:4].tolist() == [[0.0] * 4] * 3  # exactly, though the mean of 0.1s is not 0.1
    assert together.sum(1).abs().max() < 1e-6


def test_gae_has_its_reference_value_and_equals_the_sum_of_its_definition():
    assert gae([0, 0, 1], [0.5, 0.6, 0.7], gamma=1, lam=0.95).tolist() == pytest.approx(
        [0.46575, 0.385, 0.3]
    )
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=9), rng.normal(size=9)
    deltas = rewards + 0.9 * np.append(values[1:], 0) - values
    expected = [sum((0.9 * 0.8) ** k * deltas[t + k] for k in range(9 - t)) for t in range(9)]
    np.testing.assert_allclose(gae(rewards, values, gamma=0.9, lam=0.8), expected, rtol=1e-12)


def test_gae_may_discount_each_way_on_by_its_own_factor():
    rng = np.random.default_rng(2)
    rewards, values, gamma = rng.normal(size=7), rng.normal(size=7), rng.uniform(size=7)
    expected, ahead, after = np.zeros(7), 0.0, 0.0
    for t in reversed(range(7)):
        ahead = rewards[t] + gamma[t] * after - values[t] + gamma[t] * 0.8 * ahead
        expected[t], after = ahead, values[t]
    np.testing.assert_allclose(gae(rewards, values, gamma=gamma, lam=0.8), expected, rtol=1e-12)
    same = gae(rewards, values, gamma=np.full(7, 0.9), lam=0.8)
    np.testing.assert_allclose(same, gae(rewards, values, gamma=0.9, lam=0.8), rtol=1e-12)


# -- loss ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"), [(1.5, 1, -1.2), (1.5, -1, 1.5), (0.5, 1, -0.5), (0.5, -1, 0.8)]
)
def test_the_clip_takes_the_worse_of_both(ratio, advantage, loss):
    logp, one = tensor([[ratio]]).log().requires_grad_(), torch.ones(1, 1)
    value = clipped_loss(logp, torch.zeros(1, 1), tensor([float(advantage)]), one, epsilon=0.2)
    value.backward()
    assert value.item() == pytest.approx(loss)
    assert (logp.grad == 0).item() == (loss in (-1.2, 0.8))  # beyond the clip nothing pulls


def test_the_upper_clip_may_be_higher():
    logp, one = tensor([[1.5]]).log(), torch.ones(1, 1)
    options = {"epsilon": 0.2, "epsilon_high": 0.28}
    assert clipped_loss(logp, 0 * logp, tensor([1.0]), one, **options).item() == pytest.approx(
        -1.28
    )
    assert clipped_loss(-logp, 0 * logp, tensor([-1.0]), one, **options).item() == pytest.approx(
        0.8
    )


def test_beyond_the_clip_is_where_the_gain_has_no_gradient():
    ratio = torch.linspace(0.5, 1.6, 23).requires_grad_()
    for sign in (1.0, -1.0):
        advantages = torch.full((23,), sign)
        gain = clipped_gain(ratio, advantages, 0.2, 0.28)
        (gradient,) = torch.autograd.grad(gain.sum(), ratio)
        beyond = beyond_clip(ratio.detach(), advantages, 0.2, 0.28)
        assert torch.equal(gradient == 0, beyond) and 0 < beyond.sum() < 23


@pytest.mark.parametrize("epsilon", [0.2, None])
def test_the_loss_of_values_by_its_definition(epsilon):
    rng = np.random.default_rng(3)
    values, old, returns = rng.normal(size=(3, 40))
    told = value_loss(tensor(values), tensor(old), tensor(returns), epsilon)
    for loss, value, was, target in zip(told.tolist(), values, old, returns):
        errors = [(value - target) ** 2]
        if epsilon is not None:
            errors.append((np.clip(value, was - epsilon, was + epsilon) - target) ** 2)
        assert loss == pytest.approx(max(errors) / 2, rel=1e-12)


def test_a_value_far_from_the_old_one_is_pulled_back_but_not_on():
    old, returns = torch.zeros(2), tensor([1.0, -1.0])
    values = tensor([0.5, 0.5]).requires_grad_()  # beyond the clip, on the right way and the wrong
    value_loss(values, old, returns, 0.2).sum().backward()
    assert values.grad.tolist() == [0.0, 1.5]


def test_explained_variance_by_its_definition_and_at_its_ends():
    rng = np.random.default_rng(4)
    values, returns = rng.normal(size=(2, 30))
    expected = 1 - np.var(returns - values) / np.var(returns)
    assert explained_variance(tensor(values), tensor(returns)) == pytest.approx(expected)
    assert explained_variance(tensor(returns), tensor(returns)) == 1
    assert explained_variance(tensor(returns * 0 + 5), tensor(returns)) == pytest.approx(0)
    assert not np.isfinite(explained_variance(tensor(values), tensor(returns * 0)))


@pytest.mark.parametrize(("normalise", "value"), zip(NORMALISE, (0.0, 0.5, 0.25)))
def test_normalisers_weigh_long_rollouts_as_they_say(normalise, value):
    mask = tensor([[1, 1, 0, 0, 0, 0], [1] * 6])
    # whatever stands in the padding counts for nothing
    logp = torch.zeros(2, 6).masked_fill(mask == 0, float("nan"))
    for advantages in (tensor([1.0, -1.0]), tensor([[1.0] * 6, [-1.0] * 6])):
        some = logp.clone().requires_grad_()
        loss = clipped_loss(
            some, logp, advantages, mask, epsilon=0.2, normalise=normalise, constant_length=8
        )
        loss.backward()
        assert loss.item() == pytest.approx(value)
        assert torch.equal(some.grad != 0, mask == 1)


def test_each_token_may_have_its_own_advantage():
    advantages, ones = tensor([[1.0, 2.0, -3.0]]), torch.ones(1, 3)
    logp = torch.zeros(1, 3, requires_grad=True)
    clipped_loss(logp, torch.zeros(1, 3), advantages, ones, epsilon=0.2).backward()
    torch.testing.assert_close(logp.grad, -advantages / 3)


def test_k3_is_never_negative_and_its_mean_is_the_kl_divergence():
    assert kl_k3(tensor(-0.1), tensor(0.0)).item() == pytest.approx(0.0051709181)
    p, q = torch.randn(
        2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).log_softmax(-1)
    assert (kl_k3(p, q) >= 0).all() and (kl_k3(p, p) == 0).all()
    torch.testing.assert_close((p.exp() * kl_k3(p, q)).sum(), (p.exp() * (p - q)).sum())


# -- log-probabilities -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3_text"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_and_entropy_by_one_token_at_a_time(family, temperature):
    policy = tiny_policy(family, max_tokens=10)
    rows = rows_of(policy, rollouts(policy, n=1))
    with torch.no_grad():
        logp, entropy, mask = token_logps(policy.model, *collate(rows, 0), temperature)
        for b, (ids, start) in enumerate(rows):
            assert mask[b].nonzero().flatten().tolist() == list(range(start - 1, len(ids) - 1))
            for t in range(start, len(ids)):  # unpadded, and what comes later is not even there
                p = (policy.model(tensor([ids[:t]])).logits[0, -1] / temperature).softmax(-1)
                assert logp[b, t - 1].item() == pytest.approx(p[ids[t]].log().item(), abs=2e-5)
                assert entropy[b, t - 1].item() == pytest.approx(
                    -(p * p.log()).nansum().item(), abs=2e-5
                )
    assert (logp[~mask] == 0).all() and (entropy[~mask] == 0).all()


@pytest.mark.parametrize("temperature", [0, 0.7, 1.0])
def test_log_probabilities_are_those_of_the_sampler(temperature):
    policy = tiny_policy()
    prefixes = rollouts(policy, temperature=temperature)
    logp, _, mask = token_logps(
        policy.model, *collate(rows_of(policy, prefixes), 0), temperature or 1.0
    )
    sampled = tensor([x for prefix in prefixes for x in prefix.logprobs])
    torch.testing.assert_close(logp[mask], sampled, rtol=0, atol=2e-5)


def test_only_sampled_tokens_have_a_gradient():
    policy, seen = tiny_policy(max_tokens=9), []

    def keep(module, inputs, logits):
        logits.retain_grad()
        seen.append(logits)

    policy.model.lm_head.register_forward_hook(keep)
    rows = rows_of(policy, rollouts(tiny_policy(max_tokens=9)))
    logp, _, mask = token_logps(policy.model, *collate(rows, 0), 1.0)
    logp.sum().backward()
    (logits,) = seen  # those of the prompts that all rows begin with were not computed
    assert torch.equal((logits.grad != 0).any(-1), mask[:, -logits.shape[1] :])
    assert logits.shape[1] < mask.shape[1] and not mask[:, : -logits.shape[1]].any()


# -- messages --------------------------------------------------------------------------------------


def loss(advantages=None, **options):
    zeros = torch.zeros(2, 4)
    advantages = torch.ones(2) if advantages is None else advantages
    return clipped_loss(zeros, zeros, advantages, zeros + 1, epsilon=0.2, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: group_advantages([[1.0], [0.0]]),
            r"rewards of shape \(2, 1\): need finite \(P, G\), at least 2",
        ),
        (lambda: group_advantages([1.0, 0.0]), r"rewards of shape \(2,\)"),
        (lambda: group_advantages([[1.0, float("nan")]]), "need finite"),
        (
            lambda: group_advantages([[1, 0]], normalise="mean"),
            "'mean': use 'std', 'none' or 'leave_one_out'",
        ),
        (lambda: gae([1.0], [0.5, 0.5], gamma=1, lam=1), r"\(1,\) rewards, \(2,\) values"),
        (
            lambda: gae([1.0, 0.0], [0.5, 0.5], gamma=[1.0], lam=1),
            r"gamma \(1,\): need one number, or \(2,\)",
        ),
        (lambda: loss(normalise="batch"), "'batch': use 'sequence', 'token' or 'constant'"),
        (lambda: loss(normalise="constant"), "constant_length=None"),
        (
            lambda: loss(advantages=torch.ones(3)),
            r"advantages \(3,\): need \(B,\) or \(B, T\) = \(2, 4\)",
        ),
    ],
)
def test_what_no_equation_takes_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
