"""MATH-APS, OpenR's process data (arXiv 2410.09671): prefixes with values, flat or as a tree.

Read and written through `process_data`, which says what counts as a good step. OpenR's tree is
OmegaPRM's (arXiv 2406.06592). What OpenR has no field for stands in an extra key, `workbench`,
which its readers ignore.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from statistics import fmean

from workbench.problems.step_marks import TAG, as_value, cut, hard_labels, marked
from workbench.types import LabelledSolution, Problem


def read_flat(row: dict, neutral: str, threshold: float) -> list[LabelledSolution]:
    if "process" in row:
        marks = row["labels"] if "labels" in row else row["label"]
        steps = cut(row["process"], rf"{TAG}|\n{{5}}")
        return [marked(_asked(row), steps, marks, threshold, "math-aps", {})]
    question, values = _asked(row).question, {}
    for prefix in row["reasoning_steps"]:
        if not prefix["solution_prefix"].startswith(question):
            given = f"solution_prefix {prefix['solution_prefix'][:60]!r}"
            raise ValueError(f"{given} does not start with the question")
        steps = prefix["solution_prefix"][len(question) :].strip()
        values.setdefault(steps, []).append(as_value(prefix["mc_value"]))
    values.pop("", None)  # the question itself
    chains = [[(step, fmean(values[p])) for p, step in chain] for chain in _longest(values)]
    return _with_values(row, chains, threshold)


def _longest(prefixes: Iterable[str]) -> list[list[tuple[str, str]]]:
    """For each prefix that no other continues: all that it continues and it, with its last step.

    >>> _longest(["a", "a b c", "ab", "a b"])
    [[('a', 'a'), ('a b', 'b'), ('a b c', 'c')], [('ab', 'ab')]]
    """
    chain, chains = [], {}
    for text in sorted(prefixes):
        while chain and not (text.startswith(chain[-1][0]) and text[len(chain[-1][0])].isspace()):
            chain.pop()
        before = chain[-1][0] if chain else ""
        chains.pop(before, None)
        chain.append((text, text[len(before) :].strip()))
        chains[text] = list(chain)
    return [chains[text] for text in prefixes if text in chains]


def read_tree(row: dict, neutral: str, threshold: float) -> list[LabelledSolution]:
    """Each leaf ends a solution; the root is the question."""
    chains, todo = [], [(child, []) for child in reversed(row["reasoning_steps"]["children"])]
    while todo:
        node, above = todo.pop()
        chain = [*above, (node["text"], as_value(node["mc_value"]))]
        todo += [(child, chain) for child in reversed(node["children"])]
        if not node["children"]:
            chains.append(chain)
    return _with_values(row, chains, threshold)


def _asked(row: dict) -> Problem:
    answer = row.get("final_answer")
    fields = {"id": "", "kind": "math", "answer": None if answer is None else str(answer)}
    fields |= {"question": row["q"] if "q" in row else row["question"]}
    return Problem(**fields | row.get("workbench", {}).get("problem", {}))


def _with_values(
    row: dict, chains: list[list[tuple[str, float]]], threshold: float
) -> list[LabelledSolution]:
    own = {"source": "math-aps", "meta": {}, "hard": False} | row.get("workbench", {})
    problem, rows = _asked(row), []
    for steps, values in (zip(*chain) for chain in chains):
        labels = tuple(int(value > threshold) for value in values)
        kept = None if own["hard"] else values
        rows.append(LabelledSolution(problem, steps, labels, kept, own["source"], own["meta"]))
    return rows


def flat_lines(rows: list[LabelledSolution]) -> Iterator[dict]:
    """One line per solution."""
    for head, chain in _chains(rows):
        text, prefixes = head["question"], []
        for step, value in chain:
            if not step or step != step.strip():
                given = f"step {step[:60]!r}"
                raise ValueError(f"{given} is blank or has white space around it: strip it")
            text += "\n\n" + step
            prefixes.append({"solution_prefix": text, "mc_value": value})
        yield head | {"reasoning_steps": prefixes}


def tree_lines(rows: list[LabelledSolution]) -> Iterator[dict]:
    """One line per problem whose rows come together; the question has its first steps' mean."""
    for head, group in groupby(_chains(rows), key=lambda pair: pair[0]):
        nodes = _nodes([chain for _, chain in group])
        value = fmean(node["mc_value"] for node in nodes)
        root = {"text": head["question"], "mc_value": value, "children": nodes}
        yield head | {"reasoning_steps": root}


def _nodes(chains: list[list[tuple[str, float]]]) -> list[dict]:
    """Neighbours share first steps; each has its own leaf, so that all come back in order."""
    nodes, groups = [], groupby(chains, key=lambda chain: (chain[0], len(chain) > 1))
    for ((text, value), inner), group in groups:
        tails = [chain[1:] for chain in group]
        below = [_nodes(tails)] if inner else [[] for _ in tails]
        nodes += [{"text": text, "mc_value": value, "children": children} for children in below]
    return nodes


def _chains(rows: list[LabelledSolution]) -> Iterator[tuple[dict, list[tuple[str, float]]]]:
    """Of each row the head of its line, with what OpenR has no field for, and (step, value)s."""
    numbers: dict[str, int] = {}
    bad, good = 0.0, 1.0  # highest value labelled 0, lowest labelled 1
    for row in rows:
        problem, labels, hard = row.problem, hard_labels(row), row.values is None
        values = [as_value(value) for value in (map(float, labels) if hard else row.values)]
        if not labels:
            raise ValueError(f"{problem.id}: a solution without steps, need at least one")
        bad = max([bad, *(value for value, label in zip(values, labels) if not label)])
        good = min([good, *(value for value, label in zip(values, labels) if label)])
        if bad >= good:
            given = f"value {bad} is labelled 0 and {good} 1"
            raise ValueError(f"{problem.id}: {given}, need labels by one threshold")
        own = {"problem": {**vars(problem), "meta": dict(problem.meta)}}
        own |= {"source": row.source, "meta": dict(row.meta), "hard": hard}
        head = {"question": problem.question, "final_answer": problem.answer or ""}
        head |= {"workbench": own, "question_id": numbers.setdefault(problem.id, len(numbers))}
        yield head, list(zip(row.steps, values))
