"""OmegaPRM: its formulas, its search against an independent one, its limits, and its rows by
hand-made examples."""

import random
from dataclasses import replace
from math import ceil, log2, sqrt

import pytest
from scripted import Walker

from workbench.drive import solve
from workbench.models import load_policy
from workbench.problems import check_steps, is_right, quantities
from workbench.problems.process_data import read, write
from workbench.show.trees import tree_view
from workbench.supervise.omegaprm import first_error, label, omegaprm, q_value, u_value
from workbench.supervise.step_tree import as_tree, segments
from workbench.tree import walk
from workbench.types import (
    Budget,
    LabelledSolution,
    Prefix,
    Problem,
    Sample,
    SearchResult,
    Step,
    sees_answer,
)

RIGHT, WRONG = "The answer is 1 .", "The answer is 0 ."
PROBLEMS = [Problem(f"p{i}", "quantities", f"Question {i}?", "1") for i in range(12)]
ONE = PROBLEMS[0]
Q = {"alpha": 0.5, "beta": 0.9, "max_length": 500}


class Gambler:
    """Writes steps `a`, `b` or the bad `c`, of random length; its answer is mostly right without a
    `c`, seldom with one. `asked` lists its prefixes by problem, `drawn` what it wrote after each,
    `calls` the rows of each call, `spent` the tokens of the first problem after each."""

    name = "gambler"

    def __init__(self, interrupt_at: int | None = None):
        self.asked, self.drawn, self.calls, self.spent = {}, {}, [], []
        self.interrupt_at = interrupt_at

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt
        self.calls.append(len(prefixes))
        ends = [self.go_on(prefix, random.Random(key)) for prefix, key in zip(prefixes, keys)]
        for prefix, end, meter in zip(prefixes, ends, meters):
            meter.samples += 1
            meter.generated += len(end.ids) - len(prefix.ids)
            drawn = self.drawn.setdefault((prefix.problem.id, prefix.texts), [])
            if not drawn:
                self.asked.setdefault(prefix.problem.id, []).append(prefix.texts)
            drawn.append(end)
        self.spent.append(meters[0].tokens)
        return ends

    def go_on(self, prefix, rng):
        texts = list(prefix.texts)
        while len(texts) < 2 or (len(texts) < 8 and rng.random() < 0.7):
            texts.append(rng.choice("aabbc"))
        lucky = rng.random() < (0.1 if "c" in texts else 0.8)
        new = [*texts[len(prefix.steps) :], RIGHT if lucky else WRONG]
        steps = [Step(text, (1,) * rng.randint(1, 60)) for text in new]
        return Prefix(prefix.problem, (*prefix.steps, *steps), "end")


class Script:
    """Goes on from each prefix as written down: `lines["a b"]` are its rollouts after the steps a
    and b, in order.

    A rollout is a string of one-letter steps; a `+` or `-` at its end stands for the right or a
    wrong answer, and without one it runs out of room. A `.` ends where it is asked to go on.
    """

    name = "script"

    def __init__(self, lines):
        self.lines, self.asked = (
            {tuple(key.split()): list(rollouts) for key, rollouts in lines.items()},
            [],
        )

    def sample(self, prefixes, keys, *, until, temperature, prompt, meters):
        self.asked.append("".join(prefixes[0].texts))
        return [self.go_on(prefix, self.lines[prefix.texts].pop(0)) for prefix in prefixes]

    def go_on(self, prefix, line):
        if line == ".":
            return replace(prefix, stop="end")
        texts = [*prefix.texts, *({"+": RIGHT, "-": WRONG}.get(letter, letter) for letter in line)]
        return replace(
            Prefix.of(prefix.problem, texts), stop="end" if line[-1] in "+-" else "length"
        )


def run(problems=PROBLEMS, policy=None, **options):
    policy = policy or Gambler()
    return policy, solve(problems, omegaprm, policy=policy, **options)


def scripted(lines, n, **options):
    """(what was asked, {solution: (labels, values)}, result) of a script."""
    policy = Script(lines)
    (result,) = solve([ONE], omegaprm, policy=policy, n=n, **options)
    assert result.error is None
    return policy.asked, {short(row): (row.labels, row.values) for row in result.labelled}, result


