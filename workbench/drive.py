"""The driver: run a method written for one problem on all problems, with full batches and an honest
meter.

A method is a generator function `method(problem, **options)` that yields `Sample` and `Score`
requests and returns a `SearchResult` (or a list of `LabelledSolution`s). The driver advances all
problems in flight to their next request, answers requests of a kind together, and resumes each
generator with its reply.

Every draw has its own random stream, keyed by (seed, problem id and occurrence, request number,
row): what a problem gets does not depend on which problems run beside it. Search methods see the
problem without answer and solution; a method marked `@sees_answer` (labellers) sees it whole.
Models arrive as arguments; this module knows only `types`. Taught in notebook 00.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from workbench import jsonl
from workbench.types import (
    Budget,
    Meter,
    Method,
    Policy,
    Prefix,
    Problem,
    Sample,
    Score,
    SearchResult,
    Stopped,
    Verifier,
)


def stream_key(seed: int, problem_id: str, occurrence: int, request: int, row: int) -> int:
    """The 64-bit key of one row's random stream."""
    name = f"{seed}\0{problem_id}\0{occurrence}\0{request}\0{row}"
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def solve(problems: Sequence[Problem], method: Method, **arguments: Any) -> list[SearchResult]:
    """Run `method` on every problem; results come in the order of the problems. Arguments as for
    `stream`."""
    results: list[SearchResult | None] = [None] * len(problems)
    for i, result in stream(problems, method, **arguments):
        results[i] = result
    return results


