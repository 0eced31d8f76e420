"""What SmolLM2's policies write to stories that nothing is learnt from, and how it is judged.

| recipe | makes | about |
|---|---|---|
| `smollm2-weight` | how well the PRM chooses with more and less likelihood (validation) | 6 min |
| `smollm2-pools` | samples of the test stories by all policies, as texts | 15 min |
| `smollm2-scores` | what `STORY_JUDGES` say of the taught policy's samples; beam search | 10 min |
| `smollm2-real` | greedy answers of both to problems of `REAL`: which are right | 10 min |

The models are those of `recipes.smollm2`. Nothing is chosen on `test`. Taught in notebook 10.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.analyse import scaling
from workbench.models import load_policy
from workbench.models.ensemble import Ensemble
from workbench.models.policy import HFPolicy
from workbench.problems import benchmarks, is_right
from workbench.recipes import lessons, smollm2
from workbench.recipes.policies import sampled_by
from workbench.recipes.verifiers import learnt
from workbench.types import Prefix, Problem, SearchResult, Step, Verifier

STORY_SAMPLES = 16
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
STORY_JUDGES = {"the PRM": (1.0, 0.0), "likelihood": (0.0, 1.0), "both": (1.0, smollm2.LIKELIHOOD)}
REAL = {"svamp": "test", "mawps": "test", "gsm8k": "test", "gsm_symbolic": "symbolic"}  # splits
REAL_SIZE = 400  # problems of each

SampleScores = list[list[list[float]]]  # of each problem's samples, each step's score


# -- the stages ------------------------------------------------------------------------------------


def story_weight(folder: Path) -> str:
    """Let every weight choose among samples of the validation stories."""
    place, members = folder / "smollm2", smollm2.story_judge(folder).members
    about = {"policy": smollm2.story_policy(place / "sft"), "n": STORY_SAMPLES, "seed": 5}
    results = sampled_by(problems=lessons.frozen_stories("validation"), **about)
    pairs = {str(weight): (1.0, weight) for weight in WEIGHTS} | {"alone": (0.0, 1.0)}
    rows = []
    for name, weights in pairs.items():
        verifier = Ensemble(members, weights)
        found = {"weight": name, "eval/auc": learnt(verifier, results)["eval/auc"]}
        rows.append(found | _chosen(results, scores_of(verifier, results)))
    table = pd.DataFrame(rows).round(4)
    table.to_csv(place / "weight.csv", index=False)
    return table.to_string(index=False)


def _chosen(results: Sequence[SearchResult], scores: SampleScores) -> dict[str, float]:
    """How many stories the best of all samples gets right, and the vote weighted by scores."""
    parts = scaling.pool_parts(results)
    rules = {"best": "prm_min_max", "vote": "prm_min_vote"}
    return {
        name: float(scaling.values_at(rule, STORY_SAMPLES, *parts, scores, seed=0).mean())
        for name, rule in rules.items()
    }


def story_pools(folder: Path) -> str:
    """Samples of the test stories by each policy, and its greedy answers."""
    place, test, told = folder / "smollm2", lessons.frozen_stories("test"), []
    greedy, several = ("_greedy", 1, 0.0), ("", STORY_SAMPLES, 1.0)
    pools = {"untaught": [greedy]} | {
        name: [greedy, several] for name in smollm2.story_policies(place)
    }
    for name, own in pools.items():
        policy = _untaught() if name == "untaught" else smollm2.story_policy(place / name)
        for what, n, temperature in own:
            about = {"n": n, "temperature": temperature, "seed": 0}
            about["save"] = place / f"{name}{what}_pool.jsonl"
            results = sampled_by(policy, test, **about)
            write_texts(results, place / f"{name}{what}.json.gz")
            told.append(f"{name}{what} {scaling.correctness(results).mean():.3f}")
    return ", ".join(told)


def story_scores(folder: Path) -> str:
    """Judge the taught policy's samples in all ways, and search by the PRM and likelihood."""
    place, test = folder / "smollm2", lessons.frozen_stories("test")
    judge, policy = smollm2.story_judge(folder), smollm2.story_policy(place / "sft")
    pool = read_texts(place / "sft.json.gz", test)
    ways = {name: Ensemble(judge.members, weights) for name, weights in STORY_JUDGES.items()}
    scores = {name: scores_of(verifier, pool) for name, verifier in ways.items()}
    write_scores(scores, place / "scores.json.gz")
    judge.forget()  # the search pays for all that it reads
    about = {"method": "beam_search", "verifier": judge, "seed": 0, "save": place / "beam.jsonl"}
    beams = sampled_by(policy, test, **about)
    rows = [
        {"id": r.problem.id, "right": int(is_right(r.problem, r.best) if r.best else False),
         "generated": r.meter.generated, "verifier": r.meter.verifier}
        for r in beams
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(place / "beam.csv", index=False)
    return f"beam search {table['right'].mean():.3f}"


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
    for name in smollm2.story_policies(place):
        about = {"n": 1, "seed": 0, "temperature": 0.0, "save": place / f"{name}_real.jsonl"}
        found = sampled_by(smollm2.story_policy(place / name), [*problems.values()], **about)
        right[name] = scaling.correctness(found)[:, 0].astype(int)
    index = pd.MultiIndex.from_tuples(problems, names=["benchmark", "id"])
    table = pd.DataFrame(right, index=index)
    table.to_csv(place / "real.csv")
    return table.groupby("benchmark").mean().round(3).to_string()


def scores_of(verifier: Verifier, results: Sequence[SearchResult]) -> SampleScores:
    """What a verifier says of every step of every sample."""
    return [verifier.score(result.rollouts) for result in results]


def _untaught() -> HFPolicy:
    """The model as it comes, asked by its own chat template."""
    return load_policy("smollm2", dtype="fast", max_tokens=smollm2.WAY_TO_WRITE["max_tokens"])


# -- as files --------------------------------------------------------------------------------------


def write_texts(results: Sequence[SearchResult], path: Path) -> None:
    """Keep the steps of samples, of all problems in their order."""
    _write([[[[*own.texts], own.stop] for own in r.rollouts] for r in results], path)


def read_texts(path: Path, problems: Sequence[Problem]) -> list[SearchResult]:
    """The samples of the first problems that `write_texts` kept."""
    results = []
    for problem, own in zip(problems, _read(path)):
        rollouts = [Prefix(problem, tuple(map(Step, texts)), stop) for texts, stop in own]
        results.append(SearchResult(problem, tuple(rollouts)))
    return results


def write_scores(scores: dict[str, SampleScores], path: Path) -> None:
    """Keep what verifiers say, by their names."""
    # of likelihoods far below 1 a number of decimals would leave nothing
    short = {
        name: [[[float(f"{x:.4g}") for x in row] for row in own] for own in judged]
        for name, judged in scores.items()
    }
    _write(short, path)


def read_scores(path: Path) -> dict[str, SampleScores]:
    """What `write_scores` kept."""
    return _read(path)


def _write(value: Any, path: Path) -> None:
    # the same bytes whenever it is written
    path.write_bytes(gzip.compress(json.dumps(value).encode(), mtime=0))


def _read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


STORY_RECIPES: dict[str, Callable[[Path], str]] = {
    "smollm2-weight": story_weight,
    "smollm2-pools": story_pools,
    "smollm2-scores": story_scores,
    "smollm2-real": real_answers,
}
