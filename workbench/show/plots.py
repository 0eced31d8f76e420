"""The figures of the notebooks: scaling curves over a budget, and training curves.

Data in, `Figure` out. The title is the finding, the subtitle says n, seeds and model; bands are 95
% intervals over problems; the dashed black line is the ceiling (pass@N), the dotted grey one the
floor (greedy). Taught in notebook 00.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from workbench.show.style import BLACK, FAINT, GREY, Style, budget_axis, headline, style_of


def _columns(frame: pd.DataFrame, needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in frame.columns]:
        known = ", ".join(map(str, frame.columns))
        raise ValueError(f"columns {', '.join(missing)} are missing; there are {known}")
    if frame.empty:
        raise ValueError("no rows to plot")


def scaling_plot(
    curves: pd.DataFrame,
    *,
    title: str,
    subtitle: str,
    ceiling: Mapping[int, float] | float | None = None,
    floor: float | None = None,
    unit: str = "samples per problem",
    ylabel: str = "accuracy",
) -> Figure:
    """Accuracy over budget, one labelled line per method.

    `curves` has columns method, budget, value and maybe low, high; `ceiling` is one number or
    {budget: value}. ValueError for missing columns or a method without a style.
    """
    _columns(curves, ("method", "budget", "value"))
    fig, ax = plt.subplots(figsize=(8, 4.8))
    headline(fig, title, subtitle, right=2.1)
    _draw(ax, curves, ceiling, floor, unit)
    ax.set_ylabel(ylabel)
    _label_ends(ax)
    return fig


def scaling_by_level(curves: pd.DataFrame, *, title: str, subtitle: str) -> Figure:
    """The scaling plot as small multiples, one per value of the column `level`."""
    _columns(curves, ("level", "method", "budget", "value"))
    ordered = curves.sort_values("level", kind="stable")
    named = ordered.assign(panel=[f"level {level}" for level in ordered["level"]])
    return scaling_panels(named, title=title, subtitle=subtitle)


def scaling_panels(
    curves: pd.DataFrame,
    *,
    title: str,
    subtitle: str,
    unit: str = "samples per problem",
    ylabel: str = "accuracy",
) -> Figure:
    """The scaling plot as small multiples, one per value of the column `panel`."""
    _columns(curves, ("panel", "method", "budget", "value"))
    panels = list(curves["panel"].unique())
    fig, axes = _panels(len(panels), title, subtitle, sharey=True)
    for ax, panel in zip(axes.flat, panels):
        _draw(ax, curves[curves["panel"] == panel], None, None, unit)
        ax.set_title(panel, loc="left", color=FAINT)
        ax.set_xlabel("")
    lines = {line.get_label(): line for ax in axes.flat for line in ax.get_lines()}
    _below(fig, f"{unit} (log₂)", lines)
    for row in axes:
        row[0].set_ylabel(ylabel)
    return fig


def _panels(n: int, title: str, subtitle: str, *, sharey: bool = False):
    """A figure of `n` small panels, at most four a row, and its axes: (rows, columns)."""
    rows = -(-n // 4)
    columns = -(-n // rows)
    each = (3.9, 3.1) if n == 2 else (2.75, 2.5)  # two have room
    width, height = max(each[0] * columns + 1.0, 6.0), each[1] * rows + 1.9
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), sharey=sharey, squeeze=False)
    headline(fig, title, subtitle, above=0.45)
    fig.subplots_adjust(hspace=0.38, wspace=0.12 if sharey else 0.3)
    for ax in axes.flat[n:]:
        ax.set_visible(False)
    return fig, axes


def _below(fig: Figure, label: str, lines: Mapping[str, object]) -> None:
    """The common x label and, in as many columns as fit, the legend, below the panels."""
    width, height = fig.get_size_inches()
    columns = max(1, int(width / (0.6 + 0.08 * max(map(len, lines), default=1))))
    rows = -(-len(lines) // columns)
    fig.subplots_adjust(bottom=(0.72 + 0.24 * rows) / height)
    fig.text(0.5, (0.18 + 0.24 * rows) / height, label, ha="center")
    if lines:
        look = {"ncols": columns, "columnspacing": 1.4, "handlelength": 1.8, "borderaxespad": 0.2}
        fig.legend(lines.values(), lines, loc="lower center", **look)


def _draw(ax, curves: pd.DataFrame, ceiling, floor: float | None, unit: str) -> None:
    """Lines and bands of all methods, ceiling and floor."""
    budgets = sorted(curves["budget"].unique())
    for method in curves["method"].unique():
        rows = curves[curves["method"] == method].sort_values("budget")
        _line(ax, rows, "budget", style_of(method))
    if ceiling is not None:
        points = ceiling if isinstance(ceiling, Mapping) else dict.fromkeys(budgets, ceiling)
        look = {"color": BLACK, "dashes": (5, 2), "linewidth": 1.5, "label": "pass@N"}
        ax.plot(sorted(points), [points[b] for b in sorted(points)], **look)
    if floor is not None:
        look = {"color": GREY, "dashes": (1, 1.5), "linewidth": 1.5, "label": "greedy"}
        ax.plot(budgets, [floor] * len(budgets), **look)
    budget_axis(ax, budgets, unit)


def _line(ax, rows: pd.DataFrame, x: str, style: Style) -> None:
    look = style.line() | {"markeredgecolor": "white", "markeredgewidth": 0.8}
    ax.plot(rows[x], rows["value"], **look)
    if {"low", "high"} <= set(rows.columns) and rows["low"].notna().any():
        band = {"color": style.color, "alpha": 0.13, "linewidth": 0}
        ax.fill_between(rows[x], rows["low"], rows["high"], **band)


def _label_ends(ax) -> None:
    """Write each line's name beside its right end, moved apart where names would touch."""
    lines = ax.get_lines()
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in lines]
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = [to_axes.transform(end)[1] for end in ends]
    gap = 0.21 / (ax.get_position().height * ax.figure.get_figheight())  # inches: a line of text
    at = {"textcoords": "axes fraction", "va": "center", "fontsize": 10.5, "annotation_clip": False}
    leader = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 5, "alpha": 0.7}
    for line, end, place in zip(lines, ends, spread(wanted, gap)):
        color = line.get_color()
        at["color"] = FAINT if color == GREY else color
        arrow = leader | {"color": color}
        ax.annotate(line.get_label(), xy=end, xytext=(1.045, place), arrowprops=arrow, **at)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """The nearest positions in the same order that are at least `gap` apart (least squares).

    >>> spread([0.5, 0.5, 0.9], 0.1)
    [0.45, 0.55, 0.9]
    """
    order = np.argsort(wanted, kind="stable")
    gaps, placed = gap * np.arange(len(order)), np.empty(len(order))
    placed[order] = isotonic_regression(np.asarray(wanted)[order] - gaps).x + gaps
    return placed.round(6).tolist()


