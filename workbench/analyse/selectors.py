r"""Selection from one pool: votes weighted by step scores (DiVeRSe), mutual consistency (rStar).

**Step-aware vote** (Li et al. 2022, arXiv 2206.02336). A sample i with answer $a_i$, solution score
$f_i$ and step scores $s_{i1} \dots s_{iS}$ votes for its answer with the weight

$$w_i = f_i \prod_j s_{ij}^\alpha, \qquad \hat a = \arg\max_a \sum_{i:\, a_i = a} w_i.$$

The paper votes with $w_i = f_i$ and lets the steps in by training: its loss is $-\log f_i - \alpha
\sum_j \log s_{ij}$ for a solution that is right all through, and $w_i$ is e to the minus that loss.
Deviations, then: a trained PRM is taken as it is and the steps count at the vote; $f_i$ is the last
step's score unless given. $\alpha = 0$ is the paper's voting verifier.

**Mutual consistency** (Qi et al. 2024, 2408.06195). A second model completes each sample from where
it was cut; the sample is *validated* if at least a `share` of these completions end in its own
answer. The choice is among the validated samples, among all where there are none: the most frequent
answer (`mutual_vote`), or the sample with the highest score (`mutual_best`). Deviations: the
samples need not come from a tree search, whose reward times confidence is the paper's score (give
it as `scores`); the share is one of all completions of a sample, where the published code compares
their number with half the number of cuts. Where to cut (the published code: after 20 to 50 % of
it), and the completions, are the caller's.

As in `scaling`: the expectation over all k-subsets of the pool, answers grouped by equality of
value, a missing answer never wins, ties share. Mutual consistency has closed forms; the step-aware
vote is `weighted_vote_at_k`. Taught in notebook 04.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np

from workbench.analyse import metrics
from workbench.analyse.metrics import AnswerRow, Flags, Floats, StepRows
from workbench.analyse.scaling import weighted_vote_at_k
from workbench.problems.grading import is_equal

Completions = Sequence[AnswerRow]  # for each sample the answers of its completions

# -- DiVeRSe: votes weighted by the solution's score and its steps' --------------------------------


def step_aware_weights(
    step_scores: StepRows, *, alpha: float = 0.1, solution_scores: Sequence[float] | None = None
) -> Floats:
    """The weight of each sample's vote, (n,): solution score times step scores to the power alpha.

    Without `solution_scores` it is the last step's. ValueError unless all scores are in [0, 1],
    each sample has steps and a solution score, and alpha >= 0. The vote: `metrics.weighted_vote`.

    >>> step_aware_weights([[0.25, 0.5], [1.0, 0.5]], alpha=0.5).round(4).tolist()
    [0.1768, 0.3536]
    """
    if not alpha >= 0 or not all(len(row) for row in step_scores):
        given = f"alpha={alpha}, steps {[len(row) for row in step_scores]}"
        raise ValueError(f"{given}: need alpha >= 0, a step each")
    whole = [row[-1] for row in step_scores] if solution_scores is None else solution_scores
    if len(whole) != len(step_scores):
        given = f"{len(whole)} solution scores for {len(step_scores)} samples"
        raise ValueError(f"{given}, need one each")
    for score in (*whole, *(s for row in step_scores for s in row)):
        if not 0 <= score <= 1:
            raise ValueError(f"score {score}: step-aware weights need scores in [0, 1]")
    steps = [np.prod(np.asarray(row, float) ** alpha) for row in step_scores]
    return np.array([f * s for f, s in zip(whole, steps)], float)


def step_aware_vote_at_k(
    answers: AnswerRow, step_scores: StepRows, gold: str, k: int, *, seed: Any, **options: Any
) -> float:
    """Expected correctness of the step-aware vote among k samples from a pool.

    `options` are those of `step_aware_weights`; which subsets count: see `weighted_vote_at_k`.

    >>> step_aware_vote_at_k(["7", "8", "8"], [[0.9], [0.1], [0.3]], "7", 2, seed=0)
    0.6666666666666666
    """
    weights = step_aware_weights(step_scores, **options)
    return weighted_vote_at_k(answers, weights, gold, k, seed=seed)


# -- rStar: samples that a second model completes to the same answer -------------------------------


def agreement(answers: AnswerRow, completions: Completions) -> Floats:
    """Per sample the share of its completions that end in its own answer, (n,); 0 without one.

    A completion without an answer agrees with nothing. ValueError unless every sample with an
    answer has completions.

    >>> agreement(["1/2", "3", None], [["0.5", "2"], ["2", None], []]).tolist()
    [0.5, 0.0, 0.0]
    """
    if len(answers) != len(completions):
        given = f"completions of {len(completions)} samples for {len(answers)} answers"
        raise ValueError(f"{given}, need as many")
    sizes = np.array([len(row) for row in completions], int)
    _, value = metrics.group_by_value([*answers, *(c for row in completions for c in row)])
    own, theirs = value[: len(answers)], np.split(value[len(answers) :], np.cumsum(sizes)[:-1])
    if bare := np.flatnonzero((own >= 0) & (sizes == 0)).tolist():
        raise ValueError(f"samples {bare[:5]} have an answer but no completion, need one each")
    return np.array([np.mean(row == mine) if mine >= 0 else 0.0 for mine, row in zip(own, theirs)])


def validated(answers: AnswerRow, completions: Completions, *, share: float = 0.5) -> Flags:
    """Which samples are mutually consistent, (n,): at least `share` of their completions agree.

    0 < share <= 1: just above 0 asks for any agreement, 1 for all.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: need 0 < share <= 1")
    return agreement(answers, completions) >= share - 1e-12


