"""Planted faults: one word of one good step, of its own kind, and a label that is never wrong."""

from workbench.problems import check_steps, explain, quantities, stories
from workbench.supervise.planted import EQUATION, hasty, misread, planted
from workbench.types import LabelledSolution, Problem

PROBLEMS = quantities.generate(60, levels=range(2, 6), seed=5, split="train")
GOOD = [LabelledSolution(p, (s := tuple(p.solution.split("\n"))), (1,) * len(s)) for p in PROBLEMS]


def test_one_word_of_one_step_differs_and_is_of_the_same_kind():
    spoilt = planted(GOOD, seed=0)
    assert len(spoilt) == len(GOOD)
    for old, new in zip(GOOD, spoilt):
        t = len(new.steps) - 1
        assert new.problem is old.problem and new.source == "planted"
        assert new.steps[:t] == old.steps[:t] and new.labels == (*[1] * t, 0)
        pairs = zip(old.steps[t].split(" "), new.steps[t].split(" "), strict=True)
        ((word, other),) = [(a, b) for a, b in pairs if a != b]
        assert word.isdigit() == other.isdigit() and word.istitle() == other.istitle()


def test_the_checker_agrees_with_the_labels():
    wrong = [not check_steps(row.problem, row.steps)[-1] for row in planted(GOOD, seed=1)]
    assert sum(wrong) >= 0.97 * len(wrong)
    first = [check_steps(row.problem, row.steps).index(False) for row in planted(GOOD, seed=2)
             if not check_steps(row.problem, row.steps)[-1]]  # fmt: skip
    assert len(set(first)) >= 4  # early and late steps


def test_faults_lie_before_what_is_labelled_bad_or_not_at_all():
    row = GOOD[0]
    for labels in ((1, 0), (1, None)):
        half = LabelledSolution(row.problem, row.steps[:2], labels)
        (spoilt,) = planted([half], seed=0)
        assert len(spoilt.steps) == 1 and spoilt.labels == (0,)
    assert planted([LabelledSolution(row.problem, row.steps[:1], (0,))], seed=0) == []
    bare = LabelledSolution(Problem("p", "math", "?"), ("so it is",), (1,))
    assert planted([bare], seed=0) == []


def test_it_depends_on_the_seed_and_the_solution_alone():
    assert planted(GOOD, seed=0) == planted(GOOD[::-1], seed=0)[::-1] != planted(GOOD, seed=1)


# -- equations that compute something else -----------------------------------------------------


def solutions(n, seed, **options):
    told = stories.generate(n, seed=seed, levels=[1, 2, 3], largest=50, **options)
    steps = [tuple(p.solution.split("\n")) for p in told]
    return [LabelledSolution(p, own, (1,) * len(own)) for p, own in zip(told, steps)]


def test_a_misread_step_is_worked_out_right_and_computes_something_else():
    rows = solutions(200, seed=3, split="train")
    found = misread(rows, seed=0)
    assert len(found) > 190
    by_question = {row.problem.question: row for row in rows}
    for wrong in found:
        t = len(wrong.steps) - 1
        old = by_question[wrong.problem.question]
        assert wrong.labels == (*[1] * t, 0) and wrong.source == "misread"
        assert wrong.steps[:t] == old.steps[:t] and wrong.steps[t] not in old.steps
        a, sign, b, result = EQUATION.fullmatch(wrong.steps[t]).groups()
        assert eval(f"{a} {sign} {b}") == int(result) > 0
        assert result != EQUATION.fullmatch(old.steps[t])[4]


def test_most_misread_steps_are_wrong_and_none_is_a_slip():
    found = misread(solutions(200, seed=4, split="train"), seed=0)
    faults = [explain(row.problem, row.steps)[-1] for row in found]
    kinds = [fault.partition(":")[0] for fault in faults if fault]
    # a part of the answer may be worked out by the way: half of (25 - 3) is half of 25 less ...
    assert len(kinds) > 0.85 * len(faults) and kinds.count("arithmetic slip") < 0.05 * len(kinds)


def test_misread_depends_on_the_seed_and_the_solution_and_leaves_out_what_is_no_equation():
    rows = solutions(30, seed=5, split="train")
    assert misread(rows, seed=0) == misread(rows[::-1], seed=0)[::-1] != misread(rows, seed=1)
    bad = [LabelledSolution(row.problem, row.steps, (0, *row.labels[1:])) for row in rows]
    assert misread(bad, seed=0) == [] == misread(GOOD[:20], seed=0)


# -- answers that come too early ------------------------------------------------------------------


def test_a_hasty_answer_is_the_result_of_an_earlier_step_and_the_checker_calls_it_wrong():
    rows = [row for row in solutions(300, seed=6, split="train") if len(row.steps) > 2]
    found = hasty(rows, seed=0)
    assert len(found) > 0.95 * len(rows)
    by_question = {row.problem.question: row for row in rows}
    for early in found:
        old, t = by_question[early.problem.question], len(early.steps) - 1
        assert early.labels == (*[1] * t, 0) and early.source == "hasty"
        assert early.steps[:t] == old.steps[:t] and t < len(old.steps)
        result = old.steps[t - 1].rpartition(" = ")[2]
        assert early.steps[t] == f"The answer is {result}" != old.steps[-1]
        assert check_steps(early.problem, early.steps) == [True] * t + [False]
    assert {len(row.steps) for row in found} == {2, 3}  # after the first step, or after the second


def test_hasty_depends_on_the_seed_and_the_solution_and_leaves_out_what_has_no_earlier_result():
    rows = solutions(60, seed=7, split="train")
    assert hasty(rows, seed=0) == hasty(rows[::-1], seed=0)[::-1] != hasty(rows, seed=1)
    assert hasty([row for row in rows if len(row.steps) == 2], seed=0) == []
    halves = [LabelledSolution(row.problem, row.steps[:-1], row.labels[:-1]) for row in rows]
    bad = [LabelledSolution(row.problem, row.steps, (*row.labels[:-1], 0)) for row in rows]
    same = LabelledSolution(rows[0].problem, ("2 + 2 = 4", "The answer is 4"), (1, 1))
    assert hasty([*halves, *bad, same], seed=0) == []
