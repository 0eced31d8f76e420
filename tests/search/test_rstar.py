"""rStar: its formula, its five actions as requests, rewards by agreement, the second model."""

import sys
from math import inf, log, sqrt

import numpy as np
import pytest
from played import Branches, Hostile, Listener, play

from workbench.analyse.metrics import majority_vote
from workbench.drive import solve
from workbench.models.prompts import with_layout
from workbench.models.templates import TAUGHT, render
from workbench.problems import answer_of, is_right, quantities
from workbench.search import METHODS
from workbench.search.rstar import ACTIONS, ThoughtTree, uct
from workbench.tree import walk
from workbench.types import Budget, Problem

PROBLEMS = quantities.generate(16, levels=[3, 4, 5], seed=3)
ONE = Problem("one", "math", "How many?")
FIVE = tuple(ACTIONS)


def run(problems=PROBLEMS, p=0.15, helper=0.0, policy=None, **options):
    """The second model starts from the question, so that a perfect one confirms what is right."""
    models = {
        "policy": policy or Listener(problems, p),
        "helpers": {"helper": Listener(problems, helper)},
    }
    return solve(problems, METHODS["rstar"], **({"cuts": (0.0,)} | models | options))


def accuracy(results):
    return np.mean([r.best is not None and is_right(r.problem, r.best) for r in results])


def explored(after, *, simulations, **options):
    tree, policy = ThoughtTree(ONE, **options), Branches(after)
    for _ in range(simulations):
        play(tree.simulate(), {"policy": policy})
    return tree, policy


def seen(tree):
    return {"".join(n.step.text for n in path[1:]): path[-1] for path in walk(tree.root)}


# -- the formula -----------------------------------------------------------------------------------


def test_uct_values():
    assert uct(3, 5, 20) == pytest.approx(2.148091, abs=1e-6)
    assert uct(3, 5, 20, c=0) == 0.6 and uct(0, 0, 0) == inf
    assert uct(1, 2, 9, c=0.5) == pytest.approx(1 / 2 + sqrt(log(9) / 2) / 2)


# -- exploring -------------------------------------------------------------------------------------

AFTER = {"": ["a", "b"], "a": ["= 7"], "b": ["c"], "bc": ["= 8"]}


def test_unexplored_children_come_first_and_are_completed_when_first_met():
    tree, policy = explored(AFTER, simulations=2, actions=("step",))
    assert [row[1] for row in policy.rows] == [(), (), ("a",), ("b",)]
    assert [p.texts for p in tree.pool] == [("a", "= 7"), ("b", "c", "= 8")]
    assert {text: node.visits for text, node in seen(tree).items()} == {"": 2, "a": 1, "b": 1}


def test_a_leaf_met_again_is_expanded():
    tree, _ = explored(AFTER, simulations=3, actions=("step",), expand=2)
    a, b = (seen(tree)[letter] for letter in "ab")
    assert (a.visits, b.visits) == (2, 1) and list(a.children) == [("= 7", "end")]
    assert tree.pool[2].texts == tree.pool[3].texts == ("a", "= 7")  # drawn twice, one node


def test_the_reward_is_the_share_of_the_others_that_agree_counted_anew():
    tree, _ = explored(AFTER, simulations=3, actions=("step", "rest"))
    answers = [answer_of(solution) for solution in tree.pool]
    assert answers.count("7") + answers.count("8") == len(answers)
    rewards = {a: (answers.count(a) - 1) / (len(answers) - 1) for a in set(answers)}
    assert tree.rewards == pytest.approx(rewards)
    expected = np.mean([rewards[answer] for *_, answer in tree.runs])
    assert tree.root.value == pytest.approx(expected)


def test_one_solution_alone_and_one_without_an_answer_earn_nothing():
    tree, _ = explored({"": ["= 7"]}, simulations=1, actions=("rest",), expand=1)
    assert tree.root.value == 0 and tree.rewards == {"7": 0}
    tree, _ = explored({}, simulations=1, actions=("rest",), expand=3)
    assert tree.rewards == {None: 0.0} and tree.root.visits == 1


@pytest.mark.parametrize("actions", [("step", "rest", "rephrase"), ("step",), ("rest",), FIVE])
def test_visits_add_up_and_values_are_means_of_what_was_backed_up(actions):
    for problem in PROBLEMS[:4]:
        tree, policy = ThoughtTree(problem, actions=actions), Listener([problem], 0.3)
        for n in range(1, 13):
            play(tree.simulate(), {"policy": policy})
            assert tree.root.visits == n == len(tree.runs)
        answers = [answer_of(solution) for solution in tree.pool]
        others = len(answers) - 1
        for path in walk(tree.root):
            through = [a for way, _, a in tree.runs if any(node is path[-1] for node in way)]
            assert path[-1].visits == len(through)
            if through:
                earned = [(answers.count(answer) - 1) / others for answer in through]
                assert path[-1].value == pytest.approx(np.mean(earned))
            rested = sum(way[-1] is path[-1] for way, *_ in tree.runs)
            assert len(through) == rested + sum(c.visits for c in path[-1].children.values())


