"""The driver: run a method written for one problem on all of them, in full batches, with a meter.

A method is a generator function `method(problem, **options)`. It yields `Sample` and `Score`
requests, gets the reply at the same line, and returns a `SearchResult` (or a list of
`LabelledSolution`s). The driver lets all problems in flight run to their next request, answers
requests of a kind in one call, and hands each problem its reply. The whole idea in a toy:

>>> from workbench.types import Sample
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

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from workbench import jsonl
from workbench.fingerprint import PLAIN, digest
from workbench.replies import answer_all, name_of
from workbench.task import Models, Task, task_of
from workbench.types import Budget, Method, Policy, Problem, SearchResult, Stopped, Verifier
from workbench.workers import Finished, Numbered, Work, Workers

EVERYTHING = 2**63 - 1  # as a number of problems
INTERRUPTED = "interrupted: problems in flight return their best so far"


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
    wrong reply to it, becomes its result's `error`, and a warning says how many there were; on an
    interrupt every problem in flight returns its best so far, and the rest come back with
    `stopped="interrupt"`. ValueError for what cannot be a run, as a method that asks for a model
    that was not given.

    `save` names a JSONL file: each finished problem is appended, and problems that it already holds
    are read back instead of run. What an error or an interrupt ended is not saved: the next call
    tries it again. It belongs to one run: ValueError if the method, its options (by content), seed,
    budget or models were others. A model with a method `fingerprint() -> str` is known by that
    (weights, adapters, settings), any other one by its `name`. ValueError, too, while another run
    writes to it.

    `engine` runs the problems elsewhere, with its own models instead of `policy`, `verifier` and
    `helpers`, `in_flight` of them in each worker; results and file are the same. Only problems on
    their way are held, but `problems`, which is gone through more than once, by the caller.
    """
    # 1. what is asked, of whom
    work = Work(method, options, seed, budget, in_flight)
    models = {"policy": policy, "verifier": verifier, **(helpers or {})}
    models = {by: model for by, model in models.items() if model is not None}
    _check_arguments(problems, work, models, engine)
    with jsonl.held(save) if save else nullcontext():
        # 2. what the file has already
        file = None
        if save:
            about = engine.about() if engine else {by: identify(m) for by, m in models.items()}
            file = jsonl.ResultFile(save, about | _identity(work))
        there = bytearray(len(problems))  # 1 where the result has come
        for index, result in _read_back(problems, file) if file else ():
            there[index] = 1
            yield index, result
        # 3. the rest, as it finishes
        left = (at for at in _numbered(problems) if not (file and file.has(*at.key)))
        if engine:
            finished = _elsewhere(engine, left, there.count(0), work, file)
        else:
            finished = work_off(lambda n: islice(left, n), work, models, file)
        failed, first = 0, ""
        for at, result, _ in _with_the_rest(finished, problems, there):
            if result.error:
                failed, first = failed + 1, first or result.error
            yield at.index, result
        if failed:
            these = f"{failed} of {len(problems)} problems failed"
            warnings.warn(f"{these}, the first with: {first}", stacklevel=3)


def _check_arguments(
    problems: Sequence[Problem], work: Work, models: Models, engine: Workers | None
) -> None:
    """ValueError for what can't be run; the first problem shows if the method is one."""
    some = islice(problems, 1) if hasattr(problems, "__len__") else (None,)
    if not all(isinstance(problem, Problem) for problem in some):
        raise ValueError(f"problems: need a list of Problem, found {_said(problems)}")
    if not callable(work.method):
        raise ValueError(f"method={_said(work.method)}: need a function, as METHODS['best_of_n']")
    if not isinstance(work.in_flight, Integral) or work.in_flight < 1:
        raise ValueError(f"in_flight={work.in_flight!r}: need a whole number of at least 1")
    if not isinstance(work.seed, Integral):
        raise ValueError(f"seed={work.seed!r}: need a whole number")
    if work.budget is not None and not isinstance(work.budget, Budget):
        need = "need one with its unit, as Budget(500, 'tokens')"
        raise ValueError(f"budget={work.budget!r}: {need}")
    if engine and models:
        raise ValueError(f"{', '.join(models)} beside an engine: its workers have their own models")
    if not engine and not models:
        raise ValueError("no model to answer: give a policy, or an engine that has one")
    _check_models(models)
    for at in islice(_numbered(problems), 1):
        task_of(at, work)


