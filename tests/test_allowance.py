"""Budgets: never exceeded, nearly all used, scoring never stopped by a budget of samples, and all
that was thrown away on the bill."""

from dataclasses import replace

import numpy as np
import pytest
from scripted import Judge, Walker, oracle

from workbench.allowance import Portion, portion
from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.supervise.shepherd import shepherd
from workbench.types import Budget, Meter, Prefix, Sample, Score, Stopped

PROBLEMS = quantities.generate(12, levels=[4, 5], seed=3)
SEARCHES = {
    "sample": {"n": 500},
    "best_of_n": {"n": 500},
    "beam_search": {"beam_width": 4, "expand": 8},
    "dvts": {"subtrees": 4, "expand": 8},
    "lookahead": {"beam_width": 4, "expand": 4},
    "rebase": {"width": 32},
    "particle_filter": {"particles": 32},
    "stepwise_best_of_n": {"n": 64},
    "revise": {"chains": 4, "revisions": 50},
    "adaptive": {"n": 500, "confidence": 1.0},
}
STEPWISE = ("beam_search", "dvts", "lookahead", "rebase", "particle_filter", "stepwise_best_of_n")


class Writer(Walker):
    """A walker with a price: a token a word, a prompt of 20 tokens, read once; steps cut by room.

    As with a real cache, one token of what is known has to be read again.
    """

    def __init__(self, problems, p=0.4):
        super().__init__(problems, p)
        self.read = set()

    def price(self, prefixes, *, prompt="solve", words=None):
        return sum({self.name_of(p): self.cost_of(p) for p in prefixes}.values())

    def name_of(self, prefix):
        return prefix.problem.id, prefix.texts

    def cost_of(self, prefix):
        known = self.name_of(prefix) in self.read
        return 1 if known else 20 + len(prefix.ids)

    def sample(self, prefixes, keys, *, meters, room=None, words=None, **how):
        out = []
        for i, (prefix, meter) in enumerate(zip(prefixes, meters)):
            if self.name_of(prefix) not in {self.name_of(p) for p in prefixes[:i]}:
                meter.prefilled += self.cost_of(prefix)
            (longer,) = super().sample([prefix], [keys[i]], meters=[Meter()], **how)
            written = [
                replace(s, ids=tuple(range(len(s.text.split()))), logprobs=())
                for s in longer.steps[len(prefix.steps) :]
            ]
            out.append(self.cut(prefix, written, longer.stop, room[i] if room else None))
            meter.samples += 1
            meter.generated += len(out[-1].ids) - len(prefix.ids)
        self.read |= {self.name_of(p) for p in (*prefixes, *out)}
        return out

    def cut(self, prefix, written, stop, room):
        kept = []
        for step in written:
            if room is not None and len(step.ids) >= room:
                text = " ".join(step.text.split()[:room])
                kept.append(replace(step, text=text, ids=step.ids[:room]))
                whole = len(step.ids) == room and len(kept) == len(written)
                return Prefix(prefix.problem, (*prefix.steps, *kept), stop if whole else "length")
            kept.append(step)
            room = None if room is None else room - len(step.ids)
        return Prefix(prefix.problem, (*prefix.steps, *kept), stop)


class Scorer(Judge):
    """A verifier with a price: a token a word, the question 20, nothing twice."""

    def __init__(self, problems, function):
        super().__init__(problems, function)
        self.known = set()

    def parts(self, prefixes):
        names = {(p.problem.id, p.texts[:t]) for p in prefixes for t in range(len(p.steps) + 1)}
        return names - self.known

    def price(self, prefixes):
        return sum(len(texts[-1].split()) if texts else 20 for _, texts in self.parts(prefixes))

    def score(self, prefixes, *, meters):
        for prefix, meter in zip(prefixes, meters):
            meter.verifier += self.price([prefix])
            self.known |= self.parts([prefix])
        return super().score(prefixes)


