"""Step labels as a folder for Hugging Face `datasets`: what was written comes back, and opens."""

from dataclasses import replace

import pytest

from workbench.problems import quantities
from workbench.problems.process_data import read, write
from workbench.types import LabelledSolution, Problem

OWN = [
    LabelledSolution(
        Problem("p1", "quantities", "How many — één?", "5", "a\nb", 2), ("a", "b «ü» 数"), (1, 0)
    ),
    LabelledSolution(
        Problem("p2", "math", "Half?", None, meta={"s": [1]}),
        ("c", "", " d "),
        (1, None, 0),
        (0.25, None, 0.1),
        "omegaprm",
        {"n": 8, "hinted": False},
    ),
    LabelledSolution(Problem("p2", "math", "Half?"), (), ()),
]


def test_rows_come_back_as_they_were(tmp_path):
    problem = quantities.generate(1, levels=[3], seed=1)[0]
    steps = tuple(problem.solution.split("\n"))
    rows = [*OWN, LabelledSolution(problem, steps, (1,) * len(steps), source="shepherd")]
    for written in (rows, rows[:1], []):
        write(written, tmp_path / "labels", format="datasets")
        assert read(tmp_path / "labels", format="datasets") == written
    write(rows, tmp_path / "labels", format="datasets")
    assert read(tmp_path / "labels", format="datasets", limit=2) == rows[:2]
    names = sorted(path.name for path in (tmp_path / "labels").iterdir())
    assert names == ["README.md", "labels.parquet"]


def test_datasets_opens_the_folder_and_the_card_counts(tmp_path):
    import datasets

    write(OWN, tmp_path / "labels", format="datasets")
    cache = str(tmp_path / "cache")
    opened = datasets.load_dataset(str(tmp_path / "labels"), split="train", cache_dir=cache)
    assert opened["steps"] == [list(row.steps) for row in OWN]
    assert opened["labels"] == [[1, 0], [1, None, 0], []]
    assert opened["values"] == [None, [0.25, None, 0.1], None]
    card = (tmp_path / "labels" / "README.md").read_text(encoding="utf-8")
    assert "3 solutions of 2 problems" in card and "2 are labelled good, 2\nbad, and 1 have" in card
    assert "Labelled by: omegaprm." in card and "data_files: labels.parquet" in card


def test_rows_from_json_lines_and_the_hub_are_the_same(tmp_path, save, monkeypatch):
    import datasets

    line = {"question": "Q?", "steps": ["a", "b"], "labels": [True, None], "source": "me"}
    (row,) = read(save(tmp_path / "x.jsonl", line), format="datasets")
    assert row == LabelledSolution(Problem("me/1", "math", "Q?"), ("a", "b"), (1, None), None, "me")
    write(OWN, tmp_path / "labels", format="datasets")
    file = str(tmp_path / "labels" / "labels.parquet")
    table = datasets.load_dataset("parquet", data_files=file, cache_dir=str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, part, split: table[split])
    assert read("some.one/labels", format="datasets") == OWN


def test_what_does_not_fit_is_named(tmp_path, save):
    bad = {"question": "Q?", "steps": ["a"], "labels": [0.5]}
    good = bad | {"labels": [0]}
    with pytest.warns(UserWarning, match=r"x\.jsonl:1: 0\.5 is no label: need 0, 1 or null"):
        assert len(read(save(tmp_path / "x.jsonl", bad, good), format="datasets")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no readable labels\.parquet"):
        read(tmp_path / "empty", format="datasets")
    (tmp_path / "empty" / "labels.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"empty holds no readable labels\.parquet"):
        read(tmp_path / "empty", format="datasets")
    write(OWN, tmp_path / "labels", format="datasets")
    with pytest.raises(ValueError, match="only a data set on the hub has splits"):
        read(tmp_path / "labels", format="datasets", split="test")
    for odd in (replace(OWN[0], steps=("a", "\ud800")), replace(OWN[0], meta={"x": {1}})):
        with pytest.raises(ValueError, match="not all of this can be a column"):
            write([odd], tmp_path / "labels", format="datasets")
    assert read(tmp_path / "labels", format="datasets") == OWN
