"""The whole loop on a real model, SmolLM2-135M-Instruct: what notebook 10 reads.

| recipe | makes | about |
|---|---|---|
| `smollm2-sft` | an adapter that writes solutions of stories, an equation a line | 40 min |
| `smollm2-labels` | step labels by Math-Shepherd of what it writes | 40 min |
| `smollm2-prm` | a process reward model by label tokens alone, from the same adapter | 1.5 h |
| `smollm2-grpo` | GRPO by the answer and the PRM's worst step | 2 h |
| `smollm2-pools` | samples of the test stories by both policies, with the PRM's scores | 1 h |
| `smollm2-claims` | beam search by the PRM, and the policy's likelihood as a judge | 30 min |
| `smollm2-real` | greedy answers of both to problems of `REAL`: which are right | 20 min |

Each goes on where it was stopped. Hours are for two CPU cores; one GPU takes minutes. What they
leave lies under `runs/recipes/smollm2`. Stories have exact truth (`problems.stories`), and splits
share no template. Where `$WORKBENCH_REAL_DATA` says that real data are, the supervised part also
learns training problems of MAWPS (Koncel-Kedziorski et al. 2016) and GSM8K (Cobbe et al. 2021,
arXiv 2110.14168), by their equations. Taught in notebook 10.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.analyse.scaling import correctness
from workbench.analyse.verifiers import auc, step_table
from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.policy import HFPolicy
from workbench.models.saved_policy import save_policy
from workbench.models.step_format import StepFormat
from workbench.models.verifier import untrained
from workbench.problems import benchmarks, check_steps, frozen, is_right, process_data, stories
from workbench.problems.word_problems import with_equations
from workbench.recipes.policies import mixed_reward, sampled_by, write_rounds
from workbench.recipes.verifiers import trained
from workbench.supervise.shepherd import shepherd
from workbench.train.grpo import GRPO, grpo
from workbench.train.iterate import fine_tuning
from workbench.train.learner import Recipe
from workbench.train.loop import run_of
from workbench.train.prm import train_prm
from workbench.train.sft import Lesson
from workbench.train.verifiers import with_lora
from workbench.types import LabelledSolution, Meter, Prefix, Problem, SearchResult, Step

STORY_LEVELS, STORY_EACH = range(1, 4), 10  # stories of a template that is not trained on
WAY_TO_WRITE = {"templates": {"solve": "Question: {question}\nSolution:\n"}, "max_tokens": 160}
LORA = Recipe(
    learning_rate=1e-3, batch_tokens=1024, warmup=20, rank=8, alpha=16,
)  # fmt: skip
SFT_STORIES, SFT_REAL, SFT_DRILLS, SFT_TOKENS = 4_000, 5_000, 2_000, 1_200_000
STORIES_LABELLED, STORY_SOLUTIONS, COMPLETIONS = 500, 4, 4  # solutions of each; of each step
GRPO_TOKENS = 1_000_000  # sampled, trained on and read by the verifier
STORY_SAMPLES, JUDGED, MEASURES = 16, 4, 8  # JUDGED: samples that likelihood judges, too
REAL = {"svamp": "test", "mawps": "test", "gsm8k": "test", "gsm_symbolic": "symbolic"}  # splits
REAL_SIZE = 400  # problems of each
SHIPPED_STORIES = frozen.FOLDER.parent / "smollm2"  # samples and logs that notebook 10 reads


def frozen_stories(split: str) -> list[Problem]:
    """The stories of `validation` or `test`: as many of each template, no question twice.

    Templates come in turn, so the first stories of a list are as varied as all of it.
    """
    of_template: dict[str, list[Problem]] = {}
    for level in STORY_LEVELS:
        drawn = stories.generate(40 * STORY_EACH, levels=[level], seed=2000 + level, split=split)
        for problem in {problem.question: problem for problem in drawn}.values():
            of_template.setdefault(problem.meta["template"], []).append(problem)
    return [p for row in zip(*of_template.values()) for p in row][: STORY_EACH * len(of_template)]


def training_stories(n: int, seed: int) -> list[Problem]:
    return stories.generate(n, levels=STORY_LEVELS, seed=seed, split="train")


def teachable(name: str | Path = "smollm2", *, adapter: Path | None = None) -> HFPolicy:
    """A model under adapters that train: new ones, or those of another recipe."""
    base = load_policy(name, dtype="fast", **WAY_TO_WRITE)
    if adapter is None:
        model = with_lora(base.model, LORA)
    else:
        from peft import PeftModel

        model = PeftModel.from_pretrained(base.model, str(_finished(adapter)), is_trainable=True)
    return HFPolicy(model, base.tokenizer, name=str(name), **WAY_TO_WRITE)


def _finished(place: Path) -> Path:
    """Where another recipe left its adapter; ValueError if it has not."""
    if not (place / "adapter_config.json").exists():
        raise ValueError(f"{place} is missing: python -m workbench recipe smollm2-{place.name}")
    return place


# -- the stages ------------------------------------------------------------------------------------


def story_sft(folder: Path) -> str:
    """Teach it to write a solution an equation a line."""
    place, policy = folder / "smollm2" / "sft", teachable()
    problems = training_stories(SFT_STORIES, seed=1) + _real() + drills(SFT_DRILLS, seed=1)
    options = _kept(place) | {"held_out": partial(solved_stories, policy), "order": "stories"}
    options["run"] = run_of(LORA, problems=len(problems), tokens=SFT_TOKENS)
    lessons, about = [Lesson(problem) for problem in problems], {"recipe": LORA, "seed": 0}
    rows = list(fine_tuning(policy, lessons, tokens=SFT_TOKENS, **about, **options))
    write_rounds([{"round": row["update"], **row} for row in rows], place.with_suffix(".csv"))
    save_policy(policy, place)
    return _told(rows)


def _real() -> list[Problem]:
    """Training problems of MAWPS and GSM8K whose equations give the steps, if they are there."""
    if not (place := os.environ.get("WORKBENCH_REAL_DATA")):
        return []
    told = []
    for name in ("mawps", "gsm8k"):
        read = map(with_equations, benchmarks.load(name, path=Path(place) / name, split="train"))
        told += [p for p in read if p.kind == "stories" and p.level in STORY_LEVELS][:SFT_REAL]
    return told


def drills(n: int, seed: int) -> list[Problem]:
    """Sums to be worked out, eight a problem: half of what this model writes wrong is arithmetic.

    Operands are as large as those of stories; divisions come out even.
    """
    rng, drawn = random.Random(f"drills/{seed}"), []
    for i in range(n):
        lines = [_sum(rng) for _ in range(8)]
        question = ", ".join(line.partition(" = ")[0] for line in lines)
        drawn.append(Problem(f"drills/{seed}/{i}", "math", question, None, "\n".join(lines)))
    return drawn


def _sum(rng: random.Random) -> str:
    sign, small, large = rng.choice("+-*/%"), rng.randint(2, 12), rng.randint(2, 60)
    if sign == "%":
        whole, percent = 20 * rng.randint(1, 10), 5 * rng.randint(1, 18)
        return f"{whole} * {percent} / 100 = {whole * percent // 100}"
    if sign == "*":
        return f"{small} * {large} = {small * large}"
    if sign == "/":
        return f"{small * large} / {small} = {large}"
    one, other = rng.randint(2, 120), rng.randint(2, 60)
    if sign == "+":
        return f"{one} + {other} = {one + other}"
    return f"{one + other} - {other} = {one}"


def story_labels(folder: Path) -> str:
    """Label the steps of its own solutions by Math-Shepherd: completions that end right."""
    place = folder / "smollm2"
    policy = load_policy(_finished(place / "sft"), dtype="fast")
    about = {"policy": policy, "seed": 0, "save": place / "shepherd.jsonl"}
    sizes = {"solutions": STORY_SOLUTIONS, "n": COMPLETIONS}
    results = solve(training_stories(STORIES_LABELLED, seed=2), shepherd, **about, **sizes)
    rows = [row for result in results for row in result.labelled]
    process_data.write(rows, place / "labels.jsonl", format="stepwise")
    bad = np.mean([row.first_error is not None for row in rows])
    told = f"{len(rows)} labelled solutions, {bad:.3f} with a step labelled bad"
    return f"{told}, {_agreement(rows):.3f} of the step labels are right"


def _agreement(rows: Sequence[LabelledSolution]) -> float:
    """The share of labels, up to the first fault, that are as the exact truth is."""
    hits: list[bool] = []
    for row in rows:
        truth = check_steps(row.problem, row.steps)
        end = truth.index(False) + 1 if False in truth else len(truth)
        hits += [bool(label) == ok for label, ok in zip(row.labels[:end], truth)]
    return float(np.mean(hits))


def story_prm(folder: Path) -> str:
    """Train a process reward model on these labels, by label tokens alone."""
    place, host = folder / "smollm2", teachable(adapter=folder / "smollm2" / "sft")
    rows = process_data.read(place / "labels.jsonl", format="stepwise")
    judged = sampled_by(_plain(place / "sft"), frozen_stories("validation"), n=2, seed=0)
    form = StepFormat(good="+", bad="-", template=WAY_TO_WRITE["templates"]["solve"])
    about = {"form": form, "recipe": replace(LORA, rank=0)}
    about |= {"held_out": partial(tells_apart, judged), "evaluations": MEASURES}
    return trained(train_prm, rows, place / "prm", host, **about, bf16=False)


def story_grpo(folder: Path) -> str:
    """Improve the policy by the answer and the PRM's worst step."""
    place, meter = folder / "smollm2" / "grpo", Meter()
    policy = teachable(adapter=folder / "smollm2" / "sft")
    reward = mixed_reward(meter, name=_finished(folder / "smollm2" / "prm"))
    recipe = replace(LORA, learning_rate=3e-4, warmup=0)
    # not over the group's deviation: where all answers are right, that is the PRM's noise
    settings = GRPO(problems=16, beta=0.0, advantage="none")
    options = _kept(place) | {"held_out": partial(solved_stories, policy), "meter": meter}
    rows = list(
        grpo(policy, training_stories(4_000, seed=3), settings=settings, recipe=recipe, seed=0,
             until=GRPO_TOKENS, reward=reward, **options)
    )  # fmt: skip
    kinds = ("tokens", "trained_tokens", "verifier_tokens")
    spent = [{"spent": sum(row[f"train/{kind}"] for kind in kinds), **row} for row in rows]
    write_rounds(spent, place.with_suffix(".csv"))
    save_policy(policy, place)
    return _told(rows)


