"""Supervised fine-tuning: loss on solution tokens only, batches that lose nothing, and resuming bit
by bit."""

from itertools import islice

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.models.templates import EMBEDDED, render
from workbench.models.tokenizer import build_tokenizer
from workbench.problems import programs, quantities
from workbench.train.sft import (
    IGNORE,
    Lesson,
    Recipe,
    Trainer,
    Update,
    batches,
    collate,
    curriculum,
    encode,
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
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=tied,
        )
    )  # fmt: skip


def trainer(seed=0, dtype=torch.float32, tied=False, **recipe):
    return Trainer(tiny(seed, tied), Recipe(**recipe), dtype=dtype)


def data(n=None, **options):
    return batches(
        map(Lesson, PROBLEMS[:n]), TOKENIZER, **dict(batch_tokens=700, seed=3, chunk=32) | options
    )


def rows_of(problems, prompt="solve"):
    return encode(TOKENIZER, [Lesson(problem, prompt) for problem in problems])


# -- what carries loss -----------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", sorted(EMBEDDED))
def test_a_row_is_prompt_solution_and_end(prompt):
    for problem, (ids, start) in zip(PROBLEMS, rows_of(PROBLEMS, prompt)):
        question = TOKENIZER(render(EMBEDDED, prompt, problem)).input_ids
        assert ids[:start] == question
        assert TOKENIZER.decode(ids[start:-1]) == problem.solution
        assert ids[-1] == TOKENIZER.eos_token_id


def test_labels_are_the_next_token_exactly_where_it_belongs_to_solution_or_end():
    rows = rows_of(PROBLEMS)
    ids, labels = collate(rows, TOKENIZER.pad_token_id)
    for (row, start), read, asked in zip(rows, ids.tolist(), labels.tolist()):
        assert read == row + [TOKENIZER.pad_token_id] * (len(read) - len(row))
        # position of the token: token
        predicted = {t + 1: label for t, label in enumerate(asked) if label != IGNORE}
        assert predicted == {t: row[t] for t in range(start, len(row))}


@pytest.mark.parametrize("prompt", sorted(EMBEDDED))
def test_the_loss_of_a_batch_is_the_mean_over_its_solution_tokens_by_another_route(prompt):
    some = PROBLEMS[:3] + PROBLEMS[-2:]
    model = tiny()
    total = count = 0.0
    for problem in some:  # one problem at a time, unpadded, labels shifted by transformers
        question = TOKENIZER(render(EMBEDDED, prompt, problem)).input_ids
        solution = [*TOKENIZER(problem.solution).input_ids, TOKENIZER.eos_token_id]
        with torch.no_grad():
            loss = model(
                input_ids=torch.tensor([question + solution]),
                labels=torch.tensor([[-100] * len(question) + solution]),
            ).loss
        total, count = total + loss.item() * len(solution), count + len(solution)
    ids, labels = collate(rows_of(some, prompt), TOKENIZER.pad_token_id)
    assert trainer().update(ids, labels, lr=0.0) == pytest.approx(total / count, rel=1e-5)


def test_padding_changes_neither_loss_nor_update():
    ids, labels = collate(rows_of(PROBLEMS[:6]), TOKENIZER.pad_token_id)
    width = (len(ids), 9)
    more_ids = torch.cat([ids, torch.full(width, TOKENIZER.pad_token_id)], 1)
    more_labels = torch.cat([labels, torch.full(width, IGNORE)], 1)
    plain, padded = trainer(), trainer()
    loss, padded_loss = (
        plain.update(ids, labels, lr=0.0),
        padded.update(more_ids, more_labels, lr=0.0),
    )
    assert loss == pytest.approx(padded_loss, rel=1e-6)
    for name, weight in plain.master.weights.items():
        torch.testing.assert_close(
            weight.grad, padded.master.weights[name].grad, rtol=1e-4, atol=1e-7, msg=name
        )


# -- batches ---------------------------------------------------------------------------------------


def test_batches_hold_every_problem_exactly_once_and_count_right():
    seen = []
    for ids, labels, tokens, problems in data():
        assert ids.shape == labels.shape and len(ids) == problems
        assert tokens == (ids != TOKENIZER.pad_token_id).sum()
        seen += [tuple(row[row != TOKENIZER.pad_token_id].tolist()) for row in ids]
    assert sorted(seen) == sorted(tuple(ids) for ids, _ in rows_of(PROBLEMS))


def test_batches_keep_to_their_size_and_waste_little_on_padding():
    shapes = [(ids.numel(), tokens) for ids, _, tokens, _ in data(chunk=70)]
    assert all(size <= 700 for size, _ in shapes)
    assert sum(tokens for _, tokens in shapes) > 0.9 * sum(size for size, _ in shapes)


def test_batches_are_determined_by_their_seed():
    def flat(**options):
        return [ids.tolist() for ids, *_ in data(**options)]

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
    for ids, labels, tokens, problems in islice(stream, 20):
        assert (
            problems == 0 and ids.numel() <= 600 and tokens == (ids != TOKENIZER.pad_token_id).sum()
        )
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
    again = next(repeats(TOKENIZER, batch_tokens=600, seed=3))[0]
    assert again.equal(next(repeats(TOKENIZER, batch_tokens=600, seed=3))[0])


