"""Is one method better than another? Comparisons over the same problems, two by two.

The interval is the paired bootstrap's (`metrics.paired_bootstrap`). The p-value is that of the
sign-flip permutation test (Fisher 1935): were both methods equal, each problem's difference could
as well have had the other sign. For right or wrong answers that is the exact test of McNemar
(1947), `mcnemar`. Of several comparisons Holm's step-down (1979), `holm`, keeps the chance of any
false finding below 5 %.

Deviations: problems where both do equally well are left out of the test, which is the same test and
lets more cases be counted out exactly; else signs are drawn and the p-value is (hits + 1) /
(draws + 1) (Phipson and Smyth 2010), never 0. Intervals are not widened for several comparisons, so
one may leave out 0 where no difference is shown. Taught in notebook 09.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from workbench.analyse.metrics import ROUNDING, Floats, paired_bootstrap, same_length

ALPHA = 0.05  # of `verdict`


class Paired(NamedTuple):
    """Mean difference a - b, its 95 % interval, two-sided p-value, problems won and lost by a."""

    difference: float
    low: float
    high: float
    p: float
    won: int
    lost: int


def paired(a: ArrayLike, b: ArrayLike, *, seed: int, draws: int = 10_000) -> Paired:
    """Is a better than b? Both hold one result per problem: right (1), wrong (0), or in between.

    ValueError for results outside [0, 1], or not of the same problems.

    >>> found = paired([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0], seed=0)
    >>> round(found.difference, 4), found.p, found.won, found.lost
    (0.8333, 0.0625, 5, 0)
    """
    a, b = _results("a", a), _results("b", b)
    interval = paired_bootstrap(a, b, seed=seed, draws=draws)
    difference = a - b  # (problems,)
    apart = difference[np.abs(difference) > ROUNDING]
    p = _sign_flip(apart, seed=seed, draws=draws)
    won, lost = int(np.sum(apart > 0)), int(np.sum(apart < 0))
    return Paired(interval.difference, interval.low, interval.high, p, won, lost)


def _sign_flip(difference: Floats, *, seed: int, draws: int) -> float:
    """Share of ways to turn signs whose sum is as far from 0 as ours; of draws, if too many.

    That is `scipy.stats.permutation_test` of one sample, which takes four times as long.
    """
    n = len(difference)
    if 2**n <= draws:
        parts, ours = iter([np.reshape([*product((1.0, -1.0), repeat=n)], (2**n, n))]), 0
        draws = 2**n
    else:
        rng, ours = np.random.default_rng(seed), 1
        sizes = [min(1000, draws - i) for i in range(0, draws, 1000)]  # all at once are gigabytes
        parts = (rng.choice([1.0, -1.0], (size, n)) for size in sizes)
    far = abs(difference.sum()) - ROUNDING
    hits = sum(int(np.sum(np.abs(signs @ difference) >= far)) for signs in parts)
    return (hits + ours) / (draws + ours)


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """Exact two-sided p-value for two methods, right (1) or wrong (0) on the same problems.

    Among the problems that only one of them gets right, each would win half; 1 if there are none.

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    0.0625
    """
    a, b = _results("a", a), _results("b", b)
    for name, results in (("a", a), ("b", b)):
        if (between := results[(results > 0) & (results < 1)]).size:
            raise ValueError(f"{name} holds {between[0]:g}: need 0 or 1 for each problem")
    same_length("a", a, "b", b)
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is then below the one
    before it, or above 1.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    given = _results("ps", ps)
    order = np.argsort(given)  # ascending
    times = np.arange(len(given), 0, -1)  # m, m - 1, ..., 1
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * times), 1.0)
    return [float(p) for p in adjusted]


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `paired` rows with Holm's p-values over all of them, and each verdict in words.

    Rows without a p-value (NaN) were not compared: their verdict is empty.
    """
    found = table["p"].notna()
    adjusted = pd.Series(np.nan, table.index)
    adjusted[found] = holm(table["p"][found].to_list())
    words = np.where(table["difference"] > 0, "ahead", "behind")
    words = np.where(adjusted < ALPHA, words, np.where(found, "no difference shown", ""))
    table = table.assign(verdict=words)
    table.insert(table.columns.get_loc("won"), "p_holm", adjusted)
    return table


def _results(name: str, values: ArrayLike) -> Floats:
    """One number in [0, 1] each, (n,); what a sum's last digit is too much is cut off."""
    values = np.asarray(values, float)
    if values.ndim != 1:
        raise ValueError(f"{name} of shape {values.shape}: need one number each, (n,)")
    if (wrong := values[~((values >= -ROUNDING) & (values <= 1 + ROUNDING))]).size:
        raise ValueError(f"{name} holds {wrong[0]:g}: need numbers from 0 to 1")
    clipped: Floats = np.clip(values, 0.0, 1.0)
    return clipped
