"""Round again: improve the policy by its PRM, label what it writes now, train the PRM on with that.

- `iterate-1`, `-2`, `-3`: RL by the answer and the PRM; then the new policy's own likelihood labels
  its own solutions, and the PRM is trained on with these;
- `expert-1`, `-2`, `-3`: the same, but the policy is fine-tuned on what search found, the best of
  its samples by the PRM;
- `longer`: RL alone, by the first PRM, for three times what the first round of `iterate` cost.

The first round begins at `base` and `prm_base`, each other one where the one before ended. What a
round leaves under `runs/recipes/iteration`: policy, PRM, samples of `test` with the scores of the
PRM before and after, and `facts.json` with what it cost: tokens written, read and trained on. To
compare costs, `forward_passes` counts a trained token three times, for its way forward and back.

Expert iteration: Anthony et al. 2017, arXiv 1705.08439; with search results as targets also
AlphaZero (Silver et al. 2017, 1712.01815). Deviations: search is a vote among samples, not a tree;
values are not learnt from its outcomes but from labels. Taught in notebook 07.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from workbench.analyse.metrics import aggregate, weighted_vote
from workbench.analyse.scaling import correctness
from workbench.files import write_whole
from workbench.models import load_policy, load_verifier
from workbench.models.policy import HFPolicy
from workbench.models.saved_policy import save_policy
from workbench.problems import answer_of, frozen, quantities
from workbench.recipes import policies, verifiers
from workbench.train.grpo import RECIPE
from workbench.train.iterate import fine_tune
from workbench.train.prm import train_prm
from workbench.train.sft import Lesson
from workbench.types import Meter, Prefix, SearchResult, Verifier

SHIPPED_ROUNDS = frozen.FOLDER.parent / "iteration"  # what notebook 07 reads
TURNS = 3
SPENT = 1_000_000  # tokens by which a round improves the policy
LABELLED = 1_250  # problems whose solutions are labelled in a round
CHOSEN_OF = 16  # samples of a problem, for search and for the test
Facts = dict[str, Any]
# of the policy in the shipped rounds; the ways of notebook 06 have Muon since (`policies.MUON`)
ADAMW = replace(RECIPE, learning_rate=8e-4, vector_rate=0.04, adam_epsilon=1e-4, clip=0.07)
GO_ON_WITH = replace(verifiers.PRM, epochs=1.0, matrix_rate=0.007)


def turn(folder: Path, way: str, number: int) -> str:
    """One round: improve the policy, then label, and train the PRM on."""
    place, before = (folder / "iteration" / f"{way}_{i}" for i in (number, number - 1))
    policy, prm = ("base", "prm_base") if number == 1 else (before / "policy", before / "prm")
    if number > 1 and not (before / "facts.json").exists():
        raise ValueError(f"{before} is not finished: python -m workbench recipe {way}-{number - 1}")
    improve = {"iterate": by_rewards, "expert": by_search}[way]
    cost = place / "improving.json"
    if not cost.exists():
        _write(improve(place, policy, prm, number, SPENT), cost)
    facts = {"improving": json.loads(cost.read_text())} | relabel(place, prm, number)
    return _finish(place, [prm, place / "prm"], facts)


def longer(folder: Path) -> str:
    """RL alone, for what three rounds of `iterate` cost if all are like the first."""
    facts = json.loads((folder / "iteration" / "iterate_1" / "facts.json").read_text())
    learning = facts["improving"]
    rounds = TURNS * forward_passes(facts) / forward_passes({"improving": learning})
    place = folder / "iteration" / "longer_1"
    cost = by_rewards(place, "base", "prm_base", 1, round(rounds * sum(learning.values())))
    return _finish(place, ["prm_base"], {"improving": cost})


def forward_passes(facts: Facts) -> int:
    """What a round cost in all, in tokens that go once through a model."""
    costs = [facts[part] for part in ("improving", "labelling") if part in facts]
    return sum(cost["written"] + cost["read"] + 3 * cost["trained"] for cost in costs)


# -- improve ---------------------------------------------------------------------------------------


def by_rewards(place: Path, policy_name, prm_name, number: int, budget: int) -> dict[str, int]:
    """RL by the answer and the PRM's worst step, for `budget` tokens; returns what it cost."""
    policy = load_policy(policy_name, dtype="fast")
    arm = policies.Arm("grpo", {}, partial(policies.mixed_reward, name=prm_name))
    kept = {"log": place / "log.jsonl", "checkpoints": place / "state", "evaluations": 10}
    kept |= {"recipe": ADAMW}
    *_, last = policies.taught(policy, arm, seed=10 + number, budget=budget, **kept)
    save_policy(policy, place / "policy")
    kinds = {"written": "tokens", "read": "verifier_tokens", "trained": "trained_tokens"}
    return {name: int(last[f"train/{kind}"]) for name, kind in kinds.items()}


