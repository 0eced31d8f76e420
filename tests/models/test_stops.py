"""Separators and stop texts of several tokens: found where they end, whatever the tokens are."""

import numpy as np
import pytest
from hosts import host_tokenizer
from tiny import TOKENIZER, tiny_model

from workbench.models.policy import HFPolicy
from workbench.models.stops import BLANK_LINE, NUMBERED, stops_at
from workbench.types import Prefix, Problem, Step

LETTERS = host_tokenizer("qwen3")  # a letter a token, but for two newlines
WORDS = LETTERS.batch_decode([[i] for i in range(len(LETTERS))])
ONE = Problem("one", "math", "How many ?")


def ids_of(text):
    return LETTERS(text, add_special_tokens=False).input_ids


def ends_in(text, separators):
    """After how many letters (of others than ASCII: bytes) a separator is complete."""
    stops = stops_at(LETTERS, WORDS, np.zeros(len(LETTERS), bool), separators)
    ids = [i for letter in text for i in LETTERS.convert_tokens_to_ids(LETTERS.tokenize(letter))]
    return [i for i in range(1, len(ids) + 1) if stops.over(ids[:i])]


@pytest.mark.parametrize(
    ("text", "separators", "found"),
    [
        ("a\nb\n", ["\n"], [2, 4]),
        ("a\nb\n\nc", [BLANK_LINE], [5]),
        ("a\n\n\n\nb", [BLANK_LINE], [3, 5]),
        ("x\nStep 2: y\nStep 13: z\nStep: no", [NUMBERED], [9, 20]),
        ("a\nQuestion: b\n", ["\nQuestion:", "\n"], [2, 11, 14]),
        ("a Question: b", ["\nQuestion:"], []),
        # letters of several tokens, by bytes
        ("二。好。", ["。"], [6, 12]),
        ("a\nВопрос: b", ["\nВопрос:"], [15]),
    ],
)
def test_a_text_is_complete_with_its_last_letter(text, separators, found):
    assert ends_in(text, separators) == found


def test_a_separator_of_one_letter_needs_no_looking_back():
    stops = stops_at(LETTERS, WORDS, np.zeros(len(LETTERS), bool), ["\n"])
    assert stops.maybe is None
    assert {WORDS[i] for i in np.flatnonzero(stops.sure)} == {"\n", "\n\n"}


def writer(**options):
    """A policy that reads and writes letters."""
    model = tiny_model("llama")
    model.resize_token_embeddings(len(LETTERS))
    model.generation_config.eos_token_id = LETTERS.eos_token_id
    return HFPolicy(model, LETTERS, templates={"solve": "{question}\n"}, **options)


@pytest.mark.parametrize(
    ("separator", "text", "steps"),
    [
        (
            BLANK_LINE,
            "2 + 3 = 5\nso far\n\nThe answer is 5",
            ["2 + 3 = 5\nso far", "The answer is 5"],
        ),
        (NUMBERED, " 2 + 3 = 5\nso\nStep 2: The answer is 5", ["2 + 3 = 5\nso", "The answer is 5"]),
    ],
)
def test_steps_are_cut_after_the_separator_and_their_texts_are_bare(separator, text, steps):
    policy, said = writer(separator=separator), [*ids_of(text), LETTERS.eos_token_id]
    whole = policy.written(ONE, said)
    assert [*whole.texts] == steps and list(whole.ids) == said and whole.stop == "end"
    again = Prefix.of(ONE, whole.texts[:1])  # as text it is read as it was written
    (context, _) = policy._context(again, "solve")
    (own, _) = policy._context(Prefix(ONE, whole.steps[:1]), "solve")
    assert context.ids == own.ids


def test_a_stop_text_ends_the_solution_also_across_steps():
    ids = ids_of("so 5\nQuestion:")
    whole = writer(stop=["\nQuestion:"]).written(ONE, ids)
    assert whole.stop == "end" and whole.ids == tuple(ids) and whole.texts[0] == "so 5"


def test_a_step_that_came_as_text_is_looked_back_into_as_one_that_was_sampled():
    policy = writer(stop=["\nQuestion:"])
    sampled = Prefix(ONE, (Step("2 + 3 = 5", tuple(ids_of("2 + 3 = 5\n"))),))
    befores = []
    policy.engine.run = lambda rows, **how: befores.extend(row.before for row in rows)
    policy.sample([sampled, Prefix.of(ONE, ["2 + 3 = 5"])], [1, 2])
    assert befores == [tuple(ids_of("2 + 3 = 5\n"))] * 2


def test_what_ends_a_turn_by_the_tokenizer_ends_it_whatever_the_checkpoint_says():
    policy = writer()
    policy.model.generation_config.eos_token_id = 7
    again = HFPolicy(policy.model, LETTERS, templates={"solve": "{question}\n"})
    assert again._stops["end"].sure[[7, LETTERS.eos_token_id]].all()


@pytest.mark.slow
def test_the_engine_stops_in_mid_batch_where_a_text_is_complete():
    policy = HFPolicy(tiny_model("llama"), TOKENIZER, separator="s s", max_tokens=30)
    stops, rows = policy._stops["step"], [Prefix(ONE)] * 64
    drawn = policy.sample(rows, range(64), until="step", temperature=1.5)
    for prefix in drawn:
        ids = list(prefix.ids)
        assert not any(stops.over(ids[:n]) for n in range(1, len(ids)))
        assert prefix.ended or stops.over(ids)
    assert sum(not prefix.ended for prefix in drawn) > 5
    wholes = policy.sample(rows, range(64), temperature=1.5)  # the same draws, and then more
    assert [w.steps[0].ids for w in wholes] == [prefix.steps[0].ids for prefix in drawn]
