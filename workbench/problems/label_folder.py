"""Step labels as a folder that Hugging Face `datasets` opens: one parquet file and a data card.

One row is one solution with all that a `LabelledSolution` holds, open labels included. Read and
written through `process_data`, format `datasets`. What is free in form (`meta`) is JSON text, so
that all rows have the same columns. Taught in notebook 02.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench.files import write_whole
from workbench.problems.step_marks import as_value
from workbench.types import LabelledSolution, Problem

PARQUET = "labels.parquet"
_TEXTS = ("id", "kind", "question", "answer", "solution", "source", "meta", "problem_meta")
DATA_CARD = """---
language: en
pretty_name: Step labels
task_categories:
- text-generation
configs:
- config_name: default
  data_files: {file}
---
# Step labels

{solutions:,} solutions of {problems:,} problems. Of their steps {good:,} are labelled good, {bad:,}
bad, and {open:,} have no label. Labelled by: {sources}.

| columns | what they hold |
|---|---|
| `id`, `kind`, `level`, `question`, `answer`, `solution` | the problem |
| `steps` | the solution, one text a step |
| `labels` | for each step 1 (good), 0 (bad) or null (not labelled) |
| `values` | for each step the estimated chance that the answer will be right, if known |
| `source`, `meta`, `problem_meta` | who labelled it; whatever else is known, as JSON |

```python
datasets.load_dataset(FOLDER, split="train")
workbench.problems.process_data.read(FOLDER, format="datasets")
```
"""


def read_row(row: dict, neutral: str, threshold: float) -> list[LabelledSolution]:
    """The solution of one row. Labels are as they were written; the options change nothing."""
    if odd := [label for label in row["labels"] if label not in (0, 1, None)]:
        raise ValueError(f"{odd[0]!r:.60} is no label: need 0, 1 or null")
    labels = tuple(None if label is None else int(label) for label in row["labels"])
    values = row.get("values")
    if values is not None:
        values = tuple(None if value is None else as_value(value) for value in values)
    known = {name: row.get(name) for name in ("answer", "solution", "level")}
    meta = {name: json.loads(row.get(name) or "{}") for name in ("problem_meta", "meta")}
    kind, question = row.get("kind", "math"), row["question"]
    problem = Problem(row.get("id", ""), kind, question, **known, meta=meta["problem_meta"])
    source = row.get("source", "")
    return [LabelledSolution(problem, tuple(row["steps"]), labels, values, source, meta["meta"])]


def folder_rows(folder: Path) -> Iterator[tuple[str, dict]]:
    """(place, row) pairs of a folder that `write_folder` wrote. ValueError if it holds none."""
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_table(folder / PARQUET).to_pylist()
    except (OSError, ArrowException) as error:
        raise ValueError(f"{folder} holds no readable {PARQUET}: {error!s:.80}") from None
    return ((f"{folder / PARQUET}, row {i}", row) for i, row in enumerate(rows, start=1))


def write_folder(rows: Sequence[LabelledSolution], folder: Path) -> None:
    """Write file and card, each whole or not at all; ValueError for what JSON can't hold."""
    import pyarrow as pa
    from pyarrow import parquet

    many = {"steps": pa.string(), "labels": pa.int8(), "values": pa.float64()}
    columns = {name: pa.string() for name in _TEXTS} | {"level": pa.int64()}
    columns |= {name: pa.list_(kind) for name, kind in many.items()}
    try:
        table = pa.Table.from_pylist([_columns(row) for row in rows], pa.schema(columns))
    except (TypeError, UnicodeEncodeError, pa.ArrowException) as error:
        raise ValueError(f"{folder}: not all of this can be a column: {error}") from None
    labels = Counter(label for row in rows for label in row.labels)
    facts = {"solutions": len(rows), "problems": len({row.problem.id for row in rows})}
    facts |= {"good": labels[1], "bad": labels[0], "open": labels[None], "file": PARQUET}
    sources = ", ".join(sorted({row.source for row in rows} - {""})) or "not said"
    write_whole(folder / PARQUET, lambda part: parquet.write_table(table, part))
    card = DATA_CARD.format(**facts, sources=sources)
    write_whole(folder / "README.md", lambda part: part.write_text(card, encoding="utf-8"))


def _columns(row: LabelledSolution) -> dict:
    problem = {**vars(row.problem)}
    meta = {"problem_meta": dict(problem.pop("meta")), "meta": dict(row.meta)}
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in meta.items()}
    return {**problem, **vars(row), **texts}
