"""The frame of all pages that are written for people, and their tables of metrics."""

from __future__ import annotations

from collections.abc import Mapping

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif }}
h2 {{ margin-top: 3rem; padding-top: 1rem; border-top: 1px solid rgba(128, 128, 128, .4) }}
table {{ margin: 1rem 0; font-variant-numeric: tabular-nums }}
th, td {{ padding: 3px 14px 3px 6px; text-align: left }}
td {{ border-top: 1px solid rgba(128, 128, 128, .2) }}
img {{ max-width: 100%; height: auto; background: white }}
pre {{ padding: .8rem; white-space: pre-wrap; background: rgba(213, 94, 0, .15) }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def metric_rows(metrics: Mapping[str, float | list[float]]) -> list[dict[str, object]]:
    """Logged metrics as rows of a table: metric, value, and the ends of its interval."""
    full = {name: v if isinstance(v, list) else [v, None, None] for name, v in metrics.items()}
    return [dict(zip(("metric", "value", "low", "high"), (name, *full[name]))) for name in full]
