r"""How good are step scores? Ranking (AUC), calibration, and first errors found, on steps with
known truth.

The table has one row per judged step, up to and including the first fault of its solution: what
follows a fault has no truth of its own. An AUC is the share of (right, wrong) pairs of steps that
the scores order rightly; **within** groups only pairs of one position, or of one problem, count,
which takes away what a verifier knows from the position, or the difficulty, alone. Intervals are
over problems (whole problems are drawn, with all their steps), because the steps of a problem
resemble each other. First errors follow ProcessBench (arXiv 2412.06559): the first step with score
< threshold; its threshold is chosen exactly, not on a grid. Temperature: Guo et al. 2017,
1706.04599. Taught in notebook 03.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from workbench.analyse.metrics import bootstrap, harmonic_mean, wilson
from workbench.types import Problem

TINY = 1e-6  # scores of 0 and 1 have no logit: they count as this far inside

# -- the table -------------------------------------------------------------------------------------


def step_table(
    solutions: Iterable[tuple[Problem, Sequence[float], Sequence[bool]]],
) -> pd.DataFrame:
    """One row per step up to and including a solution's first fault, from (problem, step scores,
    step truths).

    Columns: problem (its id), solution (0, 1, ... within its problem), position (0-based), level,
    score, right. ValueError if there is not one score per step, or a score is NaN.

    >>> step_table([(Problem("p", "quantities", "?", level=2), [0.9, 0.4, 0.8], [True, False, False])])
      problem  solution  position  level  score  right
    0       p         0         0      2    0.9   True
    1       p         0         1      2    0.4  False
    """
    rows, seen = [], {}
    for problem, scores, truths in solutions:
        if len(scores) != len(truths):
            raise ValueError(
                f"{problem.id}: {len(scores)} scores for {len(truths)} steps, need one per step"
            )
        number = seen[problem.id] = seen.get(problem.id, -1) + 1
        for position, (score, right) in enumerate(zip(scores, truths)):
            rows.append((problem.id, number, position, problem.level, float(score), bool(right)))
            if not right:
                break
    table = pd.DataFrame(
        rows, columns=["problem", "solution", "position", "level", "score", "right"]
    )
    if table["score"].isna().any():
        raise ValueError(
            f"problem {table[table['score'].isna()]['problem'].iloc[0]}: a score is NaN, need numbers"
        )
    return table


def position_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """The same table scored by position alone: the later a step, the lower its score (minus the
    position)."""
    return table.assign(score=-table["position"].astype(float))


# -- ranking ---------------------------------------------------------------------------------------


def auc(scores: ArrayLike, right: ArrayLike) -> float:
    """Chance that a right step has a higher score than a wrong one; ties count half. ValueError
    unless there are both.

    >>> auc([0.9, 0.4, 0.6, 0.4], [1, 1, 0, 0])  # of 4 pairs 2 are in order, 1 is tied
    0.625
    """
    from sklearn.metrics import roc_auc_score

    scores, right = _checked(scores, right)
    if right.all() or not right.any():
        raise ValueError(
            f"{right.sum()} right steps of {len(right)}: an AUC needs right ones and wrong ones"
        )
    return float(roc_auc_score(right, scores))


def auc_within(table: pd.DataFrame, by: str | Sequence[str]) -> float:
    """The AUC of pairs of one group, by "position", "problem", "level" or several columns;
    ValueError without a pair.

    It is the mean of the groups' AUCs, weighted by their numbers of (right, wrong) pairs.
    """
    return float(_Pairs(table, by).auc())


def auc_interval(
    table: pd.DataFrame, *, seed: int, by: str | Sequence[str] | None = None, draws: int = 1000
) -> dict[str, float]:
    """AUC of a step table, or within groups `by`, with its 95 % bootstrap interval over problems:
    {value, low, high}.

    A problem drawn twice counts as two problems. Draws without any pair are left out.
    """
    pairs = _Pairs(table, by or [])
    rng, n = np.random.default_rng(seed), pairs.problem.max() + 1
    drawn = [pairs.auc(np.bincount(rng.integers(n, size=n), minlength=n)) for _ in range(draws)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": float(pairs.auc()), "low": float(low), "high": float(high)}


class _Pairs:
    """The steps of a table sorted by group and score, so that pairs in order are counted by
    cumulative sums."""

    def __init__(self, table: pd.DataFrame, by: str | Sequence[str]):
        by = [by] if isinstance(by, str) else list(by)
        scores, right = _checked(table["score"], table["right"])
        group = (
            table.groupby(by, dropna=False).ngroup().to_numpy() if by else np.zeros(len(table), int)
        )
        order = np.lexsort((scores, group))
        scores, group = scores[order], group[order]
        # (steps,)
        self.right, self.problem = right[order], pd.factorize(table["problem"])[0][order]
        starts = np.diff(group, prepend=-1) != 0
        # (ties,) where a new score begins
        self.ties = np.flatnonzero(starts | (np.diff(scores, prepend=np.nan) != 0))
        self.groups = np.flatnonzero(starts[self.ties])  # (groups,) which of these begin a group
        self.own_problem = "problem" in by
        if np.isnan(self.auc()):
            raise ValueError(
                f"no right and wrong step in one group{f' of {by}' if by else ''}: there are no pairs"
            )

    def auc(self, times: np.ndarray | None = None) -> float:
        """Share of pairs in order when problem i counts `times[i]` times; NaN if there is no pair."""
        times = np.ones(len(self.problem)) if times is None else times[self.problem]  # (steps,)
        # copies of a problem make no pairs
        other = np.minimum(times, 1) if self.own_problem else times
        right = np.add.reduceat(self.right * times, self.ties)  # (ties,)
        wrong = np.add.reduceat(~self.right * other, self.ties)
        below = np.cumsum(wrong) - wrong  # wrong ones with a lower score, ...
        sizes = np.diff(np.append(self.groups, len(below)))
        below = below - np.repeat(below[self.groups], sizes)  # ... of this group
        pairs = np.add.reduceat(right, self.groups) @ np.add.reduceat(wrong, self.groups)
        return right @ (below + wrong / 2) / pairs if pairs else np.nan


def _checked(scores: ArrayLike, right: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, right = np.asarray(scores, float), np.asarray(right, bool)
    if scores.ndim != 1 or scores.shape != right.shape or not len(scores):
        raise ValueError(
            f"scores of shape {scores.shape} for truths of shape {right.shape}: need (steps,), at least 1"
        )
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN, need numbers")
    return scores, right


# -- calibration -----------------------------------------------------------------------------------


def reliability(scores: ArrayLike, right: ArrayLike, *, bins: int = 10) -> list[dict[str, float]]:
    """Mean score and share of right steps per equal-width bin of [0, 1]; empty bins are left out.

    Rows {low_edge, high_edge, mean_score, share_right, n, low, high}; low and high are Wilson's and
    take steps as independent. A score on an edge belongs to the bin above it, a score of 1 to the
    last.

    >>> rows = reliability([0.25, 0.5, 1], [0, 1, 0], bins=2)
    >>> [(row["low_edge"], row["mean_score"], row["share_right"], row["n"]) for row in rows]
    [(0.0, 0.25, 0.0, 1), (0.5, 0.75, 0.5, 2)]
    """
    scores, right = _checked(_in_unit(scores), right)
    if bins < 1:
        raise ValueError(f"{bins} bins, need at least 1")
    edges = np.linspace(0, 1, bins + 1)
    where = np.searchsorted(edges[1:-1], scores, side="right")
    rows = []
    for i in np.unique(where):
        score, hits, n = (
            scores[where == i].mean(),
            int(right[where == i].sum()),
            int(np.sum(where == i)),
        )
        low, high = wilson(hits, n)
        row = {
            "low_edge": float(edges[i]),
            "high_edge": float(edges[i + 1]),
            "mean_score": float(score),
        }
        rows.append(row | {"share_right": hits / n, "n": n, "low": low, "high": high})
    return rows


def ece(scores: ArrayLike, right: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error: |mean score - share of right steps|, averaged over bins by their
    steps.

    >>> ece([0.25, 0.25, 0.75, 0.75], [0, 1, 1, 1], bins=2)
    0.25
    """
    rows = reliability(scores, right, bins=bins)
    gaps = [row["n"] * abs(row["mean_score"] - row["share_right"]) for row in rows]
    return sum(gaps) / sum(row["n"] for row in rows)


