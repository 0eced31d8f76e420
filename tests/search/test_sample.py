"""Independent samples and greedy decoding, with a real tiny model."""

from tiny import tiny_policy

from workbench.drive import solve
from workbench.problems import quantities
from workbench.search import METHODS

PROBLEMS = quantities.generate(3, levels=[1, 2], seed=0)


def test_a_pool_has_n_whole_solutions_and_chooses_none():
    for result in solve(PROBLEMS, METHODS["sample"], policy=tiny_policy(), n=5):
        assert (
            len(result.rollouts) == 5
            and all(p.ended for p in result.rollouts)
            and result.best is None
        )


def test_best_of_one_is_the_sample():
    for result in solve(PROBLEMS, METHODS["sample"], policy=tiny_policy(), n=1):
        assert result.best == result.rollouts[0]


def test_greedy_is_one_solution_whatever_the_seed():
    one, other = (
        solve(PROBLEMS, METHODS["greedy"], policy=tiny_policy(), seed=seed) for seed in (0, 1)
    )
    assert [r.best.ids for r in one] == [r.best.ids for r in other]
    assert all(r.meter.samples == 1 and r.rollouts == (r.best,) for r in one)
