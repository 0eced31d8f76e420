"""The driver: run a method written for one problem on all of them, in full batches, with a meter.

A method is a generator function `method(problem, **options)`. It yields `Sample` and `Score`
requests, gets the reply at the same line, and returns a `SearchResult` (or a list of
`LabelledSolution`s). The driver lets all problems in flight run to their next request, answers
requests of a kind in one call, and hands each problem its reply. The whole idea in a toy:

>>> def toy_solve(problems, method, write):
...     generators = [method(problem) for problem in problems]
...     requests = {g: next(g) for g in generators}  # every problem runs to its first request
...     results = {}
...     while requests:
...         rows = [p for r in requests.values() for p in r.prefixes for _ in range(r.n)]
...         texts = iter(write(rows))  # one large batch, whoever asked
...         for g, request in list(requests.items()):
...             reply = [next(texts) for _ in request.prefixes for _ in range(request.n)]
...             try:
...                 requests[g] = g.send(reply)  # the method goes on to its next request ...
...             except StopIteration as end:
...                 results[g] = end.value  # ... or to its end
...                 del requests[g]
...     return [results[g] for g in generators]
>>> def until_long(problem):
...     text = ""
...     while len(text) < len(problem):
...         (more,) = yield Sample([text])
...         text += more
...     return text
>>> toy_solve(["abc", "a"], until_long, lambda rows: ["x"] * len(rows))
['xxx', 'x']

What the real one adds. Every draw has its own random stream, keyed by (seed, problem id and
occurrence, request number, row): what a problem gets does not depend on which problems run beside
it. Search methods see the problem without answer and solution; a method marked `@sees_answer`
(labellers) sees it whole. No reply is believed unseen: as many as asked, scores in [0, 1]. Budgets,
interrupts, errors of one problem, result files. Models arrive as arguments, or with an engine whose
workers have their own (`workbench.workers`). Taught in notebook 00.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

from workbench import jsonl
from workbench.allowance import Portion, portion
from workbench.fingerprint import PLAIN, digest
from workbench.types import (
    Budget,
    LabelledSolution,
    Meter,
    Method,
    Policy,
    Prefix,
    Problem,
    Reply,
    Request,
    RowsFailed,
    Sample,
    Score,
    SearchResult,
    Stopped,
    Verifier,
)
from workbench.workers import Finished, Numbered, Work, Workers

NOTHING = Portion(0)
EVERYTHING = 2**63 - 1  # as a number of problems
INTERRUPTED = "interrupted: problems in flight return their best so far"
Models = Mapping[str, Any]  # who answers, by the name that requests use: policies and verifiers


def stream_key(seed: int, problem_id: str, occurrence: int, request: int, row: int) -> int:
    """The 64-bit key of one row's random stream."""
    name = f"{seed}\0{problem_id}\0{occurrence}\0{request}\0{row}"
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def solve(problems: Sequence[Problem], method: Method, **arguments: Any) -> list[SearchResult]:
    """Run `method` on every problem; results come in the order of the problems.

    Arguments as for `stream`.
    """
    results = dict(stream(problems, method, **arguments))
    return [results[i] for i in range(len(problems))]


def stream(
    problems: Sequence[Problem],
    method: Method,
    *,
    policy: Policy | None = None,
    verifier: Verifier | None = None,
    helpers: Mapping[str, Policy | Verifier] | None = None,
    engine: Workers | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    in_flight: int = 64,
    save: str | Path | None = None,
    **options: Any,
) -> Iterator[tuple[int, SearchResult]]:
    """Like `solve`, but yields (index, result) as problems finish, in order of finishing.

    `in_flight` problems run at once. `budget` is per problem (see `workbench.allowance`): what it
    pays for is answered, then the method returns its best so far. An error inside one problem, or a
    wrong reply to it, becomes its result's `error`; on an interrupt every problem in flight returns
    its best so far, the rest come back with `stopped="interrupt"`, and nothing of these is saved,
    nor is a `ConnectionError`: a server that is away says nothing about a problem.

    `save` names a JSONL file: each finished problem is appended, and problems that it already holds
    are read back instead of run. It belongs to one run: ValueError if the method, its options (by
    content), seed, budget or models were others. A model with a method `fingerprint() -> str` is
    known by that (weights, adapters, settings), any other one by its `name`.

    `engine` runs the problems elsewhere, with its own models instead of `policy`, `verifier` and
    `helpers`, `in_flight` of them in each worker; results and file are the same. Only problems on
    their way are held then, but `problems`, which is gone through more than once, by the caller.
    """
    work = Work(method, options, seed, budget, in_flight)
    models = {"policy": policy, "verifier": verifier, **(helpers or {})}
    models = {by: model for by, model in models.items() if model is not None}
    _check_arguments(problems, work, models, engine)
    file = None
    if save:
        about = engine.about() if engine else {by: identify(m) for by, m in models.items()}
        file = jsonl.ResultFile(save, about | _identity(work))
    there = bytearray(len(problems))  # 1 where the result has come
    for index, result in _read_back(problems, file) if file else ():
        there[index] = 1
        yield index, result
    left = (at for at in _numbered(problems) if not (file and file.has(*_key(at))))
    if engine:
        finished = _elsewhere(engine, left, there.count(0), work, file)
        finished = _with_the_rest(finished, problems, there)
    else:
        finished = _here([_task(at, work) for at in left], models, work, file)
    for at, result, _ in finished:
        yield at.index, result


