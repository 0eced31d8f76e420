"""Labels from a Monte-Carlo tree: its choices and values by hand and against an independent search,
and its limits."""

import random
from collections import Counter
from dataclasses import replace
from math import inf, nan, sqrt

import pytest
from scripted import Walker

from workbench.drive import solve
from workbench.problems import check_steps, is_right, quantities
from workbench.supervise.mcts import label, mcts, puct
from workbench.types import (
    Budget,
    Prefix,
    Problem,
    Sample,
    SearchResult,
    Step,
    Stopped,
    sees_answer,
)

RIGHT, WRONG = "The answer is 1 .", "The answer is 0 ."
# an exact checker reads none
PROBLEMS = [Problem(f"p{i}", "quantities", f"Question {i}?", "1") for i in range(8)]
ONE = PROBLEMS[0]


class Gambler:
    """Writes `least` to `most` steps out of `letters`; its answer is mostly right without a `c`,
    seldom with one.

    `log` lists by problem what was asked and what came, `spent` the first one's tokens after each
    call."""

    name = "gambler"

    def __init__(self, letters="aabbc", most=6, least=0, interrupt_at=None):
        self.letters, self.most, self.least, self.interrupt_at = letters, most, least, interrupt_at
        self.log, self.calls, self.spent = {}, 0, []

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        ends = [self.go_on(prefix, random.Random(key)) for prefix, key in zip(prefixes, keys)]
        for prefix, end, meter in zip(prefixes, ends, meters):
            meter.samples += 1
            meter.generated += len(end.ids) - len(prefix.ids)
            self.log.setdefault(prefix.problem.id, []).append((prefix.texts, end))
        self.spent.append(meters[0].tokens)
        return ends

    def go_on(self, prefix, rng):
        texts = list(prefix.texts)
        while len(texts) < self.least or (len(texts) < self.most and rng.random() < 0.75):
            texts.append(rng.choice(self.letters))
        texts.append(RIGHT if rng.random() < (0.1 if "c" in texts else 0.7) else WRONG)
        new = tuple(Step(text, (1,)) for text in texts[len(prefix.steps) :])
        return Prefix(prefix.problem, prefix.steps + new, "length" if rng.random() < 0.1 else "end")


class Script:
    """Goes on from each prefix as written down: `lines["a b"]` are its completions after the steps
    a and b, in order.

    One is a string of one-letter steps; a `+` or `-` at its end stands for the right or a wrong
    answer, and without one it runs out of room. A `.` ends where it is asked to go on.
    """

    name = "script"

    def __init__(self, lines):
        self.lines, self.asked = {tuple(key.split()): list(ends) for key, ends in lines.items()}, []

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        self.asked.append("".join(prefixes[0].texts))
        return [solution(self.lines[prefix.texts].pop(0), prefix) for prefix in prefixes]


def solution(line, prefix=None):
    prefix = prefix or Prefix(ONE)
    if line == ".":
        return replace(prefix, stop="end")
    texts = [*prefix.texts, *({"+": RIGHT, "-": WRONG}.get(letter, letter) for letter in line)]
    return replace(Prefix.of(prefix.problem, texts), stop="end" if line[-1] in "+-" else "length")


def short(row):
    return "".join({RIGHT: "+", WRONG: "-"}.get(text, text) for text in row.steps)


def scripted(lines, **options):
    """(what was asked, {solution: (values, visits)}) of a script."""
    policy = Script(lines)
    (result,) = solve([ONE], mcts, policy=policy, **options)
    assert result.error is None and len({row.steps for row in result.labelled}) == len(
        result.labelled
    )
    return policy.asked, {short(row): (row.values, row.meta["visits"]) for row in result.labelled}


def run(policy=None, problems=PROBLEMS, **options):
    policy = policy or Gambler()
    results = solve(problems, mcts, policy=policy, seed=2, **options)
    assert not [r.error for r in results if r.error]
    return policy, results


@sees_answer
def given(problem, *, pool, **options):
    rows = yield from label(problem, pool, **options)
    return SearchResult(problem, labelled=tuple(rows))


# -- by hand ---------------------------------------------------------------------------------------


