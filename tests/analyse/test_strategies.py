"""Compute-optimal choice against worlds in which the best choice is known."""

import numpy as np
import pytest

from workbench.analyse.compare import holm, paired
from workbench.analyse.strategies import (
    Tried,
    at_price,
    at_prices_of,
    compute_optimal,
    cost_of_reaching,
    difficulty_bins,
    duels,
    intervals,
    one_for_all,
    over_sizes,
    within_reach,
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


# -- at equal cost ---------------------------------------------------------------------------------


def test_between_two_settings_a_coin_costs_exactly_the_price():
    """Against tosses: of many problems a share takes the dearer setting, and that share pays."""
    rng = np.random.default_rng(0)
    few, many = (Tried(str(n), rng.random(50), rng.uniform(n, 2 * n, 50)) for n in (4, 8))
    price = 0.3 * few.costs.mean() + 0.7 * many.costs.mean()
    mixed = at_price([many, few], price)
    assert mixed.costs.mean() == pytest.approx(price) and mixed.name == "4 or 8"
    dearer = rng.random((20_000, 50)) < 0.7
    for side, most in (("values", 0.02), ("costs", 0.1)):
        tossed = np.where(dearer, getattr(many, side), getattr(few, side)).mean(0)
        assert tossed == pytest.approx(getattr(mixed, side), abs=most)


def test_outside_all_prices_it_is_the_nearest_setting():
    settings = [Tried(str(n), np.full(3, n / 10), np.full(3, float(n))) for n in (1, 2, 4)]
    for price, name in ((0.5, "1"), (1, "1"), (2, "2"), (4, "4"), (99, "4")):
        assert at_price(settings, price).name == name
    assert at_price(settings, 3).name == "2 or 4"
    assert at_price(settings[:1], 3).name == "1"
    with pytest.raises(ValueError, match="no settings: need one at least"):
        at_price([], 1)


def test_a_part_of_the_problems_has_its_own_price():
    """Hard problems are longer: there, too, both pay the same."""
    hard = np.array([False, True])
    search = [Tried("search", np.array([1.0, 1.0]), np.array([10.0, 30.0]))]
    votes = [Tried(str(n), np.array([1.0, n / 8]), np.array([2.0 * n, 6.0 * n])) for n in (4, 8)]
    for part, costs, difference in ((hard, [30], 3 / 8), (~hard, [10], 0), ([0, 1], None, 3 / 16)):
        own, theirs = ([one.of(part) for one in some] for some in (search, votes))
        (rival,) = rivals = at_prices_of(own, theirs)
        assert rival.name == "search" and (costs is None or rival.costs.tolist() == costs)
        assert duels(own, rivals, seed=0).loc["search", "difference"] == pytest.approx(difference)


def test_what_rivals_do_not_reach_is_no_duel():
    few, many = (Tried(str(n), np.zeros(2), np.full(2, float(n))) for n in (2, 4))
    settings = [Tried(f"a {n}", np.ones(2), np.full(2, float(n))) for n in (1, 2, 3, 4, 5)]
    near = within_reach(settings, [few, many])
    assert [one.name for one in near] == ["a 2", "a 3", "a 4"]
    with pytest.raises(ValueError, match="a 1, a 5: cheaper or dearer than all"):
        at_prices_of(settings, [few, many])
    table = duels(near, at_prices_of(near, [few, many]), seed=0)
    assert intervals(table, "x/{} minus y")["x/a 3 minus y"] == (1.0, 1.0, 1.0)


def test_over_its_sizes_a_method_is_its_mean():
    rng = np.random.default_rng(0)
    names = ("a 0", "b 0", "a 1")
    settings = [Tried(name, rng.random(5), rng.random(5) + i) for i, name in enumerate(names)]
    a, b = over_sizes(settings)
    assert (a.name, b.name) == ("a", "b") and b.values.tolist() == settings[1].values.tolist()
    assert a.values == pytest.approx((settings[0].values + settings[2].values) / 2)
    assert a.costs == pytest.approx((settings[0].costs + settings[2].costs) / 2)


def test_duels_are_paired_tests_corrected_for_their_number():
    rng = np.random.default_rng(1)
    ours, theirs = (
        [Tried(name, rng.integers(0, 2, 60).astype(float), np.full(60, 7.4)) for name in "abc"]
        for _ in range(2)
    )
    table = duels(ours, theirs, seed=3)
    for one, other in zip(ours, theirs):
        row = table.loc[one.name]
        assert tuple(row[:6]) == pytest.approx(paired(one.values, other.values, seed=3))
        assert row["tokens"] == 7
    assert table["p (Holm)"].tolist() == pytest.approx(list(holm(table["p"])))
    with pytest.raises(ValueError, match="a, b against b, a: need the same, in order"):
        duels(ours[:2], theirs[1::-1], seed=0)
