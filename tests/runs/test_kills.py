"""Three kills of each task of the campaign, at random moments; each ends as if undisturbed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # some 60 processes, one by one
SCRIPT = Path(__file__).parents[1] / "kill_campaign.py"
TASKS = [
    "labelling", "sampling", "search by a server", "PRM training", "GRPO", "run of notebooks",
    "sweep",
]  # fmt: skip


def test_killed_thrice_each_task_ends_as_if_undisturbed(tmp_path):
    report = tmp_path / "report.md"
    words = ["--kills", "3", "--seed", "1", "--report", str(report)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, SCRIPT, *words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in report.read_text().splitlines()[6:-2]]
    assert [row[0].removeprefix("| ") for row in rows] == TASKS
    assert all(row[2] == "3" and int(row[4]) >= 1 for row in rows)
