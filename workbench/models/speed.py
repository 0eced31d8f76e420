"""How long will it take? Measured for a few seconds, then multiplied.

A machine reads prompts many times faster than it writes, and trains slower than either, so each is
measured by itself, at the sizes of the run to come. Taught in notebook 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from workbench.models.policy import HFPolicy
from workbench.types import Meter, Prefix, Problem


@dataclass(frozen=True)
class Speed:
    """Tokens a second: read (prompts), written, and learnt from (forward and backward)."""

    read: float
    written: float
    trained: float | None = None

    def minutes(
        self, *, problems: int = 0, samples: int = 1, prompt: int = 0, tokens: int = 0,
        trained: int = 0,
    ) -> float:  # fmt: skip
        """Of sampling (`prompt` tokens are read, `tokens` written a sample) and training on tokens.

        ValueError for training where its speed was not measured.

        >>> Speed(read=1000, written=100).minutes(problems=60, samples=4, prompt=500, tokens=200)
        8.5
        """
        if trained and not self.trained:
            raise ValueError(f"trained={trained}: the speed of training was not measured")
        sampling = problems * (prompt / self.read + samples * tokens / self.written)
        return (sampling + (trained / self.trained if self.trained else 0)) / 60


def measure(
    policy: HFPolicy, problems: Sequence[Problem], *, tokens: int = 32, training_tokens: int = 0
) -> Speed:
    """The speed of a policy on some problems at once, by writing so many tokens for each.

    `training_tokens`: also of a forward and backward pass over as many, by the weights that train.
    ValueError without problems.
    """
    if not problems or tokens < 2:
        raise ValueError(f"{len(problems)} problems, tokens={tokens}: need one, and 2 tokens")
    prefixes = [Prefix(problem.blind()) for problem in problems]
    policy.engine.cache.clear()
    read = _timed(policy, prefixes, room=1)  # and each writes the token that it must
    wrote = _timed(policy, prefixes, room=tokens)  # the prompts are known now
    trained = None
    if training_tokens:
        trained = training_tokens / _backward_seconds(policy.model, training_tokens)
    return Speed(read[0].prefilled / read[1], wrote[0].generated / wrote[1], trained)


def _timed(policy: HFPolicy, prefixes: Sequence[Prefix], room: int) -> tuple[Meter, float]:
    """What it cost to write up to so many tokens for each, and the seconds."""
    meter, n = Meter(), len(prefixes)
    start = perf_counter()
    policy.sample(prefixes, range(n), temperature=1.0, meters=[meter] * n, room=[room] * n)
    return meter, perf_counter() - start


def _backward_seconds(model: torch.nn.Module, tokens: int) -> float:
    """Seconds of a forward and backward pass; gradients are thrown away, weights stay."""
    device = next(model.parameters()).device
    ids = torch.arange(tokens, device=device)[None] % model.get_input_embeddings().num_embeddings
    start = perf_counter()
    with torch.enable_grad():
        logits = model(input_ids=ids, use_cache=False).logits  # (1, T, V)
        logits.float().logsumexp(-1).mean().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = perf_counter() - start
    model.zero_grad(set_to_none=True)
    return seconds
