"""Every search at several sizes on the frozen problems: `recipe search-METHOD`, as `search-mcts`.

Base writes; base's own PRM judges, as `search-METHOD-both` together with base's likelihood, which
costs nothing: it is known from the sampling; and as `search-METHOD-strong` the PRM on strong. Each
leaves `runs/recipes/searches/METHOD.csv.gz`, which has a row for each problem and size: is the
answer right that has the highest score, that gets the most votes weighted by scores, that the
method itself chose; and the tokens, operations and seconds it cost. Votes over plain samples need
no recipe: all budgets of them are read from the pools (`analyse.scaling`). Taught in notebooks 08
and 09.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.analyse import scaling
from workbench.analyse.metrics import weighted_vote
from workbench.analyse.strategies import Tried
from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.models.baselines import OwnLikelihood
from workbench.models.ensemble import Ensemble, weighted_log_odds
from workbench.models.flops import Flops
from workbench.models.policy import HFPolicy
from workbench.models.verifier import untrained
from workbench.problems import answer_of, frozen, is_right
from workbench.problems.grading import is_equal
from workbench.search import METHODS
from workbench.types import Meter, Problem, Scores, SearchResult, Verifier

SHIPPED_SEARCHES = frozen.FOLDER.parent / "searches"  # what notebooks 08 and 09 read
BOTH = "prm_base and likelihood"
JUDGES = {"": "prm_base", "-strong": "prm_strong", "-both": BOTH}
AXES = ("generated", "tokens", "flops")  # written; by policy and verifier together; all operations
LIKELIHOOD_BESIDE = 1.0  # weight of base's likelihood beside its PRM: chosen on validation
# small, middle, large, and where votes gain by it, larger still
SIZES_OF: dict[str, Sequence[Mapping[str, Any]]] = {
    "beam_search": [dict(beam_width=n, expand=4) for n in (1, 2, 4)],
    "dvts": [dict(subtrees=n, expand=4) for n in (1, 2, 4)],
    "lookahead": [dict(beam_width=n, expand=4) for n in (1, 2, 4)],
    "rebase": [dict(width=n) for n in (4, 8, 16, 32)],
    "particle_filter": [dict(particles=n) for n in (4, 8, 16, 32)],
    "stepwise_best_of_n": [dict(n=n) for n in (4, 8, 16)],
    "mcts": [dict(simulations=n) for n in (8, 16, 32)],
    "rstar": [dict(simulations=n, by=None) for n in (4, 8, 16)],
    "critic_search": [dict(n=n, rounds=n) for n in (1, 2, 4)],
    "revise": [dict(chains=n, revisions=3) for n in (1, 2, 4)],
    "adaptive": [dict(n=n) for n in (8, 16, 40)],
}


def search(folder: Path, method: str, judge: str = "") -> str:
    """Run a method at all its sizes; what is there already is read back."""
    place = folder / "searches" / f"{method}{judge}"
    place.mkdir(parents=True, exist_ok=True)
    rows = []
    for split in frozen.SIZES:
        for size, options in enumerate(sizes_of(method, judge)):
            save = place / f"{split}_{size}.jsonl"
            # new models: each search pays for what it reads, and keeps all that it has read
            memory = {"dtype": "fast", "cache_tokens": 400_000}
            models = {"policy": load_policy("base", **memory)}
            models |= {"verifier": judge_of_search(JUDGES[judge], **memory)}
            about = {**models, "seed": 0, "save": save}
            results = solve(frozen.load(split), METHODS[method], **about, **options)
            rows += [{"split": split, "size": size, **row} for row in rows_of_results(results)]
    table = pd.DataFrame(rows)
    packed = {"method": "gzip", "mtime": 0}  # the same bytes whenever it is written
    table.to_csv(place.with_suffix(".csv.gz"), index=False, compression=packed)
    shown = table[table["split"] == "validation"].groupby("size")
    return shown[["score", "vote", "own", "tokens"]].mean().round(3).to_string()


def sizes_of(method: str, judge: str) -> Sequence[Mapping[str, Any]]:
    """The sizes that a method was recorded at; by the PRM on strong none is larger than large."""
    return SIZES_OF[method][:3] if judge == "-strong" else SIZES_OF[method]


def judge_of_search(name: str, **options: Any) -> Verifier:
    """One of `JUDGES`; `options` go to `load_verifier`."""
    if name != BOTH:
        return load_verifier(name, **options)
    members = [load_verifier("prm_base", **options), OwnLikelihood()]
    return Ensemble(members, [1.0, LIKELIHOOD_BESIDE], name=BOTH)


def with_likelihood(
    step_scores: Sequence[Scores], pool: Sequence[SearchResult], policy: HFPolicy
) -> list[Scores]:
    """A PRM's scores of a pool, with the likelihood of the policy that wrote it beside them.

    As `BOTH` judges. A shipped pool has no log-probabilities, so the policy reads here; while it
    sampled, they were known for nothing. ValueError unless there are scores for each problem.
    """
    if len(step_scores) != len(pool):
        raise ValueError(f"scores for {len(step_scores)} problems, a pool of {len(pool)}")
    judge, weights = untrained(policy), [1.0, LIKELIHOOD_BESIDE]
    read = [judge.score(result.rollouts) for result in pool]
    return [
        [weighted_log_odds(pair, weights) for pair in zip(prm, own)]
        for prm, own in zip(step_scores, read)
    ]


def shipped_searches(judge: str) -> dict[str, pd.DataFrame]:
    """The rows of every method that was judged by this verifier, by method.

    ValueError for a verifier other than those of `JUDGES`.
    """
    known = {name: suffix for suffix, name in JUDGES.items()}
    if judge not in known:
        raise ValueError(f"verifier {judge!r}: searches were recorded with {', '.join(known)}")
    places = {name: SHIPPED_SEARCHES / f"{name}{known[judge]}.csv.gz" for name in SIZES_OF}
    return {name: pd.read_csv(place) for name, place in places.items() if place.exists()}


def chosen_on_validation(table: pd.DataFrame) -> str:
    """How a method best chooses among what it found, over all its sizes: score, vote or own."""
    tried = table[table["split"] == "validation"].groupby("size")[["score", "vote", "own"]]
    return str(tried.mean().mean().idxmax())


def settings_of(
    tables: Mapping[str, pd.DataFrame], problems: Sequence[Problem], *, axis: str = "tokens"
) -> list[Tried]:
    """Every method at every size on these test problems, choosing as it did best on validation.

    What it cost is read from the column `axis`, one of `AXES`.
    """
    ids, out = [problem.id for problem in problems], []
    for name, table in tables.items():
        way = chosen_on_validation(table)
        for size, rows in table[table["split"] == "test"].groupby("size"):
            own = rows.set_index("problem").loc[ids]
            values, costs = own[way].to_numpy(float), own[axis].to_numpy(float)
            out.append(Tried(f"{name} {size}", values, costs))
    return out


def setting(name: str, results: Sequence[SearchResult], way: str, axis: str) -> Tried:
    """One run of a search as a setting: right when chosen in this way, and its cost on an axis."""
    rows = pd.DataFrame(rows_of_results(results))
    return Tried(name, rows[way].to_numpy(float), rows[axis].to_numpy(float))


def score_in_parts(
    pool: Iterable[SearchResult], verifier: Verifier, policy: HFPolicy, sizes: Sequence[int]
) -> tuple[list[list[Any]], dict[str, NDArray[np.float64]]]:
    """Scores of all samples, and what the first k of a problem cost on each of the `AXES`.

    Costs are (problems, sizes) each. The first k samples of a pool are exactly those of a run with
    n = k. They cost the question, read once, what was written, and what the verifier had to read.
    That remembers: it is asked in growing parts, which is the thriftiest way, too (in one go it
    reads beginnings that samples share side by side, a tenth more tokens in all for 16).
    """
    scores, costs, flops = [], [], Flops(policy.model)
    for result in pool:
        asked = len(policy.prompt_ids(result.problem))
        meter, row = Meter(prefilled=asked, flops=flops.cost(0, asked, 1)), []
        for before, k in zip([0, *sizes], sizes):
            new = result.rollouts[before:k]
            for written in (len(rollout.ids) for rollout in new):
                meter.generated += written
                meter.flops += flops.cost(asked, asked + written - 1, written - 1)
            verifier.score(new, meters=[meter] * len(new))
            row.append([getattr(meter, axis) for axis in AXES])
        costs.append(row)
        scores.append(verifier.score(result.rollouts))  # remembered, not read again
    return scores, dict(zip(AXES, np.moveaxis(np.array(costs, float), -1, 0)))


def best_way(pool: Sequence[SearchResult], scores: Sequence[Scores], *, seed: int) -> str:
    """How to choose among whole samples, of all ways in `scaling.SELECTIONS`: best on this pool."""
    curves = scaling.selection_curves(*scaling.pool_parts(pool), scores, seed=seed)
    largest = max(point["budget"] for point in curves)
    last = [point for point in curves if point["budget"] == largest]
    return str(max(last, key=lambda point: point["value"])["method"])


def whole_samples(
    way: str, sizes: Sequence[int], parts: Any, scores: Any, costs: NDArray, *, seed: int
) -> list[Tried]:
    """Choosing in one way among n samples, for each n of `sizes`, as "samples n".

    `parts` and `scores` as `scaling.values_at` takes them, `costs` (problems, sizes).
    """
    rows = [scaling.values_at(way, n, *parts, scores, seed=seed) for n in sizes]
    return [Tried(f"samples {n}", *own) for n, *own in zip(sizes, rows, costs.T)]


def rows_of_results(results: Sequence[SearchResult]) -> Iterator[dict[str, Any]]:
    """Of each problem: which ways to choose are right, and what the search cost."""
    for result in results:
        problem, meter = result.problem, result.meter
        answers = [answer_of(rollout) for rollout in result.rollouts]
        whole = [i for i, answer in enumerate(answers) if answer is not None]
        scores = result.scores or (1.0,) * len(result.rollouts)
        best = max(whole, key=scores.__getitem__, default=None)
        winner = weighted_vote([answers[i] for i in whole], [scores[i] for i in whole])
        yield {
            "problem": problem.id,
            "level": problem.level,
            "score": int(best is not None and is_right(problem, result.rollouts[best])),
            "vote": int(winner is not None and is_equal(problem.answer, winner)),
            "own": int(result.best is not None and is_right(problem, result.best)),
            "solutions": len(whole),
            "tokens": meter.tokens,
            "generated": meter.generated,
            "verifier": meter.verifier,
            "flops": round(meter.flops),
            "seconds": round(meter.seconds, 4),
            "error": result.error,
        }


SEARCH_RECIPES = {
    f"search-{method}{judge}": partial(search, method=method, judge=judge)
    for method in SIZES_OF
    for judge in JUDGES
}
