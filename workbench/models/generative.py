r"""A verifier that is asked in words: GenRM (Zhang et al. 2024, arXiv 2408.15240), for every step.

A causal LM reads question, steps and an ask, and a step's score is the probability of its verdict,

    direct:  P(Yes | question, steps, ask)
    CoT:     1/K sum_k P(Yes | question, steps, ask, critique_k)

with softmax over the two verdict tokens and K critiques sampled from the model itself. A critique's
random stream is keyed by what stands before it, never by its place in a batch.

Two asks write a critique (`ASKS`). In `cot`, as in the paper, the step is in view. In `blind` the
model first works out the quantity that the step is about, then reads the step and compares. To
compare two lines word by word takes more than a few layers learn from some thousand verdicts. So a
blind ask may count, like a PRM of ours, how probable the step is once the critique has been read:

    P(Yes) = sigma(logit_Yes - logit_No + lambda log P(step | question, steps, critique)).

Deviations from the paper: scores per step, not per solution; the softmax over two tokens; a
critique's first token is given, that of the judged step (here it names the quantity); `blind`; the
likelihood. Taught in notebook 04.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from hashlib import blake2b
from string import Formatter
from typing import NamedTuple

import torch

from workbench.models.engine import Row
from workbench.models.heads import LabelHead, StepSpan
from workbench.models.prefix_cache import Context
from workbench.models.reader import Question, Reader, book, fingerprint_of, need_steps
from workbench.models.step_format import StepFormat
from workbench.models.stops import pattern_of, stop_tables
from workbench.models.templates import plain_ids
from workbench.types import Meter, Prefix, Scores

# what follows the earlier steps: fields are whole lines with their separator, `opening` is the
# first token of the step
ASKS = {
    "direct": "{step}Check : correct ?",
    "cot": "{step}Check : {opening}{critique}correct ?",
    "blind": "{opening}{critique}Check : {step}correct ?",
}


def stream_of(seed: int, content: bytes, k: int) -> int:
    """The 64-bit key of the k-th critique's random stream, from what stands before the critique."""
    digest = blake2b(f"{seed}/{k}".encode() + content, digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True)
class GenerativeFormat:
    """How a verifier is asked: the ask, the number K of critiques, and the verdict words.

    `lines` says how question and steps are read; its `good` and `bad` are the verdicts. Per
    solution there is one verdict, asked about the last step with all others in view.
    """

    ask: str = ASKS["direct"]
    critiques: int = 1
    lines: StepFormat = field(default_factory=lambda: StepFormat(good="Yes", bad="No"))
    # of the texts between the fields, as in training; set by `bound`
    ask_ids: tuple[tuple[int, ...], ...] | None = None
    per: str = "step"

    @property
    def writes(self) -> bool:
        return "{critique}" in self.ask

    def bound(self, tokenizer) -> GenerativeFormat:
        """The format with the ids of this tokenizer; ValueError if training had others."""
        self._check()
        texts = [text for text, *_ in Formatter().parse(self.ask) if text]
        ids = tuple(tuple(plain_ids(tokenizer, text)) for text in texts)
        if any(tokenizer.unk_token_id in piece for piece in ids):
            raise ValueError(f"ask {self.ask!r} has words that this tokenizer does not know")
        if (known := self.ask_ids) not in (None, ids):
            raise ValueError(f"the ask had ids {known} in training, this tokenizer has {ids}")
        return replace(self, lines=self.lines.bound(tokenizer), ask_ids=ids)

    def _check(self) -> None:
        """ValueError for an ask that makes no sense, or with something else of the format."""
        names = [name for _, name, _, _ in Formatter().parse(self.ask) if name is not None]
        fields = {"step", "opening", "critique"}
        if "step" not in names or len(set(names)) < len(names) or not fields.issuperset(names):
            need = "need {step}, perhaps {opening} and {critique}, each once"
            raise ValueError(f"ask {self.ask!r}: {need}")
        if self.per not in ("step", "solution"):
            raise ValueError(f"per={self.per!r}: use 'step' or 'solution'")
        if not self.lines.good:
            raise ValueError(f"good={self.lines.good!r}: need a word for each verdict")
        if self.lines.likelihood and not 0 <= self.ask.find("{critique}") < self.ask.find("{step}"):
            given = f"likelihood={self.lines.likelihood}"
            raise ValueError(f"{given}: ask {self.ask!r} has no step after a critique")
        n = self.critiques
        if n < 1 or (n > 1 and not self.writes):
            raise ValueError(f"critiques={n}: need at least 1, and no more where none is written")

    def around(self, lines: list[list[int]], t: int) -> tuple[list, list]:
        """Segments before and after the critique on step t (from 1); the verdict follows them."""
        opening = lines[t][: -len(self.lines.ids[0])][:1]
        before, after, texts = [*lines[:t]], [], iter(self.ask_ids)
        into = before
        for text, name, _, _ in Formatter().parse(self.ask):
            into += [list(next(texts))] if text else []
            into += {"step": [lines[t]], "opening": [opening] if opening else []}.get(name, [])
            into = after if name == "critique" else into
        return before, after

    @classmethod
    def read(cls, fields: Mapping) -> GenerativeFormat:
        """The format of a `verifier.json`."""
        ids = tuple(map(tuple, fields["ask_ids"]))
        return cls(**{**fields, "ask_ids": ids, "lines": StepFormat.read(fields["lines"])})


