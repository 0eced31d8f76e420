"""A full disk, a folder that can't be written, files cut off, two runs at one place, a clock set
back: each ends in one clear line or in a clean recovery. Kills: `tests/runs/test_kills.py`."""

import json
import os
import subprocess
import sys
import time

import pytest
from disks import fill, mounted, remount
from little_repository import Repository
from scripted import Walker

from workbench import jsonl
from workbench.__main__ import main
from workbench.drive import solve, stream
from workbench.files import alone, write_whole
from workbench.problems import process_data, quantities
from workbench.runs import manifest
from workbench.search import METHODS
from workbench.supervise.shepherd import shepherd
from workbench.types import Prefix, Problem, SearchResult

PROBLEMS = quantities.generate(40, levels=[3], seed=3)
SAMPLE = {"method": METHODS["sample"], "n": 8, "seed": 1, "in_flight": 4}


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk") as folder:
        yield folder


def sampled(run=solve, **options):
    return run(PROBLEMS, policy=Walker(PROBLEMS), **SAMPLE | options)


def one_line(found):
    assert "\n" not in str(found.value) and len(str(found.value)) < 300
    return str(found.value)


# -- the disk is full ------------------------------------------------------------------------------


def test_a_full_disk_names_the_file_and_with_room_the_run_goes_on(disk):
    file = disk / "r.jsonl"
    with pytest.raises(OSError, match=r"No space left on device: .*r\.jsonl") as found:
        sampled(save=file)
    assert one_line(found) and 0 < len(saved(file)) < len(PROBLEMS)
    remount(disk, "size=1m")
    assert [r.rollouts for r in sampled(save=file)] == [r.rollouts for r in sampled()]
    assert len(saved(file)) == len(PROBLEMS)


def saved(file):
    rows = list(jsonl.read_lines(file, drop_cut_off=True))[1:]
    ids = [row["problem"]["id"] for row in rows]
    assert len(set(ids)) == len(ids)
    return ids


def test_on_a_full_disk_the_file_of_before_stays_whole(disk):
    rows = solve(PROBLEMS[:2], shepherd, policy=Walker(PROBLEMS), solutions=1, n=1)
    labelled = [row for result in rows for row in result.labelled]
    for name in ("x.jsonl", "x.jsonl.gz"):
        process_data.write(labelled, disk / name, format="math-aps")
    before = {path.name: path.read_bytes() for path in disk.iterdir()}
    fill(disk)
    for name in before:
        with pytest.raises(OSError, match="No space left"):
            process_data.write(labelled * 200, disk / name, format="math-aps")
    left = {path.name: path.read_bytes() for path in disk.iterdir() if path.name != "filler"}
    assert left == before


def test_a_manifest_on_a_full_disk_keeps_what_it_had(disk):
    manifest.append(disk, {"event": "batch"})
    fill(disk)
    with pytest.raises(OSError, match=r"No space left on device: .*manifest\.jsonl"):
        manifest.append(disk, {"event": "finished", "text": "x" * 10_000})
    (disk / "filler").unlink()
    manifest.append(disk, {"event": "completed", "notebook": "a"})
    assert [record["event"] for record in manifest.read(disk)] == ["batch", "completed"]


@pytest.mark.slow
def test_a_checkpoint_that_finds_no_room_leaves_the_one_of_before(disk):
    import torch

    from workbench.train.learner import Learner, Recipe

    learner = Learner(torch.nn.Linear(40, 40), Recipe())
    learner.save(disk / "last.pt")
    before = (disk / "last.pt").read_bytes()
    fill(disk)
    with pytest.raises(OSError, match=r"last\.pt can't be written: ") as found:
        learner.save(disk / "last.pt", more="x" * 100_000)
    assert one_line(found) and (disk / "last.pt").read_bytes() == before
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "last.pt"]


@pytest.mark.slow
def test_a_batch_on_a_full_disk_says_so_and_is_resumed(tmp_path, capsys):
    repository = Repository(tmp_path)
    repository.add("00_big", "run.path('big').write_bytes(b'x' * 400_000)\nrun.log(a=1)")
    with mounted(tmp_path / "disk", "256k") as disk:
        assert main(["run", "--output", str(disk / "out")], tmp_path) in (1, 2)
        told = "".join(capsys.readouterr())
        assert "No space left on device" in told and "Traceback" not in told
        remount(disk, "size=4m")
        assert main(["run", "--resume", str(disk / "out")], tmp_path) == 0
        assert manifest.outcomes(manifest.read(disk / "out"))["00_big"]["metrics"] == {"a": 1}


# -- what can't be written -------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_named(disk, tmp_path, capsys):
    (disk / "empty").mkdir()
    Repository(tmp_path).add("00_good")
    remount(disk, "ro")
    with pytest.raises(OSError, match=r"Read-only file system: .*r\.jsonl"):
        sampled(save=disk / "r.jsonl")
    for place in ("empty", "new"):
        assert main(["run", "--output", str(disk / place)], tmp_path) == 2
        told = capsys.readouterr().err.strip()
        assert "Read-only file system" in told and "\n" not in told


