"""VinePPO's credit: values from completions, against a policy whose chances are known, and their
cost."""

import numpy as np
import pytest
import torch
from bandit import PROBLEMS, bandit, even, even_steps
from scripted import Walker

from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.train import vine
from workbench.train.advantages import ends_of
from workbench.train.drawn import Drawn
from workbench.train.grpo import CREDIT, GRPO
from workbench.train.rewards import answer
from workbench.train.vine import completed, of_completions, values_of
from workbench.types import Meter, Prefix, SearchResult, Step

WALKS = quantities.generate(3, levels=[3], seed=7)


def walked(policy, reward=answer, n=4):
    results = solve(WALKS, METHODS["sample"], policy=policy, seed=2, n=n)
    right = torch.tensor([[float(is_right(x.problem, r)) for r in x.rollouts] for x in results])
    return Drawn(results, right.flatten().tolist(), right, policy, reward, seed=9)


def test_values_are_the_mean_reward_of_completions_and_a_lost_prefix_is_worth_nothing():
    policy = Walker(WALKS, p=0.2)
    drawn = walked(policy)
    known = completed(drawn, drawn.rollouts, n=64, temperature=1.0)
    seen = set()
    for rollout in drawn.rollouts:
        gold = policy.gold[rollout.problem.id]
        values = values_of(rollout, known)
        assert len(values) == len(rollout.steps) - 1
        for t, value in enumerate(values, 1):
            whole = list(rollout.texts[:t]) == gold[:t]
            chance = 0.8 ** (len(gold) - 1 - t) if whole else 0.0  # the answer line is never missed
            assert value == pytest.approx(chance, abs=0.2 if whole else 0)
            seen.add(whole)
    assert seen == {True, False}


def test_advantages_telescope_within_a_rollout_and_fall_where_the_fault_is():
    policy = Walker(WALKS, p=0.3)
    drawn = walked(policy, n=6)
    settings = GRPO(advantage="vine", completions=64, group=6)
    advantages = of_completions(drawn, settings)
    rewards = drawn.right.numpy()
    for i, (rollout, tokens) in enumerate(zip(drawn.rollouts, advantages)):
        p, g = divmod(i, 6)
        start = np.delete(rewards[p], g).mean()  # of the others
        ends = ends_of(rollout)
        steps = tokens[ends]  # one number a step, the same for all of its tokens
        assert len(tokens) == len(rollout.ids)
        assert steps.sum().item() == pytest.approx(rewards[p, g] - start, abs=1e-5)
        gold = policy.gold[rollout.problem.id]
        faults = [t for t, text in enumerate(rollout.texts) if text != gold[t]]
        # after the first fault nothing changes any more; it takes away all there was
        for later in steps[faults[0] + 1 :] if faults else ():
            assert later.item() == 0.0
        if faults and faults[0] > 0:
            assert steps[faults[0]] < -0.1
    assert CREDIT["vine"] is of_completions


def test_two_processes_complete_half_of_the_problems_each(monkeypatch):
    policy = Walker(WALKS, p=0.3)
    one, parts = walked(policy), []
    alone = completed(one, one.rollouts, n=3, temperature=1.0)
    monkeypatch.setattr(vine, "together", lambda make: parts.append(make()) or parts[-1:])
    for process in range(2):
        monkeypatch.setattr(vine, "this_process", lambda process=process: (process, 2))
        completed(walked(policy), one.rollouts, n=3, temperature=1.0)
    assert sorted(map(len, parts)) == [1, 2]  # of three problems
    monkeypatch.setattr(vine, "together", lambda make: parts)
    both = walked(policy)
    assert completed(both, both.rollouts, n=3, temperature=1.0) == alone
    assert both.cost.generated == one.cost.generated > 0


def test_what_is_drawn_is_paid_and_each_prefix_is_completed_once():
    policy = Walker(WALKS, p=0.5)
    drawn = walked(policy)
    rows = policy.rows
    completed(drawn, drawn.rollouts, n=3, temperature=1.0)
    prefixes = {(r.problem.id, r.texts[:t]) for r in drawn.rollouts for t in range(1, len(r.steps))}
    assert (
        policy.rows - rows == 3 * len(prefixes) < 3 * sum(len(r.steps) - 1 for r in drawn.rollouts)
    )
    assert drawn.cost.generated > 0


def test_twins_share_completions_and_strangers_with_one_id_are_refused():
    step = Step("a", (4,), (-1.0,))
    one, other = WALKS[:2]
    twin = Prefix(one, (step, step), "end")
    stranger = Prefix(type(one)(one.id, one.kind, other.question, other.answer), (step,), "end")
    drawn = Drawn([SearchResult(one, (twin, twin))], [0.0, 0.0], torch.zeros(1, 2), bandit(), even)
    assert len(completed(drawn, [twin, twin], n=2, temperature=1.0)) == 1
    with pytest.raises(ValueError, match=f"two problems have the id {one.id!r}"):
        completed(drawn, [twin, stranger], n=2, temperature=1.0)


def test_rollouts_of_one_step_need_no_completions_and_get_what_leave_one_out_gives():
    step = Step("a", (4, 5), (-1.0, -1.0))
    alone = tuple(Prefix(PROBLEMS[0], (step,), "end") for _ in range(3))
    right, cost = torch.tensor([[1.0, 0.0, 0.0]]), Meter()
    drawn = Drawn([SearchResult(PROBLEMS[0], alone)], [1.0, 0.0, 0.0], right, None, even, cost=cost)
    drawn = Drawn(**{**vars(drawn), "policy": Walker(WALKS)})
    advantages = of_completions(drawn, GRPO(advantage="vine"))
    assert [a.tolist() for a in advantages] == [[1.0] * 2, [-0.5] * 2, [-0.5] * 2]
    assert cost.generated == 0


def test_a_reward_a_step_has_no_value_of_a_prefix():
    policy = Walker(WALKS)
    drawn = walked(policy, reward=even_steps)
    with pytest.raises(ValueError, match="values of prefixes need a reward a rollout"):
        completed(drawn, drawn.rollouts, n=2, temperature=1.0)
