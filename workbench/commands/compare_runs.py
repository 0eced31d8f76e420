"""`python -m workbench compare RUN_A RUN_B`: what two runs did differently, and what came of it.

For every notebook in both: which parameters, code and data differ; all metrics side by side;
results per problem as paired differences; the figures. Intervals that overlap say little: on equal
problems the paired difference is the sharper question. The page is one file, figures included.
"""

from __future__ import annotations

from argparse import Namespace
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.commands.per_problem import pair_up, read_results
from workbench.commands.sweep_table import in_words
from workbench.commands.two_runs import RunFolder, differing, in_both, metric_pairs, read_run
from workbench.show.cards import escape, plain_table, table
from workbench.show.page import PAGE

PRINTED = 12  # rows a notebook in the terminal
PAGE_WIDTH = "<style>body { max-width: 80rem }</style>"
PAIR = '<div style="display:flex; gap:1rem">{}</div>'
NOTE = """<p>Differences are B - A. p: sign-flip test on equal problems; p (Holm) allows for the
number of rows. The interval is the paired bootstrap's, 95 %.</p>"""


def compare_runs(arguments: Namespace, base: Path) -> int:
    """Write the page and print its main rows; ValueError for what can't be read or written."""
    a, b, out = arguments.a, arguments.b, arguments.out
    one, other = read_run(a), read_run(b)
    names = in_both(one, other)
    found = {name: _compared(one, other, name) for name in names}
    sections = [_section(one, other, name, *found[name]) for name in names]
    body = "\n".join([PAGE_WIDTH, _heading(one, other), *sections])
    try:
        page = PAGE.format(title=escape(f"{a.name} against {b.name}"), body=body)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--out {out}: {error.strerror}") from None
    print(f"A: {a}\nB: {b}")
    for name in names:
        print(f"\n{name}: {_counts(one, other, name, found[name][0])}")
        _print_rows(*found[name])
    print(f"\nall of it: {out}")
    return 0


def _compared(a: RunFolder, b: RunFolder, name: str) -> tuple[list[dict], list[dict]]:
    """Rows of metrics, and of results per problem."""
    rows = metric_pairs(a.get(name)["metrics"], b.get(name)["metrics"])
    series = [read_results([run.folder / "files" / name, run.figures / name]) for run in (a, b)]
    return rows, pair_up(*series)


def _counts(a: RunFolder, b: RunFolder, name: str, rows: Sequence[Mapping]) -> str:
    apart = sum(row["in words"] == "apart" for row in rows)
    both = sum(row["B - A"] is not None for row in rows)
    changed = len(differing(a.get(name), b.get(name)))
    return f"metrics in both: {both}, apart: {apart}; settings that differ: {changed}"


def _print_rows(rows: Sequence[Mapping], paired_rows: Sequence[Mapping]) -> None:
    """The metrics, those apart first, as many as fit; then the paired differences."""
    ordered = sorted(rows, key=lambda row: row["in words"] != "apart")
    columns = ("metric", "A", "B", "B - A", "in words")
    sides = ("A", "B", "B - A")
    named = [row | {side: _value(row, side) for side in sides} for row in ordered[:PRINTED]]
    short = [{name: row[name] for name in columns} for row in named]
    if short:
        print(plain_table(short))
    if (more := len(rows) - PRINTED) > 0:
        print(f"and {more} more")
    if paired_rows:
        columns = ("results", "problems", "A", "B", "B - A", "low", "high", "p")
        few = [{name: row[name] for name in columns} for row in paired_rows[:PRINTED]]
        print(f"\n{plain_table(few)}")


def _value(row: Mapping, side: str) -> str:
    low = row[f"{side} low"]
    return in_words(row[side] if low is None else [row[side], low, row[f"{side} high"]])


def _heading(a: RunFolder, b: RunFolder) -> str:
    runs = [{"run": side, "folder": str(run.folder)} for side, run in (("A", a), ("B", b))]
    parts = [table(runs), NOTE]
    for side, run, others in (("A", a, b), ("B", b, a)):
        if lonely := [name for name in run.records if name not in others.records]:
            parts.append(f"<p>Only in {side}: {escape(', '.join(lonely))}.</p>")
    return "\n".join(parts)


def _section(
    a: RunFolder, b: RunFolder, name: str, rows: Sequence[Mapping], paired_rows: Sequence[Mapping]
) -> str:
    parts = [f'<h2 id="{escape(name)}">{escape(name)}</h2>', "<h3>What differs</h3>"]
    changed = differing(a.get(name), b.get(name))
    parts.append(table(changed) if changed else "<p>Nothing: parameters, code and data agree.</p>")
    for title, found in (("Metrics", rows), ("Results per problem", paired_rows)):
        if found:
            parts += [f"<h3>{title}</h3>", f'<div style="overflow-x:auto">{table(found)}</div>']
    figures = list(dict.fromkeys([*a.get(name)["figures"], *b.get(name)["figures"]]))
    parts += ["<h3>Figures</h3>"] * bool(figures)
    for figure in figures:
        sides = [_figure(side, run, name, figure) for side, run in (("A", a), ("B", b))]
        parts.append(PAIR.format("".join(sides)))
    return "\n".join(parts)


def _figure(side: str, run: RunFolder, name: str, figure: str) -> str:
    words = escape(f"{side}: {figure.replace('_', ' ')}")
    path = run.figures / name / f"{figure}.png"
    shown = "<p>(not there)</p>"
    if path.is_file():
        data = b64encode(path.read_bytes()).decode()
        shown = f'<img src="data:image/png;base64,{data}" alt="{words}">'
    look = "flex:1; min-width:0; margin:0"
    return f'<figure style="{look}">{shown}<figcaption>{words}</figcaption></figure>'
