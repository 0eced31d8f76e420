"""The report of a batch for people: one HTML page, a section a notebook.

The page needs only the figures and notebooks that lie beside it, and follows a light or dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from workbench.show.cards import escape, table
from workbench.show.page import PAGE, metric_rows
from workbench.show.progress import duration

SHOWN = 12  # metrics, those that texts state first; the others are folded away


def write_report(
    folder: Path, results: Sequence[Mapping], profile: str, headlines: Sequence[str] = ()
) -> Path:
    """Write report.html into the batch's folder.

    `headlines` are metrics, as `notebook/metric`, that stand first (`claims.claimed`).
    """
    line = '<tr><td><a href="#{0}">{0}</a></td><td>{1}</td><td>{2}</td></tr>'
    ends = [(escape(r["notebook"]), _status(r), duration(r["seconds"])) for r in results]
    sections = "\n".join(_section(folder, result, headlines) for result in results)
    title = f"Notebooks, {profile} profile"
    path = folder / "report.html"
    head = "<thead><tr><th>notebook</th><th>status</th><th>time</th></tr></thead>"
    lines = "\n".join([head, *(line.format(*end) for end in ends)])
    contents = f'<table style="border-collapse:collapse">\n{lines}\n</table>'
    page = PAGE.format(title=escape(title), body=f"{contents}\n{sections}")
    path.write_text(page, encoding="utf-8")
    return path


def _status(result: Mapping) -> str:
    return f"{'✗' if result['status'] == 'failed' else '✓'} {result['status']}"


def _section(folder: Path, result: Mapping, headlines: Sequence[str]) -> str:
    name, facts = result["notebook"], [_status(result), duration(result["seconds"])]
    if (folder / f"{name}.ipynb").is_file():
        facts.append(f'<a href="{quote(name)}.ipynb">executed notebook</a>')
    parts = [f'<h2 id="{escape(name)}">{escape(name)}</h2>', f"<p>{' · '.join(facts)}</p>"]
    if result.get("error"):
        parts.append(f"<pre>{escape(result['error'])}</pre>")
    metrics = result.get("metrics", {})
    own = [line.removeprefix(f"{name}/") for line in headlines if line.startswith(f"{name}/")]
    first = {metric: metrics[metric] for metric in own if metric in metrics}
    rows = metric_rows(first | metrics)
    if rows:
        parts.append(table(rows[:SHOWN]))
    if more := rows[SHOWN:]:
        summary = f"<summary>{len(more)} more metrics</summary>"
        parts.append(f"<details>{summary}{table(more)}</details>")
    for figure in result.get("figures", []):
        source, words = quote(f"figures/{name}/{figure}.png"), escape(figure.replace("_", " "))
        image = f'<img src="{source}" alt="{escape(name)}: {words}" loading="lazy">'
        parts.append(f"<figure>{image}<figcaption>{words}</figcaption></figure>")
    return "\n".join(parts)
