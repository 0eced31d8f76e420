r"""How good are step scores? Ranking (AUC) and calibration, on steps with known truth.

The table has one row per judged step, up to and including the first fault of its solution: what
follows a fault has no truth of its own. An AUC is the share of (right, wrong) pairs of steps that
the scores order rightly; **within** groups only pairs of one position, or of one problem, count,
which takes away what a verifier knows from the position, or the difficulty, alone. Intervals are
over problems (whole problems are drawn, with all their steps), because the steps of a problem
resemble each other. Temperature: Guo et al. 2017, arXiv 1706.04599. Taught in notebooks 03, 04.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from workbench.analyse.metrics import Flags, Floats, Ints, with_interval
from workbench.types import Problem

TINY = 1e-6  # scores of 0 and 1 have no logit: they count as this far inside

# -- the table -------------------------------------------------------------------------------------


def step_table(
    solutions: Iterable[tuple[Problem, Sequence[float], Sequence[bool]]],
) -> pd.DataFrame:
    """One row per step to the first fault, from (problem, scores of steps, truths of steps).

    Columns: problem (its id), solution (0, 1, ... within its problem), position (0-based), level,
    score, right. ValueError if there is not one score per step, or a score is NaN.

    >>> p = Problem("p", "quantities", "?", level=2)
    >>> step_table([(p, [0.9, 0.4, 0.8], [True, False, False])])
      problem  solution  position  level  score  right
    0       p         0         0      2    0.9   True
    1       p         0         1      2    0.4  False
    """
    rows = []
    seen: dict[str, int] = {}
    for problem, scores, truths in solutions:
        name, level = problem.id, problem.level
        if len(scores) != len(truths):
            found = f"{len(scores)} scores for {len(truths)} steps"
            raise ValueError(f"{name}: {found}, need one per step")
        seen[name] = seen.get(name, -1) + 1
        for position, (score, right) in enumerate(zip(scores, truths)):
            if score != score:
                raise ValueError(f"{name}: a score is NaN, need numbers")
            rows.append((name, seen[name], position, level, float(score), bool(right)))
            if not right:
                break
    columns = ["problem", "solution", "position", "level", "score", "right"]
    return pd.DataFrame(rows, columns=columns)


def position_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """The same table scored by position alone: the later a step, the lower its score."""
    return table.assign(score=-table["position"].astype(float))


# -- ranking ---------------------------------------------------------------------------------------


def auc(scores: ArrayLike, right: ArrayLike) -> float:
    """Chance that a right step has a higher score than a wrong one; ties count half.

    ValueError unless there are right steps and wrong ones.

    >>> auc([0.9, 0.4, 0.6, 0.4], [1, 1, 0, 0])  # of 4 pairs 2 are in order, 1 is tied
    0.625
    """
    from sklearn.metrics import roc_auc_score

    scores, right = _checked(scores, right)
    if right.all() or not right.any():
        found = f"{right.sum()} right steps of {len(right)}"
        raise ValueError(f"{found}: an AUC needs right ones and wrong ones")
    return float(roc_auc_score(right, scores))


def auc_interval(
    table: pd.DataFrame, *, seed: int, by: str | Sequence[str] | None = None, draws: int = 1000
) -> dict[str, float]:
    """AUC of a step table, or within groups `by`, with its 95 % interval: {value, low, high}.

    Groups are given by a column or several ("position", "problem", "level", ...); the AUC within
    them is the mean of theirs, weighted by their numbers of (right, wrong) pairs. The bootstrap is
    over problems; one drawn twice counts as two. Draws without any pair are left out. ValueError
    without a pair.
    """
    pairs = _Pairs(table, by or [])
    rng, n = np.random.default_rng(seed), pairs.problem.max() + 1
    drawn = [pairs.auc(np.bincount(rng.integers(n, size=n), minlength=n)) for _ in range(draws)]
    return with_interval(pairs.auc(), drawn)


class _Pairs:
    """The steps of a table sorted by group and score: cumulative sums count pairs in order."""

    def __init__(self, table: pd.DataFrame, by: str | Sequence[str]) -> None:
        by = [by] if isinstance(by, str) else list(by)
        scores, right = _checked(table["score"], table["right"])
        ranks = np.unique(scores, return_inverse=True)[1]  # inf - inf is no number
        group = np.zeros(len(table), int)
        if by:
            group = table.groupby(by, dropna=False).ngroup().to_numpy()
        order = np.lexsort((ranks, group))
        ranks, group = ranks[order], group[order]
        self.right = right[order]  # (steps,)
        self.problem = pd.factorize(table["problem"])[0][order]
        starts = np.diff(group, prepend=-1) != 0
        # where a new score begins, and which of these places begin a group
        self.ties = np.flatnonzero(starts | (np.diff(ranks, prepend=-1) != 0))  # (ties,)
        self.groups = np.flatnonzero(starts[self.ties])  # (groups,)
        self.own_problem = "problem" in by
        if np.isnan(self.auc()):
            groups = f" of {by}" if by else ""
            raise ValueError(f"no right and wrong step in one group{groups}: there are no pairs")

    def auc(self, times: Ints | None = None) -> float:
        """Share of pairs in order when problem i counts `times[i]` times; NaN if there is none."""
        each = np.ones(len(self.problem)) if times is None else times[self.problem]  # (steps,)
        other = np.minimum(each, 1) if self.own_problem else each  # copies make no pairs
        right = np.add.reduceat(self.right * each, self.ties)  # (ties,)
        wrong = np.add.reduceat(~self.right * other, self.ties)
        below = np.cumsum(wrong) - wrong  # wrong ones with a lower score, ...
        sizes = np.diff(np.append(self.groups, len(below)))
        below = below - np.repeat(below[self.groups], sizes)  # ... of this group
        pairs = np.add.reduceat(right, self.groups) @ np.add.reduceat(wrong, self.groups)
        return float(right @ (below + wrong / 2) / pairs) if pairs else np.nan


def _checked(scores: ArrayLike, right: ArrayLike) -> tuple[Floats, Flags]:
    scores, right = np.asarray(scores, float), np.asarray(right, bool)
    if scores.ndim != 1 or scores.shape != right.shape or not len(scores):
        found = f"scores of shape {scores.shape} for truths of shape {right.shape}"
        raise ValueError(f"{found}: need (steps,), at least 1")
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN, need numbers")
    return scores, right


# -- calibration -----------------------------------------------------------------------------------


def fit_temperature(scores: ArrayLike, right: ArrayLike) -> float:
    r"""The T in [0.05, 20] with the least log-loss of $\sigma(\mathrm{logit}(score) / T)$.

    Fit it on other problems than it is used for.
    """
    scores, right = _checked(scores, right)
    z = _logit(scores) * np.where(right, 1, -1)  # (steps,) towards the truth

    def log_loss(log_t: float) -> float:
        return float(np.logaddexp(0, -z * np.exp(-log_t)).mean())

    return float(np.exp(minimize_scalar(log_loss, bounds=np.log([0.05, 20]), method="bounded").x))


def apply_temperature(scores: ArrayLike, temperature: float) -> Floats:
    """Scores pulled towards 0.5 (T > 1) or away from it (T < 1), in unchanged order.

    >>> apply_temperature([0.9, 0.5, 0.25], 2.0).round(4).tolist()
    [0.75, 0.5, 0.366]
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}: must be positive")
    return np.asarray(expit(_logit(scores) / temperature))


def _logit(scores: ArrayLike) -> Floats:
    return np.asarray(logit(np.clip(_in_unit(scores), TINY, 1 - TINY)))


def _in_unit(scores: ArrayLike) -> Floats:
    scores = np.asarray(scores, float)
    if wrong := scores[~((scores >= 0) & (scores <= 1))].tolist():
        raise ValueError(f"score {wrong[0]}: calibration needs scores in [0, 1]")
    return scores
