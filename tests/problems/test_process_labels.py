"""The data set of step labels that is shipped: opened as others would open it, and as right as its
card says."""

import re
from pathlib import Path

import numpy as np
import pytest

from workbench.problems import check_steps, process_data, quantities
from workbench.runs.environment import root

FOLDER = root() / "data" / "samples" / "process_labels"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


def said(pattern: str) -> float:
    return float(re.search(pattern, CARD)[1].replace(",", ""))


def known_problems():
    """The problems by their questions: files know questions, the generator knows their truth."""
    number = int(said(r"generate\((\d+), levels"))
    seed = int(said(r"seed=(\d+), split"))
    return {
        p.question: p
        for p in quantities.generate(number, levels=range(2, 8), seed=seed, split="train")
    }


@pytest.fixture(scope="module")
def stepwise():
    return process_data.read(FOLDER / "stepwise.jsonl.gz", format="stepwise")


def test_the_folder_opens_as_a_data_set(stepwise, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    opened = datasets.load_dataset(str(FOLDER), "stepwise", split="train", cache_dir=str(tmp_path))
    assert (
        opened.num_rows == len(stepwise) == said(r"([\d,]+) solutions with a label on every step")
    )
    assert opened[0]["completions"] == list(stepwise[0].steps)
    assert opened[0]["labels"] == [bool(label) for label in stepwise[0].labels]
    valued = datasets.load_dataset(str(FOLDER), "math-aps", split="train", cache_dir=str(tmp_path))
    rows = process_data.read(FOLDER / "math_aps.jsonl.gz", format="math-aps")
    assert valued.num_rows == len(rows) == said(r"([\d,]+) solutions with values")
    assert all(0 <= value <= 1 for row in rows for value in row.values)


def test_its_labels_are_as_right_as_the_card_says(stepwise):
    problems = known_problems()
    pairs = [
        (label, ok)
        for row in stepwise
        for label, ok in zip(row.labels, check_steps(problems[row.problem.question], row.steps))
    ]
    assert len(pairs) == said(r"([\d,]+) step labels")
    share = np.mean([bool(label) == ok for label, ok in pairs])
    assert round(100 * share, 1) == said(r"([\d.]+) % of them as the exact checker says")


def test_it_is_small():
    assert sum(path.stat().st_size for path in Path(FOLDER).iterdir()) < 3e6
