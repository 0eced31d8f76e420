"""Round again, in small: policy and PRM of one round are the start of the next."""

import json
from dataclasses import replace

import numpy as np
import pytest

from workbench.problems import frozen, quantities
from workbench.recipes import RECIPES, iteration, policies, verifiers
from workbench.types import Meter, Prefix, SearchResult


@pytest.fixture
def small(monkeypatch):
    recipe = replace(verifiers.PRM, epochs=1.0, batch_tokens=600)
    for name, value in {
        "SPENT": 12_000, "LABELLED": 6, "CHOSEN_OF": 3, "GO_ON_WITH": recipe, "TURNS": 1
    }.items():  # fmt: skip
        monkeypatch.setattr(iteration, name, value)
    monkeypatch.setattr(policies, "TRAINING", 40)
    monkeypatch.setattr(policies, "RFT_DRAWS", 8)
    monkeypatch.setattr(policies, "A_ROUND", {"group": 4, "problems": 3, "beta": 0.0})
    monkeypatch.setattr(verifiers, "EVALUATIONS", 1)
    problems = {split: frozen.load(split)[:4] for split in ("validation", "test")}
    pools = frozen.pool("base", "validation", n=2)[:4]
    monkeypatch.setattr(frozen, "load", problems.get)
    monkeypatch.setattr(frozen, "pool", lambda *args, **options: pools)


@pytest.mark.slow
def test_rounds_build_on_each_other_and_a_longer_one_spends_as_much(small, tmp_path):
    with pytest.raises(ValueError, match="python -m workbench recipe iterate-1"):
        RECIPES["iterate-2"](tmp_path)
    place = tmp_path / "iteration"
    for name in ("iterate-1", "iterate-2", "expert-1"):
        said = RECIPES[name](tmp_path)
        own = place / name.replace("-", "_")
        facts = json.loads((own / "facts.json").read_text())
        assert sum(facts["improving"].values()) >= 12_000 and facts["labelled"] > 0
        cost, lines = facts["labelling"], (own / "solutions.jsonl").read_text().splitlines()[1:]
        # what equals another text, or is too long to be labelled, was paid for, too
        assert cost["written"] == sum(json.loads(x)["meter"]["generated"] for x in lines)
        assert cost["read"] > 0 and cost["trained"] > 0
        results = frozen.read_pool(own.with_suffix(".npz"), frozen.load("test"))
        steps = sum(len(s.steps) for result in results for s in result.rollouts)
        with np.load(own.with_name(f"{own.name}_scores.npz")) as held:
            assert held["before"].shape == held["after"].shape == (steps,)
            assert not np.array_equal(held["before"], held["after"])
    assert RECIPES["expert-1"](tmp_path) == said  # called again, nothing is trained twice
    RECIPES["longer"](tmp_path)
    first, spent = (
        iteration.forward_passes(json.loads((place / name / "facts.json").read_text()))
        for name in ("iterate_1", "longer_1")
    )
    assert 0.8 * first < spent < 1.5 * first  # rounds are drawn whole


def test_search_chooses_the_best_sample_with_the_answer_that_wins_the_vote():
    problem = quantities.generate(1, levels=[2], seed=0)[0]
    ends = ["The answer is 7 .", "The answer is 8 .", "The answer is 8 .", "no answer"]
    rollouts = tuple(Prefix.of(problem, ["a", end], ended=True) for end in ends)

    class Judge:
        per = "step"

        def score(self, prefixes, *, meters=None):
            return [[0.9, 0.9], [0.5, 0.6], [0.7, 0.6], [1.0, 1.0]]

    assert iteration.chosen(SearchResult(problem, rollouts), Judge(), Meter()) == rollouts[2]
    nothing = SearchResult(problem, rollouts[3:])
    Judge.score = lambda self, prefixes, meters=None: [[0.1, 0.1]]
    assert iteration.chosen(nothing, Judge(), Meter()) == rollouts[3]
