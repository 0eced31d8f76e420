r"""A policy behind a server that speaks the OpenAI API: vLLM, SGLang, llama.cpp, others.

Asked by completions (`prompt` + steps, as text) or, with `chat=True`, by chat completions. Every
row is a request of its own with the seed of its stream, so that it does not matter what is asked
beside it; a step is asked for with the separator as `stop`. Which of the two ended a reply, a step
or the solution, vLLM and SGLang say; `transformers serve` leaves the separator in the text; of a
server that does neither (llama.cpp) whole solutions are asked, and their first step is kept.

How this deviates from `HFPolicy`:

- A solution is text: prompt, steps and separators, joined as they came, are tokenised anew by the
  server. Steps keep their white space; blank lines belong to the step before them. What a server's
  last token held behind the separator is lost: for a model that writes empty lines between steps,
  take `separator="\n\n"`.
- `ids` of steps are empty unless asked for (vLLM: `extra={"return_token_ids": True}`); `logprobs`
  are there where the server sends them, mostly those at temperature 1 whatever the temperature.
- `max_tokens` bounds what one request writes, not the solution. There is no `price`: a budget of
  tokens may be overrun by the last request (`workbench.allowance`). FLOPs are not counted.
- Draws are the server's: equal for equal seeds where it keeps them. `transformers serve` has one
  seed for all that runs (use `concurrency=1`), and draws only if the model's generation config says
  so. What a server adds by itself is turned off by `extra`: llama.cpp `{"top_k": 0, "min_p": 0}`.
- A chat goes on where a step ended only with vLLM and SGLang, and chat templates may trim the last
  separator. For searches by steps rather write the chat template into `templates`
  (`prompts.prompts_for(tokenizer)`, by completions). With `chat=True`, `prompts.with_layout()` are
  messages in ordinary English. `load_policy(url, ...)` does either (`prompts.asked_of_server`);
  without a word it takes plain prompts, and this class those of the embedded models.

A row that gets no answer fails for its own problem (`types.RowsFailed`). Several servers with one
model, `http://a:8000/v1,http://b:8000/v1#model`, share the requests, and the loss of all but one is
borne (`server_client`). Results are those of one where draws are kept to seeds, and greedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Any

from workbench.fingerprint import digest
from workbench.models.server_client import ServerClient, ServerError
from workbench.models.server_reply import into_steps, said_by, spread_tokens, stopped_by
from workbench.models.templates import EMBEDDED, OF_METHODS, render
from workbench.types import Meter, Prefix, RowsFailed, Step


@dataclass
class _Row:
    """One continuation: what is sent for it, and what has come."""

    prefix: Prefix
    body: dict[str, Any]
    key: int
    meter: Meter
    found: Prefix | ServerError | None = None


class ServerPolicy:
    """A model behind `base_url` (up to `/v1`). `load_policy("http://host:8000/v1#model")` makes it.

    `base_url` may be several with commas between them, servers of one kind with the same model.
    `model` is its name there (None: the server's only one). `extra` joins each request; with
    `draws_per_request` above 1 draws of one prefix share a request (`n`) and the first one's seed.
    `connection` goes to `ServerClient`: key_variable, concurrency, retries, timeout, backoff.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        chat: bool = False,
        name: str | None = None,
        temperature: float = 1.0,
        max_tokens: int = 384,
        separator: str = "\n",
        templates: Mapping[str, str] = EMBEDDED,
        logprobs: bool = True,
        extra: Mapping[str, Any] | None = None,
        draws_per_request: int = 1,
        **connection: Any,
    ):
        if not separator or "{n}" in separator or max_tokens < 1 or draws_per_request < 1:
            given = f"separator={separator!r}, {max_tokens=}, {draws_per_request=}"
            raise ValueError(f"{given}: need a text without a number, at least 1")
        self.client = ServerClient(base_url, **connection)
        self.model, self.chat, self.name = model, chat, name or model or self.client.base_url
        self.temperature, self.max_tokens = temperature, max_tokens
        self.separator, self.templates = separator, templates
        self.logprobs, self.extra = logprobs, dict(extra or {})
        self.draws_per_request = draws_per_request
        # does it cut off the separator without a word? known once a reply shows it
        self._hides_stops: bool | None = None

    def sample(
        self,
        prefixes: Sequence[Prefix],
        keys: Sequence[int],
        *,
        until: str = "end",
        temperature: float | None = None,
        prompt: str = "solve",
        meters: Sequence[Meter] | None = None,
        words: Sequence[Mapping[str, str]] | None = None,
    ) -> list[Prefix]:
        """As `HFPolicy.sample`; `RowsFailed`, with the other replies, where requests fail."""
        if until not in ("step", "end"):
            raise ValueError(f"until={until!r}: use 'step' or 'end'")
        if len(keys) != len(prefixes):
            raise ValueError(f"{len(keys)} keys for {len(prefixes)} prefixes, need one per row")
        temperature = self.temperature if temperature is None else temperature
        if temperature < 0:
            raise ValueError(f"temperature {temperature}: use 0 (greedy) or more")
        # 1. what to send for each row
        meters = meters if meters is not None else [Meter() for _ in prefixes]
        words = words if words is not None else [{}] * len(prefixes)
        settings, rows = self._settings(temperature), []
        for prefix, key, meter, own in zip(prefixes, keys, meters, words):
            rows.append(_Row(prefix, self._start(prefix, prompt, own) | settings, key, meter))
        # 2. ask, and once more for what a server left out or left open
        todo = [(group, until == "step" and not self._hides_stops) for group in self._groups(rows)]
        while todo:
            replies = self.client.ask([self._job(*asked) for asked in todo])
            again = []
            for (group, stops), reply in zip(todo, replies):
                again += self._take(group, reply, until, stops, prompt)
            todo = again
        # 3. hand back
        for row in rows:
            row.meter.samples += isinstance(row.found, Prefix)
        found = [row.found for row in rows]
        if any(isinstance(reply, ServerError) for reply in found):
            raise RowsFailed(self, found)
        return found

    def fingerprint(self) -> str:
        """What this policy is, as far as it can be known here: model name, settings.

        Where the model runs is no part of it, unless the server alone says which one it is.
        """
        own = {name: text for name, text in self.templates.items() if OF_METHODS.get(name) != text}
        settings = float(self.temperature), self.max_tokens, self.separator, own, self.logprobs
        how = self.chat, self.extra, self.draws_per_request
        return digest((self.model or self.client.base_url, *settings, *how))

    # -- what is sent -----------------------------------------------------------------------------

    def _start(self, prefix: Prefix, prompt: str, words: Mapping[str, str]) -> dict[str, Any]:
        """Prompt and steps; the same text whenever the same prefix is sent."""
        if prefix.ended:
            name = prefix.problem.id
            raise ValueError(f"{name}: the solution has ended, there is nothing to continue")
        question = render(self.templates, prompt, prefix.problem, words)
        written = "".join(step.text + self.separator for step in prefix.steps)
        if not self.chat:
            return {"prompt": question + written}
        messages = [{"role": "user", "content": question}]
        if not prefix.steps:
            return {"messages": messages}
        messages.append({"role": "assistant", "content": written})
        going_on = {"continue_final_message": True, "add_generation_prompt": False}
        return {"messages": messages, **going_on}

    def _settings(self, temperature: float) -> dict[str, Any]:
        body = {"temperature": float(temperature), "top_p": 1.0, "max_tokens": self.max_tokens}
        if self.model is not None:
            body["model"] = self.model
        if self.logprobs:
            body["logprobs"] = True if self.chat else 1
        return body | self.extra

    def _groups(self, rows: Sequence[_Row]) -> list[list[_Row]]:
        """Rows that share a request: draws of one prefix, side by side, of one problem."""
        groups: list[list[_Row]] = []
        for row in rows:
            last = groups[-1] if groups else []
            alike = last and last[0].prefix is row.prefix and last[0].body == row.body
            if alike and last[0].meter is row.meter and len(last) < self.draws_per_request:
                last.append(row)
            else:
                groups.append([row])
        return groups

    def _job(self, group: Sequence[_Row], stops: bool) -> tuple[str, dict[str, Any]]:
        body = group[0].body | {"seed": group[0].key % 2**31}  # what every server can hold
        body |= {"n": len(group)} if len(group) > 1 else {}
        if stops:
            others = self.extra.get("stop") or []
            others = [others] if isinstance(others, str) else others
            if group[0].prefix.steps:  # the line break before a stop text has ended the last step
                others = [*others, *(s.lstrip("\n") for s in others if s.startswith("\n"))]
            body["stop"] = [self.separator, *others]
        return "/chat/completions" if self.chat else "/completions", body

    # -- what comes -------------------------------------------------------------------------------

    def _take(
        self,
        group: list[_Row],
        reply: dict[str, Any] | ServerError,
        until: str,
        stops: bool,
        prompt: str,
    ) -> list[tuple[list[_Row], bool]]:
        """Put the choices of a reply into its rows; gives back what has to be asked again."""
        try:
            if isinstance(reply, ServerError):
                raise reply
            again, choices = [], self._choices(reply, group[0].meter)
            for row, choice in zip(group, choices):
                if until == "step" and self._is_open(choice, stops):
                    again.append(([row], False))
                else:
                    row.found = self._prefix(row.prefix, choice, until, stops, prompt)
            # a server that ignores n: the others one by one
            return again + [([row], stops) for row in group[len(choices) :]]
        except ServerError as failure:
            error = failure
            if "continue_final_message" in group[0].body and error.status in (400, 422):
                hint = "perhaps this server cannot continue a chat: use completions (chat=False)"
                error = ServerError(f"{error}; {hint}", error.status)
        except (KeyError, TypeError, AttributeError, ValueError) as odd:
            what = f"a reply that is not as in the OpenAI API, {type(odd).__name__} {odd}"
            error = ServerError(f"{self.client.base_url}: {what}: {str(reply)[:200]}")
        for row in group:
            row.found = error
        return []

    def _choices(self, reply: dict[str, Any], meter: Meter) -> list[dict[str, Any]]:
        """The choices of a reply, each with `text`; what it cost is paid."""
        usage, choices = reply["usage"], sorted(reply["choices"], key=lambda c: c["index"])
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        meter.prefilled += usage["prompt_tokens"] - cached
        meter.cached += cached
        meter.generated += usage["completion_tokens"]
        reasons = [choice["finish_reason"] for choice in choices]
        if wrong := [reason for reason in reasons if reason not in ("stop", "length")]:
            raise ValueError(f"finish_reason {wrong[0]!r}, need stop or length")
        if not choices:
            raise ValueError("no choices")
        return [{**choice, "text": said_by(choice)} for choice in choices]

    def _is_open(self, choice: Mapping[str, Any], stops: bool) -> bool:
        """Asked for a step: may it be that the solution has ended, or that it has not?

        It learns on the way: a separator that was to stop the reply and stands in it is not hidden;
        one that is there only after the same was asked without a stop, is.
        """
        by = stopped_by(choice, self.separator)
        if by and self._hides_stops is None:
            self._hides_stops = not stops
        ended = choice["finish_reason"] == "stop"
        return stops and ended and by is None and self._hides_stops is not False

    def _prefix(
        self, prefix: Prefix, choice: Mapping[str, Any], until: str, stops: bool, prompt: str
    ) -> Prefix:
        """The prefix with the steps of a reply; asked for one step, with the first of them."""
        texts = into_steps(choice["text"], self.separator)
        stop = "end" if choice["finish_reason"] == "stop" else "length"
        ends = list(accumulate(len(text) + len(self.separator) for text in texts))
        tokens = spread_tokens(choice, [*ends[:-1], inf])
        if until == "step":
            goes_on = stopped_by(choice, self.separator) if stops else len(texts) > 1
            stop, texts = None if goes_on else stop, texts[:1]
        steps = [Step(text, *own) for text, own in zip(texts, tokens)]
        return Prefix(prefix.problem, (*prefix.steps, *steps), stop, prompt)
