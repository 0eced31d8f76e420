"""The training loop: exact accumulation, schedule, measures along the way, and resuming by name."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import in_shares
import pytest
import torch
from tiny import TOKENIZER, tiny_model

from workbench.models.step_format import StepFormat
from workbench.problems import quantities
from workbench.train.learner import Batch, Learner, Progress, Recipe
from workbench.train.loop import rate_at, repeat, train
from workbench.train.prm import step_loss, train_prm
from workbench.train.rows import Updates, pad_id, passes, split_by_tokens
from workbench.train.sft import Lesson, batch_of, encode, next_token_loss
from workbench.types import LabelledSolution, Prefix

pytestmark = pytest.mark.usefixtures("one_thread")  # equal runs are compared to the last bit
PROBLEMS = quantities.generate(8, levels=[1, 2, 3], seed=4)
ROWS = [
    LabelledSolution(p, steps := tuple(p.solution.split("\n")), (1,) * (len(steps) - 1) + (i % 2,))
    for i, p in enumerate(PROBLEMS)
]
# with an epsilon far below the gradients, weights would move by their sign, however small
RECIPE = Recipe(rank=0, adam_epsilon=1e-3)
LORA = Recipe(rank=4, epochs=4, batch_tokens=300, learning_rate=1e-2, dropout=0.2)


def micro_batches(size):
    rows = encode(TOKENIZER, list(map(Lesson, PROBLEMS)))
    return [batch_of(rows[i : i + size], 0) for i in range(0, len(rows), size)]


def point_loss(model, batch, totals):
    """Squared distance of the model's weight from each of the batch's points, the update's mean."""
    return ((model.weight - batch.tensors["x"]) ** 2).sum() / totals["points"]


def points(*values, tokens=10):
    return Batch({"x": torch.tensor(values)}, {"points": len(values)}, tokens, len(values))


def point_learner(**recipe):
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    return Learner(model, Recipe(**{"rank": 0, "learning_rate": 0.1, "warmup": 0, **recipe}))


# -- one update ------------------------------------------------------------------------------------


def test_micro_batches_have_exactly_the_gradient_of_one_batch():
    """Of unequal sizes, so that a mean of means would be another number."""
    found = []
    for size in (8, 3, 1):
        run = Learner(tiny_model(dtype=torch.float64), replace(RECIPE, clip=1e9))
        loss, norm = run.update(micro_batches(size), next_token_loss, rate=0.0)
        found.append(
            (loss, norm, torch.cat([w.grad.flatten() for w in run.master.weights.values()]))
        )
    for loss, norm, gradient in found[1:]:
        assert (loss, norm) == pytest.approx(found[0][:2], rel=1e-6)
        torch.testing.assert_close(gradient, found[0][2], rtol=1e-5, atol=1e-7)
    assert found[0][1] > 0.01


def test_totals_may_count_terms_that_were_left_out_and_progress_counts_all():
    run = point_learner(clip=100.0)
    assert run.update([points(1.0, 3.0), points(2.0)], point_loss) == pytest.approx((14 / 3, 4.0))
    run = point_learner(clip=100.0)
    loss, norm = run.update([points(1.0, 3.0)], point_loss, totals={"points": 4})
    assert (loss, norm) == pytest.approx((10 / 4, 2.0)) and run.done == Progress(1, 10, 2)


def test_the_gradient_is_clipped_after_micro_batches_are_added_up():
    run = point_learner(clip=0.5)
    run.update([points(1.0), points(3.0)], point_loss)
    assert run.model.weight.grad.abs().item() == pytest.approx(0.5, rel=1e-4)


