"""What runs in a worker's process: models of its own, and a thread that works off what comes in.

Nothing here knows of Ray, which calls `Worker` from outside (`workbench.scale.ray_engine`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from workbench import drive
from workbench.types import SearchResult, Stopped
from workbench.workers import Finished, Numbered, Work

Maker = str | Callable[[], Any]  # a name, or a function that makes the model


class Worker:
    """Models, and a thread that runs what was given. It is called in several threads: one waits
    for what is finished while others give, take back and stop."""

    def __init__(self, makers: Mapping[str, Maker]):
        self.makers = makers
        self.loading, self.beginning = threading.Lock(), threading.Lock()
        self.models: dict[str, Any] | None = None
        self.desk = _Desk(0)
        self.thread: threading.Thread | None = None

    def load(self) -> dict[str, Any]:
        with self.loading:
            if self.models is None:
                self.models = {by: _load(by, maker) for by, maker in self.makers.items()}
        return self.models

    def about(self) -> dict[str, str]:
        return {by: drive.identify(model) for by, model in self.load().items()}

    def begin(self, run: int, work: Work, known: dict[str, str] | None) -> list[Finished]:
        """Be ready for the problems of a run; ValueError if the models are others than its own."""
        models = self.load()
        if known is not None and (here := self.about()) != known:
            raise ValueError(f"this worker has other models, {here}, than the first one, {known}")
        with self.beginning:
            if run > self.desk.run:  # a worker that comes late may be asked for several at once
                self.desk.stop()
                if self.thread:
                    self.thread.join()
                self.desk = _Desk(run)
                self.thread = threading.Thread(target=self.desk.work, args=(work, models))
                self.thread.daemon = True  # it ends with the process
                self.thread.start()
        return []

    def of(self, run: int) -> _Desk:
        """The desk of a run; a closed one for a call that comes after its run."""
        return self.desk if self.desk.run == run else _Desk(run, over=True)

    def give(self, run: int, problems: list[Numbered]) -> None:
        self.of(run).give(problems)

    def take_back(self, run: int, n: int) -> list[int]:
        return self.of(run).take_back(n)

    def finished(self, run: int) -> list[Finished]:
        return self.of(run).finished()

    def stop(self, run: int) -> None:
        self.of(run).stop()


def _load(by: str, maker: Maker) -> Any:
    if not isinstance(maker, str):
        return maker()
    from workbench import models

    return models.load_verifier(maker) if by == "verifier" else models.load_policy(maker)


class _Desk:
    """What a worker has been given in one run, what it has finished, and who waits for it."""

    def __init__(self, run: int, *, over: bool = False):
        self.run, self.over = run, over
        self.news = threading.Condition()
        self.inbox: deque[Numbered] = deque()
        self.outbox: list[Finished] = []
        self.stopped = self.said = False
        self.error: BaseException | None = None

    def work(self, work: Work, models: Mapping[str, Any]) -> None:
        """Run what comes in, until told to stop."""
        try:
            while self.has_work():
                for finished in drive.work_off(self.take, work, models):
                    with self.news:
                        self.outbox.append(finished)
                        self.news.notify_all()
        except BaseException as error:  # else whoever waits would wait for ever
            self.error, self.over = error, True
        with self.news:
            self.news.notify_all()

    def has_work(self) -> bool:
        with self.news:
            self.news.wait_for(lambda: self.inbox or self.stopped)
            self.over = not self.inbox
            return not self.over

    def take(self, n: int) -> list[Numbered]:
        """Up to n problems, the oldest first; `Stopped` once, and then what is left."""
        with self.news:
            if self.stopped and not self.said:
                self.said = True
                raise Stopped("interrupt")
            return [self.inbox.popleft() for _ in range(min(n, len(self.inbox)))]

    def give(self, problems: list[Numbered]) -> None:
        with self.news:
            if self.over:  # a stop that overtook it
                nothing = (SearchResult(at.problem, stopped="interrupt") for at in problems)
                self.outbox += [Finished(*pair, False) for pair in zip(problems, nothing)]
            else:
                self.inbox.extend(problems)
            self.news.notify_all()

    def take_back(self, n: int) -> list[int]:
        """Give up what came last and was not begun: the indices of up to n problems."""
        with self.news:
            return [self.inbox.pop().index for _ in range(min(n, len(self.inbox)))]

    def finished(self) -> list[Finished]:
        """What has been finished since the last time; waits for something, or the end."""
        with self.news:
            self.news.wait_for(lambda: self.outbox or self.over)
            if self.error and not self.outbox:
                raise self.error
            out, self.outbox = self.outbox, []
            return out

    def stop(self) -> None:
        with self.news:
            self.stopped = True
            self.news.notify_all()
