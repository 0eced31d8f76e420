"""The code in README.md and CONTRIBUTING.md runs, and chooses the same in every process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripted import Walker, oracle

from workbench.drive import solve
from workbench.models import load_policy
from workbench.models.verifier import StepVerifier
from workbench.problems import quantities
from workbench.types import Budget, Prefix

ROOT = Path(__file__).parents[1]
RUN = """
from workbench.drive import solve
from workbench.types import Prefix, Problem, Sample, SearchResult, Step

class Tied:
    name = "tied"
    def sample(self, prefixes, keys, *, meters, **how):
        words = ["zeta", "alpha", "mu", "omega"]
        return [Prefix(p.problem, (Step(w),), "end") for p, w in zip(prefixes, words)]

{method}
(result,) = solve([Problem("p", "math", "?", "1")], until_agreed, policy=Tied(), most=8)
print(result.best.text)
"""
# other people's things in README.md, and what of ours stands for them here
STAND_INS = {
    '"problems.jsonl"': repr(str(ROOT / "data/samples/quantities.jsonl")),
    '"Qwen/Qwen2.5-Math-1.5B"': "'base'",
    '"Qwen/Qwen2.5-Math-PRM-7B"': "'prm'",
    "max_tokens=1024": "max_tokens=192",
    "rounds=20": "rounds=1",
    '"runs/mine"': repr("FOLDER"),
}


def blocks(name):
    """The blocks of Python in a text."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S)


def test_until_agreed_chooses_the_same_under_any_hash_seed():
    (method,) = re.findall(r"^(def until_agreed.*?)\n\n\n", blocks("README.md")[0], re.S | re.M)
    code = RUN.replace("{method}", method)
    chosen = set()
    for seed in ("0", "1", "2", "3"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        assert run.returncode == 0, run.stderr
        chosen.add(run.stdout.strip())
    assert chosen == {"zeta"}  # of equals the one seen first


@pytest.mark.slow
def test_the_method_of_the_readme_runs_as_it_stands(capsys):
    names = {}
    exec(blocks("README.md")[0], names)
    assert capsys.readouterr().out and not any(r.error for r in names["results"])
    assert all(5 <= r.meter.samples <= 32 for r in names["results"])


@pytest.mark.slow
def test_a_model_a_verifier_and_problems_of_your_own(tmp_path):
    (code,) = blocks("README.md")[1:]
    for theirs, ours in STAND_INS.items():
        assert code.count(theirs) == 1
        code = code.replace(theirs, ours.replace("FOLDER", str(tmp_path / "mine")))
    names = {}
    exec(code, names)
    assert len(names["results"]) == 8
    assert all(not r.error and r.best and len(r.rollouts) == 8 for r in names["results"])
    assert names["rows"][-1]["round"] == 1 and load_policy(tmp_path / "mine").name == "mine"


def examples():
    """What the blocks of code in CONTRIBUTING.md define."""
    names = {}
    for block in blocks("CONTRIBUTING.md"):
        exec(block, names)
    return names


def test_the_search_method_of_contributing_runs_and_gives_back_what_was_paid_for():
    problems = quantities.generate(4, levels=[3], seed=3, split="train")
    method = examples()["two_rounds"]
    models = {"policy": Walker(problems, p=0.7), "verifier": oracle(problems)}
    results = solve(problems, method, **models, n=2)
    assert {len(r.rollouts) for r in results} == {2, 4} and not any(r.error for r in results)
    assert all(r.scores[r.rollouts.index(r.best)] == max(r.scores) for r in results)
    stopped = solve(problems, method, **models, n=2, budget=Budget(1, "samples"))
    assert all(r.stopped == "budget" and len(r.rollouts) == 1 for r in stopped)


def test_the_head_of_contributing_judges():
    policy = load_policy("weak")
    verifier = StepVerifier(policy.model, policy.tokenizer, head=examples()["ConfidenceHead"]())
    problem = quantities.generate(1, levels=[2], seed=3, split="train")[0]
    solution = Prefix.of(problem, problem.solution.split("\n"), ended=True)
    (scores,) = verifier.score([solution])
    assert len(scores) == len(solution.steps) and all(0 < s < 1 for s in scores)
