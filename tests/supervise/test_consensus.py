"""Consensus and self-denoising: which labels stay, by literal examples."""

import pytest

from workbench.supervise.consensus import agree, agree_with_endings, denoise
from workbench.types import LabelledSolution, Problem


def row(labels, problem="p", values=None):
    steps = tuple("abcdef"[: len(labels)])
    return LabelledSolution(
        Problem(problem, "math", "?"), steps, tuple(labels), values, "x", {"n": 1}
    )


FIRST = [row((1, 1, 0), values=(0.9, 0.5, 0.0)), row((1, 0, 0)), row((1, 1, 1)), row((1, None, 0))]
SECOND = [row((1, 1, 0)), row((0, 0, 0)), row((1, 1, 1)), row((1, 1, 0))]


def test_solutions_stay_whose_first_error_all_see_at_the_same_step():
    kept = agree(FIRST, SECOND)
    assert [r.labels for r in kept] == [(1, 1, 0), (1, 1, 1), (1, None, 0)]
    assert (
        kept[0].values == (0.9, 0.5, 0.0)
        and kept[0].source == "consensus"
        and kept[0].meta == {"n": 1}
    )


def test_steps_stay_that_all_label_alike():
    assert [r.labels for r in agree(FIRST, SECOND, keep="steps")] == [
        (1, 1, 0),
        (None, 0, 0),
        (1, 1, 1),
        (1, None, 0),
    ]
    assert [r.labels for r in agree(FIRST, keep="steps")] == [r.labels for r in FIRST]
    third = [row((0, 0, 0)), *SECOND[1:]]
    assert agree(FIRST, SECOND, third, keep="steps")[0].labels == (None, None, 0)


def test_solutions_stay_whose_verdict_agrees_with_their_ending():
    rows = [row((1, 1)), row((1, 1)), row((1, 0)), row((1, 0)), row((1, None))]
    kept = agree_with_endings(rows, [True, False, True, False, True])
    assert [r.labels for r in kept] == [(1, 1), (1, 0), (1, None)]
    assert {r.source for r in kept} == {"consensus"}
    with pytest.raises(ValueError, match="1 endings for 5 rows: need one each"):
        agree_with_endings(rows, [True])


def test_a_step_without_a_label_is_no_soft_target():
    one, other = row((1, 1, 0), values=(0.9, 0.5, 0.0)), row((1, 0, 0))
    assert agree([one], [other], keep="steps")[0].values == (0.9, None, 0.0)
    assert denoise([one], confidence=0)[0].values == (0.9, None, 0.0)


def test_labellings_of_different_solutions_are_refused():
    for other in (SECOND[:3], [*SECOND[::-1][:3], row((1, 1))], [row((1, 1, 0), "q"), *SECOND[1:]]):
        with pytest.raises(ValueError, match="2 labellings of different solutions"):
            agree(FIRST, other)
    with pytest.raises(ValueError, match="keep='all': use 'solutions' or 'steps'"):
        agree(FIRST, keep="all")


def test_problems_seldom_solved_are_left_out():
    rows = [
        row((1, 1), "easy"),
        row((1, 0), "easy"),
        row((1, 1), "hard"),
        row((0, 0), "hard"),
        row((1, 0), "hard"),
    ]
    assert [r.problem.id for r in denoise(rows, confidence=0.5)] == ["easy", "easy"]
    assert len(denoise(rows, confidence=1 / 3)) == 5 and denoise([]) == []


def test_a_solution_without_steps_is_one_that_does_not_solve_its_problem():
    rows = [row((1, 1)), row(())]
    assert denoise(rows, confidence=0.6) == [] and len(denoise(rows, confidence=0.5)) == 2


def test_steps_before_the_error_that_was_seen_are_left_out():
    rows = [row((1, 1, 1, 0, 0)), row((0, 0)), row((1, 1, 1)), row((1, 0, 1))]
    assert [r.labels for r in denoise(rows, confidence=0)] == [
        (1, 1, None, 0, 0),
        (0, 0),
        (1, 1, 1),
        (None, 0, 1),
    ]
    assert denoise(rows, confidence=0, slack=2)[0].labels == (1, None, None, 0, 0)
    assert [r.labels for r in denoise(rows, confidence=0, slack=0)] == [r.labels for r in rows]


@pytest.mark.parametrize("options", [{"confidence": 1.5}, {"slack": -1}])
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match="need 0 <= confidence <= 1 and slack >= 0"):
        denoise(FIRST, **options)
