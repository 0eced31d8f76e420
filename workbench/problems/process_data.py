"""Solutions with step labels, in the formats of the public data sets, from files or the hub.

| format | | what a file holds | source |
|---|---|---|---|
| `prm800k` | read | human ratings -1, 0, 1 of both phases | Lightman et al. 2023, 2305.20050 |
| `math-shepherd` | read | `+` or `-` in the place of each step tag `ки` | Wang et al., 2312.08935 |
| `math-aps` | read, write | prefixes with values, or `process` and `labels` | OpenR, 2410.09671 |
| `math-aps-tree` | read, write | a tree of steps with Monte-Carlo values | OmegaPRM, 2406.06592 |
| `stepwise` | read, write | `prompt`, `completions`, `labels` | TRL's stepwise supervision |
| `datasets` | read, write | a folder: a parquet file, a card | Hugging Face `datasets` |

PRM800K rates several completions of a step. The walked solution (at each step the chosen
completion, else the labeller's own, which counts as good) is one solution; every other rated
completion ends one of its own, behind the walked steps before it. A solution ends with its first
-1, and before a step that nobody rated. So every rating is used, as in the paper (which predicts
the rating of the last step of a prefix), and alternatives are never combined. Solutions that branch
off (here and in trees) repeat the steps they share, with the same labels.

Deviations: OpenR multiplies PRM800K's alternatives out, scores the question as step 1 and calls a
value good above 0.5; here the question's own value is dropped and a step is good above `threshold`,
0 if not given. Equal prefixes within one `math-aps` line are one step with the mean of their
values. Taught in notebook 02.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.files import write_whole
from workbench.problems import label_folder, math_aps
from workbench.problems.benchmarks import hub_rows
from workbench.problems.step_marks import TAG, cut, hard_labels, marked
from workbench.types import LabelledSolution, Problem

# what an unfit line can raise
MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError)


def read(
    path: str | Path,
    *,
    format: str,
    neutral: str = "good",
    threshold: float = 0.0,
    split: str | None = None,
    limit: int | None = None,
) -> list[LabelledSolution]:
    """The labelled solutions of the first `limit` records of a file, or of a data set on the hub.

    A file holds JSON lines or one JSON array, either also as .gz; of the format `datasets` it may
    be a folder. A `path` like `peiyi9979/Math-Shepherd` that does not exist names a data set, of
    which `split` (left out: `train`) is read. `neutral` says what PRM800K's rating 0 counts as,
    `good` or `bad`. Where there are Monte-Carlo values a step is good if value > `threshold` (0 <=
    threshold < 1), and `values` keeps them. Equal questions share an id. A null field counts as
    missing. A line that can't be read is named in a warning and left out. Raises ValueError for an
    unknown option, where no line is fit and for no data set.
    """
    # 1. what is asked for
    if format not in READERS:
        raise ValueError(f"format {format!r} can't be read: use {', '.join(READERS)}")
    if neutral not in ("good", "bad"):
        raise ValueError(f"neutral={neutral!r}: use 'good' or 'bad'")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold!r}: need 0 <= threshold < 1")
    # 2. line by line
    solutions, faults, lines, ids = [], [], 0, {}
    folder = format == "datasets" and split is None and Path(path).is_dir()
    records = label_folder.folder_rows(Path(path)) if folder else _records(Path(path), split)
    for place, raw in islice(records, limit):
        lines += 1
        try:
            row = json.loads(raw) if isinstance(raw, bytes) else raw
            row = {key: value for key, value in row.items() if value is not None}
            solutions += [_checked(s, ids) for s in READERS[format](row, neutral, threshold)]
        except MALFORMED as error:
            what = f"no field {error}" if isinstance(error, KeyError) else error
            faults.append(f"{place}: {what}")
    # 3. what did not fit
    if faults and len(faults) == lines:
        raise ValueError(f"no {format} record in {path}: need {FIELDS[format]} ({faults[0]})")
    for fault in faults:
        said = f"left out a line that is corrupt or no {format} record: {fault}"
        warnings.warn(said, stacklevel=2)
    return solutions


def write(rows: Iterable[LabelledSolution], path: str | Path, *, format: str) -> None:
    """Write JSON lines (.gz: packed), whole or not at all; `read` brings equal rows back.

    `stepwise` holds question, steps and labels and nothing else. The MATH-APS formats hold
    everything (labels without values as 0.0 and 1.0); read them with the threshold that made the
    labels. `datasets` is a folder, holds everything as it is, and is found again by
    `datasets.load_dataset(path)`. Raises ValueError for what a format can't hold: a step without
    label (but `datasets`), and in the MATH-APS formats a solution without steps, labels that are no
    value > threshold and, for `math-aps`, a step that is blank or has white space around it.
    """
    if format == "datasets":
        return label_folder.write_folder(list(rows), Path(path))
    if format not in WRITERS:
        known = ", ".join([*WRITERS, "datasets"])
        raise ValueError(f"format {format!r} can't be written: use {known}")
    path = Path(path)
    try:
        lines = [json.dumps(line, ensure_ascii=False) for line in WRITERS[format](list(rows))]
        data = "".join(f"{line}\n" for line in lines).encode()
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError(f"{path}: not all of this can be JSON in UTF-8: {error}") from None
    data = gzip.compress(data, mtime=0) if path.suffix == ".gz" else data
    write_whole(path, lambda part: part.write_bytes(data))


# -- lines and fields ------------------------------------------------------------------------------


def _records(path: Path, split: str | None) -> Iterator[tuple[str, Any]]:
    """The lines of a file, or the rows of the data set that has this name on the hub."""
    name = path.as_posix()
    named = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and not path.suffix[1:].isalpha()
    if named and not path.exists():
        try:
            return hub_rows(name, None, split or "train")
        except ValueError as error:
            raise ValueError(f"{name} is no file, and {error}") from error.__cause__
    if split is not None:
        known = f"only a data set on the hub has splits, and {path} is not the name of one"
        raise ValueError(f"split={split!r}: {known}")
    return _lines(path)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, line) pairs, or entries of an array; an empty line where a packed file breaks off."""
    if not path.is_file():
        need = "give one of JSON lines or a JSON array, either also as .gz"
        raise ValueError(f"{path} is no file: {need}")
    number = 0
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        try:
            if file.peek(1).lstrip().startswith(b"["):
                rows = enumerate(json.loads(file.read()), start=1)
                yield from ((f"{path}, row {i}", row) for i, row in rows)
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield f"{path}:{number + 1} ({error})", b""
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: corrupt or cut-off JSON array: {error}") from None


