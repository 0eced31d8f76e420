"""Small HTML pieces for notebooks: a table, the environment card, a progress bar.

Data in, HTML text out. They survive JupyterLab's sanitiser for untrusted notebooks: inline style
only, no scripts, no SVG, no CSS variables; tints are translucent and the text colour is inherited,
so that light and dark themes both work. All text is escaped, what would act unseen in it (control
characters, marks that turn the direction, half letters) is shown as U+FFFD, and of a very long one
the rest is counted.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it brings SciPy with it
    from workbench.analyse.compare import Paired

BLUE, GREEN = "rgba(0,114,178,.15)", "rgba(0,158,115,.15)"
RED, GREY = "rgba(213,94,0,.15)", "rgba(128,128,128,.15)"

BOX = f"padding:8px 12px;border-left:3px solid rgba(0,114,178,.6);background-color:{BLUE}"
LEFT = "text-align:left;padding:3px 14px 3px 6px;vertical-align:top"
RIGHT = "text-align:right;padding:3px 14px 3px 6px;vertical-align:top"

LONGEST_SHOWN = 20_000  # characters of a text
CONTROLS = {*range(32), *range(127, 160)} - set(map(ord, "\t\n\r"))
TURNING_MARKS = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
UNSEEN = dict.fromkeys([*CONTROLS, *TURNING_MARKS, *range(0xD800, 0xE000)], "\ufffd")


def readable(text: str) -> str:
    """Text in which everything can be seen, and which a UTF-8 file can hold.

    >>> readable("a\\x1b[31mb")
    'a�[31mb'
    """
    return text.translate(UNSEEN)


def escape(text: str) -> str:
    """Text as HTML shows it: no tag, nothing unseen, and not without end."""
    return html.escape(readable(_cut(text)))


def _cut(text: str) -> str:
    rest = len(text) - LONGEST_SHOWN
    return text if rest <= 0 else f"{text[:LONGEST_SHOWN]} … {rest:,} more characters"


def breakable(text: str) -> str:
    """Text as HTML shows it, whose long words may go on in the next line.

    `<wbr>` says so, since JupyterLab lets `overflow-wrap` stand only in trusted notebooks.

    >>> breakable("a < " + 30 * "b")
    'a &lt; bbbbbbbbbbbbbbbbbbbbbbbb<wbr>bbbbbb'
    """
    seen = readable(_cut(text))  # no \0 is in it
    parts = re.sub(r"\S{24}(?=\S)", "\\g<0>\0", seen).split("\0")
    return "<wbr>".join(map(html.escape, parts))


def bar(share: float) -> str:
    """A number from 0 to 1 as a bar, green from 0.5 on and yellow below, and in digits.

    The upper limit stands at 1 since JupyterLab takes `optimum` out of untrusted notebooks.
    """
    limits = 'min="0" max="1" low="0.5" high="1"'
    return f'<meter {limits} value="{share:.3f}"></meter> {share:.2f}'


def cell_text(value: object) -> str:
    """A value as a table shows it: floats with three significant digits, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return str(value)


def table(rows: Sequence[Mapping[str, object]], *, mark: str | None = None) -> str:
    """An HTML table with one column per key of the first row; the column `mark` is tinted."""
    if not rows:
        return "<p>(no rows)</p>"
    columns = list(rows[0])
    number = int | float | None
    numeric = {c: all(isinstance(r.get(c), number) for r in rows) for c in columns}
    tint = {c: f";background-color:{BLUE}" if c == mark else "" for c in columns}
    style = {c: (RIGHT if numeric[c] else LEFT) + tint[c] for c in columns}
    head = "".join(f'<th style="{style[c]}">{escape(str(c))}</th>' for c in columns)
    body = ""
    for row in rows:
        cells = (f'<td style="{style[c]}">{escape(cell_text(row.get(c)))}</td>' for c in columns)
        body += f"<tr>{''.join(cells)}</tr>"
    rows_of = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<table style="border-collapse:collapse">{rows_of}</table>'


def paired_view(found: Paired) -> str:
    """How a notebook shows a `Paired`: a minus b, its interval and p, who is better where."""
    row = {"a - b": f"{found.difference:+.3f}"}
    row |= {"95 % interval": f"{found.low:+.3f} to {found.high:+.3f}", "p": found.p}
    row |= {"problems where a is better": found.won, "where b is better": found.lost}
    return table([row])


def environment_card(
    info: Mapping[str, object], *, title: str, parameters: Mapping[str, object]
) -> str:
    """A tinted card: a title, the parameters of the run, and where it happens, as pairs."""
    parts = [f'<div style="font-weight:bold;margin-bottom:4px">{escape(title)}</div>']
    parts.append(f'<div style="margin-bottom:4px">{_pairs(parameters, bold=True)}</div>')
    parts.append(f'<div style="font-size:90%;opacity:.8">{_pairs(info)}</div>')
    return f'<div style="{BOX}">{"".join(parts)}</div>'


def _pairs(values: Mapping[str, object], *, bold: bool = False) -> str:
    look = f'style="font-weight:{"bold" if bold else "normal"}"'
    pairs = ((escape(str(k)), escape(str(v))) for k, v in values.items())
    return " · ".join(f"{k}&nbsp;<span {look}>{v}</span>" for k, v in pairs)


def progress(text: str, done: int, total: int | None) -> str:
    """A bar with a line of text; without a total the bar is left out."""
    look = 'style="width:220px"'
    bar = f'<progress value="{done}" max="{total}" {look}></progress> ' if total else ""
    return f"<div>{bar}{escape(text)}</div>"


def plain_table(rows: Sequence[Mapping[str, object]]) -> str:
    """The same rows as text with aligned columns, for terminals."""
    if not rows:
        return "(no rows)"
    columns = list(rows[0])
    cells = [columns, *[[readable(cell_text(row.get(c))) for c in columns] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)
    return "\n".join(lines)
