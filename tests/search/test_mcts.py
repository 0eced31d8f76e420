"""MCTS: its formula, its choices by hand, its counts recounted, and what it finds."""

import sys
from math import log, sqrt

import numpy as np
import pytest
from played import Branches, Hostile, play, scores_by
from scripted import Walker, constant, oracle
from tiny import tiny_policy

from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.search.mcts import ScoredTree, priors, puct
from workbench.tree import walk
from workbench.types import Budget, Prefix, Problem, Step

PROBLEMS = quantities.generate(20, levels=[3, 4, 5], seed=3)
ONE = Problem("one", "math", "How many?")
LEAVES, CHOICES = ("verifier", "rollout", "end"), ("visits", "value", "vote")


def run(problems=PROBLEMS, verifier=oracle, p=0.4, policy=None, **options):
    policy = policy or Walker(problems, p)
    return solve(problems, METHODS["mcts"], policy=policy, verifier=verifier(problems), **options)


def accuracy(results):
    return np.mean([r.best is not None and is_right(r.problem, r.best) for r in results])


def grown(after, scores=None, *, simulations=4, at_once=1, choose="visits", **options):
    """The tree, the result and the prefixes expanded, of a search of what `Branches` writes."""
    tree, policy = ScoredTree(ONE, **options), Branches(after)
    _, asked = play(tree.search(simulations, at_once), models(policy, scores or {}))
    expanded = ["".join(p.texts) for r in asked for p in r.prefixes if hasattr(r, "until")]
    return tree, tree.result(choose), expanded


def models(policy, scores=None):
    return {"policy": policy, "verifier": scores_by(scores or {})}


def visits(tree):
    return {"".join(n.step.text for n in path[1:]): path[-1].visits for path in walk(tree.root)}


# -- the formula -----------------------------------------------------------------------------------


def test_puct_values():
    assert puct(0.6, 0.25, 10, 3) == pytest.approx(0.847164, abs=1e-6)
    for value, prior, parent, child in [(0.1, 0.9, 1, 0), (1.0, 0.0, 7, 3), (0, 1.0, 50_000, 12)]:
        c = 1.25 + log((1 + parent + 19652) / 19652)
        assert puct(value, prior, parent, child) == pytest.approx(
            value + c * prior * sqrt(parent) / (1 + child)
        )


def test_priors_are_per_token_or_of_the_whole_step():
    long, short = Step("l", (1,) * 3, (-1.0,) * 3), Step("s", (1,), (-1.0,))
    assert priors([long, short], "mean") == priors([long, short], "uniform") == [0.5, 0.5]
    assert priors([long, short], "sum") == pytest.approx(
        [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))]
    )
    assert priors([Step("no tokens"), short], "uniform") == [0.5, 0.5]
    for how in ("mean", "sum"):
        with pytest.raises(ValueError, match=f"^prior='{how}' needs log-probabilities, but this"):
            priors([Step("no tokens"), short], how)
    assert priors([Step("x", (1,), (-5000.0,)), short], "sum") == pytest.approx([0.0, 1.0])


# -- by hand ---------------------------------------------------------------------------------------

TWO = {"": [("b", [-4.0]), ("a", [-1.0])], "a": ["c"], "b": ["d"], "ac": ["1"], "bd": ["2"]}


def test_the_prior_decides_between_equal_scores():
    for prior, first in [("mean", "a"), ("sum", "a"), ("uniform", "b")]:
        tree, *_ = grown(TWO, expand=2, simulations=1, prior=prior)
        assert visits(tree)[first] == tree.root.visits == 2  # the second one goes to its end


def test_the_score_decides_against_the_prior_and_loses_if_it_is_little():
    for score, first in [(0.0, "b"), (0.45, "a")]:  # of PUCT at 1 visit, priors .047 and .953
        assert visits(grown(TWO, {"b": 1.2, "a": score}, expand=2, prior="sum", simulations=1)[0])[
            first
        ]


def test_the_choice_by_hand():
    after = TWO | {"": [("b", [-4.0]), ("a", [-1.0]), "0"]}  # an end, so that no more is written
    b, a, end = priors([Step("", (1,), (x,)) for x in (-4.0, -1.0, 0.0)], "mean")
    scores = {"b": 0.9, "a": 0.7, "0": 0.1}
    first = puct(0.9, b, 1, 0), puct(0.7, a, 1, 0), puct(0.1, end, 1, 0)  # N_p: the one under way
    assert max(first) == first[1]
    tree, *_ = grown(after, scores, expand=3, simulations=1)
    assert visits(tree) == {"": 1, "b": 0, "a": 1, "0": 0}
    second = puct(0.9, b, 2, 0), puct(0.7, a, 2, 1), puct(0.1, end, 2, 0)
    assert max(second) == second[2]
    tree, *_ = grown(after, scores, expand=3, simulations=2)
    assert visits(tree) == {"": 2, "b": 0, "a": 1, "0": 1} and tree.root.value == (0.7 + 0.1) / 2


