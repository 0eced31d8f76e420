"""Adapters: a few thin matrices learn in the place of all weights (LoRA, arXiv 2106.09685).

    recipe = Recipe(rank=16, learning_rate=1e-4)
    policy = under_lora(load_policy("Qwen/Qwen2.5-7B-Instruct", quantise=True), recipe)
    for row in grpo(policy, problems, recipe=recipe, rounds=100, seed=0): ...
    save_policy(policy, "runs/mine")  # the adapters alone; load_policy finds their base

Taught in notebook 10.
"""

from __future__ import annotations

import copy

import torch

from workbench.models.checkpoints import without_library_notes
from workbench.models.engine import Engine
from workbench.models.policy import HFPolicy
from workbench.models.quantised import check_trainable
from workbench.train.learner import Recipe


def under_lora(policy: HFPolicy, recipe: Recipe) -> HFPolicy:
    """The policy under new adapters, on the same weights; these alone will train.

    ValueError for a recipe of rank 0.
    """
    if not recipe.rank:
        raise ValueError("rank=0: a policy trains all its weights without adapters, too")
    old, new = policy.engine, copy.copy(policy)
    new.model = with_lora(policy.model, recipe).to(policy.model.dtype).eval()
    sizes = {"batch_tokens": old.batch_tokens, "cache_tokens": old.cache.max_tokens}
    new.engine = Engine(new.model, **sizes)
    return new


def with_lora(model: torch.nn.Module, recipe: Recipe) -> torch.nn.Module:
    """The model under new adapters of the recipe's rank, which alone will train (and a new head).

    Rank 0 leaves it as it is, to train whole: a ValueError if its weights are in 4 bits.
    """
    if not recipe.rank:
        check_trainable(model)
        return model
    with without_library_notes():
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=recipe.targets if isinstance(recipe.targets, str) else [*recipe.targets],
            # peft trains and saves the head of a sequence classifier as a whole
            task_type="SEQ_CLS" if hasattr(model, "score") else "CAUSAL_LM",
        )
        return get_peft_model(model, config)
