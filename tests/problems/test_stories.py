"""Stories: every template tells right ones, no split shares a template, and each single fault in a
solution is caught where it stands and named."""

import random
import re
from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workbench.problems import check_steps, explain, is_right, solvable, states_answer, stories
from workbench.problems.equations import COMPUTE, number_text, read_equations, tree_text, values
from workbench.problems.stories import generate, instance, problem_at, templates
from workbench.problems.story_plot import residue
from workbench.problems.story_truth import STORY_FAULTS
from workbench.types import Prefix, Problem

examples = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32).map(random.Random)
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


@cache
def story(place, seed):
    return instance(templates()[place], random.Random(seed), f"stories/any/{place}/{seed}")


def problems(min_level=1):
    """Stories of all templates of a level or more."""
    first = [template.level for template in templates()].index(min_level)
    return st.builds(story, st.integers(first, len(templates()) - 1), st.integers(0, 200))


def kinds(problem, steps):
    """The kind of each step's fault, None where it is right."""
    return [reason and reason.split(":")[0] for reason in explain(problem, steps)]


def gold(problem):
    return problem.solution.split("\n")


def compute(tree, names):
    """A second evaluation of a formula, by plain recursion over its names."""
    if isinstance(tree, tuple):
        return COMPUTE[tree[0]](compute(tree[1], names), compute(tree[2], names))
    return names[tree] if isinstance(tree, str) else tree


def say(tree, names):
    """A formula with its numbers, all in brackets."""
    if isinstance(tree, tuple):
        return f"({say(tree[1], names)} {tree[0]} {say(tree[2], names)})"
    return number_text(compute(tree, names))


def used(tree):
    if isinstance(tree, tuple):
        return used(tree[1]) | used(tree[2])
    return {tree} if isinstance(tree, str) else set()


def told(problem):
    """Formulas, and the values of all names, by hand."""
    plot = stories.read_question(problem.question)
    names = dict(plot.given)
    for name, tree in plot.formulas.items():
        names[name] = compute(tree, names)
    return plot.formulas, names


# -- the templates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(192), ids=lambda place: templates()[place].id)
def test_every_template_tells_stories_that_it_reads_again(place):
    template = templates()[place]
    for seed in range(8):
        problem = story(place, seed)
        assert [t.id for t in templates() if t.pattern.fullmatch(problem.question)] == [template.id]
        assert not re.search(r"[{}\[\]]|  |\.\.|^[a-z]|[.?] [a-z]", problem.question)
        formulas, names = told(problem)
        assert problem.level == len(formulas) == len(gold(problem)) - 1 == int(template.id[0])
        for name, line in zip(formulas, gold(problem)):
            (equation,) = read_equations(line)
            assert values(equation.tree) == values(equation.said[0]) == {names[name]}
            assert names[name] > 0 and (names[name] * (100 if template.cents else 1)) % 1 == 0
        last = names[list(formulas)[-1]]
        assert gold(problem)[-1] == f"The answer is {number_text(last)}"
        assert Fraction(problem.answer) == last


@examples
@given(problems())
def test_gold_is_right_in_every_step_and_stays_solvable(problem):
    steps = gold(problem)
    assert explain(problem, steps) == [None] * len(steps)
    assert all(solvable(problem, steps[:t]) for t in range(len(steps) + 1))
    assert explain(problem.blind(), steps) == [None] * len(steps)
    assert is_right(problem, Prefix.of(problem, steps, ended=True))


def test_every_step_is_needed_and_distractors_come_and_go():
    for place, template in enumerate(templates()):
        plot = stories.read_question(story(place, 0).question)
        assert plot.needs(plot.asked) == set(plot.formulas), template.id
        # made of numbers of the question, not of words and constants alone
        assert not any(plot.truth[n][1] == residue(plot.truth[n][0]) for n in plot.formulas)
    texts = {t.id for t in templates() if "[" in t.text}
    assert len(texts) >= 12
    for place, template in enumerate(templates()):
        if "[" in template.text:
            sentence = re.search(r"\[(.*?)\{|\[(.*?)\]", template.text)
            counts = Counter(len(story(place, seed).question.split(". ")) for seed in range(20))
            assert len(counts) == 2, sentence


