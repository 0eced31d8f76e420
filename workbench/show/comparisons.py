"""Figures that compare models or methods: by level, along training, by category, or side by side.

Data in, `Figure` out, in the style of `show.plots`. Taught in notebooks 00, 01 and 05.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from workbench.show.plots import _columns, _label_ends, _line
from workbench.show.style import INK, Style, headline, style_of

# where and how a dot's value is written: at the right, on its line
VALUE = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 10.5}
VALUE |= {"annotation_clip": False}


def level_plot(df: pd.DataFrame, *, title: str, subtitle: str) -> Figure:
    """Accuracy over level, one line per method; columns method, level, value and low, high."""
    _columns(df, ("method", "level", "value"))
    fig, ax = plt.subplots(figsize=(8, 4.6))
    headline(fig, title, subtitle, right=1.7)
    for method in df["method"].unique():
        _line(ax, df[df["method"] == method].sort_values("level"), "level", style_of(method))
    ax.set(xlabel="level (steps needed)", ylabel="accuracy", ylim=(-0.03, 1.03))
    ax.set_xticks(sorted(df["level"].unique()))
    _label_ends(ax)
    return fig


def token_curve(df: pd.DataFrame, *, title: str, subtitle: str) -> Figure:
    """Accuracy over training tokens, one line per level, light to dark.

    Columns: tokens, level, value and maybe low, high.
    """
    _columns(df, ("tokens", "level", "value"))
    fig, ax = plt.subplots(figsize=(8, 4.8))
    headline(fig, title, subtitle, right=1.5)
    levels = sorted(df["level"].unique())
    shades = map(to_hex, plt.get_cmap("cividis_r")(np.linspace(0.15, 1, len(levels))))
    for level, shade in zip(levels, shades):
        style = Style(f"level {level}", shade, "None")
        _line(ax, df[df["level"] == level].sort_values("tokens"), "tokens", style)
    ax.set(xlabel="tokens of training", ylabel="pass@1", ylim=(-0.03, 1.03))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:g} M"))
    _label_ends(ax)
    return fig


def bar_plot(df: pd.DataFrame, *, x: str, y: str, title: str, subtitle: str) -> Figure:
    """Horizontal bars: a group per value of column `y`, the largest on top, a bar per method."""
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
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g}%"))  # 2.5 is not 2
    ax.legend(loc="lower right")
    return fig


def dot_plot(
    df: pd.DataFrame, *, title: str, subtitle: str, xlabel: str, reference: float | None = None
) -> Figure:
    """A dot and its 95 % interval per method, one below the other.

    Columns: method, value, low, high. With a column `group` (all steps, same position, ...) each
    group is a block under its own heading; a column `label` says what stands beside a dot in place
    of the method's own; where a column `filled` is false the mark is hollow. `reference` draws a
    dashed line.
    """
    _columns(df, ("method", "value", "low", "high"))
    blocks = [(None, df)] if "group" not in df else list(df.groupby("group", sort=False))
    lines = len(df) + sum(name is not None for name, _ in blocks)
    names = df["label"] if "label" in df else [style_of(method).label for method in df["method"]]
    left = max(2.1, 0.085 * max(map(len, names)))  # inches; about so much a letter
    fig, ax = plt.subplots(figsize=(5.9 + left, 1.7 + 0.34 * lines))
    headline(fig, title, subtitle, left=left, right=0.75)
    ticks, y = [], 0.0  # (place, text, is it a heading)
    for name, rows in blocks:
        if name is not None:
            y += 0.4 if ticks else 0
            ticks.append((y, str(name), True))
            y += 1
        for row in rows.to_dict("records"):
            style = style_of(row["method"])
            ticks.append((y, row.get("label", style.label), False))
            _dot(ax, y, row, style.color, style.marker)
            ax.annotate(f"{row['value']:.3f}", (1.02, y), **VALUE)
            y += 1
    low, high = df["low"].min(), df["high"].max()
    if reference is not None:
        ax.axvline(reference, color=INK, dashes=(5, 2), linewidth=1.2, zorder=1)
        low, high = min(low, reference), max(high, reference)
    ax.set(xlim=(low - 0.04 * (high - low), high + 0.04 * (high - low)), xlabel=xlabel)
    _name_rows(ax, ticks)
    return fig


def _dot(ax, y: float, row: Mapping[str, Any], color: str, marker: str) -> None:
    bar = {"color": color, "linewidth": 2.5, "solid_capstyle": "butt", "alpha": 0.55}
    ax.plot([row["low"], row["high"]], [y, y], **bar)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6}
    if not row.get("filled", True):
        edge = {"markeredgecolor": color, "markeredgewidth": 1.6, "markerfacecolor": "white"}
    ax.plot(row["value"], y, color=color, marker=marker, **edge)


def _name_rows(ax, ticks: Sequence[tuple[float, str, bool]]) -> None:
    """Names on the left, headings bold; the first row on top."""
    ax.set_yticks([y for y, _, _ in ticks], [text for _, text, _ in ticks])
    for label, (_, _, is_heading) in zip(ax.get_yticklabels(), ticks):
        label.set(color=INK, fontweight="bold" if is_heading else "normal")
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)
    ax.set_ylim(ticks[-1][0] + 0.6, -0.6)
