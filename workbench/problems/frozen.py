"""The two sets of problems and the pools of samples that every notebook, figure and table uses.

`validation` (200 problems) is for every choice: thresholds, aggregates, recipes. `test` (400) is
for the numbers that are stated. Levels 2 to 7 take turns, so any first n of them are balanced; the
seeds are fixed for ever. Splits share no problem (see `quantities.signature`), and nothing is
trained on these two.

A pool holds 64 samples by a shipped policy of every problem, drawn once at temperature 1 by `python
-m workbench recipe pools` and shipped as token ids, one byte each: all selectors choose from the
same samples. Of the first 100 of `test` there are also 256 samples by base. Taught in notebook 00.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from workbench.files import write_whole
from workbench.problems.quantities import generate
from workbench.problems.vocabulary import END, STEP, text_of, vocabulary
from workbench.types import Prefix, Problem, SearchResult, Step

BALANCED = range(2, 8)  # levels
SIZES = {"validation": 200, "test": 400}
SAMPLED = ("weak", "base", "strong")
SAMPLES, MANY = 64, 256
FIRST = 100  # so many problems of `test` have `MANY` samples by base
FOLDER = Path(__file__).parents[2] / "data/samples/pools"


def load(split: str) -> list[Problem]:
    """The frozen problems of `validation` or `test`, levels 2, 3 ... 7, 2, 3 ... in turn.

    >>> [problem.level for problem in load("test")[:8]], load("validation")[0].id
    ([2, 3, 4, 5, 6, 7, 2, 3], 'quantities/validation/1002/0')
    """
    check_one_of("split", split, SIZES)
    per_level = -(-SIZES[split] // len(BALANCED))
    columns = [generate(per_level, levels=[i], seed=1000 + i, split=split) for i in BALANCED]
    return [problem for row in zip(*columns) for problem in row][: SIZES[split]]


def pool(policy: str, split: str, *, n: int = SAMPLES) -> list[SearchResult]:
    """`n` (at most 64) samples by a shipped policy of each frozen problem, as `solve` gave them.

    With `n` above 64, up to 256, there are base's samples of the first 100 `test` problems. Steps
    carry no log-probabilities. ValueError for what was never drawn.
    """
    check_one_of("policy", policy, SAMPLED)
    problems, many = load(split), n > SAMPLES
    if n < 1 or (many and (n > MANY or (policy, split) != ("base", "test"))):
        known = f"there are {SAMPLES}, and {MANY} of base on the first {FIRST} of test"
        raise ValueError(f"n={n} samples of {policy} on {split}: {known}")
    if not (path := file(policy, split, many=many)).is_file():
        raise ValueError(f"{path} is missing: python -m workbench recipe pools")
    return read_pool(path, problems, n=n)


def read_pool(
    path: Path, problems: Sequence[Problem], *, n: int | None = None
) -> list[SearchResult]:
    """The first `n` samples, or all, of each problem of a pool that `write_pool` wrote."""
    with np.load(path) as held:
        ids, lengths = held["ids"], held["lengths"]  # (tokens,), (problems, samples)
    ends = np.cumsum(lengths).reshape(lengths.shape)
    out = []
    for problem, own, last in zip(problems, lengths, ends):
        pieces = (ids[end - size : end].tolist() for size, end in zip(own[:n], last[:n]))
        out.append(SearchResult(problem, tuple(prefix_of(problem, piece) for piece in pieces)))
    return out


def prefix_of(problem: Problem, ids: Sequence[int]) -> Prefix:
    """A sampled solution from its token ids, cut into steps where a policy cuts them."""
    end, step = vocabulary().index(END), vocabulary().index(STEP)
    borders = [i for i, token in enumerate(ids, 1) if token in (step, end)]
    if not borders or borders[-1] != len(ids):
        borders.append(len(ids))
    pieces = [tuple(ids[a:b]) for a, b in zip([0, *borders], borders)]
    stop = "end" if ids and ids[-1] == end else "length"
    return Prefix(problem, tuple(Step(text_of(piece), piece) for piece in pieces), stop)


def write_pool(results: Sequence[SearchResult], path: Path) -> None:
    """Write the token ids of a pool, one byte each; ValueError unless they fit."""
    rows = [[rollout.ids for rollout in result.rollouts] for result in results]
    if len({len(row) for row in rows}) != 1 or len(vocabulary()) > 256:
        raise ValueError("a pool needs as many samples of every problem, and at most 256 tokens")
    lengths = np.array([[len(ids) for ids in row] for row in rows], np.uint16)
    ids = np.array([i for row in rows for one in row for i in one], np.uint8)

    def write(part: Path) -> None:
        with part.open("wb") as file:  # given a name, NumPy would add to it
            np.savez_compressed(file, ids=ids, lengths=lengths)

    write_whole(path, write)


def file(policy: str, split: str, *, many: bool = False) -> Path:
    """Where a pool lies."""
    return FOLDER / f"{policy}_{split}{f'_{MANY}' if many else ''}.npz"


def all_pools() -> Iterator[tuple[str, str, int]]:
    """(policy, split, samples) of every pool that is shipped."""
    for split in SIZES:
        yield from ((policy, split, SAMPLES) for policy in SAMPLED)
    yield "base", "test", MANY


def check_one_of(what: str, value: str, known: Sequence[str]) -> None:
    """ValueError for a value that is not known, with those that are."""
    if value not in known:
        raise ValueError(f"{what} {value!r:.40}: use one of {', '.join(known)}")
