"""Records as JSON lines: `SearchResult`s and all they hold, and a result file that survives a kill.

The file's first line names the run (method, seed, options); each further line is one finished
problem. A last line that was cut off is dropped and its problem run again; any other unreadable
line is an error that names file and line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.types import LabelledSolution, Meter, Prefix, Problem, SearchResult, Step


def read_lines(path: str | Path, *, drop_cut_off: bool = False) -> Iterator[dict]:
    """The objects of a JSONL file; ValueError with file and line number for a line that is none.

    `drop_cut_off`: a last line without its newline (the writer was killed) is left out instead.
    """
    with Path(path).open("rb") as file:  # bytes: a line may be cut off inside a letter
        for number, line in enumerate(file, 1):
            if drop_cut_off and not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line.decode())
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(
                    f"{path}, line {number}: need an object, found {line.decode()[:40]!r}"
                )
            yield row


def to_json(result: SearchResult) -> dict[str, Any]:
    """A plain dictionary of a result; its problem is kept by id and question, `from_json` brings
    all else back."""
    return {
        "problem": asdict(result.problem),
        "rollouts": [_prefix(p) for p in result.rollouts],
        "scores": result.scores,
        "step_scores": result.step_scores,
        "best": None if result.best is None else _best(result),
        "labelled": [{**asdict(row), "problem": row.problem.id} for row in result.labelled],
        "meter": asdict(result.meter),
        "error": result.error,
        "stopped": result.stopped,
    }


def from_json(row: dict[str, Any]) -> SearchResult:
    """The result that `to_json` wrote."""
    problem = Problem(**row["problem"])
    rollouts = tuple(_read_prefix(problem, p) for p in row["rollouts"])
    best, scores, steps = row["best"], row["scores"], row["step_scores"]
    return SearchResult(
        problem,
        rollouts,
        scores=None if scores is None else tuple(scores),
        best=None
        if best is None
        else rollouts[best]
        if isinstance(best, int)
        else _read_prefix(problem, best),
        labelled=tuple(_read_labelled(problem, entry) for entry in row["labelled"]),
        step_scores=None if steps is None else tuple(map(tuple, steps)),
        meter=Meter(**row["meter"]),
        error=row["error"],
        stopped=row["stopped"],
    )


def _best(result: SearchResult) -> int | dict:
    """Which of the rollouts the best one is, or the best one itself if it is none of them."""
    return (
        result.rollouts.index(result.best)
        if result.best in result.rollouts
        else _prefix(result.best)
    )


def _prefix(prefix: Prefix) -> dict[str, Any]:
    steps = [[step.text, list(step.ids), list(step.logprobs)] for step in prefix.steps]
    return {"steps": steps, "stop": prefix.stop, "prompt": prefix.prompt}


def _read_prefix(problem: Problem, row: dict[str, Any]) -> Prefix:
    steps = tuple(Step(text, tuple(ids), tuple(logprobs)) for text, ids, logprobs in row["steps"])
    return Prefix(problem, steps, row["stop"], row["prompt"])


def _read_labelled(problem: Problem, row: dict[str, Any]) -> LabelledSolution:
    values = row["values"]
    return LabelledSolution(
        problem, tuple(row["steps"]), tuple(row["labels"]), None if values is None else tuple(values),
        row["source"], row["meta"],
    )  # fmt: skip


class ResultFile:
    """Finished problems on disk, found by (id, occurrence); appended and flushed to disk one by
    one."""

    def __init__(self, path: str | Path, run: dict[str, Any]):
        self.path = Path(path)
        self._results: dict[tuple[str, int], SearchResult] = {}
        if self.path.exists() and self.path.stat().st_size:
            self._read(run)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write({"run": run})

    def get(self, id: str, occurrence: int) -> SearchResult | None:
        """The saved result of a problem, None if it is still to be run."""
        return self._results.get((id, occurrence))

    def append(self, result: SearchResult, occurrence: int) -> None:
        """Write one finished problem; it is on disk when this returns."""
        self._write({"occurrence": occurrence, **to_json(result)})

    def _read(self, run: dict[str, Any]) -> None:
        rows = list(read_lines(self.path, drop_cut_off=True))
        if rows and rows[0].get("run") != run:
            raise ValueError(
                f"{self.path} belongs to another run ({rows[0].get('run')}), this one is {run}: name a new file"
            )
        for row in rows[1:]:
            self._results[row["problem"]["id"], row.pop("occurrence")] = from_json(row)
        self._cut_off_tail()
        if not rows:
            self._write({"run": run})

    def _cut_off_tail(self) -> None:
        """Drop what follows the last newline, so that the next line starts on its own."""
        data = self.path.read_bytes()
        os.truncate(self.path, data.rfind(b"\n") + 1)

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
