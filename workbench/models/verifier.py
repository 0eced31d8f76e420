"""Models that judge: a causal LM read as a process reward model, behind `Verifier.score`.

Attention is causal, so a step's score depends on the question and the steps up to it, never on what
follows. Two things are kept between calls: the scores of all step borders met, and the key-values
of prefixes (`PrefixCache`). A search that grows solutions step by step therefore pays for each
token once, as the meter shows: the question once, and what was generated. (Systems that call a PRM
with the whole text each time pay 5 to 10 times as much.) Where the likelihood of the words counts,
the token before each new step is read once more: its logits, which are not kept, judge the step's
first word. Taught in notebook 03.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from workbench.models.checkpoints import SHIPPED, without_library_notes
from workbench.models.engine import Engine, Row
from workbench.models.prefix_cache import Context
from workbench.models.quantised import is_quantised
from workbench.models.step_format import StepFormat
from workbench.types import Meter, Prefix

if TYPE_CHECKING:
    from workbench.models.policy import HFPolicy

MOST_SCORES = 1_000_000  # borders remembered before the memory is emptied


class Border(NamedTuple):
    """A step in a context: the name of everything up to its end, and after how many tokens it
    begins and ends."""

    name: bytes
    start: int
    end: int


def log_probability(
    logits: torch.Tensor, words: Sequence[int], closers: Sequence[int]
) -> torch.Tensor:
    """log P(words, then a closer): logits (words + 1, V) before each word and, last, after all of
    them."""
    logp = logits.float().log_softmax(-1)  # (words + 1, V)
    return logp[range(len(words)), list(words)].sum() + logp[-1, list(closers)].logsumexp(0)


def need_steps(prefix: Prefix) -> None:
    """ValueError for a prefix without steps, which a verifier of whole solutions cannot judge."""
    if not prefix.steps:
        raise ValueError(
            f"{prefix.problem.id}: no steps to judge, a verifier of whole solutions needs at least one"
        )


class StepVerifier:
    """A discriminative PRM: P(step is good) at each step's separator. Use `load_verifier` to get
    one from a folder."""

    per = "step"

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer,
        form: StepFormat | None = None,
        *,
        name: str = "prm",
        batch_tokens: int = 49_152,
        cache_tokens: int = 131_072,
    ):
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.form = (form or StepFormat()).bound(tokenizer)
        self.engine = Engine(model, batch_tokens=batch_tokens, cache_tokens=cache_tokens)
        self._scores: dict[bytes, float] = {}  # by the name of the border at which the step ends
        self._room = getattr(self.engine.config, "max_position_embeddings", None) or 10**9

    def score(
        self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None
    ) -> list[list[float]]:
        """One score in [0, 1] per step of each prefix; row i pays into `meters[i]` for what had to
        be computed.

        Raises ValueError on a prefix that is longer than the model can read.
        """
        if self.engine.refresh() or len(self._scores) > MOST_SCORES:
            self._scores.clear()
        meters = meters if meters is not None else [Meter() for _ in prefixes]
        contexts = [self._context(prefix) for prefix in prefixes]
        # one row per distinct context that holds a step without a score
        fresh: dict[bytes, Row] = {}
        unknown: dict[bytes, list[Border]] = {}
        payers: dict[bytes, Meter] = {}
        for context, meter in zip(contexts, meters):
            steps, name = (
                [step for step in self._steps(context) if step.name not in self._scores],
                context.names[-1],
            )
            if steps and name not in fresh:
                wanted = tuple(n for step in steps for n in self._wanted(step))
                fresh[name], unknown[name], payers[name] = (
                    Row(context, 0, 0, Meter(), wanted),
                    steps,
                    meter,
                )
        self._read_questions(fresh, payers)
        rows = list(fresh.values())
        for row, logits in zip(rows, self.engine.read(rows)):
            self._keep(row, logits, unknown[row.context.names[-1]])
            self._pay(row, payers[row.context.names[-1]])
        return [[self._scores[step.name] for step in self._steps(context)] for context in contexts]

    def _context(self, prefix: Prefix) -> Context:
        context = Context(self.form.segments(self.tokenizer, prefix.problem, prefix.texts))
        if len(context.ids) > self._room:
            raise ValueError(
                f"{prefix.problem.id}: {len(context.ids)} tokens to judge, the verifier reads {self._room}"
            )
        return context

    @staticmethod
    def _steps(context: Context) -> list[Border]:
        return [
            Border(*step) for step in zip(context.names[1:], context.borders, context.borders[1:])
        ]

    def _read_questions(self, fresh: dict[bytes, Row], payers: dict[bytes, Meter]) -> None:
        """Compute once each question that several rows begin with, so that all find it in the
        cache."""
        shared: dict[bytes, list[Row]] = {}
        for row in fresh.values():
            shared.setdefault(row.context.names[0], []).append(row)
        questions = []
        for rows in shared.values():
            if len(rows) > 1:
                context = rows[0].context
                questions.append((Row(context.cut(1), 0, 0, Meter()), payers[context.names[-1]]))
        questions = [
            (row, meter) for row, meter in questions if not self.engine.cache.holds(row.context)
        ]
        self.engine.read([row for row, _ in questions])
        for row, meter in questions:
            self._pay(row, meter)

    def _keep(self, row: Row, logits: torch.Tensor, steps: list[Border]) -> None:
        """Remember the scores of steps. logits (len(row.wanted), V): what `_wanted` asks for, step
        after step."""
        _, good, bad = self.form.ids
        for step, (*before, end) in zip(
            steps, logits.float().split([len(self._wanted(step)) for step in steps])
        ):
            odds = end[good] - end[bad]
            if before:
                words = row.context.ids[step.start : step.start + len(before) - 1]
                odds = odds + self.form.likelihood * log_probability(
                    torch.stack(before), words, self.form.closers
                )
            # in float32 it is 0 from odds of -104 on
            self._scores[step.name] = torch.sigmoid(odds.double()).item()

    def _wanted(self, step: Border) -> list[int]:
        """Where logits are needed, in tokens read: if the likelihood counts before and after each
        word, and the end."""
        words = (
            range(step.start, step.end - len(self.form.ids[0]) + 1) if self.form.likelihood else ()
        )
        return [*words, step.end]

    def _pay(self, row: Row, meter: Meter) -> None:
        meter.verifier += row.meter.prefilled
        meter.flops += row.meter.flops


def untrained(policy: HFPolicy, *, likelihood: float = 1.0, **options) -> StepVerifier:
    """A verifier that was never trained to judge: a language model's own probability p of each
    step, as a score.

    The label tokens weigh the same, so the score is sigma(likelihood * log p), p / (1 + p) by
    default: the order counts, not the number. The policy stays as it is. `options` go to
    `StepVerifier`.
    """
    verifier = StepVerifier(
        copy.deepcopy(policy.model),
        policy.tokenizer,
        StepFormat(likelihood=likelihood),
        name=policy.name,
        **options,
    )
    _, good, bad = verifier.form.ids
    with torch.no_grad():
        head = verifier.model.get_output_embeddings().weight
        head[bad] = head[good]
    return verifier


def load_verifier(
    name_or_path: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | None = None,
    quantise: bool = False,
    **options,
) -> StepVerifier:
    """A PRM from a shipped name (`prm`) or a folder written by `train.prm.save`: an adapter, or a
    whole checkpoint.

    `quantise`: weights in 4 bits, an adapter's own excepted (`quantised`). `options` go to
    `StepVerifier`. The base of an adapter is found by the path or shipped name that it names.
    Raises ValueError in one line when the folder holds no whole verifier, and where there is no
    computing in 4 bits.
    """
    folder = Path(name_or_path) if Path(name_or_path).is_dir() else SHIPPED / str(name_or_path)
    form = StepFormat.load(folder)
    model, tokenizer = host_of(folder, dtype=dtype, device=device, quantise=quantise)
    return StepVerifier(model, tokenizer, form, name=folder.name, **options)


def host_of(folder: Path, **settings):
    """Model and tokenizer of a verifier's folder: a whole checkpoint, or an adapter merged into its
    base.

    `settings` go to `load_policy` (dtype, device, quantise). On a base in 4 bits the adapter stays
    on top.
    """
    from workbench.models.policy import load_policy

    if not (folder / "adapter_config.json").is_file():
        whole = load_policy(folder, **settings)
        return whole.model, whole.tokenizer
    with without_library_notes():
        from peft import PeftConfig, PeftModel
    base = load_policy(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path, **settings)
    with without_library_notes():
        model = PeftModel.from_pretrained(base.model, str(folder))
        return model if is_quantised(model) else model.merge_and_unload(), base.tokenizer
