"""A metric in words, the same in texts, summaries and tables."""

from __future__ import annotations

from workbench.show.progress import duration


def stated(value: float | list[float], form: str) -> str:
    """A metric as a text says it. ValueError for an unknown form, or an interval there is not.

    >>> stated([0.8733, 0.82, 0.92], ".0% interval"), stated(0.0349, "+.1p")
    ('87 % (82–92)', '+3.5')
    """
    kind, _, extent = form.partition(" ")
    parts = value if isinstance(value, list) else [value]
    if extent not in ("", "interval") or (extent and len(parts) == 1):
        raise ValueError(f"form {form!r} does not fit {value}, which has no such interval")
    said, *ends = [_number(part, kind) for part in parts]
    ends = (" to " if "+" in kind or min(parts) < 0 else "–").join(ends).replace(" %", "")
    return f"{said} ({ends})" if extent else said


def _number(value: float, kind: str) -> str:
    if kind == "time":
        return duration(value)
    said = format(100 * value, kind[:-1] + "f") if kind[-1:] == "p" else format(value, kind)
    return said.replace("-", "−").replace("%", " %")
