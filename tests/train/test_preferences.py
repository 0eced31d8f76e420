"""Preferences: DPO against TRL, pairs at the first bad step of a policy whose faults are known."""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bandit import FAST, PROBLEMS, bandit, even
from scripted import Walker
from tiny import tiny_model
from torch import tensor

from workbench.drive import solve
from workbench.problems import is_right, quantities
from workbench.search import METHODS
from workbench.train import preferences as ours
from workbench.train.clipped import logps_of_batch, update
from workbench.train.drawn import Drawn
from workbench.train.learner import Learner
from workbench.train.preferences import DPO, Preference, dpo, dpo_loss, first_bad
from workbench.train.rewards import answer
from workbench.types import Prefix, Step

pytestmark = pytest.mark.usefixtures("one_thread")
WALKS = quantities.generate(4, levels=[3], seed=7)


def walked(policy, n=6):
    results = solve(WALKS, METHODS["sample"], policy=policy, seed=2, n=n)
    right = torch.tensor([[float(is_right(x.problem, r)) for r in x.rollouts] for x in results])
    return Drawn(results, right.flatten().tolist(), right, policy, answer, seed=9)


# -- pairs -----------------------------------------------------------------------------------------


def test_a_pair_stands_at_the_first_bad_step_and_chooses_a_right_one():
    policy = Walker(WALKS, p=0.3)
    drawn = walked(policy, n=24)
    groups = ours.step_pairs(drawn, DPO(completions=32, most=6))
    pairs = [pair for group in groups for pair in group]
    assert len(groups) == 4 and len(pairs) > 4
    for pair in pairs:
        gold, t = policy.gold[pair.before.problem.id], len(pair.before.steps)
        assert list(pair.before.texts) == gold[:t]  # nothing wrong before it
        assert [step.text for step in pair.chosen] == [gold[t]]
        assert pair.rejected[0].text != gold[t] and len(pair.rejected) == 1
        # what it lost: the whole chance that there was
        chance = 0.7 ** (len(gold) - 1 - t)
        assert pair.weight == pytest.approx(chance, abs=0.3) and pair.weight > 0
    for result, group in zip(drawn.results, groups):
        wrong = {r.texts for r in result.rollouts if not is_right(result.problem, r)}
        assert len(group) <= len(wrong) and all(p.before.problem == result.problem for p in group)


def prefix(*texts, stop="end"):
    return Prefix(PROBLEMS[0], tuple(Step(t, (ord(t[0]),), (-1.0,)) for t in texts), stop)


def known_of(**values):
    """Completions, by the letters of the prefix: one that goes on with "y" and earns its value."""
    return {
        (PROBLEMS[0].id, tuple(letters)): [(prefix(*letters, "y"), x), (prefix(*letters, "z"), 0.0)]
        for letters, x in values.items()
    }


def test_the_first_of_several_low_values_counts_and_its_edges():
    start = [(prefix("y"), 1.0), (prefix("a", "b", "c", "d"), 0.0)]
    wrong = prefix("a", "b", "c", "d")
    known = known_of(a=1.0, ab=0.6, abc=0.0)
    pair = first_bad(wrong, 0.0, start, known, 0.0)
    # completions of "ab" are worth .3, those of "abc" nothing: "c" is bad, "y" is better
    assert (pair.before.texts, pair.rejected[0].text) == (("a", "b"), "c")
    assert pair.chosen[0].text == "y" and pair.weight == pytest.approx(0.3)
    # the last step is judged by the rollout's own reward
    pair = first_bad(wrong, 0.0, start, known_of(a=1.0, ab=1.0, abc=1.0), 0.0)
    assert pair.rejected[0].text == "d" and pair.before.texts == ("a", "b", "c")
    # the first step: the group's rollouts are the completions of the question
    pair = first_bad(wrong, 0.0, start, known_of(a=0.0, ab=0.0, abc=0.0), 0.0)
    assert (pair.before.texts, pair.chosen[0].text, pair.rejected[0].text) == ((), "y", "a")
    # no chance from the start; nothing else was tried; nothing better was found
    assert first_bad(wrong, 0.0, [(wrong, 0.0)], known, 0.0) is None
    same = {(PROBLEMS[0].id, ("a",)): [(prefix("a", "b"), 0.0)]}
    assert first_bad(prefix("a", "b"), 0.0, [(wrong, 1.0)], same | known_of(), 0.0) is None
    assert first_bad(wrong, 0.0, start, known_of(a=1.0, ab=0.6, abc=0.4), -1.0) is None


