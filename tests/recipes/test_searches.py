"""Every search at its sizes, in small: a row for each problem, and nothing is run twice."""

import inspect

import pandas as pd
import pytest

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


@pytest.mark.slow
@pytest.mark.parametrize("method", ["beam_search", "mcts", "adaptive"])
def test_a_recipe_runs_all_sizes_and_reads_back_what_is_there(method, monkeypatch, tmp_path):
    problems = {split: frozen.load(split)[:2] for split in frozen.SIZES}
    monkeypatch.setattr(frozen, "load", problems.get)
    said = RECIPES[f"search-{method}"](tmp_path)
    table = pd.read_csv(tmp_path / "searches" / f"{method}.csv")
    assert len(table) == 2 * 3 * 2 and table["error"].isna().all() and (table["tokens"] > 0).all()
    grows = table.groupby("size")["tokens"].mean()
    assert method == "adaptive" or grows.iloc[0] < grows.iloc[-1]
    monkeypatch.setattr(HFPolicy, "sample", None)  # nobody may call it
    assert RECIPES[f"search-{method}"](tmp_path) == said