def _check_arguments(
    problems: Sequence[Problem], work: Work, models: Models, engine: Workers | None
) -> None:
    """ValueError for what can't be run; the first problem shows if the method is one."""
    if work.in_flight < 1:
        raise ValueError(f"in_flight={work.in_flight}: need at least 1")
    if engine and models:
        raise ValueError(f"{', '.join(models)} beside an engine: its workers have their own models")
    if not engine and not models:
        raise ValueError("no model to answer: give a policy, or an engine that has one")
    for at in islice(_numbered(problems), 1):
        _task(at, work)


def _numbered(problems: Sequence[Problem]) -> Iterator[Numbered]:
    seen = Counter[str]()
    for index, problem in enumerate(problems):
        yield Numbered(index, seen[problem.id], problem)
        seen[problem.id] += 1


def _key(at: Numbered) -> tuple[str, int]:
    """By what a result file knows a problem."""
    return at.problem.id, at.occurrence


def _read_back(
    problems: Sequence[Problem], file: jsonl.ResultFile
) -> Iterator[tuple[int, SearchResult]]:
    """The results that the file holds; ValueError where one is of another problem."""
    for at in _numbered(problems):
        if result := file.get(*_key(at)):
            if result.problem != at.problem:
                raise ValueError(
                    f"{file.path} holds another problem by the id {at.problem.id!r}: "
                    "name a new file"
                )
            yield at.index, result


def identify(model: Any) -> str:
    """What a model is, for the first line of a result file: its name and its fingerprint, if any.

    A model without weights is known by its name alone.
    """
    return " ".join([_name(model), *([digest(model)] if hasattr(model, "fingerprint") else [])])


def _identity(work: Work) -> dict[str, str]:
    """What a result file belongs to beside its models, in words: what is run, and how."""

    def content(value: Any) -> str:
        plain = isinstance(value, PLAIN) and len(repr(value)) < 80
        return repr(value) if plain else f"{type(value).__name__} {digest(value)}"

    method = work.method
    name = f"{method.__module__.rpartition('.')[2]}.{method.__qualname__}"
    # made on the way (a lambda, a partial, a cell): its code and what it holds count
    made = "<" in name or name.startswith("__main__")
    about = {"method": f"{name} {digest(method)}" if made else name}
    about |= {f"option {key}": content(value) for key, value in sorted(work.options.items())}
    return about | {"seed": repr(work.seed), "budget": repr(work.budget)}


def _name(model: Any) -> str:
    return str(getattr(model, "name", type(model).__name__))


def work_off(
    take: Callable[[int], Iterable[Numbered]], work: Work, models: Models
) -> Iterator[Finished]:
    """Run the problems that `take(n)` hands out, at most n, until there are none: for a worker.

    It is asked between calls to models. Where it raises `Stopped`, the problems in flight, and all
    that it then has left, are finished with the best so far.
    """

    def more(n: int) -> Iterator[_Task]:
        return (_task(at, work) for at in take(n))

    return (task.finished for task in _run(more, models, work, None))


def _here(
    tasks: list[_Task], models: Models, work: Work, file: jsonl.ResultFile | None
) -> Iterator[Finished]:
    """Run the tasks in this process."""
    waiting = iter(tasks)
    return (task.finished for task in _run(lambda n: islice(waiting, n), models, work, file))


def _elsewhere(
    engine: Workers, left: Iterator[Numbered], total: int, work: Work, file: jsonl.ResultFile | None
) -> Iterator[Finished]:
    """Run the problems on an engine; save and yield the finished."""
    running, stopped = engine.run(left, total, work), False
    try:
        while True:
            done = None
            try:
                done = next(running, None)
                if done is None:
                    return
                if file and done.keep:
                    file.append(done.result, done.at.occurrence)
            except KeyboardInterrupt:
                if stopped:  # asked twice: don't wait for them
                    raise
                warnings.warn(INTERRUPTED, stacklevel=3)
                stopped = True
                running.stop()
            if done:
                yield done
    finally:
        running.close()