def test_virtual_loss_spreads_what_runs_at_once():
    wide = {"": ["a", "b", "c", "d"]} | {letter: ["x", "y"] for letter in "abcd"}
    spread, *_ = grown(wide, at_once=4)
    assert [visits(spread)[letter] for letter in "abcd"] == [2, 1, 1, 1]  # one goes to its end
    same, *_ = grown(wide, at_once=4, virtual_loss=0)
    assert [visits(same)[letter] for letter in "abcd"] == [5, 0, 0, 0]
    assert spread.under_way.total() == 2 * 4  # at the question and at a letter, each once


def test_virtual_loss_fills_requests():
    """With the oracle's scores, which two of four simulations would follow in any case."""
    filled = []
    for lost in (0, 1):
        asked = [r for p in PROBLEMS[:9] for r in step_requests(p, virtual_loss=lost)]
        filled.append(np.mean([len(request.prefixes) for request in asked]))
    assert filled[0] * 1.15 < filled[1]


def step_requests(problem, **options):
    _, asked = play(METHODS["mcts"](problem, **options), models_of([problem]))
    return [r for r in asked if hasattr(r, "until") and r.until == "step"]


def test_virtual_loss_counts_visits_and_lowers_the_value():
    node, tree = Step("?"), ScoredTree(ONE, virtual_loss=3)
    child = tree.root.children["a", None] = type(tree.root)(node, value=0.8, prior=0.5, visits=4)
    tree.root.visits, tree.root.value = 10, 0.6
    tree.under_way.update([id(tree.root), id(child)])
    tree.under_way.update([id(tree.root)])  # of the two at the question one is to go on now
    expected = puct(0.8 * 4 / (4 + 3), 0.5, 10 + 1 + 3, 4 + 3)
    assert tree.worth(tree.root, child) == pytest.approx(expected)


def test_the_first_simulation_expands_the_question_and_goes_on():
    tree, result, expanded = grown(
        {"": ["a", "7"], "a": ["8"]}, {"a": 0.1, "7": 0.9}, simulations=1
    )
    assert expanded == [""] and tree.root.visits == 1 and visits(tree)["7"] == 1
    assert result.best.texts == ("7",) and result.scores == (0.9,)


def test_an_end_is_met_again_at_no_cost():
    after, scores = {"": ["a", "7"], "a": ["8"]}, {"7": 0.9}
    tree, _, expanded = grown(after, scores, expand=2, simulations=50, widen=False)
    assert expanded == ["", "a"] and tree.root.visits == 50
    assert {beam.prefix.texts for _, beam in tree.found} == {("7",), ("a", "8")}
    assert seen_at(tree, "7").value == pytest.approx(0.9) and seen_at(tree, "7").visits > 25


def test_a_node_is_drawn_from_again_when_its_visits_reach_the_next_square():
    class Numbered(Branches):
        """Writes another answer every time."""

        def _go_on(self, prefix, turn, until):
            return super()._go_on(prefix, turn, until) if prefix.steps else self.next(prefix)

        def next(self, prefix):
            return Prefix(prefix.problem, (Step(f"= {len(self.rows)}", (1,), (-1.0,)),), "end")

    for simulations, times in [(1, 1), (4, 1), (5, 2), (9, 2), (10, 3), (17, 4)]:
        tree, policy = ScoredTree(ONE, expand=2), Numbered({})
        play(tree.search(simulations, 1), models(policy))
        assert len(policy.rows) == 2 * times == len(tree.found) == len(tree.root.children)
        assert sum(n.prior for n in tree.root.children.values()) == pytest.approx(1)


def seen_at(tree, text):
    return next(path[-1] for path in walk(tree.root) if path[-1].step.text == text)


@pytest.mark.parametrize("leaf", LEAVES)
def test_an_end_without_an_answer_earns_nothing_and_is_not_chosen(leaf):
    tree, result, _ = grown(
        {"": ["7"], "no": ["no"]}, {"7": 0.2, "out of words": 1.0}, leaf=leaf, expand=1
    )
    assert result.best.texts == ("7",)
    after = {"": ["x", "7"], "x": ["out of words"]}
    scores = {"x": 0.9, "7": 0.3, "xout of words": 1.0}
    tree, result, _ = grown(after, scores, leaf=leaf, expand=2, simulations=30, aggregate="last")
    assert result.best.texts == ("7",) and max(result.scores) == 1.0
    assert seen_at(tree, "out of words").value == 0.0


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_grows_too_long_is_an_end_worth_nothing(leaf):
    endless = {"x" * n: ["x"] for n in range(20)} | {"": ["x", "7"]}
    tree, result, _ = grown(endless, leaf=leaf, expand=2, max_steps=3, simulations=20)
    assert max(map(len, visits(tree))) == 3 and result.best.texts == ("7",)
    assert [path[-1].value for path in walk(tree.root) if path[-1].end == "steps"] == [0.0]