def test_puct_values():
    assert puct(0.5, 3, 16, 0.25, c_puct=1.0) == 0.75 and puct(0.5, 3, 16, 0.25, c_puct=0) == 0.5
    assert (
        puct(1 / 3, 3, 4, 0.5, c_puct=2) == pytest.approx(5 / 6)
        and puct(0, 1, 4, 0.5, c_puct=2) == 1
    )


@pytest.mark.parametrize(("c_puct", "third"), [(0, "ax"), (1.3, "ax"), (1.4, "b")])
def test_the_choice_by_hand(c_puct, third):
    """Twice a is ahead, by its value. Then a has 1 right of 3, b 0 of 1, the question 4 visits and
    2 children: a gets 1/3 + c/4, b gets c/2, so that b is chosen if c > 4/3. Below a the better x,
    below ax its right end."""
    lines = {"": ["ax+", "by-"], "a": ["z-"], "a x": ["u-", "+"], "b": ["q+"]}
    asked, _ = scripted(lines, solutions=2, simulations=3, width=2, c_puct=c_puct)
    assert asked == ["", "a", "ax", third]


def test_values_and_visits_by_hand():
    lines = {"": ["ax+", "by-"], "a": ["z-"], "a x": ["u-"], "b": ["yv+"]}
    asked, rows = scripted(lines, solutions=2, simulations=3, width=2, c_puct=2)
    assert asked == ["", "a", "ax", "b"]
    assert rows == {
        "ax+": ((1 / 3, 1 / 2, 1.0), [3, 2, 1]),
        "by-": ((1 / 2, 1 / 2, 0.0), [2, 2, 1]),
        "az-": ((1 / 3, 0.0, 0.0), [3, 1, 1]),
        "axu-": ((1 / 3, 1 / 2, 0.0, 0.0), [3, 2, 1, 1]),
        "byv+": ((1 / 2, 1 / 2, 1.0, 1.0), [2, 2, 1, 1]),
    }


def test_a_step_after_the_same_steps_is_one_node_and_elsewhere_another():
    _, rows = scripted({"": ["ab+", "ab+", "ac-", "b+"]}, solutions=4, simulations=0)
    assert rows == {
        "ab+": ((2 / 3, 1.0, 1.0), [3, 2, 2]),
        "ac-": ((2 / 3, 0.0, 0.0), [3, 1, 1]),
        "b+": ((1.0, 1.0), [1, 1]),
    }


def test_an_end_is_not_the_same_text_that_goes_on():
    """Of ab, out of room, the last step is graded; in abc+ the same text is a step like others."""
    _, rows = scripted({"": ["ab", "abc+"]}, solutions=2, simulations=0)
    assert rows == {"ab": ((0.5, 0.0), [2, 1]), "abc+": ((0.5, 1.0, 1.0, 1.0), [2, 1, 1, 1])}
    cut = replace(solution("a+"), stop="length")  # the same text, out of room just there
    (result,) = solve([ONE], given, policy=Script({}), pool=[cut, solution("a+")], simulations=0)
    assert [row.values for row in result.labelled] == [(0.5, 0.0), (0.5, 1.0)]


def test_where_the_choice_falls_on_an_end_its_prefix_is_drawn_from_again():
    """The right answer of a is chosen again and again, by its value: a is asked again, though it
    wavers in the end."""
    lines = {"": ["a+", "b-"], "a": ["+", "+", "-", "c+"]}
    asked, rows = scripted(lines, solutions=2, simulations=4, width=2, c_puct=0)
    assert asked == ["", "a", "a", "a", "a"]
    assert rows == {
        "a+": ((4 / 5, 1.0), [5, 3]),
        "a-": ((4 / 5, 0.0), [5, 1]),
        "ac+": ((4 / 5, 1.0, 1.0), [5, 1, 1]),
        "b-": ((0.0, 0.0), [1, 1]),
    }


def test_the_question_itself_may_come_before_the_end():
    asked, rows = scripted(
        {"": ["+", "b-", "+", "+"]}, solutions=2, simulations=2, width=2, c_puct=0
    )
    assert asked == ["", "", ""] and rows == {"+": ((1.0,), [3]), "b-": ((0.0, 0.0), [1, 1])}


