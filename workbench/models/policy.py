"""Models that write: any Hugging Face causal LM behind `Policy.sample`.

A solution is sampled as token ids and kept as token ids: steps are cut after the tokens that hold
the step separator, and nothing is ever re-tokenised. Prefixes that come as text (a data set's
solutions) are tokenised once, step by step. Taught in notebooks 00 and 06.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from workbench.models.engine import Engine, Row
from workbench.models.prefix_cache import Context
from workbench.models.quantised import exact, four_bit
from workbench.models.templates import EMBEDDED, render
from workbench.types import Meter, Prefix, Problem, Step


class HFPolicy:
    """A causal LM that writes step by step. Use `load_policy` to get one from a name or a folder.

    `separator` ends a step; `max_tokens` bounds a whole solution; `temperature` is what `Sample`
    uses unless it says otherwise; `templates` are the prompts by name.
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
        batch_tokens: int = 49_152,
        cache_tokens: int = 131_072,
    ):
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.temperature, self.max_tokens, self.separator, self.templates = (
            temperature,
            max_tokens,
            separator,
            templates,
        )
        self.engine = Engine(model, batch_tokens=batch_tokens, cache_tokens=cache_tokens)
        self._stops = self._stop_tables()
        config = self.engine.config
        self._room = getattr(config, "max_position_embeddings", None) or 10**9
        # per token of context
        self._attention_flops = 4 * config.num_hidden_layers * config.hidden_size

    def sample(
        self,
        prefixes: Sequence[Prefix],
        keys: Sequence[int],
        *,
        until: str = "end",
        temperature: float | None = None,
        prompt: str = "solve",
        meters: Sequence[Meter] | None = None,
    ) -> list[Prefix]:
        """One continuation per row, up to the next step or the end; row i draws from the stream
        `keys[i]`.

        Raises ValueError on an ended prefix, an unknown `until` or prompt, or a prompt too long for
        the model.
        """
        if until not in self._stops:
            raise ValueError(f"until={until!r}: use 'step' or 'end'")
        if len(keys) != len(prefixes):
            raise ValueError(f"{len(keys)} keys for {len(prefixes)} prefixes, need one per row")
        meters = meters if meters is not None else [Meter() for _ in prefixes]
        temperature = self.temperature if temperature is None else temperature
        if temperature < 0:
            raise ValueError(f"temperature {temperature}: use 0 (greedy) or more")
        distinct = {id(prefix): prefix for prefix in prefixes}
        contexts = {i: self._context(prefix, prompt) for i, prefix in distinct.items()}
        rows = [
            Row(*contexts[id(prefix)], key, meter)
            for prefix, key, meter in zip(prefixes, keys, meters)
        ]
        self.engine.run(
            rows, stops=self._stops[until], temperature=temperature, keep=until == "step"
        )
        for row in rows:
            self._pay(row)
        return self._extend(prefixes, rows, prompt)

    # -- text to ids ------------------------------------------------------------------------------

    def prompt_ids(self, problem: Problem, prompt: str = "solve") -> list[int]:
        """The tokens of a prompt, which the model reads before the first step."""
        return self.tokenizer(render(self.templates, prompt, problem)).input_ids

    def _context(self, prefix: Prefix, prompt: str) -> tuple[Context, int]:
        """What the model reads before it writes on, in segments, and how many tokens it may still
        write."""
        if prefix.ended:
            raise ValueError(
                f"{prefix.problem.id}: the solution has ended, there is nothing to continue"
            )
        start = self.prompt_ids(prefix.problem, prompt)
        steps = [step.ids or self._step_ids(step.text) for step in prefix.steps]
        written = sum(map(len, steps))
        room = min(self.max_tokens, self._room - len(start)) - written
        if room <= 0:
            raise ValueError(
                f"{prefix.problem.id}: {len(start)} prompt and {written} solution tokens leave no room "
                f"(the model reads {self._room}, a solution may take {self.max_tokens})"
            )
        return Context([start, *steps]), room

    def _step_ids(self, text: str) -> list[int]:
        """A step that came as text, its separator appended as ids (joined strings could merge
        across the border)."""
        parts = [
            self.tokenizer(part, add_special_tokens=False).input_ids
            for part in (text, self.separator)
        ]
        return parts[0] + parts[1]

    # -- ids to text ------------------------------------------------------------------------------

    def _extend(self, prefixes: Sequence[Prefix], rows: list[Row], prompt: str) -> list[Prefix]:
        """The prefixes with what their rows drew, cut into steps after each separator or end."""
        cuts = [self._cut(row.ids) for row in rows]
        pieces = [row.ids[a:b] for row, spans in zip(rows, cuts) for a, b in spans]
        texts = iter(self._decode(pieces))
        out = []
        for prefix, row, spans in zip(prefixes, rows, cuts):
            steps = [
                Step(next(texts), tuple(row.ids[a:b]), tuple(row.logprobs[a:b])) for a, b in spans
            ]
            over = (
                "end"
                if self._stops["end"][row.ids[-1]]
                else "length"
                if len(row.ids) >= row.room
                else None
            )
            out.append(Prefix(prefix.problem, (*prefix.steps, *steps), over, prompt))
        return out

    def _cut(self, ids: list[int]) -> list[tuple[int, int]]:
        borders = [i + 1 for i, stop in enumerate(self._stops["step"][ids]) if stop]
        if not borders or borders[-1] != len(ids):
            borders.append(len(ids))
        return list(zip([0, *borders], borders))

    def _decode(self, pieces: list[list[int]]) -> list[str]:
        texts = self.tokenizer.batch_decode(pieces, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _stop_tables(self) -> dict[str, np.ndarray]:
        """(V,) tables of the tokens that end a solution, and of those that end a step (or the
        solution)."""
        size = self.model.get_output_embeddings().weight.shape[0]
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        end = np.zeros(size, bool)
        end[[i for i in (ends if isinstance(ends, list) else [ends]) if i is not None]] = True
        step = end.copy()
        for i, text in enumerate(
            self.tokenizer.batch_decode([[i] for i in range(min(size, len(self.tokenizer)))])
        ):
            step[i] |= self.separator in text
        return {"end": end, "step": step}

    # -- bookkeeping ------------------------------------------------------------------------------

    def _pay(self, row: Row) -> None:
        """Book one row: tokens sampled, and the operations of weights and of attention over the
        growing context."""
        n, start = len(row.ids), len(row.context.ids)
        row.meter.samples += 1
        row.meter.generated += n
        row.meter.flops += n * self.engine.flops_per_token + self._attention_flops * (
            n * start + n * (n - 1) // 2
        )


def load_policy(
    name_or_path: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | None = None,
    quantise: bool = False,
    **options,
) -> HFPolicy:
    """A policy from a shipped name (`weak`, `base`, `strong`), a folder, or the Hugging Face hub.

    `quantise`: weights in 4 bits, which stay as they are while adapters train (`quantised`).
    `options` go to `HFPolicy` (temperature, max_tokens, separator, templates, batch_tokens,
    cache_tokens). Raises ValueError in one line when there is no whole checkpoint under that name,
    and where there is no computing in 4 bits.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from workbench.models.checkpoints import locate

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    path, settings = locate(name_or_path), four_bit(dtype, device) if quantise else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = exact(
            AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **settings).to(device)
        )
    except OSError as error:
        raise ValueError(
            f"cannot load {str(name_or_path)!r}: {str(error).splitlines()[0]}"
        ) from error
    return HFPolicy(model, tokenizer, name=Path(str(name_or_path)).name, **options)
