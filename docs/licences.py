"""Licences of the pinned packages, as they state them; `docs/licences.md` holds what this prints.

Those that are not installed here are named without one.
"""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
HEAD = """# Licences of the pinned packages

Written by `python docs/licences.py`; versions are those of `constraints.txt`. Known weaknesses are
looked up by `pip-audit -r constraints.txt --no-deps --disable-pip`, which needs the network.

| package | version | licence |
|---|---|---|"""


def licence(name: str) -> str:
    """The licence of an installed package, in a few words; a dash where it is not installed."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return "–"
    classes = [x for x in told.get_all("Classifier", []) if x.startswith("License ::")]
    short = [x.rpartition(" :: ")[2] for x in classes]
    whole = told.get("License-Expression") or ", ".join(short) or told.get("License") or "not said"
    return " ".join(whole.split())[:80].replace("|", "/")


def pins() -> list[tuple[str, str]]:
    """Names and versions of the constraints."""
    return re.findall(r"^([\w.-]+)==([\w.+!-]+)", PINS.read_text(), flags=re.M)


if __name__ == "__main__":
    print(
        HEAD, *(f"| {name} | {version} | {licence(name)} |" for name, version in pins()), sep="\n"
    )
