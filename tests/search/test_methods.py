"""What every search must keep: batched as alone, its promise with an oracle, chance without a
verifier, its best when it is stopped, and no trouble with odd texts or options."""

from dataclasses import replace

import numpy as np
import pytest
from played import Hostile, answer, play
from scripted import Judge, Walker, constant, oracle

from workbench.analyse.metrics import pass_at_k
from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.types import Score, SearchResult, Stopped

PROBLEMS = quantities.generate(32, levels=[3, 4, 5], seed=3)
SEARCHES = {
    "best_of_n": {"n": 5},
    "beam_search": {"beam_width": 3, "expand": 3},
    "dvts": {"subtrees": 3, "expand": 3},
    "lookahead": {"beam_width": 2, "expand": 3, "depth": 2},
    "rebase": {"width": 8},
    "particle_filter": {"particles": 8},
    "stepwise_best_of_n": {"n": 5},
    "revise": {"chains": 2, "revisions": 2},
    "adaptive": {"n": 9, "at_once": 2},
}
ONE = {  # sizes of 1, where a search is plain sampling
    "best_of_n": {"n": 1},
    "beam_search": {"beam_width": 1, "expand": 1},
    "dvts": {"subtrees": 1, "expand": 1},
    "lookahead": {"beam_width": 1, "expand": 1},
    "rebase": {"width": 1},
    "particle_filter": {"particles": 1},
    "stepwise_best_of_n": {"n": 1},
    "revise": {"chains": 1, "revisions": 0},
    "adaptive": {"n": 1},
}
SCORED = [name for name in SEARCHES if name != "adaptive"]  # those that ask a verifier
STEPWISE = [name for name in SCORED if name not in ("best_of_n", "revise")]


class Reviser(Walker):
    """A walker that, shown an attempt, keeps its right steps and puts the first wrong one right."""

    def sample(self, prefixes, keys, *, words=None, **how):
        if words is None:
            return super().sample(prefixes, keys, **how)
        starts = []
        for prefix, own in zip(prefixes, words):
            said, gold = own["attempt"].split("\n"), self.gold[prefix.problem.id]
            kept = next((i for i, (a, b) in enumerate(zip(said, gold)) if a != b), len(gold) - 2)
            start = prefix.of(prefix.problem, gold[: min(kept + 1, len(gold) - 1)])
            starts.append(start)
        return super().sample(starts, keys, **how)


def run(name, verifier=oracle, p=0.4, problems=PROBLEMS, policy=None, **options):
    models = {"policy": policy or Reviser(problems, p), "verifier": verifier(problems)}
    return solve(problems, METHODS[name], **models, **options)


def accuracy(results):
    return np.mean([r.best is not None and is_right(r.problem, r.best) for r in results])


def loose(problems):
    """A verifier between oracle and chance, so that all is in play: 0.7 right, 0.4 wrong."""
    exact = oracle(problems).function
    return Judge(problems, lambda problem, steps: [0.4 + 0.3 * s for s in exact(problem, steps)])


# -- as alone --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHES)
def test_batched_over_problems_is_one_at_a_time(name):
    together = run(name, loose, **SEARCHES[name])
    assert not any(r.error for r in together)
    alone = [run(name, loose, problems=[p], **SEARCHES[name])[0] for p in PROBLEMS]
    few = run(name, loose, in_flight=3, **SEARCHES[name])
    for a, b, c in zip(together, alone, few):
        assert a.rollouts == b.rollouts == c.rollouts and a.best == b.best == c.best
        assert a.scores == b.scores == c.scores and a.meter.samples == b.meter.samples


@pytest.mark.parametrize("name", SEARCHES)
def test_another_seed_draws_other_solutions(name):
    one, other = (run(name, loose, p=0.7, seed=seed, **SEARCHES[name]) for seed in (0, 1))
    assert [r.rollouts for r in one] != [r.rollouts for r in other]


# -- what a verifier brings ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORED)
def test_with_the_oracle_and_enough_width_it_finds_the_planted_solution(name):
    wide = {
        "best_of_n": {"n": 64},
        "beam_search": {"expand": 8},
        "dvts": {"expand": 8},
        "lookahead": {"expand": 8},
        "particle_filter": {"particles": 32},
        "revise": {"revisions": 8},
    }
    assert accuracy(run(name, p=0.3, **wide.get(name, {}))) >= 0.95
    assert accuracy(run("sample", p=0.3, n=1)) < 0.5


@pytest.mark.parametrize("name", SCORED)
def test_with_its_default_options_it_beats_sampling_with_the_oracle(name):
    assert accuracy(run(name)) > accuracy(run("sample", n=1)) + 0.15


@pytest.mark.parametrize("name", [name for name in SCORED if name != "revise"])
def test_a_constant_verifier_is_chance(name):
    """Of a policy that errs with a known chance, over many problems and two seeds."""
    problems = quantities.generate(60, levels=[4], seed=3)
    found = [
        accuracy(run(name, constant, p=0.15, problems=problems, seed=seed, **SEARCHES[name]))
        for seed in (0, 1)
    ]
    right = [
        [is_right(r.problem, s) for s in r.rollouts]
        for r in run("sample", p=0.15, problems=problems, n=64)
    ]
    expected = np.mean(pass_at_k(64, np.sum(right, 1), 1))
    assert abs(np.mean(found) - expected) < 4 * (expected * (1 - expected) / 120) ** 0.5


@pytest.mark.parametrize("name", ONE)
def test_at_size_1_it_is_sampling(name):
    results = run(name, constant, p=0.15, **ONE[name])
    assert all(len(r.rollouts) == 1 and r.best == r.rollouts[0] for r in results)
    steps = [len(r.best.steps) if name in STEPWISE else 1 for r in results]
    drawn = [r.meter.samples for r in results]
    if name != "lookahead":
        assert drawn == steps


