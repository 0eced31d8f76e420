r"""A verifier that is asked in words: GenRM (Zhang et al. 2024, arXiv 2408.15240), for every step.

A causal LM reads question, steps and a request to check, and the score of a step is the probability
of its verdict,

    direct:  P(Yes | question, steps, ask),     CoT:  1/K sum_k P(Yes | question, steps, ask,
    critique_k),

with softmax over the two verdict tokens and K critiques sampled from the model itself. Question and
steps are computed once for all of them (`PrefixCache`). A critique's random stream is keyed by what
stands before it, never by its place in a batch; steps that differ only after their opening are so
judged by the same blind critiques.

Two asks write a critique (`ASKS`). In `cot`, as in the paper, the step is in view. In `blind` the
critique comes first: the model works out the quantity that the step is about, then reads the step
and compares.

To compare two lines word by word takes more than a few layers learn from some thousand verdicts. So
a blind ask may count, like a PRM of ours (`StepFormat.likelihood`), how probable the step is once
the critique has been read:

    P(Yes) = sigma(logit_Yes - logit_No + lambda log P(step | question, steps, critique)).

Deviations from the paper: scores per step, not per solution; the softmax over two tokens; a
critique's first token is given, that of the judged step (here it names the quantity); `blind`; the
likelihood.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from hashlib import blake2b
from pathlib import Path
from string import Formatter
from typing import NamedTuple

import numpy as np
import torch

from workbench.models.engine import Engine, Row
from workbench.models.prefix_cache import Context
from workbench.models.quantised import flops_per_token
from workbench.models.step_format import StepFormat
from workbench.models.verifier import MOST_SCORES, host_of, log_probability, need_steps
from workbench.types import Meter, Prefix

FILE = "generative_format.json"
# what follows the earlier steps; fields are whole lines with their separator, `opening` is a first
# token
ASKS = {
    "direct": "{step}Check : correct ?",
    "cot": "{step}Check : {opening}{critique}correct ?",
    "blind": "{opening}{critique}Check : {step}correct ?",
}


def stream_of(seed: int, content: bytes, k: int) -> int:
    """The 64-bit key of the k-th critique's random stream, from what stands before the critique."""
    return int.from_bytes(
        blake2b(f"{seed}/{k}".encode() + content, digest_size=8).digest(), "little"
    )


@dataclass(frozen=True)
class GenerativeFormat:
    """How a verifier is asked: the ask, the number K of critiques, verdict words, and the ids that
    all had in training.

    `lines` says how question and steps are read; its `good` and `bad` are the verdicts.
    """

    ask: str = ASKS["direct"]
    critiques: int = 1
    lines: StepFormat = field(default_factory=lambda: StepFormat(good="Yes", bad="No"))
    # of the texts between the fields; set by `bound`
    ask_ids: tuple[tuple[int, ...], ...] | None = None
    # or "solution": one verdict, asked about the last step with all others in view
    per: str = "step"

    @property
    def writes(self) -> bool:
        return "{critique}" in self.ask

    def bound(self, tokenizer) -> GenerativeFormat:
        """The format with the ids of this tokenizer; ValueError if it makes no sense or ids differ
        from training's."""
        parts = list(Formatter().parse(self.ask))
        names = sorted(name for _, name, _, _ in parts if name is not None)
        if (
            "step" not in names
            or len(set(names)) < len(names)
            or not set(names) <= {"critique", "opening", "step"}
        ):
            raise ValueError(
                f"ask {self.ask!r}: need {{step}}, at most {{opening}} and {{critique}} beside, each once"
            )
        if self.per not in ("step", "solution"):
            raise ValueError(f"per={self.per!r}: use 'step' or 'solution'")
        if self.lines.likelihood and not 0 <= self.ask.find("{critique}") < self.ask.find("{step}"):
            raise ValueError(
                f"likelihood={self.lines.likelihood}: ask {self.ask!r} has no step after a critique"
            )
        if self.critiques < 1 or (self.critiques > 1 and not self.writes):
            raise ValueError(
                f"critiques={self.critiques}: need at least 1, and no more where none is written"
            )
        ids = tuple(
            tuple(tokenizer(text, add_special_tokens=False).input_ids) for text, *_ in parts if text
        )
        if any(tokenizer.unk_token_id in piece for piece in ids):
            raise ValueError(f"ask {self.ask!r} has words that this tokenizer does not know")
        if self.ask_ids not in (None, ids):
            raise ValueError(
                f"the ask had ids {self.ask_ids} in training, this tokenizer has {ids}"
            )
        return replace(self, lines=self.lines.bound(tokenizer), ask_ids=ids)

    def around(self, lines: list[list[int]], t: int) -> tuple[list, list]:
        """Segments before and after the critique on step t (from 1) of `lines`; the verdict follows
        all of them."""
        opening = lines[t][: -len(self.lines.ids[0])][:1]
        before, after, texts = [*lines[:t]], [], iter(self.ask_ids)
        into = before
        for text, name, _, _ in Formatter().parse(self.ask):
            into += [list(next(texts))] if text else []
            into += {"step": [lines[t]], "opening": [opening] if opening else []}.get(name, [])
            into = after if name == "critique" else into
        return before, after

    def save(self, folder: str | Path) -> None:
        (Path(folder) / FILE).write_text(
            json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: str | Path) -> GenerativeFormat:
        """ValueError if the folder holds no generative format."""
        file = Path(folder) / FILE
        if not file.is_file():
            raise ValueError(f"{folder} is no generative verifier of ours: {FILE} is missing")
        fields = json.loads(file.read_text(encoding="utf-8"))
        separator, good, bad = (lines := fields.pop("lines")).pop("ids")
        fields["ask_ids"] = tuple(map(tuple, fields["ask_ids"]))
        return cls(**fields, lines=StepFormat(**lines, ids=(tuple(separator), good, bad)))


