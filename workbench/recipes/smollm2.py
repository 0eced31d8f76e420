"""The whole loop on a real model, SmolLM2-135M-Instruct: what notebook 10 reads.

| recipe | makes | about |
|---|---|---|
| `smollm2-sft` | an adapter that writes solutions of stories, an equation a line | 1 h |
| `smollm2-labels` | step labels by Math-Shepherd and OmegaPRM of what it writes | 10 min |
| `smollm2-prm` | a process reward model, read by label tokens alone, from the same adapter | 1 h |
| `smollm2-grpo` | GRPO by the answer, and the worst step by PRM and likelihood | 45 min |
| `smollm2-ship` | copies of all that under `data/`, which notebook 10 reads | a second |

Each goes on where it was stopped, and begins with what others have left under
`runs/recipes/smollm2`, or else with what is shipped. Hours are for two CPU cores; one GPU takes
minutes. What is learnt from and measured on stands in `recipes.lessons`; problems of MAWPS and
GSM8K are among it where `$WORKBENCH_REAL_DATA` says that real data are. What the policies write and
how it is judged: `recipes.story_samples`. Taught in notebook 10.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from workbench.analyse.scaling import correctness
from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.checkpoints import SHIPPED
from workbench.models.ensemble import Ensemble
from workbench.models.policy import HFPolicy
from workbench.models.saved_policy import ADAPTER, adapted, save_policy
from workbench.models.step_format import StepFormat
from workbench.models.verifier import untrained
from workbench.problems import frozen, practice, process_data
from workbench.recipes import lessons
from workbench.recipes.policies import CHARGED, sampled_by, write_rounds
from workbench.recipes.verifiers import LOG, PRM_LOSS, learnt, trained
from workbench.supervise.omegaprm import omegaprm
from workbench.supervise.shepherd import shepherd
from workbench.train.grpo import GRPO, grpo
from workbench.train.iterate import fine_tuning
from workbench.train.learner import Recipe
from workbench.train.lora import with_lora
from workbench.train.prm import train_prm
from workbench.train.rewards import answer, by_verifier, mixed
from workbench.train.sft import Lesson
from workbench.types import Meter

WAY_TO_WRITE = {"templates": {"solve": "Question: {question}\nSolution:\n"}, "max_tokens": 160}
LORA = Recipe(
    learning_rate=1e-3, batch_tokens=1024, warmup=20, rank=8, alpha=16,
)  # fmt: skip
AS_A_JUDGE = {  # how the PRM reads and learns: the same adapter goes on
    "form": StepFormat(good="+", bad="-", template=WAY_TO_WRITE["templates"]["solve"]),
    "recipe": replace(LORA, rank=0, epochs=1.0, batch_tokens=4096, micro_tokens=1024),
    "loss": PRM_LOSS,
}
SFT_STORIES, SFT_TALES, SFT_SUMS, SFT_TOKENS = 5_000, 5_000, 2_500, 1_200_000
LABELLERS = {  # how, how many stories, sizes; the PRM learns from the first
    "shepherd": (shepherd, 560, {"solutions": 4, "n": 4}),
    "omegaprm": (omegaprm, 120, {"searches": 4, "n": 8}),
}
LABELS = "shepherd.jsonl.gz"
LIKELIHOOD = 2.0  # weight of the policy's likelihood beside the PRM: chosen on validation
GRPO_STORIES = 2_000  # of kinds that were taught, and as many of others
GRPO_TOKENS = 700_000  # sampled, trained on and read by the verifiers
GRPO_SAMPLES = 4  # of a validation story at each measure: by these the best weights are chosen
MEASURES = 8
SHIPPED_STORIES = frozen.FOLDER.parent / "smollm2"  # samples and logs that notebook 10 reads


def teachable(name: str | Path = "smollm2", *, adapter: Path | None = None) -> HFPolicy:
    """A model under adapters that train: new ones, or those of another recipe.

    They compute as precisely as the model, which saves a fifth of a training in bfloat16; what
    the optimiser sees is in float32 all the same (`MasterWeights`).
    """
    base = load_policy(name, dtype="fast", **WAY_TO_WRITE)
    dtype = base.model.dtype
    if adapter is None:
        torch.manual_seed(0)  # new adapters are drawn
        model = with_lora(base.model, LORA)
    else:
        model = adapted(base.model, finished(adapter), trainable=True)
    return HFPolicy(model.to(dtype), base.tokenizer, name=str(name), **WAY_TO_WRITE)


def finished(place: Path) -> Path:
    """Where another recipe left its adapter, or else the shipped one; ValueError without any."""
    if (found := _found(place)) is None:
        raise ValueError(f"{place} is missing: python -m workbench recipe smollm2-{place.name}")
    return found


def _found(place: Path) -> Path | None:
    folders = (place, SHIPPED / f"smollm2-{place.name}")
    return next((folder for folder in folders if (folder / ADAPTER).exists()), None)


def story_policies(place: Path) -> list[str]:
    """The policies of these recipes that there are: GRPO's once it is made."""
    return ["sft", "grpo"] if _found(place / "grpo") else ["sft"]


