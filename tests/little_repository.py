"""A little repository with notebooks that keep all rules and run in seconds, without torch."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

TITLE = """# {name}
One line about it.

*You will* learn nothing. Time and hardware: seconds, a CPU. Needs: nothing. Makes: a figure.
[glossary](glossary.md)"""
PARAMETERS = """profile: str = "quick"  # quick or full
seed: int = 0  # of all draws
rate: float = 0.5  # of something
loud: bool = False  # say more"""
SETUP = """import pandas as pd
from workbench.runs import start, source
run = start("{name}", profile=profile, seed=seed)"""
SIZES = "S = run.sizes(quick=dict(n=2), full=dict(n=4))"
WORK = """import matplotlib.pyplot as plt
assert open("../data/samples/pool.jsonl").read()
data = pd.DataFrame({"x": range(S.n), "y": [i * rate for i in range(S.n)]})
fig, ax = plt.subplots()
ax.plot(data.x, data.y)
run.figure(fig, "line", data=data)
run.log(sizes=S.n, **{"eval/accuracy": (0.4, 0.3, 0.5)})
assert len(list(run.track(range(S.n), "steps"))) == S.n"""
SHOW = "from workbench.runs.notebook import parse_value\nsource(parse_value)"
END = "## What we learned\nNothing.\n\n## Exercises\n★ Learn something."

FAILURES = {
    "01_raises": "raise RuntimeError('no <luck>\\nsecond line')",
    "02_exits": "import sys\nsys.exit(0)",
    "03_dies": "import os\nos.kill(os.getpid(), 9)",
    "04_unfinished": "run.finish = lambda: None",
    "05_misnamed": "run.name = '06_other'",
}


def well_formed(name: str, work: str = WORK):
    """A notebook that keeps every rule, with `work` as its code."""
    texts = {"name": name}
    cells = [
        new_markdown_cell(TITLE.format(**texts)),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell(SETUP.format(**texts)),
        new_code_cell(SIZES),
        new_code_cell(work),
        new_code_cell(SHOW),
        new_markdown_cell(END),
        new_code_cell("run.finish()"),
    ]
    return new_notebook(cells=cells)


class Repository:
    """A folder with notebooks/ and data/."""

    def __init__(self, base: Path):
        self.base = base
        for folder in ("notebooks", "data/models", "data/samples"):
            (base / folder).mkdir(parents=True)
        (base / "data/samples/pool.jsonl").write_text("{}\n")

    def add(self, name: str, work: str = WORK) -> Path:
        """Write a well-formed notebook with `work` as its code."""
        return self.write(name, well_formed(name, work))

    def write(self, name: str, notebook) -> Path:
        path = self.base / "notebooks" / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    def read(self, name: str, folder: str = "notebooks"):
        return nbformat.read(self.base / folder / f"{name}.ipynb", as_version=4)

    def recorded(self, name: str, **facts) -> None:
        """Let a notebook's metadata say `facts` of its recorded run."""
        notebook = self.read(name)
        notebook.metadata["workbench"] = facts
        self.write(name, notebook)