def story_pools(folder: Path) -> str:
    """Samples of the test stories, each step with the PRM's score; greedy ones beside them."""
    place, test, told, costs = folder / "smollm2", frozen_stories("test"), [], []
    judge = load_verifier(_finished(place / "prm"), dtype="fast")
    greedy, several = ("_greedy", 1, 0.0), ("", STORY_SAMPLES, 1.0)
    pools = {"untaught": [greedy], "sft": [greedy, several], "grpo": [greedy, several]}
    for name, own in pools.items():
        policy = _untaught() if name == "untaught" else _plain(place / name)
        for what, n, temperature in own:
            kept = place / f"{name}{what}_pool.jsonl"
            results = sampled_by(policy, test, n=n, seed=0, temperature=temperature, save=kept)
            judge.forget()  # each pool pays for all that it has read
            scores = [judge.score(r.rollouts, meters=[r.meter] * len(r.rollouts)) for r in results]
            write_texts(results, scores, place / f"{name}{what}.json.gz")
            about = {"pool": name + what}
            costs += [about | {"id": r.problem.id, **_cost(r.meter)} for r in results]
            told.append(f"{name}{what} {correctness(results).mean():.3f}")
    pd.DataFrame(costs).to_csv(place / "costs.csv", index=False)
    return ", ".join(told)


