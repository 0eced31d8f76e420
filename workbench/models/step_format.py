r"""How a verifier of ours reads a solution: what stands after each step, and which tokens judge it.

    question \n  step 1 <separator>  step 2 <separator>  ...
                              ^ score of step 1   ^ score of step 2

A step is judged at the **last id of its separator**, the very position at which training puts the
label. Separators are appended as ids after tokenising each step by itself, so no merge across the
border can hide one (Math-Shepherd, arXiv 2312.08935, reads Mistral's `ки` the same way). The format
is saved beside the weights and checked against the tokenizer on load. Taught in notebook 03.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.models.templates import EMBEDDED, plain_ids, render, start_ids
from workbench.problems.vocabulary import BAD, GOOD, STEP
from workbench.types import Problem


@dataclass(frozen=True)
class StepFormat:
    """The texts of a format and the ids that they had in training.

    `good` and `bad` are both empty where no label tokens are read. `likelihood` weighs how probable
    the step's words are (`heads.LabelHead`).
    """

    separator: str = STEP
    good: str = GOOD
    bad: str = BAD
    template: str = EMBEDDED["solve"]
    likelihood: float = 0.0
    # of separator, good, bad; set by `bound`
    ids: tuple[tuple[int, ...], int | None, int | None] | None = None
    end: int | None = None  # id that ends a text, if the tokenizer has one; set by `bound`

    def bound(self, tokenizer) -> StepFormat:
        """The format with the ids of this tokenizer; ValueError if training had others."""
        if "{n}" in self.separator:
            raise ValueError(f"separator {self.separator!r}: verifiers read steps without numbers")
        separator = tuple(plain_ids(tokenizer, self.separator))
        if not separator:
            raise ValueError(f"separator {self.separator!r} is no token here, need at least one")
        ids, end = (separator, *self._labels(tokenizer)), tokenizer.eos_token_id
        if self.ids is not None and (self.ids, self.end) != (ids, end):
            were = f"separator, good, bad and end were ids {(*self.ids, self.end)} in training"
            raise ValueError(f"{were}, this tokenizer has {(*ids, end)}")
        return replace(self, ids=ids, end=end)

    def _labels(self, tokenizer) -> list[int | None]:
        if not self.good and not self.bad:
            return [None, None]
        found = []
        for text in (self.good, self.bad):
            ids = plain_ids(tokenizer, text)
            if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
                raise ValueError(f"label {text!r} is {len(ids)} tokens here, need one known token")
            found += ids
        return found

    @property
    def closers(self) -> list[int]:
        """Ids that come next when a step is over: a separator's first, or the end of the text."""
        return sorted({self.ids[0][0]} | ({self.end} - {None}))

    def segments(self, tokenizer, problem: Problem, steps: Sequence[str]) -> list[list[int]]:
        r"""Ids of the question, then of each step with its separator, whose last id is judged.

        >>> from workbench.models.tokenizer import build_tokenizer
        >>> tokenizer = build_tokenizer()
        >>> form = StepFormat().bound(tokenizer)
        >>> problem = Problem("p", "quantities", "How many coins does Ava have? Ava has 5 coins.")
        >>> _, step = form.segments(tokenizer, problem, ["The answer is 5 ."])
        >>> tokenizer.convert_ids_to_tokens(step)
        ['The', 'answer', 'is', '5', '.', '\n']
        """
        texts = tokenizer(list(steps), add_special_tokens=False).input_ids if steps else []
        start = start_ids(tokenizer, render({"solve": self.template}, "solve", problem))
        return [start, *([*ids, *self.ids[0]] for ids in texts)]

    @classmethod
    def read(cls, fields: Mapping) -> StepFormat:
        """The format of a `verifier.json`."""
        separator, good, bad = fields["ids"]
        return cls(**{**fields, "ids": (tuple(separator), good, bad)})
