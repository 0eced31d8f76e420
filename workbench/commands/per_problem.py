"""Results per problem that a notebook left in its files, and two runs compared on equal problems.

Two kinds of files are read, in `files/` and `figures/` of the run. A table (CSV) with a column
`problem` (its id) and one of `value`, `right` or `correct`, from 0 to 1: all other columns but low
and high name the series (method=mcts, budget=8). And result files, `solve(save=...)`: is the chosen
answer right, or where nothing was chosen the share of right rollouts; a problem that failed
is not there. One that stands there twice counts once, with its mean.

The comparison is `analyse.compare.paired`, with Holm's p-values over all series of a notebook.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.analyse.compare import holm, paired
from workbench.jsonl import from_json, read_lines
from workbench.problems import is_right
from workbench.types import SearchResult

VALUES = ("value", "right", "correct")
Series = dict[str, float]  # by the problem's id


def read_results(folders: Iterable[Path]) -> dict[str, Series]:
    """Every series of results per problem in the folders, by file and what names it there."""
    found: dict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            reader = {".csv": _table, ".jsonl": _result_file}.get(path.suffix)
            for series, problem, value in reader(path) if reader else ():
                name = path.relative_to(folder).as_posix()
                found[f"{name}: {series}" if series else name][problem].append(value)
    return {name: {p: float(np.mean(x)) for p, x in rows.items()} for name, rows in found.items()}


def _table(path: Path) -> Iterator[tuple[str, str, float]]:
    """(series, problem, value) of each row, if the table is one of results per problem."""
    columns: list[str] = []
    with suppress(ValueError):  # no table at all
        columns = list(pd.read_csv(path, nrows=0))
    column = next((name for name in VALUES if name in columns), None)
    if "problem" not in columns or column is None:
        return
    frame = pd.read_csv(path, dtype={"problem": str})
    others = [name for name in columns if name not in ("problem", column, "low", "high")]
    values = pd.to_numeric(frame[column], errors="coerce").astype(float)
    rows = frame[others].values
    names = [", ".join(f"{name}={x}" for name, x in zip(others, row)) for row in rows]
    # counts, tokens, seconds are no shares of what is right
    other = {name for name, x in zip(names, values) if not (0 <= x <= 1 or np.isnan(x))}
    for name, problem, value in zip(names, frame["problem"], values):
        if name not in other and not np.isnan(value):
            yield name, problem, value


def _result_file(path: Path) -> Iterator[tuple[str, str, float]]:
    """(series, problem, value) of each finished problem, if this is a result file of `solve`."""
    first = None
    with path.open(encoding="utf-8", errors="replace") as file, suppress(ValueError):
        first = json.loads(file.readline())
    if not (isinstance(first, dict) and "run" in first):
        return
    rows = [row for row in read_lines(path, drop_cut_off=True) if "problem" in row]
    results = [from_json({k: v for k, v in row.items() if k != "occurrence"}) for row in rows]
    chosen = any(result.best is not None for result in results)
    for result in results:
        if result.problem.answer is not None and not result.labelled:
            value = _right(result, chosen)
            yield "chosen answer" if chosen else "right rollouts", result.problem.id, value


def _right(result: SearchResult, chosen: bool) -> float:
    """Is the chosen answer right, or which share of rollouts is; 0 where there is nothing."""
    solutions = result.rollouts if not chosen else [result.best] if result.best else []
    right = [is_right(result.problem, solution) for solution in solutions]
    return float(np.mean(right)) if right else 0.0


def pair_up(a: Mapping[str, Series], b: Mapping[str, Series]) -> list[dict[str, object]]:
    """A row for each series of both: means on the problems of both, paired difference B - A, p.

    >>> left, right = {"x": 0.0, "y": 0.0, "only": 1.0}, {"y": 1.0, "x": 1.0}
    >>> row, = pair_up({"s": left}, {"s": right})
    >>> row["problems"], row["B - A"], row["p"], row["only in A"]
    (2, 1.0, 0.5, 1)
    """
    rows = []
    for name in [name for name in a if name in b]:
        common = [problem for problem in a[name] if problem in b[name]]
        if not common:
            continue
        left, right = [[run[name][problem] for problem in common] for run in (a, b)]
        found = paired(right, left, seed=0)
        row = {"results": name, "problems": len(common)}
        row |= {"A": float(np.mean(left)), "B": float(np.mean(right)), "B - A": found.difference}
        row |= {"low": found.low, "high": found.high, "p": found.p, "p (Holm)": None}
        row |= {"B better on": found.won, "A better on": found.lost}
        only = {"only in A": len(a[name]) - len(common), "only in B": len(b[name]) - len(common)}
        rows.append(row | only)
    adjusted = holm([row["p"] for row in rows])
    return [row | {"p (Holm)": p} for row, p in zip(rows, adjusted)]
