"""What a sweep leaves behind: sweep.csv, a figure of it, and a page that shows both.

The page lies beside the points' own folders and links to their reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from workbench.commands.grid import Point, swept
from workbench.commands.sweep_table import by_point, curves, headlines, over_seeds, tidy
from workbench.show.cards import escape
from workbench.show.cards import table as html_table
from workbench.show.page import PAGE
from workbench.show.plots import training_curve
from workbench.show.style import use_style


def write_sweep(
    folder: Path, points: Sequence[Point], results: Sequence[Mapping], profile: str
) -> Path:
    """Write sweep.csv, sweep.png and sweep.html of the points that completed; returns the page."""
    table = tidy(points, results)
    table.to_csv(folder / "sweep.csv", index=False, lineterminator="\n")
    metrics = headlines(table)
    title = f"Sweep of {points[0].job.name}, {profile} profile"
    if metrics:
        fig = sweep_figure(table, points, metrics, title)
        fig.savefig(folder / "sweep.png", metadata={"Software": None})
        plt.close(fig)
    path = folder / "sweep.html"
    body = "\n".join(_sections(table, points, results, metrics))
    path.write_text(PAGE.format(title=escape(title), body=body), encoding="utf-8")
    return path


def sweep_figure(
    table: pd.DataFrame, points: Sequence[Point], metrics: Sequence[str], title: str
) -> Figure:
    """One panel a metric: it over the first swept parameter, a line for each value of the others.

    The values stand at equal distances, whatever lies between them, so that 0 and words fit, too.
    """
    use_style()
    drawn, x, places = curves(table, points, metrics)
    averaged = "seeds" in drawn
    band = "mean over seeds, band from lowest to highest" if averaged else "band: logged interval"
    completed = f"{len(table.drop_duplicates([*points[0].values]))} of {len(points)} points"
    named = drawn.rename(columns={"place": "update"})
    looks = {"title": title, "subtitle": f"{completed}; {band}", "metrics": metrics}
    fig = training_curve(named, **looks, xlabel=x)
    for ax, metric in zip(fig.axes, metrics):
        ax.set_title(metric, loc="left", fontsize=11 if len(metric) <= 28 else 9)
        ax.set_xticks(range(len(places)), [str(value) for value in places])
        ax.set_xlim(-0.2, len(places) - 0.8)
    return fig


def _sections(
    table: pd.DataFrame, points: Sequence[Point], results: Sequence[Mapping], metrics: Sequence[str]
) -> list[str]:
    parts = ['<p>All metrics of all points: <a href="sweep.csv">sweep.csv</a>.</p>']
    if metrics:
        words = escape(", ".join(metrics))
        parts.append(f'<figure><img src="sweep.png" alt="over the sweep: {words}"></figure>')
    parts += ["<h2>Points</h2>", _wide(html_table(by_point(points, results, metrics)))]
    if "seed" in swept(points) and metrics:
        rows = over_seeds(table, metrics).astype(object).to_dict("records")
        rows = [{n: None if pd.isna(v) else v for n, v in row.items()} for row in rows]
        note = "<p>Spread: the standard deviation over seeds.</p>"
        parts += ["<h2>Over seeds</h2>", note, _wide(html_table(rows))]
    links = "\n".join(_link(point, result) for point, result in zip(points, results))
    return [*parts, f"<h2>Reports</h2>\n<ul>\n{links}\n</ul>"]


def _wide(html: str) -> str:
    """A table that scrolls by itself where it does not fit."""
    return f'<div style="overflow-x:auto">{html}</div>'


def _link(point: Point, result: Mapping) -> str:
    link = f'<a href="{quote(point.name)}/report.html">{escape(point.name)}</a>'
    error = f"<pre>{escape(result['error'])}</pre>" if result.get("error") else ""
    return f"<li>{link}: {escape(result['status'])}{error}</li>"
