"""The code in README.md runs, and what it chooses does not depend on the process."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
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


def test_until_agreed_chooses_the_same_under_any_hash_seed():
    (method,) = re.findall(r"```python\n(def until_agreed.*?)\n\n\n", README.read_text(), re.S)
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
