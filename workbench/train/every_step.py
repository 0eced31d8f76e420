r"""A process reward model from final answers alone: a solution is right if every step is.

With $p_i = \sigma(d_i)$ the score of step i as in `prm`, and y = 1 if the final answer is right,
the chance that a whole solution is right is taken to be the product of its steps', and

$$L = -y \sum_i \log p_i - (1 - y) \log \Big(1 - \prod_i p_i\Big).$$

A right answer praises all steps. A wrong one blames that step most which is already thought worst,
for there the gradient of the second term is largest: so labels of whole solutions become labels of
steps. This is learning from bags (Dietterich et al. 1997), with the noisy-or of Zhang, Platt and
Viola (2005) turned round.

How it deviates: steps are not independent given the question, and a right answer may come by a
wrong step. A solution that was cut for length, or that is longer than the model reads, is left out.
Taught in notebook 04.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from scipy.stats import entropy
from torch.nn.functional import logsigmoid

from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.train.orm import Outcome, outcome_rows
from workbench.train.prm import margins, train_prm
from workbench.train.sft import IGNORE

NEVER_RIGHT = -1e-6  # the largest log-chance that all steps of a wrong solution are right


def every_step_loss(
    logits: torch.Tensor,
    batch: dict[str, torch.Tensor],
    form: StepFormat,
    totals: Mapping[str, int] | None = None,
) -> torch.Tensor:
    """Cross-entropy of answers, over the solutions of `prm.collate`'s batch; as `prm.step_loss`.

    The target at every separator is what the answer of its solution is. logits (B, T, V)
    """
    ends = (batch["targets"] != IGNORE) & batch["whole"][:, None]  # (B, T)
    margin = margins(logits, batch, form)  # (B, T)
    all_right = (logsigmoid(margin) * ends).sum(1)[batch["whole"]]  # (R,) log chances
    right = batch["targets"].masked_fill(~ends, 0).amax(1)[batch["whole"]] > 0.5  # (R,)
    some_wrong = torch.log(-torch.expm1(all_right.clamp(max=NEVER_RIGHT)))  # (R,)
    loss = -torch.where(right, all_right, some_wrong).sum()
    return loss / max(1, totals["rows"] - totals["cut"] if totals else len(right))


def train_every_step(
    model: torch.nn.Module, tokenizer, rows: Iterable[Outcome], *, seed: int, **options: Any
) -> tuple[StepVerifier, list[dict[str, float]]]:
    """Fine-tune `model` (changed in place) on graded solutions, as `orm.outcome_rows` takes them.

    `options` are those of `prm.train_prm`.
    """
    solutions = outcome_rows(rows)
    whole = [replace(row, labels=(row.labels[-1],) * len(row.steps)) for row in solutions]
    share = fmean(row.labels[-1] for row in solutions)
    about = {"loss": every_step_loss, "trivial_loss": float(entropy([share, 1 - share]))}
    return train_prm(model, tokenizer, whole, past_error=True, seed=seed, **about, **options)