def run(name, budget, *, p=0.4, problems=PROBLEMS, **options):
    exact = oracle(problems).function
    verifier = Scorer(problems, lambda q, s: [0.4 + 0.3 * x for x in exact(q, s)])
    models = {"policy": Writer(problems, p), "verifier": verifier, "helpers": {}}
    return solve(problems, METHODS[name], budget=budget, **models, **(SEARCHES[name] | options))


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [150, 600, 2500])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_budget_of_tokens_is_never_exceeded_and_nine_tenths_are_used(name, tokens):
    for r in run(name, Budget(tokens, "tokens")):
        assert r.error is None and r.meter.tokens <= tokens
        if r.stopped is not None and tokens > 150:
            assert r.meter.tokens >= 0.9 * tokens
        assert r.stopped in ("budget", None) and (r.rollouts or tokens == 150)


def test_what_was_drawn_for_scoring_can_be_scored():
    for name in ("best_of_n", *STEPWISE):
        for r in run(name, Budget(700, "tokens")):
            assert r.scores is not None and len(r.scores) == len(r.rollouts)
            assert r.meter.verifier > 0


def test_a_larger_budget_buys_a_better_choice():
    right = [
        np.mean(
            [
                bool(r.best and is_right(r.problem, r.best))
                for r in run("best_of_n", Budget(b, "tokens"))
            ]
        )
        for b in (250, 4000)
    ]
    assert right[0] < right[1] > 0.9


def test_a_budget_that_does_not_end_changes_nothing():
    for name in ("best_of_n", "dvts", "particle_filter", "revise"):
        options = {"n": 8} if name == "best_of_n" else {"revisions": 1} if name == "revise" else {}
        free, wide = (run(name, budget, **options) for budget in (None, Budget(10**6, "tokens")))
        assert [(r.rollouts, r.scores) for r in free] == [(r.rollouts, r.scores) for r in wide]
        assert all(r.stopped is None for r in wide)


def test_solutions_under_a_budget_begin_the_pool_without_one():
    free = run("sample", None, n=40)
    for r, whole in zip(run("sample", Budget(400, "tokens"), n=40), free):
        uncut = [p for p in r.rollouts if p.stop == "end"]
        assert len(uncut) >= 3 and uncut == list(whole.rollouts[: len(uncut)])
        assert len(r.rollouts) <= len(uncut) + 1  # at most one was cut off


def test_batched_is_one_at_a_time_under_a_budget():
    for name in ("best_of_n", "rebase"):
        together = run(name, Budget(600, "tokens"))
        for problem, r in zip(PROBLEMS, together):
            (alone,) = run(name, Budget(600, "tokens"), problems=[problem])
            assert alone.rollouts == r.rollouts and alone.meter.tokens == r.meter.tokens


def test_the_bill_holds_what_was_thrown_away():
    policy, paid = Writer(PROBLEMS), Meter()
    verifier = Scorer(PROBLEMS, oracle(PROBLEMS).function)

    class Both:
        per, name, price = "step", "both", verifier.price

        def sample(self, prefixes, keys, *, meters, **how):
            own = [Meter() for _ in prefixes]
            out = policy.sample(prefixes, keys, meters=own, **how)
            self.book(own, meters)
            return out

        def score(self, prefixes, *, meters):
            own = [Meter() for _ in prefixes]
            out = verifier.score(prefixes, meters=own)
            self.book(own, meters)
            return out

        def book(self, own, meters):
            for one, meter in zip(own, meters):
                for field in ("samples", "generated", "prefilled", "verifier"):
                    setattr(meter, field, getattr(meter, field) + getattr(one, field))
                    setattr(paid, field, getattr(paid, field) + getattr(one, field))

    both = Both()
    results = solve(PROBLEMS, METHODS["dvts"], policy=both, verifier=both)
    assert sum(r.meter.tokens for r in results) == paid.tokens
    kept = sum(len({s for p in r.rollouts for s in p.steps}) for r in results)
    assert paid.samples > kept and paid.verifier > 0


