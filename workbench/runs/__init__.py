"""Runs of notebooks: what a notebook talks to, and what stands behind run, record and check.

    from workbench.runs import start, source
    run = start("04_grpo", profile=profile, seed=seed)

`python -m workbench run|record|check|doctor` is the same from a terminal. Taught in notebook 00.
"""

from workbench.runs.run import Run, source, start

__all__ = ["Run", "source", "start"]
