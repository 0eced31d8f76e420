"""The exact truth of a step, for both embedded kinds: gold passes, each fault is caught where it
stands and named."""

import random
import re
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from workbench.problems import check_steps, explain, programs, quantities, solvable
from workbench.problems.truth import FAULTS
from workbench.types import Problem

PERSON = r"[A-Z][a-z]+"
OTHER_RELATION = {
    "more": "fewer", "fewer": "more", "times as many as": "more than",
    "together": "the difference between", "the difference between": "together",
}  # fmt: skip


@cache
def problem_of(kind: str, level: int, index: int) -> Problem:
    if kind == "programs":
        return programs.problem_at(index, levels=[level], seed=1)
    return quantities.problem_at(index, levels=[level], seed=1, split="test", shuffled=0.5)


def problems(min_level=1):
    """Problems of both kinds."""
    return st.builds(
        problem_of,
        st.sampled_from(["quantities", "programs"]),
        st.integers(min_level, 6),
        st.integers(0, 300),
    )


examples = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32).map(random.Random)


def kinds(problem, steps):
    """The kind of each step's fault, None where it is right."""
    return [reason and reason.split(":")[0] for reason in explain(problem, steps)]


def gold(problem):
    return problem.solution.split("\n")


def in_order(story, names, rng):
    """`names` in a random order in which each uses only earlier ones."""
    waiting, order = rng.sample(sorted(names), len(names)), []
    while waiting:
        name = next(n for n in waiting if not set(story.facts[n].of) & set(waiting))
        waiting.remove(name)
        order.append(name)
    return order


# -- a second judge: the sentences of the definition, one line each --------------------------------


@dataclass(frozen=True)
class Said:
    """A step with what its writer knows about it: whose value it states, and whether relation and
    numbers are true."""

    text: str
    name: str | None  # None: an answer line, or junk if `value` is None too
    value: int | None
    true: bool


def say(fact):
    return Said(fact.step, fact.name, fact.value, True)


def answer_of(story, value=None):
    value = story.answer if value is None else value
    return Said(f"The answer is {value} .", None, value, value == story.answer)


def judge(story, said):
    """(right or wrong for each step, solvable) by the definition."""
    truth = {name: fact.value for name, fact in story.facts.items()}
    standing = {name: truth[name] for name in truth if name not in story.derived}
    rights, ended, wrong_answer = [], False, False
    for s in said:
        if s.name is None:  # an answer line is right if it says the answer and a step has stated it
            rights.append(not ended and s.true and standing.get(story.asked) == s.value)
            wrong_answer |= not ended and s.value is not None and not s.true
            ended |= s.value is not None
            continue
        premises = story.facts[s.name].of if s.name in truth else ()
        known = all(standing.get(name) == truth[name] for name in premises)
        rights.append(not ended and s.true and known and s.name not in standing)
        if not ended:
            standing.setdefault(s.name, s.value)  # the first value stated stands
    wrong = {name for name in truth if standing.get(name, truth[name]) != truth[name]}
    return rights, not wrong_answer and not wrong & story.needs(story.asked)


# -- right solutions -------------------------------------------------------------------------------


@examples
@given(problems())
def test_gold_is_right_in_every_step_and_stays_solvable(problem):
    steps = gold(problem)
    assert explain(problem, steps) == [None] * len(steps)
    assert all(solvable(problem, steps[:t]) for t in range(len(steps) + 1))


@examples
@given(problem=problems())
def test_gold_goes_on_from_the_newest_result_where_it_can_else_with_the_first_of_the_text(
    problem, read
):
    story, steps = read(problem), gold(problem)
    left = [name for name in story.derived if name in story.needs(story.asked)]
    newest = None
    for step in steps[:-1]:
        ready = [name for name in left if not set(story.facts[name].of) & set(left)]
        going_on = [name for name in ready if newest in story.facts[name].of]
        newest = (going_on or ready)[0]
        assert step == story.facts[newest].step
        left.remove(newest)
    assert left == [] and steps[-1] == f"The answer is {story.answer} ."


@examples
@given(problem=problems(), rng=seeds)
def test_any_order_in_which_each_step_uses_earlier_ones_is_right(problem, rng, read):
    story = read(problem)
    order = in_order(story, set(story.derived), rng)  # with the distractors, and wherever they come
    steps = [story.facts[name].step for name in order] + gold(problem)[-1:]
    assert all(check_steps(problem, steps)) and solvable(problem, steps)