def test_a_policy_sure_of_itself_is_asked_for_its_last_step_only():
    """With width 2 nothing on the way to its only end is left to widen."""
    asked, rows = scripted({"": ["ab+", "ab+"], "a b": "+++"}, solutions=2, simulations=3, width=2)
    assert asked == ["", "ab", "ab", "ab"] and rows == {"ab+": ((1.0, 1.0, 1.0), [5, 5, 5])}


@pytest.mark.parametrize(("c_puct", "asked"), [(3, "aaaba"), (2.9, "aaaab")])
def test_in_the_end_the_bonus_turns_from_a_right_end_to_the_rest(c_puct, asked):
    """a: always right, N - 1 visits. b: wrong, 1 visit. So b is chosen once 1 + c/2 sqrt(N)/N < c/4
    sqrt(N): at N = 5 for c = 3 (1.671 < 1.677), at 6 for 2.9 (1.648 > 1.621, then 1.592 < 1.776).
    """
    lines = {"": ["a+", "b-"], "a": "+++++", "b": ["x-"]}
    assert scripted(lines, solutions=2, simulations=5, width=2, c_puct=c_puct)[0] == ["", *asked]


# -- against an independent search -----------------------------------------------------------------


def next_prefix(history, width, c_puct):
    """Which prefix to ask next, from what was drawn (from how many steps on, the path, its
    outcome), tree unbuilt."""

    def through(p):
        return [h for h in history if h[1][: len(p)] == p]

    def drawn(p):
        return sum(start <= len(p) for start, _, _ in through(p))

    def children(p):
        return list(dict.fromkeys(path[: len(p) + 1] for _, path, _ in through(p)))

    def score(p):
        outcomes, above = [z for *_, z in through(p)], through(p[:-1])
        bonus = c_puct / len(children(p[:-1])) * sqrt(len(above)) / (1 + len(outcomes))
        return sum(outcomes) / len(outcomes) + bonus

    here = ()
    while drawn(here) >= width:
        best = max(children(here), key=score)
        if best in [path for _, path, _ in history]:
            break
        here = best
    return tuple(text for text, _ in here)


def keyed(end):
    """The steps of a solution, the last apart from the same text that goes on or has the other
    grade."""
    return (*((text, None) for text in end.texts[:-1]), (end.texts[-1], is_right(ONE, end)))


@pytest.mark.parametrize(
    "options", [{}, {"width": 2}, {"width": 7, "c_puct": 0.2}, {"width": 1, "c_puct": 3}], ids=str
)
@pytest.mark.parametrize("policy", [{}, {"letters": "ac", "most": 3}], ids=str)
def test_the_search_is_that_of_an_independent_implementation(policy, options):
    policy, results = run(Gambler(**policy), solutions=3, simulations=40, **options)
    options = {"width": 4, "c_puct": 1.0, **options}
    lengths = set()
    for result in results:
        log = policy.log[result.problem.id]
        history = [(0, keyed(end), is_right(ONE, end)) for _, end in log[:3]]
        for asked, end in log[3:]:
            assert asked == next_prefix(history, **options)
            history.append((len(asked), keyed(end), is_right(ONE, end)))
            lengths.add(len(asked))
        assert tuple(end for _, end in log) == result.rollouts and len(log) == 43
    assert lengths >= {0, 1, 2}  # else the test says little


def test_values_are_mean_outcomes_of_all_that_went_through_and_the_last_steps_are_grades():
    _, results = run(solutions=4, simulations=60)
    shared = 0
    for result in results:
        paths = [keyed(end) for end in result.rollouts]
        distinct = list(dict.fromkeys(paths))
        assert len(result.labelled) == len(distinct)
        for row, path in zip(result.labelled, distinct):
            assert row.steps == tuple(text for text, _ in path) and row.values[-1] == path[-1][1]
            for t, (value, visits) in enumerate(zip(row.values, row.meta["visits"]), start=1):
                through = [other[-1][1] for other in paths if other[:t] == path[:t]]
                assert value == sum(through) / len(through) and visits == len(through)
                shared += len(through) > 1
            assert row.labels == tuple(int(v > 0) for v in row.values) and row.source == "mcts"
            assert (
                row.meta["simulations"] == 60
                and row.problem == result.problem
                and row.problem.answer
            )
    assert shared > 200


