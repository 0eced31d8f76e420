"""Where step labels go wrong, in one picture: right steps missed, over the completer's chance, and
wrong steps passed.

Data in, `Figure` out, in the style of `show.plots`. Taught in notebook 02.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from workbench.show.comparisons import _name_rows
from workbench.show.plots import _columns
from workbench.show.style import GREY, RED, headline, style_of

LOW_HIGH = ("value", "low", "high")


def label_errors(
    misses: pd.DataFrame, passes: pd.DataFrame, *, rollouts: int, title: str, subtitle: str
) -> Figure:
    """Left: share of right steps called bad over the chance p that a completion ends right, on the
    law (1 - p)^N.

    Right: share of wrong steps called good, in blocks. `misses` has columns method, p, value, low,
    high; `passes` has group (the heading of a block), name, n, value, low, high. `rollouts` is N.
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
    ax.plot(
        p,
        (1 - p) ** rollouts,
        color=GREY,
        dashes=(5, 2),
        linewidth=1.5,
        label=f"$(1-p)^{{{rollouts}}}$",
    )
    for method, rows in misses.groupby("method", sort=False):
        style = style_of(method)
        errors = np.maximum([rows["value"] - rows["low"], rows["high"] - rows["value"]], 0)
        look = {
            "color": style.color,
            "marker": style.marker,
            "linestyle": "none",
            "label": style.label,
        }
        ax.errorbar(
            rows["p"],
            rows["value"],
            errors,
            elinewidth=1.3,
            capsize=2.5,
            markeredgecolor="white",
            **look,
        )
    ax.set(
        xlabel="chance p that a completion ends right",
        ylabel="right steps called bad",
        ylim=(-0.03, 1.03),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper right")


def _passes(ax, passes: pd.DataFrame) -> None:
    ticks, y = [], 0.0
    for name, rows in passes.groupby("group", sort=False):
        y += 0.4 if ticks else 0
        ticks.append((y, str(name), True))
        for row in rows.itertuples():
            y += 1
            ticks.append((y, f"{row.name} ({row.n:,})", False))
            ax.plot(
                [row.low, row.high],
                [y, y],
                color=RED,
                linewidth=2.5,
                solid_capstyle="butt",
                alpha=0.55,
            )
            ax.plot(
                row.value, y, color=RED, marker="o", markeredgecolor="white", markeredgewidth=0.6
            )
        y += 1
    ax.set(xlabel="wrong steps called good", xlim=(-0.03, 1.03))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    _name_rows(ax, ticks)
