"""Labels, verifiers and pools: the recipes of what notebooks 03 and 04 ship.

| recipe | makes | about |
|---|---|---|
| `pools` | `data/samples/pools`: 64 samples of every frozen problem by each policy | 1 h |
| `labels-base`, `labels-strong` | step labels for training, under `runs/recipes` | 25 min |
| `prm-base`, `prm-strong` | process reward models that judge, under `runs/recipes` | 1 h |
| `plain-base` | the same without labels within steps and looking back, for comparison | 1 h |
| `planted-base` (also strong) | its PRM, trained on with planted faults | 15 min |
| `orm-base`, then `reward-base` (also strong) | an outcome and a Bradley-Terry model | 30 min |
| `alone-base`, `outcomes-base` (also strong) | from answers alone: of solutions, of steps | 1 h |
| `genrm-strong` (also base) | a verifier that writes each step anew and compares | 40 min |

Labels need no people and no rollouts: a policy writes solutions of training problems, its own
likelihood judges their steps, and only solutions whose verdict agrees with their ending are kept
(`supervise.consensus`). `strong` judges solutions of both, so its verifier knows the faults of base
and its own. One label a solution says too little of where to look: so the outcome model begins at
the process reward model, and the Bradley-Terry model at the outcome model. Notebooks 03, 04.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import entropy
from sklearn.metrics import log_loss

from workbench.analyse import scaling
from workbench.analyse.verifiers import auc, auc_interval, step_table
from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.deeper import deeper
from workbench.models.generative import ASKS, GenerativeFormat
from workbench.models.verifier import save, untrained
from workbench.problems import check_steps, frozen, is_right, process_data, quantities
from workbench.search import METHODS
from workbench.supervise import judge
from workbench.supervise.consensus import agree_with_endings
from workbench.supervise.planted import planted
from workbench.supervise.replay import given
from workbench.train.every_step import train_every_step
from workbench.train.genrm import resampled, train_genrm, verdicts
from workbench.train.learner import Recipe
from workbench.train.orm import outcome_loss, train_orm
from workbench.train.prm import step_loss, train_prm
from workbench.train.reward import train_reward
from workbench.types import LabelledSolution, Meter, Prefix, Problem, SearchResult

SEED, SOLUTIONS = 300, 8  # of a training problem, by each writer
MOST_STEPS = 14  # steps: what runs on further says one thing again and again
READS = {"base": ("base",), "strong": ("base", "strong")}  # whose solutions a judge reads
PROBLEMS = {"base": 5_000, "strong": 2_500}
LAYERS = 2  # on top of the host
LOG, EVALUATIONS = "log.csv", 20  # the log lies beside a verifier's weights
LANGUAGE = 0.3  # weight of going on to write good steps
WITHIN = 1.0  # weight of labels within steps, word by word
PRM_LOSS = partial(step_loss, language=LANGUAGE, within=WITHIN)
PLANTED = 9_000  # solutions with a planted fault, and as many of the others beside them
ANSWERS = 20_000  # solutions that those who judge whole ones learn from
LESSONS = 16_000  # of a verifier that writes, half of them bad steps if there are as many
PRM = Recipe(
    matrix_rate=0.01, batch_tokens=9216, micro_tokens=1024, epochs=2.0, warmup=20, decay=0.4,
    rank=0, weight_decay=0.01, betas=(0.9, 0.98),
)  # fmt: skip

# from a verifier that has learnt; what was best on validation remains
GO_ON = {"recipe": replace(PRM, epochs=0.5, matrix_rate=0.005), "keep": "eval/auc"}


def pools(folder: Path) -> str:
    """Draw the pools that are not there yet."""
    drawn = 0
    for policy, split, n in frozen.all_pools():
        path = frozen.file(policy, split, many=n > frozen.SAMPLES)
        if path.exists():
            continue
        problems = frozen.load(split)[: frozen.FIRST if n > frozen.SAMPLES else None]
        writer = load_policy(policy, dtype="float32", batch_tokens=98_304)
        results = solve(problems, METHODS["sample"], policy=writer, seed=0, n=n)
        frozen.write_pool(results, path)
        drawn += 1
    return f"{drawn} pools drawn into {frozen.FOLDER}"


def labels(folder: Path, host_name: str) -> str:
    """Label distinct training solutions: where a policy's likelihood and their endings agree."""
    rows = agreed(written(folder, host_name), host_name)
    process_data.write(rows, _labels_file(folder, host_name), format="stepwise")
    return f"{len(rows)} labelled solutions"


def agreed(
    pool: Mapping[str, Sequence[Prefix]], judge_name: str, *, meter: Meter | None = None
) -> list[LabelledSolution]:
    """Solutions, by problem id, that a policy's likelihood and their endings judge alike.

    What the judge reads is added to `meter`.
    """
    problems = [own[0].problem for own in pool.values()]
    host = untrained(load_policy(judge_name, dtype="float32"))
    results = solve(problems, given(judge.label, pool), verifier=host, threshold=0.0)
    if meter:
        meter.verifier += sum(result.meter.verifier for result in results)
    rows = [row for result in results for row in result.labelled]
    right = [is_right(rollout.problem, rollout) for own in pool.values() for rollout in own]
    return agree_with_endings(judge.at_threshold(rows, judge.threshold_of(rows, right)), right)