def test_whole_pairs_are_of_one_problem_and_the_better_one_is_chosen():
    policy = bandit()
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=5, n=4)
    earned = [even(x.problem, r) for x in results for r in x.rollouts]
    drawn = Drawn(results, earned, torch.zeros(4, 4), policy, even, seed=3)
    groups = ours.whole_pairs(drawn, DPO(pairs="whole", most=3))
    assert groups == ours.whole_pairs(drawn, DPO(pairs="whole", most=3))
    for result, group in zip(results, groups):
        rewards = {r.ids: even(r.problem, r) for r in result.rollouts}
        assert 1 <= len(group) <= 3 and len(set(group)) == len(group)
        for pair in group:
            chosen, rejected = (
                rewards[tuple(i for step in way for i in step.ids)]
                for way in (pair.chosen, pair.rejected)
            )
            assert chosen - rejected == pytest.approx(pair.weight) and pair.weight > 0
            assert not pair.before.steps and pair.before.problem == result.problem
    equal = Drawn(results, [0.5] * 16, torch.zeros(4, 4), policy, even)
    assert ours.whole_pairs(equal, DPO(pairs="whole")) == [[]] * 4


# -- the loss --------------------------------------------------------------------------------------


def test_the_loss_by_its_definition():
    rng = np.random.default_rng(0)
    chosen, rejected, weights = rng.normal(size=5), rng.normal(size=5), rng.uniform(0.5, 2, size=5)
    told = dpo_loss(tensor(chosen), tensor(rejected), tensor(weights), beta=0.3)
    rows = zip(chosen, rejected, weights)
    each = [-w * np.log(1 / (1 + np.exp(-0.3 * (c - r)))) for c, r, w in rows]
    assert told.item() == pytest.approx(np.mean(each), abs=1e-12)


def pairs_of(policy):
    """Pairs of unequal lengths, the second behind two steps that both share."""
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, seed=5, n=2)
    pairs = []
    for i, result in enumerate(results):
        one, other = (r.steps for r in result.rollouts)
        shared = one[:2] if i == 1 and len(one) > 3 else ()
        before = Prefix(result.problem, shared)
        pairs.append(Preference(before, one[len(shared) :], other, 0.25 + i))
    return pairs


def with_reference(policy, settings, micro_tokens=None):
    batches, totals = ours.pair_batches(policy, pairs_of(policy), settings, micro_tokens)
    reference = tiny_model(seed=1, dtype=policy.model.dtype)
    for batch in batches:
        with torch.no_grad():
            batch.tensors["ref"] = logps_of_batch(reference, batch, settings)[0]
    return batches, totals, reference


class Here:
    """What TRL asks of accelerate, on one process."""

    device = torch.device("cpu")
    gather = gather_for_metrics = staticmethod(lambda x: x)