def test_a_lesson_may_teach_another_text_than_the_solution():
    ((ids, start),) = encode(TOKENIZER, [Lesson(PROBLEMS[0], "rephrase", "Ava has 3 coins .")])
    assert TOKENIZER.decode(ids[start:-1]) == "Ava has 3 coins ." and TOKENIZER.decode(
        ids[:start]
    ).endswith("words : \n")


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


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_the_loss_falls_on_a_few_problems(tied):
    run = trainer(warmup_updates=5, tied=tied)
    ids, labels = collate(rows_of(PROBLEMS[:4]), TOKENIZER.pad_token_id)
    losses = [run.update(ids, labels, lr=1.0) for _ in range(120)]
    assert losses[-1] < 0.1 * losses[0]


def test_every_weight_is_trained_and_the_model_computes_with_it():
    run = trainer(dtype=torch.bfloat16)
    before = {name: weight.detach().clone() for name, weight in run.master.weights.items()}
    ids, labels = collate(rows_of(PROBLEMS[:4]), TOKENIZER.pad_token_id)
    run.update(ids, labels, lr=1.0)
    for name, p in run.model.named_parameters():
        assert p.dtype == torch.bfloat16 and run.master.weights[name].dtype == torch.float32
        assert not torch.equal(run.master.weights[name], before[name]), name
        assert torch.equal(p, run.master.weights[name].bfloat16()), name
    trained = [
        id(p)
        for optimizer in run.optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    assert sorted(trained) == sorted(map(id, run.master.weights.values()))


def test_an_update_at_rate_zero_changes_nothing():
    run = trainer()
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    ids, labels = collate(rows_of(PROBLEMS[:4]), TOKENIZER.pad_token_id)
    assert run.update(ids, labels, lr=0.0) == run.update(ids, labels, lr=0.0)
    assert all(torch.equal(p, before[name]) for name, p in run.model.named_parameters())


def test_the_rate_warms_up_stays_and_falls_straight_to_zero(monkeypatch):
    run = trainer(warmup_updates=4)
    seen = []
    monkeypatch.setattr(run, "update", lambda ids, labels, lr: seen.append(lr) or 0.0)
    one = torch.zeros(1, 1, dtype=torch.long)
    updates = list(run.train([(one, one, 100, 1)] * 20, until=1000, decay_from=600))
    assert seen == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert [u.lr for u in updates] == seen
    assert updates[-1] == Update(10, 1000, 10, 0.0, seen[-1])


def test_the_rate_reaches_both_optimisers():
    run = trainer(matrix_lr=0.02, other_lr=0.003)
    ids, labels = collate(rows_of(PROBLEMS[:2]), TOKENIZER.pad_token_id)
    run.update(ids, labels, lr=0.5)
    assert [group["lr"] for o in run.optimizers for group in o.param_groups] == pytest.approx(
        [0.01, 0.0015]
    )


def test_data_that_ends_too_early_is_named():
    with pytest.raises(ValueError, match="the data ended after"):
        list(trainer().train(data(), until=10**9))


def test_an_update_reports_how_far_the_run_has_come():
    run, whole = trainer(), list(data())
    updates = list(run.train(iter(whole), until=sum(tokens for *_, tokens, _ in whole)))
    assert [u.updates for u in updates] == list(range(1, len(whole) + 1))
    assert updates[-1].problems == len(PROBLEMS) and run.done == updates[-1]


# -- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_run_is_equal_to_an_uninterrupted_one_to_the_last_bit(dtype, tmp_path):
    whole = trainer(dtype=dtype, warmup_updates=3)
    losses = [u for u in islice(whole.train(data(), until=10**6, decay_from=1000), 8)]

    begun = trainer(dtype=dtype, warmup_updates=3)
    first = list(islice(begun.train(data(), until=10**6, decay_from=1000), 4))
    begun.save(tmp_path / "run.pt")
    resumed = trainer(seed=1, dtype=dtype, warmup_updates=3)  # other weights until it loads
    resumed.load(tmp_path / "run.pt")
    assert resumed.done == begun.done
    rest = islice(data(), resumed.done.updates, None)
    assert first + list(islice(resumed.train(rest, until=10**6, decay_from=1000), 4)) == losses
    for name, weight in whole.master.weights.items():
        assert torch.equal(weight, resumed.master.weights[name]), name
    for p, q in zip(whole.model.parameters(), resumed.model.parameters()):
        assert torch.equal(p, q)


def test_a_checkpoint_holds_plain_values_only_and_extra_ones_too(tmp_path):
    run = trainer()
    list(islice(run.train(data(), until=10**6), 1))
    run.save(tmp_path / "run.pt", seed=5, note="short")
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert (state["seed"], state["note"], state["done"]["updates"]) == (5, "short", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_half_written_checkpoint_never_takes_the_place_of_a_whole_one(tmp_path, monkeypatch):
    run = trainer()
    list(islice(run.train(data(), until=10**6), 1))
    run.save(tmp_path / "run.pt")

    def breaks_off(state, path):
        path.write_bytes(b"PK half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", breaks_off)
    list(islice(run.train(data(), until=10**6), 1))
    with pytest.raises(OSError, match="no space"):
        run.save(tmp_path / "run.pt")
    other = trainer(seed=1)
    other.load(tmp_path / "run.pt")
    assert other.done.updates == 1
