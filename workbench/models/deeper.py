"""More layers on top of a host, which change nothing before they are trained.

A causal LM knows what should stand in a step in its last layer, one token before it stands there: a
label token of the same depth can no longer look there. Copies of the last layer whose two output
matrices are zero leave every logit as it is, and give a verifier the depth to compare (after LLaMA
Pro, Wu et al. 2024, arXiv 2401.02415; there the copies stand between the layers).

`look_back`: a copied head looks wherever its layer did. Half of the heads of the first new layer
begin by looking at the token before, where the model said what it expects here. Rotary positions
(Su et al. 2021, arXiv 2104.09864) turn a query by its place and a key by its own; so with the
constant query R(1) k, whose product with the constant key k is largest one token back, a head looks
there whatever it reads. The constants are biases of the projections. Taught in notebook 03.
"""

from __future__ import annotations

import copy

import torch

OUTPUTS = (("self_attn", "o_proj"), ("mlp", "down_proj"))
SHARP = 7.0  # length of the constant query and key at each frequency
SLOWEST = 0.05  # slower frequencies tell neighbours hardly apart


def deeper(model: torch.nn.Module, layers: int, *, look_back: bool = False) -> torch.nn.Module:
    """The model, changed in place, with so many more decoder layers; its logits stay as they are.

    ValueError unless it is built like a Llama (`model.layers`, each with `self_attn.o_proj` and
    `mlp.down_proj`; to look back also `config.attention_bias`) and layers >= 0.
    """
    stack = getattr(getattr(model, "model", None), "layers", None)
    last = stack[-1] if stack else None
    outputs = [getattr(getattr(last, part, None), name, None) for part, name in OUTPUTS]
    if look_back:
        _check_look_back(model)
    if layers < 0 or None in outputs:
        need = f"layers as Llama's with {' and '.join('.'.join(names) for names in OUTPUTS)}"
        given = f"{layers} more layers on {type(model).__name__}"
        raise ValueError(f"{given}: need 0 or more, and {need}")
    config = model.config.get_text_config()
    for _ in range(layers):
        new = copy.deepcopy(last, {id(config): config})  # which all layers share
        new.self_attn.layer_idx = len(stack)
        for part, name in OUTPUTS:
            for weight in getattr(getattr(new, part), name).parameters():
                torch.nn.init.zeros_(weight)
        stack.append(new)
    config.num_hidden_layers = len(stack)
    if getattr(config, "layer_types", None):
        config.layer_types = [*config.layer_types, *config.layer_types[-1:] * layers]
    if look_back and layers:
        _look_back(model, stack[-layers].self_attn)
    return model


def _check_look_back(model: torch.nn.Module) -> None:
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    if rotary is None or not hasattr(model.config.get_text_config(), "attention_bias"):
        need = "need attention_bias and rotary positions"
        raise ValueError(f"{type(model).__name__} cannot look back: {need}")


@torch.no_grad()
def _look_back(model: torch.nn.Module, attention: torch.nn.Module) -> None:
    """Let the first half of a layer's heads attend to the token before, by constants alone."""
    model.config.get_text_config().attention_bias = True
    for layer in model.model.layers:
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            linear = getattr(layer.self_attn, name)
            if linear.bias is None:
                linear.bias = torch.nn.Parameter(linear.weight.new_zeros(linear.out_features))
    turn = model.model.rotary_emb.inv_freq.float()  # (head_dim / 2,) radians a token
    size = SHARP * (turn > SLOWEST)
    query = torch.cat([size * turn.cos(), -size * turn.sin()])  # (head_dim,)
    key = torch.cat([size, torch.zeros_like(size)])
    keys = max(1, attention.k_proj.out_features // len(key) // 2)  # heads; all where there is one
    queries = keys * attention.q_proj.out_features // attention.k_proj.out_features
    pairs = (attention.q_proj, query, queries), (attention.k_proj, key, keys)
    for linear, constant, heads in pairs:
        linear.weight[: heads * len(constant)] = 0
        linear.bias[: heads * len(constant)] = constant.repeat(heads).to(linear.bias)
