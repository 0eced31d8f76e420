"""Sequential revision: an attempt in view, through the template, and what that changes."""

import numpy as np
import pytest
from scripted import Walker, oracle
from tiny import tiny_policy

from workbench.drive import solve
from workbench.models.templates import EMBEDDED, render
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.types import Prefix, Sample

PROBLEMS = quantities.generate(40, levels=[4], seed=3)


class Reader(Walker):
    """Shown an attempt, it keeps the right steps and the first wrong one comes out right."""

    seen = ()

    def sample(self, prefixes, keys, *, prompt, words=None, **how):
        if prompt != "revise":
            return super().sample(prefixes, keys, prompt=prompt, **how)
        self.seen = [*self.seen, *(own["attempt"] for own in words)]
        starts = []
        for prefix, own in zip(prefixes, words):
            gold = self.gold[prefix.problem.id][:-1]
            said = own["attempt"].split("\n")
            right = next((i for i, (a, b) in enumerate(zip(said, gold)) if a != b), len(gold))
            starts.append(Prefix.of(prefix.problem, gold[: right + 1]))
        return super().sample(starts, keys, prompt=prompt, **how)


def run(policy=None, **options):
    models = {"policy": policy or Reader(PROBLEMS, 0.4), "verifier": oracle(PROBLEMS)}
    return solve(PROBLEMS, METHODS["revise"], **models, **options)


def accuracy(results):
    return np.mean([is_right(r.problem, r.best) for r in results])


def test_revisions_mend_what_independent_attempts_do_not():
    revised = accuracy(run(chains=1, revisions=4))
    assert revised > accuracy(run(chains=5, revisions=0)) + 0.1
    assert revised > accuracy(run(chains=1, revisions=0)) + 0.5


def test_each_revision_sees_the_attempt_before_it():
    policy = Reader(PROBLEMS, 0.4)
    (result,) = solve(
        PROBLEMS[:1], METHODS["revise"], policy=policy, verifier=oracle(PROBLEMS), chains=2,
        revisions=2,
    )  # fmt: skip
    assert len(result.rollouts) == 6 and result.meter.samples == 6
    firsts = {p.text for p in result.rollouts if p.prompt == "solve"}
    assert set(policy.seen[:2]) == firsts
    assert set(policy.seen[2:]) <= {p.text for p in result.rollouts if p.prompt == "revise"}


def test_the_prompt_reaches_the_policy():
    class Deaf(Walker):
        def sample(self, prefixes, keys, *, prompt, words=None, **how):
            assert prompt in ("solve", "mend") and (words is None) == (prompt == "solve")
            return super().sample(prefixes, keys, prompt=prompt, **how)

    results = run(Deaf(PROBLEMS, 0.4), prompt="mend", revisions=1)
    assert not any(r.error for r in results)


# -- words through the driver and the templates ----------------------------------------------------


def test_words_reach_the_model_row_by_row():
    seen = []

    class Listener(Walker):
        def sample(self, prefixes, keys, *, words=None, **how):
            seen.append((len(prefixes), words))
            return super().sample(prefixes, keys, **how)

    def method(problem):
        start = Prefix(problem)
        yield Sample([start])
        words = [{"attempt": f"{problem.id} one"}, {"attempt": f"{problem.id} two"}]
        yield Sample([start, start], n=2, prompt="revise", words=words)
        return []

    solve(PROBLEMS[:2], method, policy=Listener(PROBLEMS))
    assert seen[0] == (2, None)  # who brings none is asked without
    said = [own["attempt"] for own in seen[1][1]]
    assert said == [f"{p.id} {n}" for p in PROBLEMS[:2] for n in ("one", "one", "two", "two")]


def test_words_for_some_prefixes_are_an_error_of_their_problem():
    def method(problem):
        yield Sample([Prefix(problem)] * 2, words=[{"attempt": "x"}])

    (result,) = solve(PROBLEMS[:1], method, policy=Walker(PROBLEMS))
    assert "words for 1 of 2 prefixes: need one mapping each, or none" in result.error


def test_a_real_policy_reads_the_attempt():
    shows = {"revise": "{question}\n{attempt}\n{said}\n"}
    policy, start = tiny_policy(templates=EMBEDDED | shows), Prefix(PROBLEMS[0].blind())
    words = [{"attempt": f"The answer is {n} .", "said": str(n)} for n in (7, 8)]
    ids = [policy.prompt_ids(start.problem, "revise", own) for own in words]
    texts = [policy.tokenizer.decode(row) for row in ids]
    assert "answer is 7 ." in texts[0] and "answer is 8 ." in texts[1]
    one, other = policy.sample([start] * 2, [5, 5], prompt="revise", words=words)
    alone = policy.sample([start], [5], prompt="revise", words=words[1:])
    assert [other.ids] == [p.ids for p in alone] and one.prompt == "revise"
    models = {"policy": policy, "verifier": oracle(PROBLEMS)}
    (result,) = solve(PROBLEMS[:1], METHODS["revise"], **models, chains=1, revisions=1)
    assert result.error is None and len(result.rollouts) == 2


def test_a_template_takes_words_as_they_are():
    problem = PROBLEMS[0]
    text = render(EMBEDDED, "revise", problem, {"said": "{question} {answer} %s {"})
    assert "{question} {answer} %s {" in text
    asked = render({"solve": "{question}"}, "solve", problem, {"question": "Said otherwise?"})
    assert asked == "Said otherwise?"
    with pytest.raises(ValueError, match=r"prompt 'revise' needs said, but .* only question, an"):
        render(EMBEDDED, "revise", problem)
    with pytest.raises(ValueError, match="tells the answer"):
        render(EMBEDDED, "hint", problem.blind(), {"attempt": "x"})
