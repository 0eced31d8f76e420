"""Compute-optimal choice against worlds in which the best choice is known."""

import numpy as np
import pytest

from workbench.analyse.strategies import (
    Tried,
    compute_optimal,
    cost_of_reaching,
    difficulty_bins,
    one_for_all,
)

N = 400
HARD = np.repeat([0, 1], N // 2)


def world(seed=0):
    """`wide` is right on easy problems, `deep` on hard ones; `dear` on all, and is dear."""
    rng = np.random.default_rng(seed)
    chance = {
        "wide": np.where(HARD == 1, 0.9, 0.2),
        "deep": np.where(HARD == 1, 0.4, 0.6),
        "dear": np.full(N, 0.95),
    }
    price = {"wide": 100.0, "deep": 120.0, "dear": 1000.0}
    return [Tried(name, (rng.random(N) < p) * 1.0, np.full(N, price[name]))
            for name, p in chance.items()]  # fmt: skip


def test_each_bin_gets_its_method_within_the_budget():
    tried = world()
    found = compute_optimal(tried, HARD, 200, seed=0)
    assert set(np.array(found.names)[HARD == 1]) == {"wide"}
    assert set(np.array(found.names)[HARD == 0]) == {"deep"}
    assert found.costs.max() == 120 and found.values.mean() > 0.7
    alone = one_for_all(tried, 200, seed=0)
    assert len(set(alone.names)) == 1 and found.values.mean() > alone.values.mean() + 0.1
    assert set(compute_optimal(tried, HARD, 1000, seed=0).names) == {"dear"}


def test_what_chooses_is_never_what_is_measured():
    """Settings that only guess stay at chance, however many there are to choose among."""
    means = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        tried = [Tried(str(i), (rng.random(N) < 0.5) * 1.0, np.ones(N)) for i in range(50)]
        means.append(compute_optimal(tried, rng.integers(5, size=N), 1, seed=seed).values.mean())
    assert abs(np.mean(means) - 0.5) < 0.015  # chosen and measured on the same: .62


def test_knowing_the_difficulty_has_its_price():
    tried = world()
    found = compute_optimal(tried, HARD, 200, seed=0, price=90.0)
    assert set(found.names) == {"wide"} and set(found.costs) == {190.0}
    with pytest.raises(ValueError, match="budget=150: the cheapest setting costs 190 a problem"):
        compute_optimal(tried, HARD, 150, seed=0, price=90.0)


def test_where_a_bin_can_pay_for_nothing_it_takes_the_cheapest():
    costs = np.where(HARD == 0, 300.0, 10.0)
    tried = [Tried("small", np.zeros(N), costs), Tried("large", np.ones(N), 2 * costs)]
    found = compute_optimal(tried, HARD, 200, seed=0)
    assert set(np.array(found.names)[HARD == 0]) == {"small"}
    assert set(np.array(found.names)[HARD == 1]) == {"large"}


def test_equal_settings_the_cheaper_and_bins_of_one():
    same = [Tried("dear", np.ones(4), np.full(4, 9.0)), Tried("cheap", np.ones(4), np.ones(4))]
    found = compute_optimal(same, [0, 1, 2, 3], 10, seed=0)
    assert set(found.names) == {"cheap"}


def test_bins_keep_equal_problems_together():
    ease = np.array([0.0] * 50 + [0.5] * 30 + [1.0] * 20)
    bins = difficulty_bins(ease, 5)
    assert all(len(set(bins[ease == x])) == 1 for x in (0.0, 0.5, 1.0))
    assert (np.diff(bins) >= 0).all()
    with pytest.raises(ValueError, match=r"ease of shape \(2, 2\)"):
        difficulty_bins(np.ones((2, 2)))


def test_cost_of_reaching():
    curve = {100: 0.4, 400: 0.6, 1600: 0.5}
    assert cost_of_reaching(0.3, curve) == 100
    assert cost_of_reaching(0.7, curve) == float("inf")
    assert cost_of_reaching(0.6, curve) == 400
    assert cost_of_reaching(0.5, {100: 0.6, 200: 0.4, 400: 0.7}) == 100  # from the start


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"half: values .* need one number a problem"):
        compute_optimal([Tried("half", np.ones(2), np.ones(4))], [0] * 4, 1, seed=0)
    with pytest.raises(ValueError, match="0 settings"):
        compute_optimal([], [0, 0], 1, seed=0)