@examples
@given(problems())
def test_swapped_operands_and_names_are_right_where_they_commute(problem):
    steps = []
    for line in gold(problem):
        if m := re.fullmatch(r"(.*) : (\d+) ([+*]) (\d+) = (.*)", line):
            line = f"{m[1]} : {m[4]} {m[3]} {m[2]} = {m[5]}"
        line = re.sub(rf"({PERSON}) and ({PERSON})", r"\2 and \1", line)
        line = re.sub(r"^(\w) = (\w+) ([+*]) (\w+) :", r"\1 = \4 \3 \2 :", line)
        steps.append(line)
    assert explain(problem, steps) == [None] * len(steps)


@examples
@given(problem=problems(), rng=seeds)
def test_the_full_stop_may_be_missing(problem, rng):
    steps = [
        rng.choice((line, line.removesuffix(" ."), line.replace(" .", ".")))
        for line in gold(problem)
    ]
    assert all(check_steps(problem, steps))


# -- one fault in one step -------------------------------------------------------------------------


def other_number(rng, number):
    return rng.choice([n for n in range(200) if n != number])


def wrong_result(rng, fact, story):
    return replace(fact, value=other_number(rng, fact.value))


def wrong_operand(rng, fact, story):
    side = rng.choice(("left", "right"))
    return replace(fact, **{side: other_number(rng, getattr(fact, side))})


def wrong_operand_computed_well(rng, fact, story):
    fact = wrong_operand(rng, fact, story)
    value = {"+": fact.left + fact.right, "-": fact.left - fact.right, "*": fact.left * fact.right}[
        fact.sign
    ]
    return replace(fact, value=value) if value >= 0 else None


def swapped_minus(rng, fact, story):
    return (
        replace(fact, left=fact.right, right=fact.left)
        if fact.sign == "-" and fact.left != fact.right
        else None
    )


def wrong_constant(rng, fact, story):
    if fact.number is None:
        return None
    return replace(fact, words=re.sub(r"\b\d+\b", str(other_number(rng, fact.number)), fact.words))


def other_person_used(rng, fact, story):
    if not fact.of:
        return None
    old = rng.choice(fact.of)
    new = rng.choice([name for name in story.facts if name != old])
    about, rest = fact.words[: len(fact.name)], fact.words[len(fact.name) :]
    return replace(fact, words=about + re.sub(rf"\b{old}\b", new, rest, count=1))


def other_relation(rng, fact, story):
    if fact.relation in "+-*":
        return replace(
            fact,
            words=fact.words.replace(
                f" {fact.sign} ", f" {rng.choice('+-*'.replace(fact.sign, ''))} "
            ),
        )
    if fact.relation in ("together", "difference"):
        a, b = fact.of
        pair = (
            f"{a} and {b} together"
            if fact.relation == "difference"
            else f"the difference between {a} and {b}"
        )
        return replace(fact, words=f"{fact.name} has as many as {pair}")
    old = next(words for words in OTHER_RELATION if words in fact.words)
    return replace(fact, words=fact.words.replace(old, OTHER_RELATION[old]))


def wrong_sign(rng, fact, story):
    return replace(fact, sign=rng.choice("+-*".replace(fact.sign, "")))


def unknown_name(rng, fact, story):
    everybody = programs.VARIABLES if len(fact.name) == 1 else quantities.NAMES
    name = rng.choice([name for name in everybody if name not in story.facts])
    return replace(fact, name=name, words=name + fact.words[len(fact.name) :])