def _checked(row: LabelledSolution, ids: dict[str, str]) -> LabelledSolution:
    """The row, known to hold texts; where it names no id, with that of its question here."""
    if wrong := [text for text in (row.problem.question, *row.steps) if not isinstance(text, str)]:
        raise ValueError(f"{wrong[0]!r:.60} where a text should be")
    if row.problem.id:
        return row
    id = ids.setdefault(row.problem.question, f"{row.source}/{len(ids) + 1}")
    return replace(row, problem=replace(row.problem, id=id))


# -- PRM800K, Math-Shepherd, stepwise --------------------------------------------------------------


def _prm800k(row: dict, neutral: str, threshold: float) -> list[LabelledSolution]:
    asked, label = row["question"], row["label"]
    answer, solution = asked.get("ground_truth_answer"), asked.get("ground_truth_solution")
    problem = Problem("", "math", asked["problem"], answer, solution)
    meta = {"phase": 1 if row.get("generation") is None else 2}
    meta |= {"finish_reason": label.get("finish_reason")}
    kinds = ("is_quality_control_question", "is_initial_screening_question")
    meta |= {key: row[key] for key in kinds if key in row}
    good, out = (1,) if neutral == "bad" else (0, 1), []
    for texts, ratings in (zip(*chain) for chain in _walk(label["steps"])):
        labels = tuple(int(r in good) for r in ratings)
        out.append(LabelledSolution(problem, texts, labels, source="prm800k", meta=meta))
    return out


def _walk(steps: list[dict]) -> list[tuple[tuple[str, int], ...]]:
    """Solutions as (text, rating) pairs: one per completion passed over, and the walked one."""
    walked, chains = (), []
    for step in steps:
        taken, others = _ratings(step)
        chains += [(*walked, other) for other in others]
        if taken is None:
            # the others hold the walked steps
            return chains if others or not walked else [*chains, walked]
        walked += (taken,)
        if taken[1] == -1:
            break
    return [*chains, walked] if walked else chains


def _ratings(step: dict) -> tuple[tuple[str, int] | None, list[tuple[str, int]]]:
    """(text, rating) of the completion walked on from, if rated, and of the others, each once."""
    completions, human = step["completions"] or [], step.get("human_completion")
    if step["chosen_completion"] is not None:
        taken = completions[step["chosen_completion"]]
    else:
        taken = human and human | {"rating": 1}
    ratings: dict[str, int] = {}
    for completion in [taken] * bool(taken) + completions:
        if completion["rating"] not in (-1, 0, 1, None):
            raise ValueError(f"rating {completion['rating']}, need -1, 0, 1 or null")
        if completion["rating"] is not None:
            ratings.setdefault(completion["text"].strip(), completion["rating"])
    others = list(ratings.items())
    return (others.pop(0) if taken and taken["rating"] is not None else None), others


def _math_shepherd(row: dict, neutral: str, threshold: float) -> list[LabelledSolution]:
    text = row["input"].replace(TAG, "\0")  # one letter, like the label in its place
    first = re.search("[Ss]tep 1:", text)
    if not first:
        raise ValueError(f"no 'Step 1:' ends the question in {text[:60]!r}")
    start = first.start()  # a few questions hold a tag, too: it labels no step
    marks = [row["label"][i] for i in range(start, len(text)) if text[i] == "\0"]
    problem = Problem("", "math", text[:start].replace("\0", "").strip())
    meta = {"task": row["task"]} if "task" in row else {}
    return [marked(problem, cut(text[start:], "\0"), marks, threshold, "math-shepherd", meta)]


def _stepwise(row: dict, neutral: str, threshold: float) -> list[LabelledSolution]:
    problem = Problem("", "math", row["prompt"])
    return [marked(problem, row["completions"], row["labels"], threshold, "stepwise", {})]


def _stepwise_lines(rows: list[LabelledSolution]) -> Iterator[dict]:
    for row in rows:
        yield {"prompt": row.problem.question, "completions": row.steps, "labels": hard_labels(row)}


READERS = {
    "prm800k": _prm800k,
    "math-shepherd": _math_shepherd,
    "math-aps": math_aps.read_flat,
    "math-aps-tree": math_aps.read_tree,
    "stepwise": _stepwise,
    "datasets": label_folder.read_row,
}
WRITERS = {  # of lines
    "math-aps": math_aps.flat_lines,
    "math-aps-tree": math_aps.tree_lines,
    "stepwise": _stepwise_lines,
}
FIELDS = {
    "prm800k": "question.problem and label.steps with rated completions",
    "math-shepherd": f"input with a step tag {TAG} after each step, "
    "and label with + or - in its place",
    "math-aps": "question and reasoning_steps (solution_prefix, mc_value), "
    "or question, process and labels",
    "math-aps-tree": "question and reasoning_steps, a tree of text, mc_value and children",
    "stepwise": "prompt, completions and labels",
    "datasets": "question, steps and labels",
}
