"""Random draws that do not depend on what else is in the batch: one uniform per token and row.

A counter-based generator gives the n-th number of any stream without computing those before it. So
what a row draws is fixed by its key and its position, never by the rows beside it. Taught in
notebook 09.
"""

from __future__ import annotations

import numpy as np
import torch


def uniforms(keys: np.ndarray, starts: np.ndarray, n: int) -> np.ndarray:
    """`n` numbers in [0, 1) of each stream from position `starts` on. (B,), (B,) -> (B, n)

    SplitMix64 (Steele et al. 2014).

    >>> uniforms(np.array([0], np.uint64), np.array([0], np.uint64), 2).round(6).tolist()
    [[0.883311, 0.431528]]
    """
    with np.errstate(over="ignore"):
        steps = starts[:, None] + np.arange(1, n + 1, dtype=np.uint64)  # (B, n)
        z = keys[:, None] + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(
    logits: torch.Tensor, temperature: float, u: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next token of each row, found by inverting its distribution at `u`, and its log-probability.

    (B, V), (B,) -> (B,), (B,). Temperature 0 is greedy; its log-probabilities are those at
    temperature 1.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logp = torch.log_softmax(logits / temperature if temperature else logits, -1)  # (B, V)
    if temperature == 0:
        token = logits.argmax(-1)
    else:
        cdf = logp.exp().cumsum(-1)  # (B, V)
        total = cdf[:, -1:]
        at = torch.as_tensor(u, dtype=cdf.dtype, device=cdf.device)[:, None] * total
        # rounded up, it would draw an impossible token
        at = torch.minimum(at, total.nextafter(total.new_zeros(())))
        token = torch.searchsorted(cdf, at, right=True)[:, 0]
    return token, logp.gather(-1, token[:, None])[:, 0]