def test_splits_share_no_template_and_each_has_every_level():
    split = {t.id: t.split for t in templates()}
    assert Counter(split.values()) == {"train": 120, "validation": 18, "test": 30, "answers": 24}
    seen = {}
    for name in ("train", "validation", "test", "answers"):
        told_by = Counter()
        levels = range(1, 4 if name == "answers" else 7)
        for problem in generate(150, seed=1, split=name, levels=levels):
            (own,) = (t for t in templates() if t.pattern.fullmatch(problem.question))
            assert own.split == name
            told_by[own.level] += 1
            seen.setdefault(own.text, set()).add(name)
        assert set(told_by) == set(levels) and min(told_by.values()) > 10
    assert all(len(names) == 1 for names in seen.values())
    texts = [re.sub(r"\W|\d", "", t.text) for t in templates()]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("largest", [30, 50])
def test_small_stories_hold_no_larger_number_and_are_as_true(largest):
    about = {"levels": [1, 2, 3], "seed": 4, "largest": largest}
    for problem in generate(150, split="train", **about) + generate(50, split="test", **about):
        told = NUMBER.findall(problem.question + problem.solution.replace(" / 100", ""))
        assert all(n.isdigit() and int(n) <= largest for n in told)
        assert all(check_steps(problem, problem.solution.split("\n")))
    kinds = {p.meta["template"] for p in generate(400, split="test", **about)}
    assert kinds <= {t.id for t in templates() if t.split == "test"} and len(kinds) >= 19


def test_no_story_of_numbers_that_are_too_small_is_an_error():
    with pytest.raises(ValueError, match=r"largest=1: no story of level 3, levels .* have some"):
        generate(1, levels=[3], seed=0, largest=1)
    with pytest.raises(ValueError, match=r"split 'answers': no story of level 5, levels \[1, 2"):
        generate(1, levels=[5], seed=0, split="answers")


