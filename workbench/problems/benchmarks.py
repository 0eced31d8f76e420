r"""Public benchmarks as our records, from a file, a folder or the Hugging Face hub.

| name | records | source |
|---|---|---|
| `gsm8k` | `Problem` | Cobbe et al. 2021, arXiv 2110.14168; the answer is what follows `####` |
| `math` | `Problem` | Hendrycks et al. 2021, 2103.03874 |
| `math500` | `Problem` | 500 of them: Lightman et al. 2023, 2305.20050 |
| `mawps`, `svamp` | `Problem` | equations as steps: `word_problems.py` |
| `gsm_symbolic` | `Problem` | GSM8K's wording, new numbers, steps known: `gsm_symbolic.py` |
| `countdown` | `Problem` | numbers and a target: `countdown.py` |
| `competition` | `Problem` | AIME 2024 (`split="aime24"`) and AMC 2023 (`amc23`) |
| `jsonl` | `Problem` | your own: `question` (or `problem`), `answer`, what else a `Problem` has |
| `processbench` | `LabelledSolution` | Zheng et al. 2024, 2412.06559; first wrong step, 0-based |
| `prmbench` | `LabelledSolution` | Song et al. 2025, 2501.03124; every wrong step, 1-based |

Deviations: the `<<48/2=24>>` marks of GSM8K solutions are removed; where MATH rows have no answer
field it is the last box of the solution; steps after ProcessBench's first error are not labelled
(None); the 100 PRMBench rows whose error lies past the last step keep that index in
`meta["past_end"]`. Taught in notebook 01.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.problems.countdown import countdown_row
from workbench.problems.grading import extract_answer
from workbench.problems.gsm_symbolic import gsm_symbolic
from workbench.problems.word_problems import mawps, svamp
from workbench.types import LabelledSolution, Problem

HUB = {  # name -> repository and configuration, or file; ProcessBench's subsets are its splits
    "gsm8k": ("openai/gsm8k", "main"),
    "math500": ("HuggingFaceH4/MATH-500", None),
    "math": ("DigitalLearningGmbH/MATH-lighteval", "default"),
    "processbench": ("Qwen/ProcessBench", None),
    # its rows differ in fields: read by us
    "prmbench": ("hitsmy/PRMBench_Preview", "prmbench_preview.jsonl"),
}
SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")
PARTS = {
    "processbench": SUBSETS,
    "gsm_symbolic": ("symbolic", "p1", "p2"),
    "competition": ("aime24", "amc23"),
}
SUFFIXES = (".jsonl", ".jsonl.gz", ".json")


def load(
    name: str, *, path: str | Path | None = None, split: str | None = None, limit: int | None = None
) -> list[Problem] | list[LabelledSolution]:
    """The first `limit` records of a benchmark, from `path` (a file, or its folder) or the hub.

    `split` is `test` or `train`; where a benchmark has parts (`PARTS`), one of them. Left out, it
    is `test`, or all parts. Ids are unique and the same on every load. Raises ValueError, with
    file and line, for what it can't read.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"unknown benchmark {name!r}: use {', '.join(BENCHMARKS)}")
    if name in PARTS and split is None and (path is None or Path(path).is_dir()):
        parts = [load(name, path=path, split=part, limit=limit) for part in PARTS[name]]
        return [record for part in parts for record in part][:limit]
    split = split or "test"
    rows = _rows_of_path(name, Path(path), split) if path is not None else _rows_of_hub(name, split)
    records = []
    for number, (place, row) in enumerate(islice(rows, limit), start=1):
        with naming(place, name):
            records.append(BENCHMARKS[name](row, f"{name}/{split}/{number}"))
    return _unique(records)


