"""The frozen sets and pools: balanced, unique, never changed, and drawn by the shipped models."""

import numpy as np
import pytest

from workbench.drive import solve
from workbench.fingerprint import digest
from workbench.models import load_policy
from workbench.models.tokenizer import build_tokenizer
from workbench.problems import frozen, quantities
from workbench.problems.vocabulary import text_of, vocabulary
from workbench.search import METHODS
from workbench.types import Prefix, SearchResult

VALIDATION = "ef728881cde9ddda3d4e03ae867a6f5f"
TEST = "9a0c9cfa17da5e077498bbe665dafaf9"


@pytest.mark.parametrize("split", frozen.SIZES)
def test_levels_are_balanced_ids_unique_and_the_problems_of_this_split(split):
    problems = frozen.load(split)
    assert len({p.id for p in problems}) == len(problems) == frozen.SIZES[split]
    counts = np.bincount([p.level for p in problems])[2:]
    assert counts.sum() == len(problems) and counts.max() - counts.min() <= 1
    buckets = [int(quantities.signature(p), 16) % 100 for p in problems]
    assert set(buckets) <= set(quantities.SPLITS[split])


def test_the_problems_never_change():
    known = {split: digest([p.question for p in frozen.load(split)]) for split in frozen.SIZES}
    assert known == {"validation": VALIDATION, "test": TEST}


def test_text_of_is_what_the_tokenizer_decodes():
    tokenizer, rng = build_tokenizer(), np.random.default_rng(0)
    for size in rng.integers(0, 12, 300):
        ids = rng.integers(0, len(vocabulary()), size)
        ids = [int(i) for i in ids if vocabulary()[i] != "\n"]
        assert text_of(ids) == tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_a_pool_comes_back_as_it_was_sampled(tmp_path):
    problems = frozen.load("validation")[:3]
    results = solve(problems, METHODS["sample"], policy=load_policy("weak"), seed=0, n=4)
    frozen.write_pool(results, tmp_path / "pool.npz")
    with np.load(tmp_path / "pool.npz") as held:
        assert held["ids"].dtype == np.uint8 and held["lengths"].shape == (3, 4)
    for result in results:
        for rollout in result.rollouts:
            again = frozen.prefix_of(result.problem, rollout.ids)
            assert (again.texts, again.ids, again.stop) == (
                rollout.texts,
                rollout.ids,
                rollout.stop,
            )


def test_a_pool_that_finds_no_room_leaves_no_file(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    problem = frozen.load("validation")[0]
    result = SearchResult(problem, (Prefix.of(problem, ["a"]),))
    with pytest.raises(OSError, match="No space"):
        frozen.write_pool([result], tmp_path / "pool.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "split", "n"), frozen.all_pools())
def test_some_samples_of_each_pool_are_drawn_again(policy, split, n):
    """Float32 sums depend on the machine, so single trajectories may part; most must not."""
    shipped = frozen.pool(policy, split, n=n)
    sizes = {len(result.rollouts) for result in shipped}
    assert sizes == {n} and len(shipped) == (100 if n > 64 else frozen.SIZES[split])
    few = frozen.load(split)[:2]
    drawn = solve(few, METHODS["sample"], policy=load_policy(policy), seed=0, n=4)
    pairs = [(a.ids, b.ids) for x, y in zip(drawn, shipped) for a, b in zip(x.rollouts, y.rollouts)]
    assert np.mean([a == b for a, b in pairs]) >= 0.75


def test_all_pools_together_stay_small():
    files = [frozen.file(p, s, many=n > 64) for p, s, n in frozen.all_pools()]
    assert 0 < sum(file.stat().st_size for file in files) <= 8_000_000


def test_what_was_never_drawn_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="split 'train': use one of validation, test"):
        frozen.load("train")
    with pytest.raises(ValueError, match="policy 'strongest': use one of weak, base, strong"):
        frozen.pool("strongest", "test")
    monkeypatch.setattr(frozen, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"base_test\.npz is missing: python -m workbench recipe"):
        frozen.pool("base", "test")
    with pytest.raises(ValueError, match="n=65 samples of strong on test: there are 64"):
        frozen.pool("strong", "test", n=65)
