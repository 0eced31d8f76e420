"""More layers on top of a host, which change nothing before they are trained.

A causal LM knows what should stand in a step in its last layer, one token before it stands there: a
label token of the same depth can no longer look there. Copies of the last layer whose two output
matrices are zero leave every logit as it is, and give a verifier the depth to compare (after LLaMA
Pro, Wu et al. 2024, arXiv 2401.02415; there the copies stand between the layers). Taught in
notebook 03.
"""

from __future__ import annotations

import copy

import torch


def deeper(model: torch.nn.Module, layers: int) -> torch.nn.Module:
    """The model, changed in place, with so many more decoder layers; its logits stay as they are.

    ValueError unless it is built like a Llama (`model.layers`, each with `self_attn.o_proj` and
    `mlp.down_proj`) and layers >= 0.
    """
    stack = getattr(getattr(model, "model", None), "layers", None)
    last = stack[-1] if stack else None
    outputs = [getattr(getattr(last, part, None), name, None) for part, name in OUTPUTS]
    if layers < 0 or None in outputs:
        raise ValueError(
            f"{layers} more layers on {type(model).__name__}: need 0 or more, and layers as "
            f"Llama's with {' and '.join('.'.join(names) for names in OUTPUTS)}"
        )
    for _ in range(layers):
        new = copy.deepcopy(last)
        new.self_attn.layer_idx = len(stack)
        for part, name in OUTPUTS:
            for weight in getattr(getattr(new, part), name).parameters():
                torch.nn.init.zeros_(weight)
        stack.append(new)
    config = model.config.get_text_config()
    config.num_hidden_layers = len(stack)
    if getattr(config, "layer_types", None):
        config.layer_types = [*config.layer_types, *config.layer_types[-1:] * layers]
    return model


OUTPUTS = (("self_attn", "o_proj"), ("mlp", "down_proj"))
