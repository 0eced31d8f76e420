"""Answer the requests of many problems together, and believe no reply unseen.

Requests of one kind become one call of a model. Where that fails, each problem is asked for alone,
so that only the culprit fails. A reply must fit what was asked. Taught in notebook 00.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from math import isfinite
from typing import Any

from workbench.task import Models, Task, kind_of
from workbench.types import Budget, Prefix, Reply, Request, RowsFailed, Sample


def answer_all(tasks: list[Task], models: Models, budget: Budget | None) -> None:
    """Answer the pending request of every task, those of one kind in one call."""
    groups: dict[tuple[Any, ...], list[Task]] = {}
    for by in {task.request.by for task in tasks if task.request} - set(models):
        given = f"solve was given only {', '.join(models)}"
        raise ValueError(f"the method asks for {by!r}, but {given}")
    for task in tasks:
        try:
            if budget and not task.plan(budget, models):
                continue
        except Exception as error:  # a model that can't read what it is asked for a price of
            task.fail(error)
            continue
        groups.setdefault((kind_of(task.request), task.now.room is None), []).append(task)
    for group in groups.values():
        _answer_group(group, models)


def _answer_group(group: list[Task], models: Models) -> None:
    """Answer tasks in one call or, where that fails, each alone, so that only the culprit fails."""
    try:
        replies = _answer(group, models)
    except Exception as error:
        if len(group) == 1:
            return group[0].fail(error)
        for task in group:
            _answer_group([task], models)
    else:
        for task, reply in zip(group, replies):
            _hand_over(task, reply, models)


def _hand_over(task: Task, reply: Reply, models: Models) -> None:
    """Give a task its reply, if it is one."""
    assert task.request is not None
    try:
        _check(task.request, task.next_of(task.rows), reply, models[task.request.by])
    except Exception as error:
        task.fail(error)
    else:
        task.take(reply)


def _answer(group: list[Task], models: Models) -> list[Reply]:
    """One model call for the requests of a group; the time it takes is shared out by rows."""
    request = group[0].request
    assert request is not None
    model = models[request.by]
    rows = [task.next_of(task.rows) for task in group]
    flat = [prefix for own in rows for prefix in own]
    meters = [task.meter for task, own in zip(group, rows) for _ in own]
    began = time.perf_counter()
    if isinstance(request, Sample):
        names = ("until", "temperature", "prompt")
        how: dict[str, Any] = {name: getattr(request, name) for name in names}
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
    if (found := _size(replies)) != len(flat):
        wanted = f"expected {len(flat)} replies, one per row"
        raise ValueError(f"{name_of(model)}: {wanted}, found {found}")
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
                raise ValueError(f"{name_of(model)}: expected a Prefix, found {found!r:.80}")
            continue
        n = len(prefix.steps) if per == "step" else 1
        if (size := _size(found)) != n:
            these = f" ({found!r:.80})" if isinstance(size, int) else ""
            told = f"expected {n} scores, found {size}{these}"
            raise ValueError(f"{name_of(model)}: {told}: need one per {per}")
        if wrong := [score for score in found if not _is_score(score)]:
            told = f"found {wrong[0]} in {found!r:.80}"
            raise ValueError(f"{name_of(model)}: expected scores from 0 to 1, {told}")


def _size(replies: Any) -> int | str:
    """How many there are; what it is instead of several."""
    is_row = hasattr(replies, "__len__") and not isinstance(replies, str)
    return len(replies) if is_row else f"{replies!r:.80}"


def _is_score(score: Any) -> bool:
    try:
        return bool(isfinite(score) and 0 <= score <= 1)
    except TypeError:
        return False


def name_of(model: Any) -> str:
    return str(getattr(model, "name", type(model).__name__))
