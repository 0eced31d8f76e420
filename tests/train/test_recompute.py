"""Layers that run again for their gradients: the same gradients, and less that is kept."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_model, tiny_policy

from workbench.models.memory import activation_bytes
from workbench.problems import quantities
from workbench.train.learner import Learner, Recipe
from workbench.train.lora import with_lora
from workbench.train.recompute import recomputing
from workbench.types import Prefix

ROWS = torch.arange(2, 42).repeat(2, 1)  # (B, T)
ALL = Recipe(rank=0, clip=1e9)


def squares(model, batch, totals) -> torch.Tensor:
    return model(ROWS).logits.square().mean()


class One:
    """A batch of which the loss needs nothing."""

    terms, tokens, rows = {"step": 1}, ROWS.numel(), len(ROWS)

    def to(self, device):
        return self


def kept_bytes(model, again: bool) -> int:
    """What a forward pass leaves behind for the backward one, weights not counted."""
    weights, kept = {p.data_ptr() for p in model.parameters()}, {}

    def note(x):
        if x.data_ptr() not in weights:
            kept[x.data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        if again:
            with recomputing(model):
                squares(model, None, None)
        else:
            squares(model, None, None)
    return sum(kept.values())


@pytest.mark.parametrize("adapters", [False, True])
def test_an_update_is_the_same_and_the_model_is_left_as_it_was(adapters):
    models = [tiny_model(dtype=torch.float64) for _ in range(2)]
    if adapters:
        models = [with_lora(model, replace(ALL, rank=2)) for model in models]
        weights = {n: torch.randn_like(p) / 3 for n, p in models[0].named_parameters()}
        for model in models:
            model.load_state_dict(weights)
    found = []
    for model, again in zip(models, (False, True)):
        switches = [(part.training, set(vars(part))) for part in model.modules()]
        learner = Learner(model, replace(ALL, recompute=again))
        found.append(learner.update([One()], squares))
        assert [(part.training, set(vars(part))) for part in model.modules()] == switches
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    for ours, theirs in zip(*(model.parameters() for model in models)):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_less_is_kept():
    model = tiny_model()
    plain, again = kept_bytes(model, False), kept_bytes(model, True)
    assert again < 0.6 * plain
    of_config = [activation_bytes(model.config, torch.float32, on) for on in (False, True)]
    assert of_config[1] < of_config[0]


def test_a_policy_samples_as_before_between_updates():
    problems = [Prefix(p.blind()) for p in quantities.generate(3, levels=[2], seed=1)]
    ids = []
    for again in (False, True):
        policy = tiny_policy(dtype=torch.float64)
        learner = Learner(policy.model, replace(ALL, recompute=again))
        learner.update([One()], squares)
        ids.append([p.ids for p in policy.sample(problems, range(3))])
    assert ids[0] == ids[1]


def test_a_model_without_such_layers_is_refused_in_one_line():
    why = "recompute: Linear has no layers that can run again"
    with pytest.raises(ValueError, match=why), recomputing(torch.nn.Linear(2, 2)):
        pass
