"""The list of word problems: seeded and indexable, as levelled and as told, and no problem in two
splits."""

import random
import re
from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.problems.quantities import (
    ITEMS,
    LEVELS,
    NAMES,
    SPLITS,
    check_steps,
    generate,
    problem_at,
    read_question,
    rephrase,
    signature,
)  # fmt: skip
from workbench.types import Problem

indices = st.integers(0, 10**9)
levels = st.sampled_from(LEVELS)


@cache
def sample(split="train", n=1500, seed=3, **options):
    return generate(n, split=split, seed=seed, levels=LEVELS, **options)


def one(level, index, **options):
    return problem_at(index, **dict(levels=[level], seed=0, split="train") | options)


def sentences(problem):
    head, tail = problem.question.split("? ")
    return head, tail.removesuffix(".").split(". ")


def told(head, facts):
    return Problem("p", "quantities", f"{head}? {' '.join(fact + '.' for fact in facts)}")


def usable(story):
    """Does each sentence use only earlier ones?"""
    seen = set()
    return all(
        seen.issuperset(fact.of) and not seen.add(name) for name, fact in story.facts.items()
    )


# -- the list --------------------------------------------------------------------------------------


def test_a_longer_list_begins_with_the_shorter_and_holds_what_its_index_says():
    long = generate(30, seed=7, split="test")
    assert generate(10, seed=7, split="test") == long[:10]
    backwards = [
        problem_at(i, levels=range(2, 8), seed=7, split="test") for i in reversed(range(30))
    ]
    assert backwards[::-1] == long
    assert len({problem.id for problem in long}) == 30


def test_another_seed_or_split_brings_other_problems():
    questions = [
        {p.question for p in generate(50, seed=s, split=split)} for s in (1, 2) for split in SPLITS
    ]
    assert len(set.union(*questions)) == 300


def test_problems_hardly_repeat():
    long = [signature(problem) for problem in sample() if problem.level > 2]
    assert len(set(long)) > 0.99 * len(long)


def test_levels_and_distractors_are_drawn_uniformly(read):
    counts = Counter(problem.level for problem in sample())
    assert set(counts) == set(LEVELS) and max(counts.values()) < 1.4 * min(counts.values())
    idle = Counter()
    for problem in sample():
        story = read(problem)
        idle[len(story.facts) - len(story.needs(story.asked))] += 1
    assert set(idle) == {0, 1, 2} and max(idle.values()) < 1.25 * min(idle.values())


@settings(deadline=None)
@given(level=levels, index=indices, extra=st.integers(0, 2))
def test_level_counts_the_steps_and_distractors_are_what_the_answer_does_not_need(
    level, index, extra, read
):
    problem = one(level, index, distractors=[extra])
    story = read(problem)
    needed = story.needs(story.asked)
    assert (
        len(needed & set(story.derived))
        == level
        == problem.level
        == len(problem.solution.split("\n")) - 1
    )
    assert len(story.facts) - len(needed) == extra


@settings(deadline=None)
@given(level=levels, index=indices)
def test_every_value_is_from_1_to_199_and_the_answer_is_what_the_question_asks(level, index, read):
    problem = one(level, index)
    story = read(problem)
    assert all(1 <= fact.value <= 199 for fact in story.facts.values())
    assert problem.answer == str(story.answer)
    assert problem.solution.endswith(f"\nThe answer is {story.answer} .")


def test_all_relations_occur_and_graphs_branch_join_and_share(read):
    relations, joins, shared = Counter(), 0, 0
    for problem in sample():
        story = read(problem)
        relations.update(fact.relation for fact in story.facts.values() if fact.sign)
        used = Counter(name for n in story.needs(story.asked) for name in story.facts[n].of)
        joins += any(
            sum(story.facts[o].sign is not None for o in f.of) == 2 for f in story.facts.values()
        )
        shared += max(used.values()) > 1
    assert set(relations) == {"more", "fewer", "times", "together", "difference"}
    assert min(relations.values()) > 0.1 * relations.total()
    assert joins > 0.2 * len(sample()) and shared > 0.1 * len(sample())


# -- the order of the sentences --------------------------------------------------------------------


def test_unshuffled_sentences_use_only_earlier_ones(read):
    assert all(usable(read(problem)) for problem in sample(shuffled=0))


def test_shuffling_changes_the_order_of_the_sentences_and_nothing_else():
    for plain, shuffled in zip(sample(shuffled=0), sample(shuffled=1)):
        (head, facts), (other_head, other_facts) = sentences(plain), sentences(shuffled)
        assert head == other_head and sorted(facts) == sorted(other_facts)
        assert sorted(plain.solution.split("\n")) == sorted(shuffled.solution.split("\n"))