def shortened(text):
    return {RIGHT: "+", WRONG: "-"}.get(text, text)


def short(row):
    return "".join(map(shortened, row.steps))


@sees_answer
def given(problem, *, pool=8, n=4, by="policy"):
    """Label given solutions, or so many sampled for the purpose."""
    solutions = (yield Sample([Prefix(problem)], n=pool)) if isinstance(pool, int) else pool
    rows = yield from label(problem, solutions, n=n, by=by)
    return SearchResult(problem, tuple(solutions), labelled=tuple(rows))


# -- formulas --------------------------------------------------------------------------------------


def test_reference_values():
    assert q_value(0.5, 100, **Q) == pytest.approx(0.692362, abs=5e-7)
    assert q_value(1, 0, **Q) == 1 and q_value(0, 500, **Q) == pytest.approx(0.45)
    assert u_value(1, 4, c_puct=0.125) == 0.125 and u_value(0, 0, c_puct=0.125) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"mc": 1.1},
        {"mc": -0.1},
        {"mc": float("nan")},
        {"length": -1},
        {"alpha": 0},
        {"beta": 1.5},
        {"max_length": 0},
    ],
)
def test_q_value_names_what_it_refuses(changed):
    arguments = {"mc": 0.5, "length": 10, **Q, **changed}
    (name, value), *_ = changed.items()
    with pytest.raises(ValueError, match=f"{name}={value}.*need"):
        q_value(arguments.pop("mc"), arguments.pop("length"), **arguments)


@pytest.mark.parametrize(("visits", "total", "c"), [(-1, 4, 0.1), (1, -4, 0.1), (1, 4, -0.1)])
def test_u_value_names_what_it_refuses(visits, total, c):
    with pytest.raises(
        ValueError, match=f"visits={visits}, total_visits={total}, c_puct={c}: none may be negative"
    ):
        u_value(visits, total, c_puct=c)


class Counted(list):
    reads = 0

    def __getitem__(self, i):
        self.reads += 1
        return super().__getitem__(i)


def test_first_error_of_the_reference_list_takes_three_reads():
    values = Counted([0.9, 0.8, 0.5, 0, 0, 0, 0, 0])
    assert first_error(values) == 3 and values.reads == 3


def test_bisection_equals_linear_search_on_all_monotone_patterns():
    for m in range(1, 40):
        for good in range(m + 1):
            values = Counted([0.5] * good + [0.0] * (m - good))
            assert first_error(values) == (good if good < m else None)
            assert values.reads <= m.bit_length()  # floor(log2(m)) + 1


def test_first_error_where_there_is_none_or_nothing_or_nonsense():
    assert first_error([]) is None and first_error([0.1]) is None and first_error([0]) == 0
    assert first_error((1.0, 0.5, 0.25)) is None
    assert first_error([0.5, 0, 0.5, 0]) == 3  # a border, not the first
    assert first_error([0, 0.5]) is None and first_error([0, 0.5, 0.5]) is None  # or none
    with pytest.raises(ValueError, match=r"value 1.5 after step 2: must lie in \[0, 1\]"):
        first_error([1, 1.5])


# -- the search ------------------------------------------------------------------------------------