def _check_models(models: Models) -> None:
    makers = {"sample": "load_policy", "score": "load_verifier"}
    for by, model in models.items():
        ways = {"policy": ["sample"], "verifier": ["score"]}.get(by, [*makers])
        if not any(hasattr(model, way) for way in ways):
            made = " or ".join(f"can {way} ({makers[way]} gives one)" for way in ways)
            raise ValueError(f"{by}={_said(model)}: need a model that {made}")


def _said(value: Any) -> str:
    """What was given in place of something else, on one line."""
    return f"{value!r:.60}" if isinstance(value, PLAIN) else f"a {type(value).__name__}"


def _numbered(problems: Sequence[Problem]) -> Iterator[Numbered]:
    seen = Counter[str]()
    for index, problem in enumerate(problems):
        yield Numbered(index, seen[problem.id], problem)
        seen[problem.id] += 1


def _read_back(
    problems: Sequence[Problem], file: jsonl.ResultFile
) -> Iterator[tuple[int, SearchResult]]:
    """The results that the file holds; ValueError where one is of another problem."""
    for at in _numbered(problems):
        if result := file.get(*at.key):
            same = result.problem == at.problem
            # as written: there NaN equals itself
            if not same and jsonl.as_written(result.problem) != jsonl.as_written(at.problem):
                held = f"{file.path} holds another problem by the id {at.problem.id!r}"
                raise ValueError(f"{held}: name a new file")
            yield at.index, result


def identify(model: Any) -> str:
    """What a model is, for the first line of a result file: its name and its fingerprint, if any.

    A model without weights is known by its name alone.
    """
    return " ".join([name_of(model), *([digest(model)] if hasattr(model, "fingerprint") else [])])


def _identity(work: Work) -> dict[str, str]:
    """What a result file belongs to beside its models, in words: what is run, and how."""

    def content(value: Any) -> str:
        value = value.item() if isinstance(value, np.generic) else value
        plain = isinstance(value, PLAIN) and len(repr(value)) < 80
        return repr(value) if plain else f"{type(value).__name__} {digest(value)}"

    method = work.method
    own = getattr(method, "__qualname__", None)  # a partial or a callable object has none
    name = f"{method.__module__.rpartition('.')[2]}.{own or type(method).__qualname__}"
    # made on the way (a lambda, a partial, a cell): its code and what it holds count
    made = own is None or "<" in name or name.startswith("__main__")
    about = {"method": f"{name} {digest(method)}" if made else name}
    about |= {f"option {key}": content(value) for key, value in sorted(work.options.items())}
    return about | {"seed": content(work.seed), "budget": repr(work.budget)}


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


def work_off(
    take: Callable[[int], Iterable[Numbered]],
    work: Work,
    models: Models,
    file: jsonl.ResultFile | None = None,
) -> Iterator[Finished]:
    """Run the problems that `take(n)` hands out, at most n, until there are none; save and yield.

    It is asked between calls to models, whenever there is room. Where it raises `Stopped`, the
    problems in flight, and all that it then has left, are finished with the best so far.
    """
    live: list[Task] = []
    while True:
        try:
            for at in take(work.in_flight - len(live)):
                live.append(task_of(at, work))  # an interrupt amid its start must not lose it
                live[-1].start()
            if not live:
                return
            answer_all([task for task in live if not task.over], models, work.budget)
            over = [task for task in live if task.over]
            for task in over:
                task.save(file)
        except (KeyboardInterrupt, Stopped) as stop:
            if isinstance(stop, KeyboardInterrupt):
                warnings.warn(INTERRUPTED, stacklevel=3)
            for task in [*live, *(task_of(at, work) for at in take(EVERYTHING))]:
                task.stop("interrupt")
                task.save(file)
                yield task.finished
            return
        live = [task for task in live if not task.over]
        yield from (task.finished for task in over)
