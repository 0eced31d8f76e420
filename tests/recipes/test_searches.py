"""Every search at its sizes, in small: a row for each problem, and nothing is run twice."""

import inspect

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.policy import HFPolicy
from workbench.problems import frozen, quantities
from workbench.recipes import RECIPES, searches
from workbench.search import METHODS
from workbench.types import Meter, Prefix, SearchResult


def test_ways_to_choose_are_graded_each_by_itself():
    problem = quantities.generate(1, levels=[2], seed=0)[0]
    right, wrong = f"The answer is {problem.answer} .", "The answer is 9999 ."
    ends = (right, wrong, right, "no end")
    rollouts = tuple(Prefix.of(problem, [end], ended=True) for end in ends)
    result = SearchResult(
        problem, rollouts, scores=(0.4, 0.7, 0.5, 0.9), best=rollouts[1], meter=Meter(generated=7)
    )
    (row,) = searches.rows_of_results([result])
    chosen = (row["score"], row["vote"], row["own"])
    assert chosen == (0, 1, 0) and row["solutions"] == 3 and row["tokens"] == 7
    (nothing,) = searches.rows_of_results([SearchResult(problem, rollouts[3:], scores=(0.9,))])
    assert (nothing["score"], nothing["vote"], nothing["own"]) == (0, 0, 0)


def test_sizes_are_options_of_the_methods():
    for method, sizes in searches.SIZES_OF.items():
        known = inspect.signature(METHODS[method]).parameters
        assert all(set(options) <= set(known) for options in sizes)


@pytest.mark.parametrize("judge", list(searches.JUDGES))
def test_what_is_shipped_has_every_size_and_problem(judge):
    tables = searches.shipped_searches(searches.JUDGES[judge])
    assert {"beam_search", "rebase"} <= set(tables)
    for method, table in tables.items():
        sizes = range(len(searches.sizes_of(method, judge)))
        rows = {(split, size, p.id) for split in frozen.SIZES for size in sizes
                for p in frozen.load(split)}  # fmt: skip
        assert set(zip(table["split"], table["size"], table["problem"])) == rows
        assert len(table) == len(rows) and table["error"].isna().all()


def test_each_axis_has_its_costs_and_each_number_of_samples_its_own():
    problems = frozen.load("test")[:2]
    tables = {"mcts": searches.shipped_searches("prm_base")["mcts"]}
    tokens, flops = (searches.settings_of(tables, problems, axis=a) for a in ("tokens", "flops"))
    assert all((b.costs > 1e5 * a.costs).all() for a, b in zip(tokens, flops))
    parts = [["1", "2"], ["2", "2"]], np.array([[1, 0], [0, 0]], bool), ["1", "1"]
    scores = [[[0.9, 0.8], [0.1]], [[0.5], [0.5]]]
    one, two = searches.whole_samples(
        "prm_min_max", [1, 2], parts, scores, np.array([[3.0, 5.0], [4.0, 7.0]]), seed=0
    )
    assert (one.name, one.values.tolist(), one.costs.tolist()) == ("samples 1", [0.5, 0], [3, 4])
    assert (two.name, two.values.tolist(), two.costs.tolist()) == ("samples 2", [1, 0], [5, 7])


def test_the_best_way_is_that_of_the_whole_pool():
    """One right answer of three: a vote is for the others, the highest worst step is its own."""
    problem = quantities.generate(1, levels=[2], seed=0)[0]
    ends = (f"The answer is {problem.answer} .", "The answer is 9999 .", "The answer is 9999 .")
    rollouts = tuple(Prefix.of(problem, ["a", end], ended=True) for end in ends)
    pool = [SearchResult(problem, rollouts)]
    worst_step, last_step = [[0.6, 0.6], *[[0.5, 1.0]] * 2], [[0.1, 1.0], *[[0.6, 0.6]] * 2]
    assert searches.best_way(pool, [worst_step], seed=0) == "prm_min_max"
    assert searches.best_way(pool, [last_step], seed=0) == "prm_last_max"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["beam_search-both", "mcts", "adaptive"])