def brute_force(policy, problem, *, searches=20, alpha=0.5, beta=0.9, max_length=500, c_puct=0.125):
    """Which prefixes a search must ask for, in order, and their visits, from what the policy wrote
    after each."""
    drawn = {s: ends for (id, s), ends in policy.drawn.items() if id == problem.id}
    mc = {s: sum(is_right(problem, end) for end in ends) / len(ends) for s, ends in drawn.items()}
    visits, used, selected = {(): 0}, set(), []
    for _ in range(searches):
        scores = {}
        for s in visits:
            for i, end in enumerate(drawn[s]):
                rest = end.steps[len(s) :]
                if (
                    0 < mc[s] < 1
                    and not is_right(problem, end)
                    and end.texts not in used
                    and len(rest) > 1
                ):
                    q = alpha ** (1 - mc[s]) * beta ** (
                        sum(len(step.ids) for step in rest) / max_length
                    )
                    scores[s, i] = q + c_puct * sqrt(sum(visits.values())) / (1 + visits[s])
        if not scores:
            break
        s, i = max(scores, key=scores.get)
        texts = drawn[s][i].texts
        used.add(texts)
        selected.append(texts)
        visits[s] += 1
        open_depths = list(range(len(s) + 1, len(texts)))
        while open_depths:
            depth = open_depths[len(open_depths) // 2]
            visits[texts[:depth]] = visits.get(texts[:depth], 0) + 1
            open_depths = [
                d for d in open_depths if (d > depth if mc[texts[:depth]] > 0 else d < depth)
            ]
    return visits, selected


def nodes(result):
    """{prefix: (value, visits)} of a result, read from its rows."""
    question = result.labelled[0].meta["question"]
    found = {(): (question["value"], question["visits"])}
    for row in result.labelled:
        for t, (value, visits) in enumerate(zip(row.values[:-1], row.meta["visits"])):
            assert (value is None) == (visits is None)
            if visits is not None:
                assert found.setdefault(row.steps[: t + 1], (value, visits)) == (value, visits)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"searches": 3},
        {"c_puct": 1.0},
        {"c_puct": 0},
        {"alpha": 0.9, "beta": 0.3, "max_length": 40},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [4, 8])
def test_the_search_is_that_of_an_independent_implementation(n, options):
    policy, results = run(n=n, **options)
    searched = 0
    for problem, result in zip(PROBLEMS, results):
        visits, selected = brute_force(policy, problem, **options)
        assert policy.asked[problem.id] == list(visits)
        assert {prefix: count for prefix, (_, count) in nodes(result).items()} == visits
        assert len(set(selected)) == len(selected) <= options.get("searches", 20)
        searched += len(selected)
    assert searched > 30  # else the test says little


def test_values_are_shares_of_a_nodes_own_rollouts_and_none_is_sampled_twice():
    policy, results = run(n=6)
    for result in results:
        for prefix, (value, _) in nodes(result).items():
            own = policy.drawn[result.problem.id, prefix]
            assert len(own) == 6 and value == sum(is_right(result.problem, end) for end in own) / 6
        asked = policy.asked[result.problem.id]
        assert len(set(asked)) == len(asked)
        assert (
            len(result.rollouts) == result.meter.samples == 6 * len(asked) == 6 * result.meter.calls
        )


def test_a_rollout_is_consumed():
    """One wrong rollout, whose prefixes have no others: after one search nothing is left."""
    lines = {"": ["abc-", "ab+"], "a": ["x+", "y+"], "a b": ["c-", "d-"]}
    asked, _, result = scripted(lines, 2)
    assert asked == ["", "ab", "a"]
    assert nodes(result) == {(): (0.5, 1), ("a",): (1, 1), ("a", "b"): (0, 1)}


def test_a_wrong_solution_drawn_again_is_not_searched_again():
    lines = {"": ["abc-", "abc-", "zz+"], "a": ["bc-", "yy+", "yy+"], "a b": ["c-", "c-", "dd-"]}
    asked, rows, result = scripted(lines, 3)
    assert asked == ["", "ab", "a"] and nodes(result)[()] == (1 / 3, 1)
    assert sorted(rows) == ["abc-", "abdd-", "ayy+", "zz+"] and len(result.rollouts) == 9


def test_a_known_prefix_is_looked_up_and_counted():
    lines = {
        "": ["aab-", "aac-", "a+"],
        "a a": ["z+", "z+", "z+"],
        "a a b": ["-"] * 3,
        "a a c": ["-"] * 3,
    }
    asked, _, result = scripted(lines, 3)
    assert asked == ["", "aa", "aab", "aac"]
    found = nodes(result)
    assert found[()] == (1 / 3, 2) and found["a", "a"] == (1, 2) and found["a", "a", "b"] == (0, 1)


