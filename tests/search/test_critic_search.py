"""Critic search: where it rewrites, what it keeps, when it stops."""

import numpy as np
import pytest
from played import Branches, Hostile, play, scores_by
from scripted import Judge, Walker, constant, oracle

from workbench.drive import solve
from workbench.models.prompts import with_layout
from workbench.models.templates import render
from workbench.problems import check_steps, is_right, quantities
from workbench.search import METHODS
from workbench.types import Budget, Problem, Sample

PROBLEMS = quantities.generate(30, levels=[3, 4, 5], seed=3)
ONE = Problem("one", "math", "How many?")


def run(problems=PROBLEMS, verifier=oracle, p=0.3, policy=None, **options):
    policy = policy or Walker(problems, p)
    method = METHODS["critic_search"]
    return solve(problems, method, policy=policy, verifier=verifier(problems), **options)


def accuracy(results):
    return np.mean([r.best is not None and is_right(r.problem, r.best) for r in results])


def asked_of(after, scores, **options):
    """The result, and what was asked of the policy: template, steps so far, words."""
    policy = Branches(after)
    models = {"policy": policy, "verifier": scores_by(scores)}
    result, requests = play(METHODS["critic_search"](ONE, **options), models)
    rows = [
        (r.prompt, "".join(r.prefixes[0].texts), r.n) for r in requests if isinstance(r, Sample)
    ]
    return result, rows, policy


# -- by hand ---------------------------------------------------------------------------------------

AFTER = {"": ["a"], "a": ["b", "c"], "ab": ["= 7"], "ac": ["= 8"]}


def test_it_rewrites_from_before_the_first_doubt_and_keeps_the_better():
    scores = {"a": 0.9, "ab": 0.3, "ab= 7": 0.1, "ac": 0.8, "ac= 8": 0.7}
    result, rows, _ = asked_of(AFTER, scores, n=1, expand=2)
    assert rows == [("solve", "", 1), ("solve", "a", 2)]  # and then nothing is in doubt
    assert result.best.texts == ("a", "c", "= 8") and result.scores == (0.7, 0.1, 0.1)
    assert result.step_scores[0] == (0.9, 0.8, 0.7) and result.best is result.rollouts[0]


def test_of_equals_the_one_that_comes_into_doubt_last_is_built_on():
    scores = {"a": 0.9, "ab": 0.1, "ab= 7": 0.1, "ac": 0.9, "ac= 8": 0.1}
    _, rows, _ = asked_of(AFTER, scores, n=1, expand=2, rounds=2)
    assert [start for _, start, _ in rows] == ["", "a", "ac"]


def test_what_is_worse_is_not_kept_and_the_best_is_tried_again():
    scores = {"a": 0.9, "ab": 0.3, "ab= 7": 0.3, "ac": 0.1, "ac= 8": 0.9}
    result, rows, _ = asked_of(AFTER, scores, n=1, expand=2, rounds=3)
    assert rows == [("solve", "", 1)] + [("solve", "a", 2)] * 3
    assert result.best is result.rollouts[0] and len(result.rollouts) == 7


@pytest.mark.parametrize("threshold, start", [(0.2, None), (0.4, "a"), (0.95, "")])
def test_the_threshold_says_what_is_doubt(threshold, start):
    scores = {"a": 0.9, "ab": 0.3, "ab= 7": 0.9, "ac": 0.3}
    _, rows, _ = asked_of(AFTER, scores, n=1, rounds=1, threshold=threshold)
    assert [prefix for _, prefix, _ in rows[1:]] == ([] if start is None else [start])


def test_the_critique_is_of_the_steps_up_to_the_doubt_and_the_rewriting_is_told_it():
    scores = {"a": 0.9, "ab": 0.3, "ac": 0.9}
    result, rows, policy = asked_of(AFTER, scores, n=1, expand=1, rounds=1, critique=True)
    assert [row[0] for row in rows] == ["solve", "critique", "rewrite"]
    assert policy.rows[1] == ("critique", (), {"attempt": "a\nb"})
    assert policy.rows[2] == ("rewrite", ("a",), {"critique": "a\nb\n= 7"})  # what Branches says
    assert len(result.rollouts) == 2  # a critique is no solution


def test_templates_ask_for_what_is_brought():
    told = render(with_layout(), "critique", ONE, {"attempt": "1 + 1 = {3}"})
    assert "1 + 1 = {3}" in told and "How many?" in told
    told = render(with_layout(), "rewrite", ONE, {"critique": "it is 2"})
    assert "it is 2" in told and "How many?" in told


def test_a_verifier_of_whole_solutions_has_all_written_anew():
    class Whole:
        per = "solution"

        def score(self, prefixes):
            return [[0.9 if p.texts[-1] == "= 8" else 0.2] for p in prefixes]

    policy = Branches({"": ["= 7", "= 8"]})
    result, _ = play(
        METHODS["critic_search"](ONE, n=1, expand=2), {"policy": policy, "verifier": Whole()}
    )
    assert [texts for _, texts, _ in policy.rows] == [()] * 3 and result.best.texts == ("= 8",)


