"""`python -m workbench recipe [NAME]`: hours of work behind what is shipped, one arm a call."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from textwrap import wrap


def recipe(arguments: Namespace, base: Path) -> int:
    """Make one thing that is shipped, or go on with it; without a name say which there are.

    ValueError for an unknown one.
    """
    from workbench.recipes import RECIPES

    if arguments.name is None:
        print("\n".join(_listed(RECIPES)))
        return 0
    if arguments.name not in RECIPES:
        near = get_close_matches(arguments.name, RECIPES, n=3)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        every = "python -m workbench recipe names all"
        raise ValueError(f"recipe {arguments.name!r}: there is none; {meant}{every}")
    folder = base / "runs" / "recipes"
    folder.mkdir(parents=True, exist_ok=True)
    print(RECIPES[arguments.name](folder))
    return 0


def _listed(recipes: Mapping[str, Callable]) -> list[str]:
    """What recipes make, and below it their names, those that differ in a number as one."""
    made: dict[str, dict[tuple[str, bool], list]] = {}  # by what, by name and if it stands alone
    for name, maker in recipes.items():
        stem, number = re.fullmatch(r"(.*?)(?:-(\d+))?", name).groups()
        what = getattr(maker, "func", maker).__doc__.splitlines()[0]
        made.setdefault(what, {}).setdefault((stem, number is None), []).append(number)
    lines = []
    for what, stems in made.items():
        names = [
            stem if alone else f"{stem}-{{{','.join(of)}}}" for (stem, alone), of in stems.items()
        ]
        look = {"width": 96, "initial_indent": "    ", "subsequent_indent": "    "}
        lines += [what, *wrap("  ".join(names), **look, break_on_hyphens=False)]
    return lines
