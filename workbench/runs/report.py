"""The report of a batch: a table of what ran, how long it took and what it measured, with its
figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.runs.track import duration
from workbench.show.cards import cell_text, plain_table


def metric_text(value: object) -> str:
    """A metric as people read it: 0.41 or 0.41 [0.38, 0.44]."""
    if isinstance(value, list):
        return f"{cell_text(value[0])} [{cell_text(value[1])}, {cell_text(value[2])}]"
    return cell_text(value)


def report_rows(results: Sequence[Mapping], *, metrics: int = 3) -> list[dict[str, str]]:
    """One row per notebook: its name, status, time and first few metrics."""
    return [
        {
            "notebook": r["notebook"],
            "status": r["status"],
            "time": duration(r["seconds"]),
            "metrics": "  ".join(
                f"{k} {metric_text(v)}" for k, v in list(r.get("metrics", {}).items())[:metrics]
            ),
        }
        for r in results
    ]


def report_text(results: Sequence[Mapping]) -> str:
    """The table for a terminal."""
    return plain_table(report_rows(results))


def write_report(folder: Path, results: Sequence[Mapping], profile: str) -> Path:
    """Write report.md into the batch folder: the table, the errors, all metrics and the figures."""
    lines = [f"# {profile} run", "", "| notebook | status | time | metrics |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row.values())} |" for row in report_rows(results, metrics=99)]
    for r in results:
        if r.get("error"):
            lines += ["", f"**{r['notebook']}** failed: {r['error']}"]
        for figure in r.get("figures", []):
            lines += ["", f"![{r['notebook']}: {figure}](figures/{r['notebook']}/{figure}.png)"]
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n")
    return path