def fit_temperature(scores: ArrayLike, right: ArrayLike) -> float:
    r"""The T in [0.05, 20] with the least log-loss of $\sigma(\mathrm{logit}(score) / T)$; fit it
    on other problems."""
    scores, right = _checked(scores, right)
    z = _logit(scores) * np.where(right, 1, -1)  # (steps,) towards the truth

    def log_loss(log_t):
        return np.logaddexp(0, -z * np.exp(-log_t)).mean()

    return float(np.exp(minimize_scalar(log_loss, bounds=np.log([0.05, 20]), method="bounded").x))


def apply_temperature(scores: ArrayLike, temperature: float) -> np.ndarray:
    """Scores pulled towards 0.5 (T > 1) or away from it (T < 1), in unchanged order.

    >>> apply_temperature([0.9, 0.5, 0.25], 2.0).round(4).tolist()
    [0.75, 0.5, 0.366]
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}: must be positive")
    return expit(_logit(scores) / temperature)


def _logit(scores: ArrayLike) -> np.ndarray:
    return logit(np.clip(_in_unit(scores), TINY, 1 - TINY))


def _in_unit(scores: ArrayLike) -> np.ndarray:
    scores = np.asarray(scores, float)
    if wrong := scores[~((scores >= 0) & (scores <= 1))].tolist():
        raise ValueError(f"score {wrong[0]}: calibration needs scores in [0, 1]")
    return scores


# -- first errors ----------------------------------------------------------------------------------


def first_errors(step_scores: Iterable[Sequence[float]], threshold: float) -> list[int]:
    """Per solution the 0-based index of the first step with score < threshold, -1 where there is
    none.

    >>> first_errors([[0.9, 0.3, 0.2], [0.9, 0.5]], 0.5)
    [1, -1]
    """
    return [
        next((i for i, score in enumerate(scores) if score < threshold), -1)
        for scores in step_scores
    ]


def best_threshold(step_scores: Sequence[Sequence[float]], labels: Sequence[int | None]) -> float:
    """The threshold with the largest ProcessBench F1 of `first_errors`, the lowest of several; use
    it on another split.

    `labels` are 0-based first errors, -1 or None where there is none. Exact: an error at step t is
    hit by thresholds in (score of t, lowest score before t], a correct solution by those up to its
    lowest score; so both hit rates change only at such ends, and one threshold between each two
    neighbours is enough.

    >>> best_threshold([[0.9, 0.2], [0.8, 0.6]], [1, -1])
    0.4
    """
    low, high, clean = _hit_ranges(step_scores, labels)
    errors = sum(t is not None and t != -1 for t in labels)
    if not errors or not len(clean):
        raise ValueError(
            f"{errors} solutions with an error, {len(clean)} without: need both to choose a threshold"
        )
    ends = np.unique(np.concatenate([low, high[np.isfinite(high)], clean]))
    middles = (ends[1:] + ends[:-1]) / 2
    middles = np.where(middles > ends[:-1], middles, ends[1:]) if len(middles) else ends
    error = (np.searchsorted(low, middles) - np.searchsorted(high, middles)) / errors
    correct = 1 - np.searchsorted(clean, middles) / len(clean)
    f1 = 2 * error * correct / np.where(error + correct > 0, error + correct, 1)
    return float(middles[np.argmax(f1)])


def crossed_first_errors(
    problems: Sequence[str], step_scores: Sequence[Sequence[float]], labels: Sequence[int | None]
) -> list[int]:
    """Predicted first errors, for every solution at a threshold chosen on the other half of the
    problems.

    The halves are every second problem by id. ValueError if one has no solution with an error, or
    none without.
    """
    halves = np.isin(problems, sorted(set(problems))[::2])  # (solutions,)
    guess = np.full(len(problems), -1)
    for own in (halves, ~halves):
        other = np.flatnonzero(~own)
        threshold = best_threshold([step_scores[i] for i in other], [labels[i] for i in other])
        guess[own] = first_errors([step_scores[i] for i in np.flatnonzero(own)], threshold)
    return guess.tolist()


def _hit_ranges(step_scores, labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted ends of the ranges (low, high] of thresholds that hit an error, and lowest scores of
    correct solutions."""
    if len(step_scores) != len(labels):
        raise ValueError(f"{len(step_scores)} solutions for {len(labels)} labels, need as many")
    ranges, clean = [], []
    for scores, label in zip(step_scores, labels):
        t, n = -1 if label is None else label, len(scores)
        if not -1 <= t < n or not n or any(score != score for score in scores):
            raise ValueError(
                f"first error {t} with scores {list(scores)}: need -1 to {n - 1}, and a number per step"
            )
        if t == -1:
            clean.append(min(scores))
        elif scores[t] < (before := min(scores[:t], default=np.inf)):
            ranges.append((scores[t], before))
    low, high = np.array(ranges, float).reshape(-1, 2).T
    return np.sort(low), np.sort(high), np.sort(np.array(clean, float))


