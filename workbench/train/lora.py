"""Adapters: a few thin matrices learn in the place of all weights (LoRA, arXiv 2106.09685).

    recipe, in_4_bits = Recipe(rank=16, learning_rate=1e-5), {"dtype": "bfloat16", "quantise": True}
    policy = under_lora(load_policy("Qwen/Qwen2.5-7B-Instruct", **in_4_bits), recipe, seed=0)
    for row in grpo(policy, problems, recipe=recipe, rounds=100, seed=0): ...
    save_policy(policy, "runs/mine")  # the adapters alone
    policy = load_policy("runs/mine", **in_4_bits)  # finds their base

Notebook 10 trains a real model so.
"""

from __future__ import annotations

import copy

import torch

from workbench.models.checkpoints import without_library_notes
from workbench.models.engine import Engine
from workbench.models.policy import HFPolicy
from workbench.models.quantised import check_trainable
from workbench.train.learner import Recipe


def under_lora(policy: HFPolicy, recipe: Recipe, *, seed: int) -> HFPolicy:
    """The policy under new adapters, drawn by `seed`, which alone will train.

    Its weights are the same ones: go on with what comes back, not with `policy`. ValueError for a
    recipe of rank 0, and for a policy that has adapters already.
    """
    if not recipe.rank or hasattr(policy.model, "peft_config"):
        given = "rank=0 makes no adapters" if not recipe.rank else "it has adapters already"
        raise ValueError(f"{given}: train the policy as it is")
    old, new = policy.engine, copy.copy(policy)
    torch.manual_seed(seed)
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
