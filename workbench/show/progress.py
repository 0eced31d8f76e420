"""Progress of a loop: one `<progress>`, stored in its last state, in a notebook; else lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

from workbench.show import cards


def in_notebook() -> bool:
    """Is this code running inside IPython?"""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def show(html: str, text: str, *, kind: str = "text/html", **metadata: object) -> None:
    """Display HTML (or Markdown) in a notebook, print the text elsewhere."""
    if not in_notebook():
        print(text)
        return
    from IPython.display import display

    display({kind: html, "text/plain": text}, raw=True, metadata=metadata)


def duration(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 3 min 05 s, 1 h 02 min."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def track(
    items: Iterable, label: str = "", *, total: int | None = None, every: float | None = None
) -> Iterator:
    """Go through `items`, showing count, rate and time left, at most once in `every` seconds."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    bar = _Bar(label, total, every)
    try:
        for item in items:
            yield item
            bar.step()
    finally:
        bar.show(last=True)


class _Bar:
    def __init__(self, label: str, total: int | None, every: float | None):
        self.label, self.total, self.done = label, total, 0
        # items that came at once at the beginning, read back from an earlier run: they say no rate
        self.given, self.only_given = 0, True
        self.started = self.shown = self.last = time.monotonic()
        self.every = every if every is not None else (0.5 if in_notebook() else 10.0)
        self.handle = None

    def step(self) -> None:
        now, self.done = time.monotonic(), self.done + 1
        if self.done > 1 and self.only_given:
            self.only_given = now - self.last < 0.001  # s
            if self.only_given:
                self.given, self.started = self.done, now
        self.last = now
        if now - self.shown >= self.every:
            self.show()

    def text(self, last: bool) -> str:
        seconds, worked = time.monotonic() - self.started, self.done - self.given
        rate = worked / seconds if seconds > 0 else 0.0
        of_total = "" if self.total is None else f"/{self.total}"
        parts = [f"{self.label} {self.done}{of_total}".strip()]
        if worked and seconds >= 0.1:
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{duration(1 / rate)} each")
        if last:
            parts.append(duration(seconds))
        elif self.total and worked:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return " · ".join(parts)

    def show(self, last: bool = False) -> None:
        self.shown, text = time.monotonic(), self.text(last)
        if not in_notebook():
            print(text, flush=True)
            return
        from IPython.display import display

        data = {"text/html": cards.progress(text, self.done, self.total), "text/plain": text}
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)
