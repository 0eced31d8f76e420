"""Muon in float32, for processors that would have to emulate bfloat16.

`torch.optim.Muon` (Jordan et al. 2024) makes every step of a matrix nearly orthogonal by five
Newton-Schulz iterations in bfloat16. Emulated, these take ten times as long as the rest of an
update. Deviation: the same in the precision of the weights. State and settings are torch's.
"""

from __future__ import annotations

import torch


class WideMuon(torch.optim.Muon):
    """`torch.optim.Muon` with its defaults, nothing rounded to bfloat16."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum, state = group["momentum"], self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                average = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
                step = orthogonal(p.grad.lerp(average, momentum), group)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(step, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(matrix: torch.Tensor, group: dict) -> torch.Tensor:
    """The matrix with all its singular values pulled near 1, by Newton-Schulz. (A, B) -> (A, B)"""
    a, b, c = group["ns_coefficients"]
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
