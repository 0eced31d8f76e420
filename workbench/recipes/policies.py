"""Ways to improve a policy, all from `base` and at one budget: `recipe ARM-SEED`, as `tppo-0`.

| arm | what it learns from |
|---|---|
| `rft` | its own right solutions, drawn once and fine-tuned on |
| `rewrites` | the same, half of them drawn anew from the step that the PRM finds wrong |
| `dpo`, `step-dpo` | pairs of rollouts; of two ways to go on at the first bad step |
| `grpo-answer` | the answer, against the group |
| `grpo-process` | what the PRM scores its steps, normalised over the group |
| `grpo-mixed` | the answer, and the PRM's worst step |
| `grpo-gated` | the answer, times the PRM's worst step: of right answers, the better reached |
| `grpo-both` | the same, by the PRM and base's likelihood together |
| `grpo-exact` | the answer and all steps, by the exact checker: for comparison |
| `pure` | the PRM's lowest score from a step on |
| `tppo`, `appo` | the answer, by a value function per token, per step, which starts as `orm_base` |
| `vine` | the answer, by completions of every prefix |
| `prm-alone`, `likelihood-alone` | the worst step by the PRM, by base's likelihood: no answers |
| `prm-held` | as `prm-alone`, held to the start by a KL term |
| `gold` | given solutions, which the others never see: for comparison |
| `grpo-answer-long`, `grpo-gated-long`, `rft-long` | the same at four times the budget |

The budget is one of tokens: sampled, trained on (also by a critic), and read by a verifier. What an
arm leaves under `runs/recipes/policies` is its log, the policy, and samples of `test` as a pool.
Taught in notebook 06.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.analyse.scaling import correctness
from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.ensemble import Ensemble
from workbench.models.policy import HFPolicy
from workbench.models.saved_policy import save_policy
from workbench.models.verifier import untrained
from workbench.problems import frozen, quantities
from workbench.search import METHODS
from workbench.train.drawn import Drawn, grade, measures
from workbench.train.grpo import GRPO, RECIPE, grpo, rejection_lessons
from workbench.train.iterate import fine_tuning
from workbench.train.learner import Recipe
from workbench.train.ppo import PPO, ppo
from workbench.train.preferences import DPO, dpo
from workbench.train.rewards import Reward, answer, by_verifier, exact, gated, mixed
from workbench.train.sft import Lesson
from workbench.types import Meter, Problem, SearchResult

BUDGET = 2_000_000  # tokens of an arm
LEARNT, TRAINING = range(3, 7), 20_000  # levels of the problems to learn from; how many there are
RFT_DRAWS = 128  # problems at a time
A_ROUND = {"group": 8, "problems": 32, "beta": 0.0}
# of the policy, for all but fine-tuning: Muon's rate is chosen for GRPO on validation
MUON = replace(RECIPE, matrix_rate=0.006, learning_rate=6e-4)
CRITIC_RATE = 3e-4  # of the critic's AdamW: tried for four rounds, beside 1e-3
EVERY = 5  # measures along a run
# of a log: what the budget counts
CHARGED = ["train/tokens", "train/trained_tokens", "train/critic_tokens", "train/verifier_tokens"]
TESTED = 8  # samples of each test problem
SHIPPED_ARMS = frozen.FOLDER.parent / "learning"  # logs and samples that notebook 06 reads

Rows = Iterator[dict[str, float]]
ArmPools = dict[tuple[str, int], list[SearchResult]]


@dataclass(frozen=True)
class Arm:
    """A method, its settings, and the reward, made with the meter that its verifier adds to."""

    method: str  # rft, gold, grpo, ppo or dpo
    settings: dict[str, Any] = field(default_factory=dict)
    reward: Callable[[Meter], Reward] = lambda meter: answer
    times: int = 1  # of the budget


def prm_reward(meter: Meter, aggregate: str = "min", name: str | Path = "prm_base") -> Reward:
    """What a PRM thinks of a rollout, or of its "steps"."""
    verifier = load_verifier(name, dtype="fast")
    return by_verifier(verifier, aggregate=aggregate, meter=meter)


def likelihood_reward(meter: Meter) -> Reward:
    """How likely base, as it was at the start, finds a rollout's worst step."""
    return by_verifier(untrained(load_policy("base", dtype="fast")), meter=meter)


def mixed_reward(meter: Meter, name: str | Path = "prm_base") -> Reward:
    """The answer and a PRM's worst step, in equal parts."""
    return mixed([(0.5, answer), (0.5, prm_reward(meter, name=name))])


