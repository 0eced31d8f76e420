"""Kill -9 at random moments, go on until all is done, compare with a run that nothing disturbed.

    python tests/kill_campaign.py --kills 50 --report tests/kill_campaign.md

Each task is run whole once, then over and over in new folders, killed at moments drawn evenly over
the time that it takes whole, until there were so many kills. What counts: no row lost or doubled,
metrics, tables and weights equal to those of the undisturbed run. Times do not count, nor the last
digits of log-probabilities, which depend on what is sampled side by side.

Models are loaded once; each attempt is a fork of this process. A batch and a sweep are killed
without their kernels, which end by themselves.
"""

import argparse
import atexit
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# all that a task needs, so that a fork has nothing left to load
import papermill  # noqa: F401
import peft  # noqa: F401
import torch
from bandit import bandit, run
from little_repository import WORK, Repository
from protocol_server import Protocol
from scripted import oracle
from tiny import TOKENIZER, tiny_model

import workbench.commands.sweep
import workbench.runs.batch  # noqa: F401
from workbench import jsonl
from workbench.__main__ import main as workbench_command
from workbench.drive import solve
from workbench.models import load_policy, verifier
from workbench.models.server import ServerPolicy
from workbench.problems import quantities
from workbench.runs import manifest
from workbench.search import METHODS
from workbench.supervise.shepherd import shepherd
from workbench.train.learner import Recipe
from workbench.train.prm import train_prm
from workbench.types import LabelledSolution

PROBLEMS = quantities.generate(8, levels=[1], seed=3)
MANY = quantities.generate(40, levels=[2], seed=4)


# -- the tasks: each takes a folder and ends, or goes on, with all that is to be done --------------


@cache
def weak():
    return load_policy("weak", dtype="float64")  # equal whatever is batched together


def label(folder):
    options = {"solutions": 1, "n": 2, "seed": 7, "in_flight": 2}
    solve(PROBLEMS, shepherd, policy=weak(), save=folder / "rows.jsonl", **options)


def sample(folder):
    options = {"n": 2, "seed": 7, "in_flight": 2}
    solve(PROBLEMS, METHODS["sample"], policy=weak(), save=folder / "rows.jsonl", **options)


def search(folder):
    """Beam search by a policy behind a server, the verifier here."""
    policy = ServerPolicy(server(), "scripted", backoff=0.01, retries=3)
    options = {"beam_width": 2, "expand": 2, "seed": 7, "in_flight": 4}
    models = {"policy": policy, "verifier": oracle(MANY)}
    solve(MANY, METHODS["beam_search"], save=folder / "rows.jsonl", **models, **options)


def fit_prm(folder):
    lines = [(i, p, tuple(p.solution.split("\n"))) for i, p in enumerate(MANY)]
    rows = [LabelledSolution(p, x, (1,) * (len(x) - 1) + (i % 2,)) for i, p, x in lines]
    recipe = Recipe(batch_tokens=256, micro_tokens=128, epochs=2, rank=0)
    places = {"checkpoints": folder / "checkpoints", "log": folder / "log.jsonl"}
    prm, _ = train_prm(
        tiny_model(), TOKENIZER, rows, recipe=recipe, seed=1, evaluations=12, **places
    )
    verifier.save(prm, folder / "prm")


def fit_policy(folder):
    policy = bandit()
    places = {"checkpoints": folder / "checkpoints", "log": folder / "log.jsonl"}
    list(run("grpo", policy, rounds=8, refresh=3, more={**places, "evaluations": 8}))
    torch.save(policy.model.state_dict(), folder / "weights.pt")


def run_batch(folder):
    command(folder, ["run", "all"], "batch")


def sweep(folder):
    command(folder, ["sweep", "0", "-p", "seed=0,1", "--workers", "1"], "sweep")


def command(folder, words, event):
    """The command, or its `--resume` where the folder says that it was begun."""
    out = folder / "out"
    begun = any(record.get("event") == event for record in manifest.read(out))
    place = [words[0], "--resume", str(out)] if begun else [*words, "--output", str(out)]
    with (folder / "told").open("a") as told, contextlib.redirect_stdout(told):
        if workbench_command(place, repository()):
            raise RuntimeError(f"{place[0]} failed, see {folder / 'told'}")


@cache
def repository():
    made = Repository(Path(tempfile.mkdtemp(prefix="kills-")))
    atexit.register(shutil.rmtree, made.base, ignore_errors=True)
    made.add("00_figure", WORK)
    made.add("01_metrics", "run.log(a=seed, b=(rate, 0, 1))")
    return made.base


@cache
def server():
    """A server in a process of its own, which ends with this one."""
    read, write = os.pipe()
    if not os.fork():
        about, parent = Protocol(), os.getppid()
        about.delay = 0.002
        about.start()
        os.write(write, about.url.encode())
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(0)
    return os.read(read, 1000).decode()


# -- what they leave, without what may differ ------------------------------------------------------