def written(folder: Path, reader: str) -> dict[str, tuple[Prefix, ...]]:
    """The distinct solutions of training problems that a judge reads, by the problem's id."""
    of = {"levels": frozen.BALANCED, "seed": SEED, "split": "train"}
    problems = quantities.generate(PROBLEMS[reader], **of)
    saves = {name: folder / f"solutions_{name}.jsonl" for name in READS[reader]}
    return distinct(problems, saves)


def distinct(
    problems: Sequence[Problem], writers: Mapping[str, Path], *, meter: Meter | None = None
) -> dict[str, tuple[Prefix, ...]]:
    """The distinct solutions by policies, each kept in its file, by the problem's id.

    All that was written is added to `meter`, what is not kept, too.
    """
    found: dict[str, dict[tuple[str, ...], Prefix]] = {p.id: {} for p in problems}
    for name, file in writers.items():
        policy = load_policy(name, dtype="float32")
        drawn = solve(problems, METHODS["sample"], policy=policy, seed=0, n=SOLUTIONS, save=file)
        if meter:
            meter.generated += sum(result.meter.generated for result in drawn)
        for rollout in (rollout for result in drawn for rollout in result.rollouts):
            if 0 < len(rollout.steps) <= MOST_STEPS:
                found[rollout.problem.id].setdefault(rollout.texts, rollout)
    return {name: tuple(own.values()) for name, own in found.items() if own}


def prm(folder: Path, host_name: str, *, plain: bool = False) -> str:
    """Train a verifier on the labels until it has learnt them.

    `plain`: without labels within steps, and no head begins by looking back.
    """
    rows = _labels(folder, host_name)
    loss = partial(step_loss, language=LANGUAGE) if plain else PRM_LOSS
    about = {"loss": loss, "held_out": learnt}
    place = folder / f"{'plain' if plain else 'prm'}_{host_name}"
    return trained(train_prm, rows, place, _deeper(host_name, look_back=not plain), **about)


def with_planted(folder: Path, host_name: str) -> str:
    """Go on from the process reward model, with planted faults beside the policy's own."""
    begin, rows = _made(folder, f"prm_{host_name}"), _labels(folder, host_name)
    rows = [*planted(rows, seed=SEED)[:PLANTED], *rows[:PLANTED]]
    recipe = replace(PRM, epochs=1.0, matrix_rate=0.007)
    about = {"loss": PRM_LOSS, "held_out": learnt, "recipe": recipe}
    place = folder / f"planted_{host_name}"
    return trained(train_prm, rows, place, load_verifier(begin, dtype="float32"), **about)


def orm(folder: Path, host_name: str, *, alone: bool = False) -> str:
    """Go on from the process reward model, with final answers; or learn from these `alone`."""
    rows = _answers(folder, host_name)
    about = {"loss": partial(outcome_loss, within=WITHIN), "held_out": chooses}
    if alone:
        about["recipe"] = replace(PRM, epochs=1.0)
        return trained(train_orm, rows, folder / f"alone_{host_name}", _deeper(host_name), **about)
    host = load_verifier(_made(folder, f"prm_{host_name}"), dtype="float32")
    return trained(train_orm, rows, folder / f"orm_{host_name}", host, **about | GO_ON)


def from_answers(folder: Path, host_name: str) -> str:
    """Go on from the outcome model of answers alone to scores of steps, again by answers alone."""
    begin, rows = _made(folder, f"alone_{host_name}"), _answers(folder, host_name)
    host, place = load_verifier(begin, dtype="float32"), folder / f"outcomes_{host_name}"
    return trained(train_every_step, rows, place, host, held_out=learnt, **GO_ON)


def reward(folder: Path, host_name: str) -> str:
    """Go on from the outcome reward model, with pairs of a right and a wrong solution."""
    begin = _made(folder, f"orm_{host_name}")
    about = {"held_out": chooses, "most": 2, **GO_ON}
    about["recipe"] = replace(PRM, epochs=1.0, matrix_rate=0.005)
    rows, place = _answers(folder, host_name), folder / f"reward_{host_name}"
    return trained(train_reward, rows, place, load_verifier(begin, dtype="float32"), **about)


def genrm(folder: Path, host_name: str) -> str:
    """Train a verifier that writes each step anew, reads the one to judge, and compares."""
    lessons = half_bad(verdicts(_labels(folder, host_name)), LESSONS)
    kept = resampled(lessons, load_policy(host_name, dtype="float32"), seed=SEED)
    about = {"form": GenerativeFormat(ASKS["blind"]), "within": WITHIN, "held_out": learnt}
    about["recipe"] = replace(PRM, epochs=1.0)
    return trained(train_genrm, kept, folder / f"genrm_{host_name}", _deeper(host_name), **about)