def gated_reward(meter: Meter) -> Reward:
    """A PRM's worst step where the answer is right, else 0."""
    return gated(answer, prm_reward(meter))


def both_reward(meter: Meter) -> Reward:
    """As `gated_reward`, by the PRM and base's likelihood together (`ensemble`)."""
    members = load_verifier("prm_base", dtype="fast"), untrained(load_policy("base", dtype="fast"))
    return gated(answer, by_verifier(Ensemble(members), meter=meter))


STEPS = partial(prm_reward, aggregate="steps")
OWN_CRITIC = {"shared": False, "critic_batches": 8}
ARMS = {
    "rft": Arm("rft"),
    "rewrites": Arm("rft", {"method": "critic_search", "n": 4, "rounds": 2, "expand": 2}),
    "dpo": Arm("dpo", {"pairs": "whole", "beta": 0.1}),
    "step-dpo": Arm("dpo", {"pairs": "step", "beta": 0.1, "completions": 4}),
    "grpo-answer": Arm("grpo"),
    "grpo-process": Arm("grpo", {"advantage": "process"}, STEPS),
    "grpo-mixed": Arm("grpo", {}, mixed_reward),
    "grpo-gated": Arm("grpo", {}, gated_reward),
    "grpo-both": Arm("grpo", {}, both_reward),
    "grpo-exact": Arm("grpo", {}, lambda meter: exact),
    "pure": Arm("grpo", {"advantage": "pure"}, STEPS),
    "vine": Arm("grpo", {"advantage": "vine", "completions": 2, "group": 4}),
    "tppo": Arm("ppo", {"action": "token", **OWN_CRITIC}),
    "appo": Arm("ppo", {"action": "step", **OWN_CRITIC}),
    "prm-alone": Arm("grpo", {}, prm_reward),
    "prm-held": Arm("grpo", {"beta": 0.05}, prm_reward),
    "likelihood-alone": Arm("grpo", {}, likelihood_reward),
    "gold": Arm("gold"),
}
LONG = ("grpo-answer", "grpo-gated", "rft")
ARMS |= {f"{name}-long": replace(ARMS[name], times=4) for name in LONG}
SEEDS = range(3)


def improve(folder: Path, arm: str, seed: int) -> str:
    """Train base by one arm, then let it answer the test problems."""
    place = folder / "policies" / f"{arm}_{seed}"
    policy = load_policy("base", dtype="fast")
    held = {"held_out": partial(measured, policy), "evaluations": EVERY}
    held |= {"log": place.with_suffix(".jsonl")}
    held |= {"checkpoints": place.with_name(place.name + "_state")}
    rows = list(taught(policy, ARMS[arm], seed, **held))
    write_rounds(rows, place.with_suffix(".csv"))
    save_policy(policy, place)
    test = frozen.load("test")
    pools = {"": sampled_by(policy, test, n=TESTED, seed=seed)}
    pools["_greedy"] = sampled_by(policy, test, n=1, seed=seed, temperature=0.0)
    if seed == SEEDS[0]:
        few = test[: frozen.FIRST]
        pools[f"_{frozen.SAMPLES}"] = sampled_by(policy, few, n=frozen.SAMPLES, seed=seed)
    for name, results in pools.items():
        frozen.write_pool(results, place.with_name(f"{place.name}{name}.npz"))
    return f"{arm}, seed {seed}: {correctness(pools['']).mean():.3f} of test, one sample"


def training_problems(seed: int) -> list[Problem]:
    """What the arms of one seed learn from, the same for each."""
    return quantities.generate(TRAINING, levels=LEARNT, seed=400 + seed, split="train")


def measured(policy: HFPolicy, *, samples: int = 2) -> dict[str, float]:
    """The share of right answers, and of these the share with a wrong step, on validation."""
    results = sampled_by(policy, frozen.load("validation"), n=samples, seed=0)
    right = grade(results)
    found = measures(Drawn(results, right.flatten().tolist(), right))
    kept = {name: found[name] for name in ("accuracy", "right_by_wrong_steps") if name in found}
    return {f"eval/{name}": x for name, x in kept.items()}


def shipped_pools(
    problems: Sequence[Problem], what: str = "", *, of: Iterable[str] = ARMS
) -> ArmPools:
    """What the arms, or only those named, answered to the first test problems, by (arm, seed).

    `what`: "" for `TESTED` samples, "_greedy" for the likeliest one, "_64" for 64 of the first
    problems, by the arms of seed 0.
    """
    keys = [(arm, seed) for arm in of for seed in SEEDS]
    places = {(arm, seed): SHIPPED_ARMS / f"{arm}_{seed}{what}.npz" for arm, seed in keys}
    there = {key: place for key, place in places.items() if place.exists()}
    return {key: frozen.read_pool(place, problems) for key, place in there.items()}