MUTATIONS = {
    wrong_result: "arithmetic slip",
    wrong_operand: "wrong value carried",
    wrong_operand_computed_well: "wrong value carried",
    swapped_minus: "wrong value carried",
    wrong_constant: "wrong relation",
    other_person_used: "wrong relation",
    other_relation: "wrong relation",
    wrong_sign: "wrong relation",
    unknown_name: "wrong relation",
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
@examples
@given(problem=problems(), rng=seeds)
def test_a_single_fault_is_caught_at_its_step_and_named(mutate, problem, rng, read):
    story = read(problem)
    order = in_order(story, story.needs(story.asked) & set(story.derived), rng)
    candidates = [
        (i, fact) for i, name in enumerate(order) if (fact := mutate(rng, story.facts[name], story))
    ]
    assume(candidates)
    i, fact = rng.choice(candidates)
    said = [say(story.facts[name]) for name in order] + [answer_of(story)]
    said[i] = replace(say(fact), true=False)
    steps = [s.text for s in said]

    found = kinds(problem, steps)
    assert found[: i + 1] == [None] * i + [MUTATIONS[mutate]]
    assert ([kind is None for kind in found], solvable(problem, steps)) == judge(story, said)


@examples
@given(
    problem=problems(),
    rng=seeds,
    junk=st.sampled_from(["", "so", "12", "Tess has", "3 + 4 = 7 .", "a = 3 : 3 .", ":"]),
)
def test_junk_is_malformed_and_states_nothing(problem, rng, junk):
    steps = gold(problem)
    i = rng.randrange(len(steps))
    assert kinds(problem, [*steps[:i], junk, *steps[i:]]) == [None] * i + ["malformed"] + [None] * (
        len(steps) - i
    )
    assert solvable(problem, [*steps[:i], junk])


@examples
@given(problem=problems())
def test_a_given_fact_is_no_step(problem, read):
    words = next(fact.words for fact in read(problem).facts.values() if not fact.sign)
    assert kinds(problem, [words, f"{words} : 3 + 4 = 7 ."]) == ["malformed", "malformed"]


@examples
@given(problem=problems(min_level=2), rng=seeds)
def test_a_step_stated_too_early_is_not_yet_derivable_and_its_premises_stay_right(
    problem, rng, read
):
    story, steps = read(problem), gold(problem)
    names = [line.split()[0] for line in steps[:-1]]
    late = rng.choice([i for i, name in enumerate(names) if set(story.facts[name].of) & set(names)])
    premise = min(names.index(name) for name in story.facts[names[late]].of if name in names)
    steps.insert(premise, steps.pop(late))
    assert kinds(problem, steps) == [
        "not yet derivable" if step.split()[0] == names[late] else None for step in steps
    ]
    assert solvable(problem, steps)  # nothing wrong was said


@examples
@given(problem=problems(), rng=seeds)
def test_a_step_stated_twice_is_restated_the_second_time(problem, rng):
    steps = gold(problem)
    first = rng.randrange(len(steps) - 1)
    second = rng.randrange(first + 1, len(steps))
    steps.insert(second, steps[first])
    assert kinds(problem, steps) == ["restated" if i == second else None for i in range(len(steps))]
    assert solvable(problem, steps)


@examples
@given(problem=problems(), rng=seeds)
def test_the_first_value_stands_so_a_correction_is_a_fault_and_does_not_help(problem, rng, read):
    story, steps = read(problem), gold(problem)
    i = rng.randrange(len(steps) - 1)
    fact = story.facts[steps[i].split()[0]]
    steps.insert(i, wrong_result(rng, fact, story).step)
    assert kinds(problem, steps)[i : i + 2] == ["arithmetic slip", "restated"]
    assert not solvable(problem, steps[: i + 2])


@examples
@given(problem=problems(), rng=seeds)
def test_a_given_value_cannot_be_stated_again(problem, rng, read):
    story = read(problem)
    known = next(fact for fact in story.facts.values() if not fact.sign)
    said = story.facts[rng.choice(story.derived)]
    step = replace(said, words=said.words.replace(said.name, known.name, 1)).step
    assert kinds(problem, [step, *gold(problem)]) == ["restated"] + [None] * len(gold(problem))
    assert solvable(problem, [step])  # the given value stands


# -- what follows a fault --------------------------------------------------------------------------


@examples
@given(problem=problems(min_level=2), rng=seeds)
def test_a_wrong_value_carried_on_makes_exactly_the_steps_that_build_on_it_wrong(
    problem, rng, read
):
    story = read(problem)
    order = in_order(story, set(story.derived), rng)
    slip = rng.choice(order)
    # as one who believes his slip goes on
    told = read(problem, {slip: other_number(rng, story.facts[slip].value)})
    assume(all(fact.value >= 0 for fact in told.facts.values()))
    believed = {name for name in told.facts if told.facts[name].value != story.facts[name].value}
    expected = [
        "arithmetic slip"
        if name == slip
        else "wrong value carried"
        if believed & set(told.facts[name].of)
        else None
        for name in order
    ]
    expected.append("wrong answer line" if story.asked in believed else None)
    steps = [told.facts[name].step for name in order] + [f"The answer is {told.answer} ."]
    assert kinds(problem, steps) == expected
    assert solvable(problem, steps) == (slip not in story.needs(story.asked))


@examples
@given(problem=problems(), rng=seeds)
def test_a_distractor_said_well_is_right_and_said_badly_is_wrong_yet_solvable(problem, rng, read):
    story = read(problem)
    idle = set(story.derived) - story.needs(story.asked)
    assume(idle)
    order = in_order(story, set(story.derived), rng)
    name = rng.choice([name for name in order if name in idle])
    upto = [story.facts[n].step for n in order[: order.index(name)]]
    assert all(check_steps(problem, [*upto, story.facts[name].step]))

    bad = [*upto, wrong_result(rng, story.facts[name], story).step]
    assert kinds(problem, bad) == [None] * len(upto) + ["arithmetic slip"]
    assert solvable(problem, bad)


@examples
@given(problem=problems(), rng=seeds)
def test_a_wrong_answer_line_is_named_and_unsolvable(problem, rng):
    steps = gold(problem)
    steps[-1] = f"The answer is {other_number(rng, int(problem.answer))} ."
    assert kinds(problem, steps) == [None] * (len(steps) - 1) + ["wrong answer line"]
    assert not solvable(problem, steps)


@examples
@given(problem=problems(), rng=seeds)
def test_an_answer_before_it_is_derived_is_not_yet_derivable(problem, rng):
    steps = gold(problem)
    t = rng.randrange(len(steps) - 1)
    assert kinds(problem, [*steps[:t], steps[-1]]) == [None] * t + ["not yet derivable"]
    assert solvable(problem, [*steps[:t], steps[-1]])  # the line itself says the right answer


@examples
@given(problem=problems(), rng=seeds)
def test_the_right_answer_against_the_value_derived_is_a_wrong_answer_line(problem, rng, read):
    story, steps = read(problem), gold(problem)
    steps[-2] = wrong_result(rng, story.facts[story.asked], story).step
    assert kinds(problem, steps)[-2:] == ["arithmetic slip", "wrong answer line"]
    assert not solvable(problem, steps)


@examples
@given(problem=problems(), rng=seeds)
def test_whatever_follows_the_answer_line_is_wrong_and_changes_nothing(problem, rng, read):
    story, steps = read(problem), gold(problem)
    more = [
        rng.choice(
            [
                *steps,
                "junk",
                "The answer is 7 .",
                wrong_result(rng, story.facts[story.asked], story).step,
            ]
        )
    ]
    assert kinds(problem, steps + more) == [None] * len(steps) + ["after the answer"]
    assert solvable(problem, steps + more)


def messy(story, rng):
    """A solution of random length with right, wrong, early, repeated and idle steps, junk and
    answer lines."""
    pool = [say(story.facts[name]) for name in story.derived] * 2
    for name in story.derived:
        mutate = rng.choice(list(MUTATIONS))
        if fact := mutate(rng, story.facts[name], story):
            pool.append(replace(say(fact), true=False))
    pool += [
        Said("junk", None, None, False),
        answer_of(story),
        answer_of(story, other_number(rng, story.answer)),
    ]
    return rng.sample(pool, rng.randint(1, len(pool)))


@settings(max_examples=300, deadline=None)
@given(problem=problems(), rng=seeds)
def test_any_mixture_is_judged_as_the_definition_says(problem, rng, read):
    story = read(problem)
    said = messy(story, rng)
    steps = [s.text for s in said]
    assert (check_steps(problem, steps), solvable(problem, steps)) == judge(story, said)


@examples
@given(problem=problems(), rng=seeds)
def test_solvable_is_a_promise_that_the_remaining_gold_steps_are_right(problem, rng, read):
    story = read(problem)
    said = [s for s in messy(story, rng) if s.name or s.value is None]  # not yet answered
    steps = [s.text for s in said]
    assume(solvable(problem, steps))
    rest = [line for line in gold(problem) if line.split()[0] not in {s.name for s in said}]
    assert all(check_steps(problem, steps + rest)[len(steps) :])


@examples
@given(problem=problems(), rng=seeds)
def test_no_step_changes_the_judgement_of_an_earlier_one(problem, rng, read):
    steps = [s.text for s in messy(read(problem), rng)]
    t = rng.randrange(len(steps))
    assert explain(problem, steps[:t]) == explain(problem, steps)[:t]


# -- who may ask, and what they may send -----------------------------------------------------------


@examples
@given(problem=problems(), rng=seeds)
def test_a_blind_problem_is_judged_the_same(problem, rng, read):
    steps = [s.text for s in messy(read(problem), rng)]
    assert explain(problem.blind(), steps) == explain(problem, steps)
    assert solvable(problem.blind(), steps) == solvable(problem, steps)


HUGE = "9" * 5000  # more digits than int() accepts
HOSTILE = [
    "", " ", ":", " : ", " : : ", "\n", "\x00",
    "The answer is", "The answer is  .", "The answer is -7 .",
    "The answer is 007 .", "The answer is 7 . . .", "The answer is ٧ .", "The answer is 1٣ .",
    f"The answer is {HUGE} .",
    "The answer\nis 7 .", "the answer is 7 .", "The answer is 7 .\nThe answer is 8 .",
    "x" * 100_000,
    "Max has " * 20_000, "Max has 3 more than Ava : " * 5_000, " " * 100_000 + ".",
]  # fmt: skip


def tampered(line):
    """A gold line spoilt in its writing only."""
    clause, _, computation = line.partition(" : ")
    number = re.search(r"\d+", computation)[0]
    yield from (
        clause,
        computation,
        clause + " : ",
        " : " + computation,
        line.replace(" : ", ":"),
        line + line,
    )
    yield from (f"{line[:-2]}{extra}" for extra in ("..", "!", " = 3 .", "\n.", " \n.", " . so"))
    yield from (line.replace(" ", gap) for gap in ("", "  ", "\n", "\t", "\u00a0"))
    yield from (
        line.replace(f" {number} ", f" {n} ")
        for n in (HUGE, f"-{number}", f"0{number}", f"{number}.0")
    )
    # other scripts' digits
    yield line.replace(number, "".join(chr(ord("\u0660") + int(digit)) for digit in number))
    yield re.sub(r"(\d+) \.$", r"\1٣ .", line)


@examples
@given(problem=problems(), rng=seeds)
def test_a_step_spoilt_in_its_writing_is_malformed(problem, rng):
    line = rng.choice(gold(problem)[:-1])
    for step in [*tampered(line), *HOSTILE]:
        assert kinds(problem, [step]) == ["malformed"], step[:200]
        assert solvable(problem, [step])


@settings(max_examples=200, deadline=None)
@example(
    problem=problem_of("quantities", 2, 0), steps=[f"Max has {HUGE} more than Ava : 1 + 2 = 3 ."]
)
@example(problem=problem_of("programs", 2, 0), steps=[f"a = b + {HUGE} : 1 + 2 = 3 ."])
@given(
    problem=problems(),
    steps=st.lists(
        st.text(max_size=30)
        | st.lists(
            st.sampled_from(["Max", "Ava", "has", "as", "more", "than", *"ab:+-*=.9\n", HUGE])
        ).map(" ".join),
        max_size=4,
    ),
)
def test_no_text_raises_and_every_fault_is_of_a_named_kind(problem, steps):
    reasons = explain(problem, steps)
    assert check_steps(problem, steps) == [reason is None for reason in reasons]
    assert len(reasons) == len(steps)
    assert all(reason is None or reason.split(":")[0] in FAULTS for reason in reasons)
    assert all("\n" not in reason for reason in reasons if reason)
    assert solvable(problem, steps) in (True, False)


def test_every_kind_of_fault_occurs_and_says_what_was_expected():
    problem = Problem(
        "p", "quantities", "How many coins does Tess have? Ava has 3 coins. "
        "Max has 4 more than Ava. Rosa has 2 times as many as Max. Tess has 5 fewer than Rosa.",
    )  # fmt: skip
    steps = [
        "Tess has",
        "Rosa has 2 times as many as Max : 2 * 7 = 14 .",
        "Max has 3 more than Ava : 3 + 3 = 6 .",
        "Max has 4 more than Ava : 3 + 4 = 7 .",
        "Tess has 5 fewer than Rosa : 13 - 5 = 8 .",
        "The answer is 8 .",
        "Tess",
    ]
    assert explain(problem, steps) == [
        "malformed: not of the form '<relation> : <a> <sign> <b> = <c> .'",
        "not yet derivable: no step has stated Max",
        "wrong relation: the question says 'Max has 4 more than Ava', which is +",
        "restated: Max stands at 6 already",
        "wrong value carried: need 14 - 5, not 13 - 5",
        "wrong answer line: the answer is 9, not 8",
        "after the answer: the solution had ended",
    ]
    assert explain(problem, [steps[3], "Rosa has 2 times as many as Max : 2 * 7 = 15 ."])[1] == (
        "arithmetic slip: 2 * 7 = 14, not 15"
    )


@pytest.mark.parametrize("function", [check_steps, explain, solvable])
def test_a_kind_without_exact_truth_is_refused_by_name(function):
    with pytest.raises(
        ValueError,
        match=r"no exact truth for kind 'math' \(m/1\): only for quantities, programs, stories",
    ):
        function(Problem("m/1", "math", "What is 1 + 1?", "2"), ["2"])
