"""Models that write: any Hugging Face causal LM behind `Policy.sample`.

A solution is sampled as token ids and kept as token ids: steps are cut after the tokens that end
the step separator, and nothing is ever re-tokenised. Prefixes that come as text are tokenised once,
step by step. How a model is asked: `prompts`. Taught in notebooks 00 and 09.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from workbench.models.checkpoints import is_verifier, locate, shipped_names, weights_digest
from workbench.models.engine import Engine, Row
from workbench.models.memory import check_fits
from workbench.models.prefix_cache import Context
from workbench.models.prompts import prompts_for
from workbench.models.quantised import load_model, settled
from workbench.models.saved_policy import adapted, base_of, way_of_writing
from workbench.models.stops import NEWLINE, stop_tables, with_separator, without_ending
from workbench.models.templates import EMBEDDED, OF_METHODS, front_ids, render, start_ids
from workbench.types import Meter, Prefix, Problem, Step


class HFPolicy:
    """A causal LM that writes step by step. Use `load_policy` to get one from a name or a folder.

    `separator` ends a step (a line, a blank line, the next number: `stops`), and a text of `stop`
    the solution, as the end token does; `max_tokens` bounds a whole solution; `temperature` is that
    of a `Sample` that names none; `templates` are the prompts by name; `sizes` go to `Engine`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer,
        *,
        name: str = "policy",
        temperature: float = 1.0,
        max_tokens: int = 384,
        separator: str = NEWLINE,
        stop: Sequence[str] = (),
        templates: Mapping[str, str] = EMBEDDED,
        **sizes: int,
    ):
        if not isinstance(max_tokens, int) or max_tokens < 1:
            raise ValueError(f"max_tokens={max_tokens!r}: need a whole number of at least 1")
        if not separator or isinstance(stop, str) or not all(stop):
            raise ValueError(f"separator={separator!r}, stop={stop!r}: need a text, and a list of")
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.temperature, self.max_tokens = temperature, max_tokens
        self.separator, self.stop, self.templates = separator, tuple(stop), templates
        self.engine = Engine(model, **sizes)
        # what ends a solution, and what ends a step or it
        texts = {"end": self.stop, "step": (*self.stop, separator)}
        self._stops = stop_tables(model, tokenizer, **texts)
        self._front = front_ids(tokenizer)
        self._start_ids = lru_cache(4096)(lambda text: start_ids(tokenizer, text, self._front))

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
        room: Sequence[int] | None = None,
    ) -> list[Prefix]:
        """One continuation per row, to the next step or the end; row i draws from stream `keys[i]`.

        `words` are the rows' own for the template, `room` bounds the tokens that they write beside
        `max_tokens`. ValueError for an ended prefix, an unknown `until` or prompt, a word that the
        template misses, or a prompt too long.
        """
        if until not in self._stops:
            raise ValueError(f"until={until!r}: use 'step' or 'end'")
        if len(keys) != len(prefixes):
            raise ValueError(f"{len(keys)} keys for {len(prefixes)} prefixes, need one per row")
        meters = meters if meters is not None else [Meter() for _ in prefixes]
        temperature = self.temperature if temperature is None else temperature
        if temperature < 0:
            raise ValueError(f"temperature {temperature}: use 0 (greedy) or more")
        contexts = self._contexts(prefixes, prompt, words)
        rows = [Row(*context, *own) for context, *own in zip(contexts, keys, meters)]
        for row, prefix in zip(rows, prefixes):
            # the last segment, also of a step that came as text: a stop may begin in it
            row.before = tuple(row.context.ids[row.context.borders[-2] :]) if prefix.steps else ()
        for row, most in zip(rows, room or ()):
            row.room = min(row.room, most)
        stops, keep = self._stops[until], until == "step"
        self.engine.run(rows, stops=stops, temperature=temperature, keep=keep)
        for meter in meters:
            meter.samples += 1
        return self._extend(prefixes, rows, prompt)

    def price(
        self,
        prefixes: Sequence[Prefix],
        *,
        prompt: str = "solve",
        words: Sequence[Mapping[str, str]] | None = None,
    ) -> int:
        """Tokens at most that `sample` would read for these before it writes; ValueError as there.

        It holds while the cache does: a cache too small for the problems in flight may lose them.
        """
        self.engine.refresh()
        contexts = [context for context, _ in self._contexts(prefixes, prompt, words)]
        distinct = {context.names[-1]: context for context in contexts}.values()
        return self.engine.to_read({context: len(context.ids) for context in distinct})

    def fingerprint(self) -> str:
        """What this policy is, exactly: weights, adapters in use, dtype, and how it writes."""
        settings = float(self.temperature), self.max_tokens, self.separator, self._front
        settings += (self.stop,) if self.stop else ()
        digest = blake2b(weights_digest(self.model).encode(), digest_size=16)
        # what methods ask is code, as they are: a new prompt leaves known what others drew
        own = sorted(pair for pair in self.templates.items() if pair not in OF_METHODS.items())
        digest.update(str((self.model.dtype, *settings, own)).encode())
        for stops in self._stops.values():
            digest.update(stops.sure.tobytes())
        return digest.hexdigest()

    # -- text to ids ------------------------------------------------------------------------------

    def prompt_ids(
        self, problem: Problem, prompt: str = "solve", words: Mapping[str, str] | None = None
    ) -> list[int]:
        """The tokens of a prompt; they begin as the tokenizer begins a text (BOS), but once."""
        return list(self._start_ids(render(self.templates, prompt, problem, words)))

    def _contexts(
        self, prefixes: Sequence[Prefix], prompt: str, words: Sequence[Mapping[str, str]] | None
    ) -> list[tuple[Context, int]]:
        """For each row what `_context` says; worked out once for rows that ask the same."""
        words = words if words is not None else [{}] * len(prefixes)
        asked = list(zip(map(id, prefixes), map(id, words)))
        distinct = dict(zip(asked, zip(prefixes, words)))
        known = {i: self._context(prefix, prompt, own) for i, (prefix, own) in distinct.items()}
        return [known[i] for i in asked]

    def _context(
        self, prefix: Prefix, prompt: str, words: Mapping[str, str] | None = None
    ) -> tuple[Context, int]:
        """What the model reads before it writes on, and how many tokens it may still write."""
        name, window = prefix.problem.id, self.engine.window
        if prefix.ended:
            raise ValueError(f"{name}: the solution has ended, there is nothing to continue")
        start = self.prompt_ids(prefix.problem, prompt, words)
        numbered = enumerate(prefix.steps, start=1)
        steps = [step.ids or self._step_ids(step.text, number) for number, step in numbered]
        written = sum(map(len, steps))
        room = min(self.max_tokens, window - len(start)) - written
        if room <= 0:
            limits = f"the model reads {window}, a solution may take {self.max_tokens}"
            given = f"{len(start)} prompt and {written} solution tokens"
            raise ValueError(f"{name}: {given} leave no room ({limits})")
        return Context([start, *steps]), room

    def _step_ids(self, text: str, number: int = 1) -> list[int]:
        """A step that came as text; its separator comes as ids, as joined strings could merge."""
        both = [*with_separator(text, self.separator, number)]
        parts = self.tokenizer(both, add_special_tokens=False).input_ids
        return parts[0] + parts[1]

    # -- ids to text ------------------------------------------------------------------------------

    def written(self, problem: Problem, ids: Sequence[int], prompt: str = "solve") -> Prefix:
        """A solution drawn from this model by others (a server, a trainer), cut into steps."""
        row = Row(Context([]), self.max_tokens, key=0, meter=Meter(), ids=list(ids))
        return self._extend([Prefix(problem)], [row], prompt)[0]

    def _extend(self, prefixes: Sequence[Prefix], rows: list[Row], prompt: str) -> list[Prefix]:
        """The prefixes with what their rows drew, cut into steps after each separator or end."""
        cuts = [self._cut(row.ids, row.before) for row in rows]
        endings = (*self.stop, self.separator)
        pieces = [row.ids[a:b] for row, spans in zip(rows, cuts) for a, b in spans]
        texts = iter(self.tokenizer.batch_decode(pieces, skip_special_tokens=True))
        out = []
        for prefix, row, spans in zip(prefixes, rows, cuts):
            new = [(tuple(row.ids[a:b]), tuple(row.logprobs[a:b])) for a, b in spans]
            steps = [Step(without_ending(next(texts), endings), *piece) for piece in new]
            over = "length" if len(row.ids) >= row.room else None
            if self._stops["end"].over([*row.before, *row.ids]):
                over = "end"
            out.append(Prefix(prefix.problem, (*prefix.steps, *steps), over, prompt))
        return out

    def _cut(self, ids: list[int], before: Sequence[int] = ()) -> list[tuple[int, int]]:
        stops, sofar = self._stops["step"], [*before, *ids]
        borders = [i + 1 for i, stop in enumerate(stops.sure[ids]) if stop]
        if stops.maybe is not None:
            ends = range(1, len(ids) + 1)
            borders = [i for i in ends if stops.over(sofar[: len(before) + i])]
        if not borders or borders[-1] != len(ids):
            borders.append(len(ids))
        return list(zip([0, *borders], borders))


