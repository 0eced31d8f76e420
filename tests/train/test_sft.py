"""Supervised fine-tuning: loss on solution tokens only, batches that lose nothing, and resuming bit
by bit."""

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.models.templates import TAUGHT, render
from workbench.models.tokenizer import build_tokenizer
from workbench.problems import programs, quantities
from workbench.train.learner import Learner
from workbench.train.loop import train
from workbench.train.sft import (
    IGNORE,
    RECIPE,
    Lesson,
    batch_of,
    batches,
    collate,
    curriculum,
    encode,
    next_token_loss,
    repeats,
)

TOKENIZER = build_tokenizer()
pytestmark = pytest.mark.usefixtures("one_thread")  # equal runs are compared to the last bit
PROBLEMS = quantities.generate(60, levels=range(1, 5), seed=1) + programs.generate(
    10, levels=[1, 2, 3], seed=1
)


def tiny(seed=0, tied=False):
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
            tie_word_embeddings=tied,
        )
    )  # fmt: skip


def learner(seed=0, dtype=torch.float32, tied=False, **recipe):
    return Learner(tiny(seed, tied), replace(RECIPE, **recipe), dtype=dtype)


def learn(run, rows, rate=1.0):
    """The loss of one update on rows."""
    return run.update([batch_of(rows, TOKENIZER.pad_token_id)], next_token_loss, rate)[0]


def data(n=None, **options):
    return batches(
        map(Lesson, PROBLEMS[:n]), TOKENIZER, **dict(batch_tokens=700, seed=3, chunk=32) | options
    )


def rows_of(problems, prompt="solve"):
    return encode(TOKENIZER, [Lesson(problem, prompt) for problem in problems])


# -- what carries loss -----------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", sorted(TAUGHT))
def test_a_row_is_prompt_solution_and_end(prompt):
    for problem, (ids, start) in zip(PROBLEMS, rows_of(PROBLEMS, prompt)):
        question = TOKENIZER(render(TAUGHT, prompt, problem)).input_ids
        assert ids[:start] == question
        assert TOKENIZER.decode(ids[start:-1]) == problem.solution
        assert ids[-1] == TOKENIZER.eos_token_id


def test_an_empty_text_is_what_is_taught_and_not_the_given_solution():
    ((ids, start),) = encode(TOKENIZER, [Lesson(PROBLEMS[0], text="")])
    assert ids[start:] == [TOKENIZER.eos_token_id]


def test_labels_are_the_next_token_exactly_where_it_belongs_to_solution_or_end():
    rows = rows_of(PROBLEMS)
    ids, labels = collate(rows, TOKENIZER.pad_token_id)
    for (row, start), read, asked in zip(rows, ids.tolist(), labels.tolist()):
        assert read == row + [TOKENIZER.pad_token_id] * (len(read) - len(row))
        # position of the token: token
        predicted = {t + 1: label for t, label in enumerate(asked) if label != IGNORE}
        assert predicted == {t: row[t] for t in range(start, len(row))}


@pytest.mark.parametrize("prompt", sorted(TAUGHT))
def test_the_loss_of_a_batch_is_the_mean_over_its_solution_tokens_by_another_route(prompt):
    some = PROBLEMS[:3] + PROBLEMS[-2:]
    model = tiny()
    total = count = 0.0
    for problem in some:  # one problem at a time, unpadded, labels shifted by transformers
        question = TOKENIZER(render(TAUGHT, prompt, problem)).input_ids
        solution = [*TOKENIZER(problem.solution).input_ids, TOKENIZER.eos_token_id]
        with torch.no_grad():
            loss = model(
                input_ids=torch.tensor([question + solution]),
                labels=torch.tensor([[-100] * len(question) + solution]),
            ).loss
        total, count = total + loss.item() * len(solution), count + len(solution)
    assert learn(learner(), rows_of(some, prompt), 0.0) == pytest.approx(total / count, rel=1e-5)


