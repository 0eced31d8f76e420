r"""Models that judge whole solutions: an outcome reward model (ORM), and a Bradley–Terry reward
model.

    question \n  step 1 <separator>  step 2 <separator>  ...  last step <separator>
                                                                          ^ the one score

Both read the ids that a PRM reads (`StepFormat`: the question, then every step with its separator)
and judge at the last of them, once for the whole solution. `SolutionVerifier` is the PRM's
read-out, P(good) from two label tokens, at that place alone (trained by `train.orm`).
`RewardVerifier` has one linear output instead of the next-word logits (Hugging Face's
`ForSequenceClassification` with one label; trained by `train.reward`). Its reward r becomes a score
by

$$\text{score} = \sigma(r - \text{shift}), \quad \text{shift} = \text{mean reward of the solutions in training},$$

which says how a solution compares to the others, not how likely it is right: pairs fix differences
of rewards within one problem and nothing else, so neither the level of a problem nor 0.5 has a
meaning of its own.

Deviations: Cobbe et al. (2021, arXiv 2110.14168) read a verifier after every token and find that
better than once at the end, as here (their "solution-level" variant). `RewardVerifier` keeps
nothing between calls: it is called once per solution, and reads a question again with each.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from workbench.models.checkpoints import SHIPPED, check_complete, without_library_notes
from workbench.models.prefix_cache import Context
from workbench.models.quantised import flops_per_token, four_bit, is_quantised, keep_plain_layout
from workbench.models.step_format import StepFormat
from workbench.models.verifier import Border, StepVerifier, load_verifier, need_steps
from workbench.types import Meter, Prefix

FILE = "outcome.json"
READS = ("labels", "reward")


class SolutionVerifier(StepVerifier):
    """A discriminative ORM: P(solution is right) at the last step's separator; `score` gives one
    number per prefix.

    An unfinished solution is judged as it stands; one without steps is a ValueError. Any PRM can be
    read this way: `SolutionVerifier(prm.model, prm.tokenizer, prm.form)` gives its `last`
    aggregate.
    """

    per = "solution"

    @staticmethod
    def _steps(context: Context) -> list[Border]:
        return StepVerifier._steps(context)[-1:]

    def _context(self, prefix: Prefix) -> Context:
        need_steps(prefix)
        return super()._context(prefix)


class RewardVerifier:
    """A reward model with a scalar head, read after the last step's separator. Use `load_outcome`
    to get one.

    ValueError if the padding token is missing or ends the separator: the head is read at the last
    token that is none.
    """

    per = "solution"

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer,
        form: StepFormat | None = None,
        *,
        shift: float = 0.0,
        name: str = "reward",
        batch_tokens: int = 49_152,
    ):
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.shift, self.batch_tokens = shift, batch_tokens
        self.form = (form or StepFormat()).bound(tokenizer)
        config = model.config.get_text_config()
        self.pad, self._room = (
            config.pad_token_id,
            getattr(config, "max_position_embeddings", None) or 10**9,
        )
        if self.pad in (None, self.form.ids[0][-1]):
            raise ValueError(
                f"padding id {self.pad}: need one that does not end the separator {self.form.separator!r}"
            )
        self._flops = flops_per_token(model)

    def score(
        self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None
    ) -> list[list[float]]:
        """One score in [0, 1] per prefix, sigma(reward - shift); else like `rewards`."""
        rewards = torch.tensor(self.rewards(prefixes, meters=meters), dtype=torch.float64)  # (B,)
        return torch.sigmoid(rewards - self.shift)[:, None].tolist()

    def rewards(
        self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None
    ) -> list[float]:
        """The head's output per prefix, any number; equal prefixes are computed once, and the first
        one's meter pays.

        Raises ValueError on a prefix without steps or longer than the model can read.
        """
        meters = meters if meters is not None else [Meter() for _ in prefixes]
        rows = [tuple(self.ids(prefix)) for prefix in prefixes]
        payers = dict(zip(reversed(rows), reversed(meters)))  # of equal rows the first
        known: dict[tuple[int, ...], float] = {}
        for batch in self._batches(list(payers)):
            with torch.no_grad():
                known.update(zip(batch, head_outputs(self.model, batch, self.pad).tolist()))
        for row, meter in payers.items():
            meter.verifier += len(row)
            meter.flops += self._flops * len(row)
        return [known[row] for row in rows]

    def ids(self, prefix: Prefix) -> list[int]:
        """What the model reads; ValueError without steps or if it is longer than the model can
        read."""
        need_steps(prefix)
        ids = [
            i
            for segment in self.form.segments(self.tokenizer, prefix.problem, prefix.texts)
            for i in segment
        ]
        if len(ids) > self._room:
            raise ValueError(
                f"{prefix.problem.id}: {len(ids)} tokens to judge, the verifier reads {self._room}"
            )
        return ids

    def _batches(self, rows: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        """Rows of like length together, at most `batch_tokens` tokens at once, padding included."""
        batch: list[tuple[int, ...]] = []
        for row in sorted(rows, key=len):
            if batch and len(row) * (len(batch) + 1) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


def padded(rows: Sequence[Sequence[int]], pad: int) -> dict[str, torch.Tensor]:
    """Ids of rows padded on the right, and 1 where a token counts: input_ids and attention_mask,
    (B, T) each.

    >>> {name: x.tolist() for name, x in padded([[5, 6, 7], [8]], 0).items()}
    {'input_ids': [[5, 6, 7], [8, 0, 0]], 'attention_mask': [[1, 1, 1], [1, 0, 0]]}
    """
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])  # (B, T)
    lengths = torch.tensor([len(row) for row in rows])  # (B,)
    return {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long()}


def head_outputs(model: torch.nn.Module, rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Rewards of token rows in one forward pass, (B,) in float32; each row is read after its last
    token."""
    batch = {name: x.to(model.device) for name, x in padded(rows, pad).items()}
    return model(**batch, use_cache=False).logits[:, 0].float()


