"""`python -m workbench costs [-p NAME=VALUE ...]`: what large runs cost on a GPU, as Markdown.

`gpu` and `model` are names; every other assumption has a name of its own (dollars, written, steps,
rounds ...), which the page lists. `--fill` renews the page in `notebooks/scale.md`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from workbench.analyse.costs import Plan
from workbench.analyse.roofline import GPUS, MODEL_SIZES
from workbench.runs.notebook import parse_assignments, parse_value
from workbench.show.costs import cost_page, with_page

SCALE_PAGE = "notebooks/scale.md"
NAMED = {"gpu": ("gpu", GPUS), "model": ("size", MODEL_SIZES)}


def costs(arguments: Namespace, base: Path) -> int:
    """Print the page for assumptions `name=value`; `fill`: write that of the defaults in its place.

    ValueError for a name that there is not, and a value of another kind or not above 0.
    """
    if arguments.fill and arguments.given:
        extra = f"leave out -p {arguments.given[0]}"
        raise ValueError(f"--fill writes the page of the defaults: {extra}")
    if arguments.fill:
        text = (base / SCALE_PAGE).read_text(encoding="utf-8")
        (base / SCALE_PAGE).write_text(with_page(text), encoding="utf-8")
    else:
        print(cost_page(plan_of(parse_assignments(arguments.given))))
    return 0


def plan_of(given: Mapping[str, str]) -> Plan:
    """The default plan with these values in place of its own; ValueError as for `costs`."""
    rest, plan = dict(given), Plan()
    for name, (part, known) in NAMED.items():
        if (choice := rest.pop(name, None)) is not None:
            if choice not in known:
                raise ValueError(f"-p {name}={choice}: use one of {', '.join(known)}")
            plan = replace(plan, **{part: known[choice]})
    for name in ("gpu", "size", "shares", "work"):
        part = getattr(plan, name)
        plan = replace(plan, **{name: replace(part, **_of(part, rest))})
    plan = replace(plan, measured=_of(plan.rates, rest))
    if rest:
        raise ValueError(f"-p {min(rest)}: unknown assumption; `costs` alone lists all of them")
    return plan


def _of(part: Any, rest: dict[str, str]) -> dict[str, Any]:
    """What is given of the fields of a part, taken out of the rest."""
    names = [f.name for f in fields(part) if f.name in rest and f.name != "source"]
    values: Any = {n: parse_value(n, rest.pop(n), type(getattr(part, n))) for n in names}
    for name, value in values.items():
        if value < 0 or (value == 0 and name != "copies"):
            least = "0 or more" if name == "copies" else "above 0"
            raise ValueError(f"-p {name}={value}: must be {least}")
    return values
