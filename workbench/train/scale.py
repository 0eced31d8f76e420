"""Our rewards inside TRL's GRPOTrainer, for more than one process or machine.

TRL brings what a single process lacks: `accelerate launch`, DeepSpeed, rollouts by a vLLM server.
What it lacks comes from here: `as_trl` makes one of our rewards (`rewards`) a TRL reward function,
`dataset_of` our problems a data set, and `StepTrainer` gives every token an advantage of its own,
from rewards a step (DeepSeekMath's process supervision, arXiv 2402.03300, section 4.1.3).

    policy = load_policy("Qwen/Qwen2.5-7B-Instruct", templates=..., dtype="bfloat16")
    reward = by_verifier(load_verifier("Qwen/Qwen2.5-Math-PRM-7B"), aggregate="steps")
    StepTrainer(policy, problems, reward, args=GRPOConfig(use_vllm=True, ...)).train()

    accelerate launch --config_file workbench/recipes/sharded/fsdp.yaml train.py  # 8 GPUs
    torchrun --nproc_per_node 2 train.py  # on CPUs, with ddp_backend="gloo"

Everything else, from the loss to checkpoints, is TRL's own. Needs `pip install trl`. Notebook 06.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from trl import GRPOTrainer

from workbench.models.policy import HFPolicy
from workbench.models.templates import front_ids, render
from workbench.train.advantages import ends_of, process_advantages
from workbench.train.rewards import Earned, Reward, rewards_of
from workbench.types import Prefix, Problem


def dataset_of(policy: HFPolicy, problems: Sequence[Problem]) -> Dataset:
    """What TRL samples from: columns prompt (text) and number (of the problem).

    TRL's tokenizer begins every text with BOS where it has one: one that a template brings goes.
    """
    prompts = [render(policy.templates, "solve", problem) for problem in problems]
    front = policy.tokenizer.decode(front_ids(policy.tokenizer))
    prompts = [text.removeprefix(front) for text in prompts]
    for problem, text in zip(problems, prompts):
        if policy.tokenizer(text).input_ids != policy.prompt_ids(problem):
            raise ValueError(f"{problem.id}: TRL would read other tokens than the policy does")
    return Dataset.from_dict({"prompt": prompts, "number": list(range(len(problems)))})


def as_trl(
    reward: Reward, policy: HFPolicy, problems: Sequence[Problem]
) -> Callable[..., list[float]]:
    """A reward as TRL asks for it, of a data set by `dataset_of`; of one with steps their sum."""

    def earned(*, completion_ids: Sequence[Sequence[int]], number: Sequence[int], **_: Any):
        _, found = _rewarded(reward, policy, problems, completion_ids, number)
        return [sum(x) if isinstance(x, list) else x for x in found]

    return earned


class StepTrainer(GRPOTrainer):
    """TRL's GRPOTrainer where each token has an advantage of its own, from rewards a step.

    `reward` gives one number a step (ValueError if not); `options` are GRPOTrainer's.
    """

    def __init__(
        self, policy: HFPolicy, problems: Sequence[Problem], reward: Reward, **options: Any
    ):
        self._steps: list[tuple[list[float], list[int], int]] = []  # rewards, ends, length

        def sums(*, completion_ids: Sequence[Sequence[int]], number: Sequence[int], **_: Any):
            rollouts, earned = _rewarded(reward, policy, problems, completion_ids, number)
            if not all(isinstance(x, list) for x in earned):
                given = "this one gives one a rollout"
                raise ValueError(f"a StepTrainer needs a reward a step, {given}")
            self._steps = [(x, ends_of(r), len(r.ids)) for r, x in zip(rollouts, earned)]
            return [sum(x) for x in earned]

        options |= {"model": policy.model, "processing_class": policy.tokenizer}
        super().__init__(**options, reward_funcs=[sums], train_dataset=dataset_of(policy, problems))

    def _generate_and_score_completions(self, inputs):
        out = super()._generate_and_score_completions(inputs)
        everybody = gather_object(self._steps)  # of all processes: a group may lie in two of them
        advantages = []
        for i in range(0, len(everybody), self.num_generations):
            advantages += process_advantages(*zip(*everybody[i : i + self.num_generations]))
        first = self.accelerator.process_index * len(self._steps)
        own = pad_sequence(advantages[first : first + len(self._steps)], batch_first=True)
        width, device = out["completion_ids"].shape[1], out["completion_ids"].device
        padded = torch.nn.functional.pad(own, (0, width - own.shape[1]))  # (B, T)
        return out | {"advantages": padded.to(device)}


def _rewarded(
    reward: Reward,
    policy: HFPolicy,
    problems: Sequence[Problem],
    completion_ids: Sequence[Sequence[int]],
    number: Sequence[int],
) -> tuple[list[Prefix], list[Earned]]:
    """TRL's completions as rollouts, and what each earns."""
    whole = [problems[i] for i in number]
    rollouts = [policy.written(*pair) for pair in zip(whole, completion_ids)]
    return rollouts, rewards_of(reward, whole, rollouts)
