r"""How right are step labels? Every labelled step beside the exact truth, with intervals.

There are two truths to hold a label against: is this step right, and can the answer still be
reached from here? An automatic label estimates the second; a process reward model is meant to learn
the first. `truth` chooses: "right" or "solvable". Steps count up to and including the first fault;
the last step of a solution does not count, for its label is a grade of the answer.

What a labeller is for is finding faults, so *bad* is the positive class: precision is the share of
steps called bad that are (wrong | out of reach), recall the share of these that are called bad,
`kept` the share of the others called good. First errors follow ProcessBench (arXiv 2412.06559) over
all steps, the last one included, and over the solutions that the labels cover up to the first that
is bad. Intervals draw whole problems; several labellings of the same solutions may be given as one.
Embedded problems only. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from workbench.analyse.first_errors import f1_gain, f1_interval, first_error_hits, sums_by
from workbench.analyse.metrics import Floats, interval_of_sums
from workbench.problems import explain, solvable
from workbench.types import LabelledSolution, Problem


@lru_cache(maxsize=20_000)
def truth(problem: Problem, steps: tuple[str, ...]) -> tuple[tuple[str | None, bool], ...]:
    """For each step to the first fault: its fault (None: right), and is the answer in reach?"""
    out = []
    for t, fault in enumerate(explain(problem, steps), start=1):
        out.append((fault, solvable(problem, steps[:t])))
        if fault is not None:
            break
    return tuple(out)


def first_fault(problem: Problem, steps: tuple[str, ...]) -> int | None:
    """0-based index of the first step that is wrong, None if all are right."""
    known = truth(problem, steps)
    return len(known) - 1 if known and known[-1][0] is not None else None


def label_table(rows: Iterable[LabelledSolution]) -> pd.DataFrame:
    """One row per step before the last one, up to a solution's first fault, labelled or not.

    Columns: problem, level, position (0-based), label and value (NaN where there is none), right,
    solvable, fault (its kind, "" if right).
    """
    out = []
    for row in rows:
        for t, (fault, able) in enumerate(truth(row.problem, row.steps)[: len(row.steps) - 1]):
            label, value = row.labels[t], row.values[t] if row.values else None
            known = (np.nan if label is None else label, np.nan if value is None else value)
            kind = (fault or "").split(":")[0]
            out.append((row.problem.id, row.problem.level, t, *known, fault is None, able, kind))
    columns = ["problem", "level", "position", "label", "value", "right", "solvable", "fault"]
    return pd.DataFrame(out, columns=columns)


def label_quality(
    table: pd.DataFrame, *, truth: str, seed: int, bins: int = 10
) -> dict[str, dict[str, float]]:
    """{measure: {value, low, high}} of the labels in a `label_table`, against one of two truths.

    `truth` is "right" or "solvable". Measures: precision, recall and kept (see above), coverage
    (share of steps with a label), and ece, the expected calibration error of the values in
    equal-width bins. A measure without any step to count is left out. ValueError for another truth
    or an empty table.

    >>> steps = [("p", 1, 1.0, True), ("p", 0, 0.0, True), ("q", 0, 0.5, False), ("q", 1, 1, False)]
    >>> table = pd.DataFrame(steps, columns=["problem", "label", "value", "right"])
    >>> {name: x["value"] for name, x in label_quality(table, truth="right", seed=0).items()}
    {'precision': 0.5, 'recall': 0.5, 'kept': 0.5, 'coverage': 1.0, 'ece': 0.625}
    """
    if truth not in ("right", "solvable") or table.empty:
        found = f"truth={truth!r}, {len(table)} steps"
        raise ValueError(f"{found}: use right or solvable, and at least one step")
    true = table[truth].to_numpy(bool)  # (steps,)
    bad, good = (table["label"] == 0).to_numpy(), (table["label"] == 1).to_numpy()
    counted = {
        "precision": (bad & ~true, bad),
        "recall": (bad & ~true, (bad | good) & ~true),
        "kept": (good & true, (bad | good) & true),
        "coverage": (bad | good, np.ones(len(table), bool)),
    }
    out = {}
    for name, (hits, of) in counted.items():
        if of.any():
            out[name] = _interval(table, np.stack([hits, of], 1), _share, seed)
    valued = table["value"].notna().to_numpy()
    if valued.any():
        value = np.where(valued, table["value"], 0)
        where = np.minimum((value * bins).astype(int), bins - 1)
        each = np.eye(bins)[where] * valued[:, None]  # (steps, bins)
        out["ece"] = _interval(table, np.hstack([each, each * (value - true)[:, None]]), _gap, seed)
    return out


def shares(
    table: pd.DataFrame, hit: str, *, by: Sequence[str], mean: str | None = None, seed: int
) -> pd.DataFrame:
    """How often the column `hit` is true within groups `by`: rows with value, low, high, n (steps).

    `mean` names a column whose mean is given, too. Groups without a step are left out.
    """
    rows = []
    for key, part in table.groupby(list(by), sort=False, observed=True):
        found = _interval(part, np.stack([part[hit], np.ones(len(part))], 1), _share, seed)
        more = {mean: part[mean].mean()} if mean else {}
        rows.append(dict(zip(by, key)) | more | found | {"n": len(part)})
    return pd.DataFrame(rows)


def first_error_quality(rows: Iterable[LabelledSolution], *, seed: int) -> dict[str, float]:
    """ProcessBench F1 of the first errors that labels name: {value, low, high, coverage}.

    The coverage is the share of solutions that count: those in which every step up to the first bad
    one has a label. ValueError if none has.
    """
    rows = list(rows)
    covered = [row for row in rows if None not in row.labels[: _upto(row)]]
    if not covered:
        raise ValueError(f"none of {len(rows)} solutions has labels up to its first error")
    guess = [row.first_error for row in covered]
    truths = [first_fault(row.problem, row.steps) for row in covered]
    f1 = f1_interval([row.problem.id for row in covered], guess, truths, seed=seed)
    return f1 | {"coverage": len(covered) / len(rows)}


def first_error_gain(
    one: Sequence[LabelledSolution], other: Sequence[LabelledSolution], *, seed: int
) -> dict[str, float]:
    """F1 of first errors of `one` minus that of `other`: {value, low, high}.

    Problems are drawn for both together. Every solution counts: one that the labels do not cover
    has no first error found. ValueError unless both label solutions of the same problems.
    """
    return f1_gain(*(_hits(rows) for rows in (one, other)), seed=seed)


def _hits(rows: Sequence[LabelledSolution]) -> pd.DataFrame:
    """First errors found; a solution that the labels do not cover is never hit."""
    guess = [-2 if None in row.labels[: _upto(row)] else row.first_error for row in rows]
    truths = [first_fault(row.problem, row.steps) for row in rows]
    return first_error_hits([row.problem.id for row in rows], guess, truths)


def _upto(row: LabelledSolution) -> int:
    return len(row.steps) if row.first_error is None else row.first_error


def _interval(
    table: pd.DataFrame, counts: Floats, statistic: Callable[[Floats], Floats], seed: int
) -> dict[str, float]:
    """A statistic of sums over steps, with its interval over problems. `counts`: (steps, sums)"""
    sums = sums_by(table["problem"].tolist(), counts.astype(float))
    return interval_of_sums(sums, statistic, seed=seed)


def _share(sums: Floats) -> Floats:
    hits, of = np.moveaxis(sums, -1, 0)
    return np.where(of > 0, hits / np.maximum(of, 1), np.nan)  # a draw without any is left out


def _gap(sums: Floats) -> Floats:
    """|mean value - share true| over bins, weighted by steps."""
    n, gaps = np.split(sums, 2, axis=-1)
    return np.asarray(np.abs(gaps).sum(-1) / np.maximum(n.sum(-1), 1))
