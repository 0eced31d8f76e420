"""Judge other people's runs: votes and choices by score on recorded samples, compared in pairs.

From the records of `workbench.problems.recorded` comes one table: for each number of samples n
pass@n, the majority vote, and where there are scores best-of-n and the weighted vote, all with 95 %
intervals over problems; and of each method that uses scores the paired difference from the majority
vote on the same problems, with interval, permutation p and problems won and lost.

Right is what the file says. Answers are grouped by value where the gold answer is known, else as
texts; a value is right if most of its samples are. As in `scaling`, each n uses the whole pool (the
expectation over its subsets of n) and ties share. Published figures often come from the first n
samples in the order recorded: `first=True`. Several records of a problem (seeds, files) are one
problem with the mean of their results, so that no interval takes them for independent.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.analyse.compare import paired, with_verdicts
from workbench.analyse.metrics import Floats, Gold, group_by_value
from workbench.analyse.scaling import SELECTIONS, PoolParts, doublings, interval, values_at
from workbench.problems.grading import is_equal
from workbench.problems.recorded import RecordedSamples

BASELINE = "majority"
PAIRED = ("difference", "difference_low", "difference_high", "p", "won", "lost")


def recorded_verdicts(
    records: Sequence[RecordedSamples],
    *,
    seed: int,
    first: bool = False,
    budgets: Sequence[int] | None = None,
) -> pd.DataFrame:
    """A row per number of samples and method: n, method, value, low, high, and paired columns.

    `budgets` are powers of two and the whole pool unless given. difference, difference_low,
    difference_high, p, p_holm, won, lost and verdict compare with the majority vote; they are empty
    for methods without scores, and at n = 1, where there is nothing to choose. ValueError for no
    records, pools of several sizes, or scores in some only.
    """
    pool, names = _pool(records), ["pass@k", BASELINE]
    n = len(pool.answers[0])
    scored = _score_methods(pool)
    problem = pd.factorize(np.array([record.id for record in records], object))[0]  # (records,)
    rows: list[dict[str, Any]] = []
    for k in budgets or sorted({*doublings(n), n}):
        at_k = _first(pool, k) if first else pool
        found = {name: _values(name, k, at_k, problem, seed) for name in names + scored}
        for name, values in found.items():
            row = {"n": k, "method": name, **interval(values, seed=seed)}
            compared = name in scored and k > 1
            row |= dict.fromkeys(PAIRED, np.nan)
            if compared:
                row |= zip(PAIRED, paired(values, found[BASELINE], seed=seed))
            rows.append(row)
    return with_verdicts(pd.DataFrame(rows))


def _first(pool: PoolParts, n: int) -> PoolParts:
    """The first n samples of each record."""
    correct, scores = np.asarray(pool.correct)[:, :n], pool.step_scores
    cut = None if scores is None else [row[:n] for row in scores]
    return PoolParts([row[:n] for row in pool.answers], correct, pool.golds, cut)


def _values(name: str, k: int, pool: PoolParts, problem: NDArray[np.intp], seed: int) -> Floats:
    """Expected correctness of a method, (problems,): the mean over the records of each."""
    values = values_at(name, k, *pool, seed=seed)
    mean: Floats = np.bincount(problem, values) / np.bincount(problem)
    return mean


def _score_methods(pool: PoolParts) -> list[str]:
    """Best-of-n and weighted vote, by the one score of a sample or by each aggregate of steps'."""
    if pool.step_scores is None:
        return []
    single = all(len(steps) == 1 for row in pool.step_scores for steps in row)
    return ["orm_max", "orm_vote"] if single else [*SELECTIONS]


def _pool(records: Sequence[RecordedSamples]) -> PoolParts:
    """A row a record; answers are the numbers of their values."""
    sizes = {len(record.answers) for record in records}
    if len(sizes) != 1:
        raise ValueError(f"pools of {sorted(sizes)} samples: need as many for every problem")
    if len({bool(record.scores) for record in records}) > 1:
        bare = next(record.id for record in records if not record.scores)
        raise ValueError(f"{bare} has no scores, others have: need them for all or none")
    golds_of: dict[str, str | None] = {}
    for record in records:  # of several seeds, or of files whose ids happen to be the same?
        known = golds_of.setdefault(record.id, record.gold)
        if known != record.gold and not is_equal(known or "", record.gold):
            two = f"answers {known!r} and {record.gold!r}"
            raise ValueError(f"problem {record.id} has the {two}: judge each file by itself")
    grouped = [_grouped(record) for record in records]
    answers, golds = [row for row, _ in grouped], [right for _, right in grouped]
    correct = np.array([record.correct for record in records], bool)
    scores = [record.scores for record in records] if records[0].scores else None
    return PoolParts(answers, correct, golds, scores)


def _grouped(record: RecordedSamples) -> tuple[list[str | None], Gold]:
    """The number of each answer's value as text, (n,), None if missing; the numbers that are right.

    Numbers, because comparing them is exact and takes no time.
    """
    equal = operator.eq if record.gold is None else is_equal
    values, group = group_by_value(record.answers, equal)
    flags = np.array(record.correct)
    if (bare := np.flatnonzero(flags & (group < 0))).size:
        said = f"sample {bare[0] + 1} without an answer is marked correct"
        raise ValueError(f"problem {record.id}: {said}: it must count as wrong")
    right = tuple(str(i) for i in range(len(values)) if np.mean(flags[group == i]) > 0.5)
    return [str(i) if i >= 0 else None for i in group], right
