r"""Public benchmarks of step verifiers by their published protocols: ProcessBench and PRMBench,
with intervals.

**ProcessBench** (Zheng et al. 2024, arXiv 2412.06559). A solution's predicted first error is its
first step with score < threshold, none if there is no such step. Per subset: the share of exact
hits among solutions with an error and among those without, and F1, their harmonic mean. The
threshold is the one with the best F1 on one subset (GSM8K in the paper) and holds for all; the
headline number is the mean F1 of the four. Deviation: the threshold is the exact optimum
(`best_threshold`), and a second mean leaves out the subset that chose it.

**PRMBench** (Song et al. 2025, 2501.03124). Each step is judged by itself, and over all steps of a
class

$$\text{PRMScore} = \tfrac12 F_1(\text{right steps}) + \tfrac12 F_1(\text{wrong steps}).$$

As in the published code "overall" pools the steps of all classes, and error indices past the end of
a chain count nowhere (`benchmarks.load` keeps them in `meta["past_end"]`). Deviations: the 5
records that are there twice count twice (6,216 in all, as published); a class without wrong steps
(multi_solutions) has no F1 of these and no PRMScore: NaN.

A solution that the verifier cannot read (None in place of its scores) is missed, and each of its
steps misjudged; the column `unread` is the share of such solutions. A threshold is chosen among the
others. (Deviation: PRMBench's code leaves unread ones out; counted as "no error" they would be hits
wherever there is none.)

Indices in predictions and labels are 0-based, values in [0, 1]. Intervals are 95 %, over problems:
all solutions of a question, or all variants of a PRMBench problem, are drawn together; the
threshold is held fixed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from workbench.analyse.verifiers import best_threshold, first_errors
from workbench.types import LabelledSolution, Meter, Prefix, Verifier

# per solution one score per step, None if it could not be read
StepScores = Sequence[Sequence[float] | None]

ASPECTS = {  # PRMBench's nine classes, as the files spell them, and what they test
    "redundency": "simplicity",
    "circular": "simplicity",
    "counterfactual": "soundness",
    "step_contradiction": "soundness",
    "domain_inconsistency": "soundness",
    "confidence": "soundness",
    "missing_condition": "sensitivity",
    "deception": "sensitivity",
    "multi_solutions": "sensitivity",
}
DRAWS = 2000  # of the bootstrap

# -- scores ----------------------------------------------------------------------------------------


def score_solutions(
    solutions: Sequence[LabelledSolution],
    verifier: Verifier,
    *,
    batch: int = 64,
    meter: Meter | None = None,
    skip: bool = False,
) -> list[list[float] | None]:
    """One score per step of every solution, in their order; the verifier sees blind problems,
    `batch` at a time.

    `meter` is charged for everything. With `skip`, a solution that the verifier refuses to read by
    a ValueError (it is too long) has None. ValueError unless the verifier scores steps and gives
    one number for each.
    """
    if verifier.per != "step" or batch < 1:
        raise ValueError(
            f"a verifier per {verifier.per}, batch={batch}: need one per step, and at least 1"
        )
    out: list[list[float] | None] = []
    for start in range(0, len(solutions), batch):
        part = solutions[start : start + batch]
        prefixes = [Prefix.of(row.problem.blind(), row.steps, ended=True) for row in part]
        scores = _fitting(part, _replies(verifier, prefixes, meter, skip))
        out += [row if row is None else [float(score) for score in row] for row in scores]
    return out


def _replies(
    verifier: Verifier, prefixes: Sequence[Prefix], meter: Meter | None, skip: bool
) -> StepScores:
    """Scores of each prefix; with `skip`, None for those that are refused alone too, which are
    found by halving."""
    try:
        return verifier.score(prefixes, meters=None if meter is None else [meter] * len(prefixes))
    except ValueError:
        if not skip:
            raise
    if len(prefixes) == 1:
        return [None]
    half = len(prefixes) // 2
    return [
        row
        for part in (prefixes[:half], prefixes[half:])
        for row in _replies(verifier, part, meter, skip)
    ]


def _fitting(solutions: Sequence[LabelledSolution], step_scores: StepScores) -> StepScores:
    """The scores, if there is one number per step of every solution that was read; else ValueError."""
    if len(solutions) != len(step_scores):
        raise ValueError(
            f"scores of {len(step_scores)} solutions for {len(solutions)} solutions, need as many"
        )
    for row, scores in zip(solutions, step_scores):
        if scores is not None and (
            len(scores) != len(row.steps) or any(score != score for score in scores)
        ):
            raise ValueError(
                f"{row.problem.id}: scores {list(scores)} for {len(row.steps)} steps, need a number each"
            )
    return step_scores


# -- ProcessBench ----------------------------------------------------------------------------------


def processbench_table(
    solutions: Sequence[LabelledSolution],
    step_scores: StepScores,
    *,
    seed: int,
    threshold: float | str = "gsm8k",
) -> pd.DataFrame:
    """One row per subset, and two means: of all subsets ("average"), and of those that did not
    choose ("held out").

    `threshold` is a number, or the name of the subset on which the best one is chosen. Columns:
    subset, n (solutions), unread, threshold, chosen_here, and error, correct, f1, each with _low
    and _high. Subsets are named by meta["subset"]. ValueError unless each has solutions with an
    error and without.
    """
    subsets: dict[str, list] = {}
    for row, scores in zip(solutions, _fitting(solutions, step_scores)):
        subsets.setdefault(row.meta.get("subset", "all"), []).append((row, scores))
    t = (
        _choose(subsets[threshold], threshold)
        if threshold in subsets
        else _number(threshold, subsets)
    )
    counts = [_first_error_counts(subset, part, t) for subset, part in subsets.items()]
    unread = [sum(scores is None for _, scores in part) for part in subsets.values()]
    sums = [
        _sums([row.problem.question for row, _ in part], own)
        for part, own in zip(subsets.values(), counts)
    ]
    points = np.array([_hit_rates(own.sum(0)) for own in sums])  # (subsets, 3): error, correct, F1
    # (subsets, draws, 3)
    draws = np.array([_hit_rates(_drawn(own, [seed, i])) for i, own in enumerate(sums)])
    means = {subset: [i] for i, subset in enumerate(subsets)} | {"average": [*range(len(subsets))]}
    if threshold in subsets:
        means["held out"] = [i for i, subset in enumerate(subsets) if subset != threshold]
    table = []
    for name, of in means.items():
        if of:
            n = sum(len(counts[i]) for i in of)
            where = {"subset": name, "n": n, "unread": sum(unread[i] for i in of) / n}
            where |= {"threshold": t, "chosen_here": name == threshold}
            table.append(
                where | _columns(points[of].mean(0), draws[of].mean(0), ("error", "correct", "f1"))
            )
    return pd.DataFrame(table)


def _choose(part: list[tuple[LabelledSolution, Sequence[float] | None]], name: str) -> float:
    read = [(scores, row.first_error) for row, scores in part if scores is not None]
    try:
        return best_threshold([scores for scores, _ in read], [label for _, label in read])
    except ValueError as error:
        raise ValueError(f"no threshold from {name}: {error}") from None


def _number(threshold: float | str, subsets: dict) -> float:
    if isinstance(threshold, str):
        raise ValueError(f"threshold {threshold!r}: use a number or one of {', '.join(subsets)}")
    return float(threshold)


def _first_error_counts(subset: str, part: list, threshold: float) -> np.ndarray:
    """Per solution: has an error and is hit, has one, has none and is hit, has none. (solutions, 4)"""
    labels = np.array([-1 if row.first_error is None else row.first_error for row, _ in part])
    read = np.array([scores is not None for _, scores in part])
    hit, error = (
        read & (labels == first_errors([scores or () for _, scores in part], threshold)),
        labels >= 0,
    )
    if error.all() or not error.any():
        raise ValueError(
            f"{subset}: {error.sum()} of {len(error)} solutions have an error, need some with and without"
        )
    return np.stack([error & hit, error, ~error & hit, ~error], 1).astype(float)


def _hit_rates(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 4) of such counts as error accuracy, correct accuracy, F1 (0 if both are): (...,
    3).

    >>> (100 * _hit_rates(np.array([324.0, 1000, 917, 1000]))).round(2).tolist()
    [32.4, 91.7, 47.88]
    """
    error_hit, error, right_hit, right = np.moveaxis(sums, -1, 0)
    a, b = error_hit / np.maximum(error, 1), right_hit / np.maximum(right, 1)
    return np.stack([a, b, 2 * a * b / np.where(a + b > 0, a + b, 1)], -1)