@contextmanager
def naming(place: str, kind: str) -> Iterator[None]:
    """Say of a row that does not fit where it stands, and what is wrong."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no field {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{place}: not a {kind} record: {what}") from error


# -- rows ------------------------------------------------------------------------------------------


def _rows_of_path(name: str, path: Path, split: str) -> Iterator[tuple[str, dict]]:
    """(place, row) pairs; the place, `file:line`, is for messages."""
    if not path.exists():
        need = f"a {', '.join(SUFFIXES)} file or a folder with one"
        raise ValueError(f"{path} does not exist: give {need}")
    if name == "gsm_symbolic" and path.is_dir():  # one file a template
        yield from ((str(file), whole_json(file)) for file in _templates_in(path, split))
    else:
        yield from json_rows(_file_in(name, path, split) if path.is_dir() else path)


def whole_json(file: Path) -> Any:
    """What a file holds that is one JSON value; ValueError where it is corrupt or cut off."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: corrupt or cut-off JSON: {error}") from None


def json_rows(file: Path) -> Iterator[tuple[str, dict]]:
    """(place, row) pairs of JSON lines (.gz: packed) or, in a file named .json, of a JSON array.

    Raises ValueError, with file and line, where it is corrupt or cut off.
    """
    if file.suffix == ".json":
        if not isinstance(rows := whole_json(file), list):
            raise ValueError(f"{file}: not a JSON array, but a {type(rows).__name__}")
        yield from ((f"{file}, row {i}", row) for i, row in enumerate(rows, start=1))
        return
    number = 0
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{file}:{number}", json.loads(line)
    except (ValueError, RecursionError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file}:{number}: corrupt or cut-off JSON line: {error}") from None


