"""GRPO: learn from rewards alone, each rollout judged against the others of its group.

A round draws fresh problems, samples G rollouts of each, rewards them and updates the policy on
them. Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300), equations 3, 4:

1. rollouts and rewards (`rounds`): by default whether the final answer is right, or any other
   function of `rewards`;
2. advantages (`CREDIT`): reward less the mean of its group, over the group's standard deviation
   (`rl.group_advantages`), or what each step earned (`advantages`);
3. loss (`clipped`): advantage times the ratio of new to old token probability, clipped, plus `beta`
   times an estimate of the KL divergence from the reference.

By its options also Dr. GRPO (arXiv 2503.20783: advantage "none", normalise "constant"), DAPO's loss
(2503.14476: normalise "token", `epsilon_high`), RLOO's advantage (2402.14740), DeepSeekMath's
process supervision (section 4.1.3: advantage "process", a reward with one number a step), PURE
(2504.15275: advantage "pure") and VinePPO (2410.01679: advantage "vine", see there).

`refresh` renews the reference, as DeepSeekMath's iterative variant does. `replay` keeps the
rollouts of earlier rounds and trains on them again, with the advantages and the old
log-probabilities of when they were drawn: more from each rollout, at the price of staler ones.

How this deviates from the paper: old log-probabilities are the trainer's own (see `clipped`); no
reward model unless it is asked for. Replayed rollouts were not drawn by the policy: the clip bounds
what they do, and their KL estimate is biased. Taught in notebooks 05 and 06.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from workbench.models.policy import HFPolicy
from workbench.problems import is_right
from workbench.train import rl
from workbench.train.advantages import ends_of, process_advantages, pure_advantages
from workbench.train.clipped import Clipped, Reference, batches_of, several
from workbench.train.drawn import Drawn, Source, check_source
from workbench.train.learner import Batch, Learner, Recipe, this_process
from workbench.train.rewards import Reward, answer
from workbench.train.rounds import take_rounds
from workbench.train.sft import Lesson
from workbench.train.vine import of_completions
from workbench.types import SearchResult

RECIPE = Recipe(learning_rate=1e-4, micro_tokens=8192, warmup=0, decay=1.0, rank=0)


@dataclass(frozen=True)
class GRPO(Clipped):
    """What a round is: its sizes, how its rewards become advantages, and the loss."""

    advantage: str = "std"  # one of `CREDIT`
    min_temperature: float = 0.1  # of "pure": near 0 a return is the lowest reward
    answer_weight: float = 0.0  # of "pure": of the answer's own term, beside the steps'
    completions: int = 4  # of "vine": drawn from each prefix to know its value
    replay: int = 0  # earlier rounds whose rollouts are trained on again

    def __post_init__(self):
        if self.group < 2:
            raise ValueError(f"group={self.group}: need at least 2")
        super().__post_init__()
        if self.advantage not in CREDIT:
            raise ValueError(f"advantage={self.advantage!r}: use one of {', '.join(CREDIT)}")
        if self.min_temperature <= 0:
            raise ValueError(f"min_temperature={self.min_temperature}: need above 0")
        if self.completions < 1 or self.replay < 0:
            given = f"completions={self.completions}, replay={self.replay}"
            raise ValueError(f"{given}: need at least 1 and 0")
        if self.answer_weight and self.advantage != "pure":
            given = f"answer_weight={self.answer_weight} with advantage={self.advantage!r}"
            raise ValueError(f"{given}: it belongs to 'pure', elsewhere mix the rewards")


# -- from rewards to advantages --------------------------------------------------------------------


def of_outcomes(drawn: Drawn, settings: GRPO) -> torch.Tensor:
    """Equation 4: how much better a rollout did than its group. (P * G,)"""
    rewards = drawn.wholes(f"advantage={settings.advantage!r}")  # (P, G)
    return rl.group_advantages(rewards, normalise=settings.advantage).flatten()


def of_steps(drawn: Drawn, settings: GRPO) -> list[torch.Tensor]:
    """Section 4.1.3: what the steps from a token's own on earned, among all steps of the group."""
    return [a for group in _groups(drawn, settings) for a in process_advantages(*group)]


def of_lowest(drawn: Drawn, settings: GRPO) -> list[torch.Tensor]:
    """PURE: the lowest reward of the steps from a token's own on."""
    advantages = []
    for group, right in zip(_groups(drawn, settings), drawn.right):
        more = {"temperature": settings.min_temperature, "outcomes": settings.answer_weight * right}
        advantages += pure_advantages(*group, **more)
    return advantages


def _groups(drawn: Drawn, settings: GRPO) -> Iterator[tuple[list, list, list]]:
    """Step rewards, ends of steps and lengths of each group."""
    earned, size = drawn.steps(f"advantage={settings.advantage!r}"), drawn.right.shape[1]
    ends, lengths = zip(*((ends_of(rollout), len(rollout.ids)) for rollout in drawn.rollouts))
    for i in range(0, len(earned), size):
        yield tuple(list(column[i : i + size]) for column in (earned, ends, lengths))