class StepToJudge(NamedTuple):
    """One step and the texts around its critique, as ids."""

    name: bytes  # of all that is fixed: same name, same score
    stem: Context  # question and steps, which asks share: the beginning of `before`
    before: Context
    after: list[list[int]]
    step: list[int]  # with its separator; one of `after` if the ask is blind
    meter: Meter  # who pays


class GenerativeVerifier:
    """P(verdict is good) of every step, or of the solution.

    `longest` bounds a critique in tokens; `seed` fixes what is sampled; `sizes` go to `Engine`.
    """

    kind = "generative"

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
        **sizes: int,
    ):
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.form = (form or GenerativeFormat()).bound(tokenizer)
        self.per = self.form.per
        if temperature < 0 or (temperature == 0 and self.form.critiques > 1) or longest < 1:
            given = f"temperature {temperature}, longest {longest}"
            raise ValueError(f"{given}: need > 0 (0 for one critique), and >= 1")
        self.seed, self.temperature, self.longest = seed, temperature, longest
        self.reader = Reader(model, **sizes)
        # K critiques by the name of what stands before them
        self._written: dict[bytes, list[list[int]]] = {}
        texts = (self.form.lines.separator,)
        self._stops = stop_tables(model, tokenizer, line=texts)["line"]

    def forget(self) -> None:
        """Be as if nothing had been read yet."""
        self.reader.forget()
        self._written = {}

    def score(self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None) -> Scores:
        """As `StepVerifier.score`; what is written is paid for like what is read."""
        if self.reader.refresh():
            self._written.clear()
        known, meters = self.reader.known, meters or [Meter() for _ in prefixes]
        rows = [self._to_judge(prefix, meter) for prefix, meter in zip(prefixes, meters)]
        if self.per == "solution":
            for prefix in prefixes:
                need_steps(prefix)
            rows = [row[-1:] for row in rows]
        fresh = {step.name: step for row in reversed(rows) for step in row}
        todo = [step for step in reversed(fresh.values()) if step.name not in known]
        # groups so small that the cache keeps all of one
        lengths = (len(s.before.ids) + self.longest + sum(map(len, s.after)) for s in todo)
        room = self.reader.engine.cache.max_tokens // (2 + 2 * self.form.critiques)
        size = max(1, room // max(lengths, default=1))
        for i in range(0, len(todo), size):
            self._judge(todo[i : i + size])
        return [[known[step.name] for step in row] for row in rows]

    def critiques(self, prefix: Prefix) -> list[list[str]]:
        """What was written about each step before its verdict: K texts, or none where none was."""
        self.score([prefix])
        out = []
        for step in self._to_judge(prefix, Meter()):
            words = step.step[: -len(self.form.lines.ids[0])]
            opening = words[:1] if "{opening}" in self.form.ask else []
            rows = [[*opening, *ids] for ids in self._written.get(step.before.names[-1], [])]
            texts = [self.tokenizer.decode(row, skip_special_tokens=True) for row in rows]
            out.append([text.strip() for text in texts])
        return out

    def settings(self) -> dict:
        """How it is asked, as `verifier.json` holds it."""
        draws = {name: getattr(self, name) for name in ("seed", "temperature", "longest")}
        return {"kind": self.kind, "form": asdict(self.form), "draws": draws}

    def fingerprint(self) -> str:
        """What this verifier is: a digest of its weights, settings, and what fixes its draws."""
        settings = self.settings()
        return fingerprint_of(self.model, settings | settings.pop("draws"))

    def _to_judge(self, prefix: Prefix, meter: Meter) -> list[StepToJudge]:
        lines, steps = self.form.lines.segments(self.tokenizer, prefix.problem, prefix.texts), []
        written = self.longest + len(self.form.lines.ids[0]) if self.form.writes else 0
        for t in range(1, len(lines)):
            before, after = self.form.around(lines, t)
            context, whole = Context(before), Context([*before, *after])
            self.reader.check(prefix.problem.id, len(whole.ids) + written)
            stem = context.cut(t + (before[t : t + 1] == [lines[t]]))
            steps.append(StepToJudge(whole.names[-1], stem, context, after, lines[t], meter))
        return steps

    def _judge(self, group: Sequence[StepToJudge]) -> None:
        """Remember the scores of a group: the mean over critiques of P(good)."""
        # 1. solutions that no longer one begins with; all of the group then begin in the cache
        inner = {name for step in group for name in step.stem.names[:-1]}
        stems = {s.stem.names[-1]: s for s in group if s.stem.names[-1] not in inner}.values()
        held = self.reader.engine.cache.holds
        self.reader.read([Question(s.stem, (), s.meter) for s in stems if not held(s.stem)])
        # 2. critiques, if the ask has any
        both = [(step, []) for step in group]
        if self.form.writes:
            self._write(group)
            both = [(step, ids) for step in group for ids in self._written[step.before.names[-1]]]
        # 3. verdicts after them
        questions = [self._question(step, ids) for step, ids in both]
        judge, lines, found = LabelHead(), self.form.lines, self.reader.read(questions)
        odds = [judge.odds(lines, x.double(), step.step) for (step, _), x in zip(both, found)]
        scores = torch.sigmoid(torch.stack(odds)).view(len(group), -1).mean(1)  # (steps,)
        self.reader.known.update(zip([step.name for step in group], scores.tolist()))

    def _question(self, step: StepToJudge, critique: list[int]) -> Question:
        """Where to look: at the verdict and, if likelihood counts, around each word of the step."""
        context = reduce(Context.extended, filter(None, (critique, *step.after)), step.before)
        words: Sequence[int] = ()
        if self.form.lines.likelihood:
            rest = step.after[step.after.index(step.step) :]
            start = len(context.ids) - sum(map(len, rest))
            span = StepSpan(step.name, start, start + len(step.step))
            *words, _ = LabelHead().wanted(self.form.lines, span)
        return Question(context, (*words, len(context.ids)), step.meter)

    def _write(self, group: Sequence[StepToJudge]) -> None:
        """Sample K critiques wherever none has been written yet; each ends with the separator."""
        places = {step.before.names[-1]: step for step in reversed(group)}
        new = [name for name in places if name not in self._written]
        names = [name for name in new for _ in range(self.form.critiques)]
        keys = [stream_of(self.seed, name, k) for name in new for k in range(self.form.critiques)]
        rows = [Row(places[n].before, self.longest, key, Meter()) for n, key in zip(names, keys)]
        engine = self.reader.engine
        engine.run(rows, stops=self._stops, temperature=self.temperature, keep=True)
        for name, row in zip(names, rows):
            line = [*self._bare(row.ids), *self.form.lines.ids[0]]
            self._written.setdefault(name, []).append(line)
            book(row, places[name].meter)

    def _bare(self, ids: list[int]) -> list[int]:
        """A critique without what ended it; a last token like `.\\n` keeps what stands before."""
        if not self._stops.over(ids):
            return ids
        last = self.tokenizer.decode(ids[-1:], skip_special_tokens=True)
        head, *_ = re.split(pattern_of(self.form.lines.separator), last)
        kept = plain_ids(self.tokenizer, head) if head else []
        return [*ids[:-1], *kept][: self.longest]