def in_two_processes(*command):
    """Run Python in two processes that know of each other, over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tests = Path(__file__).parents[1]
    path = os.pathsep.join(map(str, (tests.parent, tests, tests / "train")))
    common = dict(os.environ, PYTHONPATH=path, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    common |= dict(MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    whole = [sys.executable, *command]
    started = [subprocess.Popen(whole, env=common | place) for place in places]
    assert [process.wait(timeout=240) for process in started] == [0, 0]


WORKER = """
import sys, torch
from test_loop import RECIPE, micro_batches
from tiny import tiny_model
from workbench.train.learner import Learner, this_process
from workbench.train.sft import next_token_loss
torch.set_num_threads(1)
run = Learner(tiny_model(), RECIPE)
run.load(f"{sys.argv[1]}/begun.pt")
made = [run.update(micro_batches(3)[:n], next_token_loss) for n in (3, 1)]
process, processes = this_process()
torch.save((processes, made), f"{sys.argv[1]}/{process}.pt")
run.save(f"{sys.argv[1]}/after-{process}.pt")
"""


@pytest.mark.slow
def test_two_processes_equal_one_and_go_on_where_one_stopped_and_the_other_way_round(tmp_path):
    """Real processes over gloo; in their last update one of them has nothing to do."""
    begun = Learner(tiny_model(), RECIPE)
    made = [begun.update(micro_batches(3), next_token_loss)]
    begun.save(tmp_path / "begun.pt")
    in_two_processes("-c", WORKER, str(tmp_path))
    alone = Learner(tiny_model(), RECIPE)
    expected = [alone.update(micro_batches(3)[:n], next_token_loss) for n in (3, 3, 1, 2)]
    for rank in range(2):
        processes, theirs = torch.load(tmp_path / f"{rank}.pt")
        assert processes == 2
        resumed = Learner(tiny_model(), RECIPE)
        resumed.load(tmp_path / f"after-{rank}.pt")
        last = resumed.update(micro_batches(3)[:2], next_token_loss)
        for own, other in zip(expected, [*made, *theirs, last]):
            assert other == pytest.approx(own, rel=1e-5)
        assert resumed.done == alone.done
        for name, weight in alone.master.weights.items():
            found = resumed.master.weights[name]
            torch.testing.assert_close(found, weight, rtol=0, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_prm_and_grpo_learn_in_two_processes_what_one_alone_learns(tmp_path):
    in_two_processes(in_shares.__file__, str(tmp_path))
    alone = in_shares.prm()
    rows, policy, drawn = in_shares.grpo(None)
    some, after_two, _ = in_shares.grpo(None, rounds=2)
    made = [torch.load(tmp_path / f"made-{rank}.pt") for rank in range(2)]
    for own in made:
        torch.testing.assert_close(own["prm"], alone, rtol=0, atol=1e-5)
        theirs, weights, _ = own["grpo"]
        torch.testing.assert_close(weights, after_two, rtol=0, atol=1e-5)
        for row, other in zip(theirs, some, strict=True):
            assert row == pytest.approx(other, rel=1e-4, abs=1e-6)
    shares = [own["grpo"][2] for own in made]
    assert all(shares) and 3 * sum(shares) == 2 * drawn
    # what two processes left, one goes on with
    resumed, weights, _ = in_shares.grpo(tmp_path / "shared")
    torch.testing.assert_close(weights, policy, rtol=0, atol=1e-5)
    assert len(resumed) == 3 and resumed[2] == pytest.approx(rows[2], rel=1e-4, abs=1e-6)


# -- rows in updates -------------------------------------------------------------------------------


def test_an_epoch_meets_every_row_once_in_random_updates_of_little_padding():
    lengths = [5 + (7 * i) % 90 for i in range(200)]
    recipe = Recipe(epochs=2.5, batch_tokens=2000, micro_tokens=500)
    updates = Updates(lengths, lambda rows: rows, recipe, 0, length=int)
    rows = [[row for micro in update for row in micro] for update in updates]
    seen = [row for update in rows for row in update]
    assert len(seen) == 500 and sorted(seen[:200]) == sorted(seen[200:400]) == sorted(lengths)
    assert seen[:200] != seen[200:400]
    assert all(len(update) * max(update) <= 2000 for update in rows)
    assert all(len(micro) * max(micro) <= 500 for update in updates for micro in update)
    padded = sum(len(micro) * max(micro) for update in updates for micro in update)
    assert padded < 0.75 * sum(len(update) * max(update) for update in rows)
    means = [sum(update) / len(update) for update in rows if len(update) > 15]
    assert max(means) - min(means) < 40  # random: sorted ones would reach from 8 to 90
    again = Updates(lengths, lambda rows: rows, recipe, 0, length=int)
    assert updates.plan == again.plan
    assert updates.plan != Updates(lengths, lambda rows: rows, recipe, 1, length=int).plan


def test_a_row_longer_than_a_batch_stands_alone_and_no_limit_is_one_group():
    assert split_by_tokens([9, 1, 1, 9], 4, int) == [[9], [1, 1], [9]]
    assert split_by_tokens([9, 1, 1, 9], None, int) == [[9, 1, 1, 9]]
    assert split_by_tokens([], 4, int) == []


def test_every_row_comes_once_before_any_comes_again():
    first, second, third = islice(passes("abcdefgh", "key"), 3)
    assert sorted(first) == sorted(second) == sorted(third) == [*"abcdefgh"]
    assert first != second != third and first == next(passes("abcdefgh", "key"))
    assert first != next(passes("abcdefgh", "another"))


class Bare:
    pad_token_id = eos_token_id = None


def test_padding_is_the_end_of_text_or_zero_where_a_tokenizer_has_none():
    assert pad_id(TOKENIZER) == TOKENIZER.pad_token_id == 0 and pad_id(Bare) == 0
    assert pad_id(type("", (Bare,), {"eos_token_id": 7})) == 7


# -- schedule and measures -------------------------------------------------------------------------


def test_the_rate_warms_up_stays_and_falls_straight_to_zero():
    run = point_learner(warmup=4, decay=0.4)
    rows = list(train(run, [[points(1.0, tokens=100)]] * 20, point_loss, until=1000))
    expected = [0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [row["train/rate"] for row in rows] == pytest.approx(expected)
    assert run.done == Progress(10, 1000, 10)
    named = replace(run.recipe, warmup=0.2)  # a share of the run
    assert [rate_at(named, i, 0.0, 20) for i in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    with pytest.raises(ValueError, match=r"warmup=0\.2: this run has no known length"):
        rate_at(named, 0, 0.0)


@pytest.mark.parametrize("updates", [4, 7, 10, 23])
def test_four_evaluations_are_four_evenly_spread_and_the_last_at_the_end(updates):
    at = []
    run = point_learner()
    rows = list(
        train(run, [[points(1.0)]] * updates, point_loss,
              held_out=lambda: at.append(run.done.updates) or {"x": 0.0}, evaluations=4)
    )  # fmt: skip
    assert len(at) == 4 and at[-1] == updates
    assert [row["update"] for row in rows if "x" in row] == at
    gaps = [b - a for a, b in zip([0, *at], at)]
    assert max(gaps) - min(gaps) <= 1


def test_the_best_weights_remain_and_patience_ends_training():
    run, measures, seen = point_learner(), iter((0.6, 0.9, 0.8, 0.7, 0.95)), []

    def held_out():
        seen.append(run.model.weight.item())
        return {"auc": next(measures)}

    options = dict(held_out=held_out, evaluations=5, keep="auc", patience=2)
    rows = list(train(run, [[points(1.0)]] * 10, point_loss, **options))
    assert [row["auc"] for row in rows if "auc" in row] == [0.6, 0.9, 0.8, 0.7]
    assert run.model.weight.item() == seen[1] != seen[3]


def test_a_measure_that_is_no_number_is_not_the_best():
    run, measures, seen = point_learner(), iter((float("nan"), 0.2, 0.9, 0.5)), []

    def held_out():
        seen.append(run.model.weight.item())
        return {"auc": next(measures)}

    options = dict(held_out=held_out, evaluations=4, keep="auc")
    list(train(run, [[points(1.0)]] * 8, point_loss, **options))
    assert run.model.weight.item() == seen[2] != seen[0]


def test_the_log_is_a_file_of_the_rows(tmp_path):
    made = train(
        point_learner(), [[points(1.0)]] * 3, point_loss, beside={"x": 1.0}, log=tmp_path / "log"
    )
    first = next(made)
    assert [json.loads(line) for line in (tmp_path / "log").open()] == [first]  # row by row
    rows = [first, *made]
    assert [json.loads(line) for line in (tmp_path / "log").open()] == rows
    assert all(row["x"] == 1.0 for row in rows)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: list(train(point_learner(), [], None, patience=2)), "patience needs keep"),
        (lambda: list(train(point_learner(), [], None, keep="auc")), "keep needs held_out"),
        (lambda: Recipe(batch_tokens=0), "batch_tokens=0: need a number of at least 1"),
        (lambda: Recipe(batch_tokens="x"), "batch_tokens='x': need a number of at least 1"),
        (lambda: Recipe(learning_rate=-1), "learning_rate=-1: need a number of at least 0"),
        (
            lambda: Recipe(learning_rate=float("nan")),
            "learning_rate=nan: need a number of at least 0",
        ),
        (lambda: Recipe(learning_rate=None), "learning_rate=None: need a number of at least 0"),
        (lambda: Recipe(matrix_rate="1"), "matrix_rate='1': need a number of at least 0"),
        (lambda: Recipe(rank=-1), "rank=-1: need a number of at least 0, a whole one"),
        (lambda: Recipe(rank=2.5), "rank=2.5: need a number of at least 0, a whole one"),
        (lambda: Recipe(dropout=2), "dropout=2: need a number from 0 to 1"),
        (lambda: Recipe(clip=0), "clip=0: need a number above 0"),
        (lambda: Recipe(decay=2.0), r"decay=2\.0: need"),
    ],
)
def test_options_that_make_no_sense_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_measure_that_is_not_there_is_named():
    options = dict(held_out=lambda: {"auc": 1.0}, keep="f1")
    with pytest.raises(ValueError, match="keep='f1': held_out measures auc"):
        list(train(point_learner(), [[points(1.0)]], point_loss, **options))


# -- resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [4, 0])
def test_training_goes_on_exactly_where_it_was_stopped(rank, tmp_path):
    recipe, log = replace(LORA, rank=rank), tmp_path / "log.jsonl"

    def held_out(verifier):
        measured.append(verifier.score([Prefix.of(PROBLEMS[0], ROWS[0].steps)])[0])
        if len(measured) == stop_at:
            raise KeyboardInterrupt
        return {"first": measured[-1][0]}

    def run(**options):
        given = dict(recipe=recipe, seed=3, held_out=held_out, keep="first", **options)
        verifier, log = train_prm(tiny_model(), TOKENIZER, ROWS, **given)
        return {n: p for n, p in verifier.model.named_parameters() if p.requires_grad}, log

    measured, stop_at = [], None
    weights, whole = run()
    expected, measured, stop_at = measured, [], 3
    with pytest.raises(KeyboardInterrupt):
        run(checkpoints=tmp_path, log=log)
    torch.load(tmp_path / "last.pt", weights_only=True)
    measured, stop_at = [], None
    again, resumed = run(checkpoints=tmp_path, log=log)
    # the third time was not saved: its updates are made again, bit by bit
    assert measured == expected[2:] and resumed == whole
    assert [json.loads(line) for line in log.open()] == whole
    assert all(torch.equal(p, again[name]) for name, p in weights.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": ROWS[1:]}, "data was '"),
        (
            {"recipe": replace(LORA, learning_rate=2e-2)},
            r"recipe: learning_rate was 0\.01, is 0\.02",
        ),
        ({"seed": 4}, "seed was 3, is 4"),
        ({"model": tiny_model(seed=1)}, "host weights was '"),
        ({"form": StepFormat(likelihood=0.5)}, r"form was StepFormat\(.*likelihood=0\.5"),
        ({}, None),
    ],
)
def test_another_run_is_refused_by_the_name_of_what_differs(changed, message, tmp_path):
    def run(model=None, rows=ROWS, **options):
        given = {"recipe": replace(LORA, epochs=1), "seed": 3, **options}
        return train_prm(model or tiny_model(), TOKENIZER, rows, checkpoints=tmp_path, **given)[1]

    if "recipe" in changed:
        changed = {"recipe": replace(changed["recipe"], epochs=1)}
    first = run()
    if message is None:
        assert run() == first
    else:
        with pytest.raises(ValueError, match=f"last.pt is of another run, .*: {message}") as error:
            run(**changed)
        assert str(error.value).count(" was ") == 1


def test_a_loss_is_known_by_its_settings_and_not_by_where_it_lies_in_memory(tmp_path):
    def run(lam):
        options = dict(recipe=replace(LORA, epochs=1), seed=0, checkpoints=tmp_path)
        loss = lambda *args, lam, **named: step_loss(*args, **named)  # noqa: E731  anew each time
        return train_prm(tiny_model(), TOKENIZER, ROWS, loss=partial(loss, lam=lam), **options)[1]

    assert run(0.5) == run(0.5)
    with pytest.raises(ValueError, match=r"loss: lam was 0\.5, is 0\.9$"):
        run(0.9)


# -- turns of any kind -----------------------------------------------------------------------------


def turns(tmp_path, kept, *, stop_at=None, goal=6):
    """Rows of turns that add up what they have done; at `stop_at` they are interrupted."""
    learner = point_learner()

    def turn():
        if kept["turns"] == stop_at:
            return None
        kept["turns"] += 1
        kept["sum"] += kept["turns"] * learner.update([points(1.0)], point_loss)[0]
        return {"turn": kept["turns"], "sum": kept["sum"]}

    yield from repeat(
        learner, turn, goal, stood=lambda: kept["turns"], state=lambda: dict(kept),
        restore=kept.update, evaluations=2, checkpoints=tmp_path, log=tmp_path / "log",
    )  # fmt: skip


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_turns_that_are_interrupted_go_on_with_what_they_knew(stop_at, tmp_path):
    expected = list(turns(tmp_path / "whole", {"turns": 0, "sum": 0.0}))
    assert [row["turn"] for row in expected] == [1, 2, 3, 4, 5, 6]
    first = list(turns(tmp_path / "cut", {"turns": 0, "sum": 0.0}, stop_at=stop_at))
    assert first == expected[:stop_at]  # nothing of it is lost, whenever it was saved before
    assert list(turns(tmp_path / "cut", {"turns": 0, "sum": 0.0})) == expected
    assert [json.loads(line) for line in (tmp_path / "cut/log").open()] == expected
