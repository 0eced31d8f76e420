"""Does a score depend on what else is in the batch? Differences to scores one by one.

On paper no row of a batch sees another. On a machine a larger batch is multiplied by other kernels,
which add in another order: scores differ by 1e-7 to 1e-6 in float32, by 1e-3 to 1e-1 in bfloat16. A
wrong mask or position of padded rows, or a score taken from a neighbour, shows in float32, too. A
verifier that writes before it judges can jump besides: where a last bit changes a drawn word, all
that follows is another text. Taught in notebook 04.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np

from workbench.models.reader import Reader
from workbench.models.verifier import GenerativeVerifier, StepVerifier
from workbench.types import Prefix, Verifier

ALL = 1_000_000  # batch_tokens: whatever is given together may be read together


def batch_gaps(
    make: Callable[[str, int], Verifier],
    prefixes: Sequence[Prefix],
    *,
    seed: int,
    batch_sizes: Sequence[int] = (2, 8, 32),
    dtypes: Sequence[str] = ("float32", "bfloat16"),
) -> list[dict]:
    """How far scores in batches are from scores one by one, as one row per dtype and batch size.

    `make(dtype, batch_tokens)` gives a verifier that remembers nothing; it is called for every
    batch, so let it wrap a model that is loaded once. One by one it gets one prefix and
    batch_tokens = 1. The prefixes are shuffled, so that lengths mix; the last batch is filled up
    from the one before.

    Columns: dtype, batch_size (prefixes in a call), n (scores), largest and mean gap to the same
    dtype one by one, largest_float32 and mean_float32 to float32 one by one. Batches of 1 say
    whether a repeat is the same. ValueError for batches that can't be filled, for no scores, and
    for a verifier used again.
    """
    n = len(prefixes)
    if wrong := [size for size in batch_sizes if not 1 <= size <= n]:
        raise ValueError(f"batches of {wrong[0]} from {n} prefixes: need 1 to {n}")
    if not any(prefix.steps for prefix in prefixes):
        raise ValueError(f"no steps in {n} prefixes: there are no scores to compare")
    order = np.random.default_rng(seed).permutation(n)
    shuffled = [prefixes[i] for i in order]
    exact = _scores(make, "float32", shuffled, 1)
    table = []
    for dtype in dtypes:
        alone = exact if dtype == "float32" else _scores(make, dtype, shuffled, 1)
        for size in batch_sizes:
            found = _scores(make, dtype, shuffled, size)
            line = {"dtype": dtype, "batch_size": size, "n": len(found)}
            for name, expected in (("", alone), ("_float32", exact)):
                gaps = np.abs(found - expected)  # (scores,)
                line |= {f"largest{name}": float(gaps.max()), f"mean{name}": float(gaps.mean())}
            table.append(line)
    return table


def afresh(
    verifier: StepVerifier | GenerativeVerifier, batch_tokens: int
) -> StepVerifier | GenerativeVerifier:
    """The same verifier on the same weights, which has read nothing yet: what `make` may give."""
    new, engine = copy.copy(verifier), verifier.reader.engine
    sizes = {"batch_tokens": batch_tokens, "cache_tokens": engine.cache.max_tokens}
    new.reader = Reader(engine.model, **sizes)
    new.forget()
    return new


def _scores(make, dtype: str, prefixes: Sequence[Prefix], size: int) -> np.ndarray:
    """All scores in batches of `size`, each by a verifier of its own."""
    found: dict[int, list[float]] = {}
    verifier = None
    for start in range(0, len(prefixes), size):
        start = min(start, len(prefixes) - size)
        batch, before = prefixes[start : start + size], verifier
        verifier = make(dtype, 1 if size == 1 else ALL)
        if verifier is before:
            kind = type(verifier).__name__
            raise ValueError(f"make gave the same {kind} twice, which may remember: need a new one")
        scores = verifier.score(batch)
        _check(batch, scores, verifier.per)
        found.update(enumerate(scores, start))
    return np.concatenate([found[i] for i in range(len(prefixes))]).astype(float)


def _check(batch: Sequence[Prefix], scores: Sequence[Sequence[float]], per: str) -> None:
    n = len(batch)
    if len(scores) != n:
        raise ValueError(f"scores of {len(scores)} prefixes in a batch of {n}, need as many")
    for prefix, row in zip(batch, scores):
        expected, name = len(prefix.steps) if per == "step" else 1, prefix.problem.id
        if len(row) != expected or np.isnan(row).any():
            raise ValueError(f"{name}: scores {list(row)} in a batch of {n}, need {expected}")