def test_as_many_are_drawn_as_asked_for_one_at_a_time():
    policy, results = run(solutions=5, simulations=17)
    assert all(r.meter.samples == len(r.rollouts) == 22 and r.meter.calls == 18 for r in results)
    assert policy.calls == 18  # the problems side by side


@pytest.mark.parametrize("width", [1, 2, 5])
def test_no_more_than_width_steps_are_drawn_from_a_prefix_but_before_ends(width):
    letters = [chr(i) for i in range(0x4E00, 0x4E00 + 5000)]  # no step twice
    _, results = run(Gambler(letters, most=30, least=8), solutions=1, simulations=60, width=width)
    for result in results:
        paths = {keyed(end) for end in result.rollouts}
        nodes = {path[:t] for path in paths for t in range(1, len(path) + 1)}
        before_ends = {path[:-1] for path in paths}
        widths = Counter(node[:-1] for node in nodes if node[:-1] not in before_ends)
        assert max(widths.values()) == widths[()] == width


# -- limits ----------------------------------------------------------------------------------------


def test_a_budget_brings_back_the_rows_so_far():
    _, stopped = run(solutions=4, simulations=50, budget=Budget(20, "samples"))
    _, fewer = run(solutions=4, simulations=16)
    for one, other in zip(stopped, fewer):
        assert one.stopped == "budget" and other.stopped is None
        assert (
            one.rollouts == other.rollouts
            and one.labelled == other.labelled
            and len(one.rollouts) == 20
        )
    _, (nothing, *_) = run(budget=Budget(0, "samples"))
    assert nothing.stopped == "budget" and nothing.labelled == nothing.rollouts == ()


def test_a_token_budget_that_ends_at_any_request_brings_back_what_was_paid_for():
    policy, (whole, *_) = run(problems=[ONE], solutions=3, simulations=9)
    assert len(policy.spent) == 10 and whole.stopped is None
    for k, tokens in enumerate([0, *policy.spent[:-1]]):
        budget = Budget(tokens, "tokens")
        policy_, (stopped,) = run(problems=[ONE], solutions=3, simulations=9, budget=budget)
        assert stopped.stopped == "budget" and policy_.calls == k
        if k == 0:
            assert stopped.labelled == stopped.rollouts == ()
        else:
            _, (fewer,) = run(problems=[ONE], solutions=3, simulations=k - 1)
            assert (stopped.rollouts, stopped.labelled) == (fewer.rollouts, fewer.labelled)


def test_given_solutions_are_labelled_by_what_a_token_budget_brought():
    pool, policy = [solution("ax+"), solution("by-")], Gambler()
    options = dict(pool=pool, seed=2)
    solve([ONE], given, policy=policy, simulations=9, **options)
    for k, tokens in enumerate([0, *policy.spent[:-1]]):
        budget = Budget(tokens, "tokens")
        (stopped,) = solve([ONE], given, policy=Gambler(), simulations=9, budget=budget, **options)
        (fewer,) = solve([ONE], given, policy=Gambler(), simulations=k, **options)
        assert (stopped.error, stopped.stopped) == (None, "budget")
        assert stopped.labelled == fewer.labelled and len(stopped.labelled) == 2


def test_stopped_at_the_first_request_it_returns_a_result():
    method = mcts(ONE)
    next(method)
    with pytest.raises(StopIteration) as end:
        method.throw(Stopped("budget"))
    assert end.value.value == SearchResult(ONE)