def rows_of(folder):
    """Each row by problem; none may come twice."""
    rows = list(jsonl.read_lines(folder / "rows.jsonl"))[1:]
    for row in rows:
        del row["meter"]
        for rollout in row["rollouts"]:
            for step in rollout["@Prefix"]["steps"]:
                step["@Step"].pop("logprobs", None)
    found = {(row["problem"]["id"], row["occurrence"]): row for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"{len(rows)} rows of {len(found)} problems")
    return found


def training_of(folder):
    files = [folder / "weights.pt", *sorted((folder / "prm").glob("*.safetensors"))]
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.exists()]
    return list(jsonl.read_lines(folder / "log.jsonl")), hashes


def tables_of(folder):
    """Metrics, tables and pictures, by name; of each folder the notebooks that completed."""
    out, found = folder / "out", {}
    for file in sorted(out.rglob("*")):
        if file.suffix in (".csv", ".png") or file.name == "metrics.json":
            found[str(file.relative_to(out))] = file.read_bytes()
        if file.name == manifest.NAME:
            ends = [r["notebook"] for r in manifest.read(file.parent) if r["event"] == "completed"]
            found[str(file.relative_to(out))] = sorted(ends)
    return found


TASKS = {
    "labelling": (label, rows_of),
    "sampling": (sample, rows_of),
    "search by a server": (search, rows_of),
    "PRM training": (fit_prm, training_of),
    "GRPO": (fit_policy, training_of),
    "run of notebooks": (run_batch, tables_of),
    "sweep": (sweep, tables_of),
}


# -- the campaign ----------------------------------------------------------------------------------


@dataclass
class Report:
    """What became of one task."""

    seconds: float = 0.0  # of the run that nothing disturbed
    kills: int = 0
    later: int = 0  # of them, once something had been written
    runs: int = 0  # brought to their end
    faults: list[str] = field(default_factory=list)


def attempt(work, folder, seconds=None):
    """Do the work in a process of its own, killed after so many seconds; returns its status."""
    if not (pid := os.fork()):
        status = 1
        with (folder / "errors").open("a") as errors, contextlib.redirect_stderr(errors):
            try:
                work(folder)
                status = 0
            except BaseException:
                traceback.print_exc()
        os._exit(status)
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        over, status = os.waitpid(pid, os.WNOHANG if deadline else 0)
        if over:
            return status
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.001)


def campaign(name, kills, seed, base):
    """Kill a task so often, each run of it going on until it is done."""
    (work, outcome), report, draw = TASKS[name], Report(), random.Random(f"{seed} {name}")
    began = time.monotonic()
    expected = finished(work, outcome, base / "whole", lambda: None, report)
    report.seconds = time.monotonic() - began

    def left():
        """After how many seconds to kill; None once it has been killed often enough."""
        return draw.uniform(0, report.seconds) if report.kills < kills else None

    while report.kills < kills and not report.faults:
        found = finished(work, outcome, base / f"run{report.runs}", left, report)
        if not report.faults and found != expected:
            report.faults.append(f"run {report.runs} differs from the undisturbed one")
        report.runs += 1
    return report


def finished(work, outcome, folder, moment, report):
    """What a run leaves that is killed at these moments and gone on with until it ends."""
    folder.mkdir()
    while status := attempt(work, folder, moment()):
        if status != signal.SIGKILL:
            last = (folder / "errors").read_text().strip().splitlines()[-1]
            report.faults.append(f"it ended with an error: {last}")
            return None
        report.kills += 1
        report.later += any(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    try:
        found = outcome(folder)
    except (ValueError, OSError) as error:
        report.faults.append(str(error))
        return None
    shutil.rmtree(folder)
    return found


def table(reports, seed):
    lines = [
        "# Killed, and gone on with", "",
        f"Made by `python tests/kill_campaign.py` (seed {seed}): `kill -9` at random moments.", "",
        "| task | undisturbed, s | kills | of them after a first write | runs ended | faults |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, r in reports.items():
        faults = "; ".join(r.faults) or "none"
        lines.append(f"| {name} | {r.seconds:.1f} | {r.kills} | {r.later} | {r.runs} | {faults} |")
    total = sum(r.kills for r in reports.values())
    wrong = sum(len(r.faults) for r in reports.values())
    end = f"{total} kills, {wrong} fault{'s' * (wrong != 1)}"
    if not wrong:
        end += ": no row lost or doubled; every run ended with the rows, metrics, tables and "
        end += "weights of the undisturbed one."
    return "\n".join([*lines, "", end, ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="of each task")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warm = {"labelling": weak, "sampling": weak, "search by a server": server}
    reports = {}
    for name in given.tasks:
        warm.get(name, repository)()
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            reports[name] = campaign(name, given.kills, given.seed, Path(folder))
        print(f"{name}: {reports[name]}", flush=True)
        if given.report:
            given.report.write_text(table(reports, given.seed), encoding="utf-8")
    print(table(reports, given.seed))
    return any(report.faults for report in reports.values())


if __name__ == "__main__":
    sys.exit(main())