@pytest.mark.parametrize(
    ("words", "ids", "first"),
    [((9, 2, 1), (0, 0, 0), "b"), ((2, 9, 1), (0, 0, 0), "a"), ((9, 2, 1), (3, 30, 1), "a")],
)
def test_of_rollouts_from_one_node_the_shorter_goes_first(words, ids, first):
    """Short in sampled tokens, and in words where a step has no ids."""

    class Wordy(Script):
        def go_on(self, prefix, line):
            end = super().go_on(prefix, line)
            if prefix.steps:
                return end
            i = "abc".index(end.steps[0].text)
            middle = Step(" ".join("w" * words[i]), (1,) * ids[i])
            return replace(end, steps=(end.steps[0], middle, *end.steps[1:]))

    policy = Wordy({"": ["a-", "b-", "c+"], "a": ["-"] * 3, "b": ["-"] * 3})
    policy.lines |= {(x, " ".join("w" * words[i])): ["-"] * 3 for i, x in enumerate("ab")}
    solve([ONE], omegaprm, policy=policy, n=3, searches=1)
    assert policy.asked[1][0] == first


@pytest.mark.parametrize(("c_puct", "third"), [(0.125, "abxy"), (0, "kl")])
def test_rollouts_of_probed_prefixes_are_candidates_and_visits_decide(c_puct, third):
    """All have the same Q. After two searches from the question, U prefers ab, met once, to the
    question, met twice."""
    zero, half = ["-"] * 6, ["+"] * 3
    lines = {
        "": ["abc-", "uvw-", "klm-", *half],
        "a b": ["xy-", "c-", "c-", *half],
        "a b c": zero,
        "u v": zero,
    }
    lines |= {"u": zero, "a b x y": zero, "a b x": zero, "k l": zero, "k": zero}
    asked, _, _ = scripted(lines, 6, searches=3, c_puct=c_puct, beta=1)
    assert asked[:6] == ["", "ab", "abc", "uv", "u", third]


# -- limits ----------------------------------------------------------------------------------------


