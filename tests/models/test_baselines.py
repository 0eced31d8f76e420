"""Verifiers without training: scores fixed by content, and exact truth."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scripted import Walker
from scripted import oracle as scripted_oracle

from workbench.analyse.verifiers import auc
from workbench.drive import identify, solve
from workbench.models import load_policy
from workbench.models.baselines import Dial, Oracle, OwnLikelihood, Position, Random
from workbench.models.verifier import untrained
from workbench.problems import check_steps, frozen, is_right, quantities
from workbench.search import METHODS
from workbench.types import Meter, Prefix, Problem, Unreadable

PROBLEMS = quantities.generate(12, levels=[3], seed=5)


def spoilt(problem, at=None, *, length=None, ended=True):
    """The gold solution with a slip in step `at`, cut after `length` steps, as a search would show
    it."""
    steps = problem.solution.split("\n")
    if at is not None:
        steps[at] = steps[at].replace(" .", "9 .")
    return Prefix.of(problem.blind(), steps[:length], ended=ended and length is None)


def pool():
    """Right, wrong and unfinished solutions of all problems, some of them twice."""
    rows = [
        spoilt(p, at, length=length)
        for p in PROBLEMS
        for at in (None, 0, 1, 2)
        for length in (None, 2)
    ]
    return rows + rows[:7]


def verifiers():
    return {
        "random": Random(3),
        "position": Position(),
        "oracle": Oracle(PROBLEMS),
        "dial": Dial(PROBLEMS, auc=0.8, stubborn=0.5),
    }


# -- what all of them keep -------------------------------------------------------------------------


@pytest.mark.parametrize("name", verifiers())
def test_one_score_a_step_by_content_alone(name):
    rows, verifier = pool(), verifiers()[name]
    scores = verifier.score(rows)
    assert [len(row) for row in scores] == [len(prefix.steps) for prefix in rows]
    assert all(0 <= score <= 1 for row in scores for score in row)
    assert (
        verifier.per == "step"
        and verifier.score([]) == [] == verifiers()[name].score([Prefix(PROBLEMS[0])])[0]
    )
    turned = np.random.default_rng(0).permutation(len(rows))
    for i in turned:  # one by one, in another order, by another object
        alone = verifiers()[name] if i % 5 == 0 else verifier
        assert alone.score([rows[i]], meters=[Meter()]) == [scores[i]]


@pytest.mark.parametrize("name", verifiers())
def test_a_score_does_not_depend_on_what_follows(name):
    for prefix in pool():
        whole = verifiers()[name].score([prefix])[0]
        cut = Prefix(prefix.problem, prefix.steps[:1])
        assert verifiers()[name].score([cut])[0] == whole[:1]


def test_names_tell_settings_apart():
    others = [Random(4), Dial(PROBLEMS, auc=0.9, stubborn=0.5), Dial(PROBLEMS, auc=0.8, seed=1)]
    names = [verifier.name for verifier in (*verifiers().values(), *others)]
    assert len(set(names)) == len(names)


def test_a_run_knows_settings_and_problems_apart():
    made = [
        *(Random(3), Random(4), Position(), Oracle(PROBLEMS)),
        *(Oracle(PROBLEMS[1:]), Oracle([*PROBLEMS[1:], replace(PROBLEMS[0], answer="0")])),
        *(Dial(PROBLEMS, auc=auc) for auc in (0.7, 0.8)),
    ]
    assert len({identify(verifier) for verifier in made}) == len(made)
    assert identify(Oracle(PROBLEMS[::-1])) == identify(Oracle(PROBLEMS))


def test_no_torch_until_a_policy_brings_it():
    code = "import sys, workbench.models.baselines as _; "
    code += "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# -- the policy's own likelihood -------------------------------------------------------------------


def test_likelihood_of_what_was_written_is_that_of_reading_it_again():
    policy = load_policy("base", dtype="float32", max_tokens=80)
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=0, n=4)
    rollouts = [r for result in results for r in result.rollouts if r.stop == "end"]
    meters = [Meter() for _ in rollouts]
    own = np.concatenate(OwnLikelihood().score(rollouts, meters=meters))
    read = np.concatenate(untrained(policy).score(rollouts))
    assert len(own) > 100 and all(meter == Meter() for meter in meters)
    # reading again counts every way to end a step; writing took one of them
    assert (own <= read * (1 + 1e-4)).all() and np.median(read / own) < 1.001
    assert np.corrcoef(np.log(own), np.log(read))[0, 1] > 0.99


def test_what_came_as_text_has_no_likelihood():
    with pytest.raises(Unreadable, match=r"has no log-probabilities: use verifier.untrained"):
        OwnLikelihood().score([spoilt(PROBLEMS[0])])
    assert OwnLikelihood().price([spoilt(PROBLEMS[0])]) == 0


# -- random ----------------------------------------------------------------------------------------


def test_random_is_uniform_and_keyed():
    problem = Problem("p", "math", "?")
    scores = np.array(
        [row[0] for row in Random().score([Prefix.of(problem, [f"step {i}"]) for i in range(4000)])]
    )
    assert scores.mean() == pytest.approx(1 / 2, abs=4 * (1 / 12 / 4000) ** 0.5)
    assert np.histogram(scores, 10, (0, 1))[0] == pytest.approx(400, abs=4 * (400 * 0.9) ** 0.5)
    assert len(set(scores)) == 4000

    def of(*texts, seed=0, id="p"):
        return Random(seed).score([Prefix.of(replace(problem, id=id), texts)])[0]

    assert of("a", "b")[0] == of("a", "c")[0] and of("a", "b")[1] != of("a", "c")[1]
    assert of("ab", "c")[1] != of("a", "bc")[1] and of("a", "a")[0] != of("a", "a")[1]
    assert of("a") != of("a", seed=1) and of("a") != of("a", id="q")


def test_position_by_hand():
    assert Position().score([spoilt(PROBLEMS[0])]) == [[1 / 2, 1 / 3, 1 / 4, 1 / 5]]


# -- oracle ----------------------------------------------------------------------------------------


def test_oracle_is_the_exact_truth():
    rows = pool()
    assert Oracle(PROBLEMS).score(rows) == scripted_oracle(PROBLEMS).score(rows)
    problem = PROBLEMS[0]
    steps = problem.solution.split("\n")
    restated = Prefix.of(problem.blind(), [steps[0], steps[0], *steps[1:]], ended=True)
    assert Oracle(PROBLEMS).score([restated]) == [[1, 0, 1, 1, 1]]


# -- in a search -----------------------------------------------------------------------------------


def test_search_with_the_truth_finds_what_there_is():
    models = {"policy": Walker(PROBLEMS, 0.6), "verifier": Oracle(PROBLEMS)}
    results = solve(PROBLEMS, METHODS["best_of_n"], **models, n=6)
    any_right = [any(is_right(r.problem, s) for s in r.rollouts) for r in results]
    assert [is_right(r.problem, r.best) for r in results] == any_right
    assert 0 < sum(any_right) < len(PROBLEMS)


@pytest.mark.parametrize("name", ["random", "dial"])
def test_a_search_in_batches_is_the_search_one_by_one(name):
    def run(in_flight, problems):
        options = {
            "policy": Walker(PROBLEMS),
            "verifier": verifiers()[name],
            "in_flight": in_flight,
        }
        results = solve(problems, METHODS["beam_search"], beam_width=2, expand=2, **options)
        assert not any(r.error for r in results)
        return {
            r.problem.id: [(p.texts, row) for p, row in zip(r.rollouts, r.step_scores)]
            for r in results
        }

    assert run(12, PROBLEMS) == run(1, PROBLEMS[::-1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: Oracle([PROBLEMS[0], replace(PROBLEMS[1], id=PROBLEMS[0].id)]),
            "two different problems",
        ),
        (lambda: Oracle(PROBLEMS[1:]).score([spoilt(PROBLEMS[0])]), "not one of the 11 problems"),
        (
            lambda: Oracle([replace(PROBLEMS[0], question="?")]).score([spoilt(PROBLEMS[0])]),
            "not one of the 1",
        ),
        (
            lambda: Oracle([Problem("m", "math", "?")]).score(
                [Prefix.of(Problem("m", "math", "?"), ["a"])]
            ),
            "'math'",
        ),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_unknown_problems_can_be_told_from_other_errors_and_cost_nothing():
    meters = [Meter(), Meter()]
    rows = [spoilt(p, length=1) for p in PROBLEMS[:2]]
    for verifier in (Oracle(PROBLEMS[:1]), Dial(PROBLEMS[:1], auc=0.8)):
        with pytest.raises(Unreadable, match=f"^{PROBLEMS[1].id}: not one of the 1 problems"):
            verifier.score(rows, meters=meters)
    assert meters == [Meter(), Meter()]


# -- the dial --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stubborn", [0.0, 1.0])
@pytest.mark.parametrize("quality", [0.6, 0.9])
def test_a_dial_has_the_auc_it_is_set_to_and_tells_chances(quality, stubborn):
    results = frozen.pool("base", "validation", n=8)
    dial = Dial([r.problem for r in results], auc=quality, stubborn=stubborn)
    rollouts = [s for r in results for s in r.rollouts]
    scores = np.concatenate(dial.score(rollouts))
    right = np.concatenate([check_steps(s.problem, s.texts) for s in rollouts])
    assert auc(scores, right) == pytest.approx(quality, abs=0.03)
    # were as many right as wrong, a score would be the chance to be right
    odds = np.where(right, 0.5 / right.mean(), 0.5 / (1 - right.mean()))
    near = np.abs(scores - 0.6) < 0.05
    assert np.average(right[near], weights=odds[near]) == pytest.approx(0.6, abs=0.05)


def test_a_stubborn_dial_is_taken_in_by_the_same_step_each_time():
    problem = PROBLEMS[0]
    lines = problem.solution.split("\n")
    first, later = Prefix.of(problem, [*lines[:1], "x"]), Prefix.of(problem, [*lines[:2], "x"])
    for stubborn in (0.0, 1.0):
        dial = Dial(PROBLEMS, auc=0.8, stubborn=stubborn)
        (*_, one), (*_, other) = dial.score([first, later])
        assert (one == other) == bool(stubborn)
    for wrong in ({"auc": 1.0}, {"auc": 0.4}, {"auc": 0.9, "stubborn": 2}):
        with pytest.raises(ValueError, match=r"need 0.5 <= auc < 1"):
            Dial(PROBLEMS, **wrong)