# -- what it finds ---------------------------------------------------------------------------------


def test_the_oracle_finds_the_planted_solution():
    results = run(n=4, expand=8, rounds=12)
    assert accuracy(results) == 1.0 and accuracy(run(n=4, rounds=0)) < 0.8
    for result in results:
        assert max(result.scores) == result.scores[result.rollouts.index(result.best)]


def test_rewriting_begins_where_the_steps_go_wrong():
    for problem in PROBLEMS[:8]:
        models = {"policy": Walker([problem], 0.4), "verifier": oracle([problem])}
        _, requests = play(METHODS["critic_search"](problem), models)
        for request in requests:
            assert all(check_steps(problem, request.prefixes[0].texts)) or len(request.prefixes) > 1


def test_without_rewriting_it_is_best_of_n_and_from_the_question_it_finds_less():
    pool = run(n=8, rounds=0)
    best = solve(
        PROBLEMS, METHODS["best_of_n"], policy=Walker(PROBLEMS, 0.3), verifier=oracle(PROBLEMS), n=8
    )
    for a, b in zip(pool, best):
        assert a.best == b.best and set(a.rollouts) == set(b.rollouts)
        assert sorted(a.scores) == sorted(b.scores)

    def doubtful(problems):  # of everything: what is right is not built on
        known = oracle(problems).function
        return Judge(problems, lambda p, steps: [min(known(p, steps))] * len(steps))

    both = [accuracy(run(n=1, p=0.5, verifier=which)) for which in (oracle, doubtful)]
    assert both[0] > both[1] + 0.2


def test_a_constant_verifier_is_chance():
    for threshold in (0.5, 0.6):  # nothing in doubt, or everything
        results = run(verifier=constant, threshold=threshold)
        assert all(result.best is result.rollouts[0] for result in results)
        sizes = {len(result.rollouts) for result in results}
        assert sizes == ({4} if threshold == 0.5 else {4 + 4 * 4})


# -- what every method must do ---------------------------------------------------------------------


def test_batched_is_one_by_one():
    batched = run(seed=5)
    for a, problem in zip(batched, PROBLEMS):
        (b,) = run([problem], seed=5)
        assert a.rollouts == b.rollouts and a.best == b.best and a.scores == b.scores
        assert (a.meter.samples, a.meter.generated) == (b.meter.samples, b.meter.generated)
    assert any(a.rollouts != b.rollouts for a, b in zip(batched, run(seed=6)))


def test_nothing_is_sampled_and_not_counted():
    policy = Walker(PROBLEMS, 0.3)
    results = run(policy=policy)
    assert sum(r.meter.samples for r in results) == policy.rows
    assert all(r.meter.samples == len(r.rollouts) for r in results)


def test_stopped_at_any_request_it_returns_its_best():
    problem = PROBLEMS[4]
    models = {"policy": Walker([problem], 0.7), "verifier": oracle([problem])}
    _, requests = play(METHODS["critic_search"](problem), models)
    assert len(requests) > 6
    for at in range(len(requests)):
        result, _ = play(METHODS["critic_search"](problem), models, stop_at=at)
        assert len(result.rollouts) == 4 * ((at + 1) // 2)  # all that was drawn
        assert (result.best is not None) == (at > 0)
        assert (result.scores is not None) == (at % 2 == 0 and at > 0)  # else before they come
        assert not result.scores or result.scores[0] == max(result.scores)
        assert not at or result.best is result.rollouts[0]


def test_a_budget_of_samples_is_kept():
    for amount in (1, 3, 4, 9, 20):
        for result in run(budget=Budget(amount, "samples"), threshold=1.0)[:8]:
            assert result.error is None and result.meter.samples <= amount
            assert len(result.rollouts) == result.meter.samples and result.scores


def test_greedy_is_no_exception():
    for result in run(temperature=0):
        assert result.error is None and is_right(result.problem, result.best)


@pytest.mark.parametrize("critique", [False, True])
def test_hostile_texts(critique):
    many = [Problem(f"h{i}", "math", "?") for i in range(12)]

    def picky(problems):
        return Judge(many, lambda problem, steps: [len(text) % 10 / 9 for text in steps])

    results = run(many, picky, policy=Hostile(), critique=critique)
    assert [r.error for r in results] == [None] * 12 and all(r.rollouts for r in results)


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0}, {"rounds": -1}, {"expand": 0}, {"threshold": 1.5}, {"threshold": -0.1},
        {"aggregate": "median"},
    ],
)  # fmt: skip
def test_options_that_cannot_be(options):
    (result,) = run(PROBLEMS[:1], **options)
    ((name, value),) = options.items()
    assert result.error.startswith("ValueError: ") and "\n" not in result.error
    assert name in result.error and repr(value) in result.error and result.meter.samples == 0
