"""Runs of notebooks: what a notebook talks to. Taught in notebook 00.

from workbench.runs import start, source
run = start("05_grpo", profile=profile, seed=seed)
"""

from workbench.runs.run import Run, source, start

__all__ = ["Run", "source", "start"]
