r"""How a discriminative PRM reads a solution: what stands after each step, where the score sits,
which logits it is.

    question \n  step 1 <separator>  step 2 <separator>  ...
                              ^ score of step 1   ^ score of step 2

The score of a step is read at the **last id of its separator**, the very position at which training
puts the label: P(good) = sigmoid(logit[good] - logit[bad] + likelihood * log P(step)). Separators
are appended as ids after tokenising each step by itself, so no merge across the border can hide one
(Math-Shepherd, arXiv 2312.08935, reads Mistral's `ки` the same way). The format is saved beside the
weights and checked against the tokenizer on load.

The last term, off by default, lets the host's own next-word predictions speak. To see that `19 - 16
= 3` is wrong here a verifier must work out what should stand there. A language model has done so
one position earlier, but in its last layer, where the label tokens cannot read it. (Rewards from
likelihoods alone: implicit PRM, arXiv 2412.01981.) P(step) is the probability of its words and that
it ends after them: that a separator or the end of the text comes next. Without the latter, empty
steps and those cut off in their middle would be the likeliest of all. It needs the logits of all
words: `batch_tokens` x V numbers at once. Taught in notebook 03.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from workbench.models.templates import EMBEDDED, render
from workbench.models.tokenizer import BAD, GOOD, STEP
from workbench.types import Problem

FILE = "step_format.json"


@dataclass(frozen=True)
class StepFormat:
    """The texts of a format and the ids that they had in training."""

    separator: str = STEP
    good: str = GOOD
    bad: str = BAD
    template: str = EMBEDDED["solve"]
    likelihood: float = 0.0  # weight of the step's log-probability under the verifier's own model
    ids: tuple[tuple[int, ...], int, int] | None = None  # of separator, good, bad; set by `bound`
    end: int | None = None  # id that ends a text, if the tokenizer has one; set by `bound`

    def bound(self, tokenizer) -> StepFormat:
        """The format with the ids that `tokenizer` gives its texts; ValueError if they are others
        than in training."""
        separator = tuple(tokenizer(self.separator, add_special_tokens=False).input_ids)
        if not separator:
            raise ValueError(
                f"separator {self.separator!r} is no token of this tokenizer, need at least one"
            )
        labels = [
            tokenizer(text, add_special_tokens=False).input_ids for text in (self.good, self.bad)
        ]
        for text, found in zip((self.good, self.bad), labels):
            if len(found) != 1 or found[0] == tokenizer.unk_token_id:
                raise ValueError(
                    f"label {text!r} is {len(found)} tokens of this tokenizer, need one known token"
                )
        ids = (separator, labels[0][0], labels[1][0])
        end = tokenizer.eos_token_id
        if self.ids is not None and (self.ids, self.end) != (ids, end):
            trained, found = (*self.ids, self.end), (*ids, end)
            raise ValueError(
                f"separator, good, bad and end were ids {trained} in training, this tokenizer has {found}"
            )
        return replace(self, ids=ids, end=end)

    @property
    def closers(self) -> list[int]:
        """The ids of which one comes next when a step is over: a separator's first, or the end of
        the text."""
        return sorted({self.ids[0][0]} | ({self.end} - {None}))

    def segments(self, tokenizer, problem: Problem, steps: Sequence[str]) -> list[list[int]]:
        r"""Ids of the question, then of each step with its separator: scores sit at the last id of
        each but the first.

        >>> from workbench.models.tokenizer import build_tokenizer
        >>> tokenizer = build_tokenizer()
        >>> form = StepFormat().bound(tokenizer)
        >>> problem = Problem("p", "quantities", "How many coins does Ava have? Ava has 5 coins.")
        >>> [tokenizer.convert_ids_to_tokens(s) for s in form.segments(tokenizer, problem, ["The answer is 5 ."])[1:]]
        [['The', 'answer', 'is', '5', '.', '\n']]
        """
        texts = tokenizer(list(steps), add_special_tokens=False).input_ids if steps else []
        start = tokenizer(render({"solve": self.template}, "solve", problem)).input_ids
        return [start, *([*ids, *self.ids[0]] for ids in texts)]

    def save(self, folder: str | Path) -> None:
        (Path(folder) / FILE).write_text(
            json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: str | Path) -> StepFormat:
        """ValueError if the folder holds no step format."""
        file = Path(folder) / FILE
        if not file.is_file():
            raise ValueError(f"{folder} is no PRM of ours: {FILE} is missing")
        fields = json.loads(file.read_text(encoding="utf-8"))
        if "end" not in fields:
            raise ValueError(
                f"{file} says not which id ends a text: it is from an older version, train it again"
            )
        separator, good, bad = fields.pop("ids")
        return cls(**fields, ids=(tuple(separator), good, bad))
