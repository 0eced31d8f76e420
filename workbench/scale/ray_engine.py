"""Many workers on Ray, on one machine or a cluster: each loads models of its own.

    engine = RayEngine(policy="base", workers=8, gpus=0.5)
    results = solve(problems, beam_search, engine=engine, seed=0, save="runs/beam.jsonl")

The driver (`workbench.drive`) stays here: it numbers the problems and writes the result file. Each
worker keeps `in_flight` problems going in a thread, by the same code as one machine, so that the
results are the same; as many more lie ready with it, and are taken back for whoever runs out of
work. Only problems on their way are held, here and there, and of all others the ids.

A worker that dies (or its node) is replaced while there is room for another one; what it had not
brought back is handed out anew. On an interrupt, problems in flight return their best so far, those
of a worker that dies amid that come back with nothing. Needs `pip install -e '.[scale]'`.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Any

from workbench.scale.cluster import start_ray
from workbench.scale.worker import Maker, Worker
from workbench.types import SearchResult
from workbench.workers import Finished, Numbered, Work

LIVES = 3  # a problem is given up when so many workers died with it, the last with it alone


class RayEngine:
    """Runs problems on `workers` actors of Ray, each with its own replica of the models.

    `policy` and `verifier` are names (as for `load_policy` and `load_verifier`; a URL is a server)
    or functions that make the model; `helpers` are functions. A worker takes `cpus` cores (and as
    many threads, unless OMP_NUM_THREADS is set) and `gpus`, which may be a fraction. `address`:
    a running cluster's (None: RAY_ADDRESS, else a cluster of this machine alone is started).
    `restarts` dead workers are replaced in one run.

    Workers start with the first run and stay, models and all, until `close` or the end of a `with`.
    ImportError without Ray, ConnectionError if no cluster answers at `address`. Out of `solve` come
    the ValueError of a model that can't be loaded, one where a result file is written and workers
    have different models, and a ConnectionError when all workers are dead and no more are to be
    started.
    """

    def __init__(
        self,
        *,
        policy: Maker | None = None,
        verifier: Maker | None = None,
        helpers: Mapping[str, Callable[[], Any]] | None = None,
        workers: int = 1,
        cpus: float = 1,
        gpus: float = 0,
        address: str | None = None,
        restarts: int = 10,
    ):
        makers = {"policy": policy, "verifier": verifier, **(helpers or {})}
        self.makers = {by: maker for by, maker in makers.items() if maker is not None}
        for by, maker in self.makers.items():
            named = isinstance(maker, str) and by in ("policy", "verifier")
            if not named and not callable(maker):
                raise ValueError(f"{by}={maker!r:.60}: give a function that makes the model")
        if workers < 1 or not self.makers:
            raise ValueError(f"workers={workers}, models {list(self.makers)}: need one at least")
        self.workers, self.cpus, self.gpus = workers, cpus, gpus
        self.address, self.restarts = address, restarts
        self.places: list[_Place] = []
        self.runs = 0  # begun so far: the number of the last one
        self.known: dict[str, str] | None = None  # what the models are, once somebody asked

    def about(self) -> dict[str, str]:
        """What the models are, as the first worker says that is there."""
        ray = self.start()
        while self.known is None:
            asked = {place.actor.about.remote(): place for place in self.places}
            (first, *_), _ = ray.wait(list(asked))
            try:
                self.known = ray.get(first)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                self.places.remove(asked[first])
                if not self.places:
                    raise _all_dead(error) from error
        return self.known

    def run(self, problems: Iterable[Numbered], total: int, work: Work) -> _Run:
        """Hand out the problems (`workers.Workers`); a run that was going on is ended by this."""
        ray = self.start()
        self.runs += 1
        return _Run(self, ray, problems, total, work)

    def start(self) -> Any:
        """Ray, with as many workers as asked for."""
        ray = start_ray(self.address)
        while len(self.places) < self.workers:
            self.add(ray)
        return ray

    def add(self, ray: Any) -> _Place:
        """One more worker."""
        # not restarted by Ray: what a worker had must be handed out anew. Threads: see `Worker`
        how = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_concurrency": 4}
        self.places.append(_Place(ray.remote(Worker).options(**how).remote(self.makers)))
        return self.places[-1]

    def close(self) -> None:
        """Let the workers go, with their models."""
        if self.places:
            import ray

            for place in self.places:
                ray.kill(place.actor)
        self.places, self.known = [], None

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _all_dead(error: Exception) -> ConnectionError:
    return ConnectionError(f"all workers have died; the last one: {str(error).splitlines()[0]}")


# -- here: who has what ----------------------------------------------------------------------------


@dataclass(eq=False)
class _Place:
    """A worker as it is seen from here, and what it has not brought back yet."""

    actor: Any
    ready: bool = False
    given: dict[int, Numbered] = field(default_factory=dict)


class _Run:
    """Problems on their way (`workers.Running`): whom they were given to, and who reports."""

    def __init__(
        self, engine: RayEngine, ray: Any, problems: Iterable[Numbered], total: int, work: Work
    ):
        self.engine, self.ray, self.work, self.number = engine, ray, work, engine.runs
        self.fresh, self.left = iter(problems), total  # never handed out
        self.again: deque[Numbered] = deque()  # of workers that died, or taken back
        self.done: deque[Finished] = deque()
        self.deaths: Counter[int] = Counter()
        self.restarts, self.stopped = engine.restarts, False
        self.calls: dict[Any, _Place] = {}  # what each worker has been asked, one call each
        for place in engine.places:
            self.begin(place)

    def __iter__(self) -> Iterator[Finished]:
        return self

    def __next__(self) -> Finished:
        if self.engine.runs != self.number:
            raise ValueError("the engine has begun another run: one at a time, or two engines")
        while not self.done:
            with _undisturbed():
                self.hand_out()
            if not self.done and not self.unfinished:
                raise StopIteration
            if not self.done:
                (call,), _ = self.ray.wait(list(self.calls))
                with _undisturbed():
                    self.listen(call)
                    self.hand_out()  # before the results are written: nobody waits for that
        return self.done.popleft()

    @property
    def unfinished(self) -> int:
        """Handed out and not finished, and those to come, unless it was stopped."""
        given = sum(len(place.given) for place in self.engine.places)
        return given + (0 if self.stopped else self.left + len(self.again))

    def begin(self, place: _Place) -> None:
        place.ready, place.given = False, {}
        self.calls[place.actor.begin.remote(self.number, self.work, self.engine.known)] = place

    # -- giving ------------------------------------------------------------------------------------

    def hand_out(self) -> None:
        """Fill up the workers that are there, to a fair share of what is left at most."""
        if self.stopped:
            return
        share = ceil(self.unfinished / len(self.engine.places))
        room = min(share, 2 * self.work.in_flight)  # those that run, and as many behind them
        for place in self.engine.places:
            if self.deaths and self.must_be_alone(place):
                if not place.given and place.ready:
                    self.give(place, [self.again.popleft()])  # alone: it shows who is to blame
            elif place.ready and len(place.given) < room:
                if not self.left and not self.again:
                    self.take_back(place, room)
                self.give(place, list(self.next(room - len(place.given))))

    def must_be_alone(self, place: _Place) -> bool:
        """Does the worker have, or is next, a problem whose workers died all but once too often?"""
        near = [*place.given, *(at.index for at in islice(self.again, 1))]
        return any(self.deaths.get(index) == LIVES - 1 for index in near)

    def next(self, n: int) -> Iterator[Numbered]:
        """The next n problems, those of dead workers first."""
        while n and self.again:
            yield self.again.popleft()
            n -= 1
        for at in islice(self.fresh, min(n, self.left)):
            self.left -= 1
            yield at

    def give(self, place: _Place, problems: list[Numbered]) -> None:
        if problems:
            place.given |= {at.index: at for at in problems}
            place.actor.give.remote(self.number, problems)

    def take_back(self, idle: _Place, room: int) -> None:
        """What another worker has not begun yet, for one that has room: a slow problem holds up
        nobody behind it."""
        rich = max(self.engine.places, key=lambda place: len(place.given))
        spare = len(rich.given) - self.work.in_flight
        if rich is idle or not rich.ready or spare < 1:
            return
        try:
            n = min(room - len(idle.given), spare)
            taken = self.ray.get(rich.actor.take_back.remote(self.number, n))
        except self.ray.exceptions.RayError:
            return  # dead: its other call says so
        self.again.extend(rich.given.pop(index) for index in taken)

    # -- hearing -----------------------------------------------------------------------------------

    def listen(self, call: Any) -> None:
        """What a worker has finished, or that it died."""
        place = self.calls.pop(call)
        try:
            finished = self.ray.get(call)
        except self.ray.exceptions.RayTaskError as error:  # its models, or what it was told
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            self.lose(place, error)
        else:
            place.ready = True
            self.done.extend(row for row in finished if place.given.pop(row.at.index, None))
            if place.given or not self.stopped:
                self.calls[place.actor.finished.remote(self.number)] = place

    def lose(self, place: _Place, error: Exception) -> None:
        """Replace a dead worker; hand out anew what it had, but no problem that kills them all."""
        self.ray.kill(place.actor)  # if only the way to it was lost
        self.engine.places.remove(place)
        self.deaths.update(list(place.given))
        for at in place.given.values():
            if self.deaths[at.index] < LIVES:
                self.again.append(at)
            else:
                why = f"ConnectionError: {LIVES} workers died with it: {str(error).splitlines()[0]}"
                self.done.append(Finished(at, SearchResult(at.problem, error=why), False))
        if self.restarts and not self.stopped:
            self.restarts -= 1
            self.begin(self.engine.add(self.ray))
        elif not self.engine.places and not self.stopped:
            raise _all_dead(error) from error

    # -- ending ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask all for their best so far."""
        self.stopped = True
        for place in self.engine.places:
            place.actor.stop.remote(self.number)

    def close(self) -> None:
        """Let the workers end what they do; they stay for the next run."""
        self.stop()
        self.calls = {}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold a Ctrl-C back until the end of the block: between giving and noting, it would make
    others wait for ever."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual) or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[Any] = []
    signal.signal(signal.SIGINT, lambda *what: pressed.append(what))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        usual(*pressed[0])