# -- actions ---------------------------------------------------------------------------------------


def test_the_five_actions_are_requests_under_their_templates():
    after = {"": ["Who? Ann."], "Who? Ann.": ["= 7"], "Ann": ["= 8"]}
    _, policy = explored(after, simulations=1, actions=FIVE, expand=1)
    asked = [(prompt, texts) for prompt, texts, _ in policy.rows]
    assert asked[:4] == [("solve", ()), ("solve", ()), ("subquestion", ()), ("rephrase", ())]
    _, policy = explored(after, simulations=9, actions=("ask", "answer_again"), expand=1)
    again = [(texts, words) for prompt, texts, words in policy.rows if prompt == "answer_again"]
    assert again == [((), {"subquestion": "Who?"})]  # in the place of the step, once
    prompts = [prompt for prompt, texts, _ in policy.rows if texts and prompt != "solve"]
    assert prompts and set(prompts) == {"subquestion"}


def test_answering_again_replaces_the_step():
    class Twice(Branches):
        def _go_on(self, prefix, turn, until):
            told, self.after = self.after, {"": ["Who? Bob."]} if self.again else self.after
            out = super()._go_on(prefix, turn, until)
            self.after = told
            return out

        def sample(self, prefixes, keys, *, prompt, **how):
            self.again = prompt == "answer_again"
            return super().sample(prefixes, keys, prompt=prompt, **how)

    policy = Twice({"": ["Who? Ann."], "Who? Ann.": ["= 7"], "Who? Bob.": ["= 8"]})
    tree = ThoughtTree(ONE, actions=("ask", "answer_again"), expand=1)
    for _ in range(4):
        play(tree.simulate(), {"policy": policy})
    (first,) = tree.root.children.values()
    again = first.children["Who? Bob.", None]
    assert again.prefix.texts == ("Who? Bob.",) and again.action == "answer_again"
    assert {p.texts for p in tree.pool} >= {("Who? Ann.", "= 7")}


def test_a_rephrased_question_is_read_beside_the_question_in_all_that_follows():
    after = {"": ["What number 9"]}
    tree, policy = explored(after, simulations=8, actions=("step", "rephrase"), expand=1)
    other = tree.root.children["What number 9", "How many? What number 9"]
    assert other.prefix.steps == () and other.words == {"question": "How many? What number 9"}
    told = [words for prompt, _, words in policy.rows if words]
    assert told and all(words == other.words for words in told)
    assert [prompt for prompt, *_ in policy.rows].count("rephrase") == 1  # from the root alone


def test_the_chosen_way_is_marked():
    tree, _ = explored(AFTER, simulations=4, actions=("step",))
    best = tree.result({}, 0.5).best
    marked = [path[-1].step.text for path in walk(tree.root) if path[-1].chosen]
    assert best.texts == ("a", "= 7") and marked[:2] == ["How many?", "a"]


def test_templates_there_are_for_each_action():
    for prompt, _ in ACTIONS.values():
        text = render(with_layout(), prompt, ONE, {"subquestion": "Who ?"})
        assert "How many?" in text and "{" not in text
    taught = {action for action, (prompt, _) in ACTIONS.items() if prompt in TAUGHT}
    assert taught == {"step", "rest", "rephrase"} == set(ThoughtTree(ONE).actions)


# -- the second model ------------------------------------------------------------------------------


def test_it_completes_what_was_cut_off_from_texts_and_confirms():
    seen = []

    class Noted(Listener):
        def sample(self, prefixes, keys, **how):
            seen.extend(prefixes)
            return super().sample(prefixes, keys, **how)

    helper = Noted(PROBLEMS, 0.0)
    results = run(PROBLEMS[:5], cuts=(0.25, 0.5), p=0.3, helpers={"helper": helper})
    for problem, result in zip(PROBLEMS, results):
        known = list({p.texts: p for p in result.rollouts if answer_of(p)})
        expected = [texts[: int(cut * len(texts))] for texts in known for cut in (0.25, 0.5)]
        own = [p for p in seen if p.problem.id == problem.id]
        assert [p.texts for p in own] == expected
        assert not any(step.ids for p in own for step in p.steps)  # it may have other tokens


def test_only_what_it_confirms_is_chosen():
    """Half of the steps err, always in the same way: a perfect second model knows better."""
    results = run(p=0.35, helper=0.0)
    alone = run(p=0.35, by=None)
    reached = [any(is_right(r.problem, s) for s in r.rollouts) for r in results]
    assert accuracy(results) == np.mean(reached) > accuracy(alone) + 0.2
    for result in results:
        right = [is_right(result.problem, s) for s in result.rollouts]
        assert all((score > 0) <= ok for ok, score in zip(right, result.scores)) or not any(right)


