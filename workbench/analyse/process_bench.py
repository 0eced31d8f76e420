r"""Public benchmarks of step verifiers by their published protocols: ProcessBench and PRMBench.

**ProcessBench** (Zheng et al. 2024, arXiv 2412.06559). Per subset: the share of exact hits among
solutions with an error and among those without, and F1, their harmonic mean, of `first_errors` at
one threshold: the one with the best F1 on one subset (GSM8K in the paper). The headline number is
the mean F1 of the four. Deviation: the threshold is the exact optimum (`best_threshold`), and a
second mean leaves out the subset that chose it. A subset without solutions of both kinds has no F1.

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

Indices are 0-based, values in [0, 1]. Intervals are 95 %, over problems: all solutions of a
question, or all variants of a PRMBench problem, are drawn together; the threshold is held fixed.
Used by `benchmarks/process_bench.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.analyse.first_errors import best_threshold, first_errors, sums_by
from workbench.analyse.metrics import Floats, first_error_counts, hit_rates, resample, with_interval
from workbench.types import LabelledSolution, Meter, Prefix, Unreadable, Verifier

Solutions = Sequence[LabelledSolution]
StepScores = Sequence[Sequence[float] | None]  # a score per step, None if it could not be read
Judged = list[tuple[LabelledSolution, Sequence[float] | None]]

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

# -- scores ----------------------------------------------------------------------------------------


def score_solutions(
    solutions: Solutions,
    verifier: Verifier,
    *,
    batch: int = 64,
    meter: Meter | None = None,
    skip: bool = False,
) -> list[list[float] | None]:
    """One score per step of every solution, in order; the verifier sees blind problems.

    `meter` is charged for everything. With `skip`, an `Unreadable` solution has None. ValueError
    unless the verifier scores steps and gives one number for each.
    """
    if verifier.per != "step" or batch < 1:
        given = f"a verifier per {verifier.per}, batch={batch}"
        raise ValueError(f"{given}: need one per step, and at least 1")
    out: list[list[float] | None] = []
    for start in range(0, len(solutions), batch):
        part = solutions[start : start + batch]
        prefixes = [Prefix.of(row.problem.blind(), row.steps, ended=True) for row in part]
        pairs = _paired(part, read_each(verifier, prefixes, meter, skip))
        out += [scores if scores is None else [float(x) for x in scores] for _, scores in pairs]
    return out


def read_each(
    verifier: Verifier, prefixes: Sequence[Prefix], meter: Meter | None, skip: bool
) -> StepScores:
    """Scores of each prefix; with `skip`, None for what is unreadable alone, found by halving."""
    try:
        return verifier.score(prefixes, meters=None if meter is None else [meter] * len(prefixes))
    except Unreadable:
        if not skip:
            raise
    if len(prefixes) == 1:
        return [None]
    half = len(prefixes) // 2
    halves = (prefixes[:half], prefixes[half:])
    return [row for part in halves for row in read_each(verifier, part, meter, skip)]


def _paired(solutions: Solutions, step_scores: StepScores) -> Judged:
    """Each solution with its scores; ValueError unless those read have one number per step."""
    if len(solutions) != len(step_scores):
        given = f"scores of {len(step_scores)} solutions for {len(solutions)} solutions"
        raise ValueError(f"{given}, need as many")
    for row, scores in zip(solutions, step_scores):
        if scores is not None and (len(scores) != len(row.steps) or any(x != x for x in scores)):
            given = f"scores {list(scores)} for {len(row.steps)} steps"
            raise ValueError(f"{row.problem.id}: {given}, need a number each")
    return list(zip(solutions, step_scores))


# -- ProcessBench ----------------------------------------------------------------------------------


def processbench_table(
    solutions: Solutions, step_scores: StepScores, *, seed: int, threshold: float | str = "gsm8k"
) -> pd.DataFrame:
    """One row per subset, then the means of all ("average") and of those that did not choose.

    The latter is "held out". `threshold` is a number, or the name of the subset on which the best
    one is chosen; ValueError if that one lacks solutions with an error or without. Subsets are
    named by meta["subset"]. Columns: subset, n (solutions), unread, threshold, chosen_here, and
    error, correct, f1, each with _low and _high; NaN where there is no solution of a kind.
    """
    # 1. the subsets, and the threshold
    subsets: dict[str, Judged] = {}
    for row, scores in _paired(solutions, step_scores):
        subsets.setdefault(row.meta.get("subset", "all"), []).append((row, scores))
    t = _threshold(threshold, subsets)
    # 2. accuracies and F1 of each subset, and of each draw of its problems
    sums = [_first_error_sums(part, t) for part in subsets.values()]  # (problems, 4) each
    points = np.array([hit_rates(own.sum(0)) for own in sums])  # (subsets, 3)
    drawn = [resample(own, seed=[seed, i], statistic=np.sum) for i, own in enumerate(sums)]
    rates = np.array([hit_rates(own) for own in drawn])  # (subsets, draws, 3)
    # 3. a row for each subset and each mean of subsets
    means = {subset: [i] for i, subset in enumerate(subsets)} | {"average": [*range(len(subsets))]}
    if threshold in subsets:
        means["held out"] = [i for i, subset in enumerate(subsets) if subset != threshold]
    parts, table = list(subsets.values()), []
    for name, of in means.items():
        if of:
            read = [scores is not None for i in of for _, scores in parts[i]]
            about = {"subset": name, "n": len(read), "unread": read.count(False) / len(read)}
            about |= {"threshold": t, "chosen_here": name == threshold}
            names = ("error", "correct", "f1")
            table.append(about | _columns(points[of].mean(0), rates[of].mean(0), names))
    return pd.DataFrame(table)


def _threshold(threshold: float | str, subsets: dict[str, Judged]) -> float:
    """The number itself, or the best one on the subset of this name."""
    if not isinstance(threshold, str):
        return float(threshold)
    if threshold not in subsets:
        raise ValueError(f"threshold {threshold!r}: use a number or one of {', '.join(subsets)}")
    read = [(scores, row.first_error) for row, scores in subsets[threshold] if scores is not None]
    try:
        return best_threshold([scores for scores, _ in read], [label for _, label in read])
    except ValueError as error:
        raise ValueError(f"no threshold from {threshold}: {error}") from None


def _first_error_sums(part: Judged, threshold: float) -> Floats:
    """Sums of `first_error_counts` per question, (questions, 4); what is unread is never hit."""
    guess = first_errors((scores or () for _, scores in part), threshold)
    guess = [-2 if scores is None else i for i, (_, scores) in zip(guess, part)]
    counts = first_error_counts(guess, [row.first_error for row, _ in part])
    return np.asarray(sums_by([row.problem.question for row, _ in part], counts))


# -- PRMBench --------------------------------------------------------------------------------------


def prmbench_table(
    solutions: Solutions, step_scores: StepScores, *, seed: int, threshold: float = 0.5
) -> pd.DataFrame:
    """One row per class, in the order of `ASPECTS`, then "overall", which pools all their steps.

    A step with score < threshold is judged wrong. Columns: class, aspect, n (solutions), unread,
    steps, wrong (wrong steps), threshold, and right_f1, wrong_f1, score, each with _low and _high;
    NaN where there is no step of a kind. ValueError for another class (meta["classification"]) or a
    step without a label.
    """
    classes = np.array([row.meta.get("classification") for row in solutions], object)
    if unknown := set(classes.tolist()) - set(ASPECTS):
        raise ValueError(f"classes {unknown}: use {', '.join(ASPECTS)}")
    variants = [row.problem.id.rpartition("/")[2].partition("#")[0] for row in solutions]
    pairs = _paired(solutions, step_scores)
    counts = np.array([_confusion(row, scores, threshold) for row, scores in pairs]).reshape(-1, 4)
    table = []
    for i, name in enumerate([*ASPECTS, "overall"]):
        kept = np.flatnonzero((classes == name) | (name == "overall")).tolist()
        if not kept:
            continue
        sums = sums_by([variants[k] for k in kept], counts[kept]).to_numpy(float)
        total = sums.sum(0)
        about = {"class": name, "aspect": ASPECTS.get(name, "all"), "n": len(kept)}
        about["unread"] = sum(step_scores[k] is None for k in kept) / len(kept)
        about |= {"steps": int(total.sum()), "wrong": int(total[2:].sum()), "threshold": threshold}
        drawn = resample(sums, seed=[seed, i], statistic=np.sum)
        table.append(about | _columns(_f1s(total), _f1s(drawn), ("right_f1", "wrong_f1", "score")))
    return pd.DataFrame(table)


def _confusion(
    row: LabelledSolution, scores: Sequence[float] | None, threshold: float
) -> list[int]:
    """Numbers of steps: right judged right, right judged wrong, wrong judged right, wrong wrong."""
    if None in row.labels:
        raise ValueError(f"{row.problem.id}: labels {row.labels}, PRMBench needs one for each step")
    if scores is None:
        return [0, row.labels.count(1), row.labels.count(0), 0]
    pairs = [(label == 1, score >= threshold) for label, score in zip(row.labels, scores)]
    return [pairs.count((right, passed)) for right in (True, False) for passed in (True, False)]


def _f1s(sums: Floats) -> Floats:
    """Sums (..., 4) of `_confusion` as F1 of right steps, F1 of wrong steps, PRMScore: (..., 3).

    >>> _f1s(np.array([6.0, 2, 1, 1])).round(4).tolist()  # 12 / (12 + 3), 2 / (2 + 3)
    [0.8, 0.4, 0.6]
    """
    right, missed, passed, wrong = np.moveaxis(sums, -1, 0)
    f1s = []
    for hits, of in ((right, right + missed), (wrong, wrong + passed)):
        f1s.append(np.where(of > 0, 2 * hits / np.maximum(2 * hits + missed + passed, 1), np.nan))
    return np.stack([*f1s, (f1s[0] + f1s[1]) / 2], -1)


def _columns(point: Floats, drawn: Floats, names: Sequence[str]) -> dict[str, Any]:
    """Values (3,) and the ends of their intervals, from (draws, 3): {name, name_low, name_high}."""
    out: dict[str, Any] = {}
    for name, value, own in zip(names, point, drawn.T):
        ends = with_interval(value, own)
        out |= {name: ends["value"], f"{name}_low": ends["low"], f"{name}_high": ends["high"]}
    return out
