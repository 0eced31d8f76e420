"""Advantages of steps: values by hand, loops in NumPy, first and last tokens of steps, limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from workbench.train.advantages import (
    ends_of,
    min_form_rewards,
    normalised,
    over_tokens,
    process_advantages,
    pure_advantages,
    step_gae,
    step_ratio,
    step_sums,
    vine_advantages,
)
from workbench.train.rl import group_advantages
from workbench.types import Prefix, Problem, Step

numbers = st.floats(-3, 3, width=32)


@st.composite
def rollouts(draw):
    """(S,) rewards, the ends of their steps, and the number of tokens; perhaps no step at all."""
    steps = draw(st.lists(st.tuples(numbers, st.integers(1, 4)), max_size=5))
    ends = np.cumsum([tokens for _, tokens in steps]) - 1
    after = draw(st.integers(0 if steps else 1, 3))
    length = int(sum(tokens for _, tokens in steps)) + after
    return [reward for reward, _ in steps], ends.astype(int).tolist(), length


# -- process supervision: DeepSeekMath -------------------------------------------------------------


def by_definition(step_rewards, step_ends, lengths):
    """Token by token: add up what the paper says, the steps that end at it or later."""
    everything = np.array([r for row in step_rewards for r in row], dtype=np.float64)
    mean = everything.mean() if len(everything) else 0.0
    spread = everything.std(ddof=1) if len(everything) > 1 else 0.0
    advantages = []
    for rewards, ends, length in zip(step_rewards, step_ends, lengths):
        row = np.zeros(length)
        for t in range(length):
            for reward, end in zip(rewards, ends):
                if end >= t and spread > 0:
                    row[t] += (reward - mean) / (spread + 1e-4)
        advantages.append(row)
    return advantages


@given(st.lists(rollouts(), min_size=1, max_size=4))
def test_process_advantages_by_their_definition(group):
    rewards, ends, lengths = (list(x) for x in zip(*group))
    exact = [np.array(row, dtype=np.float64) for row in rewards]  # float64 in, float64 out
    advantages = process_advantages(exact, ends, lengths)
    assert [tuple(row.shape) for row in advantages] == [(length,) for length in lengths]
    for row, expected in zip(advantages, by_definition(exact, ends, lengths)):
        np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-9)


def test_process_advantages_by_hand():
    # 1, 0, 0, 1: mean 1/2, sample standard deviation sqrt(1/3); a step is worth +-u
    u = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    rows = process_advantages([[1, 0, 0], [1]], [[0, 2, 3], [1]], [6, 2])
    assert rows[0].tolist() == pytest.approx([-u, -2 * u, -2 * u, -u, 0, 0], abs=1e-6)
    assert rows[1].tolist() == pytest.approx([u, u], abs=1e-6)


def test_all_steps_of_the_group_are_normalised_together():
    one_each = process_advantages([[1.0], [0.0], [0.0], [0.0]], [[2]] * 4, [3] * 4)
    as_outcomes = group_advantages([[1, 0, 0, 0]])[0]  # a single step is an outcome
    for row, advantage in zip(one_each, as_outcomes):
        assert row.tolist() == [advantage.item()] * 3
    # of its own rollout alone each would be 0
    low, high = process_advantages([[0.2, 0.2], [0.8, 0.8]], [[0, 1]] * 2, [2, 2])
    assert (low < 0).all() and (high > 0).all()


@pytest.mark.parametrize(
    "rewards",
    [[[0.3]], [[0.1] * 3, [0.1, 0.1]], [[1 / 3], [1 / 3], [1 / 3]], [[1, 1], []], [[], []]],
)
def test_a_group_without_a_difference_gives_exactly_zero(rewards):
    ends = [list(range(len(row))) for row in rewards]
    for row in process_advantages(rewards, ends, [4] * len(rewards)):
        assert row.tolist() == [0.0] * 4


def test_a_rollout_without_steps_gets_zeros_beside_others():
    rows = process_advantages([[], [1, 0]], [[], [0, 1]], [3, 2])
    assert rows[0].tolist() == [0, 0, 0] and rows[1][1] < 0
    assert process_advantages([], [], []) == []
    assert process_advantages([[]], [[]], [0])[0].shape == (0,)


# -- tokens of a step ------------------------------------------------------------------------------


def test_the_first_and_last_token_of_a_step_are_its_own_and_the_next_is_not():
    # steps: tokens 0-1, token 2, tokens 3-5; 6 and 7 belong to none
    assert over_tokens([1, 2, 3], [1, 2, 5], 8).tolist() == [1, 1, 2, 3, 3, 3, 0, 0]
    assert over_tokens([7], [0], 1).tolist() == [7]
    assert over_tokens([], [], 2).tolist() == [0, 0]


@given(rollouts())
def test_each_token_gets_the_number_of_its_step(rollout):
    rewards, ends, length = rollout
    expected, start = [0.0] * length, 0
    for reward, end in zip(rewards, ends):
        expected[start : end + 1] = [reward] * (end + 1 - start)
        start = end + 1
    assert over_tokens(rewards, ends, length).tolist() == expected


def test_numbers_keep_their_type_and_gradient():
    values = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (2 * over_tokens(values, tensor([1, 3]), 6)).sum().backward()
    assert values.grad.dtype == torch.float64 and values.grad.tolist() == [4, 4]


# -- APPO ------------------------------------------------------------------------------------------


def test_step_gae_has_its_reference_value_and_its_recursion():
    advantages = step_gae([0, 0, 1], [0.5, 0.6, 0.7], gamma=1, lam=0.95)
    assert advantages.tolist() == pytest.approx([0.46575, 0.385, 0.3])
    rng = np.random.default_rng(3)
    rewards, values = rng.normal(size=6), rng.normal(size=6)
    expected, ahead, value_ahead = np.zeros(6), 0.0, 0.0  # over at the end: value 0
    for s in range(5, -1, -1):
        ahead = rewards[s] + 0.9 * value_ahead - values[s] + 0.9 * 0.8 * ahead
        expected[s], value_ahead = ahead, values[s]
    np.testing.assert_allclose(step_gae(rewards, values, gamma=0.9, lam=0.8), expected, rtol=1e-12)


def test_step_ratio_by_hand():
    new, old = tensor([0.5, 0.5, 0.1, 0.9]).log(), tensor([0.25, 0.5, 0.2, 0.3]).log()
    assert step_ratio(new, old, [1, 2, 3]).tolist() == pytest.approx([2.0, 0.5, 3.0])
    assert step_ratio(new, old, [3]).tolist() == pytest.approx([0.0225 / 0.0075])
    assert step_ratio(new, old, [0, 1]).tolist() == pytest.approx([2.0, 1.0])  # the rest: no step
    assert step_ratio(new, new, [0, 3]).tolist() == [1.0, 1.0]
    assert step_ratio(new, old, []).shape == (0,)


@given(rollouts(), st.integers(0, 99))
def test_step_ratio_is_the_ratio_of_joint_probabilities(rollout, seed):
    _, ends, length = rollout
    p, q = np.random.default_rng(seed).uniform(0.05, 1, size=(2, length))
    expected, start = [], 0
    for end in ends:
        expected.append(np.prod(p[start : end + 1]) / np.prod(q[start : end + 1]))
        start = end + 1
    ratio = step_ratio(torch.from_numpy(np.log(p)), torch.from_numpy(np.log(q)), ends)
    np.testing.assert_allclose(ratio, expected, rtol=1e-9)


def test_the_gradient_of_a_step_ratio_is_the_ratio_at_each_of_its_tokens():
    new = tensor([0.5, 0.5, 0.1, 0.9]).log().requires_grad_()
    old = tensor([0.25, 0.5, 0.2, 0.3]).log()
    (step_ratio(new, old, [1, 2]) * tensor([1.0, -3.0])).sum().backward()
    assert new.grad.tolist() == pytest.approx([2.0, 2.0, -1.5, 0.0])  # the last token: no step
    double = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda x: step_ratio(x, torch.zeros_like(x), [0, 2, 3]), double.requires_grad_()
    )


# -- VinePPO ---------------------------------------------------------------------------------------


def test_vine_advantages_by_hand_and_of_one_step():
    assert vine_advantages([0.5, 0.75, 0.0], 0).tolist() == [0.25, -0.75, 0.0]
    assert vine_advantages([0.25], 1).tolist() == [0.75]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.0, 1.0]))
def test_vine_advantages_add_up_to_reward_less_value_of_the_start(values, reward):
    values = np.array(values)
    advantages = vine_advantages(values, reward)
    for i, advantage in enumerate(advantages.tolist()):  # one by one
        after = reward if i == len(values) - 1 else values[i + 1]
        assert advantage == after - values[i]
    assert advantages.sum().item() == pytest.approx(reward - values[0], abs=1e-12)
    # so they are those of APPO without discount and with lambda 0, the reward at the last step
    rewards = np.zeros(len(values))
    rewards[-1] = reward
    np.testing.assert_allclose(advantages, step_gae(rewards, values, gamma=1, lam=0), atol=1e-12)


# -- PURE ------------------------------------------------------------------------------------------


def test_min_form_rewards_by_hand():
    # at temperature 1/ln 2 the weight halves with every 1 of reward: 4/7, 2/7, 1/7
    rewards = min_form_rewards([0, 1, 2], temperature=1 / math.log(2))
    assert rewards.tolist() == pytest.approx([0, 2 / 7, 2 / 7])
    assert min_form_rewards([0.5] * 4, temperature=0.1).tolist() == pytest.approx([0.125] * 4)
    assert min_form_rewards([-0.7], temperature=0.1).tolist() == pytest.approx([-0.7])


@given(st.lists(numbers, min_size=1, max_size=8), st.floats(1e-3, 10))
def test_min_form_rewards_add_up_to_about_the_lowest(rewards, temperature):
    rewards = np.array(rewards)
    got = min_form_rewards(rewards, temperature=temperature)
    weights = [1 / sum(math.exp(min(700, (r - s) / temperature)) for s in rewards) for r in rewards]
    np.testing.assert_allclose(got, weights * rewards, rtol=1e-7, atol=1e-12)
    above = got.sum().item() - rewards.min()  # a weight of x above the lowest is at most exp(-x/T)
    assert -1e-9 <= above <= temperature * (len(rewards) - 1) / math.e + 1e-9


def test_returns_of_min_form_rewards_in_the_limit():
    rewards = min_form_rewards(tensor([0.9, 0.2, 0.8, 0.4]).double(), temperature=1e-3)
    returns = rewards.flip(0).cumsum(0).flip(0)  # up to the worst step its reward, after it none
    np.testing.assert_allclose(returns, [0.2, 0.2, 0, 0], atol=1e-7)
    errors = [abs(min_form_rewards([0.9, 0.2], temperature=t).sum() - 0.2) for t in (1, 0.1, 0.01)]
    assert errors[0] > errors[1] > errors[2] or errors[2] == 0


# -- messages --------------------------------------------------------------------------------------

two = torch.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: process_advantages([[1]], [[0]], [1, 2]),
            "1 rows of rewards, 1 of ends, 2 lengths",
        ),
        (lambda: process_advantages([[1]], [], [1]), "1 rows of rewards, 0 of ends, 1 lengths"),
        (lambda: process_advantages([[1, 0]], [[0]], [3]), r"step ends \[0\] .*: need 2 indices"),
        (lambda: process_advantages([[1, 0]], [[1, 1]], [3]), r"\[1, 1\] .*that rise"),
        (lambda: process_advantages([[1, 0]], [[2, 1]], [3]), r"\[2, 1\] .*that rise"),
        (lambda: process_advantages([[1]], [[3]], [3]), r"\[3\] of a rollout of 3 .*below 3"),
        (lambda: process_advantages([[1]], [[-1]], [3]), r"\[-1\] .*at least 0"),
        (lambda: process_advantages([[1.0, math.nan]], [[0, 1]], [2]), "nan.*finite"),
        (lambda: process_advantages([[math.nan]], [[0]], [2]), "nan.*finite"),
        (lambda: process_advantages([[]], [[]], [-1]), "a rollout of -1 tokens"),
        (lambda: over_tokens([1], [0, 1], 2), r"\[0, 1\] .*need 1 indices"),
        (lambda: over_tokens([[1]], [0], 2), "one finite number a step"),
        (lambda: step_gae([1.0], [0.5, 0.5], gamma=1, lam=1), r"\(1,\) rewards, \(2,\) values"),
        (lambda: step_ratio(two, torch.zeros(3), [1]), r"\(2,\), old ones \(3,\)"),
        (lambda: step_ratio(two[None], two[None], [1]), r"\(1, 2\), .*one rollout, \(T,\)"),
        (lambda: step_ratio(two, two, [2]), r"\[2\] of a rollout of 2 .*below 2"),
        (lambda: vine_advantages([], 1.0), "no values"),
        (lambda: vine_advantages([math.inf], 1.0), "inf.*finite"),
        (lambda: min_form_rewards([1.0], temperature=0), "temperature=0: need above 0"),
        (lambda: min_form_rewards([1.0], temperature=math.nan), "temperature=nan"),
        (lambda: min_form_rewards([math.nan], temperature=1), "nan.*finite"),
    ],
)
def test_what_no_equation_takes_is_named_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


# -- PURE ------------------------------------------------------------------------------------------


def pure_by_loop(step_rewards, step_ends, lengths, temperature, outcomes):
    """Step by step, as the paper's code does it: transformed rewards, others' mean per token."""
    forms = []
    for rewards in step_rewards:
        weights = np.exp(-np.array(rewards) / temperature)
        forms.append(weights / weights.sum() * np.array(rewards) if len(rewards) else np.zeros(0))
    out = []
    for i, (form, ends, length) in enumerate(zip(forms, step_ends, lengths)):
        others = [j for j in range(len(forms)) if j != i]
        a_token = sum(forms[j].sum() for j in others) / sum(lengths[j] for j in others)
        whole = outcomes[i] - np.mean([outcomes[j] for j in others])
        row, begin, steps = np.zeros(length), 0, []
        for reward, end in zip(form, ends):
            steps.append((begin, end, reward - a_token * (end - begin + 1)))
            begin = end + 1
        for begin, end, _ in steps:
            to_come = sum(x for _, last, x in steps if last >= end)
            row[begin : end + 1] = to_come + whole
        out.append(row)
    return out


@given(st.lists(rollouts(), min_size=2, max_size=4), st.floats(0.5, 2), st.booleans())
def test_pure_advantages_by_their_definition(group, temperature, graded):
    rewards, ends, lengths = (list(x) for x in zip(*group))
    exact = [np.array(row, dtype=np.float64) for row in rewards]
    outcomes = np.arange(len(group)) % 2 * 1.0 if graded else np.zeros(len(group))
    told = pure_advantages(
        exact, ends, lengths, temperature=temperature, outcomes=outcomes if graded else None
    )
    for row, expected in zip(told, pure_by_loop(exact, ends, lengths, temperature, outcomes)):
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)


def test_pure_up_to_the_worst_step_and_no_further():
    """The other rollout earns nothing, so that there is no baseline: a token has its return."""
    ends, lengths = [[1, 2, 5], [0]], [6, 1]
    first, _ = pure_advantages([[0.9, 0.2, 0.8], [0.0]], ends, lengths, temperature=1e-3)
    assert first.tolist() == pytest.approx([0.2, 0.2, 0.2, 0, 0, 0], abs=1e-6)


def test_the_answer_of_pure_is_judged_against_the_others_and_reaches_every_step():
    zeros, ends, lengths = [[0.0, 0.0], [0.0], [0.0]], [[1, 3], [2], [0]], [5, 3, 1]
    told = pure_advantages(zeros, ends, lengths, outcomes=[2.0, 0.0, 1.0])
    assert [row.tolist() for row in told] == [[1.5, 1.5, 1.5, 1.5, 0.0], [-1.5] * 3, [0.0]]
    assert all(not row.any() for row in pure_advantages(zeros, ends, lengths))


def test_pure_needs_a_group():
    for arguments in (([[1.0]], [[0]], [1]), ([[1.0], []], [[0], []], [1, 0])):
        with pytest.raises(ValueError, match="need at least 2, none of them empty"):
            pure_advantages(*arguments)
    with pytest.raises(ValueError, match="need one of each a rollout"):
        pure_advantages([[1.0]], [[0], [1]], [1, 2])


# -- sums and ends ---------------------------------------------------------------------------------


@given(rollouts())
def test_sums_and_spreads_of_steps_fit_each_other(rollout):
    _, ends, length = rollout
    tokens = torch.arange(1.0, length + 1)
    sums = step_sums(tokens, ends)
    begins = [0, *(end + 1 for end in ends)]
    assert sums.tolist() == [tokens[a : z + 1].sum().item() for a, z in zip(begins, ends)]
    if ends:
        assert sums.sum() == tokens[: ends[-1] + 1].sum()


def test_the_last_token_of_a_step_is_its_separator_or_the_end():
    steps = (
        Step("a", (5, 2), (0.0,) * 2),
        Step("b", (2,), (0.0,)),
        Step("c", (6, 7, 1), (0.0,) * 3),
    )
    rollout = Prefix(Problem("p", "math", "?"), steps, "end")
    assert ends_of(rollout) == [1, 2, 5] and rollout.ids[5] == 1
    assert ends_of(Prefix(Problem("p", "math", "?"))) == []


def test_normalised_numbers():
    told = normalised(tensor([1.0, 2.0, 3.0]))
    assert told.tolist() == pytest.approx([-1 / 1.0001, 0, 1 / 1.0001])
    assert normalised(tensor([4.0])).tolist() == [0.0]
    assert normalised(tensor([0.1] * 3)).tolist() == [0.0] * 3