def all_seeds(found: Mapping[tuple[str, int], NDArray], arm: str) -> NDArray:
    """What all seeds of an arm have of the same problems, side by side: (problems, samples)."""
    return np.hstack([own for (name, _), own in found.items() if name == arm])


def write_rounds(rows: Sequence[dict[str, float]], path: Path, *, every: int = 5) -> None:
    """A training's log, short enough to ship: means over so many rounds, the last of measures.

    Of tokens, which add up, the last as well.
    """
    table = pd.DataFrame(rows)
    kept = ["round", "spent", *(c for c in table if c.startswith("eval/") or c in CHARGED)]
    others = (c for c in table if c.startswith("train/") and c not in kept)
    table = table.reindex(columns=[*kept, *others])
    blocks = table.groupby(pd.Series(range(len(table))) // every)
    path.parent.mkdir(parents=True, exist_ok=True)
    short = blocks.mean().assign(**blocks[kept].last())
    short.dropna(axis=1, how="all").round(4).to_csv(path, index=False)


# -- methods ---------------------------------------------------------------------------------------


def taught(
    policy: HFPolicy,
    arm: Arm,
    seed: int,
    *,
    budget: int | None = None,
    problems: int | None = None,
    recipe: Recipe = MUON,
    **held: Any,
) -> Rows:
    """Train a policy by an arm; yields the rows of its log, each with the tokens spent so far.

    `held` are options of `loop.repeat`; the budget is the arm's own and the problems of a round are
    those of `A_ROUND`, unless they are given. Fine-tuning (RFT, gold) has a recipe of its own.
    """
    budget = budget or arm.times * BUDGET
    if arm.method in ("rft", "gold"):
        yield from _fine_tuned(policy, arm, seed, budget, held)
        return
    method, settings = {"grpo": (grpo, GRPO), "ppo": (ppo, PPO), "dpo": (dpo, DPO)}[arm.method]
    options, meter = dict(held, recipe=recipe), Meter()
    if arm.method == "ppo":
        options["critic_recipe"] = replace(RECIPE, learning_rate=CRITIC_RATE, decay=0.0)
        options["critic"] = load_verifier("orm_base", dtype="float32").model
    sizes = A_ROUND | arm.settings | ({"problems": problems} if problems else {})
    settings, reward = settings(**sizes), arm.reward(meter)
    about = {"settings": settings, "reward": reward, "meter": meter, "until": budget}
    for row in method(policy, training_problems(seed), seed=seed, **about, **options):
        yield row | {"spent": sum(row.get(kind, 0) for kind in CHARGED)}


def _fine_tuned(policy: HFPolicy, arm: Arm, seed: int, budget: int, held: dict[str, Any]) -> Rows:
    """Train on lessons for what their making has left of the budget."""
    problems = training_problems(seed)
    if arm.method == "gold":
        lessons, spent = [Lesson(problem) for problem in problems], 0
    else:
        lessons, spent = _own_right(policy, problems, arm.settings, seed, budget // 2)
    about = {"tokens": budget - spent, "seed": seed, "order": "rft"}
    for row in fine_tuning(policy, lessons, **about, **held):
        yield {"round": row["update"], **row, "spent": spent + row["train/tokens"]}


def _own_right(
    policy: HFPolicy, problems: Sequence[Problem], drawing: dict[str, Any], seed: int, budget: int
) -> tuple[list[Lesson], int]:
    """RFT: the policy's right solutions, each text once, and the tokens that they cost."""
    drawing = {"n": A_ROUND["group"], **drawing}
    judge = load_verifier("prm_base", dtype="fast") if "method" in drawing else None
    results, spent = [], 0
    for start in count(0, RFT_DRAWS):
        some = problems[start : start + RFT_DRAWS]
        if spent >= budget or not some:
            break
        results += sampled_by(policy, some, seed=seed, verifier=judge, **drawing)
        spent = sum(result.meter.generated + result.meter.verifier for result in results)
    return rejection_lessons(results), spent


def sampled_by(
    policy: HFPolicy, problems: Sequence[Problem], method: str = "sample", **options: Any
) -> list[SearchResult]:
    return solve(problems, METHODS[method], policy=policy, **options)


POLICY_RECIPES: dict[str, Callable[[Path], str]] = {
    f"{arm}-{seed}": partial(improve, arm=arm, seed=seed) for arm in ARMS for seed in SEEDS
}