def test_a_recipe_runs_all_sizes_and_reads_back_what_is_there(method, monkeypatch, tmp_path):
    problems = {split: frozen.load(split)[:2] for split in frozen.SIZES}
    monkeypatch.setattr(frozen, "load", problems.get)
    said = RECIPES[f"search-{method}"](tmp_path)
    table = pd.read_csv(tmp_path / "searches" / f"{method}.csv.gz")
    assert (
        len(table) == 2 * len(searches.SIZES_OF[method.removesuffix("-both")]) * 2
        and table["error"].isna().all()
        and (table["tokens"] > 0).all()
    )
    grows = table.groupby("size")["tokens"].mean()
    assert method == "adaptive" or grows.iloc[0] < grows.iloc[-1]
    monkeypatch.setattr(HFPolicy, "sample", None)  # nobody may call it
    assert RECIPES[f"search-{method}"](tmp_path) == said


def test_methods_choose_on_validation_and_are_measured_on_test(monkeypatch, tmp_path):
    problems = frozen.load("test")[:3]
    rows = [
        {"split": split, "size": size, "problem": p.id, "tokens": 10 * (size + 1) + i,
         "score": split == "test", "vote": split == "validation", "own": 0}
        for split in ("validation", "test") for size in (0, 1) for i, p in enumerate(problems)
    ]  # fmt: skip
    monkeypatch.setattr(searches, "SHIPPED_SEARCHES", tmp_path)
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv(tmp_path / "mcts.csv.gz", index=False)
    tables = searches.shipped_searches("prm_base")
    assert list(tables) == ["mcts"] and searches.chosen_on_validation(tables["mcts"]) == "vote"
    small, large = searches.settings_of(tables, problems)
    assert (small.name, large.name) == ("mcts 0", "mcts 1")
    assert small.values.tolist() == [0, 0, 0] and large.costs.tolist() == [20, 21, 22]
    assert searches.shipped_searches("prm_strong") == {}
    with pytest.raises(ValueError, match="verifier 'orm': searches were recorded with prm_base"):
        searches.shipped_searches("orm")


def test_scoring_in_parts_counts_what_each_size_would_have_cost():
    """Against runs of best-of-n of each size, with models of their own."""
    problems, sizes = frozen.load("validation")[:2], [1, 2, 4]
    pool = solve(problems, METHODS["sample"], policy=load_policy("weak"), seed=0, n=4)
    asked = pool, load_verifier("prm_base"), load_policy("weak"), sizes
    scores, costs = searches.score_in_parts(*asked)
    for at, n in enumerate(sizes):
        models = {"policy": load_policy("weak"), "verifier": load_verifier("prm_base")}
        found = solve(problems, METHODS["best_of_n"], **models, seed=0, n=n)
        for axis in searches.AXES:
            own, told = [getattr(result.meter, axis) for result in found], costs[axis][:, at]
            # in one go, samples that begin alike are read side by side
            same = 0 if n == 1 or axis == "generated" else 0.15
            assert all(told <= own) and told == pytest.approx(own, rel=same, abs=0)
        for result, of_pool in zip(found, scores):
            for own, told in zip(result.step_scores, of_pool):
                assert list(own) == pytest.approx(told, abs=1e-5)


def test_likelihood_beside_a_pool_is_what_a_search_has_for_nothing():
    """But for the ways to end a step: reading counts them all (`test_baselines`)."""
    policy, judge = load_policy("weak"), searches.judge_of_search(searches.BOTH)
    pool = solve(frozen.load("validation")[:4], METHODS["sample"], policy=policy, seed=0, n=4)
    alone = [judge.members[0].score(result.rollouts) for result in pool]
    read = searches.with_likelihood(alone, pool, policy)
    known = [judge.score(result.rollouts) for result in pool]
    read, known = (np.concatenate([row for own in sets for row in own]) for sets in (read, known))
    assert np.corrcoef(logit(read), logit(known))[0, 1] > 0.99 and np.median(known / read) > 0.99
    with pytest.raises(ValueError, match="scores for 2 problems, a pool of 4"):
        searches.with_likelihood(alone[:2], pool, policy)
