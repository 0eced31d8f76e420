"""Planted faults: one word of one good step, of its own kind, and a label that is never wrong."""

from workbench.problems import check_steps, quantities
from workbench.supervise.planted import planted
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
