"""A public PRM behind the pooling endpoint of vLLM, read as the table in `public` says.

The layout of `PUBLIC` makes the token ids here, so that steps end where they did in training, and
`/pooling` is asked for what stands at each id, or at each step if the server is told which id ends
one (`step_tag_id`, the default for Qwen's PRMs). What a place holds, from left to right:

| format in `PUBLIC` | numbers | score |
|---|---|---|
| with a head for two classes (Qwen) | P(bad), P(good) | the second |
| with labels (Math-Shepherd, RLHFlow), by `returned_token_ids` | P(good), P(bad) | the first |
| with a head for log-odds (Skywork) | P(good) | it |

Deviations: numbers come activated (softmax or sigmoid), as vLLM sends them unless told otherwise; a
server that sends logits needs `activated=False`, and then softmax or sigmoid are taken here. What a
served PRM computes in half precision is not bit for bit what `load_public` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from scipy.special import expit

from workbench.fingerprint import digest
from workbench.models.server_client import ServerClient, ServerError
from workbench.types import Meter, Prefix, RowsFailed, Scores

if TYPE_CHECKING:
    from workbench.models.public import PublicFormat


class ServerVerifier:
    """P(good) of each step by a PRM that vLLM serves under `base_url` (with or without `/v1`).

    Several servers, with commas between their URLs, share the requests (`server_client`).
    `model` is its name there, `tokenizer` the one that it was trained with; `form` is looked up by
    the name in `PUBLIC` unless given. `extra` joins each request (`{"use_activation": True}`, ...);
    `connection` goes to `ServerClient`. ValueError for an unknown name or another tokenizer.
    """

    per = "step"

    def __init__(
        self,
        base_url: str,
        model: str,
        tokenizer,
        form: PublicFormat | None = None,
        *,
        name: str | None = None,
        activated: bool = True,
        extra: Mapping[str, Any] | None = None,
        **connection: Any,
    ):
        urls = [url.strip().rstrip("/").removesuffix("/v1") for url in base_url.split(",")]
        self.client, self.model = ServerClient(",".join(urls), **connection), model
        self.name = name or model.rpartition("/")[2]
        self.tokenizer, self.form = tokenizer, (form or _known_form(model)).bound(tokenizer)
        self.activated, self.extra = activated, dict(extra or {})

    def score(self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None) -> Scores:
        """As `types.Verifier.score` says; equal prefixes are asked once, and the first one pays.

        `RowsFailed`, with the scores of the others, where requests fail.
        """
        meters = meters if meters is not None else [Meter() for _ in prefixes]
        segments = [self._segments(prefix) for prefix in prefixes]
        asked = {}
        for rows, meter in zip(segments, meters):
            if len(rows) > 1:  # without steps there is nothing to ask
                asked.setdefault(_ids(rows), (rows, meter))
        bodies = [{"model": self.model, "input": list(ids), **self.extra} for ids in asked]
        replies = self.client.ask([("/pooling", body) for body in bodies])
        known: dict[tuple[int, ...], list[float] | ServerError] = {}
        for (ids, (rows, meter)), reply in zip(asked.items(), replies):
            known[ids] = self._read(reply, rows, meter)
        found = [known.get(_ids(rows), []) for rows in segments]
        if any(isinstance(scores, ServerError) for scores in found):
            raise RowsFailed(self, found)
        return found

    def price(self, prefixes: Sequence[Prefix]) -> int:
        """Tokens at most that `score` would compute for these."""
        segments = [self._segments(prefix) for prefix in prefixes]
        return sum(map(len, {_ids(rows) for rows in segments if len(rows) > 1}))

    def fingerprint(self) -> str:
        """What this verifier is, as far as it can be known here: model name, format, settings."""
        return digest((self.model, asdict(self.form), self.activated, self.extra))

    def _segments(self, prefix: Prefix) -> list[list[int]]:
        return self.form.segments(self.tokenizer, prefix.problem, prefix.texts)

    def _read(
        self, reply: dict[str, Any] | ServerError, rows: list[list[int]], meter: Meter
    ) -> list[float] | ServerError:
        """The scores of the steps whose ids are `rows` (the first: what stands before them)."""
        if isinstance(reply, ServerError):
            return reply
        try:
            places = [_numbers(place) for place in reply["data"][0]["data"]]
            meter.verifier += reply["usage"]["prompt_tokens"]
            ends, steps = list(accumulate(map(len, rows)))[1:], len(rows) - 1
            if len(places) == ends[-1]:
                places = [places[end - 1] for end in ends]  # step by step
            if len(places) != steps:
                what = f"numbers at {len(places)} places for {steps} steps in {ends[-1]} tokens"
                raise ValueError(what)
            return [self._score(place) for place in places]
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as odd:
            what = f"no scores in the reply, {type(odd).__name__} {odd}: {str(reply)[:200]}"
            return ServerError(f"{self.client.base_url}/pooling: {what}")

    def _score(self, place: Sequence[float]) -> float:
        """P(good) from the numbers at one place; ValueError if they are not what the format has."""
        classes = 2 if self.form.labels or len(self.form.head) > 1 else 1
        if len(place) != classes:
            raise ValueError(f"{len(place)} numbers at a place, need {classes}")
        good, bad = (place[0], place[-1]) if self.form.labels else (place[-1], place[0])
        if not self.activated:
            return float(expit(good - bad if classes == 2 else good))
        if not 0 <= good <= 1 or (classes == 2 and abs(good + bad - 1) > 0.02):
            raise ValueError(f"{list(place)} are no probabilities: perhaps activated=False")
        return float(good)


def _known_form(model: str) -> PublicFormat:
    from workbench.models.public import PUBLIC, known_name

    if (known := known_name(model)) is None:
        raise ValueError(f"model {model!r}: give its form=..., or use {', '.join(PUBLIC)}")
    return PUBLIC[known]


def _ids(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(i for row in rows for i in row)


def _numbers(place: float | Sequence[float]) -> list[float]:
    return [float(x) for x in place] if isinstance(place, list) else [float(place)]