def _templates_in(folder: Path, split: str) -> list[Path]:
    files = sorted(folder.glob(f"**/{split}/*.json")) or sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder} holds no {split}/*.json: give the folder of the templates")
    return files


def _file_in(name: str, folder: Path, split: str) -> Path:
    """The file of a folder that holds a split: named for it, or for the benchmark."""
    own = [name] if split == "test" else []
    stems = [f"{name}_{split}", *own, split, f"{split}set", *(stem.upper() for stem in own)]
    files = [folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    found = next((file for file in files if file.exists()), None)
    if found is None:
        likely = f"{' or '.join(stems[: len(own) + 2])} ({', '.join(SUFFIXES)})"
        raise ValueError(f"{folder} holds no {likely}: give the file itself")
    return found


def _rows_of_hub(name: str, split: str) -> Iterator[tuple[str, dict]]:
    if name not in HUB:
        raise ValueError(f"{name!r} needs path=...: a {', '.join(SUFFIXES)} file")
    return hub_rows(*HUB[name], split)


def hub_rows(repository: str, part: str | None, split: str) -> Iterator[tuple[str, dict]]:
    """(place, row) pairs of a data set on the hub; `part`: its configuration, or its .jsonl file.

    It is downloaded whole, once. Raises ValueError in one line where it can't be had.
    """
    try:
        if str(part).endswith(".jsonl"):
            from huggingface_hub import hf_hub_download

            return json_rows(Path(hf_hub_download(repository, part, repo_type="dataset")))
        from datasets import load_dataset

        rows = load_dataset(repository, part, split=split)
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        hint = "check name, split and network, or download it elsewhere and give path=..."
        missing = f"no {repository} (split {split!r}) from the hub"
        raise ValueError(f"{missing} ({why}): {hint}") from error
    return ((f"{repository}, row {i}", dict(row)) for i, row in enumerate(rows, start=1))


def _unique(records: list) -> list:
    """The records; from its second time on, an id is followed by #2, #3, …"""
    seen, unique = Counter(), []
    for record in records:
        problem = getattr(record, "problem", record)
        seen[problem.id] += 1
        if (times := seen[problem.id]) > 1:
            problem = replace(problem, id=f"{problem.id}#{times}")
        unique.append(replace(record, problem=problem) if hasattr(record, "problem") else problem)
    return unique


# -- records ---------------------------------------------------------------------------------------


def _gsm8k(row: dict, id: str) -> Problem:
    solution, mark, answer = row["answer"].rpartition("####")
    if not mark:
        raise ValueError(f"no '####' before the answer in {row['answer'][-40:]!r}")
    solution = re.sub(r"<<[^>]*>>", "", solution).strip()
    return Problem(id, "math", row["question"], answer.strip().replace(",", ""), solution)


def _math(row: dict, id: str) -> Problem:
    stated = next((key for key in ("answer", "final_answer") if key in row), None)
    answer = row[stated] if stated else extract_answer(row["solution"])
    if isinstance(answer, list):  # of OlympiadBench
        answer = answer[0] if len(answer) == 1 else None
    answer = None if answer in (None, "") else str(answer)
    meta = {"subject": row.get("subject", row.get("type"))}
    # `Level 3` or 3; some rows have none, MATH has two `Level ?`
    level = re.search(r"\d+", str(row.get("level")))
    id, worked = str(row.get("unique_id", id)), row.get("solution")
    level = int(level[0]) if level else None
    return Problem(id, "math", row["problem"], answer, worked, level, meta)


def _competition(row: dict, id: str) -> Problem:
    answer = row["answer"]
    answer = str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)
    question = row["problem"] if "problem" in row else row["question"]
    meta = {"url": row.get("url")}
    return Problem(id, "math", question, answer, row.get("solution"), meta=meta)


def _some(row: dict, *keys: str) -> dict:
    return {key: row[key] for key in keys if key in row}


def _own(row: dict, id: str) -> Problem:
    known = {field.name: row[field.name] for field in fields(Problem) if field.name in row}
    asked = "problem" if "problem" in row and "question" not in row else "question"
    known["question"] = row[asked]
    known["answer"] = None if row["answer"] is None else str(row["answer"])
    if isinstance(known.get("id"), int):
        known["id"] = str(known["id"])
    for name in ("id", "kind", "question"):
        if not isinstance(known.get(name, ""), str):
            raise ValueError(f"{name} {known[name]!r:.60}: need a text")
    rest = {key: value for key, value in row.items() if key not in known and key != "problem"}
    known["meta"] = {**known.get("meta", {}), **rest}
    return Problem(**{"id": id, "kind": "math", **known})


def _processbench(row: dict, id: str) -> LabelledSolution:
    steps, first = tuple(row["steps"]), row["label"]
    if not -1 <= first < len(steps):
        raise ValueError(f"label {first} for {len(steps)} steps, need -1 to {len(steps) - 1}")
    right = len(steps) if first == -1 else first
    labels = tuple(1 if i < right else 0 if i == first else None for i in range(len(steps)))
    subset = str(row["id"]).split("-")[0] if "id" in row else id.split("/")[1]
    id = str(row.get("id", id))
    meta = {"subset": subset, **_some(row, "generator", "final_answer_correct")}
    problem = Problem(id, "math", row["problem"])
    return LabelledSolution(problem, steps, labels, source="processbench", meta=meta)


def _prmbench(row: dict, id: str) -> LabelledSolution:
    steps, wrong = tuple(row["modified_process"]), [step - 1 for step in row["error_steps"]]
    if min(wrong, default=0) < 0:
        raise ValueError(f"error_steps {row['error_steps']}, need 1 or more")
    labels = tuple(0 if i in wrong else 1 for i in range(len(steps)))
    meta = _some(row, "classification", "reason", "original_process", "modified_steps")
    meta["past_end"] = tuple(i for i in wrong if i >= len(steps))
    id = "/".join(filter(None, (row.get("classification"), row.get("idx", id))))
    problem = Problem(id, "math", row["modified_question"], row.get("ground_truth"))
    return LabelledSolution(problem, steps, labels, source="prmbench", meta=meta)


BENCHMARKS = {
    "gsm8k": _gsm8k,
    "math500": _math,
    "math": _math,
    "mawps": mawps,
    "svamp": svamp,
    "gsm_symbolic": gsm_symbolic,
    "countdown": countdown_row,
    "competition": _competition,
    "jsonl": _own,
    "processbench": _processbench,
    "prmbench": _prmbench,
}
