"""MiPS, the untrained judge and STaR: each keeps to its definition, prefix for prefix and prompt
for prompt."""

from collections import Counter
from dataclasses import replace

import pytest
from scripted import Judge, Walker, oracle

from workbench.drive import solve
from workbench.problems import check_steps, is_right, quantities
from workbench.supervise.judge import at_threshold, judge, threshold_of
from workbench.supervise.mips import mips
from workbench.supervise.shepherd import shepherd
from workbench.supervise.star import star
from workbench.types import LabelledSolution

PROBLEMS = quantities.generate(12, levels=[3], seed=5)


class Hinted(Walker):
    """Errs at its rate after the question, never after a hint; remembers the prompts."""

    def __init__(self, problems, p):
        super().__init__(problems, p)
        self.prompts = Counter()

    def sample(self, prefixes, keys, *, prompt, **options):
        self.prompts[prompt] += len(prefixes)
        usual, self.p = self.p, 0.0 if prompt == "hint" else self.p
        out = super().sample(prefixes, keys, prompt=prompt, **options)
        self.p = usual
        return out


def test_mips_values_are_those_of_another_completer():
    policy, helper = Walker(PROBLEMS, 0.4), Walker(PROBLEMS, 0.0)
    options = dict(policy=policy, helpers={"helper": helper}, seed=1, solutions=4, n=5)
    for result in solve(PROBLEMS, mips, **options):
        for row in result.labelled:
            truth = check_steps(row.problem, row.steps)
            so_far = [all(truth[: t + 1]) for t in range(len(truth))]
            # a helper that never errs finishes whatever is right
            assert row.values == tuple(map(float, so_far))
            assert (
                row.labels == tuple(map(int, so_far))
                and row.source == "mips"
                and row.meta["by"] == "helper"
            )
    assert policy.rows == 4 * len(PROBLEMS) and helper.rows > 0  # the policy completes nothing


def test_mips_labels_are_values_above_the_threshold():
    options = dict(policy=Walker(PROBLEMS, 0.4), seed=1, solutions=3, n=8)
    soft = solve(PROBLEMS, shepherd, **options)
    for one, other in zip(soft, solve(PROBLEMS, mips, by="policy", threshold=0.5, **options)):
        assert [row.values for row in one.labelled] == [row.values for row in other.labelled]
        assert all(row.labels == tuple(int(v > 0.5) for v in row.values) for row in other.labelled)
    (result,) = solve(PROBLEMS[:1], mips, policy=Walker(PROBLEMS), threshold=1.0)
    assert "threshold=1.0: need 0 <= threshold < 1" in result.error


def test_the_judge_says_what_its_verifier_thinks_and_costs_no_completions():
    policy = Walker(PROBLEMS, 0.4)
    for result in solve(
        PROBLEMS, judge, policy=policy, verifier=oracle(PROBLEMS), seed=1, solutions=4
    ):
        for row, solution in zip(result.labelled, result.rollouts):
            assert row.steps == solution.texts and row.problem.answer
            assert row.labels == tuple(map(int, check_steps(row.problem, row.steps)))
    assert policy.rows == 4 * len(PROBLEMS)


def test_the_judge_sees_no_answer():
    seen = []

    class Blind:
        per = "step"

        def score(self, prefixes, *, meters=None):
            seen.extend(prefix.problem.answer for prefix in prefixes)
            return [[0.9] * len(prefix.steps) for prefix in prefixes]

    (result,) = solve(PROBLEMS[:1], judge, policy=Walker(PROBLEMS), verifier=Blind(), solutions=3)
    assert seen == [None] * 3 and result.labelled[0].problem.answer


def test_the_judge_names_a_threshold_or_a_number_of_scores_that_cannot_be():
    options = dict(policy=Walker(PROBLEMS), verifier=oracle(PROBLEMS))
    assert "threshold=2" in solve(PROBLEMS[:1], judge, threshold=2, **options)[0].error
    short = Judge(PROBLEMS, lambda problem, steps: [0.5])
    (result,) = solve(PROBLEMS[:1], judge, policy=Walker(PROBLEMS), verifier=short)
    assert "need one per step" in result.error
    strict = solve(PROBLEMS, judge, threshold=1.0, **options)
    assert {label for result in strict for row in result.labelled for label in row.labels} == {0}


def test_a_threshold_without_truth_lets_as_many_pass_as_end_right():
    rows = [
        LabelledSolution(PROBLEMS[0], ("a", "b"), (1, 1), (high, low), "judge")
        for high, low in ((0.9, 0.8), (0.9, 0.7), (0.9, 0.2), (0.1, 0.9))
    ]
    threshold = threshold_of(rows, [True, False, True, False])
    assert 0.2 < threshold < 0.7
    again = at_threshold(rows, threshold)
    assert [row.labels for row in again] == [(1, 1), (1, 1), (1, 0), (0, 1)]
    cut = replace(rows[0], labels=(1, None), values=(0.9, None))  # where a budget ended
    assert at_threshold([cut], 0.5)[0].labels == (1, None)
    with pytest.raises(ValueError, match="4 rows, 4 of them judged, 1 endings"):
        threshold_of(rows, [True])
    with pytest.raises(ValueError, match="0 rows, 0 of them judged"):
        threshold_of([], [])


def test_star_keeps_what_ends_right_and_asks_with_the_answer_only_where_nothing_does():
    policy = Hinted(PROBLEMS, 0.4)
    results = solve(PROBLEMS, star, policy=policy, seed=3, n=2, hints=3)
    solved = [any(is_right(r.problem, s) for s in r.rollouts[:2]) for r in results]
    assert 0 < sum(solved) < len(PROBLEMS)
    assert policy.prompts == {"solve": 2 * len(PROBLEMS), "hint": 3 * (len(PROBLEMS) - sum(solved))}
    for result, ok in zip(results, solved):
        (row,) = result.labelled  # the walker knows one right text, and texts come once
        assert row.steps == tuple(result.problem.solution.split("\n")) and set(row.labels) == {1}
        assert row.meta == {"hinted": not ok} and len(result.rollouts) == (2 if ok else 5)


def test_star_without_hints_is_rejection_sampling():
    policy = Hinted(PROBLEMS, 0.4)
    results = solve(PROBLEMS, star, policy=policy, seed=3, n=2, hints=0)
    assert set(policy.prompts) == {"solve"}
    assert {len(r.labelled) for r in results} == {0, 1} and not any(
        row.meta["hinted"] for r in results for row in r.labelled
    )
    assert "n=0, hints=4" in solve(PROBLEMS[:1], star, policy=policy, n=0)[0].error


@pytest.mark.parametrize("method", [mips, judge, star])
def test_labellers_see_the_answer(method):
    assert method.sees_answer
