"""What the driver and an engine that runs problems elsewhere say to each other.

`drive.solve(problems, method, engine=...)` keeps numbers, result file, progress and interrupts; the
engine has workers, each with models of its own, that run `drive.work_off` on what they are handed.
The engine that there is: `workbench.scale.ray_engine`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from workbench.types import Budget, Method, Problem, SearchResult


@dataclass(frozen=True)
class Numbered:
    """A problem, its place among all, and how many of its id stand before it.

    Draws are keyed by id and occurrence, so that it does not matter who runs it.
    """

    index: int
    occurrence: int
    problem: Problem

    @property
    def key(self) -> tuple[str, int]:
        """By what a result file, and its draws, know the problem."""
        return self.problem.id, self.occurrence


@dataclass(frozen=True)
class Work:
    """What is done with every problem; it travels to other processes."""

    method: Method
    options: Mapping[str, Any]
    seed: int = 0
    budget: Budget | None = None
    in_flight: int = 64  # problems that run at once in one process


class Finished(NamedTuple):
    """A problem's result, and whether it stays: not what an interrupt or an error ended."""

    at: Numbered
    result: SearchResult
    keep: bool


class Running(Protocol):
    """Problems on their way elsewhere: go through it for the results, in order of finishing."""

    def __iter__(self) -> Iterator[Finished]: ...

    def __next__(self) -> Finished:
        """The next result, of each problem one. It may be asked again after a KeyboardInterrupt."""
        ...

    def stop(self) -> None:
        """Ask for the best so far: only what was handed out still comes, and soon."""
        ...

    def close(self) -> None:
        """Leave what is not finished; nothing more is asked."""
        ...


class Workers(Protocol):
    """An engine: who runs problems in other processes, with the models that are there."""

    def about(self) -> dict[str, str]:
        """What each model is (`drive.identify`), by the name that requests use."""
        ...

    def run(self, problems: Iterable[Numbered], total: int, work: Work) -> Running:
        """Run `total` problems, taken from `problems` no sooner than somebody is free for them."""
        ...