def test_a_longer_list_begins_with_the_shorter_and_holds_what_its_index_says():
    long = generate(12, seed=7, split="test")
    assert generate(5, seed=7, split="test") == long[:5]
    assert problem_at(9, levels=range(1, 7), seed=7, split="test") == long[9]
    assert long[3].id == "stories/test/7/3" and long[3].kind == "stories"
    assert {p.level for p in generate(20, levels=[2, 5], seed=0)} == {2, 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(levels=[0]), r"levels \[0\]: use levels from 1 to 6"),
        (dict(levels=[]), r"levels \[\]: use levels from 1 to 6"),
        (dict(split="dev"), "split 'dev': use one of train, validation, test, answers"),
    ],
)
def test_unknown_options_are_refused_with_what_would_be_accepted(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        generate(1, seed=0, **options)
    with pytest.raises(ValueError, match="not a stories question: 'What is 1"):
        explain(Problem("p", "stories", "What is 1 + 1?"), ["1 + 1 = 2"])


# -- other right solutions -------------------------------------------------------------------------


@examples
@given(problem=problems(2), rng=seeds)
def test_any_order_in_which_each_step_uses_earlier_ones_is_right(problem, rng):
    formulas, _ = told(problem)
    lines, left, order = dict(zip(formulas, gold(problem))), list(formulas), []
    while left:
        name = rng.choice([n for n in left if not used(formulas[n]) & set(left)])
        left.remove(name)
        order.append(lines[name])
    assert explain(problem, [*order, gold(problem)[-1]]) == [None] * (len(order) + 1)


@examples
@given(problems())
def test_swapped_operands_are_right_where_they_commute(problem):
    steps = [re.sub(r"^(\S+) ([+*]) (\S+) =", r"\3 \2 \1 =", step) for step in gold(problem)]
    assert all(check_steps(problem, steps))


@examples
@given(problem=problems(2), rng=seeds)
def test_merged_steps_are_right(problem, rng):
    """Some quantities are not stated: their formulas stand in brackets where they are used."""
    formulas, names = told(problem)
    *inner, asked = formulas
    kept = {name for name in inner if rng.random() < 0.4}

    def merged(tree):
        if isinstance(tree, tuple):
            return (tree[0], merged(tree[1]), merged(tree[2]))
        return merged(formulas[tree]) if tree in formulas and tree not in kept else tree

    steps = [
        f"{say(merged(formulas[name]), names)} = {number_text(names[name])}"
        for name in formulas
        if name in kept or name == asked
    ]
    steps.append(gold(problem)[-1])
    assert explain(problem, steps) == [None] * len(steps)


@examples
@given(problem=problems(), rng=seeds)
def test_words_money_and_other_signs_around_an_equation_change_nothing(problem, rng):
    forms = (
        "So that is {} in all.", "{}.", "First, {} of them", "Total = {}", "({})", "**{}**",
        "She has {} left, of course", "2. {}", "- {}", "({} apples)", "{} (apples)", r"\({}\)",
    )  # fmt: skip
    steps = []
    for step in gold(problem)[:-1]:
        left, _, result = step.partition(" = ")
        said = rng.choice((step, f"{left} = ${result}", f"{result} = {left}", f"{left}={result}"))
        said = rng.choice(
            (
                said,
                said.replace("*", "×").replace(" - ", " − "),
                said.replace("*", "x"),
                said.replace("*", r"\times").replace("/", r"\div"),
                said.replace(" * ", r"\times").replace(" / ", r"\div"),
            )
        )
        steps.append(rng.choice(forms).format(said))
    endings = "The answer is {}.", "The answer is ${}", "So the answer is {} dollars.", "#### {}"
    steps.append(rng.choice((*endings, r"The answer is \boxed{{{}}}")).format(problem.answer))
    if rng.random() < 0.5:
        steps.insert(rng.randrange(len(steps) + 1), " ")  # a blank line
    assert explain(problem, steps) == [None] * len(steps)
    assert is_right(problem, Prefix.of(problem, steps, ended=True))


JACKET = (
    "A jacket is marked at $60. Hana has a voucher that takes 20% off the price. "
    "How many dollars does she pay?"
)
PENS = (
    "For the new term Hana buys 4 pens at $1.50 each and 3 pads at $4 each, and pays with a $100 "
    "note. How many dollars of change does she get?"
)


@pytest.mark.parametrize(
    ("question", "steps"),
    [
        (JACKET, "60 * 0.8 = 48"),
        (JACKET, "20% of 60 = 12; 60 - 12 = 48"),
        (JACKET, "100 - 20 = 80; 60 * 80 / 100 = 48"),
        (JACKET, "100% - 20% = 80%; 80% of $60 = $48"),
        (JACKET, "20 / 100 = 0.2; 60 * 0.2 = 12; 60 - 12 = 48"),
        (JACKET, "60 / 5 = 12; 60 - 12 = 48"),
        (JACKET, "60 * 20 = 1200; 1200 / 100 = 12; 60 - 12 = 48"),
        (JACKET, "60 * (1 - 0.2) = 60 * 0.8 = 48"),
        (PENS, "100 - 4 * 1.50 - 3 * 4 = 82"),
        (PENS, "4 * 1.5 = 6; 100 - 6 = 94; 3 x $4 = $12; $94 - $12 = $82"),
        (PENS, "4 * 1.5 + 3 * 4 = 6 + 12 = 18; 100 - 18 = 82"),
        (PENS, "4 pens x $1.50 = $6 and 3 pads x $4 = $12; 6 + 12 = 18 dollars; 100 - 18 = 82"),
    ],
)
def test_other_ways_to_the_answer_are_right(question, steps):
    problem, steps = Problem("p", "stories", question), steps.split("; ")
    steps.append(f"The answer is {max(values(read_equations(steps[-1])[-1].said[-1]))}")
    assert explain(problem, steps) == [None] * len(steps)


@pytest.mark.parametrize(
    ("question", "step"),
    [
        (JACKET, "12 * 4 = 48"),  # right results, wrong operands
        (JACKET, "16 * 5 = 80"),
        (JACKET, "60 - 20 + 8 = 48"),
        (PENS, "3 * 2 = 6"),
        (PENS, "90 - 8 = 82"),
        (PENS, "12 * 1 = 12"),
        (PENS, "4 * 4 = 16"),  # numbers of the question that do not belong together
        (PENS, "3 * 1.50 = 4.50"),
        (PENS, "4 + 3 = 7"),
        (PENS, "6 - 100 = -94"),
        (PENS, "100 * 1 = 100"),
    ],
)
def test_right_results_from_wrong_operands_are_wrong(question, step):
    assert check_steps(Problem("p", "stories", question), [step]) == [False]


def test_of_equal_numbers_either_reading_counts():
    question = (
        "{} buys 3 kilos of rice at $4 a kilo and 3 kilos of beans at $4 a kilo. "
        "How many dollars is that together?"
    ).format("Hana")
    problem = Problem("p", "stories", question)
    right = ["3 * 4 = 12", "4 * 3 = 12", "12 + 12 = 24", "The answer is 24"]
    assert explain(problem, right) == [None] * 4
    assert check_steps(problem, ["3 * 4 = 12", "12 + 3 * 4 = 24"]) == [True, True]
    assert kinds(problem, ["3 * 4 = 12"] * 3) == [None, None, "restated"]


# -- one fault in one step -------------------------------------------------------------------------


@examples
@given(problem=problems(), rng=seeds)
def test_a_wrong_result_is_an_arithmetic_slip_and_is_carried_on(problem, rng):
    formulas, names = told(problem)
    at = rng.randrange(len(formulas))
    hit = list(formulas)[at]
    false = dict(names)
    for i, (name, tree) in enumerate(formulas.items()):
        if i >= at:
            false[name] = compute(tree, false)
        if name == hit:
            false[name] += rng.choice((1, 2, 10))
    assume(all((value * 10**4) % 1 == 0 and value > 0 for value in false.values()))
    assume(
        all(false[name] not in names.values() for name in formulas if false[name] != names[name])
    )
    steps = [f"{say(tree, false)} = {number_text(false[name])}" for name, tree in formulas.items()]
    found = kinds(problem, steps)
    assert found[:at] == [None] * at and found[at] == "arithmetic slip"
    for name, kind in zip(list(formulas)[at + 1 :], found[at + 1 :]):
        rests = hit in stories.read_question(problem.question).needs(name)
        assert kind == ("wrong value carried" if rests else None)
    assert solvable(problem, steps[:at]) and not solvable(problem, steps[: at + 1])


@examples
@given(problem=problems(), rng=seeds)
def test_a_wrong_number_is_caught_where_it_stands(problem, rng):
    steps = gold(problem)[:-1]
    at = rng.randrange(len(steps))
    left = steps[at].partition(" = ")[0]
    number = rng.choice(list(NUMBER.finditer(left)))
    other = rng.choice((907, 911, 4999, 0.37))
    _, names = told(problem)
    assume(Fraction(other) not in names.values())
    left = f"{left[: number.start()]}{other}{left[number.end() :]}"
    (value,) = values(read_equations(f"{left} = 0")[0].tree)
    assume((value * 10**4) % 1 == 0)
    steps[at] = f"{left} = {number_text(value)}"
    assert kinds(problem, steps)[: at + 1] == [None] * at + ["wrong operands"]


@examples
@given(problem=problems(), rng=seeds)
def test_another_sign_is_wrong(problem, rng):
    steps = gold(problem)[:-1]
    at = rng.randrange(len(steps))
    left = steps[at].partition(" = ")[0]
    sign = rng.choice(list(re.finditer(r" [-+*/] ", left)))
    # a product of two numbers that are multiplied later on would be a right step of its own
    left = f"{left[: sign.start()]} {rng.choice('+-')} {left[sign.end() :]}"
    (value,) = values(read_equations(f"{left} = 0")[0].tree)
    # percentages and number words count by their value: of half taken or left either may be meant
    assume(not stories.read_question(problem.question).plain)
    known = told(problem)[1].values()  # of equal numbers either may be meant
    assume((value * 10**4) % 1 == 0 and value not in known and len(set(known)) == len(known))
    # 9 taller, then 16 shorter: that the first is 7 taller than the last is true, though not asked
    own = {Fraction(n) for n in NUMBER.findall(left)}
    told_apart = (b - a for a, b in permutations(known, 2) if {a, b} != own)
    assume(value not in told_apart)
    steps[at] = f"{left} = {number_text(value)}"
    assert check_steps(problem, steps)[: at + 1] == [True] * at + [False]


@examples
@given(problem=problems(2), rng=seeds)
def test_what_a_missing_step_leaves_out_is_not_yet_derivable(problem, rng):
    formulas, names = told(problem)
    missing = rng.choice(list(formulas)[:-1])
    others = [value for name, value in names.items() if name != missing]
    assume(names[missing] not in others)
    lines = dict(zip(formulas, gold(problem)))
    steps = [line for name, line in lines.items() if name != missing]
    found = kinds(problem, steps)
    for (name, tree), kind in zip(((n, t) for n, t in formulas.items() if n != missing), found):
        assert kind == ("not yet derivable" if missing in used(tree) else None), name
    assert solvable(problem, steps)


@examples
@given(problem=problems(), rng=seeds)
def test_saying_a_step_again_is_restating(problem, rng):
    steps = gold(problem)
    at = rng.randrange(len(steps) - 1)
    again = rng.randint(at + 1, len(steps) - 1)
    steps.insert(again, steps[at])
    _, names = told(problem)
    assume(len(set(names.values())) == len(names))
    assert kinds(problem, steps) == [None] * again + ["restated"] + [None] * (
        len(steps) - again - 1
    )


@examples
@given(problem=problems(), other=st.integers(0, 999))
def test_a_wrong_answer_line_is_wrong_and_ends_the_solution(problem, other):
    assume(other != Fraction(problem.answer))
    steps = [*gold(problem)[:-1], f"The answer is {other}", "1 + 1 = 2"]
    assert kinds(problem, steps)[-2:] == ["wrong answer line", "after the answer"]
    assert all(check_steps(problem, steps)[:-2]) and not solvable(problem, steps)
    assert kinds(problem, gold(problem)[-1:]) == ["not yet derivable"]


@settings(max_examples=150, deadline=None)
@given(
    problem=problems(),
    steps=st.lists(
        st.text(max_size=60) | st.text("0123456789+-*/=()%.,$ x", max_size=60), max_size=4
    ),
)
def test_hostile_steps_never_raise(problem, steps):
    reasons = explain(problem, steps)
    assert len(reasons) == len(steps)
    assert all(reason is None or reason.split(":")[0] in STORY_FAULTS for reason in reasons)
    solvable(problem, steps)


def test_a_false_equation_is_not_hidden_by_a_true_one_beside_it():
    for false in (
        r"\text{22 - 14 = 9}.",
        "22 - 14 = 9 (pens)",
        r"\(22 - 14 = 9\)",
        "(22 - 14 = 9 pens)",
    ):
        assert not check_steps(Problem("p", "stories", PENS), [f"{false} and 4 * 1.50 = 6"])[0]


def test_a_wrong_answer_in_any_words_is_wrong_for_good():
    problem = generate(1, levels=[2], seed=3)[0]
    steps = [*gold(problem)[:-1], "So the answer is 987654 apples."]
    assert not check_steps(problem, steps)[-1] and not solvable(problem, steps)


@pytest.mark.parametrize(
    "step",
    [
        "=", "= 5", "5 = 5", "4 * = 6", "1/0 = 0", "4 ** 2 = 16", "4 // 2 = 2", "(" * 500,
        "1+" * 150 + "1 = 151", "9" * 1000 + " + 1 = 0", "٣ + ٤ = ٧", "So we add them up.",
        "((((4 * 1.50 = 6", "4 * 1.50", "\x00 + 1 = 2", "- - - = - -", "0 / 0 = 0",
    ],
)  # fmt: skip
def test_what_is_no_right_equation_is_wrong(step):
    assert check_steps(Problem("p", "stories", PENS), [step]) == [False]


# -- words -----------------------------------------------------------------------------------------


def test_the_faults_in_words():
    question = (
        "Hana had 22 apples. She ate 4 of them and packed the rest into bags of 6. "
        "How many bags did she fill?"
    )
    problem = Problem("p", "stories", question, "3")
    steps = {
        "She has eaten some": "malformed: no equation such as '22 - 14 = 8'",
        "18 / 6 = 3": "not yet derivable: no step has stated 22 - 4",
        "22 - 4 = 19": "arithmetic slip: 22 - 4 is 18, not 19",
        "22 - 4 = 18": "restated: 22 - 4 stands at 19 already",
        "The answer is 4": "wrong answer line: the answer is 3, not 4",
        "bye": "after the answer: the solution had ended",
    }
    assert explain(problem, list(steps)) == list(steps.values())
    wrong = {
        "22 - 6 = 16": "wrong operands: need 22 - 4, not 22 - 6",
        "16 / 6 = 2.67": "wrong value carried: 22 - 4 is 18, not 16",
        "The answer is 3": "wrong answer line: 2.67 was derived",
    }
    assert explain(problem, list(wrong)) == list(wrong.values())


@pytest.mark.parametrize(
    ("step", "over"),
    [
        ("The answer is 3", True),
        ("The answer is 3.", True),
        ("The answer is $1,204.50 .", True),
        ("The answer is 40%", True),
        ("So the answer is 3 pens.", True),
        (r"It is \boxed{3}", True),
        ("The answer is 22 - 4 = 18 dollars in all", True),
        ("She answers 3 questions", False),
        ("To find the answer, we need: 22 - 14 = 8 pens left", False),
        ("The answer to the first question is 8 pens", False),
        ("The answer is three", False),
        ("The answer is 3 or 4", False),
        ("22 - 4 = 18", False),
    ],
)
def test_answer_lines(step, over):
    assert states_answer(Problem("p", "stories", PENS), step) == over


def test_another_question_is_judged_by_its_solution():
    solution = "20 - 8 = 12\n12 / 3 = 4\n4 * 100 = 400\nThe answer is 400"
    question = "Of 20 metres 8 are cut off, the rest into 3. How many centimetres is each?"
    problem = Problem("p", "stories", question, "400", solution)
    assert check_steps(problem, ["(20 - 8) / 3 * 100 = 400", "The answer is 400"]) == [True, True]
    assert check_steps(problem, ["20 - 3 = 17"]) == [False]
    assert kinds(problem, ["12 / 3 = 4"]) == ["not yet derivable"]
    with pytest.raises(ValueError, match="no equation in the solution 'so 5'"):
        explain(Problem("p", "stories", "How?", "5", "so 5"), ["1 + 4 = 5"])


def test_written_and_read_again_is_the_same():
    for place in range(0, len(templates()), 5):
        for line in gold(story(place, 3))[:-1]:
            (equation,) = read_equations(line)
            assert f"{tree_text(equation.tree)} = {tree_text(equation.said[0])}" == line