# -- what was cut off ------------------------------------------------------------------------------


def test_a_checkpoint_cut_off_anywhere_is_refused_by_name(tmp_path):
    import torch

    from workbench.train.learner import Learner, Recipe

    learner, file = Learner(torch.nn.Linear(3, 2), Recipe()), tmp_path / "last.pt"
    learner.save(file)
    whole = file.read_bytes()
    for end in {0, 1, 4, *range(0, len(whole), 97), len(whole) - 1}:
        file.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"last\.pt is no whole checkpoint") as found:
            learner.load(file)
        assert one_line(found)
    file.write_bytes(whole)
    assert learner.load(file) == {}


def test_a_result_with_half_a_letter_from_a_server_is_saved_and_read_back(tmp_path):
    problem = Problem("p \ud83d", "math", "How many \udfff ?", "3")
    result = SearchResult(problem, (Prefix.of(problem, ["\ud800 é 3"], ended=True),))
    jsonl.ResultFile(tmp_path / "r.jsonl", {"seed": 1}).append(result, 0)
    again = jsonl.ResultFile(tmp_path / "r.jsonl", {"seed": 1})
    assert again.get(problem.id, 0) == result
    solve([problem], METHODS["greedy"], policy=Silent(), save=tmp_path / "s.jsonl")


class Silent:
    name = "silent"

    def sample(self, prefixes, keys, **how):
        return [Prefix.of(p.problem, ["\ud800"], ended=True) for p in prefixes]


# -- two at one place ------------------------------------------------------------------------------


def test_a_place_is_held_by_one_and_let_go_when_that_is_killed(tmp_path):
    hold = "import sys, time; from workbench.files import alone\n"
    hold += "with alone(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    for place in (tmp_path / "file", tmp_path):
        command = [sys.executable, "-c", hold, str(place)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(ValueError, match="another run is writing there now"), alone(place):
                pass
            other.kill()
        with alone(place, wait_s=5):
            pass


@pytest.mark.slow
def test_two_runs_into_one_file_do_not_meet(tmp_path):
    file = tmp_path / "r.jsonl"
    rows = sampled(stream, save=file)
    next(rows)
    with pytest.raises(ValueError, match=r"r\.jsonl: another run is writing there now"):
        sampled(save=file)
    list(rows)
    assert sorted(saved(file)) == sorted(problem.id for problem in PROBLEMS)
    assert len(sampled(save=file)) == len(PROBLEMS)


@pytest.mark.slow
def test_two_trainings_at_one_place_do_not_meet(tmp_path):
    from bandit import bandit, run

    options = {"rounds": 2, "more": {"checkpoints": tmp_path}}
    rows = run("grpo", bandit(), **options)
    next(rows)
    with pytest.raises(ValueError, match="another run is writing there now"):
        next(run("grpo", bandit(), **options))
    rows.close()
    assert len(list(run("grpo", bandit(), **options))) == 2


def test_a_batch_is_not_resumed_while_it_runs(tmp_path, capsys):
    Repository(tmp_path).add("00_good")
    folder = tmp_path / "out"
    folder.mkdir()
    asked = {"notebooks": ["00_good"], "profile": "quick", "given": []}
    manifest.append(folder, {"event": "batch", **asked})
    with alone(folder / manifest.NAME):
        assert main(["run", "--resume", str(folder)], tmp_path) == 2
    assert "another run is writing there now" in capsys.readouterr().err


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new" / "x"
    write_whole(path, lambda part: part.write_text("one"))

    def breaks(part):
        part.write_text("tw")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, breaks)
    assert path.read_text() == "one" and list(path.parent.iterdir()) == [path]


# -- the clock -------------------------------------------------------------------------------------


def test_with_a_clock_set_back_the_last_record_still_counts(tmp_path):
    record = {"event": "failed", "notebook": "a", "at": "2999-01-01T00:00:00+00:00"}
    (tmp_path / manifest.NAME).write_text(json.dumps(record) + "\n")
    manifest.append(tmp_path, {"event": "completed", "notebook": "a"})
    records = manifest.read(tmp_path)
    assert records[0]["at"] > records[1]["at"]
    assert manifest.outcomes(records)["a"]["event"] == "completed"


def test_files_from_the_future_are_resumed_like_any_other(tmp_path):
    file, later = tmp_path / "r.jsonl", time.time() + 1e9
    sampled(save=file, in_flight=1)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:20]))
    os.utime(file, (later, later))
    assert [r.rollouts for r in sampled(save=file)] == [r.rollouts for r in sampled()]
    assert len(saved(file)) == len(PROBLEMS)
