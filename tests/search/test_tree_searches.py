"""What names a search must matter: DVTS's subtrees, the look ahead, the choice after each step."""

import pytest
from played import Branches, play, scores_by
from scripted import Judge, Walker, oracle

from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.types import Budget, Prefix, Problem, Sample, Step

PROBLEM = Problem("p", "math", "?")
PROBLEMS = quantities.generate(40, levels=[4], seed=3)

# the verifier loves what begins with a; what begins with b comes second
TREE = {"": ["a", "b"], "a": ["c", "d"], "b": ["c", "d"]}
TREE |= {"ac": ["1"], "ad": ["2"], "bc": ["3"], "bd": ["4"]}
LOVES_A = {"a": 0.9, "ac": 0.9, "ad": 0.8, "b": 0.5, "bc": 0.5, "bd": 0.4}
LOVES_A |= {"ac1": 0.9, "ad2": 0.8, "bc3": 0.5, "bd4": 0.4}


def play_tree(name, table=LOVES_A, tree=TREE, **options):
    models = {"policy": Branches(tree), "verifier": scores_by(table)}
    return play(METHODS[name](PROBLEM, aggregate="last", **options), models)


def test_subtrees_know_nothing_of_each_other():
    """Beams all begin with the loved step; a subtree that never saw it goes its own way."""
    firsts = {"": ["a", "a", "b", "b"], **{k: v for k, v in TREE.items() if k}}
    beams, _ = play_tree("beam_search", tree=firsts, beam_width=2, expand=2)
    assert {r.texts[0] for r in beams.rollouts} == {"a"}
    trees, requests = play_tree("dvts", tree=firsts, subtrees=2, expand=2)
    assert {r.texts[0] for r in trees.rollouts} == {"a", "b"}
    assert [len(r.prefixes) * r.n for r in requests if isinstance(r, Sample)] == [4, 4, 4]
    one, _ = play_tree("dvts", tree=firsts, subtrees=1, expand=4)
    assert {r.texts[0] for r in one.rollouts} == {"a"}
    assert trees.best.texts == ("a", "c", "1") == beams.best.texts


def test_each_subtree_goes_on_from_its_best_step():
    result, requests = play_tree("dvts", tree=TREE, subtrees=2, expand=2)
    samples = [r for r in requests if isinstance(r, Sample)]
    assert [p.text for p in samples[1].prefixes] == ["a", "a"]
    assert [p.texts for p in samples[2].prefixes] == [("a", "c")] * 2
    assert len(result.rollouts) == 4  # the ends of both, equal ones as often as they were drawn


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("beam_search", {"beam_width": 1, "expand": 2}),
        ("lookahead", {"beam_width": 1, "expand": 2, "depth": 0}),
        ("stepwise_best_of_n", {"n": 2}),
    ],
)
def test_an_end_is_not_lost_to_an_equal_text_that_goes_on(name, sizes):
    class Twins:
        """Ends the answer line, and writes it again with a line to come, as chat models do."""

        def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
            stops, line = ("end", None), Step("It is \\boxed{5}")
            for meter in meters:
                meter.samples += 1
            return [
                Prefix(p.problem, (*p.steps, Step("hm")) if p.steps else (line,),
                       None if p.steps else stop)
                for p, stop in zip(prefixes, stops * len(prefixes))
            ]  # fmt: skip

    problem = Problem("p", "math", "2 + 3?", "5")
    (found,) = solve([problem], METHODS[name], policy=Twins(), verifier=scores_by({}, 0.9),
                     max_steps=4, **sizes)  # fmt: skip
    assert found.error is None and found.best is not None and found.best.ended


def test_a_reply_that_the_budget_cuts_short_loses_no_subtree():
    problems = [p for p in PROBLEMS if p.solution.count("\n") >= 4][:1]
    models = {"policy": Walker(problems, 0.3), "verifier": oracle(problems)}
    for samples in (8, 10):
        about = {"budget": Budget(samples, "samples"), "subtrees": 4, "expand": 2}
        (found,) = solve(problems, METHODS["dvts"], **models, **about)
        assert found.stopped and len(found.rollouts) >= 4


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("beam_search", {"beam_width": 4, "expand": 2}), ("rebase", {"width": 8, "balance": 5.0})],
)
def test_a_prefix_that_a_cut_reply_does_not_reach_stays(name, sizes):
    problems = [p for p in PROBLEMS if p.solution.count("\n") >= 4][:1]
    models = {"policy": Walker(problems, 0.3), "verifier": oracle(problems)}
    about = {"budget": Budget(9, "samples"), **sizes}
    (found,) = solve(problems, METHODS[name], **models, **about)
    lengths = [len(rollout.steps) for rollout in found.rollouts]
    # the last sample lengthens the best prefixes; the others stand as they are
    assert found.stopped == "budget" and max(lengths) == min(lengths) + 1


