"""Math-Shepherd: values are shares of right completions, prefix for prefix, and nothing is drawn
twice."""

from math import comb

import pytest
from scripted import Walker

from workbench.drive import solve
from workbench.problems import check_steps, quantities
from workbench.supervise.shepherd import label, shepherd
from workbench.types import Prefix, SearchResult, sees_answer

PROBLEMS = quantities.generate(12, levels=[3], seed=5)


def run(p=0.3, problems=PROBLEMS, **options):
    policy = Walker(problems, p)
    return policy, solve(problems, shepherd, policy=policy, seed=1, **options)


def test_each_step_of_each_solution_has_a_value_and_its_hard_label():
    _, results = run(solutions=4, n=8)
    for result in results:
        assert len(result.labelled) == len(result.rollouts) == 4
        for row, rollout in zip(result.labelled, result.rollouts):
            assert (
                row.steps == rollout.texts and row.problem == result.problem and row.problem.answer
            )
            assert row.labels == tuple(int(v > 0) for v in row.values)
            assert all((v * 8).is_integer() for v in row.values)


def test_a_wrong_step_is_worth_nothing_and_the_last_step_is_graded():
    _, results = run(solutions=6, n=16)
    for result in results:
        for row in result.labelled:
            truth = check_steps(row.problem, row.steps)
            first = truth.index(False) if False in truth else len(truth)
            assert all(v == 0 for v in row.values[first:])  # the walker never recovers
            assert row.values[-1] == float(all(truth))


@pytest.mark.slow
def test_soft_values_estimate_the_chance_to_finish():
    p, n = 0.3, 400
    _, results = run(p, solutions=3, n=n)
    for result in results:
        for row in result.labelled:
            for t, value in enumerate(row.values[:-1]):
                chance = (
                    (1 - p) ** (2 - t) if all(check_steps(row.problem, row.steps[: t + 1])) else 0
                )
                assert abs(value - chance) < 5 * (chance * (1 - chance) / n) ** 0.5 + 1e-9


def test_hard_labels_miss_good_steps_as_often_as_the_formula_says():
    """(1 - q)^N for a completer that finishes with chance q."""
    problems = quantities.generate(400, levels=[2], seed=6)
    _, results = run(0.5, problems, solutions=1, n=3)
    first_steps = [
        row for r in results for row in r.labelled if check_steps(r.problem, row.steps)[0]
    ]
    missed = sum(row.labels[0] == 0 for row in first_steps)
    n, q = len(first_steps), (1 - 0.5) ** 3  # one more step may go wrong
    expected = sum(k * comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1))
    assert abs(missed - expected) < 4 * (n * q * (1 - q)) ** 0.5


def test_equal_prefixes_are_completed_once():
    policy, results = run(0.0, solutions=5, n=4)  # all five solutions are the same
    assert policy.rows == len(PROBLEMS) * (5 + 3 * 4)
    assert all(row.values == (1.0,) * 4 for r in results for row in r.labelled)


def test_stop_at_zero_spends_nothing_beyond_and_says_the_same():
    lazy_policy, lazy = run(solutions=6, n=16, stop_at_zero=True)
    policy, eager = run(solutions=6, n=16)
    assert lazy_policy.rows < policy.rows
    assert [r.rollouts for r in lazy] == [r.rollouts for r in eager]
    for a, b in zip(lazy, eager):
        assert [[v > 0 for v in row.values] for row in a.labelled] == [
            [v > 0 for v in row.values] for row in b.labelled
        ]


def test_given_solutions_are_labelled_and_bad_sizes_are_named():
    problem = PROBLEMS[0]
    gold = Prefix.of(problem, problem.solution.split("\n"), ended=True)

    def method(problem, n=2):
        return (yield from label(problem, [gold], n=n))

    method.sees_answer = True
    (result,) = solve([problem], method, policy=Walker(PROBLEMS, 0.0))
    assert result.labelled[0].labels == (1, 1, 1, 1) and result.labelled[0].source == "shepherd"
    (result,) = solve([problem], method, policy=Walker(PROBLEMS), n=0)
    assert "n=0" in result.error


def test_an_unfinished_solution_counts_as_wrong():
    problem = PROBLEMS[0]
    cut = Prefix.of(problem, problem.solution.split("\n")[:2])

    def method(problem):
        return (yield from label(problem, [Prefix(problem, cut.steps, "length")], n=3))

    method.sees_answer = True
    (result,) = solve([problem], method, policy=Walker(PROBLEMS, 0.0))
    assert result.labelled[0].values == (1.0, 0.0)


@pytest.mark.parametrize("seed", [1, 2])
def test_batched_equals_one_by_one(seed):
    policy = Walker(PROBLEMS)
    together = solve(PROBLEMS, shepherd, policy=policy, seed=seed, solutions=3, n=4)
    alone = [solve([p], shepherd, policy=policy, seed=seed, solutions=3, n=4)[0] for p in PROBLEMS]
    assert [r.labelled for r in together] == [r.labelled for r in alone]


def test_labels_do_not_depend_on_the_order_of_the_pool():
    """One solution ends where another goes on: one is graded there, the other completed."""
    problem = PROBLEMS[0]
    gold = problem.solution.split("\n")
    whole, short = Prefix.of(problem, gold, ended=True), Prefix.of(problem, gold[:2], ended=True)

    @sees_answer
    def given(problem, *, pool):
        rows = yield from label(problem, pool, n=2)
        return SearchResult(problem, labelled=tuple(rows))

    for pool in ([whole, short], [short, whole]):
        (result,) = solve([problem], given, policy=Walker([problem], 0.0), pool=pool)
        labels = {len(row.steps): row.labels for row in result.labelled}
        assert labels == {len(gold): (1,) * len(gold), 2: (1, 0)}