def test_a_random_order_is_uniform(read):
    # the answer's sentence may come first
    first = [sentences(p)[1][0] for p in sample(shuffled=1) if p.level >= 4]
    asked = [p.question.split()[4] for p in sample(shuffled=1) if p.level >= 4]
    expected = sum(1 / len(sentences(p)[1]) for p in sample(shuffled=1) if p.level >= 4)
    assert sum(f.startswith(a) for f, a in zip(first, asked)) == pytest.approx(expected, rel=0.3)
    assert not any(usable(read(p)) for p in sample(shuffled=1)[:200] if p.level == 8)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.8])
def test_shuffled_is_the_share_of_problems_in_random_order(share):
    moved = [
        p.question != q.question
        for p, q in zip(sample(shuffled=0), sample(shuffled=share))
        if p.level >= 4
    ]
    assert sum(moved) / len(moved) == pytest.approx(share, abs=0.05)


# -- splits ----------------------------------------------------------------------------------------


def graph(story):
    """What the answer computes, with neither names nor order in it: equal for two problems iff only
    those differ."""

    def of(name):
        fact = story.facts[name]
        return (
            fact.relation,
            fact.number if fact.of else fact.value,
            tuple(sorted(of(other) for other in fact.of)),
        )

    return of(story.asked)


@pytest.mark.slow
def test_splits_share_no_graph_with_its_numbers(read):
    small = dict(levels=[1, 2, 3], distractors=[0])  # where problems collide most often
    graphs = {
        split: {graph(read(p)) for p in generate(3000, seed=11, split=split, **small)}
        for split in SPLITS
    }
    train, validation, test = graphs.values()
    assert not train & validation and not train & test and not validation & test
    again = {graph(read(p)) for p in generate(3000, seed=12, split="test", **small)}
    # so the numbers of problems are such that shared ones would show
    assert len(again & test) > 100


@pytest.mark.slow
def test_splits_share_no_signature_at_any_level():
    kept = [{signature(p) for p in sample(split)} for split in SPLITS]
    assert len(set.union(*kept)) == sum(map(len, kept))


def test_two_problems_have_one_signature_exactly_if_graph_and_numbers_are_one(read):
    pairs = {
        (signature(p), graph(read(p))) for p in generate(5000, seed=5, levels=[1, 2], split="train")
    }
    assert len(pairs) == len({s for s, _ in pairs}) == len({g for _, g in pairs})
    assert len(pairs) < 4000  # equal ones did occur


@settings(deadline=None)
@given(level=levels, index=indices, rng=st.integers().map(random.Random))
def test_the_signature_ignores_names_items_order_and_commuted_names(level, index, rng):
    problem = one(level, index)
    head, facts = sentences(problem)
    rng.shuffle(facts)
    facts = [re.sub(r"(\w+) and (\w+)", r"\2 and \1", fact) for fact in facts]
    new = dict(zip(NAMES, rng.sample(NAMES, len(NAMES)))) | {
        item: rng.choice(ITEMS) for item in ITEMS
    }
    head, *facts = (re.sub(r"\w+", lambda m: new.get(m[0], m[0]), text) for text in (head, *facts))
    assert signature(told(head, facts)) == signature(problem)


@settings(deadline=None)
@given(level=levels, index=indices)
def test_the_signature_ignores_what_the_answer_does_not_need(level, index, read):
    problem = one(level, index, distractors=[2])
    head, facts = sentences(problem)
    story = read(problem)
    kept = [fact for fact in facts if fact.split()[0] in story.needs(story.asked)]
    assert len(kept) == len(facts) - 2 and signature(told(head, kept)) == signature(problem)


@settings(deadline=None)
@given(level=levels, index=indices, rng=st.integers().map(random.Random))
def test_another_number_or_relation_changes_the_signature(level, index, rng, read):
    problem = one(level, index)
    head, facts = sentences(problem)
    story = read(problem)
    names = [name for name in story.needs(story.asked) if story.facts[name].number]
    name = rng.choice(sorted(names))
    i = next(i for i, fact in enumerate(facts) if fact.startswith(name))
    number = str(story.facts[name].number)
    raised = [*facts[:i], facts[i].replace(number, str(int(number) + 1)), *facts[i + 1 :]]
    assert signature(told(head, raised)) != signature(problem)
    if "more than" in facts[i]:
        swapped = [*facts[:i], facts[i].replace("more than", "times as many as"), *facts[i + 1 :]]
        assert signature(told(head, swapped)) != signature(problem)


