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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Any

import httpx

PASSES = {408, 409, 429}  # and all from 500 on
LONGEST_PAUSE, LONGEST_WISH = 30.0, 600.0  # seconds between tries: ours, and what a server may ask
Post = tuple[str, Mapping[str, Any]]  # the path below the base URL, and the JSON to send


class ServerError(ConnectionError):
    """A request that got no answer, in one line; `status` is that of HTTP, if there was a reply."""

    def __init__(self, line: str, status: int | None = None):
        super().__init__(line)
        self.status = status


@dataclass
class ServerClient:
    """Where to ask, and how patiently.

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
    _answered: int = field(default=0, init=False, repr=False)  # replies so far
    _away: bool = field(default=False, init=False, repr=False)  # given up, and silent since then

    def __post_init__(self) -> None:
        if any(letter in self.base_url for letter in "@?#"):
            raise ValueError("a base URL has no user, query or fragment: keys come from a variable")
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"base_url={self.base_url!r}: need one like http://localhost:8000/v1")
        if not self.key_variable.isidentifier():
            raise ValueError("key_variable is the name of an environment variable, not a key")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0 or self.backoff < 0:
            raise ValueError(
                f"concurrency={self.concurrency}, retries={self.retries}, timeout={self.timeout}, "
                f"backoff={self.backoff}: need at least 1, 0, more than 0, and 0"
            )
        self.base_url = self.base_url.rstrip("/")

    def ask(self, jobs: Sequence[Post]) -> list[dict[str, Any] | ServerError]:
        """One reply a job, in their order, or in its place the error; at most `concurrency` run."""
        if not jobs:
            return []
        key, over = self._key(), Event()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        pool = ThreadPoolExecutor(min(self.concurrency, len(jobs)))
        secure = self.base_url.startswith("https:")  # else no certificates need be read
        most = {"max_connections": self.concurrency, "max_keepalive_connections": self.concurrency}
        about = {"timeout": self.timeout, "headers": headers, "limits": httpx.Limits(**most)}
        with httpx.Client(verify=secure, **about) as client:
            try:
                return list(pool.map(lambda job: self._ask(client, over, key, *job), jobs))
            finally:  # after an interrupt, too: what still waits is not asked
                over.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def _ask(
        self, client: httpx.Client, over: Event, key: str, path: str, body: Mapping[str, Any]
    ) -> dict[str, Any] | ServerError:
        """Ask until there is a reply, or no hope."""
        before = self._answered
        for tries in range(1, self.retries + 2):
            reply, wait, status = self._try(client, path, body)
            if isinstance(reply, dict):
                self._answered, self._away = self._answered + 1, False
                return reply
            pause = min(LONGEST_PAUSE, self.backoff * 2 ** (tries - 1))
            last = tries > self.retries or self._away or wait is None or wait > LONGEST_WISH
            if last or over.wait(max(pause, wait or 0.0)):
                break
        if wait is not None and self._answered == before:  # nor did anyone else get an answer
            self._away = True
        line = " ".join((reply.replace(key, "***") if key else reply).split())
        asked = f" (asked {tries} times)" if tries > 1 else ""
        return ServerError(f"{self.base_url}{path}: {line}{asked}", status)

    def _try(
        self, client: httpx.Client, path: str, body: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | str, float | None, int | None]:
        """The reply, or why there is none with the seconds it asks to wait; None: for ever."""
        try:
            response = client.post(self.base_url + path, json=body)
        except httpx.TimeoutException:
            return f"no reply within {self.timeout:g} seconds", 0.0, None
        except httpx.RequestError as error:
            return f"no reply, {type(error).__name__} ({str(error)[:200]})", 0.0, None
        status = response.status_code
        if status != 200:
            passes = status in PASSES or status >= 500
            wait = _seconds(response.headers.get("Retry-After")) if passes else None
            return f"status {status}, {response.text[:200]!r}", wait, status
        try:
            reply = response.json()
        except ValueError:
            return f"broken JSON, {response.text[:200]!r}", None, status
        if not isinstance(reply, dict):
            return f"need a JSON object, found {response.text[:200]!r}", None, status
        return reply, None, status

    def _key(self) -> str:
        """The key of now; ValueError, without it, if no header can carry it."""
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(f"{self.key_variable} holds no key: need plain letters without spaces")
        return key


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