# -- samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [1, 2, 7, 40])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_budget_of_samples_is_used_to_the_last_and_no_further(name, amount):
    for r in run(name, Budget(amount, "samples")):
        assert r.error is None and r.meter.samples <= amount
        assert (r.meter.samples == amount) == (r.stopped == "budget" or r.meter.samples == amount)
        if r.stopped:
            assert r.meter.samples == amount and r.rollouts


@pytest.mark.parametrize("name", ["best_of_n", *STEPWISE])
def test_a_budget_of_samples_never_stops_scoring(name):
    for r in run(name, Budget(7, "samples")):
        assert r.scores is not None and len(r.scores) == len(r.rollouts)


def test_the_reply_is_the_beginning_of_the_whole_one():
    whole = run("sample", None, n=9)
    for r, full in zip(run("sample", Budget(5, "samples"), n=9), whole):
        assert r.rollouts == full.rollouts[:5] and r.stopped == "budget"
    for r, full in zip(run("sample", Budget(9, "samples"), n=9), whole):
        assert r.rollouts == full.rollouts and r.stopped is None


def test_of_several_prefixes_the_first_ones_are_continued():
    seen = []

    def method(problem):
        firsts = yield Sample([Prefix(problem)], n=3, until="step")
        more = yield Sample(firsts, n=2, until="step")
        seen.append((firsts, more))
        yield Sample(firsts, n=2, until="step")

    models = {"policy": Walker(PROBLEMS, 0.9)}
    (r,) = solve(PROBLEMS[:1], method, budget=Budget(6, "samples"), **models)
    ((firsts, more),) = seen
    assert r.stopped == "budget" and r.meter.samples == 6 and len(more) == 3
    assert [p.texts[:1] for p in more] == [firsts[0].texts] * 2 + [firsts[1].texts]


def test_an_interrupt_hands_over_what_a_portion_brought():
    class Interrupted(Writer):
        def sample(self, prefixes, *args, **how):
            if self.rows >= 4:
                raise KeyboardInterrupt
            return super().sample(prefixes, *args, **how)

    models = {"policy": Interrupted(PROBLEMS)}
    with pytest.warns(UserWarning, match="interrupted"):
        (r,) = solve(PROBLEMS[:1], METHODS["sample"], n=50, budget=Budget(900, "tokens"), **models)
    assert r.stopped == "interrupt" and len(r.rollouts) >= 4


# -- labellers, and models without a price ---------------------------------------------------------


def test_labellers_are_answered_whole():
    """A value from fewer rollouts than it says would be another value."""
    models = {"policy": Walker(PROBLEMS, 0.4)}
    options = {"solutions": 2, "n": 4, "budget": Budget(5, "samples")}
    for r in solve(PROBLEMS, shepherd, **models, **options):
        assert r.stopped == "budget" and r.meter.samples in (2 + 4, 2 + 8)
        for row in r.labelled:
            assert all(v is None or v * 4 == int(v * 4) for v in row.values)


def test_models_without_a_price_overrun_by_one_request_at_most():
    models = {"policy": Walker(PROBLEMS, 0.4), "verifier": oracle(PROBLEMS)}
    for unit in ("tokens", "flops"):
        for r in solve(PROBLEMS, METHODS["dvts"], budget=Budget(20, unit), **models):
            assert r.error is None and (r.stopped == "budget") == (unit == "tokens")


# -- the rule itself -------------------------------------------------------------------------------


class Priced:
    def __init__(self, read):
        self.read = read

    def price(self, prefixes, *, prompt="solve", words=None):
        return self.read


START = Prefix(PROBLEMS[0].blind())


def ask(amount, *, rest=20, longest=None, scored=False, read=10, spent=0, unit="tokens"):
    by = "verifier" if scored else None
    request, meter = Sample([START] * rest, scored_by=by), Meter(generated=spent, samples=spent)
    models = {"policy": Priced(read), "verifier": Priced(0)}
    where = {"budget": Budget(amount, unit), "meter": meter, "models": models}
    return portion(request, [START] * rest, [], [], longest=longest, **where)


