"""MATH-APS, flat and as a tree: literal examples, what it can not hold, the real samples."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from workbench.problems.process_data import read, write
from workbench.types import LabelledSolution, Problem

ROW = LabelledSolution(
    Problem("p2", "math", "Half?", meta={"s": [1]}), ("c",), (1,), (0.25,), "shepherd", {"n": 8}
)


def flat(*prefixes, **rest):
    steps = [{"solution_prefix": text, "mc_value": value} for text, value in prefixes]
    return {
        "question": "Q?",
        "final_answer": "7",
        "question_id": 3,
        "reasoning_steps": steps,
    } | rest


def node(text, value, *children):
    return {"text": text, "mc_value": value, "children": list(children)}


FLAT = flat(
    ("Q?", 0.25), ("Q?\n\n a", 0.5), ("Q?\n\n a\n\nb 1", 0.0), ("Q?\n\n a\n\nb 12", 0.75),
    ("Q?\n\n\nc", 0.0),
    ("Q?\n\n a\n\nb 1\n\nd", 1.0), ("Q?\n\n a\n\nb 1", 0.25),
)  # fmt: skip
TREE = flat() | {
    "reasoning_steps": node(
        "Q?", 0.25, node("a", 0.5, node("b", 0.0), node("c", 1.0)), node("d", 0.0)
    )
}


def test_math_aps_flat_joins_prefixes_to_solutions(tmp_path, save):
    rows = read(save(tmp_path / "a.jsonl", FLAT), format="math-aps")
    assert [(row.steps, row.values) for row in rows] == [
        (("a", "b 12"), (0.5, 0.75)),  # no continuation of "b 1"
        (("c",), (0.0,)),
        (("a", "b 1", "d"), (0.5, 0.125, 1.0)),  # two estimates of "b 1": their mean
    ]
    assert [row.labels for row in rows] == [(1, 1), (0,), (1, 1, 1)]
    assert rows[0].problem == Problem("math-aps/1", "math", "Q?", "7")


def test_math_aps_tree_each_leaf_is_a_solution(tmp_path, save):
    rows = read(save(tmp_path / "t.jsonl", TREE), format="math-aps-tree")
    assert [(row.steps, row.values, row.labels) for row in rows] == [
        (("a", "b"), (0.5, 0.0), (1, 0)),
        (("a", "c"), (0.5, 1.0), (1, 1)),
        (("d",), (0.0,), (0,)),
    ]
    assert not any("Q?" in row.steps for row in rows)


@pytest.mark.parametrize(
    ("threshold", "labels"), [(0.0, (1, 1, 1)), (0.125, (1, 0, 1)), (0.5, (0, 0, 1))]
)
def test_threshold_is_exclusive(tmp_path, save, threshold, labels):
    row = read(save(tmp_path / "a.jsonl", FLAT), format="math-aps", threshold=threshold)[-1]
    assert (row.labels, row.values) == (labels, (0.5, 0.125, 1.0))
    with pytest.raises(ValueError, match="need 0 <= threshold < 1"):
        read(tmp_path / "a.jsonl", format="math-aps", threshold=threshold + 1)


@pytest.mark.parametrize(
    "marks", [{"labels": [1, 0]}, {"label": ["+", "-"]}, {"labels": [True, False]}]
)
@pytest.mark.parametrize("tag", ["ки", "\n\n\n\n\n"])
def test_math_aps_process_with_labels(tmp_path, save, marks, tag):
    line = {"q": "Q?", "process": f"a {tag}\nb\n\nc {tag}"} | marks
    (row,) = read(save(tmp_path / "a.jsonl", line), format="math-aps")
    assert (row.problem.question, row.steps, row.labels, row.values) == (
        "Q?",
        ("a", "b\n\nc"),
        (1, 0),
        None,
    )


def test_equal_questions_share_an_id_whatever_their_question_id(tmp_path, save):
    other = FLAT | {"question": "Q? No"} | flat(("Q? No\n\nx", 1.0), question="Q? No")
    rows = read(save(tmp_path / "a.jsonl", FLAT, other, FLAT), format="math-aps")
    assert [row.problem.id for row in rows] == ["math-aps/1"] * 3 + ["math-aps/2"] + [
        "math-aps/1"
    ] * 3


def test_flat_and_tree_are_told_apart(tmp_path, save):
    for line, format in ((TREE, "math-aps"), (FLAT, "math-aps-tree")):
        with pytest.raises(ValueError, match=f"no {format} record"):
            read(save(tmp_path / "x.jsonl", line), format=format)


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["math-aps", "math-aps-tree"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": (), "labels": (), "values": ()}, "without steps"),
        ({"values": (None,)}, "None is neither a label nor a value"),
        ({"values": (1.5,)}, "1.5 is neither"),
        ({"values": (0.0,)}, "need labels by one threshold"),
        ({"labels": (0,), "values": (1.0,)}, "need labels by one threshold"),
        ({"meta": {"a": {1}}}, "can be JSON"),
    ],
)
def test_math_aps_refuses_what_would_not_come_back(tmp_path, format, change, reason):
    with pytest.raises(ValueError, match=reason):
        write([replace(ROW, **change)], tmp_path / "x.jsonl", format=format)


@pytest.mark.parametrize("step", ["", " ", " a", "a\n"])
def test_flat_prefixes_can_not_hold_white_space_around_a_step(tmp_path, step):
    row = replace(ROW, steps=("x", step), labels=(1, 0), values=None)
    with pytest.raises(ValueError, match="strip it"):
        write([row], tmp_path / "x.jsonl", format="math-aps")
    for format in ("math-aps-tree", "stepwise"):
        write([row], tmp_path / "x.jsonl", format=format)
        (back,) = read(tmp_path / "x.jsonl", format=format)
        assert (back.steps, back.labels) == (row.steps, row.labels)


def test_labels_by_another_threshold_come_back_by_it(tmp_path):
    row = replace(ROW, steps=("a", "b"), labels=(1, 0), values=(0.75, 0.5))
    for format in ("math-aps", "math-aps-tree"):
        write([row], tmp_path / "x.jsonl", format=format)
        assert read(tmp_path / "x.jsonl", format=format, threshold=0.5) == [row]


def test_tree_lines_share_prefixes(tmp_path):
    steps = [("a", "b"), ("a", "c"), ("d",)]
    rows = [LabelledSolution(ROW.problem, s, (1,) * len(s), (0.5,) * len(s)) for s in steps]
    write(rows, tmp_path / "x.jsonl", format="math-aps-tree")
    (line,) = (tmp_path / "x.jsonl").read_text().splitlines()
    tree = node("Half?", 0.5, node("a", 0.5, node("b", 0.5), node("c", 0.5)), node("d", 0.5))
    assert json.loads(line)["reasoning_steps"] == tree


def test_a_file_read_and_written_again_is_the_same_data(tmp_path, save):
    for source, line in (("math-aps", FLAT), ("math-aps-tree", TREE)):
        rows = read(save(tmp_path / "x.jsonl", line), format=source)
        for format in ("math-aps", "math-aps-tree"):
            write(rows, tmp_path / "y.jsonl", format=format)
            assert read(tmp_path / "y.jsonl", format=format) == rows
        write(rows, tmp_path / "y.jsonl", format="stepwise")
        hard = [(row.steps, row.labels) for row in read(tmp_path / "y.jsonl", format="stepwise")]
        assert hard == [(row.steps, row.labels) for row in rows]


# -- real data -------------------------------------------------------------------------------------


def test_real_math_aps(samples):
    rows = read(samples / "samples_math-aps.jsonl", format="math-aps")
    assert Counter(r.problem.id for r in rows) == {
        "math-aps/1": 81,
        "math-aps/2": 7,
        "math-aps/3": 36,
    }
    prefixes = {(r.problem.id, r.steps[:end]) for r in rows for end in range(1, len(r.steps) + 1)}
    # distinct prefixes of the file without its three questions
    assert len(prefixes) == 86 + 10 + 39 - 3
    assert (sum(r.labels.count(0) for r in rows), {r.problem.answer for r in rows}) == (
        5,
        {"64", "4", r"\frac{11}{36}"},
    )
    hard = read(samples / "prm_code_test.json", format="math-aps")
    assert [r.labels for r in hard] == [(1, 1, 1, 0)] * 3 and hard[0].values is None


def test_real_math_aps_tree(samples):
    rows = read(samples / "samples_math-aps-tree.jsonl", format="math-aps-tree")
    assert Counter(r.problem.id for r in rows) == {
        "math-aps/1": 137,
        "math-aps/2": 85,
        "math-aps/3": 20,
    }
    assert all(r.problem.question not in r.steps and len(r.values) == len(r.steps) for r in rows)


def test_real_tree_and_flat_file_of_one_search_agree(samples):
    tree = read(samples / "samples_math-aps-tree.jsonl", format="math-aps-tree")
    flat = read(samples / "samples_math-aps.jsonl", format="math-aps")
    whole = [
        {" ".join(" ".join(r.steps).split()) for r in some if r.problem.answer == "64"}
        for some in (tree, flat)
    ]
    assert [len(some) for some in whole] == [81, 80] and whole[1] < whole[0]
    # the tree holds this prefix twice, with 0.0 as a leaf and with 0.09375 continued
    (leaf,) = whole[0] - whole[1]
    assert any(solution.startswith(leaf) for solution in whole[1])
