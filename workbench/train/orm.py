r"""Training an outcome reward model (ORM): is the whole solution right? Judged at its last step.

With $d = \text{logit}_{good} - \text{logit}_{bad}$ at the last id of the last step's separator and
y = 1 if the final answer is right, else 0, the loss is the mean over solutions of

$$L = -y \log \sigma(d) - (1 - y) \log (1 - \sigma(d)).$$

That is `train_prm` on rows of which every label but the last is None, and this module is no more
than that. One label a solution is what a grader of final answers gives for nothing; a PRM needs
labels of steps (Let's Verify, 2305.20050, and Math-Shepherd, 2312.08935, compare the two).

Deviations from Cobbe et al. (2021, arXiv 2110.14168): their verifier predicts after every token and
goes on learning to write (both helped them); ours predicts once, their "solution-level" variant
(`outcome_loss` can label the words, too), and the host changes by LoRA unless told otherwise. As
there, a solution that got the answer by wrong steps is labelled right. Taught in notebook 04.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier
from workbench.train.prm import step_loss, train_prm
from workbench.types import LabelledSolution, Prefix, Problem

Outcome = LabelledSolution | tuple[Problem, Prefix | str | Sequence[str], bool]


def outcome_rows(rows: Iterable[Outcome]) -> list[LabelledSolution]:
    r"""Solutions with one label each, on the last step.

    A row is labelled, or (problem, solution, right), where a solution is a `Prefix`, a text (a step
    a line) or a list of steps. Why a `Prefix` is over stands in `meta["stop"]`: one cut for length
    has no ending that says anything. ValueError without steps or without a 0 or 1.

    >>> outcome_rows([(Problem("p", "math", "?"), "2 + 2 = 5\nThe answer is 5", False)])[0].labels
    (None, 0)
    """
    return [_outcome(row) for row in rows]


def _outcome(row: Outcome) -> LabelledSolution:
    if isinstance(row, LabelledSolution):
        problem, steps, right, source = row.problem, row.steps, (None, *row.labels)[-1], row.source
        meta = row.meta
    else:
        problem, solution, right = row
        texts = solution.texts if isinstance(solution, Prefix) else solution
        steps, source = texts.split("\n") if isinstance(texts, str) else texts, ""
        meta = {"stop": solution.stop} if isinstance(solution, Prefix) else {}
    if not steps:
        raise ValueError(f"{problem.id}: a solution without steps has no place for its label")
    if right not in (0, 1):
        need = "need 1 (the solution is right) or 0 (wrong)"
        raise ValueError(f"{problem.id}: last label {right!r}, {need}")
    labels = (*[None] * (len(steps) - 1), int(right))
    return LabelledSolution(problem, tuple(steps), labels, source=source, meta=meta)


def outcome_loss(
    logits: torch.Tensor,
    batch: Mapping[str, torch.Tensor],
    form: StepFormat,
    totals: Mapping[str, int] | None = None,
    *,
    within: float = 0.0,
) -> torch.Tensor:
    """As `prm.step_loss`, with the whole solution as one step. logits (B, T, V)

    So with `within` the fault of a wrong solution is its least likely word. A guess: the words
    before it get the label good, and a right answer by a wrong step makes all words good.
    """
    whole = {**batch, "steps": batch["steps"].clamp(max=1)}
    return step_loss(logits, whole, form, totals, within=within)


def train_orm(
    model: torch.nn.Module, tokenizer, rows: Iterable[Outcome], *, seed: int, **options: Any
) -> tuple[StepVerifier, list[dict[str, float]]]:
    """As `train_prm`, on what `outcome_rows` takes; the verifier judges whole solutions.

    Solutions longer than the model reads are left out with a warning.
    """
    made = {"per": "solution", "name": "orm"}
    solutions = outcome_rows(rows)
    return train_prm(model, tokenizer, solutions, seed=seed, verifier_options=made, **options)