def test_padding_changes_neither_loss_nor_update():
    batch = batch_of(rows_of(PROBLEMS[:6]), TOKENIZER.pad_token_id)
    more = {"input_ids": TOKENIZER.pad_token_id, "labels": IGNORE}
    wider = {
        name: torch.cat([x, torch.full((len(x), 9), more[name])], 1)
        for name, x in batch.tensors.items()
    }
    plain, padded = learner(), learner()
    loss, _ = plain.update([batch], next_token_loss, 0.0)
    padded_loss, _ = padded.update([replace(batch, tensors=wider)], next_token_loss, 0.0)
    assert loss == pytest.approx(padded_loss, rel=1e-6)
    for name, weight in plain.master.weights.items():
        torch.testing.assert_close(
            weight.grad, padded.master.weights[name].grad, rtol=1e-4, atol=1e-7, msg=name
        )


# -- batches ---------------------------------------------------------------------------------------


def test_batches_hold_every_problem_exactly_once_and_count_right():
    seen = []
    for (batch,) in data():
        ids, labels = batch.tensors["input_ids"], batch.tensors["labels"]
        assert ids.shape == labels.shape and len(ids) == batch.rows
        assert batch.tokens == (ids != TOKENIZER.pad_token_id).sum()
        assert batch.terms == {"tokens": (labels != IGNORE).sum()}
        seen += [tuple(row[row != TOKENIZER.pad_token_id].tolist()) for row in ids]
    assert sorted(seen) == sorted(tuple(ids) for ids, _ in rows_of(PROBLEMS))


def test_batches_keep_to_their_size_and_waste_little_on_padding():
    shapes = [(x.tensors["input_ids"].numel(), x.tokens) for (x,) in data(chunk=70)]
    assert all(size <= 700 for size, _ in shapes)
    assert sum(tokens for _, tokens in shapes) > 0.9 * sum(size for size, _ in shapes)


def test_batches_are_determined_by_their_seed():
    def flat(**options):
        return [batch.tensors["input_ids"].tolist() for (batch,) in data(**options)]

    assert flat() == flat()
    assert flat() != flat(seed=4)


def test_batches_read_their_stream_no_further_than_a_chunk():
    read = []
    next(
        batches(
            (read.append(p) or Lesson(p) for p in PROBLEMS),
            TOKENIZER,
            batch_tokens=700,
            seed=0,
            chunk=16,
        )
    )
    assert len(read) <= 17


def test_repeats_say_everything_twice_and_ask_for_all_of_the_second_time_but_its_first_word():
    stream = repeats(TOKENIZER, batch_tokens=600, seed=3)
    lengths = set()
    for (batch,) in islice(stream, 20):
        ids, labels = batch.tensors["input_ids"], batch.tensors["labels"]
        assert batch.rows == 0 and ids.numel() <= 600
        assert batch.tokens == (ids != TOKENIZER.pad_token_id).sum()
        for read, asked in zip(ids.tolist(), labels.tolist()):
            read = [i for i in read if i != TOKENIZER.pad_token_id]
            at = [t for t, label in enumerate(asked) if label != IGNORE]
            n = len(at) + 1  # tokens said twice
            assert at == list(range(len(read) - n, len(read) - 1))
            assert [asked[t] for t in at] == read[-n + 1 :] == read[-2 * n :][1:n] and read[
                -n
            ] == read[-2 * n]
            assert len(set(read[-n:])) == n and min(read) >= TOKENIZER.convert_tokens_to_ids("0")
        lengths.add(n)
    assert min(lengths) >= 8 and max(lengths) <= 32 and len(lengths) > 5
    (one,), (again,) = (next(repeats(TOKENIZER, batch_tokens=600, seed=3)) for _ in range(2))
    assert again.tensors["input_ids"].equal(one.tensors["input_ids"])


