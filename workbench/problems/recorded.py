"""Samples that other people recorded, with their own verdicts and scores, as one kind of record.

| format | what a file holds | source |
|---|---|---|
| `crucible` | JSON: problems with `traces` of text, tokens, verdict and score | crucible-ttc |
| `game24` | JSON lines: puzzles with `samples` and `correct` | Yao et al. 2023, 2305.10601 |
| `math-rm` | JSON lines: `pred`, `score` (right?) and `pred_score` (logits) | Qwen2.5-Math |
| `reward-ranked` | JSON lines, one sample a problem; a file a seed, `...-rs0...` | NeMo-Skills |

What a file says of right and wrong is kept as it is.
Deviations: logits become probabilities, as votes are weighted by them; the answer of a `crucible`
trace is what `extract_answer` finds in its text (theirs is not recorded), of a `game24` sample its
last line, a formula. Any `reward-ranked` file stands for all seeds: the files beside it whose names
differ in that number are read with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from scipy.special import expit

from workbench.problems.benchmarks import json_rows, naming, whole_json
from workbench.problems.grading import extract_answer


@dataclass(frozen=True)
class RecordedSamples:
    """The n samples of one problem; `scores` and `tokens` are empty where the file has none."""

    id: str
    gold: str | None  # the right answer, where the file names one
    answers: tuple[str | None, ...]  # (n,): None for a sample that says none
    correct: tuple[bool, ...]  # (n,): the file's own verdict
    scores: tuple[tuple[float, ...], ...] = ()  # (n,): of each sample one number, or one a step
    tokens: tuple[int, ...] = ()  # (n,): generated


def read_samples(path: str | Path, *, format: str) -> list[RecordedSamples]:
    """The records of a file, one a problem; ids are unique within it.

    ValueError, in one line and with file and line (in a `crucible` file: record), for an unknown
    format, a file that is missing or cut off, and a field that is missing or unfit.
    """
    if format not in SAMPLE_FORMATS:
        raise ValueError(f"unknown format {format!r}: use {', '.join(SAMPLE_FORMATS)}")
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is no file: give one of recorded samples ({format})")
    files = _all_seeds(path) if format == "reward-ranked" else [path]
    rows = reduce(_side_by_side, [_records(file, format) for file in files])
    return [record for _, record in rows]


# -- files -----------------------------------------------------------------------------------------

Placed = tuple[str, RecordedSamples]  # the place, `file:line`, is for messages


def _records(file: Path, format: str) -> list[Placed]:
    rows = _cassette(file) if format == "crucible" else json_rows(file)
    records: dict[str, Placed] = {}
    for number, (place, row) in enumerate(rows, start=1):
        with naming(place, format):
            record = _checked(SAMPLE_FORMATS[format](row, number))
            if record.id in records:
                raise ValueError(f"problem {record.id} stood in {records[record.id][0]} before")
        records[record.id] = place, record
    if not records:
        raise ValueError(f"{file} holds no {format} record")
    return list(records.values())


def _cassette(file: Path) -> Iterator[tuple[str, dict]]:
    """(place, row) pairs of a file that is one JSON object with all records in it."""
    whole = whole_json(file)
    if not isinstance(whole, dict) or not isinstance(whole.get("records"), list):
        raise ValueError(f"{file}: not a crucible file: no list 'records'")
    yield from ((f"{file}, record {i}", row) for i, row in enumerate(whole["records"], start=1))


def _all_seeds(path: Path) -> list[Path]:
    """The files whose names differ from this one's in the number behind `-rs`, in its order."""
    named = re.fullmatch(r"(.*-rs)\d+(|\..*)", path.name)
    if not named:
        return [path]
    pattern = re.compile(rf"{re.escape(named[1])}(\d+){re.escape(named[2])}")
    found = ((pattern.fullmatch(file.name), file) for file in path.parent.iterdir())
    return [file for _, file in sorted((int(match[1]), file) for match, file in found if match)]


