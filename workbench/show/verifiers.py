"""How good a verifier is, in pictures: reliability, AUC, and the wrong solutions it likes best.

Data in (from `workbench.analyse.verifiers`), `Figure` or HTML out, in the style of `show.plots`.
Taught in notebooks 03, 04.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench.analyse.metrics import aggregate
from workbench.show.cards import GREY as TINT
from workbench.show.comparisons import dot_plot
from workbench.show.plots import _columns
from workbench.show.steps import solution_strip
from workbench.show.style import GREY, headline, style_of
from workbench.types import Problem

CALIBRATION = ("low_edge", "high_edge", "mean_score", "share_right", "n", "low", "high")


def reliability_plot(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], *, title: str, subtitle: str
) -> Figure:
    """Share of right steps over their mean score, with Wilson intervals; below, how many they are.

    `rows` are those of `reliability`; with a column `method` each method gets its own points.
    """
    df = pd.DataFrame(rows)
    _columns(df, CALIBRATION)
    df = df if "method" in df else df.assign(method="prm")
    fig, (ax, below) = plt.subplots(2, 1, figsize=(6.4, 6.2), sharex=True, height_ratios=(3.2, 1))
    headline(fig, title, subtitle, left=0.95)
    fig.subplots_adjust(hspace=0.09)
    ax.plot([0, 1], [0, 1], color=GREY, dashes=(5, 2), linewidth=1.5, label="score = share right")
    methods = list(df["method"].unique())
    share = 1 / len(methods)
    for i, method in enumerate(methods):
        _calibration(ax, below, df[df["method"] == method], method, i * share, share)
    ax.set(ylabel="share of right steps", xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    ax.legend(loc="upper left")
    below.set(xlabel="score of the step", ylabel="steps")
    below.yaxis.set_major_locator(plt.MaxNLocator(3, integer=True))
    below.yaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    fig.align_ylabels()
    return fig


def _calibration(ax, below, rows: pd.DataFrame, method: str, start: float, share: float) -> None:
    """Points and bars of a method; bars take the `share` of a bin's width from `start` on."""
    style, right = style_of(method), rows["share_right"]
    errors = np.maximum([right - rows["low"], rows["high"] - right], 0)
    look = style.line() | {"markeredgecolor": "white", "markeredgewidth": 0.8}
    ax.errorbar(rows["mean_score"], right, errors, elinewidth=1.3, capsize=2.5, **look)
    width = rows["high_edge"] - rows["low_edge"]
    left = rows["low_edge"] + width * (0.05 + 0.9 * start)
    below.bar(left, rows["n"], width * 0.9 * share, align="edge", color=style.color, alpha=0.75)


def auc_bars(
    df: pd.DataFrame, *, title: str, subtitle: str, xlabel: str = "AUC over steps"
) -> Figure:
    """A `dot_plot` of AUCs with a dashed line for guessing; see there for the columns."""
    xlabel = f"{xlabel} (dashed: guessing)"
    return dot_plot(df, title=title, subtitle=subtitle, xlabel=xlabel, reference=0.5)


def exploit_gallery(
    rows: Iterable[tuple[Problem, Sequence[str], Sequence[float], bool]],
    *,
    how: str = "min",
    limit: int = 5,
) -> str:
    """The wrong solutions that a verifier scored highest, each text once, as folds, the first open.

    `rows` are (problem, steps, step scores, is its answer right?); `how` aggregates step scores, as
    in best of n.
    """
    wrong = {
        (problem.id, tuple(steps)): (aggregate(scores, how), problem, steps, scores)
        for problem, steps, scores, right in rows
        if not right
    }
    if not wrong:
        return "<p>(no wrong solutions)</p>"
    worst = sorted(wrong.values(), key=lambda row: -row[0])[:limit]
    return "".join(_exploit(i, how, *row) for i, row in enumerate(worst))


def _exploit(
    i: int, how: str, score: float, problem: Problem, steps: Sequence[str], scores: Sequence[float]
) -> str:
    facts = [f"{how} score {score:.2f}", problem.id]
    facts += [f"level {problem.level}"] if problem.level is not None else []
    facts += [f"right answer {problem.answer}"] if problem.answer is not None else []
    style = f"padding:3px 10px;margin-top:6px;cursor:pointer;background-color:{TINT}"
    head = f'<summary style="{style}">{escape(" · ".join(facts))}</summary>'
    strip = solution_strip(problem, steps, scores)
    return f"<details{' open' if i == 0 else ''}>{head}{strip}</details>"