class Ask(NamedTuple):
    """One step to judge: its name, what asks share, what stands before and after its critique, and
    who pays."""

    name: bytes
    stem: Context  # question and steps: the beginning of `before`
    before: Context
    after: list[list[int]]
    step: list[int]  # with its separator; one of `after` if the ask is blind
    meter: Meter


class GenerativeVerifier:
    """P(verdict is good) of every step, or of the solution. `longest` bounds a critique in tokens.

    `seed` fixes what is sampled.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer,
        form: GenerativeFormat | None = None,
        *,
        name: str = "genrm",
        seed: int = 0,
        temperature: float = 1.0,
        longest: int = 48,
        batch_tokens: int = 49_152,
        cache_tokens: int = 131_072,
    ):
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.form = (form or GenerativeFormat()).bound(tokenizer)
        self.per = self.form.per
        if temperature < 0 or (temperature == 0 and self.form.critiques > 1) or longest < 1:
            raise ValueError(
                f"temperature {temperature}, longest {longest}: need > 0 (0 for one critique), and >= 1"
            )
        self.seed, self.temperature, self.longest = seed, temperature, longest
        self.engine = Engine(model, batch_tokens=batch_tokens, cache_tokens=cache_tokens)
        self._scores: dict[bytes, float] = {}  # by the name of the ask
        # K critiques by the name of what stands before them
        self._written: dict[bytes, list[list[int]]] = {}
        self._stops = np.zeros(model.get_output_embeddings().weight.shape[0], bool)
        self._stops[self.form.lines.closers] = True
        self._room = getattr(self.engine.config, "max_position_embeddings", None) or 10**9
        self._flops = flops_per_token(model)

    def score(
        self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None
    ) -> list[list[float]]:
        """One score in [0, 1] per step of each prefix, or one; row i pays `meters[i]` for what it
        reads and writes.

        Raises ValueError on a prefix too long for the model, critique and verdict included, and on
        one without steps if it judges solutions.
        """
        if self.engine.refresh() or len(self._scores) > MOST_SCORES:
            self._scores, self._written = {}, {}
        meters = meters if meters is not None else [Meter() for _ in prefixes]
        asks = [self._asks(prefix, meter) for prefix, meter in zip(prefixes, meters)]
        if self.per == "solution":
            for prefix in prefixes:
                need_steps(prefix)
            asks = [own[-1:] for own in asks]
        fresh = {
            ask.name: ask for own in reversed(asks) for ask in own if ask.name not in self._scores
        }
        todo = list(fresh.values())[::-1]
        most = max(
            (len(ask.before.ids) + self.longest + sum(map(len, ask.after)) for ask in todo),
            default=1,
        )
        # the cache keeps it all
        size = max(1, self.engine.cache.max_tokens // (2 + 2 * self.form.critiques) // most)
        for i in range(0, len(todo), size):
            self._read_stems(todo[i : i + size])
            self._judge(todo[i : i + size])
        return [[self._scores[ask.name] for ask in own] for own in asks]

    def critiques(self, prefix: Prefix) -> list[list[str]]:
        """What was written about each step before its verdict, K texts a step (none for a direct
        ask)."""
        self.score([prefix])
        out = []
        for text, ask in zip(prefix.texts, self._asks(prefix, Meter())):
            opening = self.tokenizer(text, add_special_tokens=False).input_ids[
                : "{opening}" in self.form.ask
            ]
            rows = [[*opening, *ids] for ids in self._written.get(ask.before.names[-1], [])]
            out.append(
                [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows]
            )
        return out

    def _asks(self, prefix: Prefix, meter: Meter) -> list[Ask]:
        lines, asks = self.form.lines.segments(self.tokenizer, prefix.problem, prefix.texts), []
        for t in range(1, len(lines)):
            before, after = self.form.around(lines, t)
            context = Context(before)
            stem = context.cut(t + (before[t : t + 1] == [lines[t]]))
            asks.append(
                Ask(Context([*before, *after]).names[-1], stem, context, after, lines[t], meter)
            )
            written = self.longest + len(self.form.lines.ids[0]) if self.form.writes else 0
            if (tokens := len(context.ids) + written + sum(map(len, after))) > self._room:
                raise ValueError(
                    f"{prefix.problem.id}: {tokens} tokens to judge, the verifier reads {self._room}"
                )
        return asks

    def _read_stems(self, group: Sequence[Ask]) -> None:
        """Compute questions that several solutions share, then solutions; all asks then begin in
        the cache."""
        inner = {name for ask in group for name in ask.stem.names[:-1]}
        stems = {
            ask.stem.names[-1]: ask for ask in group if ask.stem.names[-1] not in inner
        }.values()
        times = Counter(ask.stem.names[0] for ask in stems)
        shared = {ask.stem.names[0]: ask for ask in stems if times[ask.stem.names[0]] > 1}.values()
        for todo in (
            [(ask.stem.cut(1), ask.meter) for ask in shared],
            [(ask.stem, ask.meter) for ask in stems],
        ):
            self._read(
                [
                    (context, (), meter)
                    for context, meter in todo
                    if not self.engine.cache.holds(context)
                ]
            )

    def _judge(self, group: Sequence[Ask]) -> None:
        """Remember the scores of a group: the mean over critiques of P(good), by one read after
        them."""
        asks, written = group, [[] for _ in group]
        if self.form.writes:
            self._write(group)
            both = [(ask, ids) for ask in group for ids in self._written[ask.before.names[-1]]]
            asks, written = zip(*both)
        contexts = [
            reduce(Context.extended, filter(None, (ids, *a.after)), a.before)
            for a, ids in zip(asks, written)
        ]
        words = [self._words(ask, context) for ask, context in zip(asks, contexts)]
        todo = [(context, where, ask.meter) for ask, context, where in zip(asks, contexts, words)]
        odds = [self._odds(*row) for row in zip(contexts, words, self._read(todo))]
        scores = torch.sigmoid(torch.stack(odds)).view(len(group), -1).mean(1)  # (asks,)
        self._scores.update(zip([ask.name for ask in group], scores.tolist()))

    def _words(self, ask: Ask, context: Context) -> range:
        """Where logits are needed, in tokens read, if likelihood counts: before and after each word
        of the step."""
        if not self.form.lines.likelihood:
            return range(0)
        start = len(context.ids) - sum(map(len, ask.after[ask.after.index(ask.step) :]))
        return range(start, start + len(ask.step) - len(self.form.lines.ids[0]) + 1)

    def _odds(self, context: Context, words: range, logits: torch.Tensor) -> torch.Tensor:
        """Log-odds of the verdict good, in float64. logits (wanted + 1, V), the last at the
        verdict."""
        lines, logits = self.form.lines, logits.double()
        odds = logits[-1, lines.ids[1]] - logits[-1, lines.ids[2]]
        if lines.likelihood:
            step = context.ids[words.start : words.stop - 1]
            odds = odds + lines.likelihood * log_probability(logits[:-1], step, lines.closers)
        return odds

    def _write(self, group: Sequence[Ask]) -> None:
        """Sample K critiques at each place where none has been written yet; each then ends with the
        separator."""
        asks = {
            a.before.names[-1]: a
            for a in reversed(group)
            if a.before.names[-1] not in self._written
        }
        keys = [
            (name, stream_of(self.seed, name, k))
            for name in asks
            for k in range(self.form.critiques)
        ]
        rows = [Row(asks[name].before, self.longest, key, Meter()) for name, key in keys]
        self.engine.run(rows, stops=self._stops, temperature=self.temperature, keep=True)
        for (name, _), row in zip(keys, rows):
            line = row.ids[:-1] if self._stops[row.ids[-1]] else row.ids
            self._written.setdefault(name, []).append([*line, *self.form.lines.ids[0]])
            self._pay(asks[name].meter, row.meter.prefilled + len(row.ids))

    def _read(self, todo: Sequence[tuple[Context, Sequence[int], Meter]]) -> list[torch.Tensor]:
        """Logits after so many tokens of each context, and after all of it; what had to be computed
        is paid for."""
        rows = [
            Row(context, 0, 0, Meter(), (*wanted, len(context.ids))) for context, wanted, _ in todo
        ]
        logits = self.engine.read(rows)
        for row, (_, _, meter) in zip(rows, todo):
            self._pay(meter, row.meter.prefilled)
        return logits

    def _pay(self, meter: Meter, tokens: int) -> None:
        meter.verifier, meter.flops = meter.verifier + tokens, meter.flops + self._flops * tokens


def load_generative(
    folder,
    *,
    critiques: int | None = None,
    dtype="float32",
    device=None,
    quantise: bool = False,
    **options,
):
    """A generative verifier from a folder written by `train.prm.save`: an adapter, or a whole
    checkpoint.

    `quantise`: weights in 4 bits, an adapter's own excepted (`quantised`). `options` go to
    `GenerativeVerifier`. ValueError in one line if there is none, or if ids are not those of
    training.
    """
    folder, form = Path(folder), GenerativeFormat.load(folder)
    model, tokenizer = host_of(folder, dtype=dtype, device=device, quantise=quantise)
    form = form if critiques is None else replace(form, critiques=critiques)
    return GenerativeVerifier(model, tokenizer, form, name=folder.name, **options)