def f1_interval(
    problems: Sequence[str],
    predicted: Sequence[int | None],
    labels: Sequence[int | None],
    *,
    seed: int,
) -> dict[str, float]:
    """ProcessBench F1 of first errors with its 95 % bootstrap interval over problems: {value, low,
    high}.

    One entry per solution in each: the id of its problem, and 0-based first errors, -1 or None
    where there is none.
    """
    sums = first_error_hits(problems, predicted, labels).to_numpy()  # (problems, 4)
    low, high = bootstrap(sums, seed=seed, statistic=_f1)
    return {"value": float(_f1(sums)), "low": float(low), "high": float(high)}


def first_error_hits(
    problems: Sequence[str], predicted: Sequence[int | None], labels: Sequence[int | None]
) -> pd.DataFrame:
    """Per problem: solutions with an error that is hit, with an error, without one that pass,
    without one."""
    if not len(problems) == len(predicted) == len(labels) > 0:
        raise ValueError(
            f"{len(problems)} problems, {len(predicted)} predictions, {len(labels)} labels: need as many"
        )
    guess, truth = (np.array([-1 if i is None else i for i in row]) for row in (predicted, labels))
    error, hit = truth != -1, guess == truth  # (solutions,)
    counts = np.stack([error & hit, error, ~error & hit, ~error], 1).astype(float)  # (solutions, 4)
    return pd.DataFrame(counts).groupby(np.asarray(problems)).sum()


def f1_gain(one: pd.DataFrame, other: pd.DataFrame, *, seed: int) -> dict[str, float]:
    """F1 of `one` minus that of `other`, {value, low, high}; both are `first_error_hits` of the
    same problems.

    Problems are drawn for both together. ValueError if they are not the same.
    """
    if not one.index.equals(other.index):
        raise ValueError(
            f"first errors of {len(one)} and {len(other)} problems: need the same ones"
        )

    def gain(sums, axis=0):
        return _f1(sums[:, :4]) - _f1(sums[:, 4:])

    both = np.hstack([one.to_numpy(), other.to_numpy()])  # (problems, 8)
    low, high = bootstrap(both, seed=seed, statistic=gain)
    return {"value": float(gain(both)), "low": float(low), "high": float(high)}


def _f1(sums: np.ndarray, axis: int = 0) -> float:
    error_hit, error, right_hit, right = sums.sum(axis)
    return harmonic_mean(error_hit / max(error, 1), right_hit / max(right, 1))