def _cost(meter: Meter) -> dict[str, int]:
    """Tokens written, and read by the verifier."""
    return {"generated": meter.generated, "verifier": meter.verifier}


def story_claims(folder: Path) -> str:
    """What findings on small models are tried with: beam search, and likelihood as a judge."""
    place, test = folder / "smollm2", frozen_stories("test")
    policy = _plain(place / "sft")
    likelihood = untrained(policy)
    judge = load_verifier(_finished(place / "prm"), dtype="fast")
    pool, _ = read_texts(place / "sft.json.gz", test)
    some = [replace(result, rollouts=result.rollouts[:JUDGED]) for result in pool]
    write_texts(some, [likelihood.score(r.rollouts) for r in some], place / "likelihood.json.gz")
    about = {"method": "beam_search", "verifier": judge, "seed": 0, "save": place / "beam.jsonl"}
    beams = sampled_by(policy, test, **about)
    right = [is_right(r.problem, r.best) if r.best else False for r in beams]
    rows = [{"id": r.problem.id, "right": int(x), **_cost(r.meter)} for r, x in zip(beams, right)]
    pd.DataFrame(rows).to_csv(place / "beam.csv", index=False)
    return f"beam search {np.mean(right):.3f}"


def real_answers(folder: Path) -> str:
    """Which problems of other origin each policy answers right: ids and flags, no texts."""
    if not (data := os.environ.get("WORKBENCH_REAL_DATA")):
        raise ValueError("WORKBENCH_REAL_DATA is unset: it names the folder of svamp, gsm8k ...")
    place, right = folder / "smollm2", {}
    problems = {
        (name, problem.id): problem
        for name, split in REAL.items()
        for problem in benchmarks.load(name, path=Path(data) / name, split=split, limit=REAL_SIZE)
    }
    for name in ("sft", "grpo"):
        about = {"n": 1, "seed": 0, "temperature": 0.0, "save": place / f"{name}_real.jsonl"}
        found = sampled_by(_plain(place / name), [*problems.values()], **about)
        right[name] = correctness(found)[:, 0].astype(int)
    index = pd.MultiIndex.from_tuples(problems, names=["benchmark", "id"])
    table = pd.DataFrame(right, index=index)
    table.to_csv(place / "real.csv")
    return table.groupby("benchmark").mean().round(3).to_string()


