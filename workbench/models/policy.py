"""Models that write: any Hugging Face causal LM behind `Policy.sample`.

A solution is sampled as token ids and kept as token ids: steps are cut after the tokens that hold
the step separator, and nothing is ever re-tokenised. Prefixes that come as text (a data set's
solutions) are tokenised once, step by step. Taught in notebooks 00 and 09.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch

from workbench.models.checkpoints import locate, weights_digest
from workbench.models.engine import Engine, Row
from workbench.models.prefix_cache import Context
from workbench.models.quantised import load_model
from workbench.models.saved_policy import adapted, base_of, way_of_writing
from workbench.models.templates import EMBEDDED, OF_METHODS, front_ids, render, start_ids
from workbench.types import Meter, Prefix, Problem, Step


class HFPolicy:
    """A causal LM that writes step by step. Use `load_policy` to get one from a name or a folder.

    `separator` ends a step; `max_tokens` bounds a whole solution; `temperature` is what `Sample`
    uses unless it says otherwise; `templates` are the prompts by name; `sizes` go to `Engine`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer,
        *,
        name: str = "policy",
        temperature: float = 1.0,
        max_tokens: int = 384,
        separator: str = "\n",
        templates: Mapping[str, str] = EMBEDDED,
        **sizes: int,
    ):
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.temperature, self.max_tokens = temperature, max_tokens
        self.separator, self.templates = separator, templates
        self.engine = Engine(model, **sizes)
        self._stops, self._front = self._stop_tables(), front_ids(tokenizer)

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
        digest = blake2b(weights_digest(self.model).encode(), digest_size=16)
        # what methods ask is code, as they are: a new prompt leaves known what others drew
        own = sorted(pair for pair in self.templates.items() if pair not in OF_METHODS.items())
        digest.update(str((self.model.dtype, *settings, own)).encode())
        for table in self._stops.values():
            digest.update(table.tobytes())
        return digest.hexdigest()

    # -- text to ids ------------------------------------------------------------------------------

    def prompt_ids(
        self, problem: Problem, prompt: str = "solve", words: Mapping[str, str] | None = None
    ) -> list[int]:
        """The tokens of a prompt; they begin as the tokenizer begins a text (BOS), but once."""
        text = render(self.templates, prompt, problem, words)
        return start_ids(self.tokenizer, text, self._front)

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
        steps = [step.ids or self._step_ids(step.text) for step in prefix.steps]
        written = sum(map(len, steps))
        room = min(self.max_tokens, window - len(start)) - written
        if room <= 0:
            raise ValueError(
                f"{name}: {len(start)} prompt and {written} solution tokens leave no room "
                f"(the model reads {window}, a solution may take {self.max_tokens})"
            )
        return Context([start, *steps]), room

    def _step_ids(self, text: str) -> list[int]:
        """A step that came as text; its separator comes as ids, as joined strings could merge."""
        parts = self.tokenizer([text, self.separator], add_special_tokens=False).input_ids
        return parts[0] + parts[1]

    # -- ids to text ------------------------------------------------------------------------------

    def written(self, problem: Problem, ids: Sequence[int], prompt: str = "solve") -> Prefix:
        """A solution drawn from this model by others (a server, a trainer), cut into steps."""
        row = Row(Context([]), self.max_tokens, key=0, meter=Meter(), ids=list(ids))
        return self._extend([Prefix(problem)], [row], prompt)[0]

    def _extend(self, prefixes: Sequence[Prefix], rows: list[Row], prompt: str) -> list[Prefix]:
        """The prefixes with what their rows drew, cut into steps after each separator or end."""
        cuts = [self._cut(row.ids) for row in rows]
        pieces = [row.ids[a:b] for row, spans in zip(rows, cuts) for a, b in spans]
        texts = iter(self.tokenizer.batch_decode(pieces, skip_special_tokens=True))
        out = []
        for prefix, row, spans in zip(prefixes, rows, cuts):
            new = [(tuple(row.ids[a:b]), tuple(row.logprobs[a:b])) for a, b in spans]
            steps = [Step(next(texts).strip(), *piece) for piece in new]
            over = "length" if len(row.ids) >= row.room else None
            if self._stops["end"][row.ids[-1]]:
                over = "end"
            out.append(Prefix(prefix.problem, (*prefix.steps, *steps), over, prompt))
        return out

    def _cut(self, ids: list[int]) -> list[tuple[int, int]]:
        borders = [i + 1 for i, stop in enumerate(self._stops["step"][ids]) if stop]
        if not borders or borders[-1] != len(ids):
            borders.append(len(ids))
        return list(zip([0, *borders], borders))

    def _stop_tables(self) -> dict[str, np.ndarray]:
        """(V,) tables of the tokens that end a solution, and of those that end a step or it."""
        size = self.model.get_output_embeddings().weight.shape[0]
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        end = np.zeros(size, bool)
        if ends is not None:
            end[ends] = True  # one, or a list of them
        tokens = [[i] for i in range(min(size, len(self.tokenizer)))]
        step = end.copy()
        for i, text in enumerate(self.tokenizer.batch_decode(tokens)):
            step[i] |= self.separator in text
        return {"end": end, "step": step}


def load_policy(
    name_or_path: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | None = None,
    quantise: bool = False,
    **options,
) -> HFPolicy:
    """A policy from a shipped name (`weak`, `base`, `strong`), a folder, or the Hugging Face hub.

    `smollm2` is a real pretrained one (`models.smollm2`). A folder may hold an adapter, whose base
    is found by its name. `quantise`: weights in 4 bits, which stay as they are while adapters train
    (`quantised`). `options` go to `HFPolicy` (temperature, max_tokens, separator, templates ...);
    what `save_policy` noted of them need not be said. ValueError when there is no whole checkpoint
    under that name, and where there is no computing in 4 bits.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, settings = locate(name_or_path), {"dtype": dtype, "device": device, "quantise": quantise}
    options = {"name": Path(str(name_or_path)).name, **way_of_writing(path), **options}
    if base := base_of(path):
        host = load_policy(base, **settings)
        return HFPolicy(adapted(host.model, path), host.tokenizer, **options)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = load_model(AutoModelForCausalLM, path, **settings)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot load {str(name_or_path)!r}: {reason}") from error
    return HFPolicy(model, tokenizer, **options)