def test_where_nothing_has_ended_the_most_visited_leaf_is_written_to_its_end():
    tree, result, expanded = grown(TWO, {"b": 1.0}, expand=2, simulations=1, prior="uniform")
    assert expanded == ["", "b"] and result.best.texts == ("b", "d", "2")
    assert result.scores == (0.5,) and tree.root.visits == 2


def test_rollouts_are_scored_whole_and_reward_the_leaf():
    class Whole:
        per = "solution"

        def score(self, prefixes):
            assert all(prefix.ended for prefix in prefixes)
            return [[0.8 if prefix.texts[-1] == "2" else 0.2] for prefix in prefixes]

    tree = ScoredTree(ONE, leaf="rollout", expand=2)
    play(tree.search(6, 2), {"policy": Branches(TWO), "verifier": Whole()})
    seen = {path[-1].step.text: path[-1] for path in walk(tree.root)}
    assert seen["a"].value == pytest.approx(0.2) and seen["c"].value == pytest.approx(0.2)
    assert seen["b"].value == (pytest.approx(0.8) if seen["b"].visits else None)


def test_a_simulation_to_the_end_brings_a_solution():
    tree, result, expanded = grown(TWO, leaf="end", simulations=1, expand=2)
    assert expanded == ["", "a", "ac"] and result.best.texts == ("a", "c", "1")
    assert visits(tree) == {"": 1, "a": 1, "b": 0, "ac": 1, "ac1": 1}


def test_the_three_choices():
    after = {"": ["a", "b"], "a": ["= 7", "so 7"], "b": ["8"]}
    scores = {"a": 0.9, "a= 7": 0.5, "aso 7": 0.45, "b": 0.1, "b8": 0.8}
    options = dict(expand=2, aggregate="last", simulations=8)
    best = {how: grown(after, scores, choose=how, **options)[1].best for how in CHOICES}
    assert best["value"].texts == ("b", "8")  # the highest score
    assert best["vote"].texts == ("a", "= 7")  # 0.5 + 0.45 for 7 against 0.8
    tree, result, _ = grown(after, scores, **options)
    most = max(tree.root.children.values(), key=lambda node: node.visits)
    assert (
        best["visits"].texts[0] == most.step.text == "b"
    )  # once found, 0.8 beats 0.9 and then 0.5
    assert [path[-1].step.text for path in walk(tree.root) if path[-1].chosen] == [
        ONE.question, *result.best.texts
    ]  # fmt: skip


# -- counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_visits_add_up_and_values_are_means_of_what_was_backed_up(leaf, at_once, monkeypatch):
    module, backed = sys.modules["workbench.search.mcts"], []
    backup = module.backup

    def noted(path, reward):
        backed.append((tuple(n.step.text for n in path), reward))
        backup(path, reward)

    monkeypatch.setattr(module, "backup", noted)
    for problem in PROBLEMS[:6]:
        backed.clear()
        tree = ScoredTree(problem, leaf=leaf)
        play(tree.search(11, at_once), models_of([problem]))
        assert tree.root.visits == len(backed) and tree.root.visits <= 12
        for path in walk(tree.root):
            texts, node = tuple(n.step.text for n in path), path[-1]
            through = [reward for way, reward in backed if way[: len(path)] == texts]
            assert node.visits == len(through)
            if through:
                assert node.value == pytest.approx(np.mean(through))
            rested = sum(way == texts for way, _ in backed)
            assert node.visits == rested + sum(n.visits for n in node.children.values())
            if node.children:
                assert sum(n.prior for n in node.children.values()) == pytest.approx(1)


def models_of(problems, p=0.4):
    return {"policy": Walker(problems, p), "verifier": oracle(problems)}


# -- what it finds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_oracle_finds_the_planted_solution_and_a_constant_verifier_is_chance(leaf):
    for problem in PROBLEMS[:8]:
        tree = ScoredTree(problem, leaf=leaf, expand=8)
        play(tree.search(24, 4), models_of([problem], p=0.25))
        assert all(is_right(problem, tree.result(how).best) for how in CHOICES)
    one = accuracy(solve(PROBLEMS, METHODS["sample"], policy=Walker(PROBLEMS, 0.4), n=1))
    blind = accuracy(run(verifier=constant, leaf=leaf, simulations=8))
    assert abs(blind - one) < 4 * sqrt(0.25 / len(PROBLEMS))


