"""What a sweep measured, as tables: one tidy one, a row per point; the spread over seeds; curves.

A completed point's metrics come from its manifest. The headline metrics, which page and figure
show, are the first six logged that are not the same in all points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from workbench.commands.grid import COLUMNS, Point, swept
from workbench.show.cards import cell_text
from workbench.show.page import metric_rows
from workbench.show.progress import duration

HEADLINES = 6


def tidy(points: Sequence[Point], results: Sequence[Mapping]) -> pd.DataFrame:
    """One row per completed point and metric: the parameters, metric, value, low, high."""
    done = [pair for pair in zip(points, results) if pair[1]["status"] != "failed"]
    rows = [point.values | row for point, r in done for row in metric_rows(r["metrics"])]
    table = pd.DataFrame(rows, columns=[*points[0].values, *COLUMNS])
    return table.astype({name: float for name in COLUMNS[1:]})


def headlines(table: pd.DataFrame) -> list[str]:
    """The metrics to show: the first ones that vary; where none does, the first ones."""
    metrics = list(table["metric"].unique())
    kinds = table.groupby("metric")["value"].nunique()
    return ([name for name in metrics if kinds[name] > 1] or metrics)[:HEADLINES]


def by_point(
    points: Sequence[Point], results: Sequence[Mapping], metrics: Sequence[str]
) -> list[dict[str, object]]:
    """Rows to read: the point's parameters, how it ended, its headline metrics in words."""
    rows = []
    for point, result in zip(points, results):
        row = {**point.values, "status": result["status"], "time": duration(result["seconds"])}
        found = {} if result["status"] == "failed" else result["metrics"]
        rows.append(row | {name: in_words(found.get(name)) for name in metrics})
    return rows


def in_words(value: float | Sequence[float] | None) -> str:
    """A metric as a cell: `0.4`, or with its interval `0.4 (0.3 to 0.5)`.

    >>> in_words([0.4, 0.3, 0.5]), in_words(2)
    ('0.4 (0.3 to 0.5)', '2')
    """
    if isinstance(value, list):
        middle, low, high = map(cell_text, value)
        return f"{middle} ({low} to {high})"
    return cell_text(value)


def over_seeds(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean, spread (standard deviation), lowest and highest over `seed`, a row per combination."""
    others = [name for name in table if name not in ("seed", *COLUMNS)]
    groups = table[table["metric"].isin(metrics)].groupby([*others, "metric"], sort=False)["value"]
    found = {"mean": "mean", "spread": "std", "lowest": "min", "highest": "max", "seeds": "count"}
    return groups.agg(**found).reset_index()


def curves(
    table: pd.DataFrame, points: Sequence[Point], metrics: Sequence[str]
) -> tuple[pd.DataFrame, str, list]:
    """What the figure draws, the parameter on its x axis, and the values that stand there.

    x is the first parameter swept but `seed`; each combination of the others is a line. Where
    `seed` is swept as well a line is its mean, and the band reaches from lowest to highest.
    Columns: place (of the value on x), metric, value, low, high and, of several lines, run.
    """
    values = swept(points)
    x = next((name for name in [*values, *points[0].values] if name != "seed"), "seed")
    x = x if x in values or not values else next(iter(values))
    shown = table[table["metric"].isin(metrics)]
    if "seed" in values and x != "seed":
        ends = {"mean": "value", "lowest": "low", "highest": "high"}
        shown = over_seeds(table, metrics).rename(columns=ends)
    places = values.get(x, [points[0].values[x]])
    drawn = shown.assign(place=[places.index(value) for value in shown[x]])
    if lines := [name for name in values if name not in ("seed", x)]:
        names = [", ".join(f"{n}={v}" for n, v in zip(lines, row)) for row in drawn[lines].values]
        drawn["run"] = names
    return drawn, x, places
