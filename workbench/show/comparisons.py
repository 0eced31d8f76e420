"""Figures that compare models or methods: by level, along training, and by category.

Data in, `Figure` out, in the style of `show.plots`. Taught in notebooks 00 and 01.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from workbench.show.plots import _columns, _label_ends, _line
from workbench.show.style import Style, headline, style_of


def level_plot(
    df: pd.DataFrame, *, title: str, subtitle: str, ylabel: str = "accuracy", xlabel: str = "level (steps needed)"
) -> Figure:
    """Accuracy over the level of the problems, one line per method; columns method, level, value and low, high."""
    _columns(df, ("method", "level", "value"))
    fig, ax = plt.subplots(figsize=(8, 4.6))
    headline(fig, title, subtitle, right=1.7)
    for method in df["method"].unique():
        _line(ax, df[df["method"] == method].sort_values("level"), "level", style_of(method))
    ax.set(xlabel=xlabel, ylabel=ylabel, xticks=sorted(df["level"].unique()), ylim=(-0.03, 1.03))
    _label_ends(ax, [line.get_label() for line in ax.get_lines()])
    return fig


def token_curve(df: pd.DataFrame, *, title: str, subtitle: str, ylabel: str = "pass@1") -> Figure:
    """Accuracy over training tokens, one line per level, light to dark; columns tokens, level, value and low, high."""
    _columns(df, ("tokens", "level", "value"))
    fig, ax = plt.subplots(figsize=(8, 4.8))
    headline(fig, title, subtitle, right=1.5)
    levels = sorted(df["level"].unique())
    shades = map(to_hex, plt.get_cmap("cividis_r")(np.linspace(0.15, 1, len(levels))))
    for level, shade in zip(levels, shades):
        style = Style(f"level {level}", shade, "None")
        _line(ax, df[df["level"] == level].sort_values("tokens"), "tokens", style)
    ax.set(xlabel="tokens of training", ylabel=ylabel, ylim=(-0.03, 1.03))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:g} M"))
    _label_ends(ax, [line.get_label() for line in ax.get_lines()])
    return fig


def bar_plot(df: pd.DataFrame, *, x: str, y: str, title: str, subtitle: str) -> Figure:
    """Horizontal bars, one group per value of column `y`, one bar per method; the largest group on top."""
    _columns(df, ("method", x, y))
    order = df.groupby(y)[x].sum().sort_values().index
    methods = list(df["method"].unique())
    fig, ax = plt.subplots(figsize=(8, 1.7 + 0.5 * len(order)))
    headline(fig, title, subtitle, left=1.9)
    height = 0.8 / len(methods)
    for i, method in enumerate(methods):
        rows = df[df["method"] == method].set_index(y)[x].reindex(order).fillna(0)
        at = np.arange(len(order)) + (len(methods) / 2 - i - 0.5) * height
        style = style_of(method)
        ax.barh(at, rows, height * 0.9, color=style.color, label=style.label)
    ax.set_yticks(range(len(order)), order)
    ax.set_xlabel(x)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    ax.legend(loc="lower right")
    return fig