def test_limits_on_rollouts_are_exact():
    problem = max(PROBLEMS, key=lambda p: run([p])[1][0].meter.samples)
    whole = run([problem])[1][0]
    assert whole.meter.samples > 200
    for limit in [*range(8, 60), *range(60, 400, 17)]:
        policy, (result,) = run([problem], rollouts=limit)
        expected = min(limit // 8 * 8, whole.meter.samples)
        assert (
            result.meter.samples == sum(policy.calls) == len(result.rollouts) == expected <= limit
        )
        assert result.stopped is None and result.rollouts == whole.rollouts[:expected]


def test_limits_on_searches_are_exact():
    for searches in (0, 1, 2, 7):
        policy, _ = run(searches=searches)
        for problem in PROBLEMS:
            visits, selected = brute_force(policy, problem, searches=searches)
            assert len(selected) <= searches and policy.asked[problem.id] == list(visits)
    _, results = run(searches=0)
    assert all(
        r.meter.samples == 8 and r.labelled[0].meta["question"]["visits"] == 0 for r in results
    )


def test_a_budget_brings_back_the_rows_so_far():
    _, whole = run()
    _, results = run(budget=Budget(20, "samples"))
    for result, full in zip(results, whole):
        assert result.stopped == ("budget" if full.meter.samples > 24 else None)
        assert result.meter.samples == min(24, full.meter.samples)  # checked before each request
        assert result.rollouts == full.rollouts[: len(result.rollouts)]
        assert {row.steps for row in result.labelled} == {end.texts for end in result.rollouts}
    _, (nothing,) = run([ONE], budget=Budget(0, "samples"))
    assert nothing.stopped == "budget" and nothing.labelled == nothing.rollouts == ()


def by_definition(policy, pool=()):
    """[(solution, labels, values)] from the definition, by what was given and drawn alone."""
    ends = [*pool, *(end for own in policy.drawn.values() for end in own)]
    right = {end.texts for end in ends if is_right(ONE, end)}
    good = {texts[:t] for texts in right for t in range(1, len(texts) + 1)}
    rows = []
    for texts in dict.fromkeys(end.texts for end in ends):
        own = [policy.drawn.get((ONE.id, texts[:t])) for t in range(1, len(texts))]
        values = [o and sum(is_right(ONE, end) for end in o) / len(o) for o in own]
        known_good = sum(texts[:t] in good for t in range(1, len(texts)))  # a run of steps
        bad = 0 in values[known_good:] and known_good + values[known_good:].index(0)
        labels = [
            1 if t < known_good else 0 if bad is not False and t >= bad else None
            for t in range(len(values))
        ]
        grade = texts in right
        rows.append((texts, (*labels, int(grade)), (*values, float(grade))))
    return rows


@pytest.mark.parametrize("method", [omegaprm, given])
def test_a_token_budget_that_ends_at_any_request_brings_back_what_was_paid_for(method):
    """All that was sampled, labelled as far as it tells; None where nothing is known."""
    pool = [Gambler().go_on(Prefix(ONE), random.Random(i)) for i in range(6)]
    options = {omegaprm: {"n": 4, "searches": 8}, given: {"n": 4, "pool": pool}}[method]
    whole_policy, unknown = Gambler(), 0
    (whole,) = solve([ONE], method, policy=whole_policy, **options)
    assert len(whole_policy.spent) > 5 and whole.stopped is None
    for k, tokens in enumerate([0, *whole_policy.spent[:-1]]):
        policy = Gambler()
        (result,) = solve([ONE], method, policy=policy, budget=Budget(tokens, "tokens"), **options)
        assert (result.error, result.stopped, len(policy.calls)) == (None, "budget", k)
        found = [(row.steps, row.labels, row.values) for row in result.labelled]
        if method is omegaprm:
            assert result.rollouts == whole.rollouts[: 4 * k]
            assert found == by_definition(policy)
        else:
            expected = {row[0]: row for row in by_definition(policy, pool)}
            assert found == [expected[end.texts] for end in pool]
        unknown += sum(None in row.labels for row in result.labelled)
    assert unknown > 0  # else the test says little


def test_a_solution_without_steps_counts_but_has_no_row():
    lines = {"": [".", "a-", "c+"], "a": [".", "x+", "b-"]}
    asked, rows, result = scripted(lines, 3, searches=1)
    assert asked == ["", "a"] and () in {end.texts for end in result.rollouts}
    assert nodes(result) == {(): (1 / 3, 1), ("a",): (1 / 3, 1)}
    assert rows == {
        "a-": ((1, 0), (1 / 3, 0.0)),
        "c+": ((1, 1), (None, 1.0)),
        "a": ((0,), (0.0,)),
        "ax+": ((1, 1, 1), (1 / 3, None, 1.0)),
        "ab-": ((1, None, 0), (1 / 3, None, 0.0)),
    }
    _, rows, result = scripted({"": [".", "."]}, 2)
    assert rows == {} and len(result.rollouts) == 2


def test_a_given_solution_without_steps_has_an_empty_row():
    policy = Script({"": [".", "a-", "."], "a": ["x+", "y-"]})
    (result,) = solve([ONE], given, policy=policy, pool=3, n=2)
    assert result.error is None and policy.asked == ["", "a"]
    found = [(short(row), row.labels) for row in result.labelled]
    assert found == [("", ()), ("a-", (1, 0)), ("", ())]
    assert nodes(result)[()] == (0, 2) and as_tree(result.labelled).visits == 2


def test_an_interrupt_brings_back_the_rows_so_far():
    with pytest.warns(UserWarning, match="interrupted"):
        _, results = run(policy=Gambler(interrupt_at=3))
    assert {r.stopped for r in results} == {"interrupt"}
    assert all(
        {row.steps for row in r.labelled} == {end.texts for end in r.rollouts} for r in results
    )
    assert max(len(r.rollouts) for r in results) == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0, "),
        ({"searches": -1}, "searches=-1, "),
        ({"rollouts": 7}, "rollouts=7: need n >= 1, searches >= 0, rollouts >= n"),
        ({"alpha": 2}, "alpha=2"),
        ({"beta": 0}, "beta=0"),
        ({"max_length": 0}, "max_length=0"),
        ({"c_puct": -1}, "c_puct=-1"),
    ],
)
def test_bad_options_are_named_before_anything_is_drawn(options, message):
    policy, (result,) = run([ONE], **options)
    assert message in result.error and result.error.startswith("ValueError") and not policy.calls


def test_a_problem_without_an_answer_is_named():
    _, (result,) = run([replace(ONE, answer=None)])
    assert "p0 has no answer to grade against" in result.error


# -- many problems ---------------------------------------------------------------------------------