def test_an_interrupt_brings_back_the_rows_so_far():
    with pytest.warns(UserWarning, match="interrupted"):
        _, results = run(Gambler(interrupt_at=6), solutions=4)
    _, fewer = run(solutions=4, simulations=4)
    assert {r.stopped for r in results} == {"interrupt"}
    assert [r.labelled for r in results] == [r.labelled for r in fewer]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solutions": 0}, "solutions=0: need at least 1"),
        (
            {"simulations": -1},
            "simulations=-1, width=4, c_puct=1.0, threshold=0.0: need simulations >= 0, width >= 1",
        ),
        ({"width": 0}, "width=0, "),
        ({"c_puct": -1}, "c_puct=-1, "),
        ({"c_puct": nan}, "c_puct=nan, "),
        ({"c_puct": inf}, "c_puct=inf, "),
        ({"threshold": 1.0}, "threshold=1.0: need"),
        ({"threshold": -0.1}, "threshold=-0.1: need"),
    ],
)
def test_bad_options_are_named_before_anything_is_drawn(options, message):
    policy = Gambler()
    (result,) = solve([ONE], mcts, policy=policy, **options)
    assert result.error.startswith("ValueError") and message in result.error and not policy.calls
    if "solutions" not in options:
        options = {"simulations": 1, **options}
        (result,) = solve([ONE], given, policy=policy, pool=[solution("a+")], **options)
        assert message in result.error and not policy.calls


def test_a_problem_without_an_answer_is_named():
    (result,) = solve([replace(ONE, answer=None)], mcts, policy=Gambler())
    assert "p0 has no answer to grade against" in result.error and mcts.sees_answer


# -- many problems ---------------------------------------------------------------------------------


def test_batched_equals_one_by_one():
    _, together = run()
    alone = [run(problems=[problem])[1][0] for problem in PROBLEMS]
    assert [r.rollouts for r in together] == [r.rollouts for r in alone]
    assert [r.labelled for r in together] == [r.labelled for r in alone]
    assert len({tuple(map(short, r.labelled)) for r in alone}) == len(PROBLEMS)


def test_temperature_reaches_every_request_and_the_helper_only_the_simulations():
    class Warm(Gambler):
        def sample(self, *args, temperature, **kwargs):
            assert temperature == 0.7
            return super().sample(*args, temperature=temperature, **kwargs)

    policy, helper = Warm(), Warm()
    run(policy, helpers={"other": helper}, by="other", temperature=0.7, solutions=3, simulations=5)
    assert {len(log) for log in policy.log.values()} == {3} and {
        len(log) for log in helper.log.values()
    } == {5}


def test_results_survive_a_file(tmp_path):
    _, results = run(save=tmp_path / "rows.jsonl")
    policy, again = run(save=tmp_path / "rows.jsonl")
    assert not policy.calls and [r.labelled for r in again] == [r.labelled for r in results]


# -- given solutions -------------------------------------------------------------------------------


def test_given_solutions_have_a_row_each_in_order_and_every_step_a_value():
    pool = [solution(line) for line in ("by-", "ax+", "by-")]
    policy = Script({"a": ["z-"], "a x": ["u-"], "b": ["yv+"]})
    (result,) = solve([ONE], given, policy=policy, pool=pool, simulations=2, width=2, c_puct=0)
    assert policy.asked == ["a", "ax"]
    assert [(short(row), row.values, row.meta["visits"]) for row in result.labelled] == [
        ("by-", (0.0, 0.0, 0.0), [2, 2, 2]),
        ("ax+", (1 / 3, 1 / 2, 1.0), [3, 2, 1]),
        ("by-", (0.0, 0.0, 0.0), [2, 2, 2]),
    ]
    assert {row.meta["simulations"] for row in result.labelled} == {2}


def test_sampled_solutions_are_labelled_like_given_ones():
    """The same tree grows from the same pool and draws, whoever brought the pool."""

    @sees_answer
    def first_sampled(problem, **options):
        pool = yield Sample([Prefix(problem)], n=4)
        rows = yield from label(problem, pool, **options)
        return SearchResult(problem, tuple(pool), labelled=tuple(rows))

    _, whole = run(solutions=4, simulations=20)
    for one, other in zip(
        solve(PROBLEMS, first_sampled, policy=Gambler(), seed=2, simulations=20), whole
    ):
        rows = {(row.steps, row.values[-1]): row for row in other.labelled}
        assert [row.steps for row in one.labelled] == [end.texts for end in one.rollouts]
        assert (
            all(row == rows[row.steps, row.values[-1]] for row in one.labelled)
            and len(one.labelled) == 4
        )