def half_bad(lessons: Sequence, most: int) -> list:
    """At most so many lessons, half of them of bad steps if there are so many, in their order."""
    rank = np.random.default_rng(SEED).permutation(len(lessons))
    shuffled = [lessons[i] for i in rank]
    bad = [lesson for lesson in shuffled if not lesson.good][: most // 2]
    good = [lesson for lesson in shuffled if lesson.good][: most - len(bad)]
    chosen = {id(lesson) for lesson in (*bad, *good)}
    return [lesson for lesson in lessons if id(lesson) in chosen]


def _deeper(host_name: str, *, look_back: bool = True):
    """The policy with more layers on top, to become a verifier."""
    host = load_policy(host_name, dtype="float32")
    deeper(host.model, LAYERS, look_back=look_back)  # in place
    return host


def trained(train: Callable, rows: Sequence, place: Path, host, **options) -> str:
    """A verifier on a host, all weights, saved in half precision with its log."""
    options = {"recipe": PRM, "seed": 0, "evaluations": EVALUATIONS, **options}
    options |= {"checkpoints": place.with_name(f"{place.name}_state")}
    options |= {"log": place.with_suffix(".jsonl")}
    verifier, log = train(host.model, host.tokenizer, rows, **options)
    verifier.model.to(torch.bfloat16)
    save(verifier, place)
    write_log(log, place / LOG)
    facts = {"solutions": len(rows), "updates": len(log), "tokens": log[-1]["train/tokens"]}
    (place / "training.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return ", ".join(f"{name} {x:.3f}" for name, x in log[-1].items() if name.startswith("eval/"))


def _answers(folder: Path, host_name: str) -> list[tuple[Problem, Prefix, bool]]:
    pool = written(folder, host_name)
    rows = [(s.problem, s, is_right(s.problem, s)) for own in pool.values() for s in own]
    return rows[:ANSWERS]


def learnt(verifier, results: Sequence[SearchResult] = (), *, samples: int = 2) -> dict[str, float]:
    """What a verifier knows of the steps of `results`: loss beside their label entropy, and AUC.

    Held against the exact truth, which training never sees. Without results, they are so many
    `samples` of base for each validation problem.
    """
    results = results or frozen.pool("base", "validation", n=samples)
    pairs = [(r.problem, rollout) for r in results for rollout in r.rollouts]
    scores = verifier.score([rollout for _, rollout in pairs])
    truths = [check_steps(problem, rollout.texts) for problem, rollout in pairs]
    table = step_table((p, own, truth) for (p, _), own, truth in zip(pairs, scores, truths))
    share = table["right"].mean()
    return {
        "eval/loss": float(log_loss(table["right"], table["score"], labels=[False, True])),
        "eval/trivial_loss": float(entropy([share, 1 - share])),
        "eval/auc": auc(table["score"], table["right"]),
    }


def chooses(verifier, *, samples: int = 8) -> dict[str, float]:
    """How a verifier of solutions ranks those of one problem, on base's validation samples."""
    results = frozen.pool("base", "validation", n=samples)
    scores = [score for result in results for (score,) in verifier.score(result.rollouts)]
    right = scaling.correctness(results)
    problems = [result.problem.id for result in results for _ in result.rollouts]
    table = pd.DataFrame({"problem": problems, "score": scores, "right": right.ravel()})
    return {"eval/auc": auc_interval(table, seed=0, by="problem", draws=1)["value"]}


def write_log(log: Sequence[dict[str, float]], path: Path, *, every: int = 10) -> None:
    """A training's log, short enough to ship: every so many updates, and where it was measured.

    Columns update, train/loss (its mean since), train/trivial_loss, measures that most rows lack.
    """
    table = pd.DataFrame(log)
    measured = table.filter(like="eval/")
    table["train/loss"] = table["train/loss"].rolling(every, min_periods=1).mean()
    kept = table[(table["update"] % every == 0) | measured.notna().any(axis=1)]
    columns = ["update", "train/loss", "train/trivial_loss", *measured.columns]
    kept[columns].round(4).to_csv(path, index=False)


def _made(folder: Path, name: str) -> Path:
    """Where another recipe left a verifier; ValueError if it has not."""
    if not (folder / name / LOG).exists():
        recipe = name.replace("_", "-")
        raise ValueError(f"{folder / name} is missing: python -m workbench recipe {recipe}")
    return folder / name


def _labels_file(folder: Path, name: str) -> Path:
    return folder / f"labels_{name}.jsonl"


def _labels(folder: Path, name: str) -> list[LabelledSolution]:
    file = _labels_file(folder, name)
    if not file.exists():
        raise ValueError(f"{file} is missing: python -m workbench recipe labels-{name}")
    return process_data.read(file, format="stepwise")


OF_A_HOST = {
    "labels": labels, "prm": prm, "planted": with_planted, "orm": orm,
    "alone": partial(orm, alone=True), "reward": reward, "outcomes": from_answers, "genrm": genrm,
}  # fmt: skip
VERIFIER_RECIPES: dict[str, Callable[[Path], str]] = {"pools": pools}
VERIFIER_RECIPES |= {
    f"{kind}-{name}": partial(make, host_name=name)
    for kind, make in OF_A_HOST.items()
    for name in READS
}
VERIFIER_RECIPES |= {"plain-base": partial(prm, host_name="base", plain=True)}
