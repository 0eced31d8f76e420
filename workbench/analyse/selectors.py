r"""Mutual consistency (rStar, Qi et al. 2024, arXiv 2408.06195): who agrees with a second model?

It completes each sample from where it was cut; the sample is *validated* if at least a `share` of
these completions end in its own answer. The most frequent answer of the validated samples is
chosen, of all where there are none. Answers are grouped by equality of value; a missing one never
wins. Deviation: the share is one of all completions of a sample, where the published code compares
their number with half the number of cuts. Where to cut, and the completions: `search.rstar`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.analyse.metrics import Floats, group_by_value, majority_vote

Completions = Sequence[Sequence[str | None]]  # for each sample the answers of its completions


def agreement(answers: Sequence[str | None], completions: Completions) -> Floats:
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
    _, value = group_by_value([*answers, *(c for row in completions for c in row)])
    own, theirs = value[: len(answers)], np.split(value[len(answers) :], np.cumsum(sizes)[:-1])
    if bare := np.flatnonzero((own >= 0) & (sizes == 0)).tolist():
        raise ValueError(f"samples {bare[:5]} have an answer but no completion, need one each")
    return np.array([np.mean(row == mine) if mine >= 0 else 0.0 for mine, row in zip(own, theirs)])


def validated(
    answers: Sequence[str | None], completions: Completions, *, share: float = 0.5
) -> NDArray[np.bool_]:
    """Which samples are mutually consistent, (n,): at least `share` of their completions agree.

    0 < share <= 1: just above 0 asks for any agreement, 1 for all.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: need 0 < share <= 1")
    return agreement(answers, completions) >= share - 1e-12


def mutual_vote(
    answers: Sequence[str | None], completions: Completions, *, share: float = 0.5
) -> str | None:
    """The most frequent answer of the validated samples, of all if none is; the first of several.

    >>> mutual_vote(["7", "8", "8"], [["7"], ["7"], ["9"]])
    '7'
    """
    kept = validated(answers, completions, share=share)
    return majority_vote([a for a, ok in zip(answers, kept) if ok or not kept.any()])