def test_a_lesson_may_teach_another_text_than_the_solution():
    ((ids, start),) = encode(TOKENIZER, [Lesson(PROBLEMS[0], "rephrase", "Ava has 3 coins .")])
    assert TOKENIZER.decode(ids[start:-1]) == "Ava has 3 coins ." and TOKENIZER.decode(
        ids[:start]
    ).endswith("words : \n")


@pytest.mark.slow
def test_steps_are_parted_as_the_policy_that_is_taught_parts_them():
    lesson = Lesson(PROBLEMS[0], text="2 + 3 = 5 .\nThe answer is 5 .")
    (plain,), (blank,) = (encode(TOKENIZER, [lesson], separator=s) for s in ("\n", "\n\n"))
    (step,) = TOKENIZER("\n", add_special_tokens=False).input_ids
    ids, start = plain
    border = ids.index(step, start)
    assert blank == ([*ids[:border], step, *ids[border:]], start)


def test_the_curriculum_is_seeded_and_grows_in_level_and_order():
    lessons = list(islice(curriculum(1, ramp=1000), 3000))
    assert lessons[:200] == list(islice(curriculum(1, ramp=1000), 200))
    assert lessons[:200] != list(islice(curriculum(2, ramp=1000), 200))
    highest = [
        max(lesson.problem.level for lesson in lessons[i : i + 100]) for i in range(0, 1000, 100)
    ]
    assert (
        highest == sorted(highest)
        and highest[0] == 1
        and max(lesson.problem.level for lesson in lessons[1000:]) == 8
    )
    assert all(
        "/train/" in lesson.problem.id for lesson in lessons if lesson.problem.kind == "quantities"
    )

    def share(prompt, part):
        return sum(lesson.prompt == prompt for lesson in part) / len(part)

    assert share("rephrase", lessons[:200]) == pytest.approx(0.26, abs=0.1)
    assert share("rephrase", lessons[1000:]) == pytest.approx(0.05, abs=0.015)
    assert share("hint", lessons[1000:]) == pytest.approx(0.1, abs=0.02)
    kinds = [lesson.problem.kind for lesson in lessons]
    assert kinds.count("programs") / len(kinds) == pytest.approx(0.05, abs=0.012)


# -- any tokenizer, any window ---------------------------------------------------------------------


class WithEnds:
    """The embedded tokenizer, which sets a beginning and an end around every text, unasked."""

    pad_token_id, eos_token_id = None, TOKENIZER.eos_token_id
    begin = TOKENIZER.convert_tokens_to_ids("<spare0>")

    def __call__(self, texts, add_special_tokens=True):
        rows = TOKENIZER(texts, add_special_tokens=False).input_ids
        if not add_special_tokens:
            return SimpleNamespace(input_ids=rows)
        if isinstance(texts, str):
            return SimpleNamespace(input_ids=[self.begin, *rows, self.eos_token_id])
        return SimpleNamespace(input_ids=[[self.begin, *ids, self.eos_token_id] for ids in rows])


def test_a_tokenizers_own_begin_and_end_stand_at_the_ends_of_a_row_alone():
    plain, framed = (encode(t, list(map(Lesson, PROBLEMS))) for t in (TOKENIZER, WithEnds()))
    assert framed == [([WithEnds.begin, *ids], start + 1) for ids, start in plain]


def test_without_padding_rows_are_filled_with_the_end_and_learn_nothing_from_it():
    (batch,) = next(batches(map(Lesson, PROBLEMS), WithEnds(), batch_tokens=10**6, seed=0))
    rows = encode(WithEnds(), list(map(Lesson, PROBLEMS)))
    assert batch.terms["tokens"] == sum(len(ids) - start for ids, start in rows)
    assert batch.tensors["input_ids"].min() >= 0


def test_rows_beyond_the_window_are_left_out_counted_and_named():
    lengths = sorted(len(ids) for ids, _ in rows_of(PROBLEMS))
    longest = lengths[-3]  # two rows are longer
    with pytest.warns(UserWarning, match=f"2 of {len(PROBLEMS)} lessons lie beyond the {longest}"):
        kept = list(data(chunk=100, longest=longest))
    assert sum(batch.rows for (batch,) in kept) == len(PROBLEMS) - 2
    with pytest.raises(ValueError, match=f"none of {len(PROBLEMS)} lessons to learn from"):
        list(data(chunk=100, longest=3))