def test_batched_equals_one_by_one_and_batches_grow_with_the_problems():
    together_policy, together = run()
    alone = [run([problem])[1][0] for problem in PROBLEMS]
    assert [r.labelled for r in together] == [r.labelled for r in alone]
    assert [r.rollouts for r in together] == [r.rollouts for r in alone]
    assert together_policy.calls[0] == 8 * len(PROBLEMS) and together_policy.calls[1] > 8
    # as many as the longest needs
    assert len(together_policy.calls) == max(r.meter.calls for r in alone)
    half_policy, _ = run(PROBLEMS[:6])
    assert half_policy.calls[0] == 48


def test_temperature_and_model_reach_every_request():
    class Warm(Gambler):
        def sample(self, *args, temperature, **kwargs):
            assert temperature == 0.7
            return super().sample(*args, temperature=temperature, **kwargs)

    helper, idle = Warm(), Gambler()
    results = solve(
        PROBLEMS[:3], omegaprm, policy=idle, helpers={"other": helper}, temperature=0.7, by="other"
    )
    assert all(r.error is None and r.meter.calls > 1 for r in results) and not idle.calls


def test_results_survive_a_file(tmp_path):
    _, results = run(PROBLEMS[:4], save=tmp_path / "tree.jsonl")
    policy, again = run(PROBLEMS[:4], save=tmp_path / "tree.jsonl")
    assert not policy.calls and [r.labelled for r in again] == [r.labelled for r in results]
    assert [as_tree(r.labelled) for r in again] == [as_tree(r.labelled) for r in results]


# -- rows and tree ---------------------------------------------------------------------------------


def test_rows_by_hand():
    """abcd- is searched: ab is worth 1/2, abc nothing; a and the rest were never probed."""
    lines = {"": ["abcd-", "xy+"], "a b": ["cde-", "z+"], "a b c": ["dd-", "f-"]}
    asked, rows, result = scripted(lines, 2, searches=1)
    assert asked == ["", "abc", "ab"]
    assert rows == {
        "abcd-": ((1, 1, 0, 0, 0), (None, 0.5, 0.0, None, 0.0)),
        "xy+": ((1, 1, 1), (None, None, 1.0)),
        "abcdd-": ((1, 1, 0, 0, 0, 0), (None, 0.5, 0.0, None, None, 0.0)),
        "abcf-": ((1, 1, 0, 0, 0), (None, 0.5, 0.0, None, 0.0)),
        "abcde-": ((1, 1, 0, 0, 0, 0), (None, 0.5, 0.0, None, None, 0.0)),
        "abz+": ((1, 1, 1, 1), (None, 0.5, None, 1.0)),
    }
    assert all(
        row.source == "omegaprm" and row.problem == ONE and row.meta["n"] == 2
        for row in result.labelled
    )
    assert result.labelled[0].meta == {
        "n": 2, "visits": [None, 1, 1, None, None], "question": {"value": 0.5, "visits": 1},
    }  # fmt: skip
    assert result.labelled[0].first_error == 2 and result.labelled[1].first_error is None


def test_between_the_last_known_good_and_the_first_known_bad_step_nothing_is_said():
    lines = {"": ["abcd-", "a+"]}
    _, rows, _ = scripted(lines, 2, searches=0)
    assert rows == {
        "abcd-": ((1, None, None, None, 0), (None,) * 4 + (0.0,)),
        "a+": ((1, 1), (None, 1.0)),
    }


def test_a_question_never_answered_labels_last_steps_alone():
    """The question is no step: its value 0 makes no step bad."""
    asked, rows, result = scripted({"": ["ab-", "cd-"]}, 2)
    assert asked == [""] and nodes(result) == {(): (0, 0)}
    assert rows == {
        "ab-": ((None, None, 0), (None, None, 0.0)),
        "cd-": ((None, None, 0), (None, None, 0.0)),
    }