def _with_the_rest(
    finished: Iterator[Finished], problems: Sequence[Problem], there: bytearray
) -> Iterator[Finished]:
    """The finished, each once, and after an interrupt those that nobody ran: `there` is 1 where a
    problem has its result."""
    for done in finished:
        if not there[done.at.index]:
            there[done.at.index] = 1
            yield done
    for at in _numbered(problems) if there.count(0) else ():
        if not there[at.index]:
            yield Finished(at, SearchResult(at.problem, stopped="interrupt"), False)


def _run(
    more: Callable[[int], Iterator[_Task]],
    models: Models,
    work: Work,
    file: jsonl.ResultFile | None,
) -> Iterator[_Task]:
    """Keep as many tasks going as the work says and answer what they wait for; save and yield the
    finished. `more` gives the next n, if there are any."""
    live: list[_Task] = []
    while True:
        try:
            for task in more(work.in_flight - len(live)):
                live.append(task)  # an interrupt amid its start must not lose it
                task.start()
            if not live:
                return
            _answer_all([task for task in live if not task.over], models, work.budget)
            over = [task for task in live if task.over]
            for task in over:
                task.save(file)
        except (KeyboardInterrupt, Stopped) as stop:
            if isinstance(stop, KeyboardInterrupt):
                warnings.warn(INTERRUPTED, stacklevel=4)
            for task in [*live, *more(EVERYTHING)]:
                task.stop("interrupt")
                task.save(file)
                yield task
            return
        live = [task for task in live if not task.over]
        yield from over


# -- one problem on its way ------------------------------------------------------------------------


@dataclass
class _Task:
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
    unanswered: bool = False  # its error is a lost connection: to be asked again another time
    saved: bool = False

    @property
    def problem(self) -> Problem:
        return self.at.problem

    @property
    def over(self) -> bool:
        return self.result is not None

    @property
    def finished(self) -> Finished:
        """Its result; one that an interrupt or an outage stopped is not to be saved."""
        assert self.result is not None
        keep = self.result.stopped != "interrupt" and not self.unanswered
        return Finished(self.at, self.result, keep)

    def start(self) -> None:
        self.resume(lambda: next(self.generator))

    def reply(self, value: Reply) -> None:
        self.meter.calls += 1
        self.resume(lambda: self.generator.send(value))

    def stop(self, reason: str) -> None:
        """Ask for the best so far at the yield where it waits."""
        if self.over:
            return
        if 0 < len(self.drawn) < len(self.rows):
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
                raise TypeError(
                    f"a method yields Sample or Score requests, not {self.request!r:.80}"
                )
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
        if isinstance(value, SearchResult):
            self.finish(value, stopped)
        else:
            self.fail(
                TypeError(
                    "a method returns a SearchResult or a list of LabelledSolutions, "
                    f"this one returned {value!r:.80}"
                )
            )

    def finish(self, result: SearchResult, stopped: str | None = None) -> None:
        """Keep the result, with the problem as it was given: searches saw a blind copy."""
        self.generator.close()
        found = (*result.rollouts, result.best)
        whole = {id(p): replace(p, problem=self.problem) for p in found if p is not None}
        self.result = replace(
            result,
            problem=self.problem,
            rollouts=tuple(whole[id(p)] for p in result.rollouts),
            best=whole[id(result.best)] if result.best is not None else None,
            meter=self.meter,
            stopped=stopped or result.stopped or self.cut,
        )

    def fail(self, error: Exception) -> None:
        self.generator.close()
        self.unanswered = isinstance(error, ConnectionError)
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
            name = (self.seed, *_key(self.at), self.sampled)
            self.sampled += 1
            self.keys = [stream_key(*name, row) for row in range(len(self.rows))]
            self.words = [words for words in request.words for _ in range(n)]

    def next_of(self, values: Sequence[Any]) -> Sequence[Any]:
        """Of values a row those of the rows to answer now."""
        return values[len(self.drawn) :][: self.now.rows]

    def plan(self, budget: Budget, models: Models) -> bool:
        """Choose the rows to answer now; where the budget pays for none, end the request."""
        assert self.request is not None
        at, kind = len(self.drawn), _kind(self.request)
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
            kind = _kind(self.request)
            self.longest[kind] = max([self.longest.get(kind, 0), *new])
            self.owed = [*self.owed, *reply] if self.request.scored_by else self.owed
        else:
            self.owed = []
        self.drawn = [*self.drawn, *reply]
        if len(self.drawn) == len(self.rows):
            self.reply(self.drawn)


