"""One problem on its way: a method's generator, the request that it waits for, and its meter.

The driver (`drive`) keeps many of these going and answers their requests together (`replies`). What
a task does not know is who answers, and which other problems run beside it. Taught in notebook 00.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from workbench import jsonl
from workbench.allowance import Portion, portion
from workbench.types import (
    Budget,
    LabelledSolution,
    Meter,
    Prefix,
    Problem,
    Reply,
    Request,
    Sample,
    Score,
    SearchResult,
    Stopped,
)
from workbench.workers import Finished, Numbered, Work

NOTHING = Portion(0)
Models = Mapping[str, Any]  # who answers, by the name that requests use: policies and verifiers


def stream_key(seed: int, problem_id: str, occurrence: int, request: int, row: int) -> int:
    """The 64-bit key of one row's random stream."""
    name = f"{seed}\0{problem_id}\0{occurrence}\0{request}\0{row}"
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


@dataclass
class Task:
    """A problem's generator, its meter, and the request it waits for."""

    at: Numbered
    seed: int
    generator: Generator[Request, Reply, Any]
    whole: bool  # a labeller: its requests are answered whole
    request: Request | None = None
    rows: list[Prefix] = field(default_factory=list)  # of the request, as the model sees it
    keys: list[int] = field(default_factory=list)  # one stream a row
    words: list[Mapping[str, str]] = field(default_factory=list)  # a mapping a row, or none at all
    drawn: Reply = field(default_factory=list)  # the reply so far
    now: Portion = NOTHING  # what is answered next
    owed: Reply = field(default_factory=list)  # drawn to be scored, and not scored yet
    longest: dict[tuple[Any, ...], int] = field(default_factory=dict)  # tokens of a row, by kind
    cut: str | None = None  # why a request was answered in part, or was the last
    told: bool = False  # to stop
    meter: Meter = field(default_factory=Meter)
    sampled: int = 0  # Sample requests so far
    result: SearchResult | None = None
    saved: bool = False

    @property
    def problem(self) -> Problem:
        return self.at.problem

    @property
    def over(self) -> bool:
        return self.result is not None

    @property
    def finished(self) -> Finished:
        """Its result; one that an interrupt stopped, or an error, is not to be saved."""
        assert self.result is not None
        keep = self.result.stopped != "interrupt" and self.result.error is None
        return Finished(self.at, self.result, keep)

    def start(self) -> None:
        self.resume(lambda: next(self.generator))

    def reply(self, value: Reply) -> None:
        self.meter.calls += 1
        self.resume(lambda: self.generator.send(value))

    def stop(self, reason: str) -> None:
        """Ask for the best so far at the yield where it waits."""
        if not self.over and 0 < len(self.drawn) < len(self.rows):
            self.hand_over_part(reason)
        if self.over:
            return
        if self.request is None:
            self.finish(SearchResult(self.problem), stopped=reason)
        else:
            self.resume(lambda: self.generator.throw(Stopped(reason)), stopped=reason)

    def resume(self, advance: Callable[[], Request], stopped: str | None = None) -> None:
        """Let the generator run to its next request or its end."""
        try:
            self.request = advance()
            last = stopped == "budget" and not self.told and isinstance(self.request, Score)
            self.told = self.told or stopped is not None
            if stopped and not last:  # it goes on asking: nothing was brought back
                self.finish(SearchResult(self.problem), stopped=stopped)
            elif isinstance(self.request, Sample | Score):
                self.cut = self.cut or stopped
                self.lay_out()
            else:
                wrong = f"not {self.request!r:.80}"
                raise TypeError(f"a method yields Sample or Score requests, {wrong}")
        except StopIteration as end:
            self.end(end.value, stopped)
        except Stopped as end:
            self.finish(SearchResult(self.problem), stopped=end.reason)
        except Exception as error:
            self.fail(error)

    def end(self, value: Any, stopped: str | None) -> None:
        """Take what the method returned, if it is something."""
        if isinstance(value, list) and all(isinstance(row, LabelledSolution) for row in value):
            value = SearchResult(self.problem, labelled=tuple(value))
        if value is None and stopped:
            value = SearchResult(self.problem)
        if not isinstance(value, SearchResult):
            need = "a method returns a SearchResult or a list of LabelledSolutions"
            return self.fail(TypeError(f"{need}, this one returned {value!r:.80}"))
        if (wrong := _misfits(value)) is not None:
            return self.fail(TypeError(f"{wrong[0]}, found {wrong[1]!r:.80}"))
        self.finish(value, stopped)

    def finish(self, result: SearchResult, stopped: str | None = None) -> None:
        """Keep the result, with the problem as it was given: searches saw a blind copy."""
        self.generator.close()
        found = (*result.rollouts, result.best)
        whole = {id(p): replace(p, problem=self.problem) for p in found if p is not None}
        rollouts = tuple(whole[id(p)] for p in result.rollouts)
        best = whole[id(result.best)] if result.best is not None else None
        why = stopped or result.stopped or self.cut
        told = replace(result, problem=self.problem, rollouts=rollouts, best=best)
        self.result = replace(told, meter=self.meter, stopped=why)

    def fail(self, error: Exception) -> None:
        self.generator.close()
        where = traceback.extract_tb(error.__traceback__)[-1:]
        at = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in where)
        name = f"{type(error).__name__}: {error}{at}"
        self.result = SearchResult(self.problem, meter=self.meter, error=name)

    def save(self, file: jsonl.ResultFile | None) -> None:
        """Append the result to the file, once, if it is to be kept."""
        if file and not self.saved and self.result and self.finished.keep:
            self.saved = True  # first: an interrupt amid the writing must not lead to a second row
            file.append(self.result, self.at.occurrence)

    def lay_out(self) -> None:
        """The rows of the new request; only the problem's `Sample`s are numbered for streams."""
        request, self.drawn, self.keys, self.words = self.request, [], [], []
        assert request is not None
        n = request.n if isinstance(request, Sample) else 1
        self.rows = [prefix for prefix in request.prefixes for _ in range(n)]
        self.now = Portion(len(self.rows))
        if isinstance(request, Sample):
            name = (self.seed, *self.at.key, self.sampled)
            self.sampled += 1
            self.keys = [stream_key(*name, row) for row in range(len(self.rows))]
            self.words = [words for words in request.words for _ in range(n)]

    def next_of(self, values: Sequence[Any]) -> Sequence[Any]:
        """Of values a row those of the rows to answer now."""
        return values[len(self.drawn) :][: self.now.rows]

    def plan(self, budget: Budget, models: Models) -> bool:
        """Choose the rows to answer now; where the budget pays for none, end the request."""
        assert self.request is not None
        at, kind = len(self.drawn), kind_of(self.request)
        if self.whole:
            paid = budget.left(self.meter) > 0
            self.now = Portion(len(self.rows) if paid else 0)
        else:
            self.now = portion(
                self.request, self.rows[at:], self.owed, self.words[at:], budget=budget,
                meter=self.meter, models=models, longest=self.longest.get(kind),
            )  # fmt: skip
        if self.now.rows or not self.rows:
            return True
        if self.drawn:
            self.hand_over_part("budget")
        else:
            self.stop("budget")
        return False

    def hand_over_part(self, reason: str) -> None:
        """Let the method go on with the beginning of the reply that it asked for."""
        self.cut = self.cut or reason
        self.reply(self.drawn)

    def take(self, reply: Reply) -> None:
        """The reply to the rows of now; the method goes on when all are answered."""
        if isinstance(self.request, Sample):
            new = [len(p.ids) - len(row.ids) for p, row in zip(reply, self.next_of(self.rows))]
            kind = kind_of(self.request)
            self.longest[kind] = max([self.longest.get(kind, 0), *new])
            self.owed = [*self.owed, *reply] if self.request.scored_by else self.owed
        else:
            self.owed = []
        self.drawn = [*self.drawn, *reply]
        if len(self.drawn) == len(self.rows):
            self.reply(self.drawn)


def _misfits(result: SearchResult) -> tuple[str, Any] | None:
    """What a result should hold, and the first thing in it that is something else."""
    prefixes, best = "rollouts and best are Prefixes", result.best
    for need, kind, row in (
        (prefixes, Prefix, result.rollouts),
        (prefixes, Prefix, () if best is None else best),
        ("labelled are LabelledSolutions", LabelledSolution, result.labelled),
    ):
        for one in row if isinstance(row, (tuple, list)) else (row,):
            if not isinstance(one, kind):
                return need, one
    return None


def task_of(at: Numbered, work: Work) -> Task:
    """A problem about to be run; ValueError for a method that is no generator function."""
    method, whole = work.method, getattr(work.method, "sees_answer", False)
    generator = method(at.problem if whole else at.problem.blind(), **work.options)
    if not isinstance(generator, Generator):
        what = "is no generator function: a method yields its requests"
        raise ValueError(f"{method.__name__} {what}")
    return Task(at, work.seed, generator, whole)


def kind_of(request: Request | None) -> tuple[Any, ...]:
    """Requests of one kind can be answered together."""
    if isinstance(request, Sample):
        how = request.until, request.temperature, request.prompt, bool(request.words)
        return Sample, request.by, *how
    return Score, request and request.by