def stream(
    problems: Sequence[Problem],
    method: Method,
    *,
    policy: Policy,
    verifier: Verifier | None = None,
    helpers: Mapping[str, Policy | Verifier] | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    in_flight: int = 64,
    save: str | Path | None = None,
    **options: Any,
) -> Iterator[tuple[int, SearchResult]]:
    """Like `solve`, but yields (index, result) as problems finish, in order of finishing.

    `in_flight` problems run at once. `budget` is per problem, checked before each request, so the
    last request may overrun it. `save` names a JSONL file: each finished problem is appended, and
    problems that it already holds are read back instead of run; ValueError if the method, its
    options, seed, budget or the models' names were others. An error inside one problem becomes its
    result's `error`; on an interrupt every problem in flight returns its best so far, the rest come
    back with `stopped="interrupt"`, and nothing of these is saved.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight={in_flight}: need at least 1")
    models = {"policy": policy, "verifier": verifier, **(helpers or {})}
    tasks = _tasks(problems, method, seed, options)
    file = None
    if save:
        names = {
            by: getattr(model, "name", type(model).__name__)
            for by, model in models.items()
            if model is not None
        }
        run = dict(method=method.__name__, seed=seed, budget=repr(budget), options=repr(options))
        file = jsonl.ResultFile(save, names | run)
        done = [(task, file.get(task.problem.id, task.occurrence)) for task in tasks]
        yield from (
            (task.index, replace(saved, problem=task.problem)) for task, saved in done if saved
        )
        tasks = [task for task, saved in done if not saved]
    for task in _run(tasks, models, budget, in_flight, file):
        yield task.index, task.result


def _run(
    tasks: list[_Task],
    models: Mapping[str, Any],
    budget: Budget | None,
    in_flight: int,
    file: jsonl.ResultFile | None,
) -> Iterator[_Task]:
    """Keep `in_flight` tasks going, answer what they wait for, save and yield them as they finish."""
    waiting, live = iter(tasks), []
    while True:
        try:
            for _, task in zip(range(in_flight - len(live)), waiting):
                live.append(task)  # an interrupt amid its start must not lose it
                task.start()
            if not live:
                return
            _answer_all([task for task in live if not task.over], models, budget)
            over = [task for task in live if task.over]
            for task in over:
                task.save(file)
        except KeyboardInterrupt:
            warnings.warn("interrupted: problems in flight return their best so far", stacklevel=4)
            for task in [*live, *waiting]:
                task.stop("interrupt")
                task.save(file)
                yield task
            return
        live = [task for task in live if not task.over]
        yield from over


@dataclass
class _Task:
    """One problem on its way: its generator, its meter, and the request it waits for."""

    index: int
    problem: Problem
    occurrence: int
    seed: int
    generator: Generator
    request: Sample | Score | None = None
    meter: Meter = field(default_factory=Meter)
    sampled: int = 0  # Sample requests so far
    result: SearchResult | None = None
    saved: bool = False

    @property
    def over(self) -> bool:
        return self.result is not None

    def start(self) -> _Task:
        self.resume(lambda: next(self.generator))
        return self

    def resume(self, advance: Callable[[], Any], stopped: str | None = None) -> None:
        """Let the generator run to its next request or its end."""
        try:
            self.request = advance()
            if stopped:
                self.finish(None, stopped=stopped)  # it goes on asking: nothing was brought back
            elif not isinstance(self.request, Sample | Score):
                raise TypeError(
                    f"a method yields Sample or Score requests, not {self.request!r:.80}"
                )
        except StopIteration as end:
            self.finish(end.value, stopped=stopped)
        except Stopped as end:
            self.finish(None, stopped=end.reason)
        except Exception as error:
            self.fail(error)

    def reply(self, value: list) -> None:
        self.meter.calls += 1
        self.resume(lambda: self.generator.send(value))

    def stop(self, reason: str) -> None:
        """Ask for the best so far at the yield where it waits."""
        if self.over:
            return
        if self.request is None:
            self.finish(None, stopped=reason)
        else:
            self.resume(lambda: self.generator.throw(Stopped(reason)), stopped=reason)

    def finish(self, value: Any, stopped: str | None = None) -> None:
        self.generator.close()
        result = (
            value
            if isinstance(value, SearchResult)
            else SearchResult(self.problem, labelled=tuple(value or ()))
        )
        whole = {
            id(p): replace(p, problem=self.problem)
            for p in (*result.rollouts, result.best)
            if p is not None
        }
        self.result = replace(
            result,
            problem=self.problem,
            rollouts=tuple(whole[id(p)] for p in result.rollouts),
            best=whole[id(result.best)] if result.best is not None else None,
            meter=self.meter,
            stopped=stopped or result.stopped,
        )

    def fail(self, error: Exception) -> None:
        self.generator.close()
        where = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        self.result = SearchResult(self.problem, meter=self.meter, error=name)

    def save(self, file: jsonl.ResultFile | None) -> None:
        """Append the result to the file, once; what an interrupt stopped is none."""
        if file and not self.saved and self.result.stopped != "interrupt":
            self.saved = True  # first: an interrupt amid the writing must not lead to a second row
            file.append(self.result, self.occurrence)

    def rows(self) -> list[Prefix]:
        """The pending request as the model sees it: a prefix a row."""
        n = self.request.n if isinstance(self.request, Sample) else 1
        return [prefix for prefix in self.request.prefixes for _ in range(n)]

    def keys(self) -> list[int]:
        """One stream a row of the pending request; the request number counts this problem's
        `Sample`s."""
        rows = range(len(self.rows()))
        keys = [
            stream_key(self.seed, self.problem.id, self.occurrence, self.sampled, row)
            for row in rows
        ]
        self.sampled += 1
        return keys


def _tasks(problems: Sequence[Problem], method: Method, seed: int, options: dict) -> list[_Task]:
    whole, seen = getattr(method, "sees_answer", False), Counter()
    tasks = []
    for i, problem in enumerate(problems):
        generator = method(problem if whole else problem.blind(), **options)
        if not isinstance(generator, Generator):
            raise ValueError(
                f"{method.__name__} is no generator function: a method yields its requests"
            )
        tasks.append(_Task(i, problem, seen[problem.id], seed, generator))
        seen[problem.id] += 1
    return tasks


def _answer_all(tasks: list[_Task], models: Mapping[str, Any], budget: Budget | None) -> None:
    """Answer the pending request of every task, those of one kind in one call."""
    groups: dict[tuple, list[_Task]] = {}
    for task in tasks:
        if budget and budget.spent(task.meter):
            task.stop("budget")
            continue
        request = task.request
        kind = (type(request), request.by)
        if isinstance(request, Sample):
            kind += (request.until, request.temperature, request.prompt)
        groups.setdefault(kind, []).append(task)
    for group in groups.values():
        keys = [task.keys() if isinstance(task.request, Sample) else [] for task in group]
        try:
            replies = _answer(group, keys, models)
        except Exception as error:
            if len(group) == 1:
                group[0].fail(error)
                continue
            replies = [_answer_alone(task, own, models) for task, own in zip(group, keys)]
        for task, reply in zip(group, replies):
            if reply is not None:
                task.reply(reply)


def _answer_alone(task: _Task, keys: list[int], models: Mapping[str, Any]) -> list | None:
    """Answer one task of a group that failed together, so that only the culprit fails."""
    try:
        return _answer([task], [keys], models)[0]
    except Exception as error:
        task.fail(error)
        return None


def _answer(group: list[_Task], keys: list[list[int]], models: Mapping[str, Any]) -> list[list]:
    """One model call for the requests of a group; the time it takes is shared out by rows."""
    request = group[0].request
    model = models.get(request.by)
    if model is None:
        known = ", ".join(name for name, m in models.items() if m is not None)
        raise ValueError(f"the method asks for {request.by!r}, but solve was given only {known}")
    rows = [task.rows() for task in group]
    flat = [prefix for own in rows for prefix in own]
    meters = [task.meter for task, own in zip(group, rows) for _ in own]
    began = time.perf_counter()
    if isinstance(request, Sample):
        flat_keys = [key for own in keys for key in own]
        replies = model.sample(
            flat,
            flat_keys,
            until=request.until,
            temperature=request.temperature,
            prompt=request.prompt,
            meters=meters,
        )
    else:
        replies = model.score(flat, meters=meters)
    share = (time.perf_counter() - began) / max(1, len(flat))
    for meter in meters:
        meter.seconds += share
    replies = iter(replies)
    return [[next(replies) for _ in own] for own in rows]
