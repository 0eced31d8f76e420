"""Mixed precision: updates too small for a bfloat16 weight add up, float32 models are trained in
place."""

import pytest
import torch

from workbench.train import learner
from workbench.train.learner import MasterWeights


def model_of(dtype, value=1.0):
    model = torch.nn.Linear(1, 3, bias=True).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)
    model.bias.requires_grad_(False)
    return model


def test_what_is_too_small_for_bfloat16_adds_up():
    plain, model = model_of(torch.bfloat16), model_of(torch.bfloat16)
    master = MasterWeights(model)
    optimizer = torch.optim.SGD(master.weights.values(), lr=1e-3)
    for _ in range(10):
        master.zero_gradients()
        model.weight.grad = torch.ones_like(model.weight)
        master.take_gradients()
        assert master.clip_gradients(10.0) == pytest.approx(3**0.5)
        optimizer.step()
        master.write()
        with torch.no_grad():
            plain.weight -= 1e-3
    assert (plain.weight == 1).all()  # each update was rounded away
    # 0.99, rounded
    assert model.weight.dtype == torch.bfloat16 and model.weight.tolist() == [[0.98828125]] * 3
    assert master.weights["weight"].tolist() == [[pytest.approx(0.99)]] * 3
    # frozen weights are not its concern
    assert (model.bias == 1).all() and list(master.weights) == ["weight"]


def test_gradients_are_clipped_by_their_norm_and_a_weight_without_one_is_let_be():
    model = model_of(torch.bfloat16)
    model.bias.requires_grad_(True)
    master = MasterWeights(model)
    model.weight.grad = torch.tensor([[3.0], [0.0], [4.0]], dtype=torch.bfloat16)
    master.take_gradients()
    assert master.clip_gradients(1.0) == pytest.approx(5.0)
    assert master.weights["weight"].grad.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert master.weights["bias"].grad is None and model.weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_weights_are_trained_in_place(dtype):
    model = model_of(dtype)
    master = MasterWeights(model)
    assert master.weights["weight"] is model.weight
    model.weight.grad = torch.ones_like(model.weight)
    master.take_gradients()
    torch.optim.SGD(master.weights.values(), lr=0.5).step()
    master.write()
    assert model.weight.tolist() == [[0.5]] * 3


def test_gradients_of_many_micro_batches_add_up_in_float32():
    model = model_of(torch.bfloat16)
    master = MasterWeights(model)
    for gradient in (1.0, *[2.0**-9] * 8):  # 1 + 2**-9 is 1 in bfloat16
        model.weight.grad = torch.full_like(model.weight, gradient)
        master.take_gradients()
    assert master.weights["weight"].grad.tolist() == [[1 + 8 * 2.0**-9]] * 3


def test_an_error_in_one_process_is_one_in_all(monkeypatch):
    def breaks():
        raise ValueError("no room")

    assert learner.together(lambda: 3) == [3]  # alone: what it makes, and its errors as they are
    with pytest.raises(ValueError, match="no room"):
        learner.together(breaks)
    monkeypatch.setattr(learner, "this_process", lambda: (0, 2))
    sent = []
    monkeypatch.setattr(learner, "gathered", lambda own: sent.append(own) or [own, "theirs"])
    assert learner.together(lambda: "mine") == ["mine", "theirs"]
    with pytest.raises(RuntimeError, match="ValueError: no room"):
        learner.together(breaks)
    assert len(sent) == 2  # it came to the others all the same
    monkeypatch.setattr(learner, "gathered", lambda own: [own, sent[1]])
    with pytest.raises(RuntimeError, match="no room"):  # theirs
        learner.together(lambda: "mine")
