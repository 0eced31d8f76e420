"""A task that a random tiny model can learn: to write even token ids; and every method to learn it.

Steps end at every token with an "e" in it, so that rollouts of a few tokens have several.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from tiny import tiny_policy

from workbench.problems import quantities
from workbench.train.grpo import GRPO, RECIPE, grpo
from workbench.train.ppo import PPO, ppo
from workbench.train.preferences import DPO, dpo

PROBLEMS = quantities.generate(4, levels=[1, 2], seed=1)
FAST = replace(RECIPE, learning_rate=1e-2, decay=0.0)


def even(problem, rollout):
    """The share of even ids."""
    return float(np.mean([i % 2 == 0 for i in rollout.ids]))


def even_steps(problem, rollout):
    """The share of even ids of each step."""
    return [float(np.mean([i % 2 == 0 for i in step.ids])) for step in rollout.steps]


def bandit(**options):
    return tiny_policy(**{"max_tokens": 8, "separator": "e", **options})


def arm(train, settings, reward=even):
    return SimpleNamespace(train=train, settings=settings, reward=reward)


ARMS = {
    "grpo": arm(grpo, GRPO()),
    "loo, two updates": arm(grpo, GRPO(advantage="leave_one_out", updates=2)),
    "replay": arm(grpo, GRPO(replay=2)),
    "process": arm(grpo, GRPO(advantage="process"), even_steps),
    "pure": arm(grpo, GRPO(advantage="pure", min_temperature=0.1), even_steps),
    "vine": arm(grpo, GRPO(advantage="vine", completions=2)),
    "tppo": arm(ppo, PPO(shared=False, gamma=0.9)),
    "tppo, shared": arm(ppo, PPO(value_weight=0.05)),
    "appo": arm(ppo, PPO(action="step", shared=False)),
    "appo, shared, steps": arm(ppo, PPO(action="step", value_weight=0.05), even_steps),
    "dpo": arm(dpo, DPO(pairs="whole", most=8)),
    "step-dpo": arm(dpo, DPO(most=8, completions=2, bad=0.45, weighted=True)),
}


def run(name, policy, *, source=PROBLEMS, rounds=3, more=None, **settings):
    """The rows of a training by one of `ARMS`; `more` goes to the method beside its settings."""
    chosen = ARMS[name]
    own = replace(chosen.settings, **{"group": 4, "problems": 2, **settings})
    options = {"reward": chosen.reward, "recipe": FAST, "seed": 0, **(more or {})}
    return chosen.train(policy, source, settings=own, rounds=rounds, **options)


def weights(policy):
    return torch.cat([p.detach().flatten() for p in policy.model.parameters()])
