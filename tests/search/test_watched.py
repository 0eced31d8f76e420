"""A watched search does what it would do unseen, and what is told of it is what it did."""

from functools import partial

import pytest
from scripted import Walker, oracle

from workbench.drive import solve
from workbench.problems.quantities import generate
from workbench.search import METHODS
from workbench.search.mcts import puct
from workbench.search.watched import FollowedTree, Growing, watched
from workbench.tree import walk
from workbench.types import Budget, Prefix, Sample, SearchResult

PROBLEM = generate(1, levels=[4], seed=5)[0]
SIZES = {
    "greedy": {},
    "best_of_n": {"n": 6},
    "adaptive": {"n": 6},
    "beam_search": {"beam_width": 2, "expand": 3},
    "stepwise_best_of_n": {"n": 3},
    "lookahead": {"beam_width": 2, "expand": 2},
    "dvts": {"subtrees": 2, "expand": 3},
    "rebase": {"width": 4},
    "particle_filter": {"particles": 4},
    "critic_search": {"n": 2, "rounds": 1, "expand": 2},
    "rstar": {"simulations": 4, "by": None, "actions": ("step", "rest")},
}


def run(method, **options):
    """Models that are new every time: what they count belongs to one search."""
    models = {"policy": Walker([PROBLEM], p=0.4), "verifier": oracle([PROBLEM])}
    return solve([PROBLEM], method, **models, seed=3, **options)[0]


def said(result):
    """All of a result but the seconds that it took."""
    best = result.best and result.best.texts
    return best, [r.texts for r in result.rollouts], result.scores, result.meter.samples


def grown(name, **options):
    moments = []
    note = Growing(PROBLEM.blind(), moments.append).note
    return run(watched(METHODS[name], note), **SIZES[name], **options), moments


@pytest.mark.parametrize("name", SIZES)
def test_a_watched_search_is_the_same_and_its_tree_holds_all_that_was_drawn(name):
    seen, moments = grown(name)
    assert said(seen) == said(run(METHODS[name], **SIZES[name])) and seen.error is None
    last = moments[-1].root
    paths = {(tuple(n.step.text for n in path[1:]), path[-1].end) for path in walk(last)}
    assert all((rollout.texts, rollout.stop) in paths for rollout in seen.rollouts)
    counted = [sum(path[-1].samples for path in walk(m.root)) for m in moments]
    assert counted == sorted(counted) and counted[-1] > 0


def test_values_are_scores_and_what_was_left_is_pruned():
    seen, moments = grown("beam_search")
    nodes = [path[-1] for path in walk(moments[-1].root)][1:]
    assert {node.value for node in nodes} <= {0.0, 1.0}
    assert not all(node.kept for node in nodes)
    way = seen.best.texts
    kept = {tuple(n.step.text for n in p[1:]): p[-1].kept for p in walk(moments[-1].root)}
    assert all(kept[way[:t]] for t in range(1, len(way) + 1))
    assert moments[0].said == "3 steps drawn" and moments[1].said == "2 scored"  # equal ones once


def test_a_budget_that_ends_does_so_under_watch():
    budget = Budget(5, "samples")
    seen, _ = grown("beam_search", budget=budget)
    assert said(seen) == said(run(METHODS["beam_search"], **SIZES["beam_search"], budget=budget))
    assert seen.stopped == "budget"


def test_no_time_left_brings_back_what_there_is():
    seen = run(watched(METHODS["best_of_n"], lambda *_: None, seconds=-1), n=4)
    assert (seen.stopped, seen.error, seen.rollouts) == ("time", None, ())

    def deaf(problem):
        for _ in range(3):
            try:
                yield Sample([Prefix(problem)])
            except BaseException as error:
                if isinstance(error, GeneratorExit):
                    raise
        return SearchResult(problem)

    assert run(watched(deaf, lambda *_: None, seconds=-1)).stopped == "time"


def test_followed_mcts_is_mcts_and_its_numbers_are_those_it_went_by():
    moments = []
    alone = partial(METHODS["mcts"], simulations=8, at_once=1)
    seen = run(alone, kind=partial(FollowedTree, tell=moments.append))
    assert said(seen) == said(run(alone))
    assert [m.said for m in moments] == [f"simulation {i}" for i in range(1, 9)]
    assert [m.root.visits for m in moments] == list(range(1, 9))
    assert not any(path[-1].samples for path in walk(moments[-1].root))
    for number, moment in enumerate(moments):
        assert all(sum(way.taken for way in fork) == 1 for fork in moment.ways)
        best = [max(fork, key=lambda way: way.worth) for fork in moment.ways]
        assert all(way.taken for way in best)
        for way in moment.ways[0]:  # at the question, which the simulation under way visits, too
            value = moments[number - 1].root.value or 0.0 if way.value is None else way.value
            assert way.worth == pytest.approx(puct(value, way.prior, number + 1, way.visits))


def test_a_solution_of_more_steps_than_python_has_frames_can_be_watched():
    tree, moments = Growing(PROBLEM.blind(), lambda moment: moments.append(moment)), []
    for n in (1500, 1501):
        long = Prefix.of(PROBLEM, [str(i) for i in range(n)])
        tree.note(Sample([Prefix(PROBLEM)], n=1, until="end"), [long])
    (*_, deepest) = walk(moments[-1].root)
    assert len(deepest) == 1502 and deepest[1].samples == 2 and deepest[-1].samples == 1
