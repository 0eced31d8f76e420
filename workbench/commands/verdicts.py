"""`python -m workbench verdicts FILE... --format NAME`: who wins on others' samples."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path


def print_verdicts(arguments: Namespace, base: Path) -> int:
    """Print the table, and write it to `to` as CSV; ValueError for what can't be read or made."""
    from workbench.analyse.recorded_verdicts import recorded_verdicts
    from workbench.problems.recorded import read_samples
    from workbench.show.cards import plain_table

    pools = (read_samples(file, format=arguments.format) for file in arguments.files)
    records, to = [record for pool in pools for record in pool], arguments.to
    table = recorded_verdicts(records, seed=arguments.seed, first=arguments.first)
    try:
        if to is not None:
            table.to_csv(to, index=False)
    except OSError as error:
        raise ValueError(f"--to {to}: {error.strerror or error}") from None
    problems, n = len({record.id for record in records}), len(records[0].answers)
    print(f"{problems} problems, {len(records)} pools of {n} samples; %, 95 % intervals\n")
    print(plain_table([_in_words(row) for row in table.to_dict("records")]))
    return 0


def _in_words(row: Mapping) -> dict[str, object]:
    words = {"n": row["n"], "method": row["method"], "right": _percent(row, "value", "low", "high")}
    minus = _percent(row, "difference", "difference_low", "difference_high", sign="+")
    found = {"minus majority": minus, "p (Holm)": row["p_holm"], "won": f"{row['won']:.0f}"}
    found |= {"lost": f"{row['lost']:.0f}", "verdict": row["verdict"]}
    return words | (found if row["verdict"] else dict.fromkeys(found, ""))


def _percent(row: Mapping, *names: str, sign: str = "") -> str:
    value, low, high = (100 * row[name] for name in names)
    return f"{value:{sign}.1f} ({low:.1f} to {high:.1f})"