def mutual_vote(answers: AnswerRow, completions: Completions, *, share: float = 0.5) -> str | None:
    """The most frequent answer of the validated samples, of all if none is; the first of several.

    >>> mutual_vote(["7", "8", "8"], [["7"], ["7"], ["9"]])
    '7'
    """
    kept = validated(answers, completions, share=share)
    return metrics.majority_vote([a for a, ok in zip(answers, kept) if ok or not kept.any()])


def mutual_vote_at_k(
    answers: AnswerRow, completions: Completions, gold: str, k: int, *, share: float = 0.5
) -> float:
    """Expected correctness of `mutual_vote` among k samples from a pool of n; tied answers share.

    Exact: either a validated sample is drawn, and the others are as good as missing; or none is,
    with chance C(m,k) / C(n,k) for m others, and then the k are a random subset of these.

    >>> mutual_vote_at_k(["7", "8", "8"], [["7"], ["1"], ["9"]], "7", 2)  # votes: 7, 7 and 8
    0.6666666666666666
    """
    kept = validated(answers, completions, share=share)
    some = metrics.majority_at_k([a if ok else None for a, ok in zip(answers, kept)], gold, k)
    others = [a for a, ok in zip(answers, kept) if not ok]
    if len(others) < k:
        return some
    chance = comb(len(others), k) / comb(len(answers), k)  # that none is drawn
    return some + chance * metrics.majority_at_k(others, gold, k)


def mutual_best_at_k(
    answers: AnswerRow,
    completions: Completions,
    scores: Sequence[float],
    gold: str,
    k: int,
    *,
    share: float = 0.5,
) -> float:
    """Expected correctness of the highest-scored validated one of k samples; tied ones share.

    Of all k where none is validated. Exact: samples are ordered by (has an answer, is validated,
    score), and the best of k is chosen by that order.

    >>> mutual_best_at_k(["7", "8", "8"], [["7"], ["1"], ["9"]], [0.1, 0.8, 0.9], "7", 3)
    1.0
    """
    kept = validated(answers, completions, share=share)
    if len(scores) != len(answers) or np.isnan(np.asarray(scores, float)).any():
        raise ValueError(f"scores {list(scores)} of {len(answers)} samples: need a number each")
    order = [(bool(a and a.strip()), bool(ok), float(s)) for a, ok, s in zip(answers, kept, scores)]
    place = {key: i for i, key in enumerate(sorted(set(order)))}
    right = [is_equal(gold, answer) for answer in answers]
    return metrics.best_of_n_at_k([place[key] for key in order], right, k)