def _task(at: Numbered, work: Work) -> _Task:
    """A problem about to be run; ValueError for a method that is no generator function."""
    method, whole = work.method, getattr(work.method, "sees_answer", False)
    generator = method(at.problem if whole else at.problem.blind(), **work.options)
    if not isinstance(generator, Generator):
        raise ValueError(
            f"{method.__name__} is no generator function: a method yields its requests"
        )
    return _Task(at, work.seed, generator, whole)


# -- answering -------------------------------------------------------------------------------------


def _answer_all(tasks: list[_Task], models: Models, budget: Budget | None) -> None:
    """Answer the pending request of every task, those of one kind in one call."""
    groups: dict[tuple[Any, ...], list[_Task]] = {}
    for task in tasks:
        try:
            if budget and not task.plan(budget, models):
                continue
        except Exception as error:  # a model that can't read what it is asked for a price of
            task.fail(error)
            continue
        groups.setdefault((_kind(task.request), task.now.room is None), []).append(task)
    for group in groups.values():
        try:
            replies = _answer(group, models)
        except Exception as error:
            if len(group) == 1:
                group[0].fail(error)
            else:
                for task in group:
                    _answer_alone(task, models)
            continue
        for task, reply in zip(group, replies):
            _hand_over(task, reply, models)


def _kind(request: Request | None) -> tuple[Any, ...]:
    """Requests of one kind can be answered together."""
    if isinstance(request, Sample):
        how = request.until, request.temperature, request.prompt, bool(request.words)
        return Sample, request.by, *how
    return Score, request and request.by


def _answer_alone(task: _Task, models: Models) -> None:
    """Answer one task of a group that failed together, so that only the culprit fails."""
    try:
        (reply,) = _answer([task], models)
    except Exception as error:
        task.fail(error)
    else:
        _hand_over(task, reply, models)


def _hand_over(task: _Task, reply: Reply, models: Models) -> None:
    """Give a task its reply, if it is one."""
    assert task.request is not None
    try:
        _check(task.request, task.next_of(task.rows), reply, models[task.request.by])
    except Exception as error:
        task.fail(error)
    else:
        task.take(reply)


def _answer(group: list[_Task], models: Models) -> list[Reply]:
    """One model call for the requests of a group; the time it takes is shared out by rows."""
    request = group[0].request
    assert request is not None
    if request.by not in models:
        raise ValueError(
            f"the method asks for {request.by!r}, but solve was given only {', '.join(models)}"
        )
    model = models[request.by]
    rows = [task.next_of(task.rows) for task in group]
    flat = [prefix for own in rows for prefix in own]
    meters = [task.meter for task, own in zip(group, rows) for _ in own]
    began = time.perf_counter()
    if isinstance(request, Sample):
        how: dict[str, Any] = {
            name: getattr(request, name) for name in ("until", "temperature", "prompt")
        }
        if request.words:
            how["words"] = [words for task in group for words in task.next_of(task.words)]
        if group[0].now.room is not None:
            how["room"] = [task.now.room for task in group for _ in range(task.now.rows)]
        keys = [key for task in group for key in task.next_of(task.keys)]
        ask = partial(model.sample, flat, keys, **how)
    else:
        ask = partial(model.score, flat)
    try:
        replies = ask(meters=meters)
    except RowsFailed as failure:
        if failure.model is not model:  # of another one that it asks: these are not its rows
            raise
        replies = failure.replies
    share = (time.perf_counter() - began) / max(1, len(flat))
    for meter in meters:
        meter.seconds += share
    if len(replies) != len(flat):
        raise ValueError(
            f"{_name(model)}: expected {len(flat)} replies, one per row, found {len(replies)}"
        )
    rest = iter(replies)
    return [[next(rest) for _ in own] for own in rows]


def _check(request: Request, rows: Sequence[Prefix], reply: Reply, model: Any) -> None:
    """ValueError, with model, expected and found, for a reply that does not fit its request.

    What a row got instead of a reply (`RowsFailed`) is raised as it is.
    """
    per = getattr(model, "per", "step")
    for prefix, found in zip(rows, reply):
        if isinstance(found, Exception):
            raise found
        if isinstance(request, Sample):
            if not isinstance(found, Prefix):
                raise ValueError(f"{_name(model)}: expected a Prefix, found {found!r:.80}")
            continue
        n = len(prefix.steps) if per == "step" else 1
        if len(found) != n:
            raise ValueError(
                f"{_name(model)}: expected {n} scores, found {len(found)} ({list(found)!r:.80}): "
                f"need one per {per}"
            )
        if wrong := [score for score in found if not (isfinite(score) and 0 <= score <= 1)]:
            raise ValueError(
                f"{_name(model)}: expected scores from 0 to 1, "
                f"found {wrong[0]} in {list(found)!r:.80}"
            )
