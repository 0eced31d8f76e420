"""Solutions that a verifier refuses to read: found one by one, counted as missed, never to its
credit."""

import pytest

from workbench.analyse.first_errors import best_threshold
from workbench.analyse.process_bench import prmbench_table, processbench_table, score_solutions
from workbench.types import LabelledSolution, Meter, Problem, Unreadable


def solution(id, labels, subset="gsm8k", classification="circular"):
    meta = {"subset": subset, "classification": classification}
    return LabelledSolution(
        Problem(id, "math", f"question {id}"), ("x",) * len(labels), labels, meta=meta
    )


ROWS = [
    solution("a", (1, 0)), solution("b", (0, 1)), solution("c", (1, 1)), solution("d", (1,)),
    solution("e", (1, 0), "math"), solution("f", (1, 1), "math"),
]  # fmt: skip
SCORES = [[0.9, 0.2], [0.6, 0.1], [0.8, 0.7], [0.3], [0.9, 0.4], [0.8, 0.9]]


class Short:
    """Reads solutions of less than two steps, or those that are allowed, each once."""

    per = "step"

    def __init__(self, *allowed):
        self.allowed, self.read = allowed, []

    def score(self, prefixes, *, meters=None):
        for prefix in prefixes:
            if len(prefix.steps) > 1 and prefix.problem.id not in self.allowed:
                raise Unreadable(f"{prefix.problem.id}: too long")
        self.read += [prefix.problem.id for prefix in prefixes]
        for meter in meters or ():
            meter.verifier += 1
        return [[0.5] * len(prefix.steps) for prefix in prefixes]


def test_what_is_refused_alone_has_no_scores_and_the_others_are_read_once():
    for batch in (1, 4, 64):
        verifier, meter = Short("a", "f"), Meter()
        scores = score_solutions(ROWS, verifier, batch=batch, meter=meter, skip=True)
        assert scores == [[0.5, 0.5], None, None, [0.5], None, [0.5, 0.5]]
        assert sorted(verifier.read) == ["a", "d", "f"] and meter.verifier == 3
    with pytest.raises(Unreadable, match="b: too long"):
        score_solutions(ROWS, Short("a", "f"))


@pytest.mark.parametrize("batch", [1, 64])
def test_a_verifier_that_breaks_is_not_taken_for_one_that_cannot_read(batch):
    class Broken(Short):
        def score(self, prefixes, *, meters=None):
            raise ValueError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(ValueError, match="mat1 and mat2"):
        score_solutions(ROWS, Broken(), batch=batch, skip=True)


def test_scores_that_do_not_fit_are_no_refusal():
    class Wrong(Short):
        def score(self, prefixes, *, meters=None):
            return [[0.5] for _ in prefixes]

    with pytest.raises(ValueError, match=r"a: scores .* for 2 steps"):
        score_solutions(ROWS, Wrong(), skip=True)


def test_on_processbench_an_unread_solution_is_missed_with_an_error_and_without():
    part = processbench_table(
        ROWS, [*SCORES[:2], None, *SCORES[3:]], seed=0, threshold=0.5
    ).set_index("subset")
    assert part["unread"].to_dict() == {"gsm8k": 0.25, "math": 0.0, "average": 1 / 6}
    whole = processbench_table(ROWS, SCORES, seed=0, threshold=0.5).set_index("subset")
    assert (whole["unread"] == 0).all()
    # a hit, b not (says 1); c hit, d not
    assert whole.loc["gsm8k", ["error", "correct"]].tolist() == [0.5, 0.5]
    assert part.loc["gsm8k", ["error", "correct", "f1"]].tolist() == [0.5, 0.0, 0.0]
    none = processbench_table(ROWS, [None, *SCORES[1:]], seed=0, threshold=0.5).set_index("subset")
    assert none.loc["gsm8k", ["error", "correct"]].tolist() == [0.0, 0.5]
    silent = processbench_table(ROWS, [None] * len(ROWS), seed=0, threshold=0.5)
    assert (silent["unread"] == 1).all() and (silent[["error", "correct", "f1"]] == 0).all(
        axis=None
    )


def test_the_threshold_is_chosen_among_what_was_read():
    scores = [None, *SCORES[1:]]
    table = processbench_table(ROWS, scores, seed=0)
    assert set(table["threshold"]) == {best_threshold(scores[1:4], [0, None, None])}
    with pytest.raises(
        ValueError, match="no threshold from gsm8k: 0 solutions with an error, 2 without"
    ):
        processbench_table(ROWS, [None, None, *SCORES[2:]], seed=0)


def test_on_prmbench_all_steps_of_an_unread_solution_are_misjudged():
    table = prmbench_table(ROWS, [None, *SCORES[1:]], seed=0).set_index("class")
    wrong = [[0.1, 0.9], *SCORES[1:]]  # the opposite of the labels of a
    same = prmbench_table(ROWS, wrong, seed=0).set_index("class")
    assert table.drop(columns="unread").equals(same.drop(columns="unread"))
    assert table["unread"].tolist() == [1 / 6, 1 / 6] and (same["unread"] == 0).all()