def training_curve(
    df: pd.DataFrame,
    *,
    title: str,
    subtitle: str,
    metrics: Sequence[str] | None = None,
    smooth: int = 1,
    xlabel: str = "update",
    sharey: bool = False,
) -> Figure:
    """Metrics over updates (or what `xlabel` calls the column `update`), one panel each.

    `df` has columns update, metric, value and maybe run, low, high. With `smooth` > 1 the line is a
    running mean over that many updates and the raw values stay behind it, faint. Panels of one unit
    can have one scale (`sharey`).
    """
    _columns(df, ("update", "metric", "value"))
    metrics = list(metrics or df["metric"].unique())
    if unknown := [m for m in metrics if m not in set(df["metric"])]:
        known = ", ".join(df["metric"].unique())
        raise ValueError(f"metrics {', '.join(unknown)} are not in the data; there are {known}")
    fig, axes = _panels(len(metrics), title, subtitle, sharey=sharey)
    drawn = df[df["metric"].isin(metrics)]
    runs = list(drawn["run"].unique()) if "run" in df else ["run"]  # one style each in all panels
    for ax, metric in zip(axes.flat, metrics):
        _training_panel(ax, df[df["metric"] == metric], smooth, runs)
        ax.set_title(metric, loc="left")
    named = {line.get_label(): line for ax in axes.flat for line in ax.get_lines()}
    lines = {label: line for label, line in named.items() if not label.startswith("_")}
    _below(fig, xlabel, lines if len(lines) > 1 else {})
    return fig


def _training_panel(ax, rows: pd.DataFrame, smooth: int, runs: Sequence[str]) -> None:
    for i, run in enumerate(runs):
        part = (rows[rows["run"] == run] if "run" in rows else rows).sort_values("update")
        if part.empty:  # it has no such metric
            continue
        style = style_of(run, i)
        marker = style.marker if len(part) <= 30 else "None"
        if smooth > 1:
            ax.plot(part["update"], part["value"], color=style.color, alpha=0.25, linewidth=1)
            running = part["value"].rolling(smooth, min_periods=1, center=True)
            part = part.assign(value=running.mean())
        _line(ax, part, "update", replace(style, marker=marker))
    ax.margins(x=0.02)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