# -- samples as text -------------------------------------------------------------------------------


def write_texts(
    results: Sequence[SearchResult], scores: Sequence[Sequence[Sequence[float]]], path: Path
) -> None:
    """Keep the steps of samples and the score of each, of all problems in their order."""
    rows = []
    for result, scored in zip(results, scores):
        # of likelihoods far below 1 a number of decimals would leave nothing
        short = [[float(f"{x:.4g}") for x in row] for row in scored]
        pairs = zip(result.rollouts, short)
        rows.append([[[*own.texts], own.stop, row] for own, row in pairs])
    # the same bytes whenever it is written
    path.write_bytes(gzip.compress(json.dumps(rows).encode(), mtime=0))


def read_texts(
    path: Path, problems: Sequence[Problem]
) -> tuple[list[SearchResult], list[list[list[float]]]]:
    """The first samples that `write_texts` kept, as results, and the scores of their steps."""
    rows, results, scores = json.loads(gzip.decompress(path.read_bytes())), [], []
    for problem, own in zip(problems, rows):
        rollouts = [Prefix(problem, tuple(map(Step, texts)), stop) for texts, stop, _ in own]
        results.append(SearchResult(problem, tuple(rollouts)))
        scores.append([row for *_, row in own])
    return results, scores


# -- measures --------------------------------------------------------------------------------------


def solved_stories(policy: HFPolicy) -> dict[str, float]:
    """The share of validation stories that are right by one sample."""
    results = sampled_by(policy, frozen_stories("validation"), n=1, seed=0)
    return {"eval/accuracy": float(correctness(results).mean())}


def tells_apart(results: Sequence[SearchResult], verifier: Any) -> dict[str, float]:
    """The AUC of a verifier over steps, by the exact truth."""
    rows = ((r.problem, verifier.score(r.rollouts), r.rollouts) for r in results)
    pairs = ((p, own, one.texts) for p, *row in rows for own, one in zip(*row))
    steps = step_table((p, own, check_steps(p, texts)) for p, own, texts in pairs)
    return {"eval/auc": auc(steps["score"], steps["right"])}


def _plain(place: Path) -> HFPolicy:
    """A policy of these recipes, its adapter merged, to sample from."""
    return load_policy(_finished(place), dtype="fast")


def _untaught() -> HFPolicy:
    """The model as it comes, asked by its own chat template."""
    return load_policy("smollm2", dtype="fast", max_tokens=WAY_TO_WRITE["max_tokens"])


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
    "smollm2-pools": story_pools,
    "smollm2-claims": story_claims,
    "smollm2-real": real_answers,
}
