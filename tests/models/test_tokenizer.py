"""The tokenizer of the embedded models: nothing unknown or lost, a token a digit, and the same
after loading."""

import re
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.models.templates import EMBEDDED, render
from workbench.models.tokenizer import build_tokenizer
from workbench.problems import programs, quantities
from workbench.problems.vocabulary import (
    BAD,
    END,
    GOOD,
    PAD,
    PAUSE,
    SPECIALS,
    STEP,
    UNKNOWN,
    vocabulary,
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def problem_of(kind, level, index):
    if kind == "programs":
        return programs.problem_at(index, levels=[level], seed=3)
    return quantities.problem_at(index, levels=[level], seed=3, split="validation")


problems = st.builds(
    problem_of,
    st.sampled_from(["quantities", "programs"]),
    st.integers(1, 6),
    st.integers(0, 10**9),
)
examples = settings(max_examples=60, deadline=None)


@examples
@given(problem=problems)
def test_a_solution_decodes_to_itself(problem, tokenizer):
    ids = tokenizer(problem.solution).input_ids
    assert tokenizer.decode(ids) == problem.solution
    assert tokenizer.unk_token_id not in ids


@examples
@given(problem=problems)
def test_each_step_decodes_to_itself_alone_and_steps_join_to_the_solution(problem, tokenizer):
    steps = [tokenizer(step).input_ids for step in problem.solution.split("\n")]
    assert [tokenizer.decode(ids) for ids in steps] == problem.solution.split("\n")
    step_id = tokenizer.convert_tokens_to_ids(STEP)
    joined = [i for ids in steps for i in [*ids, step_id]][:-1]
    assert joined == tokenizer(problem.solution).input_ids


def prompt_of(name, problem):
    """The prompt, with a solution in the place of every word that a method would bring."""
    fields = {field for _, field, *_ in Formatter().parse(EMBEDDED[name]) if field}
    words = dict.fromkeys(fields - {"question", "answer"}, problem.solution)
    return render(EMBEDDED, name, problem, words)


@examples
@given(problem=problems, prompt=st.sampled_from(sorted(EMBEDDED)))
def test_a_prompt_keeps_every_word_and_only_sets_its_punctuation_apart(problem, prompt, tokenizer):
    text = prompt_of(prompt, problem)
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    decoded = tokenizer.decode(ids)
    assert decoded.replace(" ", "") == text.replace(" ", "")
    assert decoded.split() == re.sub(r"([?.;,])", r" \1", text).split()
    assert tokenizer(decoded).input_ids == ids


@examples
@given(problem=problems, prompt=st.sampled_from(sorted(EMBEDDED)))
def test_prompt_and_solution_are_encoded_apart_as_together(problem, prompt, tokenizer):
    text = prompt_of(prompt, problem)
    apart = tokenizer(text).input_ids + tokenizer(problem.solution).input_ids
    assert tokenizer(text + problem.solution).input_ids == apart


@examples
@given(number=st.integers(0, 10**20))
def test_a_number_is_its_digits_and_comes_back(number, tokenizer):
    tokens = tokenizer.tokenize(f"= {number} .")
    assert [token.removeprefix("##") for token in tokens[1:-1]] == list(str(number))
    assert [token.startswith("##") for token in tokens[1:-1]] == [False] + [True] * (
        len(str(number)) - 1
    )
    assert tokenizer.decode(tokenizer(f"= {number} .").input_ids) == f"= {number} ."


@pytest.mark.parametrize(
    "text",
    [
        "Lena has 30 + 10 = 40 , not 42 .",
        "Lena has 5 more than Max : 30 + 10 = 42 .",
        "Step 3 is wrong : Lena has 7 fewer than Max , so it should be 17 - 7 = 10 .",
        "The value is not correct because it was said that Max has 3 times as many as Tess .",
        "Check : 3 + 4 = 7 . Yes",
        "No , the right value is 12 , therefore the answer should be 12 .",
        "What do we need to know First ?",
        "First we need to know : How many shells does Ava have ?",
        "so now we know : Ava has 9 shells .",
        "In other words : who has 3 more than Ava ?",
        "What does t hold after these lines ? a = 3 ; t = a * 2 .",
        "Hint : the answer is 12 , show the steps .",
        "The question asked : total of each , with 3 left .",
    ],
)
def test_hints_critiques_and_sub_questions_need_no_unknown_word_and_come_back(text, tokenizer):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(
        re.findall(r"[A-Z][a-z]+ has\b|\d|[^\s\d]+", text)
    )  # a token a word, a subject, a digit, a sign


def test_a_word_outside_the_vocabulary_is_one_unknown(tokenizer):
    assert tokenizer.tokenize("Ava has zebras .") == ["Ava has", UNKNOWN, "."]


def test_ids_are_the_order_of_the_vocabulary_and_no_token_is_listed_twice(tokenizer):
    tokens = vocabulary()
    assert len(tokenizer) == len(tokens) == len(set(tokens))
    assert tuple(tokenizer.convert_ids_to_tokens(range(len(tokens)))) == tokens
    assert set(quantities.NAMES) | set(quantities.ITEMS) | set(programs.VARIABLES) <= set(tokens)


def test_sixteen_ids_are_spare_and_each_special_token_is_one_id(tokenizer):
    assert sum(token.startswith("<spare") for token in vocabulary()) == 16
    for i, token in enumerate(SPECIALS):
        assert tokenizer(token).input_ids == [i]
    assert tokenizer.convert_ids_to_tokens([tokenizer.pad_token_id, tokenizer.eos_token_id]) == [
        PAD,
        END,
    ]


def test_label_tokens_occur_in_no_problem(tokenizer):
    labels = set(tokenizer.convert_tokens_to_ids([GOOD, BAD, PAUSE, PAD, END]))
    for problem in quantities.generate(200, seed=1, levels=quantities.LEVELS) + programs.generate(
        30, seed=1
    ):
        assert not labels & set(tokenizer(f"{problem.question}\n{problem.solution}").input_ids)


def test_decoding_may_leave_out_end_and_padding_but_never_the_ends_of_steps(tokenizer):
    ids = [*tokenizer("a = 3\nb = 4").input_ids, tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a = 3\nb = 4"


def test_a_saved_tokenizer_loads_as_an_auto_tokenizer_and_is_the_same(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert [loaded.pad_token, loaded.eos_token, loaded.unk_token] == [PAD, END, UNKNOWN]
    for problem in quantities.generate(50, seed=2) + programs.generate(10, seed=2):
        for text in (problem.question, problem.solution, f"{problem.question}\n{GOOD} <spare3>"):
            ids = tokenizer(text).input_ids
            assert loaded(text).input_ids == ids
            assert loaded.decode(ids) == tokenizer.decode(ids)
            assert loaded.decode(ids, skip_special_tokens=True) == tokenizer.decode(
                ids, skip_special_tokens=True
            )