# -- the stages ------------------------------------------------------------------------------------


def story_sft(folder: Path) -> str:
    """Teach it to write a solution an equation a line."""
    place, policy = folder / "smollm2" / "sft", teachable()
    problems = lessons.training_stories(SFT_STORIES, seed=1) + lessons.real_lessons()
    problems += practice.tales(SFT_TALES, seed=1) + practice.sums(SFT_SUMS, seed=1)
    options = _kept(place) | {"held_out": partial(solved_stories, policy), "order": "stories"}
    taught, about = [Lesson(problem) for problem in problems], {"recipe": LORA, "seed": 0}
    rows = list(fine_tuning(policy, taught, tokens=SFT_TOKENS, **about, **options))
    write_rounds([{"round": row["update"], **row} for row in rows], place.with_suffix(".csv"))
    save_policy(policy, place)
    return _told(rows)


def story_labels(folder: Path) -> str:
    """Label the steps of its own solutions by Math-Shepherd, and those of fewer by OmegaPRM."""
    place, told, costs = folder / "smollm2", [], []
    policy = load_policy(finished(place / "sft"), dtype="fast")
    for way, (label, stories_read, sizes) in LABELLERS.items():
        about = {"policy": policy, "seed": 0, "save": place / f"{way}.jsonl"}
        results = solve(lessons.answered_stories(stories_read, seed=2), label, **about, **sizes)
        known = (lessons.up_to_unlabelled(row) for result in results for row in result.labelled)
        rows = [row for row in known if row.steps]
        process_data.write(rows, place / f"{way}.jsonl.gz", format="stepwise")
        written = sum(result.meter.generated for result in results)
        costs.append({"labels": way, "stories": len(results), "solutions": len(rows),
                      "generated": written})  # fmt: skip
        share = lessons.labels_right(rows)["right"].mean()
        told.append(f"{way}: {len(rows)} solutions, {share:.3f} of the labels are right")
    pd.DataFrame(costs).to_csv(place / "labels.csv", index=False)
    return "; ".join(told)


def story_prm(folder: Path) -> str:
    """Train a process reward model on these labels and on spoilt solutions.

    What is read are the label tokens at the end of a step alone; the loss also labels its words.

    Of one kind of story a policy makes the same mistakes again and again, and there are few kinds:
    what is spoilt are solutions of all that was taught.
    """
    place, host = folder / "smollm2", teachable(adapter=folder / "smollm2" / "sft")
    labels = next((f / LABELS for f in (place, SHIPPED_STORIES) if (f / LABELS).exists()), None)
    if labels is None:
        raise ValueError(f"{place / LABELS} is missing: python -m workbench recipe smollm2-labels")
    rows = lessons.judged_solutions(lessons.read_labels(labels))
    judged = sampled_by(
        story_policy(place / "sft"), lessons.frozen_stories("validation"), n=2, seed=0
    )
    options = {"held_out": partial(learnt, results=judged), "evaluations": MEASURES, "bf16": False}
    said = trained(train_prm, rows, place / "prm", host, **AS_A_JUDGE, **options)
    shutil.copy(place / "prm" / LOG, place / "prm.csv")
    return said