def test_the_signature_tells_the_relations_apart():
    given_ = ["Ava has 5 coins", "Max has 3 coins"]
    last = [
        "3 more than Ava", "3 fewer than Ava", "3 times as many as Ava", "5 more than Max",
        "as many as Ava and Max together", "as many as the difference between Ava and Max",
    ]  # fmt: skip
    asked = [
        told("How many coins does Tess have", [*given_, f"Tess has {words}"]) for words in last
    ]
    assert len({signature(problem) for problem in asked}) == len(last)


# -- reading, and what is refused ------------------------------------------------------------------


def test_facts_may_stand_in_any_order_and_about_anybody():
    problem = told("How many coins does Tess have", ["Tess has 2 fewer than Bo", "Bo has 9 coins"])
    assert read_question(problem.question).answer == 7
    assert check_steps(
        problem, ["Tess has 2 fewer than Bo : 9 - 2 = 7 .", "The answer is 7 ."]
    ) == [True, True]


def test_a_difference_is_computed_larger_first_however_it_is_told():
    problem = told("How many coins does Tess have", [
        "Ava has 5 coins", "Max has 9 coins",
        "Tess has as many as the difference between Ava and Max",
    ])  # fmt: skip
    said = "Tess has as many as the difference between {} and {} : {} - {} = 4 ."
    steps = [
        said.format(*words)
        for words in [("Ava", "Max", 9, 5), ("Max", "Ava", 9, 5), ("Ava", "Max", 5, 9)]
    ]
    assert [check_steps(problem, [step]) for step in steps] == [[True], [True], [False]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(levels=[0]), r"levels \[0\]: use levels from 1 to 8"),
        (dict(levels=[2, 9]), r"levels \[2, 9\]: use levels from 1 to 8"),
        (dict(levels=[]), r"levels \[\]: use levels from 1 to 8"),
        (dict(split="dev"), "split 'dev': use one of train, validation, test"),
        (dict(distractors=[]), r"distractors \[\]: use numbers from 0 to 6"),
        (dict(distractors=[0, 16]), r"distractors \[0, 16\]: use numbers from 0 to 6"),
        (dict(distractors=[-1]), r"distractors \[-1\]: use numbers from 0 to 6"),
    ],
)
def test_unknown_options_are_refused_with_what_would_be_accepted(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        generate(1, seed=0, **options)


def test_the_most_distractors_fit_at_every_level(read):
    for level in LEVELS:
        story = read(one(level, 0, distractors=[6]))
        assert len(story.facts) - len(story.needs(story.asked)) == 6


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "not a quantities question: ''"),
        ("What is 2 + 2?", "not a quantities question"),
        ("What does t hold after these lines? t = 3.", "not a quantities question"),
        ("How many coins does Ava have? Ava has coins.", "no fact: 'Ava has coins'"),
        ("How many coins does Ava have? Ava has 3 coins. It rains.", "no fact: 'It rains'"),
        (f"How many coins does Ava have? Ava has {'9' * 5000} coins.", "no fact: 'Ava has 999"),
        ("How many coins does Ava have?", "asks for Ava: need one fact a name"),
        ("How many coins does Ava have? Max has 3 coins.", "asks for Ava: need one fact a name"),
        (
            "How many coins does Ava have? Ava has 3 coins. Ava has 4 coins.",
            "asks for Ava: need one fact a name",
        ),
        (
            "How many coins does Ava have? Ava has 3 more than Max.",
            "Ava's quantity cannot be derived",
        ),
        (
            "How many coins does Ava have? Ava has 3 more than Max. Max has 3 fewer than Ava.",
            "Ava's quantity cannot be derived",
        ),
    ],
)
def test_an_unreadable_question_is_refused_in_one_line(question, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_question(question)
    assert "\n" not in str(caught.value)


def test_rephrase_says_every_fact_once_more_in_another_order():
    problem = generate(1, levels=[6], seed=4)[0]
    facts = [s.strip() for s in problem.question.split("?")[1].split(".") if s.strip()]
    said = rephrase(problem, seed=1).split("\n")
    assert sorted(said) == sorted(f"{fact} ." for fact in facts) and said != [
        f"{fact} ." for fact in facts
    ]
    assert rephrase(problem, seed=1) == "\n".join(said) != rephrase(problem, seed=2)
