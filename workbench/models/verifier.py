"""Models that judge: a host read by a head where steps end, behind `Verifier.score`.

| verifier | head | per |
|---|---|---|
| process reward model (PRM) | `LabelHead` | step |
| outcome reward model (ORM): `train.orm` | `LabelHead` | solution |
| Bradley-Terry reward model: `train.reward` | `ScalarHead` | solution |
| a host that was never trained to judge: `untrained` | `LabelHead(labels=False)` | step |
| public PRMs: `public` | `ScalarHead` | step |

All are a `StepVerifier`. Per solution, it reads the end of the last step alone, with all others in
view: any PRM read so gives its `last` aggregate. (Cobbe et al. 2021, arXiv 2110.14168, find an ORM
better that is read after every token.) Verifiers that are asked in words are in `generative`.
Attention is causal, so a step's score never depends on what follows. Taught in notebook 03.

On disk a verifier is an adapter or a whole checkpoint, its tokenizer, and `verifier.json`, which
names its kind and holds what the head needs: `save` writes it, `load_verifier` reads every kind.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit

from workbench.models.checkpoints import (
    SHIPPED,
    VERIFIER,
    check_complete,
    is_verifier,
    shipped_names,
)
from workbench.models.generative import GenerativeFormat, GenerativeVerifier
from workbench.models.heads import (
    HEADS,
    Head,
    LabelHead,
    ScalarHead,
    StepSpan,
    as_read,
    with_scalar_head,
)
from workbench.models.policy import HFPolicy, read_checkpoint, read_model
from workbench.models.prefix_cache import Context
from workbench.models.reader import Question, Reader, fingerprint_of, need_steps
from workbench.models.saved_policy import ADAPTER, adapted, base_of, save_weights
from workbench.models.step_format import StepFormat
from workbench.problems.vocabulary import GOOD
from workbench.types import Meter, Prefix, Scores


class StepVerifier:
    """P(good) of each step, or of the solution at its last one. `load_verifier` gets saved ones.

    `form` lays solutions out as ids (`StepFormat` unless said otherwise), `head` judges, `sizes` go
    to `Engine`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer,
        form: StepFormat | None = None,
        *,
        head: Head | None = None,
        per: str = "step",
        name: str = "prm",
        **sizes: int,
    ):
        if per not in ("step", "solution"):
            raise ValueError(f"per={per!r}: use 'step' or 'solution'")
        self.model, self.tokenizer, self.name, self.per = model.eval(), tokenizer, name, per
        self.form, self.head = (form or StepFormat()).bound(tokenizer), head or LabelHead()
        self.reader = Reader(as_read(model), **sizes)

    def score(self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None) -> Scores:
        """As `types.Verifier.score` says; of prefixes that need the same, the first one pays.

        `Unreadable` for a prefix too long, ValueError for one without steps to judge as a solution:
        both before anything is computed.
        """
        odds = self.log_odds(prefixes, meters=meters)
        # float64, for in float32 it is 0 from odds of -104 on; not torch's sigmoid, whose last bit
        # depends on the place in the tensor
        return [expit(np.array(row, float)).tolist() for row in odds]

    def log_odds(
        self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None
    ) -> Scores:
        """As `score`, before the sigmoid: any number. Of a reward model they are its rewards."""
        self.reader.refresh()
        known = self.reader.known
        contexts = [self._context(prefix) for prefix in prefixes]
        # 1. one question per distinct solution that holds a step without odds
        asked = self._asked(contexts, meters or [Meter() for _ in prefixes])
        # 2. what stands at the positions that the head wants
        answers = self.reader.read([question for question, _ in asked])
        # 3. what the head makes of it, step after step
        for (question, steps), found in zip(asked, answers):
            sizes = [len(self.head.wanted(self.form, step)) for step in steps]
            for step, part in zip(steps, found.float().split(sizes)):
                ids = question.context.ids[step.start : step.end]
                known[step.name] = self.head.odds(self.form, part, ids).item()
        return [[known[step.name] for step in self._steps(context)] for context in contexts]

    def forget(self) -> None:
        """Be as if nothing had been read yet."""
        self.reader.forget()

    def price(self, prefixes: Sequence[Prefix]) -> int:
        """Tokens at most that `score` would compute for these, while the cache holds the rest.

        Of a prefix that has its scores, or no steps yet, what it takes to go on from there.
        """
        self.reader.refresh()
        distinct = {(prefix.problem.id, prefix.texts): prefix for prefix in prefixes}.values()
        contexts = {context.names[-1]: context for context in map(self._laid_out, distinct)}
        asked = self._asked([context for context in contexts.values() if len(context.names) > 1])
        unknown = {question.context.names[-1]: min(question.wanted) for question, _ in asked}
        wanted = {c: unknown.get(name, len(c.ids) + 1) for name, c in contexts.items()}
        return self.reader.engine.to_read(wanted)

    def _asked(
        self, contexts: Iterable[Context], meters: Iterable[Meter] = repeat(Meter())
    ) -> list[tuple[Question, list[StepSpan]]]:
        """One question per distinct solution that holds steps without odds, and these steps."""
        asked: dict[bytes, tuple[Question, list[StepSpan]]] = {}
        for context, meter in zip(contexts, meters):
            steps = [step for step in self._steps(context) if step.name not in self.reader.known]
            if steps and context.names[-1] not in asked:
                wanted = [n for step in steps for n in self.head.wanted(self.form, step)]
                asked[context.names[-1]] = Question(context, wanted, meter), steps
        return list(asked.values())

    def _context(self, prefix: Prefix) -> Context:
        if self.per == "solution":
            need_steps(prefix)
        return self._laid_out(prefix)

    def _laid_out(self, prefix: Prefix) -> Context:
        context = Context(self.form.segments(self.tokenizer, prefix.problem, prefix.texts))
        self.reader.check(prefix.problem.id, len(context.ids))
        return context

    def _steps(self, context: Context) -> list[StepSpan]:
        steps = list(map(StepSpan, context.names[1:], context.borders, context.borders[1:]))
        return steps[-1:] if self.per == "solution" else steps

    def with_likelihood(self, weight: float) -> StepVerifier:
        """The same weights read another way: log P(step) counts so much beside the labels."""
        form, about = replace(self.form, likelihood=weight), {"per": self.per, "name": self.name}
        return StepVerifier(self.model, self.tokenizer, form, head=self.head, **about)

    def settings(self) -> dict:
        """All that scores depend on beside the weights, as `verifier.json` holds it."""
        form, head = asdict(self.form), asdict(self.head)
        return {"kind": self.head.kind, "per": self.per, "form": form, "head": head}

    def fingerprint(self) -> str:
        """What this verifier is: a digest of its weights and settings."""
        return fingerprint_of(self.model, self.settings())