def story_judge(folder: Path) -> Ensemble:
    """The PRM and the likelihood of the policy that it began with, as one verifier."""
    place = folder / "smollm2"
    prm = load_verifier(finished(place / "prm"), dtype="fast")
    return Ensemble([prm, untrained(story_policy(place / "sft"))], [1.0, LIKELIHOOD], name="judge")


def story_grpo(folder: Path) -> str:
    """Improve the policy by the answer and the worst step by `story_judge`.

    On stories of kinds that it was taught and of others, and on real wording: of what it gets right
    it must not learn to write more. The best weights on validation remain.
    """
    place, meter = folder / "smollm2" / "grpo", Meter()
    policy = teachable(adapter=folder / "smollm2" / "sft")
    reward = mixed([(0.5, answer), (0.5, by_verifier(story_judge(folder), meter=meter))])
    problems = lessons.real_lessons()
    for split in ("train", "answers"):
        problems += lessons.training_stories(GRPO_STORIES, 3, split)
    recipe = replace(LORA, learning_rate=2e-4, warmup=0)
    # not over the group's deviation: where all answers are right, that is the verifiers' noise
    settings = GRPO(problems=16, beta=0.0, advantage="none")
    options = _kept(place) | {"held_out": partial(solved_stories, policy, samples=GRPO_SAMPLES)}
    options |= {"keep": "eval/accuracy", "meter": meter}
    rows = list(
        grpo(policy, problems, settings=settings, recipe=recipe, seed=0,
             until=GRPO_TOKENS, reward=reward, **options)
    )  # fmt: skip
    spent = [{"spent": sum(row.get(kind, 0) for kind in CHARGED), **row} for row in rows]
    write_rounds(spent, place.with_suffix(".csv"))
    save_policy(policy, place)
    return _told(rows)


def ship(folder: Path) -> str:
    """Copy what is finished into `data/`: adapters without a tokenizer, tables, texts."""
    place, models, tables = folder / "smollm2", [], []
    for adapter in (place / name for name in ("sft", "prm", "grpo")):
        if (adapter / ADAPTER).exists():
            shipped = SHIPPED / f"smollm2-{adapter.name}"
            shipped.mkdir(parents=True, exist_ok=True)
            for file in adapter.glob("*.*"):
                if not file.name.startswith(("tokenizer", "chat_template", "README")):
                    shutil.copy(file, shipped)
            models.append(shipped.name)
    SHIPPED_STORIES.mkdir(parents=True, exist_ok=True)
    for file in (*place.glob("*.csv"), *place.glob("*.gz")):
        shutil.copy(file, SHIPPED_STORIES)
        tables.append(file.name)
    return f"{', '.join(models)}; {', '.join(sorted(tables))}"


# -- what the stages share -------------------------------------------------------------------------


def solved_stories(policy: HFPolicy, samples: int = 1) -> dict[str, float]:
    """The share of right answers among samples of the validation stories."""
    results = sampled_by(policy, lessons.frozen_stories("validation"), n=samples, seed=0)
    return {"eval/accuracy": float(correctness(results).mean())}


def story_policy(place: Path) -> HFPolicy:
    """A policy of these recipes, its adapter merged, to sample from."""
    return load_policy(finished(place), dtype="fast")


def _kept(place: Path) -> dict[str, Any]:
    """Where a training keeps its log and its states, and how often it is measured."""
    states = place.with_name(f"{place.name}_state")
    return {"log": place.with_suffix(".jsonl"), "checkpoints": states, "evaluations": MEASURES}


def _told(rows: Sequence[dict[str, float]]) -> str:
    found = [row["eval/accuracy"] for row in rows if "eval/accuracy" in row]
    return "validation: " + ", ".join(f"{x:.3f}" for x in found)


SMOLLM2_RECIPES: dict[str, Callable[[Path], str]] = {
    "smollm2-sft": story_sft,
    "smollm2-labels": story_labels,
    "smollm2-prm": story_prm,
    "smollm2-grpo": story_grpo,
    "smollm2-ship": ship,
}