# Each gives every rollout of a round, in order, one number or one a token, (T,); or None, if what
# it had to draw was interrupted. To add one, write it and name it here.
CREDIT: dict[str, Callable[[Drawn, GRPO], Sequence[torch.Tensor] | None]] = {
    **{name: of_outcomes for name in rl.ADVANTAGES},
    "process": of_steps,
    "pure": of_lowest,
    "vine": of_completions,
}


# -- training --------------------------------------------------------------------------------------


def grpo(
    policy: HFPolicy,
    problems: Source,
    *,
    settings: GRPO | None = None,
    recipe: Recipe = RECIPE,
    seed: int,
    rounds: int | None = None,
    until: int | None = None,
    reward: Reward = answer,
    ref_policy: HFPolicy | None = None,
    **options: Any,
) -> Iterator[dict[str, float]]:
    """Train `policy` in place on its own rollouts, yielding metrics after every round.

    For so many `rounds`, or `until` so many tokens are spent (`take_rounds`). An update is on all
    rollouts of a round: of the recipe, rates and what belongs to AdamW and Muon count, `decay` and
    `warmup` over the run, `clip`, and `micro_tokens`. Given `SearchResult`s instead of problems it
    trains offline, on these. `options` are those of `take_rounds`: `meter` for a reward by a
    verifier, `log` and `checkpoints` to write and go on from, `held_out`, `keep` ...

    Beside what `take_rounds` reports: `train/entropy`, `train/kl`, `train/sampler_gap` (mean
    |difference| of log-probabilities) and `train/ratio_error` (max |trainer / sampler - 1|) belong
    to the policy that sampled (offline they say how far the policy is from it); `train/loss`,
    `train/clip_fraction` and `train/gradient_norm` (before it is clipped) are means over the
    updates; `train/replayed` is the share of earlier rounds' rollouts in them. With `beta` 0 all
    these cover the rollouts that have an advantage, and a round without any has none of them. A
    loss near 0 is no fault: advantages sum to 0, their gradient does not.

    `ref_policy` is the reference of the KL term (the policy as it is now, unless given); with
    `beta` 0 and none given there is no `train/kl`. An interrupt while sampling ends the training.
    ValueError without problems or without their answers, and for a reward a step where one a
    rollout is needed, or the other way round.
    """
    check_source(problems)
    settings = settings or GRPO()
    settings = replace(settings, constant_length=settings.constant_length or policy.max_tokens)
    options |= {"seed": seed, "rounds": rounds, "until": until, "reward": reward}
    return _rounds(policy, problems, settings, recipe, ref_policy, options)


def _rounds(
    policy, problems, settings: GRPO, recipe: Recipe, ref_policy, options: dict[str, Any]
) -> Iterator[dict[str, float]]:
    if settings.replay and this_process()[1] > 1:
        one = "the log-probabilities of replayed rollouts stay with one process"
        raise ValueError(f"replay={settings.replay} on {this_process()[1]} processes: {one}")
    reference = Reference(policy, ref_policy, settings)
    learner, memory = Learner(policy.model.eval(), recipe), deque(maxlen=settings.replay)

    def learn(drawn: Drawn, rate: float) -> tuple[dict[str, float], torch.Tensor] | None:
        # 1. advantages
        if (advantages := CREDIT[settings.advantage](drawn, settings)) is None:
            return None
        how = {"micro_tokens": recipe.micro_tokens, "online": drawn.online}
        batches, totals = batches_of(policy, drawn.results, advantages, settings, **how)
        # 2. what the reference says of them, and of earlier ones once it is another
        earlier = [batch for old, _ in memory for batch in old]
        reference.read([*batches, *earlier] if reference.renew(drawn.number) else batches)
        # 3. updates
        weight = totals["weight"] + sum(weight for _, weight in memory)
        metrics = several(learner, [*batches, *earlier], {"weight": weight}, settings, rate)
        if settings.replay:
            metrics["train/replayed"] = 1 - totals["weight"] / weight
        replayed = [replace(batch, terms=batch.terms | {"replayed": 1}) for batch in batches]
        memory.append((replayed, totals["weight"]))
        moved = [bool(a.any()) for a in advantages]
        silent = ~torch.tensor(moved).view(drawn.right.shape).any(1)  # (P,)
        return metrics, silent

    def state() -> dict[str, Any]:
        rows = [([vars(batch) for batch in old], weight) for old, weight in memory]
        return {"reference": reference.state(), "memory": rows}

    def restore(kept: dict[str, Any]) -> None:
        reference.restore(kept["reference"])
        to = policy.engine.device
        memory.extend(([Batch(**one).to(to) for one in old], w) for old, w in kept["memory"])

    yield from take_rounds(
        learner, learn, policy, problems, settings, state=state, restore=restore,
        known={"method": "grpo", "reference": ref_policy}, **options,
    )  # fmt: skip


# -- the simplest rival ----------------------------------------------------------------------------


def rejection_lessons(results: Sequence[SearchResult]) -> list[Lesson]:
    """The right rollouts of each problem, each text once, as lessons for `sft`.

    Rejection-sampling fine-tuning is RFT (Yuan et al. 2023, arXiv 2308.01825).
    """
    right = (r for result in results for r in result.rollouts if is_right(result.problem, r))
    return list(dict.fromkeys(Lesson(r.problem, r.prompt, r.text) for r in right))