@pytest.mark.parametrize("leaf", LEAVES)
def test_batched_is_one_by_one(leaf):
    batched = run(leaf=leaf, seed=5)
    single = [run([p], leaf=leaf, seed=5)[0] for p in PROBLEMS]
    for a, b in zip(batched, single):
        assert a.rollouts == b.rollouts and a.best == b.best and a.scores == b.scores
        assert (a.meter.samples, a.meter.generated) == (b.meter.samples, b.meter.generated)
    other = run(leaf=leaf, seed=6)
    assert any(a.rollouts != b.rollouts for a, b in zip(batched, other))


def test_the_prior_steers_where_the_verifier_says_nothing():
    class Sure(Walker):
        """Knows which of its steps are good."""

        def _go_on(self, prefix, key, meter, *rest):
            out = super()._go_on(prefix, key, meter, *rest)
            wrong = out.steps[-1].text.endswith("9 .")
            last = Step(out.steps[-1].text, (1,), (-3.0 if wrong else -0.1,))
            return Prefix(out.problem, (*out.steps[:-1], last), out.stop)

    with_it, without = (
        run(verifier=constant, policy=Sure(PROBLEMS, 0.4), prior=prior)
        for prior in ("mean", "uniform")
    )
    assert accuracy(with_it) > accuracy(without) + 0.2


def test_nothing_is_sampled_or_scored_and_not_counted():
    for leaf in LEAVES:
        policy = Walker(PROBLEMS, 0.4)
        results = run(policy=policy, leaf=leaf)
        assert sum(r.meter.samples for r in results) == policy.rows
    samples = [r.meter.samples for r in run(simulations=3, at_once=1, max_steps=2)]
    assert set(samples) <= {4, 8, 12, 13}  # of each simulation `expand`, and none before them


@pytest.mark.parametrize("leaf", LEAVES)
def test_stopped_at_any_request_it_returns_its_best(leaf):
    (problem,) = PROBLEMS[:1]
    options = dict(leaf=leaf, simulations=40)
    whole, requests = play(METHODS["mcts"](problem, **options), models_of([problem]))
    seen = set()
    for at in range(len(requests)):
        result, _ = play(METHODS["mcts"](problem, **options), models_of([problem]), stop_at=at)
        assert bool(result.rollouts) == (at > 0)
        ended = [p for p in result.rollouts if p.ended]
        assert (result.best is not None) == bool(ended)
        assert result.scores is None or len(result.scores) == len(result.rollouts)
        assert {p.texts for p in ended} <= {p.texts for p in whole.rollouts}
        seen.add((bool(ended), result.scores is not None))
    assert {(False, False), (True, True)} <= seen


def test_a_budget_of_samples_is_kept():
    for amount in (1, 3, 7, 20, 33):
        for result in run(budget=Budget(amount, "samples"), simulations=50)[:8]:
            assert result.error is None and result.meter.samples <= amount and result.rollouts


@pytest.mark.parametrize("leaf", LEAVES)
def test_greedy_and_finished_leaves_are_no_exception(leaf):
    for result in run(temperature=0, leaf=leaf):
        assert result.error is None and len({p.texts for p in result.rollouts}) == 1
        assert is_right(result.problem, result.best)
    tiny = tiny_policy(max_tokens=12)
    for result in solve(
        PROBLEMS[:3], METHODS["mcts"], policy=tiny, verifier=constant(PROBLEMS), leaf=leaf,
        temperature=0, simulations=4,
    ):  # fmt: skip
        assert result.error is None and result.rollouts


@pytest.mark.parametrize("leaf", LEAVES)
def test_hostile_texts(leaf):
    many = [Problem(f"h{i}", "math", "?") for i in range(12)]
    results = solve(
        many, METHODS["mcts"], policy=Hostile(), verifier=constant(many), leaf=leaf, choose="vote"
    )
    assert [r.error for r in results] == [None] * 12 and all(r.rollouts for r in results)


@pytest.mark.parametrize(
    "options",
    [
        {"simulations": 0}, {"at_once": 0}, {"expand": 0}, {"max_steps": 0}, {"virtual_loss": -1},
        {"leaf": "oracle"}, {"prior": "max"}, {"choose": "best"}, {"aggregate": "median"},
    ],
)  # fmt: skip
def test_options_that_cannot_be(options):
    (result,) = run(PROBLEMS[:1], **options)
    ((name, value),) = options.items()
    assert result.error.startswith("ValueError: ") and "\n" not in result.error
    assert name in result.error and repr(value) in result.error and result.meter.samples == 0