def with_scalar_head(model: torch.nn.Module, tokenizer) -> torch.nn.Module:
    """The body of a causal LM (shared, not copied) under one new linear output that begins at zero,
    without bias.

    Padding is the tokenizer's, or its end of text if it has none. ValueError for a model family
    without such a class.
    """
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels = 1
    config.pad_token_id = (
        tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    )
    with torch.device("meta"):  # only the shell is needed
        scorer = AutoModelForSequenceClassification.from_config(config)
    head = torch.nn.Linear(
        config.hidden_size, 1, bias=False, device=model.device, dtype=model.dtype
    )
    torch.nn.init.zeros_(head.weight)
    scorer.score = head
    setattr(scorer, scorer.base_model_prefix, model.base_model)
    scorer.is_loaded_in_4bit = is_quantised(model)  # peft asks
    return scorer


# -- on disk ---------------------------------------------------------------------------------------


def mark(verifier: SolutionVerifier | RewardVerifier, folder: str | Path) -> None:
    """Note beside the weights how they are read, so that `load_outcome` knows; `train.orm.save`
    writes the rest."""
    reward = isinstance(verifier, RewardVerifier)
    note = {"read": "reward", "shift": verifier.shift} if reward else {"read": "labels"}
    (Path(folder) / FILE).write_text(json.dumps(note) + "\n", encoding="utf-8")


def load_outcome(
    name_or_path: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | None = None,
    quantise: bool = False,
    **options,
) -> SolutionVerifier | RewardVerifier:
    """An ORM or a reward model from a folder written by `train.orm.save`, or by its shipped name.

    `quantise`: weights in 4 bits, an adapter's own and the head excepted (`quantised`). `options`
    go to the verifier (batch_tokens ...). ValueError in one line if the folder holds none, or if
    the tokenizer gives the step format other ids than in training.
    """
    folder = Path(name_or_path) if Path(name_or_path).is_dir() else SHIPPED / str(name_or_path)
    if not (folder / FILE).is_file():
        raise ValueError(f"{folder} is no verifier of whole solutions of ours: {FILE} is missing")
    note = json.loads((folder / FILE).read_text(encoding="utf-8"))
    if note.get("read") not in READS:
        raise ValueError(
            f"{folder / FILE} says read = {note.get('read')!r}, need {' or '.join(READS)}"
        )
    if note["read"] == "labels":
        prm = load_verifier(folder, dtype=dtype, device=device, quantise=quantise)
        return SolutionVerifier(
            prm.model, prm.tokenizer, prm.form, **{"name": folder.name, **options}
        )
    form = StepFormat.load(folder)
    model, tokenizer = _load_scorer(folder, dtype, device, quantise)
    return RewardVerifier(
        model, tokenizer, form, **{"name": folder.name, "shift": note["shift"], **options}
    )


def _load_scorer(folder: Path, dtype: str | torch.dtype, device: str | None, quantise: bool):
    """Model with scalar head, and tokenizer: a whole checkpoint, or an adapter merged into (in 4
    bits: on) its base."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from workbench.models.policy import load_policy

    if not (folder / "adapter_config.json").is_file():
        check_complete(folder)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        settings = four_bit(dtype, device) if quantise else {}
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype, **settings)
        return keep_plain_layout(model.to(device)), AutoTokenizer.from_pretrained(folder)
    with without_library_notes():
        from peft import PeftConfig, PeftModel

    name = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    base = load_policy(name, dtype=dtype, device=device, quantise=quantise)
    with without_library_notes():
        model = PeftModel.from_pretrained(with_scalar_head(base.model, base.tokenizer), str(folder))
        return model if is_quantised(model) else model.merge_and_unload(), base.tokenizer