# -- stopped ---------------------------------------------------------------------------------------


def halt(generator, models, k, reason):
    """The result of a method that is told to stop at request k, as the driver tells it: where a
    budget has ended it may ask for scores once more, and at anything else is told again."""
    reply, told = None, False
    try:
        for number in range(100):
            request = generator.send(reply)
            if number >= k:
                request = generator.throw(Stopped(reason))
                assert reason == "budget" and isinstance(request, Score) and not told
                told = True
            reply = answer(request, models[request.by], number)
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize("reason", ["budget", "interrupt"])
@pytest.mark.parametrize("name", SEARCHES)
def test_stopped_at_any_request_it_gives_back_its_best_of_what_was_drawn(name, reason):
    problem = PROBLEMS[1].blind()
    models = {"policy": Reviser(PROBLEMS, 0.4), "verifier": loose(PROBLEMS)}
    whole, requests = play(METHODS[name](problem, **SEARCHES[name]), models)
    assert len(requests) >= 2
    for k in range(1, len(requests)):
        stopped = halt(METHODS[name](problem, **SEARCHES[name]), models, k, reason)
        assert isinstance(stopped, SearchResult) and stopped.rollouts
        finished = [p for p in stopped.rollouts if p.ended]
        assert (stopped.best in finished) if finished else stopped.best is None
        assert stopped.scores is None or len(stopped.scores) == len(stopped.rollouts)
        for scores, p in zip(stopped.step_scores or (), stopped.rollouts):
            assert len(scores) == len(p.steps)
        if stopped.scores and stopped.best:
            pairs = zip(stopped.scores, stopped.rollouts)
            top = max(score for score, p in pairs if p.ended)
            assert stopped.scores[stopped.rollouts.index(stopped.best)] == top
    assert whole.best is not None and whole.best.ended


@pytest.mark.parametrize("name", SCORED)
def test_stopped_before_the_scores_it_gives_back_what_was_sampled(name):
    models = {"policy": Reviser(PROBLEMS, 0.4), "verifier": loose(PROBLEMS)}
    _, requests = play(METHODS[name](PROBLEMS[0].blind(), **SEARCHES[name]), models)
    stopped = halt(METHODS[name](PROBLEMS[0].blind(), **SEARCHES[name]), models, 1, "interrupt")
    rows = len(requests[0].prefixes) * requests[0].n
    distinct = name in ("beam_search", "lookahead", "stepwise_best_of_n")  # equal ones once
    assert (len(stopped.rollouts) <= rows) if distinct else (len(stopped.rollouts) == rows)
    assert stopped.scores is None


# -- odd texts and options -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHES)
def test_odd_texts_do_no_harm(name):
    problems = [replace(p, kind=kind) for p in PROBLEMS[:6] for kind in ("quantities", "math")]
    options = SEARCHES[name] | ({"max_steps": 6} if name in STEPWISE else {})
    results = run(name, constant, problems=problems, policy=Hostile(), **options)
    assert [r.error for r in results] == [None] * len(problems)
    assert all(r.best is None or r.best in r.rollouts for r in results)


@pytest.mark.parametrize("name", STEPWISE)
def test_too_few_steps_bring_back_nothing_unfinished(name):
    for r in run(name, max_steps=2, **SEARCHES[name]):
        assert r.best is None and r.rollouts == () and r.error is None and r.meter.samples > 0


@pytest.mark.parametrize("name", SCORED)
def test_a_verifier_of_whole_solutions_will_do(name):
    class Whole(Judge):
        per = "solution"

        def score(self, prefixes, *, meters=None):
            return [[min(row)] for row in super().score(prefixes)]

    results = run(name, lambda problems: Whole(problems, oracle(problems).function), p=0.2)
    assert not any(r.error for r in results) and accuracy(results) > 0.8


WRONG = [
    ("best_of_n", {"n": 0}, "n=0"),
    ("best_of_n", {"aggregate": "median"}, "aggregate 'median'"),
    ("beam_search", {"beam_width": 0}, "beam_width=0"),
    ("beam_search", {"aggregate": "median"}, "aggregate 'median': use min"),
    ("dvts", {"subtrees": 0}, "subtrees=0"),
    ("dvts", {"expand": -1}, "expand=-1"),
    ("lookahead", {"depth": -1}, "depth=-1: need at least 0"),
    ("lookahead", {"max_steps": 0}, "max_steps=0"),
    ("rebase", {"width": 0}, "width=0"),
    ("rebase", {"balance": 0}, "temperature 0"),
    ("rebase", {"balance": float("nan")}, "temperature nan"),
    ("rebase", {"aggregate": "best"}, "aggregate 'best'"),
    ("particle_filter", {"particles": 0}, "particles=0"),
    ("particle_filter", {"resampling": "often"}, "resampling='often': use systematic, multinomial"),
    ("stepwise_best_of_n", {"n": 0}, "n=0"),
    ("revise", {"chains": 0}, "chains=0"),
    ("revise", {"revisions": -1}, "revisions=-1: need at least 0"),
    ("adaptive", {"n": 0}, "n=0"),
    ("adaptive", {"at_once": 0}, "at_once=0"),
    ("adaptive", {"confidence": 0.5}, "confidence=0.5"),
    ("adaptive", {"confidence": 1.5}, "confidence=1.5"),
]


@pytest.mark.parametrize(("name", "options", "says"), WRONG)
def test_an_option_that_cannot_be_is_one_line_before_anything_is_drawn(name, options, says):
    (result,) = run(name, problems=PROBLEMS[:1], **options)
    assert result.error.startswith("ValueError: ") and says in result.error
    assert "\n" not in result.error and result.meter.samples == 0
