"""Label quality by literal numbers: what counts, what does not, and intervals over problems."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from workbench.analyse.labels import (
    first_error_gain,
    first_error_quality,
    first_fault,
    label_quality,
    label_table,
    shares,
    truth,
)
from workbench.analyse.metrics import processbench_f1
from workbench.problems import check_steps, quantities, solvable
from workbench.types import LabelledSolution

PROBLEMS = quantities.generate(6, levels=[3], seed=19, distractors=[0])


def spoil(problem, at):
    """The gold solution with a slip in step `at`, or none."""
    steps = problem.solution.split("\n")
    if at is not None:
        steps[at] = steps[at].replace(" .", "9 .")
    return tuple(steps)


def row(problem, at, labels, values=None):
    return LabelledSolution(problem, spoil(problem, at), labels, values)


def test_truth_ends_with_the_first_fault():
    problem = PROBLEMS[0]
    for at in (None, 0, 1, 2, 3):
        steps = spoil(problem, at)
        known, right = truth(problem, steps), check_steps(problem, steps)
        assert first_fault(problem, steps) == at == (right.index(False) if False in right else None)
        assert len(known) == (4 if at is None else at + 1)
        assert [able for _, able in known] == [
            solvable(problem, steps[:t]) for t in range(1, len(known) + 1)
        ]


def test_the_table_holds_steps_to_the_fault_but_not_the_last():
    a, b = PROBLEMS[:2]
    table = label_table(
        [
            row(a, 1, (1, None, 0, 0), (0.5, None, 0, 0)),
            row(b, 3, (1, 1, 0, 0)),
            row(b, None, (1,) * 4),
        ]
    )
    assert table.problem.tolist() == [a.id] * 2 + [b.id] * 6
    assert table.position.tolist() == [0, 1, 0, 1, 2, 0, 1, 2]
    assert table.right.tolist() == [True, False] + [True] * 6
    np.testing.assert_array_equal(table.label, [1, np.nan, 1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(table.value, [0.5] + [np.nan] * 7)
    assert table.fault[1] == "arithmetic slip" and set(table.fault[2:]) == {""}


def test_draws_without_a_bad_label_are_left_out_of_its_interval():
    rows = [(f"p{i}", 1, 1.0, True) for i in range(9)] + [("p9", 0, 0.0, False)]
    table = pd.DataFrame(rows, columns=["problem", "label", "value", "right"])
    found = label_quality(table, truth="right", seed=0)
    assert found["precision"] == {"value": 1.0, "low": 1.0, "high": 1.0} == found["recall"]


def test_quality_counts_bad_as_found():
    a, b = PROBLEMS[:2]
    rows = [
        row(a, 0, (0, 0, 0, 0)),
        row(a, 1, (1, 1, 0, 0)),
        row(b, 2, (0, 1, 0, 0)),
        row(b, None, (1, None, 1, 1)),
    ]
    found = label_quality(label_table(rows), truth="right", seed=0)
    # steps that count: a0 bad/wrong; a1 good/right, good/wrong; b2 bad/right, good/right,
    # bad/wrong; three more right
    assert {name: x["value"] for name, x in found.items()} == {
        "precision": 2 / 3, "recall": 2 / 3, "kept": 4 / 5, "coverage": 8 / 9,
    }  # fmt: skip
    assert all(x["low"] <= x["value"] <= x["high"] for x in found.values())


def test_calibration_is_the_gap_of_values_in_bins():
    table = pd.DataFrame(
        {
            "problem": list("aabb"),
            "label": [1.0, 1, 1, 0],
            "value": [0.15, 0.11, 1.0, np.nan],
            "solvable": [False, True, True, True],
        }
    )
    found = label_quality(table, truth="solvable", seed=0)
    assert found["ece"]["value"] == pytest.approx(abs(0.26 - 1) / 3)


def test_first_errors_are_those_of_processbench_on_what_is_covered():
    a, b = PROBLEMS[:2]
    rows = [
        row(a, 1, (1, 0, 0, 0)),
        row(a, 2, (1, 0, None, 0)),
        row(b, None, (1, 1, 1, 1)),
        row(b, 0, (None, 0, 0, 0)),
    ]
    found = first_error_quality(rows, seed=0)
    assert found["coverage"] == 3 / 4
    assert found["value"] == pytest.approx(processbench_f1([1, 1, None], [1, 2, None]))
    with pytest.raises(ValueError, match="none of 1 solutions"):
        first_error_quality(rows[3:], seed=0)


def test_the_gain_is_a_difference_on_the_same_problems():
    good = [row(p, i % 3, tuple(int(t < i % 3) for t in range(4))) for i, p in enumerate(PROBLEMS)]
    good += [row(p, None, (1,) * 4) for p in PROBLEMS]
    half = [replace(r, labels=(0,) * 4) if i % 2 else r for i, r in enumerate(good)]
    gain = first_error_gain(good, half, seed=0)
    values = [first_error_quality(rows, seed=0)["value"] for rows in (good, half)]
    assert (
        gain["value"] == pytest.approx(values[0] - values[1])
        and 0 < gain["low"] < gain["value"] < gain["high"]
    )
    # repetitions of a labelling weigh nothing
    assert first_error_gain(half + half, half, seed=0)["value"] == 0
    with pytest.raises(ValueError, match="need the same"):
        first_error_gain(good, half[:3], seed=0)


def test_shares_by_group():
    table = pd.DataFrame(
        {
            "problem": list("aabb"),
            "kind": list("xyxx"),
            "hit": [1, 0, 0, 1],
            "p": [0.1, 0.2, 0.3, 0.5],
        }
    )
    found = shares(table, "hit", by=["kind"], mean="p", seed=0)
    assert found[["kind", "n"]].to_numpy().tolist() == [["x", 3], ["y", 1]]
    assert found.value.tolist() == pytest.approx([2 / 3, 0]) and found.p.tolist() == pytest.approx(
        [0.3, 0.2]
    )
    assert found.low[0] == pytest.approx(0.5) and found.high[0] == 1


def test_refusals():
    table = label_table([row(PROBLEMS[0], 1, (1, 0, 0, 0))])
    with pytest.raises(ValueError, match="truth='luck'"):
        label_quality(table, truth="luck", seed=0)
    with pytest.raises(ValueError, match="0 steps"):
        label_quality(table.head(0), truth="right", seed=0)
