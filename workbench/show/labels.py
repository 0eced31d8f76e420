"""Where step labels go wrong, in one picture: right steps called bad, and wrong steps passed.

Data in, `Figure` out, in the style of `show.plots`. Taught in notebook 02.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from workbench.show.comparisons import _dot, _name_rows
from workbench.show.plots import _columns
from workbench.show.style import GREY, RED, headline, style_of

LOW_HIGH = ("value", "low", "high")


def label_errors(
    misses: pd.DataFrame, passes: pd.DataFrame, *, rollouts: int, title: str, subtitle: str
) -> Figure:
    """Right steps called bad, on the law (1 - p)^N, and wrong steps called good, in blocks.

    p is the chance that a completion ends right, `rollouts` is N. `misses` has columns method, p,
    value, low, high; `passes` has group (the heading of a block), name, n, value, low, high.
    """
    _columns(misses, ("method", "p", *LOW_HIGH))
    _columns(passes, ("group", "name", "n", *LOW_HIGH))
    height = max(4.6, 1.9 + 0.3 * (len(passes) + passes["group"].nunique()))
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, height), width_ratios=(1, 0.8))
    headline(fig, title, subtitle, right=0.35)
    fig.subplots_adjust(wspace=0.75)
    _misses(left, misses, rollouts)
    _passes(right, passes)
    return fig


def _misses(ax, misses: pd.DataFrame, rollouts: int) -> None:
    p = np.linspace(0, 1, 201)
    law = f"$(1-p)^{{{rollouts}}}$"
    ax.plot(p, (1 - p) ** rollouts, color=GREY, dashes=(5, 2), linewidth=1.5, label=law)
    for method, rows in misses.groupby("method", sort=False):
        style = style_of(method)
        errors = np.maximum([rows["value"] - rows["low"], rows["high"] - rows["value"]], 0)
        look = style.line() | {"linestyle": "none", "markeredgecolor": "white"}
        ax.errorbar(rows["p"], rows["value"], errors, elinewidth=1.3, capsize=2.5, **look)
    ax.set(xlabel="chance p that a completion ends right", ylabel="right steps called bad")
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper right")


def _passes(ax, passes: pd.DataFrame) -> None:
    ticks, y = [], 0.0
    for name, rows in passes.groupby("group", sort=False):
        y += 0.4 if ticks else 0
        ticks.append((y, str(name), True))
        for row in rows.to_dict("records"):
            y += 1
            ticks.append((y, f"{row['name']} ({row['n']:,})", False))
            _dot(ax, y, row, RED, "o")
        y += 1
    ax.set(xlabel="wrong steps called good", xlim=(-0.03, 1.03))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    _name_rows(ax, ticks)
