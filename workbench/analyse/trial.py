"""The trial of a verifier: one call, one table, for whatever has `score` and `per`.

Samples of embedded problems are scored once and held against the exact truth: AUC, beside that of
position alone; first errors as in ProcessBench (Zheng et al. 2024, arXiv 2412.06559), hits by kind
of fault, right answers by wrong steps that are *caught* (judged wrong at some step); the expected
calibration error (ECE), as read and after one temperature; *bias*, the chance that of two right
steps the longer, or later, scores higher (above the median against the rest, without last steps,
which are answers; 0.5: none; cf. 2606.01682); best of n, majority and pass@k; tokens. Does best of
n fall where n grows (Gao et al. 2023, 2210.10760)? "Past its peak" is the largest n minus the n
that is best on the *other* half of the problems, lest a peak be held against those that chose it.

"Restating forgiven": the exact truth lets the first statement of a quantity stand and calls every
second one a fault; so read, a *right* second one is none.

Deviations: ProcessBench reports the subset that chose the threshold, too; here threshold and
temperature come from other problems, or what needs them is left out. An unread solution is a miss
among first errors and never caught; best of n takes it only where nothing else is drawn; AUC, ECE
and bias do without it. Intervals are 95 %, over problems. Taught in notebook 04.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.analyse import first_errors, labels, metrics, scaling, verifiers
from workbench.analyse.process_bench import StepScores, read_each
from workbench.problems import explain
from workbench.problems.story_truth import STORY_FAULTS
from workbench.problems.truth import FAULTS
from workbench.types import Meter, Problem, SearchResult, Verifier

Found = Iterator[tuple[str, Any, Any]]  # measure, at, and {n, value, low, high} or why it has none
Pool = Sequence[SearchResult]
UNCHOSEN = "it is not given, and there is no other pool (choose_on) to choose it on"
NONE = "the pool has no solutions or steps of this kind"
WHOLE = "the verifier scores whole solutions, not steps"


@dataclass(frozen=True, eq=False)
class Trial:
    """`table` holds n (what is counted), value, low and high by (measure, at).

    `left_out` says why a measure has no number. `scores[problem][sample]` are the scores as read,
    None if unread, for plots and paired tests (`scaling.values_at`, `first_errors.f1_gain`).
    """

    table: pd.DataFrame
    left_out: Mapping[tuple[str, Any], str]
    threshold: float | None
    temperature: float | None
    scores: Sequence[StepScores]


def trial(
    verifier: Verifier,
    results: Pool,
    *,
    seed: int,
    choose_on: Pool = (),
    threshold: float | None = None,
    temperature: float | None = None,
    aggregate: str = "min",
    invariance: Sequence[Mapping[str, Any]] = (),
) -> Trial:
    """Score all rollouts of `results` (as many for each problem) and compare with the exact truth.

    `choose_on` is such a pool of other problems; threshold (largest F1) and temperature, where not
    given, are chosen there. `aggregate` makes one number of step scores, for best of n; a verifier
    per solution is held against answers. `invariance`: rows of `models.invariance.batch_gaps`.
    ValueError for unequal pools, problems in common, and scores that do not fit the steps.
    """
    metrics.aggregate([0.5], aggregate)  # a ValueError before anything is scored
    _check([*results, *choose_on])
    best = _chosen(verifier.per, *_judged(verifier, choose_on)) if choose_on else (None, None)
    threshold = best[0] if threshold is None else threshold
    temperature = best[1] if temperature is None else temperature
    solutions, steps = _judged(verifier, results)
    scores = [own["scores"].tolist() for _, own in solutions.groupby("problem", sort=False)]
    method = f"prm_{aggregate}_max" if verifier.per == "step" else "orm_max"
    parts = [_pairs(verifier.per, steps, seed), _errors(verifier.per, solutions, threshold, seed)]
    parts += [_calibration(steps, temperature, seed), _best_of_n(method, results, scores, seed)]
    parts += [_cost(solutions, invariance, seed)]
    found = {(measure, at): got for part in parts for measure, at, got in part}
    left_out = {key: got for key, got in found.items() if isinstance(got, str)}
    table = pd.DataFrame({key: got for key, got in found.items() if key not in left_out}).T
    table = table[["n", "value", "low", "high"]].astype({"n": int}).rename_axis(["measure", "at"])
    return Trial(table, left_out, threshold, temperature, scores)


def forgiving_fault(problem: Problem, steps: Sequence[str]) -> int:
    """0-based first fault if a quantity may be stated again, rightly; -1 if there is none.

    >>> p = Problem("p", "programs", "What does b hold after these lines? a = 5; b = a + 4.")
    >>> forgiving_fault(p, ["b = a + 4 : 5 + 4 = 9 ."] * 2 + ["The answer is 8 ."])
    2
    """
    before: list[str] = []  # right steps, each quantity once
    for t, step in enumerate(steps):
        faults = [explain(problem, [*before[:i], step])[-1] for i in range(len(before) + 1)]
        if (fault := faults[-1]) is None:
            before.append(step)
        elif not fault.startswith("restated") or None not in faults:  # right nowhere before
            return t
    return -1


def _check(results: Pool) -> None:
    for result in results:
        if not result.rollouts or not all(rollout.steps for rollout in result.rollouts):
            raise ValueError(f"{result.problem.id}: need rollouts, and steps in each")
    different = min(len({getattr(r.problem, x) for r in results}) for x in ("id", "question"))
    if not results or different < len(results):
        raise ValueError(f"{len(results)} problems, {different} different: need each in one pool")


def _judged(verifier: Verifier, results: Pool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per solution; a row per scored step with a truth (or per scored solution)."""
    solutions, judged, lengths = [], [], []
    for result, right in zip(results, scaling.correctness(results)):
        problem, meter = result.problem, Meter()
        scores = _scores(verifier, result, meter)
        for rollout, own, ok in zip(result.rollouts, scores, right.tolist()):
            faults = explain(problem, rollout.texts)
            t = next((i for i, fault in enumerate(faults) if fault), -1)
            kind = (faults[t] or "").partition(":")[0]
            forgiven = forgiving_fault(problem, rollout.texts) if kind == "restated" else t
            cost = meter.verifier / len(scores)
            solutions.append((problem.id, own, t, forgiven, kind, ok, own is None, cost))
            if own is not None:
                truth = [not fault for fault in faults] if verifier.per == "step" else [ok]
                judged.append((problem, own, truth))
                sizes = [len(step.ids) or len(step.text.split()) for step in rollout.steps[:-1]]
                lengths += [*sizes, 0][: t + 1 or None]
    if not judged:
        raise ValueError(f"none of {len(solutions)} solutions could be read by the verifier")
    columns = "problem scores fault forgiven kind right unread tokens".split()
    table = verifiers.step_table(judged)
    return pd.DataFrame(solutions, columns=columns), table.assign(length=lengths[: len(table)])


