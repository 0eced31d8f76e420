"""Which method, and how much of it, for problems as hard as these? Compute-optimal test time.

Snell et al. 2024 (arXiv 2408.03314, section 3.2): problems fall into bins by difficulty; in every
bin that setting is used which was right most often among those within the budget, chosen on one
half of the problems and measured on the other. Two ways to know the difficulty: by the true share
of right samples, which shows what could be had, and by an estimate, which has a price.

Deviations: a budget is one of tokens, or whatever unit the costs are in, instead of samples; the
price of an estimate is paid by every problem.

Are two methods to be compared, they must cost the same: `at_price` is what one of them brings at
the other's price, between the settings that it was tried at; `duels` compares. Taught in notebooks
08 and 09.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from workbench.analyse.compare import holm, paired
from workbench.analyse.metrics import Flags, Floats, Ints


@dataclass(frozen=True)
class Tried:
    """One setting of one method on all problems: is it right, and what did it cost? (problems,)

    `values` are 0 or 1, or the chance to be right; `costs` in tokens, FLOPs ... of all models.
    """

    name: str
    values: Floats
    costs: Floats

    def of(self, part: Flags | Ints) -> Tried:
        """The same on some of the problems, by flags or numbers."""
        return replace(self, values=self.values[part], costs=self.costs[part])


@dataclass(frozen=True)
class Strategy:
    """What a choice by bins brings: per problem the value and the cost, and who was chosen."""

    values: Floats  # (problems,)
    costs: Floats  # (problems,)
    names: list[str]  # of the setting, one a problem


def difficulty_bins(ease: ArrayLike, bins: int = 5) -> Ints:
    """Bins of about equal size, 0 the hardest: by the share of right samples, or an estimate of it.

    Problems of equal ease share a bin, so bins may be fewer, and unequal. (problems,)

    >>> difficulty_bins([0.0, 0.1, 0.5, 0.5, 0.9, 1.0], 3).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    ease = np.asarray(ease, float)
    if ease.ndim != 1 or not len(ease) or bins < 1:
        raise ValueError(f"ease of shape {ease.shape}, bins={bins}: need (problems,), one at least")
    borders = np.quantile(ease, np.arange(1, bins) / bins)
    return np.searchsorted(borders, ease, side="left").astype(np.int64)


def compute_optimal(
    tried: Sequence[Tried],
    bins: ArrayLike,
    budget: float,
    *,
    seed: int,
    folds: int = 2,
    price: ArrayLike = 0.0,
) -> Strategy:
    """In every bin the setting that was best on the *other* folds, within a budget a problem.

    A setting is within the budget if its mean cost over the choosing problems of the bin is, with
    the `price` of knowing the bin, one number or one a problem. Equal ones: the cheaper. In a bin
    where none is, the cheapest (look at the costs). `bins` are (problems,). ValueError if none is
    within the budget over all problems, or shapes differ.
    """
    bins, costs, values, price = _checked(tried, bins, price)
    if (least := float((costs + price).mean(1).min())) > budget:
        raise ValueError(f"budget={budget:g}: the cheapest setting costs {least:g} a problem")
    fold = np.random.default_rng(seed).permutation(len(bins)) % folds
    chosen = np.empty(len(bins), np.int64)
    for number in range(folds):
        for own in np.unique(bins):
            here, there = (bins == own) & (fold == number), (bins == own) & (fold != number)
            # a bin too small to be split chooses by all problems of the other folds
            there = there if there.any() else fold != number
            chosen[here] = _best(values[:, there], costs[:, there] + price[there], budget)
    at = chosen, np.arange(len(bins))
    return Strategy(values[at], costs[at] + price, [tried[int(i)].name for i in chosen])


def one_for_all(tried: Sequence[Tried], budget: float, *, seed: int, folds: int = 2) -> Strategy:
    """The best single setting within the budget, chosen in the same way, without any bins."""
    one_bin = np.zeros(len(tried[0].values), int)
    return compute_optimal(tried, one_bin, budget, seed=seed, folds=folds)


def at_price(tried: Sequence[Tried], price: float) -> Tried:
    """What a method brings at exactly this mean cost: a coin for each problem between two settings.

    `tried` are settings of one method, as growing numbers of samples; the coin falls for the next
    dearer one as often as it takes. So this can be had, and what grows ever slower can do a
    little better by a setting of its own there. Below the cheapest it is the cheapest, above the
    dearest that (look at the costs). ValueError for no settings.

    >>> few, many = (Tried(f"{n} samples", np.array([n / 8]), np.array([n])) for n in (2, 4))
    >>> at_price([few, many], 2.5)
    Tried(name='2 samples or 4 samples', values=array([0.3125]), costs=array([2.5]))
    """
    if not tried:
        raise ValueError("no settings: need one at least")
    ordered = sorted(tried, key=lambda one: one.costs.mean())
    place = float(np.interp(price, [one.costs.mean() for one in ordered], range(len(ordered))))
    below, share = ordered[int(place)], place % 1
    if not share:
        return below
    above = ordered[int(place) + 1]
    values = (1 - share) * below.values + share * above.values
    costs = (1 - share) * below.costs + share * above.costs
    return Tried(f"{below.name} or {above.name}", values, costs)


