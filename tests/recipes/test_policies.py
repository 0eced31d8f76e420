"""Ways to improve a policy, in small: every arm spends its budget, goes on, and leaves a pool."""

import pandas as pd
import pytest

from workbench.models import load_policy
from workbench.problems import frozen
from workbench.recipes import RECIPES, policies

SIZES = {"validation": 3, "test": 6}


@pytest.fixture
def small(monkeypatch):
    sizes = {"BUDGET": 5_000, "EVERY": 2, "TESTED": 2, "TRAINING": 40, "RFT_DRAWS": 5}
    sizes |= {"A_ROUND": {"group": 4, "problems": 3, "beta": 0.0}}
    for name, value in sizes.items():
        monkeypatch.setattr(policies, name, value)
    problems = {split: frozen.load(split)[:n] for split, n in SIZES.items()}
    monkeypatch.setattr(frozen, "load", problems.get)


ONE_OF_A_KIND = [
    "rft", "rewrites", "step-dpo", "grpo-process", "grpo-mixed", "grpo-both", "vine", "appo",
    "prm-held", "gold",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("arm", ONE_OF_A_KIND)
def test_every_arm_spends_its_budget_and_leaves_a_log_a_policy_and_a_pool(arm, small, tmp_path):
    said = RECIPES[f"{arm}-1"](tmp_path)
    assert said.startswith(f"{arm}, seed 1: ")
    place = tmp_path / "policies" / f"{arm}_1"
    log = pd.read_csv(place.with_suffix(".csv"))
    assert policies.BUDGET <= log["spent"].max() < 4 * policies.BUDGET
    assert log["spent"].is_monotonic_increasing and log["eval/accuracy"].notna().any()
    if "prm" in arm or arm in (
        "pure",
        "grpo-process",
        "grpo-mixed",
        "grpo-both",
        "likelihood-alone",
    ):
        assert log["train/verifier_tokens"].max() > 0
    results = frozen.read_pool(place.with_suffix(".npz"), frozen.load("test"))
    assert [len(result.rollouts) for result in results] == [2] * SIZES["test"]
    assert place.with_name(f"{arm}_1_greedy.npz").exists()
    assert load_policy(place).name
    assert RECIPES[f"{arm}-1"](tmp_path) == said  # read back, nothing is trained twice


def test_what_arms_left_is_found_by_arm_and_seed(monkeypatch, tmp_path):
    problems = frozen.load("test")[:2]
    pool = frozen.pool("base", "test", n=3)[:2]
    monkeypatch.setattr(policies, "SHIPPED_ARMS", tmp_path)
    for name in ("rft_0", "step-dpo_2", "rft_0_greedy", "unknown_0"):
        frozen.write_pool(pool, tmp_path / f"{name}.npz")
    found = policies.shipped_pools(problems)
    assert list(found) == [("rft", 0), ("step-dpo", 2)]
    assert list(policies.shipped_pools(problems, "_greedy")) == [("rft", 0)]
    texts = [[r.texts for r in result.rollouts] for result in found["step-dpo", 2]]
    assert texts == [[r.texts for r in result.rollouts] for result in pool]


def test_a_short_log_has_means_of_rounds_and_measures_as_they_were(tmp_path):
    rows = [
        {"round": i, "spent": 10 * i, "train/loss": float(i), "train/tokens": 5 * i}
        for i in range(1, 7)
    ]
    for at, found in ((1, 0.25), (3, 0.75)):
        rows[at]["eval/accuracy"] = found
    policies.write_rounds(rows, tmp_path / "log.csv", every=5)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["round"].tolist() == [5, 6] and log["spent"].tolist() == [50, 60]
    assert log["train/loss"].tolist() == [3.0, 6.0]
    assert log["train/tokens"].tolist() == [25, 30]  # they add up
    assert log["eval/accuracy"].fillna(0).tolist() == [0.75, 0.0]