def test_a_right_rollout_from_elsewhere_outweighs_a_value_of_zero():
    """ab shows 0 of 2, but the question's second rollout went through it."""
    lines = {"": ["abc-", "abd+"], "a b": ["e-", "f-"], "a": ["g+", "h-"]}
    asked, rows, _ = scripted(lines, 2, searches=1)
    assert asked == ["", "ab", "a"]
    assert rows["abc-"] == ((1, 1, None, 0), (0.5, 0.0, None, 0.0))
    assert rows["abd+"] == ((1, 1, 1, 1), (0.5, 0.0, None, 1.0))
    assert rows["abe-"] == ((1, 1, None, 0), (0.5, 0.0, None, 0.0))


def test_an_unfinished_solution_is_wrong_and_a_repeated_one_has_one_row():
    lines = {"": ["ab", "ab", "ac+", "ac+"], "a": ["x", "x", "x", "x"]}
    asked, rows, result = scripted(lines, 4)
    assert asked == ["", "a"] and len(result.rollouts) == 8
    assert rows == {
        "ab": ((1, 0), (0.0, 0.0)),
        "ac+": ((1, 1, 1), (0.0, None, 1.0)),
        "ax": ((1, 0), (0.0, 0.0)),
    }


@pytest.mark.parametrize("cut", [0, 1])
def test_a_text_that_ended_right_once_is_right(cut):
    """The same text, once ended and once out of room just there."""

    class Cut(Script):
        def sample(self, *args, **kwargs):
            ends = super().sample(*args, **kwargs)
            return [replace(end, stop="length") if i == cut else end for i, end in enumerate(ends)]

    (result,) = solve([ONE], omegaprm, policy=Cut({"": ["a+", "a+"]}), n=2, searches=0)
    assert [row.labels for row in result.labelled] == [(1, 1)] and nodes(result) == {(): (0.5, 0)}


def test_rows_hold_together():
    """Labels fall from 1 over None to 0, are the same for the same prefix, and agree with grades
    and values."""
    _, results = run()
    kinds = set()
    for result in results:
        assert len({row.steps for row in result.labelled}) == len(result.labelled)
        assert {row.steps for row in result.labelled} == {end.texts for end in result.rollouts}
        said = {}
        for row in result.labelled:
            order = [{1: 0, None: 1, 0: 2}[label] for label in row.labels]
            kinds |= {tuple(sorted(set(order)))}
            assert order == sorted(order) and row.steps[0] != result.problem.question
            assert row.labels[-1] == row.values[-1] == (row.steps[-1] == RIGHT)
            assert row.steps[-1] != RIGHT or set(row.labels) == {1}
            assert all(one == 1 for one, value in zip(row.labels, row.values) if value)
            for t, one in enumerate(row.labels):
                assert said.setdefault(row.steps[: t + 1], one) == one
    assert {(0,), (0, 2), (0, 1, 2)} <= kinds


def test_the_tree_by_hand():
    """First ab is searched, which ran out of room: a is good. Then abc-: ab is good, abc is not."""
    lines = {
        "": ["abc-", "ab", "x+"],
        "a": ["+"] * 3,
        "a b": ["c-", "d-", "e+"],
        "a b c": ["-"] * 3,
    }
    asked, _, result = scripted(lines, 3, searches=2)
    tree = as_tree(result.labelled)
    assert asked == ["", "a", "ab", "abc"]
    assert (tree.step.text, tree.value, tree.visits, tree.right) == (ONE.question, 1 / 3, 2, None)
    found = [
        (len(above), shortened(node.step.text), node.value, node.visits, node.right)
        for *above, node in walk(tree)
    ]
    assert found[1:] == [
        (1, "a", 1.0, 1, True),
        (2, "b", 1 / 3, 1, True),
        (3, "c", 0.0, 1, False),
        (4, "-", 0.0, 0, False),
        (3, "d", None, 0, None),
        (4, "-", 0.0, 0, False),
        (3, "e", None, 0, True),
        (4, "+", 1.0, 0, True),
        (2, "b", 0.0, 0, False),  # an end is a leaf of its own
        (2, "+", 1.0, 0, True),
        (1, "x", None, 0, True),
        (2, "+", 1.0, 0, True),
    ]


def test_the_tree_holds_every_node_and_can_be_shown():
    _, results = run()
    for result in results:
        tree, found = as_tree(result.labelled), nodes(result)
        shown = {tuple(node.step.text for node in path[1:]): path[-1] for path in walk(tree)}
        # of equal prefixes only one goes on and was met
        met = {steps: (node.value, node.visits) for steps, node in shown.items() if node.visits}
        assert met == {steps: node for steps, node in found.items() if node[1]}
        assert tree_view(tree).count("<details") > 0