def test_model_to_gradient_trl_and_we_agree():
    """TRL's own DPOTrainer on the same pairs, prompts and prefixes: loss, margins, gradients."""
    trainer = pytest.importorskip("trl.trainer.dpo_trainer").DPOTrainer
    utils = pytest.importorskip("trl.trainer.utils")
    policy, settings = bandit(max_tokens=24), DPO(beta=0.3)
    (batch,), _, reference = with_reference(policy, settings)
    loss, watched = ours.pair_parts(policy.model, batch, settings)
    loss.backward()

    model = tiny_model()
    fields = ("log_probs", "entropy", "mean_logits", "is_top1")
    utils.add_fused_lm_head(model, outputs=fields)
    utils.add_fused_lm_head(reference)
    ids, labels = batch.tensors["input_ids"], batch.tensors["labels"]
    completion = torch.cat([torch.zeros(len(ids), 1), (labels != -100)[:, :-1]], 1).long()
    theirs = trainer.__new__(trainer)
    vars(theirs).update(
        model=model.train(), ref_model=reference, accelerator=Here(), beta=0.3,
        loss_types=["sigmoid"], loss_weights=[1.0], f_divergence_type="reverse_kl", ld_alpha=None,
        precompute_ref_logps=False, aux_loss_enabled=False, use_weighting=False,
        _total_train_tokens=0, _tp_size=1, _metrics={"train": (metrics := defaultdict(list))},
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, gradient_checkpointing=False),
    )  # fmt: skip
    last = completion.cumsum(1).argmax(1)  # of each row
    mask = (torch.arange(ids.shape[1]) <= last[:, None]).long()
    inputs = {"input_ids": ids, "attention_mask": mask, "completion_mask": completion}
    expected = theirs._compute_loss(model, inputs, return_outputs=False)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    margin = watched["margin"].mean().item()
    assert margin == pytest.approx(metrics["rewards/margins"][0], abs=1e-5) and abs(margin) > 1e-3
    told = watched["preferred"].float().mean().item()
    assert told == pytest.approx(metrics["rewards/accuracies"][0])
    for (name, p), q in zip(policy.model.named_parameters(), model.parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("weighted", [False, True])
def test_micro_batches_add_up_and_weights_have_mean_one(weighted):
    found = []
    for micro_tokens in (None, 100, 1):
        policy = bandit(dtype=torch.float64)
        settings = DPO(weighted=weighted)
        batches, totals, _ = with_reference(policy, settings, micro_tokens)
        weights = torch.cat([batch.tensors["weights"] for batch in batches])
        assert weights.mean().item() == pytest.approx(1.0) and (weights.std() > 0.1) == weighted
        learner = Learner(policy.model, FAST)
        metrics = update(learner, batches, totals, settings, 0.0, ours.pair_parts)
        gradient = torch.cat([p.grad.flatten() for p in policy.model.parameters()])
        found.append((len(batches), metrics, gradient))
    (one, metrics, gradient), *others = found
    assert one == 1 and others[-1][0] == 4 and gradient.norm() > 1e-4
    for _, again, same in others:
        torch.testing.assert_close(same, gradient, rtol=1e-6, atol=1e-9)
        assert again == pytest.approx(metrics, rel=1e-5)


def test_only_what_follows_the_prefix_carries_loss():
    policy = bandit(max_tokens=24)
    (pair,) = [pair for pair in pairs_of(policy) if pair.before.steps]
    (batch,), _ = ours.pair_batches(policy, [pair], DPO(), None)
    start = len(policy.prompt_ids(pair.before.problem)) + len(pair.before.ids)
    for row, way in zip(batch.tensors["labels"], (pair.chosen, pair.rejected)):
        ids = [i for step in way for i in step.ids]
        assert (row != -100).nonzero().flatten().tolist() == list(
            range(start - 1, start - 1 + len(ids))
        )
        assert row[row != -100].tolist() == ids


# -- training --------------------------------------------------------------------------------------


def test_before_anything_is_learnt_no_pair_is_told_apart():
    settings = DPO(pairs="whole", group=4, problems=2, updates=3)
    first, second = dpo(
        bandit(), PROBLEMS, settings=settings, recipe=FAST, seed=0, rounds=2, reward=even
    )
    assert 4 <= first["train/pairs"] <= 8 and first["train/loss"] < np.log(2)  # a mean over updates
    one = DPO(pairs="whole", group=4, problems=2)
    (row,) = dpo(bandit(), PROBLEMS, settings=one, recipe=FAST, seed=0, rounds=1, reward=even)
    assert row["train/loss"] == pytest.approx(np.log(2)) and row["train/margin"] == 0.0
    assert row["train/preferred"] == 0.0 < first["train/preferred"] and second["train/entropy"] > 0


def test_groups_without_a_pair_are_counted_and_the_round_goes_on():
    with pytest.warns(UserWarning, match="nothing to learn in this round: of 2 groups 0 .* 2 all"):
        (row,) = dpo(bandit(), PROBLEMS, settings=DPO(group=4, problems=2), seed=0, rounds=1)
    assert row["train/zero_signal"] == 1 and row["train/pairs"] == 0 and "train/loss" not in row


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DPO(pairs="tree"), "pairs='tree': use one of step, whole"),
        (lambda: DPO(beta=0.0), "beta=0: every pair would have the same loss"),
        (lambda: DPO(group=1), "group=1: need at least 2"),
        (lambda: DPO(most=0), "most=0: need at least 1"),
        (lambda: DPO(completions=0), "completions=0: need at least 1"),
        (lambda: dpo(None, [], seed=0, rounds=1), "no problems to train on"),
    ],
)
def test_what_makes_no_pairs_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