def within_reach(settings: Sequence[Tried], rivals: Sequence[Tried]) -> list[Tried]:
    """Those settings that cost no less than the cheapest rival, no more than the dearest."""
    prices = [one.costs.mean() for one in rivals]
    return [one for one in settings if min(prices) <= one.costs.mean() <= max(prices)]


def at_prices_of(settings: Sequence[Tried], rivals: Sequence[Tried]) -> list[Tried]:
    """For each setting what its rivals bring at its own mean cost, under its name.

    ValueError for one that is not `within_reach`: nothing that the rivals were tried at costs that.
    """
    near = [one.name for one in within_reach(settings, rivals)]
    if outside := [one.name for one in settings if one.name not in near]:
        names = ", ".join(outside)
        raise ValueError(f"{names}: cheaper or dearer than all that it is compared with")
    return [replace(at_price(rivals, one.costs.mean()), name=one.name) for one in settings]


def over_sizes(settings: Sequence[Tried]) -> list[Tried]:
    """Each method over all its sizes, "mcts 0", "mcts 1" ...: the mean of a problem, as "mcts"."""
    methods: dict[str, list[Tried]] = {}
    for one in settings:
        methods.setdefault(one.name.split()[0], []).append(one)
    means = {name: np.mean([(x.values, x.costs) for x in own], 0) for name, own in methods.items()}
    return [Tried(name, *own) for name, own in means.items()]


def duels(ours: Sequence[Tried], theirs: Sequence[Tried], *, seed: int) -> pd.DataFrame:
    """Each of ours against its namesake, problem by problem: a row each, as `compare.paired` says.

    Indexed by name; beside it stand our mean cost, as `tokens`, and p after Holm's correction for
    all rows. ValueError for names that differ.
    """
    names, others = [one.name for one in ours], [one.name for one in theirs]
    if names != others or not names:
        raise ValueError(f"{', '.join(names)} against {', '.join(others)}: need the same, in order")
    tests = [paired(a.values, b.values, seed=seed) for a, b in zip(ours, theirs)]
    costs = [round(one.costs.mean()) for one in ours]
    table = pd.DataFrame(tests, index=pd.Index(names, name="setting")).assign(tokens=costs)
    table["p (Holm)"] = holm(table["p"])
    return table


def intervals(table: pd.DataFrame, name: str) -> dict[str, tuple[float, float, float]]:
    """Of each duel the difference with its interval, for a log: `name` holds {} for who it was."""
    rows = table[["difference", "low", "high"]].itertuples(name=None)
    return {name.format(who): (mean, low, high) for who, mean, low, high in rows}


def cost_of_reaching(value: float, curve: Mapping[float, float]) -> float:
    """At what cost a curve {cost: value} first reaches a value: between points on a log scale.

    Infinity if it never does; the first cost if it does from the start.

    >>> cost_of_reaching(0.5, {100: 0.4, 400: 0.6})
    200.0
    """
    points = sorted(curve.items())
    if points and points[0][1] >= value:
        return float(points[0][0])
    for (left, low), (right, high) in pairwise(points):
        if low < value <= high:
            part = (value - low) / (high - low)
            return float(np.exp(np.log(left) + part * (np.log(right) - np.log(left))).round(9))
    return float("inf")


def _best(values: Floats, costs: Floats, budget: float) -> int:
    """The setting of the highest mean value within the budget: (settings, problems) each."""
    price = costs.mean(1)
    able = np.flatnonzero(price <= max(budget, price.min()))
    return int(min(able, key=lambda i: (-values[i].mean(), price[i])))


def _checked(
    tried: Sequence[Tried], bins: ArrayLike, price: ArrayLike
) -> tuple[Ints, Floats, Floats, Floats]:
    """Bins and price (problems,), costs and values (settings, problems)."""
    own = np.asarray(bins, np.int64)
    for one in tried:
        if one.values.shape != own.shape or one.costs.shape != own.shape:
            shapes = f"values {one.values.shape}, costs {one.costs.shape}, bins {own.shape}"
            raise ValueError(f"{one.name}: {shapes}: need one number a problem")
    if not tried or own.ndim != 1 or len(own) < 2:
        raise ValueError(f"{len(tried)} settings, bins {own.shape}: need a setting, two problems")
    costs, values = np.array([(one.costs, one.values) for one in tried]).swapaxes(0, 1)
    return own, costs, values, np.broadcast_to(np.asarray(price, float), own.shape)