def test_without_it_or_if_it_knows_nothing_the_majority_is_chosen():
    for options in ({"by": None}, {"helpers": {"helper": Branches({})}}):
        for result in run(p=0.3, **options):
            winner = majority_vote([answer_of(s) for s in result.rollouts])
            assert result.error is None and answer_of(result.best) == winner


def test_it_is_not_asked_where_all_agree():
    for result in run(PROBLEMS[:3], p=0.0):
        samples = result.meter.samples
        assert result.error is None and is_right(result.problem, result.best)
        assert samples == run([result.problem], p=0.0, by=None)[0].meter.samples


# -- what every method must do ---------------------------------------------------------------------


def test_batched_is_one_by_one():
    batched = run(p=0.3, seed=5)
    for a, problem in zip(batched, PROBLEMS):
        (b,) = run([problem], p=0.3, seed=5)
        assert a.rollouts == b.rollouts and a.best == b.best and a.scores == b.scores
        assert (a.meter.samples, a.meter.generated) == (b.meter.samples, b.meter.generated)
    assert any(a.rollouts != b.rollouts for a, b in zip(batched, run(p=0.3, seed=6)))


def test_nothing_is_sampled_and_not_counted():
    policy, helper = Listener(PROBLEMS, 0.3), Listener(PROBLEMS, 0.1)
    results = run(policy=policy, helpers={"helper": helper})
    assert sum(r.meter.samples for r in results) == policy.rows + helper.rows


def test_stopped_at_any_request_it_returns_its_best():
    (problem,), seen = PROBLEMS[:1], set()
    models = {"policy": Listener([problem], 0.3), "helper": Listener([problem], 0.3)}
    whole, requests = play(METHODS["rstar"](problem), models)
    for at in range(len(requests)):
        result, _ = play(METHODS["rstar"](problem), models, stop_at=at)
        assert bool(result.rollouts) == (at > 0)
        ended = [p for p in result.rollouts if p.ended]
        assert ended == list(whole.rollouts[: len(ended)]) and (result.best in ended or not ended)
        assert not ended or len(result.scores) == len(result.rollouts)
        seen.add(bool(ended))
    assert seen == {False, True}
    majority = majority_vote([answer_of(p) for p in result.rollouts])
    assert answer_of(result.best) == majority  # stopped before the second model answers


def test_a_budget_of_samples_is_kept():
    for amount in (1, 3, 7, 20, 40, 60):
        for result in run(budget=Budget(amount, "samples"), p=0.3)[:8]:
            assert result.error is None and result.meter.samples <= amount and result.rollouts


def test_greedy_is_no_exception():
    for result in run(temperature=0):
        assert result.error is None and is_right(result.problem, result.best)


@pytest.mark.parametrize("actions", [FIVE, ("step", "rest", "rephrase")])
def test_hostile_texts(actions):
    many = [Problem(f"h{i}", "math", "?") for i in range(8)]
    models = {"policy": Hostile(), "helpers": {"helper": Hostile()}}
    results = solve(many, METHODS["rstar"], actions=actions, simulations=8, **models)
    assert [r.error for r in results] == [None] * 8 and all(r.rollouts for r in results)


@pytest.mark.parametrize(
    "options",
    [
        {"simulations": 0}, {"expand": 0}, {"c": -1.0}, {"c": inf}, {"share": 0}, {"share": 1.5},
        {"cuts": ()}, {"cuts": (0.5, 1.0)}, {"actions": ("step", "guess")},
        {"actions": ("rephrase", "answer_again")}, {"actions": ()},
    ],
)  # fmt: skip
def test_options_that_cannot_be(options):
    (result,) = run(PROBLEMS[:1], **options)
    ((name, value),) = options.items()
    assert result.error.startswith("ValueError: ") and "\n" not in result.error
    assert name in result.error and repr(value) in result.error and result.meter.samples == 0


def test_a_missing_second_model_is_named():
    with pytest.raises(ValueError, match=r"^the method asks for 'helper', but solve was given"):
        solve(PROBLEMS[:1], METHODS["rstar"], policy=Listener(PROBLEMS, 0.5))


@pytest.mark.slow
def test_the_shipped_policies_act_as_they_were_taught():
    from workbench.models import load_policy

    base = load_policy("base", max_tokens=90)
    results = solve(
        PROBLEMS[:2], METHODS["rstar"], policy=base, helpers={"helper": base}, simulations=4
    )
    assert all(r.error is None and r.best is not None for r in results)


def test_rewards_are_counted_with_the_tree(monkeypatch):
    """Without agreement as reward the search goes elsewhere."""
    module = sys.modules["workbench.search.rstar"]
    before = run(p=0.3, seed=2)
    flat = property(lambda self: dict.fromkeys(self.answers, 0.5))
    monkeypatch.setattr(module.ThoughtTree, "rewards", flat)
    after = run(p=0.3, seed=2)
    assert sum(a.rollouts != b.rollouts for a, b in zip(before, after)) > len(PROBLEMS) / 2