def test_a_budget_stops_the_simulations_not_the_labelling():
    pool = [solution("ax+"), solution("by-")]
    (result,) = solve(
        [ONE], given, policy=Gambler(), pool=pool, simulations=50, budget=Budget(7, "samples")
    )
    assert result.stopped == "budget" and result.meter.samples == 7
    assert [short(row) for row in result.labelled] == ["ax+", "by-"] and result.labelled[0].meta[
        "simulations"
    ] == 7


def test_a_solution_without_steps_counts_for_the_question_but_has_no_row():
    """Twice nothing, then a-: the question is widened, and a is its only child."""
    lines = {"": [".", ".", "a-"], "a": ["+", "."]}
    asked, rows = scripted(lines, solutions=3, simulations=2, width=1)
    assert asked == ["", "a", "a"]
    assert rows == {"a-": ((0.5, 0.0), [2, 1]), "a+": ((0.5, 1.0), [2, 1]), "a": ((0.0,), [1])}
    asked, rows = scripted({"": "....."}, solutions=2, simulations=3, width=2)
    assert asked == [""] * 4 and rows == {}


def test_a_given_solution_without_steps_has_an_empty_row():
    pool = [solution("."), solution("a+")]
    policy = Script({"a": ["-"]})
    (result,) = solve([ONE], given, policy=policy, pool=pool, simulations=1, width=1)
    assert result.error is None and policy.asked == ["a"]
    assert [(short(row), row.values) for row in result.labelled] == [("", ()), ("a+", (0.5, 1.0))]


def test_nothing_to_label_no_draws_and_what_is_no_solution_is_refused():
    policy = Gambler()
    for pool in ([], [solution(".")]):
        (result,) = solve([ONE], given, policy=policy, pool=pool, simulations=9)
        assert result.error is None and not policy.calls
        assert [row.steps for row in result.labelled] == [()] * len(pool)
    (result,) = solve(
        [ONE],
        given,
        policy=policy,
        pool=[solution("a+"), Prefix.of(ONE, ["a", "b"])],
        simulations=9,
    )
    assert (
        "p0: a solution of the steps ('a', 'b'): need whole ones" in result.error
        and not policy.calls
    )


# -- what the labels say ---------------------------------------------------------------------------

TRUE = quantities.generate(20, levels=[3, 4], seed=5)


def test_after_a_policy_that_never_recovers_a_bad_step_is_worth_nothing():
    seen = set()
    for result in solve(TRUE, mcts, policy=Walker(TRUE, 0.4), seed=1):
        for row in result.labelled:
            truth = check_steps(row.problem, row.steps)
            first = truth.index(False) if False in truth else len(truth)
            assert set(row.values[first:]) <= {0.0} and row.values[-1] == float(all(truth))
            # a right solution passes through each of its own steps
            assert all(truth) <= (min(row.values) > 0)
            seen |= {(t < first, label) for t, label in enumerate(row.labels)}
    assert seen == {(True, 1), (True, 0), (False, 0)}


def test_labels_are_values_above_the_threshold():
    _, usual = run()
    _, strict = run(threshold=0.5)
    for one, other in zip(usual, strict):
        assert [row.values for row in one.labelled] == [row.values for row in other.labelled]
        assert all(row.labels == tuple(int(v > 0.5) for v in row.values) for row in other.labelled)
        assert other.labelled[0].meta["threshold"] == 0.5
    assert [r.labelled[0].labels for r in usual] != [r.labelled[0].labels for r in strict]


def test_values_are_optimistic():
    """Simulations go where solutions ended right: more of them end right than of the policy's own
    solutions."""
    own, found, n = 0, 0, 0
    for result in solve(TRUE, mcts, policy=Walker(TRUE, 0.4), seed=1, solutions=8, simulations=40):
        grades = [is_right(result.problem, end) for end in result.rollouts]
        own, found, n = own + sum(grades[:8]) / 8, found + sum(grades[8:]) / 40, n + 1
    assert found / n > own / n + 0.1
