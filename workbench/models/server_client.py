"""Questions to a server, many at once: bounded, patient, and silent about keys.

Every request is one POST of JSON. What passes (no connection, a time-out, statuses 408, 409, 429
and 5xx) is asked again after 0.5, 1, 2 ... seconds, at most 30, or as long as `Retry-After` says;
there is no jitter, so that equal runs ask alike. A server that stays away is asked but once a
request until it answers again: a run with many problems ends soon. What fails for good is a
`ServerError`, one line, in the place of the reply: the other replies stand.

A key is read from the environment when requests are made. It is no attribute of anything, and
where a server repeats it in a reply, it is blotted out.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Condition, Event
from typing import Any

import httpx

PASSES = {408, 409, 429}  # and all from 500 on
LONGEST_PAUSE, LONGEST_WISH = 30.0, 600.0  # seconds between tries: ours, and what a server may ask
REST = 60.0  # seconds for which a server that failed is left out while others answer
Post = tuple[str, Mapping[str, Any]]  # the path below the base URL, and the JSON to send
_Tried = tuple[dict[str, Any] | str, float | None, int | None]  # see `ServerClient._try`


class ServerError(ConnectionError):
    """A request that got no answer, in one line; `status` is that of HTTP, if there was a reply."""

    def __init__(self, line: str, status: int | None = None):
        super().__init__(line)
        self.status = status


@dataclass
class ServerClient:
    """Where to ask, and how patiently.

    `base_url` may be several, with commas between them: each is asked `concurrency` at once.
    `key_variable` names the environment variable that holds the key; an empty one sends none.
    `timeout`: seconds for one reply; `retries`: tries after the first; `backoff`: seconds before
    the second try. ValueError for a URL that is none or carries secrets, and for sizes below 1.
    """

    base_url: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 16
    retries: int = 8
    timeout: float = 600.0
    backoff: float = 0.5
    urls: tuple[str, ...] = field(init=False, repr=False)
    _answered: int = field(default=0, init=False, repr=False)  # replies so far
    _away: bool = field(default=False, init=False, repr=False)  # given up, and silent since then
    _asked: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _rests: dict[str, float] = field(default_factory=dict, init=False, repr=False)  # until when

    def __post_init__(self) -> None:
        if any(letter in self.base_url for letter in "@?#"):
            raise ValueError("a base URL has no user, query or fragment: keys come from a variable")
        urls = [url.strip().rstrip("/") for url in self.base_url.split(",")]
        if not all(map(_is_url, urls)):
            raise ValueError(f"base_url={self.base_url!r}: need one like http://localhost:8000/v1")
        if not self.key_variable.isidentifier():
            raise ValueError("key_variable is the name of an environment variable, not a key")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0 or self.backoff < 0:
            raise ValueError(
                f"concurrency={self.concurrency}, retries={self.retries}, timeout={self.timeout}, "
                f"backoff={self.backoff}: need at least 1, 0, more than 0, and 0"
            )
        self.urls = tuple(dict.fromkeys(urls))
        self.base_url = ",".join(self.urls)

    def ask(self, jobs: Sequence[Post]) -> list[dict[str, Any] | ServerError]:
        """One reply a job, in their order, or in its place the error."""
        if not jobs:
            return []
        key, turns = self._key(), _Turns(self)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        most = self.concurrency * len(self.urls)
        pool = ThreadPoolExecutor(min(most, len(jobs)))
        secure = "https:" in self.base_url  # else no certificates need be read
        limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
        about = {"timeout": self.timeout, "headers": headers, "limits": limits}
        with httpx.Client(verify=secure, **about) as client:
            try:
                return list(pool.map(lambda job: self._ask(client, turns, key, *job), jobs))
            finally:  # after an interrupt, too: what still waits is not asked
                turns.over.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def _ask(
        self, client: httpx.Client, turns: _Turns, key: str, path: str, body: Mapping[str, Any]
    ) -> dict[str, Any] | ServerError:
        """Ask until there is a reply, or no hope."""
        before = self._answered
        for tries in range(1, self.retries + 2):
            reply, wait, status = self._anyone(client, turns, path, body)
            if isinstance(reply, dict):
                self._answered, self._away = self._answered + 1, False
                return reply
            pause = min(LONGEST_PAUSE, self.backoff * 2 ** (tries - 1))
            last = tries > self.retries or self._away or wait is None or wait > LONGEST_WISH
            if last or turns.over.wait(max(pause, wait or 0.0)):
                break
        if wait is not None and self._answered == before:  # nor did anyone else get an answer
            self._away = True
        line = " ".join((reply.replace(key, "***") if key else reply).split())
        asked = f" (asked {tries} times)" if tries > 1 else ""
        return ServerError(line + asked, status)

    def _anyone(
        self, client: httpx.Client, turns: _Turns, path: str, body: Mapping[str, Any]
    ) -> _Tried:
        """What the first server says that does not fail; else the one that may be asked soonest."""
        left, failures = [*self.urls], []
        while left:
            with turns.at(left) as url:
                if turns.over.is_set():
                    return "not asked: interrupted", None, None
                reply, wait, status = self._try(client, url + path, body)
            if isinstance(reply, dict):
                self._rests.pop(url, None)
            if isinstance(reply, dict) or wait is None:
                return reply, wait, status
            left.remove(url)
            self._rests[url] = time.monotonic() + (REST if status is None else wait)
            failures.append((reply, wait, status))
        reply, wait, status = min(failures, key=lambda failure: failure[1])
        none = f"none of {len(failures)} servers answers, one of them: " * (len(failures) > 1)
        return none + reply, wait, status

    def _try(self, client: httpx.Client, url: str, body: Mapping[str, Any]) -> _Tried:
        """The reply, or why there is none with the seconds it asks to wait; None: for ever."""
        try:
            response = client.post(url, json=body)
        except httpx.TimeoutException:
            return f"{url}: no reply within {self.timeout:g} seconds", 0.0, None
        except httpx.RequestError as error:
            return f"{url}: no reply, {type(error).__name__} ({str(error)[:200]})", 0.0, None
        status = response.status_code
        if status != 200:
            passes = status in PASSES or status >= 500
            wait = _seconds(response.headers.get("Retry-After")) if passes else None
            return f"{url}: status {status}, {response.text[:200]!r}", wait, status
        try:
            reply = response.json()
        except ValueError:
            return f"{url}: broken JSON, {response.text[:200]!r}", None, status
        if not isinstance(reply, dict):
            return f"{url}: need a JSON object, found {response.text[:200]!r}", None, status
        return reply, None, status

    def _key(self) -> str:
        """The key of now; ValueError, without it, if no header can carry it."""
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(f"{self.key_variable} holds no key: need plain letters without spaces")
        return key


class _Turns:
    """Whose turn it is among the servers of a client while it asks, and whether that is over."""

    def __init__(self, client: ServerClient):
        self.client, self.over = client, Event()
        self.running: Counter[str] = Counter()
        self.news = Condition()

    @contextmanager
    def at(self, urls: Sequence[str]) -> Iterator[str]:
        """One of these servers, as soon as one has room."""
        with self.news:
            while (url := self.next(urls)) is None:
                self.news.wait()
            self.running[url] += 1
            self.client._asked[url] += 1
        try:
            yield url
        finally:
            with self.news:
                self.running[url] -= 1
                self.news.notify_all()

    def next(self, urls: Sequence[str]) -> str | None:
        """The least busy one that does not rest, unless all do; None if they are full."""
        now, rests = time.monotonic(), self.client._rests
        awake = [url for url in urls if rests.get(url, 0.0) <= now] or urls
        url = min(awake, key=lambda url: (self.running[url], self.client._asked[url]))
        return url if self.running[url] < self.client.concurrency else None


def _is_url(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def _seconds(retry_after: str | None) -> float:
    """What a header `Retry-After` asks for: seconds, or a date; 0 if it is neither.

    >>> _seconds("2"), _seconds(None), _seconds("soon"), _seconds("Sat, 01 Jan 2000 00:00:00 GMT")
    (2.0, 0.0, 0.0, 0.0)
    """
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(retry_after or "")
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
