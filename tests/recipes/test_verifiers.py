"""The recipes of what is shipped, in small: labels, a verifier from them, and pools drawn once."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from workbench.__main__ import main
from workbench.models import load_verifier
from workbench.models.checkpoints import SHIPPED
from workbench.problems import frozen, process_data, quantities
from workbench.recipes import RECIPES, verifiers
from workbench.train.genrm import Verdict
from workbench.types import LabelledSolution, Prefix, Problem


@pytest.fixture
def small(monkeypatch):
    """Few labels, a short training, and few solutions to measure it by."""
    recipe, whole = replace(verifiers.PRM, epochs=1, batch_tokens=600), frozen.pool
    for name, value in {
        "PROBLEMS": {"base": 6}, "SOLUTIONS": 4, "EVALUATIONS": 1, "PRM": recipe,
        "GO_ON": {"recipe": recipe, "keep": "eval/auc"},
    }.items():  # fmt: skip
        monkeypatch.setattr(verifiers, name, value)
    monkeypatch.setattr(frozen, "pool", lambda *of, **options: whole(*of, **options)[::20])


@pytest.mark.slow
def test_labels_then_a_verifier_whose_training_can_be_called_again(small, tmp_path):
    with pytest.raises(ValueError, match=r"labels_base\.jsonl is missing: python -m workbench"):
        RECIPES["prm-base"](tmp_path)
    assert "labelled solutions" in RECIPES["labels-base"](tmp_path)
    rows = process_data.read(tmp_path / "labels_base.jsonl", format="stepwise")
    assert rows and all(None not in row.labels for row in rows)
    first = RECIPES["prm-base"](tmp_path)
    assert "eval/trivial_loss" in first and RECIPES["prm-base"](tmp_path) == first
    verifier = load_verifier(tmp_path / "prm_base")
    assert verifier.model.config.num_hidden_layers == 6 + verifiers.LAYERS
    whole = Prefix.of(rows[0].problem, rows[0].steps, ended=True)
    before = verifier.score([whole])
    assert len(before[0]) == len(rows[0].steps)
    assert "eval/auc" in RECIPES["planted-base"](tmp_path)  # goes on from there
    after = load_verifier(tmp_path / "planted_base").score([whole])
    assert np.shape(after) == np.shape(before) and not np.allclose(after, before)


@pytest.mark.slow
def test_verifiers_that_learn_from_answers(small, tmp_path):
    for kind, begin in (("orm", "prm"), ("reward", "orm"), ("outcomes", "alone")):
        with pytest.raises(ValueError, match=rf"{begin}_base is missing: .* recipe {begin}-base"):
            RECIPES[f"{kind}-base"](tmp_path)
    shutil.copytree(SHIPPED / "prm_base", tmp_path / "prm_base")
    for kind in ("orm", "reward", "alone", "outcomes"):
        assert "eval/auc" in RECIPES[f"{kind}-base"](tmp_path)
        verifier = load_verifier(tmp_path / f"{kind}_base")
        assert verifier.per == ("step" if kind == "outcomes" else "solution")
        assert (tmp_path / f"{kind}_base" / verifiers.LOG).is_file()
        assert verifier.model.config.num_hidden_layers == 6 + verifiers.LAYERS


@pytest.mark.slow
def test_a_verifier_that_writes_learns_from_the_same_labels(small, tmp_path):
    problems = quantities.generate(6, levels=[3], seed=0, split="train")
    solved = [p.solution.split("\n") for p in problems]
    rows = [LabelledSolution(p, tuple(s), (1,) * len(s)) for p, s in zip(problems, solved)]
    process_data.write(rows, tmp_path / "labels_base.jsonl", format="stepwise")
    assert "eval/auc" in RECIPES["genrm-base"](tmp_path)
    verifier = load_verifier(tmp_path / "genrm_base", longest=24)
    whole = Prefix.of(rows[0].problem, rows[0].steps, ended=True)
    assert len(verifier.score([whole])[0]) == len(verifier.critiques(whole)) == len(rows[0].steps)


def test_half_of_the_lessons_are_of_bad_steps():
    problem = Problem("p", "math", "?")
    lessons = [Verdict(problem, (str(i),), i % 4 > 0) for i in range(40)]
    some = verifiers.half_bad(lessons, 12)
    assert len(some) == 12 and sum(lesson.good for lesson in some) == 6
    assert some == [lesson for lesson in lessons if lesson in some]
    assert (
        sum(lesson.good for lesson in verifiers.half_bad(lessons, 36)) == 26
    )  # 10 bad ones in all


def test_a_short_log_keeps_each_measure_and_means_of_the_loss(tmp_path):
    log = [{"update": i, "train/loss": float(i), "train/trivial_loss": 0.5} for i in range(1, 26)]
    log[11]["eval/auc"], log[24]["eval/auc"] = 0.8, 0.9
    verifiers.write_log(log, tmp_path / "log.csv")
    table = pd.read_csv(tmp_path / "log.csv").set_index("update")
    assert table.index.tolist() == [10, 12, 20, 25]
    assert table["eval/auc"].dropna().to_dict() == {12: 0.8, 25: 0.9}
    assert table["train/loss"][10] == 5.5 and table["train/loss"][20] == 15.5


@pytest.mark.slow
def test_pools_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "FOLDER", tmp_path / "pools")
    monkeypatch.setattr(frozen, "SIZES", {"validation": 2, "test": 2})
    monkeypatch.setattr(frozen, "SAMPLES", 2)
    monkeypatch.setattr(frozen, "MANY", 3)
    assert verifiers.pools(tmp_path).startswith("7 pools drawn")
    assert verifiers.pools(tmp_path).startswith("0 pools drawn")


def test_an_unknown_recipe_is_named(capsys):
    assert main(["recipe", "prm-weak"]) == 2
    assert "recipe 'prm-weak': there is none; did you mean" in capsys.readouterr().err