def _side_by_side(ours: list[Placed], theirs: list[Placed]) -> list[Placed]:
    """The same problems in the same order, with the samples of both."""
    if len(ours) != len(theirs):
        shorter, longer = sorted((ours, theirs), key=len)
        raise ValueError(f"{longer[len(shorter)][0]}: another seed's file ends before this problem")
    return [_joined(a, b) for a, b in zip(ours, theirs)]


def _joined(ours: Placed, theirs: Placed) -> Placed:
    (place, a), (other, b) = ours, theirs
    if (a.id, a.gold) != (b.id, b.gold):
        raise ValueError(f"{other}: problem {b.id} ({b.gold}), in {place} {a.id} ({a.gold})")
    if (bool(a.scores), bool(a.tokens)) != (bool(b.scores), bool(b.tokens)):
        raise ValueError(f"{other}: need scores and tokens as in {place}, or none in either")
    parts = ("answers", "correct", "scores", "tokens")
    return place, RecordedSamples(a.id, a.gold, *(getattr(a, p) + getattr(b, p) for p in parts))


# -- records ---------------------------------------------------------------------------------------


def _checked(record: RecordedSamples) -> RecordedSamples:
    """The record, known to hold as many of everything as there are samples, and one at least."""
    if not (n := len(record.answers)):
        raise ValueError("no samples")
    for name in ("correct", "scores", "tokens"):
        found = len(getattr(record, name))
        if found != n and (found or name == "correct"):
            raise ValueError(f"{found} {name} for {n} samples, need as many")
    for text in (record.gold, *record.answers):
        if not isinstance(text, str | None):
            raise ValueError(f"answer {text!r:.60}, need a text")
    return record


def _flags(values: Sequence[Any]) -> tuple[bool, ...]:
    if wrong := [value for value in values if value not in (0, 1)]:
        raise ValueError(f"{wrong[0]!r:.60} for right or wrong, need true or false")
    return tuple(map(bool, values))


def _scores(values: Sequence[Any]) -> tuple[float, ...]:
    scores = tuple(map(float, values))
    if not scores or not all(map(math.isfinite, scores)):
        raise ValueError(f"scores {values!r:.60}, need finite numbers, one at least")
    return scores


def _crucible(row: dict, number: int) -> RecordedSamples:
    id, gold, traces = str(row["problem_id"]), row["gold"], row["traces"]
    answers = tuple(extract_answer(trace["text"]) for trace in traces)
    correct = _flags([trace["correct"] for trace in traces])
    scores = tuple(_scores([trace["prm_score"]]) for trace in traces)
    return RecordedSamples(id, gold, answers, correct, scores, tuple(t["tokens"] for t in traces))


def _game24(row: dict, number: int) -> RecordedSamples:
    lines = [sample.strip().splitlines() or [None] for sample in row["samples"]]
    answers = tuple(line[-1] for line in lines)
    return RecordedSamples(f"game24/{row['idx']}", None, answers, _flags(row["correct"]))


def _math_rm(row: dict, number: int) -> RecordedSamples:
    scores = tuple(tuple(expit(_scores(logits)).tolist()) for logits in row["pred_score"])
    answers, correct = tuple(row["pred"]), _flags(row["score"])
    return RecordedSamples(f"math-rm/{row['idx']}", row["gt"], answers, correct, scores)


def _reward_ranked(row: dict, number: int) -> RecordedSamples:
    """One sample; where neither id nor gold answer is named (beside scores), a line a problem."""
    id, gold = str(row.get("id", number)), row.get("expected_answer")
    scores = (_scores([row["reward_model_score"]]),) if "reward_model_score" in row else ()
    tokens = (row["num_generated_tokens"],) if "num_generated_tokens" in row else ()
    answers, correct = (row["predicted_answer"],), _flags([row["symbolic_correct"]])
    return RecordedSamples(id, gold, answers, correct, scores, tokens)


SAMPLE_FORMATS = {
    "crucible": _crucible,
    "game24": _game24,
    "math-rm": _math_rm,
    "reward-ranked": _reward_ranked,
}