def by_search(place: Path, policy_name, prm_name, number: int, budget: int) -> dict[str, int]:
    """Fine-tune on the PRM's choice among samples, `budget` tokens in all; returns what it cost."""
    policy, verifier = load_policy(policy_name, dtype="fast"), load_verifier(prm_name)
    meter, lessons, problems = Meter(), [], policies.training_problems(10 + number)
    while problems and meter.generated + meter.verifier < budget // 2:
        some, problems = problems[: policies.RFT_DRAWS], problems[policies.RFT_DRAWS :]
        for result in policies.sampled_by(policy, some, n=CHOSEN_OF, seed=number):
            meter.generated += result.meter.generated
            best = chosen(result, verifier, meter)
            lessons.append(Lesson(best.problem, best.prompt, best.text))
    rest = budget - meter.generated - meter.verifier
    fine_tune(policy, lessons, tokens=rest, seed=number)
    save_policy(policy, place / "policy")
    return {"written": meter.generated, "read": meter.verifier, "trained": rest}


def chosen(result: SearchResult, verifier: Verifier, meter: Meter) -> Prefix:
    """Of the samples with the answer that the PRM votes for, the one whose worst step is best."""
    rows = verifier.score(result.rollouts, meters=[meter] * len(result.rollouts))
    scores = [aggregate(row, "min") for row in rows]
    answers = [answer_of(rollout) for rollout in result.rollouts]
    winner = weighted_vote(answers, scores)
    own = [i for i, answer in enumerate(answers) if answer == winner] or range(len(answers))
    return result.rollouts[max(own, key=scores.__getitem__)]


# -- label, and train the PRM on ------------------------------------------------------------------


def relabel(place: Path, prm_name, number: int) -> Facts:
    """Train the PRM on with solutions that the new policy writes and labels itself."""
    meter = Meter()
    of = {"levels": frozen.BALANCED, "seed": 500 + number, "split": "train"}
    problems, writer = quantities.generate(LABELLED, **of), str(place / "policy")
    pool = verifiers.distinct(problems, {writer: place / "solutions.jsonl"}, meter=meter)
    rows = verifiers.agreed(pool, writer, meter=meter)
    about = {"loss": verifiers.PRM_LOSS, "recipe": GO_ON_WITH, "held_out": verifiers.learnt}
    host = load_verifier(prm_name, dtype="float32")
    verifiers.trained(train_prm, rows, place / "prm", host, **about)
    trained = json.loads((place / "prm" / "training.json").read_text())["tokens"]
    cost = {"written": meter.generated, "read": meter.verifier, "trained": trained}
    return {"labelling": cost, "labelled": len(rows)}


# -- measure ---------------------------------------------------------------------------------------


def _finish(place: Path, judges: list, facts: Facts) -> str:
    """Samples of `test` by the new policy, what each judge scores their steps, and the facts."""
    policy: HFPolicy = load_policy(place / "policy", dtype="fast")
    results = policies.sampled_by(policy, frozen.load("test"), n=CHOSEN_OF, seed=0)
    frozen.write_pool(results, place.with_suffix(".npz"))
    scores = {}
    for name, judge in zip(("before", "after"), judges):
        verifier = load_verifier(judge)
        rows = (row for result in results for row in verifier.score(result.rollouts))
        scores[name] = np.array([x for row in rows for x in row], np.float16)
    np.savez_compressed(place.with_name(f"{place.name}_scores.npz"), **scores)
    for path in (place / "facts.json", place.with_name(f"{place.name}_facts.json")):
        _write(facts, path)
    right = correctness(results).mean()
    return f"{place.name}: {right:.3f} of test, one sample; {facts}"


def _write(facts: Facts, path: Path) -> None:
    text = json.dumps(facts) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def in_steps(scores: np.ndarray, results: Sequence[SearchResult]) -> list[list[list[float]]]:
    """Scores one after the other, (steps,), as they belong to the steps of samples."""
    left = iter(scores.tolist())
    rows = (result.rollouts for result in results)
    return [[[next(left) for _ in rollout.steps] for rollout in row] for row in rows]


_ROUNDS = [(way, number) for way in ("iterate", "expert") for number in range(1, TURNS + 1)]
ITERATION_RECIPES = {f"{way}-{i}": partial(turn, way=way, number=i) for way, i in _ROUNDS}
ITERATION_RECIPES |= {"longer": longer}