# -- training --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_the_loss_falls_on_a_few_problems(tied):
    run, rows = learner(tied=tied), rows_of(PROBLEMS[:2])
    losses = [learn(run, rows) for _ in range(110)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_is_trained_once_and_the_model_computes_with_it(tied):
    run = learner(dtype=torch.bfloat16, tied=tied)
    before = {name: weight.detach().clone() for name, weight in run.master.weights.items()}
    learn(run, rows_of(PROBLEMS[:4]))
    for name, p in run.model.named_parameters():
        assert p.dtype == torch.bfloat16 and run.master.weights[name].dtype == torch.float32
        assert not torch.equal(run.master.weights[name], before[name]), name
        assert torch.equal(p, run.master.weights[name].bfloat16()), name
    groups = [group["params"] for optimizer in run.optimizers for group in optimizer.param_groups]
    trained = [id(weight) for group in groups for weight in group]
    assert sorted(trained) == sorted(map(id, run.master.weights.values()))
    embeddings, vectors, matrices = groups  # Muon is for what lies between embedding and head
    assert len(embeddings) == (1 if tied else 2) and {w.ndim for w in vectors} == {1}
    assert {w.ndim for w in matrices} == {2}


def test_an_update_at_rate_zero_changes_nothing():
    run, rows = learner(), rows_of(PROBLEMS[:4])
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    assert learn(run, rows, 0.0) == learn(run, rows, 0.0)
    assert all(torch.equal(p, before[name]) for name, p in run.model.named_parameters())


def test_the_rate_reaches_both_optimisers():
    run = learner(matrix_rate=0.02, learning_rate=0.003, vector_rate=0.004)
    learn(run, rows_of(PROBLEMS[:2]), 0.5)
    rates = [group["lr"] for optimizer in run.optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx([0.0015, 0.002, 0.01])


def test_data_that_ends_too_early_is_named():
    with pytest.raises(ValueError, match="the data ended after"):
        list(train(learner(), data(4), next_token_loss, until=10**9))


# -- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_run_is_equal_to_an_uninterrupted_one_to_the_last_bit(dtype, tmp_path):
    options = dict(warmup=3, decay=0.9)
    whole, begun = (learner(dtype=dtype, **options) for _ in range(2))
    rows = list(islice(train(whole, data(), next_token_loss, until=10_000), 6))
    first = list(islice(train(begun, data(), next_token_loss, until=10_000), 3))
    begun.save(tmp_path / "run.pt")
    resumed = learner(seed=1, dtype=dtype, **options)  # other weights until it loads
    resumed.load(tmp_path / "run.pt")
    assert resumed.done == begun.done
    rest = islice(data(), resumed.done.updates, None)
    assert first + list(islice(train(resumed, rest, next_token_loss, until=10_000), 3)) == rows
    for name, weight in whole.master.weights.items():
        assert torch.equal(weight, resumed.master.weights[name]), name
    for p, q in zip(whole.model.parameters(), resumed.model.parameters()):
        assert torch.equal(p, q)


def test_a_half_written_checkpoint_never_takes_the_place_of_a_whole_one(tmp_path, monkeypatch):
    run = learner()
    learn(run, rows_of(PROBLEMS[:2]))
    run.save(tmp_path / "run.pt", seed=5, note="short")

    def breaks_off(state, path):
        path.write_bytes(b"PK half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", breaks_off)
    learn(run, rows_of(PROBLEMS[:2]))
    with pytest.raises(OSError, match="no space"):
        run.save(tmp_path / "run.pt")
    other = learner(seed=1)
    assert other.load(tmp_path / "run.pt") == {"seed": 5, "note": "short"}
    assert other.done.updates == 1