def test_portions_by_hand():
    assert ask(1000) == Portion(1, 990)  # nothing is known of the lengths: one goes ahead
    assert ask(1000, longest=50) == Portion(10, 99)  # room for twice the longest
    assert ask(1000, longest=50, spent=600) == Portion(4, 97)
    assert ask(1000, longest=50, scored=True) == Portion(4, 110)  # 2.25 a token in all
    assert ask(10_000, longest=50) == Portion(20, 499)
    assert ask(1000, longest=50, spent=930) == Portion(1, 60)
    assert ask(1000, longest=50, spent=980) == Portion(0)  # the longest would not fit any more
    assert ask(1000, longest=20, spent=980, read=0) == Portion(1, 20)
    assert ask(1000, longest=700, spent=900) == Portion(1, 90)  # over a fortieth is left
    assert ask(5, read=10) == Portion(0)
    assert ask(7, unit="samples", spent=3) == Portion(4) and ask(7, unit="samples").rows == 7
    assert ask(7, unit="flops").rows == 20


def test_scores_are_asked_if_they_can_be_paid():
    request, where = Score([START]), {"models": {"verifier": Priced(50)}, "longest": None}
    for amount, rows in ((49, 0), (50, 1)):
        budget = Budget(amount, "tokens")
        assert portion(request, [START], [], [], budget=budget, meter=Meter(), **where).rows == rows
    samples = Budget(1, "samples")
    spent = Meter(samples=1)
    assert portion(request, [START], [], [], budget=samples, meter=spent, **where).rows == 1


def test_a_price_that_cannot_be_named_is_the_error_of_its_problem():
    class Torn(Writer):
        def price(self, prefixes, **how):
            if prefixes[0].problem.id == PROBLEMS[1].id:
                raise ValueError("too long to read")
            return super().price(prefixes, **how)

    options = {"n": 3, "budget": Budget(500, "tokens")}
    results = solve(PROBLEMS[:3], METHODS["sample"], policy=Torn(PROBLEMS), **options)
    assert [bool(r.error) for r in results] == [False, True, False]
    assert "too long to read" in results[1].error


def test_a_policy_that_draws_more_than_it_was_asked_for_ends_the_budget():
    class Eager(Walker):
        def sample(self, prefixes, keys, *, meters, **how):
            for meter in meters:
                meter.samples += 2  # tries again
            return super().sample(prefixes, keys, meters=meters, **how)

    options = {"at_once": 4, "confidence": 1.0, "budget": Budget(5, "samples")}
    (result,) = solve(PROBLEMS[:1], METHODS["adaptive"], policy=Eager(PROBLEMS), **options)
    assert result.stopped == "budget" and result.meter.samples == 12 and len(result.rollouts) == 4


def test_an_empty_request_is_answered():
    def method(problem):
        try:
            nothing = yield Sample([])
            scores = yield Score([])
        except Stopped:
            return None
        assert nothing == [] == scores
        yield Sample([Prefix(problem)])
        return []

    models = {
        "policy": Writer(PROBLEMS),
        "verifier": Scorer(PROBLEMS, lambda q, s: [1.0 for _ in s]),
    }
    for budget in (None, Budget(3, "samples"), Budget(500, "tokens")):
        assert [r.error for r in solve(PROBLEMS[:2], method, budget=budget, **models)] == [None] * 2


# -- real models -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best_of_n", "lookahead", "rebase"])
def test_with_real_models_too(name):
    from workbench.models import load_policy, load_verifier

    models = {"policy": load_policy("base"), "verifier": load_verifier("prm_base")}
    options = {"best_of_n": {"n": 40}, "lookahead": {"expand": 8}, "rebase": {"width": 32}}[name]
    problems = quantities.generate(2, levels=[5], seed=5, split="test")
    for r in solve(problems, METHODS[name], budget=Budget(1500, "tokens"), **models, **options):
        assert r.error is None and r.meter.verifier > 0 and r.scores is not None
        # 85 % at least: of 1500 tokens one long row more or less is a tenth
        assert r.meter.tokens <= 1500 and (r.stopped is None or r.meter.tokens >= 1275)
