"""Muon in float32 takes torch's steps, but for what bfloat16 rounds."""

import pytest
import torch

from workbench.train import learner
from workbench.train.muon import WideMuon, orthogonal


@pytest.mark.parametrize("shape", [(12, 12), (24, 8), (8, 24)])
def test_steps_are_torchs_to_the_rounding_of_bfloat16(shape):
    torch.manual_seed(0)
    start, moved = torch.randn(shape), []
    gradients = [torch.randn(shape) for _ in range(3)]
    for kind in (torch.optim.Muon, WideMuon):
        weight = torch.nn.Parameter(start.clone())
        optimizer = kind([weight], lr=0.1, weight_decay=0.01)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        moved.append(weight.detach() - start)
    assert (moved[0] - moved[1]).norm() < 0.03 * moved[0].norm()
    assert not torch.equal(*moved)


def test_singular_values_are_pulled_near_one():
    torch.manual_seed(0)
    group = torch.optim.Muon([torch.nn.Parameter(torch.zeros(2, 2))]).param_groups[0]
    values = torch.linalg.svdvals(orthogonal(torch.randn(16, 40), group))
    assert values.min() > 0.5 and values.max() < 1.3


@pytest.mark.parametrize(
    ("dtype", "kind"), [(torch.bfloat16, torch.optim.Muon), (torch.float32, WideMuon)]
)
def test_it_is_taken_where_bfloat16_is_emulated(dtype, kind, monkeypatch):
    monkeypatch.setattr(learner, "fast_dtype", lambda device: dtype)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    made = learner.Learner(model, learner.Recipe(matrix_rate=0.01, rank=0))
    assert [type(optimizer) for optimizer in made.optimizers] == [torch.optim.AdamW, kind]
