"""What a budget still pays of a request: how many of its rows now, and how long they may become.

- **samples**: the first rows of a `Sample`, as many as are left. `Score` is never refused.
- **tokens**: a `Score` is answered if all of it can be paid. A `Sample` is answered in portions,
  each of so many rows that every one has room for twice the longest of its kind so far; the first
  row of a kind goes alone, to learn that. What rows leave over goes to the next portion, and the
  last row may take all that is left; but of the last fortieth only if the longest would fit.
  Where a `Sample` says who will score what comes (`scored_by`), the price of that is kept back.
- **flops**: a request is answered whole while anything is left, so the last one may overrun.

A token budget needs models that can name a price: `price(prefixes, *, prompt, words)` of a policy,
the tokens it would read, and `price(prefixes)` of a verifier, those it would compute. Without a
price, and for labellers (whose values rest on n rollouts, not fewer), tokens are as FLOPs.
Taught in notebook 09.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workbench.types import Budget, Meter, Prefix, Sample, Score

READ_AGAIN = 1.25  # tokens that a verifier reads for each one written, marks of steps included


class Portion(NamedTuple):
    """The number of rows to answer now, and of tokens that each may write (None: no bound)."""

    rows: int
    room: int | None = None


def portion(
    request: Sample | Score,
    rest: Sequence[Prefix],
    owed: Sequence[Prefix],
    words: Sequence[Mapping[str, str]],
    *,
    budget: Budget,
    meter: Meter,
    models: Mapping[str, Any],
    longest: int | None,
) -> Portion:
    """What to answer now of the rows `rest`, to which `words` belong; no rows: nothing more.

    `owed`: what was drawn to be scored and is not yet; `longest`: the most tokens that a row of
    this kind has drawn.
    """
    left, everything = budget.left(meter), Portion(len(rest))
    price = getattr(models.get(request.by), "price", None)
    if budget.unit == "samples":
        paid = max(0, min(int(left), len(rest)))  # a model may have drawn more than was asked
        return everything if isinstance(request, Score) else Portion(paid)
    if left <= 0 or budget.unit == "flops" or price is None:
        return everything if left > 0 else Portion(0)
    if isinstance(request, Score):
        return everything if price(rest) <= left else Portion(0)
    score_price = getattr(models.get(request.scored_by or ""), "price", None)
    each = 1 + READ_AGAIN if score_price else 1.0  # what a token written costs in all
    left -= score_price([*owed, *rest]) if score_price else 0
    # towards the end no row is begun that would probably be cut off
    least = 1 if longest is None or left > budget.amount / 40 else longest
    rows = 1 if longest is None else int(left / (2 * each * max(1, longest)))
    rows = max(1, min(rows, len(rest)))
    while rows:
        now = rest[:rows]
        reading = price(now, prompt=request.prompt, words=words[:rows] or None)
        if (room := int((left - reading) / (rows * each))) >= least:
            return Portion(rows, room)
        rows //= 2
    return Portion(0)
