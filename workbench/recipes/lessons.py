"""What the loop on SmolLM2 learns from, and is measured on: stories, labels, spoilt solutions.

Stories have exact truth (`problems.stories`), and splits share no template: of `train` solutions
are taught, of `answers` only the answers are known, and of `validation` and `test` nothing is
learnt. Where `$WORKBENCH_REAL_DATA` says that real data are, training problems of MAWPS
(Koncel-Kedziorski et al. 2016) and GSM8K (Cobbe et al. 2021, arXiv 2110.14168) come to them, by
their equations. Taught in notebook 10.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from workbench.problems import benchmarks, check_steps, practice, process_data, stories
from workbench.problems.word_problems import with_equations
from workbench.supervise.planted import hasty, misread, planted
from workbench.types import LabelledSolution, Problem

STORY_LEVELS, STORY_EACH = range(1, 4), 12  # stories of a template that is not trained on
REAL_WORDS = 40  # of a question of MAWPS or GSM8K at most: long ones are hard, and dear
SPOILT = 1_600  # stories, and tales, whose solutions are spoilt


def frozen_stories(split: str) -> list[Problem]:
    """The stories of `validation` or `test`: as many of each template, no question twice.

    Templates come in turn, so the first stories of a list are as varied as all of it.
    """
    of_template: dict[str, list[Problem]] = {}
    for level in STORY_LEVELS:
        about = {"levels": [level], "largest": practice.LARGEST}
        drawn = stories.generate(40 * STORY_EACH, seed=2000 + level, split=split, **about)
        for problem in {problem.question: problem for problem in drawn}.values():
            of_template.setdefault(problem.meta["template"], []).append(problem)
    return [p for row in zip(*of_template.values()) for p in row][: STORY_EACH * len(of_template)]


def training_stories(n: int, seed: int, split: str = "train") -> list[Problem]:
    about = {"levels": STORY_LEVELS, "largest": practice.LARGEST}
    return stories.generate(n, seed=seed, split=split, **about)


def answered_stories(n: int, seed: int) -> list[Problem]:
    """What is labelled by answers alone: in turn, kinds that are taught and kinds that are not.

    Of a kind that it was taught, a policy makes other mistakes than of one that is new to it.
    """
    halves = (training_stories(-(-n // 2), seed, split) for split in ("train", "answers"))
    return [story for pair in zip(*halves) for story in pair][:n]


# -- real wording ----------------------------------------------------------------------------------


def real_lessons() -> list[Problem]:
    """Training problems of MAWPS and GSM8K whose equations give the steps, if they are there."""
    if not (place := os.environ.get("WORKBENCH_REAL_DATA")):
        return []
    told = []
    for name in ("mawps", "gsm8k"):
        read = map(with_equations, benchmarks.load(name, path=Path(place) / name, split="train"))
        told += [p for p in read if p.kind == "stories" and p.level in STORY_LEVELS]
    return [p for p in told if len(p.question.split()) <= REAL_WORDS]


# -- labels ----------------------------------------------------------------------------------------


def up_to_unlabelled(row: LabelledSolution) -> LabelledSolution:
    """A solution up to its first step without a label: OmegaPRM leaves some open."""
    end = row.labels.index(None) if None in row.labels else len(row.labels)
    return replace(row, steps=row.steps[:end], labels=row.labels[:end], values=None)


def read_labels(path: Path) -> list[LabelledSolution]:
    """The labelled solutions that a recipe wrote, as stories that the checker can read."""
    rows = process_data.read(path, format="stepwise")
    return [replace(row, problem=_story(row.problem.question)) for row in rows]


@cache
def _story(question: str) -> Problem:
    *steps, last = stories.read_question(question).gold()
    answer = last.removeprefix("The answer is ")
    return Problem(f"stories/{question}", "stories", question, answer, level=len(steps))


def labels_right(rows: Sequence[LabelledSolution]) -> pd.DataFrame:
    """Of each label, up to the first fault: is it as the exact truth is, and is the step good?
    Columns problem, right, good."""
    found = []
    for row in rows:
        truth = check_steps(row.problem, row.steps)
        end = truth.index(False) + 1 if False in truth else len(truth)
        pairs = zip(row.labels[:end], truth)
        found += [
            {"problem": row.problem.id, "right": bool(x) == ok, "good": ok} for x, ok in pairs
        ]
    return pd.DataFrame(found)


def judged_solutions(labelled: Sequence[LabelledSolution]) -> list[LabelledSolution]:
    """What the PRM learns from: each text once, of problems that are solved at times, and solutions
    that were taught: whole, with a planted slip, with a step that computes something else, and with
    an answer that comes too early."""
    solved = {row.problem.question for row in labelled if row.labels[-1]}
    own = {(row.problem.question, row.steps): row for row in labelled}.values()
    rows = [row for row in own if row.problem.question in solved]
    taught = training_stories(SPOILT, seed=4) + practice.tales(SPOILT, seed=4) + real_lessons()[::3]
    given = [_right(problem) for problem in taught]
    spoilt = [row for spoil in (planted, misread, hasty) for row in spoil(given, seed=0)]
    return rows + given[::2] + spoilt


def _right(problem: Problem) -> LabelledSolution:
    steps = tuple((problem.solution or "").split("\n"))
    return LabelledSolution(problem, steps, (1,) * len(steps), source="solution")
