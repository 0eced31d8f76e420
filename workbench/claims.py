"""Numbers in texts, filled in from the recorded run: README.md, RESULTS.md, cards, teaching.md.

A text states a recorded metric between two comments, which readers of the page do not see:

    best of 64: <!--m:09_test_time_scaling/base/majority@64:.0% interval-->58 % (53–64)<!--/m-->

First comes the notebook and its metric, a size that it ran at (`sizes/problems`), or `seconds`; or
a fact of a shipped checkpoint (`data/models/base/tokens`). The form is one of Python's (`.2f`,
`.0%`, `+.3f`, `,.0f`), `.0p` for points of a percentage, or `time`; and ` interval`, if the metric
has one. `record` fills the texts in, `check` says where they differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from workbench.runs.notebook import available, load, shown_sizes
from workbench.runs.record import Findings
from workbench.show.numbers import stated

TEXTS = ("README.md", "RESULTS.md", "notebooks/teaching.md", "data/models/*/README.md")
# a whole claim, or the start of one that is not
CLAIM = re.compile(r"(<!--m:([^<>\n]+):([^:<>\n]*)-->)([^<\n]*)<!--/m-->|<!--m:")


def fill_in(base: Path) -> list[str]:
    """Fill in all texts, or none (ValueError); returns the names of those that changed."""
    texts = _texts(base)
    if wrong := [error for _, _, errors in texts.values() for error in errors]:
        raise ValueError(wrong[0])
    changed = {name: text for name, (text, stale, _) in texts.items() if stale}
    for name in changed:
        (base / name).write_text(changed[name], encoding="utf-8")
    return list(changed)


def check(base: Path) -> dict[str, Findings]:
    """For each text that makes claims, where it differs from what is recorded."""
    return {name: Findings((*wrong, *stale)) for name, (_, stale, wrong) in _texts(base).items()}


def claimed(base: Path) -> list[str]:
    """The metrics that README and RESULTS state, as `notebook/metric`, in their order."""
    paths = [base / name for name in ("README.md", "RESULTS.md")]
    texts = [path.read_text("utf-8") for path in paths if path.is_file()]
    found = (claim[2] for text in texts for claim in CLAIM.finditer(text))
    return list(dict.fromkeys(filter(None, found)))


def recorded(base: Path) -> dict[str, float | list[float]]:
    """All that can be claimed, by name: a number, or value, low and high."""
    places = {path.stem: _measured(load(path)) for path in available(base)}
    for path in base.glob("data/models/*/training.json"):
        places[path.parent.relative_to(base).as_posix()] = json.loads(path.read_text())
    return {f"{place}/{name}": value for place in places for name, value in places[place].items()}


def _measured(notebook) -> dict[str, float | list[float]]:
    """A notebook's metrics and seconds, and whole numbers from the table of sizes that it shows."""
    shown = {name: text.replace(",", "") for name, text in shown_sizes(notebook).items()}
    sizes = {f"sizes/{name}": int(text) for name, text in shown.items() if text.isdecimal()}
    stored = notebook.metadata.get("workbench", {})
    return sizes | {k: stored[k] for k in ("seconds",) if k in stored} | stored.get("metrics", {})


def _texts(base: Path) -> dict[str, tuple[str, list[str], list[str]]]:
    """The texts that make claims, by name, each with what `_filled` says of it."""
    facts, paths = recorded(base), [path for name in TEXTS for path in sorted(base.glob(name))]
    texts = {path.relative_to(base).as_posix(): path.read_text("utf-8") for path in paths}
    return {n: _filled(n, text, facts) for n, text in texts.items() if CLAIM.search(text)}


def _filled(name: str, text: str, facts: Mapping) -> tuple[str, list[str], list[str]]:
    """The text as it should be; the claims that differ; those that can't be filled in."""
    stale, wrong = [], []

    def fill(claim: re.Match) -> str:
        start, metric, form, says = claim.groups()
        place = f"{name}:{text.count(chr(10), 0, claim.start()) + 1}: {metric or claim[0]}"
        try:
            now = stated(_fact(facts, metric), form)
        except ValueError as error:
            wrong.append(f"{place}: {error}")
            return claim[0]
        if says != now:
            stale.append(f"{place} is {now}, the text says {says or 'nothing'}")
        return f"{start}{now}<!--/m-->"

    return CLAIM.sub(fill, text), stale, wrong


def _fact(facts: Mapping, metric: str | None) -> float | list[float]:
    if metric is None:
        raise ValueError("write NOTEBOOK/METRIC:FORM-->…<!--/m-->, all on one line")
    if metric not in facts:
        near = "; the nearest is ".join(["", *get_close_matches(metric, facts, n=1, cutoff=0)])
        raise ValueError(f"no such metric is recorded{near}")
    return facts[metric]