# -- PRMBench --------------------------------------------------------------------------------------


def prmbench_table(
    solutions: Sequence[LabelledSolution],
    step_scores: StepScores,
    *,
    seed: int,
    threshold: float = 0.5,
) -> pd.DataFrame:
    """One row per class, in the order of `ASPECTS`, then "overall", the steps of all classes
    pooled.

    A step with score < threshold is judged wrong. Columns: class, aspect, n (solutions), unread,
    steps, wrong (wrong steps), threshold, and right_f1, wrong_f1, score, each with _low and _high;
    NaN where there is no step of a kind. ValueError for another class (meta["classification"]) or a
    step without a label.
    """
    classes = np.array([row.meta.get("classification") for row in solutions], object)
    if unknown := set(classes.tolist()) - set(ASPECTS):
        raise ValueError(f"classes {unknown}: use {', '.join(ASPECTS)}")
    variants = np.array(
        [row.problem.id.rpartition("/")[2].partition("#")[0] for row in solutions], object
    )
    rows = zip(solutions, _fitting(solutions, step_scores))
    counts = np.array([_confusion(row, scores, threshold) for row, scores in rows]).reshape(-1, 4)
    unread = np.array([scores is None for scores in step_scores])
    table = []
    for i, name in enumerate([*ASPECTS, "overall"]):
        kept = np.flatnonzero((classes == name) | (name == "overall"))
        if not len(kept):
            continue
        sums = _sums(variants[kept], counts[kept])
        total, about = (
            sums.sum(0),
            {"class": name, "aspect": ASPECTS.get(name, "all"), "n": len(kept)},
        )
        about |= {
            "unread": float(unread[kept].mean()),
            "steps": int(total.sum()),
            "wrong": int(total[2:].sum()),
        }
        about["threshold"] = threshold
        table.append(
            about
            | _columns(
                _f1s(total), _f1s(_drawn(sums, [seed, i])), ("right_f1", "wrong_f1", "score")
            )
        )
    return pd.DataFrame(table)