def _scores(verifier: Verifier, result: SearchResult, meter: Meter) -> StepScores:
    """Of each rollout, None if unread; the verifier sees a blind problem."""
    blind = [replace(rollout, problem=result.problem.blind()) for rollout in result.rollouts]
    replies = read_each(verifier, blind, meter, skip=True)
    if len(replies) != len(blind):
        raise ValueError(f"{result.problem.id}: {len(replies)} replies to {len(blind)} rollouts")
    for rollout, own in zip(blind, replies):
        need = 1 if verifier.per == "solution" else len(rollout.steps)
        if own is not None and (len(own) != need or not all(0 <= x <= 1 for x in own)):
            raise ValueError(f"{result.problem.id}: scores {list(own)}, need {need} in [0, 1]")
    return replies


def _chosen(per: str, solutions: pd.DataFrame, steps: pd.DataFrame) -> tuple[float, float]:
    """Threshold and temperature that are best on this pool."""
    read = solutions[~solutions["unread"]]
    truth = read["fault"] if per == "step" else -read["right"].astype(int)  # -1: no fault
    threshold = first_errors.best_threshold(read["scores"].tolist(), truth.tolist())
    return threshold, verifiers.fit_temperature(steps["score"], steps["right"])


# -- the parts of the table ------------------------------------------------------------------------


def _auc(table: pd.DataFrame, seed: int, by: Sequence[str] = ()) -> dict[str, float] | str:
    try:
        return {"n": len(table), **verifiers.auc_interval(table, seed=seed, by=by)}
    except ValueError:  # there are no two to compare
        return NONE


def _mean(table: pd.DataFrame, column: str, seed: int) -> dict[str, float] | str:
    found = labels.shares(table.assign(all=0), column, by=["all"], seed=seed)
    return found.to_dict("records")[0] if len(found) else NONE


