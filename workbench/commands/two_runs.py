"""Two runs read from disk: which notebooks are in both, what they depended on, what they measured.

A run is a folder with a manifest (a batch, a point of a sweep, or what a notebook in JupyterLab
left), or a folder with recorded notebooks, whose metadata hold the same facts. Differences are
B - A throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path

from workbench.runs import manifest
from workbench.runs.manifest import MEANWHILE
from workbench.runs.notebook import load

FACTS = {
    "package_version": "version of the package",
    "git": "git",
    "threads": "threads",
    "hash": "hash of cells, parameters and data",
}


@dataclass(frozen=True)
class RunFolder:
    """A run: its folder, where its figures lie, a record per notebook, None for unfinished ones."""

    folder: Path
    figures: Path
    records: Mapping[str, Mapping | None]

    def get(self, name: str) -> Mapping:
        """A notebook's record; ValueError if it failed or has not run to its end."""
        record = self.records[name]
        if record is None or record["event"] == "failed":
            why = f"failed: {record['error']}" if record else "has not run to its end"
            again = f"python -m workbench run --resume {self.folder}"
            raise ValueError(f"{self.folder}: {name} {why}; finish it with {again}")
        return record


def read_run(folder: Path) -> RunFolder:
    """The run in a folder. ValueError if it holds none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    records = manifest.read(folder)
    if any(record.get("event") == "sweep" for record in records):
        raise ValueError(f"{folder} is a sweep of many runs: compare two of the folders in it")
    if asked := manifest.header(records):
        found = dict.fromkeys(asked["notebooks"]) | manifest.outcomes(records)
    else:
        found = {r["notebook"]: r for r in records if r.get("event") == "finished"}
    figures = folder / "figures"
    if not found:
        found, figures = _recorded(folder), folder.parent / "figures"
    if not found:
        raise ValueError(f"{folder} holds no run: neither a manifest nor recorded notebooks")
    return RunFolder(folder, figures, found)


def _recorded(folder: Path) -> dict[str, dict]:
    """What recorded notebooks say of their run, by name."""
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    stored = {path.stem: load(path).metadata.get("workbench") for path in paths}
    return {name: {"event": "finished", **facts} for name, facts in stored.items() if facts}


def in_both(a: RunFolder, b: RunFolder) -> list[str]:
    """The notebooks of both runs, all finished; ValueError if there are none, or one is not."""
    names = [name for name in a.records if name in b.records]
    if not names:
        here, there = [", ".join(run.records) for run in (a, b)]
        raise ValueError(f"no notebook is in both: {a.folder} has {here}; {b.folder} has {there}")
    for name in names:
        a.get(name), b.get(name)
    return names


def differing(a: Mapping, b: Mapping) -> list[dict[str, object]]:
    """What two records of a notebook depended on and does not agree, a row each."""
    left, right = _dependencies(a), _dependencies(b)
    both = [(name, left.get(name), right.get(name)) for name in {**left, **right}]
    return [{"what": name, "A": x, "B": y} for name, x, y in both if x != y or x == MEANWHILE]


def _dependencies(record: Mapping) -> dict[str, object]:
    found = {f"parameter {n}": str(v) for n, v in record.get("parameters", {}).items()}
    found |= {words: record[key] for key, words in FACTS.items() if key in record}
    found |= {f"code of {name}": value for name, value in record.get("modules", {}).items()}
    return found | {f"data in {name}": value for name, value in record.get("data", {}).items()}


def metric_pairs(a: Mapping, b: Mapping) -> list[dict[str, object]]:
    """The metrics of either, side by side: values, intervals, B - A, and do the intervals touch?

    The interval of B - A is that of independent runs, by squares of the distances to the ends (Zou
    and Donner 2008): where both ran the same problems, the paired one is narrower.

    >>> row, = metric_pairs({"a": [0.4, 0.36, 0.5]}, {"a": [0.75, 0.72, 0.9]})
    >>> row["B - A"], round(row["B - A low"], 3), row["in words"]
    (0.35, 0.246, 'apart')
    """
    rows = []
    for name in {**a, **b}:
        left, right = _three(a.get(name)), _three(b.get(name))
        row = dict(zip(("metric", "A", "A low", "A high"), (name, *left)))
        row |= dict(zip(("B", "B low", "B high"), right))
        both = name in a and name in b
        row["B - A"] = right[0] - left[0] if both else None
        ends = _difference(left, right) if None not in (*left, *right) else (None, None)
        row |= dict(zip(("B - A low", "B - A high"), ends))
        rows.append(row | {"in words": _words(left, right)})
    return rows


def _difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The ends of B - A, of (value, low, high) each."""
    least = b[0] - a[0] - hypot(b[0] - b[1], a[2] - a[0])
    return least, b[0] - a[0] + hypot(b[2] - b[0], a[0] - a[1])


def _three(value: object) -> list:
    return value if isinstance(value, list) else [value, None, None]


def _words(a: list, b: list) -> str:
    if a[0] is None or b[0] is None:
        return f"only in {'B' if a[0] is None else 'A'}"
    if a[1] is None or b[1] is None:
        return "equal" if a == b else "no intervals"
    return "apart" if a[2] < b[1] or b[2] < a[1] else "intervals overlap"
