"""Long work behind what is shipped, one arm a call: `python -m workbench recipe NAME`.

| recipe | makes | about |
|---|---|---|
| `pools` | `data/samples/pools`: 64 samples of every frozen problem by each policy | 1 h |
| `labels-base`, `labels-strong` | step labels for training, under `runs/recipes` | 25 min |
| `prm-base`, `prm-strong` | process reward models that judge, under `runs/recipes` | 1 h |

Each can be stopped and called again: it goes on where it stood. Labels need no people and no
rollouts: a policy writes solutions of training problems, its own likelihood judges their steps, and
only solutions whose verdict agrees with their ending are kept (`supervise.consensus`). `strong`
judges solutions of both, so its verifier knows the faults of base and its own. Taught in
notebook 03.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from scipy.stats import entropy
from sklearn.metrics import log_loss

from workbench.analyse.verifiers import auc, step_table
from workbench.problems import check_steps, frozen, is_right, quantities
from workbench.train.learner import Recipe
from workbench.types import LabelledSolution, Prefix

PROBLEMS, SOLUTIONS, SEED = 5_000, 8, 300  # of the training split
MOST_STEPS = 14  # steps: what runs on further says one thing again and again
READS = {"base": ("base",), "strong": ("base", "strong")}  # whose solutions a judge reads
LAYERS = 2  # on top of the host
LANGUAGE = 0.3  # weight of going on to write good steps
PRM = Recipe(
    batch_tokens=9216, micro_tokens=1024, epochs=4.0, warmup=20, decay=0.4, rank=0,
    weight_decay=0.01, betas=(0.9, 0.98),
)  # fmt: skip


def pools(folder: Path) -> str:
    """Draw the pools that are not there yet."""
    from workbench.drive import solve
    from workbench.models import load_policy
    from workbench.search import METHODS

    drawn = 0
    for policy, split, n in frozen.all_pools():
        path = frozen.file(policy, split, many=n > frozen.SAMPLES)
        if path.exists():
            continue
        problems = frozen.load(split)[: frozen.FIRST if n > frozen.SAMPLES else None]
        writer = load_policy(policy, dtype="float32", batch_tokens=98_304)
        results = solve(problems, METHODS["sample"], policy=writer, seed=0, n=n)
        frozen.write_pool(results, path)
        drawn += 1
    return f"{drawn} pools drawn into {frozen.FOLDER}"


def labels(folder: Path, judge_name: str) -> str:
    """Label training solutions by a policy's likelihood and their endings."""
    from workbench.problems import process_data

    rows = judged_solutions(folder, judge_name)
    process_data.write(rows, _labels_file(folder, judge_name), format="stepwise")
    return f"{len(rows)} labelled solutions"


def judged_solutions(folder: Path, judge_name: str) -> list[LabelledSolution]:
    """Distinct solutions of training problems on which the likelihood and the ending agree."""
    from workbench.drive import solve
    from workbench.models import load_policy
    from workbench.models.verifier import untrained
    from workbench.search import METHODS
    from workbench.supervise import judge
    from workbench.supervise.consensus import agree_with_endings
    from workbench.supervise.replay import given

    problems = quantities.generate(PROBLEMS, levels=frozen.BALANCED, seed=SEED, split="train")
    distinct: dict[str, dict[tuple[str, ...], Prefix]] = {p.id: {} for p in problems}
    for name in READS[judge_name]:
        policy, save = load_policy(name, dtype="float32"), folder / f"solutions_{name}.jsonl"
        drawn = solve(problems, METHODS["sample"], policy=policy, seed=0, n=SOLUTIONS, save=save)
        for rollout in (rollout for result in drawn for rollout in result.rollouts):
            if 0 < len(rollout.steps) <= MOST_STEPS:
                distinct[rollout.problem.id].setdefault(rollout.texts, rollout)
    pool = {name: tuple(own.values()) for name, own in distinct.items()}
    host = untrained(load_policy(judge_name, dtype="float32"))
    results = solve(problems, given(judge.label, pool), policy=host, verifier=host, threshold=0.0)
    rows = [row for result in results for row in result.labelled]
    right = [is_right(p, rollout) for p in problems for rollout in pool[p.id]]
    return agree_with_endings(judge.at_threshold(rows, judge.threshold_of(rows, right)), right)


def prm(folder: Path, host_name: str) -> str:
    """Train a verifier on the labels until it has learnt them."""
    import torch

    from workbench.models import load_policy
    from workbench.models.deeper import deeper
    from workbench.models.verifier import save
    from workbench.problems import process_data
    from workbench.train.prm import step_loss, train_prm

    file = _labels_file(folder, host_name)
    if not file.exists():
        raise ValueError(f"{file} is missing: python -m workbench recipe labels-{host_name}")
    rows = process_data.read(file, format="stepwise")
    host = load_policy(host_name, dtype="float32")
    verifier, log = train_prm(
        deeper(host.model, LAYERS), host.tokenizer, rows, recipe=PRM, seed=0,
        loss=partial(step_loss, language=LANGUAGE), settings={"language": LANGUAGE},
        held_out=learnt, evaluations=20, checkpoints=folder / f"prm_{host_name}_state",
        log=folder / f"prm_{host_name}.jsonl",
    )  # fmt: skip
    verifier.model.to(torch.bfloat16)
    save(verifier, folder / f"prm_{host_name}")
    return ", ".join(f"{name} {x:.3f}" for name, x in log[-1].items() if name.startswith("eval/"))


def learnt(verifier, *, samples: int = 2) -> dict[str, float]:
    """What a verifier knows of base's validation samples: loss beside its label entropy, and AUC.

    Held against the exact truth, which training never sees.
    """
    results = frozen.pool("base", "validation", n=samples)
    pairs = [(r.problem, rollout) for r in results for rollout in r.rollouts]
    scores = verifier.score([rollout for _, rollout in pairs])
    truths = [check_steps(problem, rollout.texts) for problem, rollout in pairs]
    table = step_table((p, own, truth) for (p, _), own, truth in zip(pairs, scores, truths))
    share = table["right"].mean()
    return {
        "eval/loss": float(log_loss(table["right"], table["score"], labels=[False, True])),
        "eval/trivial_loss": float(entropy([share, 1 - share])),
        "eval/auc": auc(table["score"], table["right"]),
    }


def _labels_file(folder: Path, name: str) -> Path:
    return folder / f"labels_{name}.jsonl"


RECIPES: dict[str, Callable[[Path], str]] = {
    "pools": pools,
    **{f"labels-{name}": partial(labels, judge_name=name) for name in READS},
    **{f"prm-{name}": partial(prm, host_name=name) for name in READS},
}