def _pairs(per: str, steps: pd.DataFrame, seed: int) -> Found:
    yield f"{per} AUC", "all", _auc(steps, seed)
    yield f"{per} AUC", "within a problem", _auc(steps, seed, ["problem"])
    if per == "step":
        yield "step AUC", "position alone", _auc(verifiers.position_baseline(steps), seed)
    part = steps[steps["right"] & (steps["length"] > 0)]
    for name, more in (("length", "longer"), ("position", "later")):
        table = part.assign(right=part[name] > part[name].median())
        yield "bias to the", more, _auc(table, seed) if per == "step" else WHOLE


def _errors(per: str, solutions: pd.DataFrame, threshold: float | None, seed: int) -> Found:
    if threshold is None:
        yield "threshold, and all first errors", "all", UNCHOSEN
        return
    if per == "solution":
        yield "first-error F1, hit rate", "all", WHOLE
    found = first_errors.first_errors((own or () for own in solutions["scores"]), threshold)
    guess = np.where(solutions["unread"], -2, found)  # never a hit
    table = solutions.assign(caught=guess >= 0)
    for at, column in (("exact", "fault"), ("restating forgiven", "forgiven")):
        truth, wrong = table[column], table[column] >= 0
        table = table.assign(**{at: guess == truth})
        if per == "step":
            f1 = first_errors.f1_interval(table["problem"], guess.tolist(), truth, seed=seed)
            yield "first-error F1", at, {"n": len(table), **f1} if f1["value"] >= 0 else NONE
            yield "hit rate", at, _mean(table[wrong], at, seed)
            yield "clean passed", at, _mean(table[~wrong], at, seed)
        lucky = table[wrong & table["right"]]  # right answers by wrong steps
        yield "right by wrong steps caught", at, _mean(lucky, "caught", seed)
    kinds = dict.fromkeys([*FAULTS, *(kind for kind in STORY_FAULTS if kind in {*table["kind"]})])
    for kind in kinds if per == "step" else ():
        yield "hit rate", kind, _mean(table[table["kind"] == kind], "exact", seed)


def _calibration(steps: pd.DataFrame, temperature: float | None, seed: int) -> Found:
    read = steps["score"]
    after = None if temperature is None else verifiers.apply_temperature(read, temperature)
    for at, scores in (("as read", read), ("after a temperature", after)):
        table = steps.assign(value=scores, label=np.nan)
        found = labels.label_quality(table, truth="right", seed=seed).get("ece")
        yield "ECE", at, {"n": len(table), **found} if found else UNCHOSEN


def _best_of_n(method: str, results: Pool, scores: Sequence[StepScores], seed: int) -> Found:
    known = [[[-np.inf] if own is None else own for own in row] for row in scores]
    pool, n = (*scaling.pool_parts(results), known), len(results)
    budgets, curves = scaling.doublings(len(known[0])), {}  # of (problems, budgets)
    for name, rule in (("best of n", method), ("majority", "majority"), ("pass@k", "pass@k")):
        curves[name] = np.stack([scaling.values_at(rule, k, *pool, seed=seed) for k in budgets], 1)
    minus = (best := curves["best of n"]) - curves["majority"]
    curves["best of n minus majority"] = np.where(np.abs(minus) > metrics.ROUNDING, minus, 0.0)
    half = np.random.default_rng(seed).permutation(n) % 2  # (problems,)
    peaks = [best[half != own].mean(0).argmax() if n > 1 else -1 for own in half]
    curves["best of n past its peak"] = best[:, -1:] - best[np.arange(n), peaks, None]
    for name, values in curves.items():
        for k, own in zip(budgets[-values.shape[1] :], values.T):
            yield name, k, {"n": n, **scaling.interval(own, seed=seed)}


def _cost(solutions: pd.DataFrame, invariance: Sequence[Mapping[str, Any]], seed: int) -> Found:
    yield "tokens read per solution", "all", _mean(solutions, "tokens", seed)
    yield "unread", "all", _mean(solutions, "unread", seed)
    if not invariance:
        yield "largest gap in a batch", "all", "hand in rows of models.invariance.batch_gaps"
    for row in invariance:  # facts of one machine: value, low and high are the same
        if missing := {"dtype", "batch_size", "n", "largest"} - row.keys():
            raise ValueError(f"invariance row {dict(row)}: lacks {', '.join(sorted(missing))}")
        ends = {"n": row["n"]} | dict.fromkeys(("value", "low", "high"), row["largest"])
        yield "largest gap in a batch", f"{row['dtype']}, {row['batch_size']}", ends