def load_policy(
    name_or_path: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | None = None,
    quantise: bool = False,
    asked: Mapping[str, Any] | None = None,
    **options,
) -> HFPolicy:
    """A policy from a shipped name (`weak`, `base`, `strong`), a folder, or the Hugging Face hub.

    `smollm2` is a real pretrained one (`models.smollm2`). A folder may hold an adapter, whose base
    is found by its name. `quantise`: weights in 4 bits, which stay as they are while adapters train
    (`quantised`). It is asked by its own chat template where its tokenizer has one, else by plain
    prompts; `asked` says more of that (`prompts_for`): system prompt, examples, boxed answers ...
    `options` go to `HFPolicy` (temperature, max_tokens, separator, templates ...); what
    `save_policy` noted of them need not be said. ValueError when there is no whole checkpoint under
    that name, where it does not fit into memory, and where there is no computing in 4 bits.
    """
    if asked is not None and "templates" in options:
        raise ValueError("asked and templates: give one of them, asked makes the templates")
    path, settings = locate(name_or_path), {"dtype": dtype, "device": device, "quantise": quantise}
    if is_verifier(path):
        raise ValueError(f"{name_or_path} judges, it does not write: use load_verifier")
    model, tokenizer = read_model(path, settings)
    way = way_of_writing(path)
    if asked is not None:
        way.pop("stop", None)  # it goes with the prompts that were
    options = {"name": Path(str(name_or_path)).name, **way, **options}
    if asked is not None or "templates" not in options:
        fresh = prompts_for(tokenizer, options.get("separator", NEWLINE), **(asked or {}))
        options = {"stop": (), **fresh} | {k: v for k, v in options.items() if k != "templates"}
    return HFPolicy(model, tokenizer, **options)


def read_model(
    name_or_path: str | Path, settings: Mapping[str, Any]
) -> tuple[torch.nn.Module, Any]:
    """Causal LM and tokenizer of a whole checkpoint, or of an adapter and its base."""
    from transformers import AutoModelForCausalLM

    path = locate(name_or_path)
    if base := base_of(path):
        model, tokenizer = read_model(base, settings)
        return adapted(model, path), tokenizer
    return read_checkpoint(AutoModelForCausalLM, path, settings)


def read_checkpoint(
    family: type, path: str | Path, settings: Mapping[str, Any]
) -> tuple[torch.nn.Module, Any]:
    """Model, of a transformers `family`, and tokenizer of a whole checkpoint, as `load_policy`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        dtype, device = settled(settings["dtype"], settings["device"])
        check_fits(path, dtype=dtype, device=device, quantise=settings["quantise"])
        return load_model(family, path, **settings), tokenizer
    except OSError as error:
        reason = str(error).splitlines()[0]
        known = "" if Path(path).is_dir() else f" (shipped: {shipped_names()})"
        raise ValueError(f"cannot load {str(path)!r}: {reason}{known}") from error
