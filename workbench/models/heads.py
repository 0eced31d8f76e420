r"""Small heads: which positions of a step are read, and what makes log-odds of what stands there.

| head | log-odds that a step is good | read at |
|---|---|---|
| `LabelHead` | logit[good] - logit[bad] + likelihood * log P(step) | the step's end, its words |
| `ScalarHead` | r - shift | the step's end |

**Labels.** A causal LM's two label tokens are compared where the step ends. The second term, off by
default, lets the host's own next-word predictions speak. To see that `19 - 16 = 3` is wrong here a
verifier must work out what should stand there. A language model has done so one position earlier,
but in its last layer, where the label tokens cannot read it. (Likelihoods alone: implicit PRM,
arXiv 2412.01981.) P(step) is the probability of its words and that a separator or the end of the
text comes next; without the latter, empty and cut-off steps would be the likeliest of all. It needs
the logits of all words: `batch_tokens` x V numbers at once.

**Scalars.** One linear output r on the states of a body: outcome and Bradley-Terry rewards, values.
Pairs fix differences of rewards within one problem and nothing else, so `shift` is the mean reward
of the solutions in training.

A head is a frozen dataclass with a `kind`, `wanted` and `odds`. To add one, write it and name it in
`HEADS`; scoring, saving and loading then know it. CONTRIBUTING.md has one to look at.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch

from workbench.models.quantised import is_quantised
from workbench.models.reader import Scorer
from workbench.models.step_format import StepFormat


class StepSpan(NamedTuple):
    """A step in a row: the name of all up to its end; how many tokens precede it and its end."""

    name: bytes
    start: int
    end: int


class Head(Protocol):
    """What turns logits into a judgement; its fields are saved in `verifier.json` under `kind`."""

    kind: ClassVar[str]

    def wanted(self, form, step: StepSpan) -> Sequence[int]:
        """After how many tokens of the row the head must look to judge a step, in rising order."""
        ...

    def odds(self, form, found: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        """Log-odds that a step of these ids is good. found (len(wanted), V)"""
        ...


@dataclass(frozen=True)
class LabelHead:
    """Two label tokens, and how likely the words are, as the `StepFormat` says.

    Without `labels` the likelihood speaks alone: the two tokens weigh the same, as in a host that
    was never trained to tell them apart.
    """

    kind: ClassVar = "labels"
    labels: bool = True

    def wanted(self, form: StepFormat, step: StepSpan) -> Sequence[int]:
        """The end; if the likelihood counts, before and after each word, too."""
        end = step.end - len(form.ids[0]) + 1 if form.likelihood else step.start
        return [*range(step.start, end), step.end]

    def odds(self, form: StepFormat, found: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        """Log-odds from logits before each word, after all of them, and at the end."""
        _, good, bad = form.ids
        odds = found.new_zeros(())
        if good is not None:
            if not self.labels:
                places = torch.tensor(bad, device=found.device)
                found = found.index_copy(1, places, found[:, good, None])
            odds = found[-1, good] - found[-1, bad]
        if form.likelihood:
            words = ids[: len(found) - 2]
            odds = odds + form.likelihood * log_probability(found[:-1], words, form.closers)
        return odds


@dataclass(frozen=True)
class ScalarHead:
    """The one output of a `Scorer`, in log-odds once `shift` is taken off."""

    kind: ClassVar = "scalar"
    shift: float = 0.0

    def wanted(self, form, step: StepSpan) -> Sequence[int]:
        return [step.end]

    def odds(self, form, found: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        return found[-1, 0] - self.shift


HEADS = {head.kind: head for head in (LabelHead, ScalarHead)}


def log_probability(
    logits: torch.Tensor, words: Sequence[int], closers: Sequence[int]
) -> torch.Tensor:
    """log P(words, then a closer). logits (words + 1, V): before each word, and after all."""
    logp = logits.float().log_softmax(-1)  # (words + 1, V)
    return logp[range(len(words)), list(words)].sum() + logp[-1, list(closers)].logsumexp(0)


# -- hosts with a scalar head ----------------------------------------------------------------------


def with_scalar_head(model: torch.nn.Module, tokenizer) -> torch.nn.Module:
    """The body of a causal LM (shared, not copied) under a linear output that begins at zero.

    It is Hugging Face's `ForSequenceClassification` with one label and no bias, which trains and
    saves as such. ValueError for a model family without such a class.
    """
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels, pad = 1, tokenizer.pad_token_id
    config.pad_token_id = tokenizer.eos_token_id if pad is None else pad
    with torch.device("meta"):  # only the shell is needed
        scorer = AutoModelForSequenceClassification.from_config(config)
    width = config.get_text_config().hidden_size
    head = torch.nn.Linear(width, 1, bias=False, device=model.device, dtype=model.dtype)
    torch.nn.init.zeros_(head.weight)
    scorer.score = head
    setattr(scorer, scorer.base_model_prefix, model.base_model)
    scorer.is_loaded_in_4bit = is_quantised(model)  # peft asks
    return scorer


def as_read(model: torch.nn.Module) -> torch.nn.Module:
    """What the engine runs: a model of `with_scalar_head` as a `Scorer`, any other as it is."""
    whole = model.get_base_model() if hasattr(model, "peft_config") else model
    if not hasattr(whole, "score"):
        return model
    return Scorer(getattr(whole, whole.base_model_prefix), whole.score)


def head_outputs(
    model: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> torch.Tensor:
    """Outputs (B,) of a model of `with_scalar_head` after each padded row's last token, float32.

    For training. The padding is never looked at, whatever it is.
    """
    scorer, mask = as_read(model), attention_mask.to(model.device)
    reads = {"input_ids": input_ids.to(model.device), "attention_mask": mask}
    states = scorer.body(**reads, use_cache=False)[0]  # (B, T, D)
    last = mask.sum(1) - 1  # (B,)
    return scorer.head(states[torch.arange(len(last), device=last.device), last])[:, 0].float()