def test_as_tree_names_rows_that_make_no_tree():
    _, results = run(PROBLEMS[:2])
    with pytest.raises(
        ValueError, match=r"\('p0', 'omegaprm'\), \('p1', 'omegaprm'\).*need those of one problem"
    ):
        as_tree([row for result in results for row in result.labelled])
    with pytest.raises(ValueError, match="at least one"):
        as_tree([])
    with pytest.raises(ValueError, match="shepherd"):
        as_tree([LabelledSolution(ONE, ("a",), (1,), source="shepherd")])


# -- the real thing --------------------------------------------------------------------------------


def test_segments_end_where_something_is_known():
    row = LabelledSolution(
        ONE,
        ("a", "b", "c", "d"),
        (1, 1, None, 0),
        (None, 0.5, None, 0.0),
        "omegaprm",
        {"visits": []},
    )
    (short,) = segments([row])
    assert (
        short.steps == ("a\nb", "c\nd")
        and short.values == (0.5, 0.0)
        and short.labels == (1, 0)
        and short.meta == {}
    )


@pytest.mark.parametrize("format", ["math-aps", "math-aps-tree"])
def test_rows_are_stored_in_openrs_formats(format, tmp_path):
    _, results = run(searches=6, n=3)
    rows = segments([row for result in results for row in result.labelled])
    assert len(rows) > 100 and max(len(row.steps) for row in rows) > 2
    write(rows, tmp_path / "rows.jsonl", format=format)
    assert read(tmp_path / "rows.jsonl", format=format) == rows


# -- given solutions -------------------------------------------------------------------------------


def test_given_solutions_have_the_first_error_that_a_perfect_completer_sees():
    problems = quantities.generate(20, levels=[4, 5], seed=3)
    helper, wrong = Walker(problems, 0.0), 0
    results = solve(
        problems, given, policy=Walker(problems, 0.2), helpers={"helper": helper}, by="helper", n=2
    )
    for result in results:
        assert [row.steps for row in result.labelled] == [
            solution.texts for solution in result.rollouts
        ]
        for row in result.labelled:
            truth = check_steps(row.problem, row.steps)
            first = truth.index(False) if False in truth else len(truth)
            assert row.labels == (1,) * first + (0,) * (len(truth) - first)
        texts = {row.steps for row in result.labelled if row.first_error is not None}
        wrong += sum(ceil(log2(len(steps))) for steps in texts)
    assert 0 < helper.rows <= 2 * wrong  # n rollouts a probe, right solutions cost nothing


def test_given_solutions_share_their_prefixes():
    policy = Script(
        {
            "": ["ab-", "ac-", "ab-", "ad-", "b+"],
            "a b": "+-",
            "a c": "--",
            "a d": "--",
            "a": ["b+", "c-"],
        }
    )
    (result,) = solve([ONE], given, policy=policy, pool=5, n=2)
    # `a` once, for ac; the second ab- not at all
    assert policy.asked == ["", "ab", "ac", "a", "ad"]
    assert [row.labels for row in result.labelled] == [
        (1, 1, 0),
        (1, 0, 0),
        (1, 1, 0),
        (1, 0, 0),
        (1, 1),
    ]


def test_given_solutions_need_rollouts():
    (result,) = solve([ONE], given, policy=Gambler(), n=0)
    assert "n=0 rollouts a node: need at least 1" in result.error


@pytest.mark.slow
def test_a_shipped_policy_end_to_end():
    policy = load_policy("weak", dtype="bfloat16")
    problems = quantities.generate(2, levels=[2], seed=1, split="test")
    results = solve(problems, omegaprm, policy=policy, seed=1, n=4, searches=2, rollouts=28)
    for result in results:
        assert result.error is None and result.meter.samples == len(result.rollouts) <= 28
        assert {row.steps for row in result.labelled} == {end.texts for end in result.rollouts}
        assert all(row.problem == result.problem for row in result.labelled)
    assert max(len(nodes(result)) for result in results) > 1
