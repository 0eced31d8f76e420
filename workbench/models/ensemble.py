r"""Several verifiers that judge as one: a weighted sum of their log-odds.

$$\text{logit}(s_i) = \sum_m w_m\, \text{logit}(s_{m, i})$$

for step i. Two that err in different places may err less together: a process reward model has
learnt from labels what a question asks, the policy's own likelihood (`verifier.untrained`) knows
how the sum comes out. Neither is trained for it, unlike a likelihood *within* the verifier
(`StepFormat.likelihood`). Weights are chosen on validation.
Sums of log-odds are products of experts (Hinton 2002); Coste et al. 2023 (arXiv 2310.02743) average
reward models, or take the lowest, against over-optimisation. Taught in notebook 10.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit

from workbench.fingerprint import digest
from workbench.types import Meter, Prefix, Scores, Verifier


def weighted_log_odds(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """Several verifiers' scores of one solution, (members, steps), as one row, (steps,).

    A score of 0 or 1 counts as not quite sure.

    >>> [round(score, 4) for score in weighted_log_odds([[0.5, 0.9], [0.8, 0.9]], [1, 2])]
    [0.9412, 0.9986]
    """
    lowest, highest = np.finfo(float).tiny, 1 - np.finfo(float).eps
    odds = logit(np.clip(np.array(rows, float), lowest, highest))  # (members, steps)
    return expit(np.array(weights) @ odds).tolist()


class Ensemble:
    """A verifier made of others, each with a weight, 1 unless given.

    All judge steps, or all whole solutions. ValueError otherwise, for no members and for weights
    that are not as many or not finite.
    """

    def __init__(
        self, members: Sequence[Verifier], weights: Sequence[float] | None = None, *, name: str = ""
    ):
        self.members = tuple(members)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(self.members)
        if not self.members or len(self.weights) != len(self.members):
            given = f"{len(self.weights)} weights for {len(self.members)} verifiers"
            raise ValueError(f"{given}: need one each, and one verifier at least")
        if not np.isfinite(self.weights).all():
            raise ValueError(f"weights={self.weights}: need finite ones")
        judged = [member.per for member in self.members]
        if len({*judged}) > 1:
            given = f"verifiers judge per {' and per '.join(judged)}"
            raise ValueError(f"{given}: need the same of all")
        self.per = judged[0]
        self.name = name or " + ".join(getattr(m, "name", type(m).__name__) for m in self.members)
        if all(hasattr(member, "price") for member in self.members):
            self.price = self._price  # who has a member without a price has none

    def score(self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None) -> Scores:
        """As `types.Verifier.score` says: each member reads, and all is paid for."""
        by_member = [member.score(prefixes, meters=meters) for member in self.members]
        return [self._together(rows) for rows in zip(*by_member)]

    def _together(self, rows: Sequence[Sequence[float]]) -> list[float]:
        return weighted_log_odds(rows, self.weights)

    def _price(self, prefixes: Sequence[Prefix]) -> int:
        """Tokens at most that `score` would compute for these, by all members."""
        return sum(member.price(prefixes) for member in self.members)

    def forget(self) -> None:
        """Let every member that remembers be as if it had read nothing yet."""
        for member in self.members:
            if forget := getattr(member, "forget", None):
                forget()

    def fingerprint(self) -> str:
        """What this verifier is: its members and their weights."""
        return digest((self.members, self.weights))