def test_what_ends_beside_a_better_step_is_a_candidate():
    tree = {"": ["a", "1"], "a": ["2"]}
    result, _ = play_tree(
        "dvts", table={"a": 0.9, "1": 0.8, "a2": 0.7}, tree=tree, subtrees=1, expand=2
    )
    assert [r.texts for r in result.rollouts] == [("1",), ("a", "2"), ("a", "2")]
    assert result.best.texts == ("1",)


# -- look-ahead ------------------------------------------------------------------------------------

# a looks better, but leads to a fault in the next step; b is the way
TRAP = {"": ["a", "b"], "a": ["x"], "b": ["y"], "ax": ["1"], "by": ["2"]}
SEES_IT_LATE = {"a": 0.9, "b": 0.6, "ax": 0.1, "by": 0.8, "ax1": 0.1, "by2": 0.8}


def test_the_look_ahead_sees_what_a_step_leads_to():
    blind, _ = play_tree("lookahead", SEES_IT_LATE, TRAP, depth=0, beam_width=1, expand=2)
    wise, requests = play_tree("lookahead", SEES_IT_LATE, TRAP, depth=1, beam_width=1, expand=2)
    assert blind.best.texts == ("a", "x", "1") and wise.best.texts == ("b", "y", "2")
    looks = [r for r in requests if isinstance(r, Sample) and r.temperature == 0]
    assert looks and all(r.until == "step" and r.n == 1 for r in looks)
    assert wise.step_scores == ((0.6, 0.8, 0.8),)  # of its own steps


def test_the_continuation_serves_for_scoring_alone():
    """What is sampled next goes on from the candidate, not from what was seen ahead."""
    _, requests = play_tree("lookahead", SEES_IT_LATE, TRAP, depth=2, beam_width=1, expand=2)
    samples = [r for r in requests if isinstance(r, Sample) and r.temperature is None]
    assert [[len(p.steps) for p in r.prefixes] for r in samples] == [[0], [1], [2]]


def test_without_depth_it_is_beam_search():
    policy, verifier = Walker(PROBLEMS, 0.5), oracle(PROBLEMS)
    one, other = (
        solve(PROBLEMS[:8], METHODS[name], policy=policy, verifier=verifier, **options)
        for name, options in (("lookahead", {"depth": 0}), ("beam_search", {}))
    )
    assert [(r.rollouts, r.scores) for r in one] == [(r.rollouts, r.scores) for r in other]


def test_looking_further_helps_where_faults_show_late():
    """The verifier sees a fault two steps after it was made."""
    exact = oracle(PROBLEMS).function
    late = Judge(PROBLEMS, lambda p, s: [1.0, 1.0, *exact(p, s)][: len(s)])

    def accuracy(depth):
        found = solve(
            PROBLEMS, METHODS["lookahead"], policy=Walker(PROBLEMS, 0.4), verifier=late,
            depth=depth, beam_width=1, expand=4, aggregate="min",
        )  # fmt: skip
        return sum(is_right(r.problem, r.best) for r in found) / len(found)

    assert accuracy(2) > accuracy(0) + 0.3


# -- step by step ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "best"), [(1, ("b", "x", "1")), (2, ("a", "y", "2"))])
def test_the_best_of_n_steps_is_kept_at_each(n, best):
    tree = {"": ["b", "a"], "a": ["x", "y"], "b": ["x", "y"], "ay": ["2"], "bx": ["1"]}
    result, requests = play_tree("stepwise_best_of_n", {"a": 0.9, "ay": 0.8, "b": 0.2}, tree, n=n)
    assert result.best.texts == best and result.rollouts == (result.best,)
    assert [r.n for r in requests if isinstance(r, Sample)] == [n, n, n]