def _confusion(
    row: LabelledSolution, scores: Sequence[float] | None, threshold: float
) -> tuple[int, int, int, int]:
    """Steps that are right and judged so, right judged wrong, wrong judged right, wrong judged so."""
    if None in row.labels:
        raise ValueError(
            f"{row.problem.id}: labels {row.labels}, PRMBench needs one for every step"
        )
    if scores is None:
        return 0, row.labels.count(1), row.labels.count(0), 0
    pairs = [(label == 1, score >= threshold) for label, score in zip(row.labels, scores)]
    return tuple(
        pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))
    )


def _f1s(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 4) of `_confusion` as F1 of right steps, F1 of wrong steps, PRMScore: (..., 3).

    >>> _f1s(np.array([6.0, 2, 1, 1])).round(4).tolist()  # 12 / (12 + 3), 2 / (2 + 3)
    [0.8, 0.4, 0.6]
    """
    right, missed, passed, wrong = np.moveaxis(np.asarray(sums, float), -1, 0)
    f1s = []
    for hits, of in ((right, right + missed), (wrong, wrong + passed)):
        f1s.append(np.where(of > 0, 2 * hits / np.maximum(2 * hits + missed + passed, 1), np.nan))
    return np.stack([*f1s, (f1s[0] + f1s[1]) / 2], -1)


# -- intervals -------------------------------------------------------------------------------------


def _sums(groups: Sequence[Hashable], counts: np.ndarray) -> np.ndarray:
    """Counts (solutions, 4) summed by problem: (problems, 4)."""
    return pd.DataFrame(counts).groupby(np.asarray(groups, object)).sum().to_numpy(float)


def _drawn(sums: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """Total sums of problems drawn with replacement, (draws, 4): the draws of `metrics.bootstrap`."""
    rng, n = np.random.default_rng(seed), len(sums)
    return np.array(
        [np.bincount(rng.integers(n, size=n), minlength=n) @ sums for _ in range(DRAWS)]
    )


def _columns(point: np.ndarray, draws: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Values (3,) and the ends of their intervals, from (draws, 3), as {name, name_low, name_high};
    NaN stays NaN."""
    out = {}
    for name, value, drawn in zip(names, point, draws.T):
        ends = np.nanpercentile(drawn, [2.5, 97.5]) if value == value else (np.nan, np.nan)
        out |= {name: float(value), f"{name}_low": float(ends[0]), f"{name}_high": float(ends[1])}
    return out
