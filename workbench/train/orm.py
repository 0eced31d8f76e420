r"""Training an outcome reward model (ORM): is the whole solution right? Binary cross-entropy at its
last step only.

With $d = \text{logit}_{good} - \text{logit}_{bad}$ at the last id of the last step's separator and
y = 1 if the final answer is right, else 0, the loss is the mean over solutions of

$$L = -y \log \sigma(d) - (1 - y) \log (1 - \sigma(d)).$$

That is `train_prm` on rows of which every label but the last is None, and this module is no more
than that. One label a solution is what a grader of final answers gives for nothing; a PRM needs
labels of steps (Let's Verify, 2305.20050, and Math-Shepherd, 2312.08935, compare the two).

Deviations from Cobbe et al. (2021, arXiv 2110.14168): their verifier predicts after every token and
goes on learning to write (both helped them); ours predicts once, their "solution-level" variant,
and the host changes by LoRA alone. As there, a solution that got the answer by wrong steps is
labelled right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from workbench.models.step_format import StepFormat
from workbench.models.verifier import StepVerifier, save  # noqa: F401
from workbench.problems import is_right
from workbench.train import prm
from workbench.train.prm import PRMRecipe
from workbench.types import LabelledSolution, Prefix, Problem, SearchResult

Outcome = LabelledSolution | tuple[Problem, Prefix | str | Sequence[str], bool]


def outcomes(rows: Iterable[Outcome]) -> list[LabelledSolution]:
    r"""Solutions with one label each, on the last step: that of a labelled row, or of (problem,
    solution, right).

    A solution is a `Prefix`, a text (a step a line) or a list of steps. ValueError without steps or
    without a 0 or 1.

    >>> outcomes([(Problem("p", "math", "?"), "2 + 2 = 5\nThe answer is 5", False)])[0].labels
    (None, 0)
    """
    return [_outcome(*_parts(row)) for row in rows]


def _parts(row: Outcome) -> tuple[Problem, Sequence[str], object, str]:
    if isinstance(row, LabelledSolution):
        return row.problem, row.steps, row.labels[-1] if row.labels else None, row.source
    problem, solution, right = row
    if isinstance(solution, Prefix):
        solution = solution.texts
    return problem, solution.split("\n") if isinstance(solution, str) else solution, right, ""


def _outcome(
    problem: Problem, steps: Sequence[str], right: object, source: str
) -> LabelledSolution:
    if not steps:
        raise ValueError(f"{problem.id}: a solution without steps has no place for its label")
    if right not in (0, 1):
        raise ValueError(
            f"{problem.id}: last label {right!r}, need 1 (the solution is right) or 0 (wrong)"
        )
    return LabelledSolution(
        problem, tuple(steps), (*[None] * (len(steps) - 1), int(right)), source=source
    )


def graded(results: Iterable[SearchResult]) -> list[LabelledSolution]:
    """A pool of sampled solutions as training rows, each labelled by its final answer (unfinished
    ones are wrong)."""
    pool = ((result.problem, rollout) for result in results for rollout in result.rollouts)
    return outcomes((problem, rollout, is_right(problem, rollout)) for problem, rollout in pool)


def train_orm(
    model: torch.nn.Module,
    tokenizer,
    rows: Iterable[Outcome],
    *,
    recipe: PRMRecipe | None = None,
    form: StepFormat | None = None,
    seed: int,
    held_out: Callable[[StepVerifier], dict[str, float]] | None = None,
    **options,
) -> tuple[StepVerifier, list[dict]]:
    """Fine-tune `model` (changed in place) on what `outcomes` takes; solutions longer than it reads
    are left out.

    `options` are those of `train_prm` (bf16, keep, checkpoints ...), whose log it returns beside
    the verifier; `save` keeps that. Raises ValueError if there is nothing to learn from, or for a
    recipe with soft targets.
    """
    if recipe and recipe.soft:
        raise ValueError(
            "soft=True: the label of a whole solution is 1 or 0, an ORM has no soft targets"
        )
    measure = held_out and (lambda steps: held_out(_whole(steps)))
    given = dict(recipe=recipe, form=form, seed=seed, held_out=measure, **options)
    verifier, log = prm.train_prm(model, tokenizer, outcomes(rows), **given)
    return _whole(verifier), log


def _whole(steps: StepVerifier) -> StepVerifier:
    return StepVerifier(steps.model, steps.tokenizer, steps.form, per="solution", name="orm")