def untrained(policy: HFPolicy, *, likelihood: float = 1.0, **options) -> StepVerifier:
    """A language model's own probability p of each step, as a score: nothing was trained to judge.

    The score is sigma(likelihood * log p), p / (1 + p) by default: the order counts, not the
    number. The model is copied, so that training the policy does not change its judgement.
    """
    texts = {"separator": policy.separator, "template": policy.templates["solve"]}
    if GOOD not in policy.tokenizer.get_vocab():
        texts |= {"good": "", "bad": ""}
    form = StepFormat(**texts, likelihood=likelihood)
    model, head = copy.deepcopy(policy.model), LabelHead(labels=False)
    options = {"name": policy.name, **options}
    return StepVerifier(model, policy.tokenizer, form, head=head, **options)


# -- on disk ---------------------------------------------------------------------------------------


def save(verifier: StepVerifier | GenerativeVerifier, folder: str | Path) -> None:
    """Write adapter or whole model, tokenizer and `verifier.json`.

    What verifier the folder held before is replaced; ValueError if it holds a policy, and for a
    public verifier.
    """
    folder = Path(folder)
    if not hasattr(verifier.model, "save_pretrained"):
        raise ValueError(f"{verifier.name} is no verifier of ours: load it by name, don't save it")
    note = folder / f"{VERIFIER}.part"  # as long as not all is there
    a_model = any((folder / name).is_file() for name in ("config.json", ADAPTER))
    if a_model and not note.is_file() and not is_verifier(folder):
        raise ValueError(f"{folder} holds a policy: name another folder")
    # 1. all of it in a folder within, which is on the same disk
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / ".part"
    shutil.rmtree(new, ignore_errors=True)  # of a writing that was stopped
    save_weights(verifier.model, new, replaced=(folder,))
    verifier.tokenizer.save_pretrained(new)
    settings = json.dumps(verifier.settings(), indent=1) + "\n"
    (new / VERIFIER).write_text(settings, encoding="utf-8")
    # 2. in place of the verifier that was here; its adapter would be read instead of whole weights
    note.touch()
    for name in (VERIFIER, "adapter_*", "model*.safetensors*"):
        for stale in [*folder.glob(name)]:
            stale.unlink(missing_ok=True)
    for file in sorted(new.iterdir(), key=lambda file: file.name == VERIFIER):  # that one last
        if file.is_dir():
            shutil.rmtree(folder / file.name, ignore_errors=True)
        file.replace(folder / file.name)
    new.rmdir()
    note.unlink()


