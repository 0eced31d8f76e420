"""A verifier on ProcessBench and PRMBench by their published protocols, or on embedded problems.

    python benchmarks/process_bench.py --verifier Qwen/Qwen2.5-Math-PRM-7B [--data DIR]
        [--limit 100] [--csv OUT.csv]
    python benchmarks/process_bench.py --verifier prm --data embedded [--policy base] [--samples 64]

The verifier: a shipped name (`prm`), a folder of ours, a public PRM by its hub name, or a baseline
(`random`, `position`). The data: DIR/processbench and DIR/prmbench, DIR being $WORKBENCH_REAL_DATA
unless given, or else the hub.

ProcessBench: the threshold with the best F1 on one subset holds for all; "held out" is the mean of
the others. PRMBench: a step with a score below 0.5 is judged wrong. Numbers are in %, with 95 %
intervals over problems. A solution too long for the verifier counts as missed; the column "unread"
is their share. `--limit` takes so many solutions of each subset or class, spread evenly: enough to
try a verifier, too few to compare two.

`--data embedded` is the trial of `workbench.analyse.trial`, for verifiers of whole solutions, too:
samples by `--policy` of problems of each embedded kind, whose steps have an exact truth. Threshold
and temperature are chosen on validation problems. Batch invariance is measured on a few of the
samples, in the dtype that the verifier has. The pools of `problems.frozen` are taken where
they are shipped, others are drawn. `--limit` takes so many problems of each pool.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from workbench.analyse.process_bench import (
    ASPECTS,
    prmbench_table,
    processbench_table,
    read_each,
    score_solutions,
)
from workbench.analyse.trial import trial
from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.baselines import Position, Random
from workbench.models.invariance import ALL, afresh, batch_gaps
from workbench.problems import frozen, programs
from workbench.problems.benchmarks import SUBSETS, load
from workbench.search import METHODS
from workbench.types import LabelledSolution, Meter, SearchResult, Unreadable, Verifier

BASELINES = {"random": lambda: Random(seed=0), "position": Position}
SCORES = {"processbench": ("error", "correct", "f1"), "prmbench": ("right_f1", "wrong_f1", "score")}
KINDS = ("quantities", "programs")  # what the shipped policies write
EMBEDDED = "embedded"  # in place of a folder of data
BATCHES = (2, 8, 32)  # in which scores are held against scores one by one
HIDDEN = ("threshold", "chosen_here")  # in the title instead


def verifier_of(name: str, **options) -> Verifier:
    """A verifier by name or folder; ValueError for options that are of no use for it."""
    if name in BASELINES:
        if options:
            raise ValueError(f"a baseline takes no {', '.join(options)}")
        return BASELINES[name]()
    return load_verifier(name, **options)


def solutions_of(benchmark: str, data: str | None, limit: int | None) -> list[LabelledSolution]:
    """The solutions of a benchmark, at most `limit` of each subset or class."""
    folder = Path(data) / benchmark if data else None
    if folder and (whole := folder / "prmbench_all.jsonl.gz").is_file():
        folder = whole
    rows = load(benchmark, path=folder)
    names, key = (SUBSETS, "subset") if benchmark == "processbench" else (ASPECTS, "classification")
    parts = [[row for row in rows if row.meta[key] == name] for name in names]
    return [row for part in parts for row in _spread(part, limit)]


def _spread(rows: Sequence, limit: int | None) -> list:
    """At most `limit` of the rows, at even distances.

    >>> _spread("abcdefg", 3), _spread("ab", 3)
    (['a', 'c', 'e'], ['a', 'b'])
    """
    n = len(rows) if limit is None else min(limit, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]


def judged(
    solutions: Sequence[LabelledSolution], verifier: Verifier, batch: int
) -> list[list[float] | None]:
    """Scores of all solutions, and a line on the cost; ValueError if none could be read."""
    meter, began = Meter(), time.perf_counter()
    scores = score_solutions(solutions, verifier, batch=batch, meter=meter, skip=True)
    seconds = time.perf_counter() - began
    unread = [row for row, own in zip(solutions, scores) if own is None]
    line = f"{len(solutions)} solutions, {meter.verifier:,} tokens read in {seconds:.0f} s"
    if unread:
        line += f"; {len(unread)} not read: {refusal(unread[0], verifier)}"
    if len(unread) == len(scores):
        raise ValueError(line)
    print(line + unknown_words(solutions, verifier))
    return scores


def refusal(solution: LabelledSolution, verifier: Verifier) -> str:
    """What the verifier says to a solution that it does not read."""
    try:
        score_solutions([solution], verifier)
    except Unreadable as error:
        return f"{error} (the first one)"
    return "it reads it now"


def unknown_words(solutions: Sequence[LabelledSolution], verifier: Verifier) -> str:
    """Which share of the tokens are words that the verifier does not know, if any are."""
    tokenizer = getattr(verifier, "tokenizer", None)
    if getattr(tokenizer, "unk_token_id", None) is None:
        return ""
    texts = [text for row in solutions for text in (row.problem.question, *row.steps)]
    rows = tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
    ids = [i for row in rows for i in row]
    share = ids.count(tokenizer.unk_token_id) / len(ids)
    return f"; {share:.0%} of the tokens are unknown words" if share else ""


def shown(table: pd.DataFrame, columns: Sequence[str]) -> str:
    """The table with each value and its interval in one column, in %."""
    table = table.copy()
    for name in columns:
        whole = 100 * table[[name, f"{name}_low", f"{name}_high"]].to_numpy()  # (rows, 3)
        text = "{:.1f} ({:.1f} to {:.1f})"
        table[name] = [text.format(*row) if row[0] == row[0] else "-" for row in whole]
    table["unread"] = [f"{share:.0%}" for share in table["unread"]]
    hidden = [*HIDDEN, *(f"{name}_{end}" for name in columns for end in ("low", "high"))]
    return table.drop(columns=hidden, errors="ignore").to_string(index=False)


def report(benchmark: str, verifier: Verifier, asked: argparse.Namespace) -> None:
    """Score one benchmark, print its table, and write it where asked."""
    solutions = solutions_of(benchmark, asked.data, asked.limit)
    print(f"\n{benchmark}, {asked.verifier}: ", end="", flush=True)
    scores = judged(solutions, verifier, asked.batch)
    if benchmark == "processbench":
        table = processbench_table(solutions, scores, seed=0, threshold=asked.choose_on)
        about = f"best on {asked.choose_on}"
    else:
        table, about = prmbench_table(solutions, scores, seed=0), "as published"
    print(
        f"threshold {table['threshold'].iloc[0]:.3g}, {about}; in %, 95 % intervals in brackets\n"
    )
    print(shown(table, SCORES[benchmark]))
    write(table, benchmark, asked.csv)


# -- embedded problems -----------------------------------------------------------------------------


def pool_of(kind: str, split: str, asked: argparse.Namespace) -> list[SearchResult]:
    """Samples of the problems of a split, at most `limit` of these."""
    policy, n, limit = asked.policy, asked.samples, asked.limit
    if kind == "quantities":
        if frozen.file(policy, split).is_file() and n <= frozen.SAMPLES:
            return frozen.pool(policy, split, n=n)[:limit]
        problems = frozen.load(split)[:limit]
    else:
        seed = 1000 + [*frozen.SIZES].index(split)
        # levels that the shipped policies get right now and then
        problems = programs.generate(frozen.SIZES[split], levels=[1, 2, 3], seed=seed)[:limit]
    return solve(problems, METHODS["sample"], policy=load_policy(policy), seed=0, n=n)


def gaps_of(verifier: Verifier, results: Sequence[SearchResult]) -> list[dict]:
    """Rows of `batch_gaps` on one sample of each problem; none for who reads with no model."""
    if not hasattr(verifier, "reader"):
        return []
    firsts = [result.rollouts[0] for result in results[: max(BATCHES)]]
    scores = read_each(afresh(verifier, ALL), firsts, Meter(), skip=True)
    read = [rollout for rollout, own in zip(firsts, scores) if own is not None]
    sizes = [size for size in BATCHES if size <= len(read)]
    weights = verifier.reader.engine.model.parameters()
    dtype = next(str(w.dtype).removeprefix("torch.") for w in weights if w.is_floating_point())
    if not sizes:
        return []
    # its own dtype alone: in float32 beside it would be a second model in memory
    options = {"seed": 0, "batch_sizes": sizes, "dtypes": [dtype]}
    return batch_gaps(lambda _, tokens: afresh(verifier, tokens), read, **options)


def report_trial(kind: str, verifier: Verifier, asked: argparse.Namespace) -> None:
    """Try the verifier on one kind, print the table and what it lacks, and write it where asked."""
    others, results = (pool_of(kind, split, asked) for split in ("validation", "test"))
    print(f"\n{kind}, {asked.verifier}: {asked.samples} samples by {asked.policy}", end="")
    print(f" of each of {len(results)} problems")
    found = trial(
        verifier, results, seed=0, choose_on=others, invariance=gaps_of(verifier, results)
    )
    print(f"threshold {found.threshold:.3g} and temperature {found.temperature:.3g}", end="")
    print(f" of {len(others)} other problems; 95 % intervals\n")
    print(found.table.to_string(float_format="{:.3f}".format))
    for (measure, at), why in found.left_out.items():
        print(f"left out: {measure}, {at}: {why}")
    write(found.table.reset_index(), kind, asked.csv)


def write(table: pd.DataFrame, name: str, csv: Path | None) -> None:
    """Write a table to its own file, if any is asked for."""
    if csv:
        file = csv.with_name(f"{csv.stem}-{name}.csv")
        table.to_csv(file, index=False)
        print(f"\nwritten to {file}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--verifier", required=True, help=f"name or folder, or {', '.join(BASELINES)}"
    )
    parser.add_argument(
        "--data",
        default=os.environ.get("WORKBENCH_REAL_DATA"),
        help=f"folder of both benchmarks, or {EMBEDDED}",
    )
    parser.add_argument(
        "--only", choices=[*SCORES, *KINDS], help="one benchmark, or one kind of embedded problems"
    )
    parser.add_argument(
        "--limit", type=int, help="solutions of each subset or class (embedded: problems), at most"
    )
    parser.add_argument("--policy", default="base", help="who writes solutions (embedded)")
    parser.add_argument("--samples", type=int, default=64, help="solutions a problem (embedded)")
    parser.add_argument(
        "--choose-on", default="gsm8k", choices=SUBSETS, help="where the threshold is chosen"
    )
    parser.add_argument("--batch", type=int, default=64, help="solutions in a call")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the weights (default: float32 for ours, bfloat16 for public ones)",
    )
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--quantise", action="store_true", help="weights in 4 bits")
    parser.add_argument(
        "--csv", type=Path, metavar="OUT", help="write OUT-processbench.csv, OUT-prmbench.csv ..."
    )
    asked = parser.parse_args(arguments)
    given = {"dtype": asked.dtype, "device": asked.device, "quantise": asked.quantise}
    try:
        verifier = verifier_of(
            asked.verifier, **{name: value for name, value in given.items() if value}
        )
        embedded = asked.data == EMBEDDED
        names = list(KINDS if embedded else SCORES)
        if asked.only not in (None, *names):
            raise ValueError(f"--only {asked.only}: with these data use {' or '.join(names)}")
        for name in [asked.only] if asked.only else names:
            (report_trial if embedded else report)(name, verifier, asked)
    except ValueError as error:
        raise SystemExit(f"{asked.verifier}: {error}") from error


if __name__ == "__main__":
    main()