def load_verifier(
    name_or_path: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    device: str | None = None,
    quantise: bool = False,
    **options,
) -> StepVerifier | GenerativeVerifier:
    """A verifier of any kind: a shipped one by name, a folder that `save` wrote, or a public PRM.

    `dtype` is float32 unless told otherwise, bfloat16 of public ones; `quantise`: weights in 4 bits
    but for an adapter's own and the head. `options` go to the verifier (name, batch_tokens ...;
    `critiques` of a generative one; `base` of a public adapter). ValueError when there is no whole
    verifier or no computing in 4 bits, and for another tokenizer than in training.
    """
    folders = Path(name_or_path), SHIPPED / str(name_or_path)
    settings = {"device": device, "quantise": quantise}
    folder = next(filter(is_verifier, folders), None)
    if folder is None:
        settings |= {"dtype": dtype or "bfloat16", **options}
        return _load_other(name_or_path, **settings)
    form, judge = _read_settings(folder / VERIFIER)
    scalar = isinstance(judge.get("head"), ScalarHead)
    model, tokenizer = _load_host(folder, scalar, dtype=dtype or "float32", **settings)
    options = {"name": folder.name, **judge, **options}
    if "head" in judge:
        return StepVerifier(model, tokenizer, form, **options)
    form = replace(form, critiques=options.pop("critiques", form.critiques))
    return GenerativeVerifier(model, tokenizer, form, **options)


def _read_settings(file: Path) -> tuple[StepFormat | GenerativeFormat, dict]:
    """The format; `head` and `per` of a `StepVerifier`, the draws of a `GenerativeVerifier`."""
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
        if note["kind"] == GenerativeVerifier.kind:
            return GenerativeFormat.read(note["form"]), note.get("draws", {})
        head = HEADS[note["kind"]](**note["head"])
        return StepFormat.read(note["form"]), {"head": head, "per": note["per"]}
    except (KeyError, TypeError, ValueError) as error:
        kinds = ", ".join([*HEADS, GenerativeVerifier.kind])
        given = f"{file} describes no verifier of a kind that we know ({kinds})"
        raise ValueError(f"{given}: {error!r}") from error


def _load_other(name_or_path: str | Path, **options) -> StepVerifier:
    """A public verifier; ValueError if the name is none, too."""
    from workbench.models.public import PUBLIC, known_name, load_public

    if known_name(name_or_path):
        return load_public(name_or_path, **options)
    shipped = shipped_names(judging=True)
    need = f"need a folder with {VERIFIER}, a shipped name ({shipped}) or a public one"
    raise ValueError(f"no verifier {str(name_or_path)!r}: {need} ({', '.join(PUBLIC)})")


def _load_host(folder: Path, scalar: bool, **settings):
    """Model and tokenizer: a whole checkpoint, or an adapter in its base (4 bits: on top of it)."""
    if not scalar:
        return read_model(folder, settings)
    if (base := base_of(folder)) is None:
        from transformers import AutoModelForSequenceClassification

        check_complete(folder)
        return read_checkpoint(AutoModelForSequenceClassification, folder, settings)
    model, tokenizer = read_model(base, settings)
    return adapted(with_scalar_head(model, tokenizer), folder), tokenizer
