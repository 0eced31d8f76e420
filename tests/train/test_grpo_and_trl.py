"""GRPO's loss and its gradient are those of TRL's own trainer, on tensors and through a model."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from rolled import rollouts, rows_of
from tiny import tiny_model, tiny_policy
from torch import tensor

from workbench.train import clipped, rl, sft
from workbench.train.grpo import GRPO
from workbench.train.learner import Batch
from workbench.train.rl import token_logps

pytestmark = pytest.mark.usefixtures("one_thread")
TRL_NAMES = [("grpo", "sequence"), ("dapo", "token"), ("bnpo", "token"), ("dr_grpo", "constant")]


class Here:
    """What TRL asks of accelerate, on one process."""

    num_processes, is_main_process = 1, True
    gather = staticmethod(lambda x: x)
    reduce = staticmethod(lambda x, reduction: x)

    @staticmethod
    def autocast():
        return torch.autocast("cpu", enabled=False)


def trl_loss(model, inputs, loss_type, chosen, logps=None):
    """Loss and metrics of TRL's own GRPOTrainer; with `logps`, its model is left out."""
    trainer = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
    trainer = trainer.__new__(trainer)
    vars(trainer).update(
        model=model, accelerator=Here(), loss_type=loss_type, beta=chosen.beta,
        epsilon_low=chosen.epsilon,
        epsilon_high=chosen.epsilon if chosen.epsilon_high is None else chosen.epsilon_high,
        max_completion_length=chosen.constant_length, current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        importance_sampling_level="token", aux_loss_enabled=False, _entropy_bonus_enabled=False,
        _metrics={"train": (metrics := defaultdict(list))},
        args=SimpleNamespace(
            delta=None, use_bias_correction_kl=False, steps_per_generation=1, report_to=[]
        ),
    )  # fmt: skip
    if logps is not None:
        trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (
            logps,
            torch.zeros_like(logps),
            None,
        )
    return trainer._compute_loss(model, inputs), {
        name: values[0] for name, values in metrics.items()
    }


def fixed(seed=0):
    """Log-probabilities, old and reference ones, advantages and mask of 5 rollouts of 1 to 9
    tokens."""
    draw = torch.Generator().manual_seed(seed)
    logp = -torch.rand(5, 9, generator=draw).mul(3)
    old, ref = (logp + torch.randn(5, 9, generator=draw) * 0.4 for _ in range(2))
    mask = torch.arange(9) < tensor([9, 1, 4, 7, 6])[:, None]
    return logp.requires_grad_(), old, ref, torch.randn(5, generator=draw), mask


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("epsilon_high", [None, 0.28])
@pytest.mark.parametrize(("loss_type", "normalise"), TRL_NAMES)
def test_the_loss_is_that_of_trl_on_the_same_tensors(loss_type, normalise, epsilon_high, beta):
    chosen = GRPO(beta=beta, epsilon_high=epsilon_high, normalise=normalise, constant_length=12)
    logp, old, ref, advantages, mask = fixed()
    batch = {"sampled": logp[mask], "advantages": advantages, "old": old, "ref": ref}
    loss = clipped.objective(logp, mask, batch, chosen)
    (gradient,) = torch.autograd.grad(loss, logp)
    theirs = logp.detach().clone().requires_grad_()
    inputs = dict(
        prompt_ids=torch.zeros(5, 2).long(), prompt_mask=torch.ones(5, 2),
        completion_ids=torch.zeros(5, 9).long(), completion_mask=mask.long(), advantages=advantages,
        old_per_token_logps=old, ref_per_token_logps=ref, num_items_in_batch=mask.sum(),
    )  # fmt: skip
    expected, metrics = trl_loss(SimpleNamespace(training=True), inputs, loss_type, chosen, theirs)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(gradient, theirs.grad, rtol=0, atol=1e-6)
    watched = clipped.watch_tokens(logp, torch.zeros(5, 9), mask, batch)
    ratio, gains = (logp.detach() - old).exp()[mask], rl.per_token(advantages, mask)[mask]
    beyond = rl.beyond_clip(ratio, gains, chosen.epsilon, chosen.epsilon_high)
    expected = pytest.approx(metrics["clip_ratio/region_mean"], abs=1e-6)
    assert beyond.float().mean().item() == expected
    assert metrics["clip_ratio/region_mean"] > 0.1  # the clip was at work
    if beta:
        assert watched["kl"].mean().item() == pytest.approx(metrics["kl"], abs=1e-6)


@pytest.mark.parametrize(("loss_type", "normalise"), TRL_NAMES)
def test_model_to_gradient_trl_and_we_agree(loss_type, normalise):
    utils = pytest.importorskip("trl.trainer.utils")
    policy = tiny_policy(max_tokens=12)
    prefixes = rollouts(policy, n=2, temperature=0.7)
    rows = rows_of(policy, prefixes)
    chosen = GRPO(beta=0.1, temperature=0.7, normalise=normalise, constant_length=12)
    logp, entropy, mask = token_logps(policy.model, *sft.collate(rows, 0), 0.7)
    draw = torch.Generator().manual_seed(1)
    shifts = [torch.randn(len(prefix.ids), generator=draw) * 0.3 for prefix in prefixes]
    shift, advantages = rl.placed(torch.cat(shifts), mask), torch.randn(len(rows), generator=draw)
    told = logp.detach()
    batch = {"advantages": advantages, "old": told + shift, "ref": told - shift}
    loss = clipped.objective(logp, mask, batch, chosen)
    loss.backward()

    model = tiny_model()  # the same weights; prompts padded on the left, rollouts on the right
    utils.add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    start, width = max(start for _, start in rows), max(len(prefix.ids) for prefix in prefixes)

    def right(values):
        return torch.nn.utils.rnn.pad_sequence(values, batch_first=True)

    told = right([logp.detach()[b][mask[b]] for b in range(len(rows))])  # (B, width)
    shift, done = right(shifts), right([torch.ones(len(prefix.ids)) for prefix in prefixes]).long()
    inputs = dict(
        prompt_ids=tensor([[0] * (start - n) + ids[:n] for ids, n in rows]),
        prompt_mask=tensor([[0] * (start - n) + [1] * n for _, n in rows]),
        completion_ids=tensor([[*p.ids] + [0] * (width - len(p.ids)) for p in prefixes]),
        completion_mask=done,
        advantages=advantages, old_per_token_logps=told + shift, ref_per_token_logps=told - shift,
        num_items_in_batch=done.sum(),
    )  # fmt: skip
    expected, metrics = trl_loss(model.train(), inputs, loss_type, chosen)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=2e-6)
    assert entropy[mask].mean().item() == pytest.approx(metrics["entropy"], abs=1e-5)
    read = dict(zip(("input_ids", "labels"), sft.collate(rows, 0)))
    known = (
        read
        | batch
        | {"sampled": logp.detach()[mask], "advantages": rl.per_token(advantages, mask)}
    )
    _, watched = clipped.clipped_parts(policy.model, Batch(known, {}, 0, 0), chosen)
    found = {name: x.float().mean().item() for name, x in watched.items()}
    assert found["clip_fraction"] == pytest.approx(metrics["clip_ratio/region_mean"], abs=1e-6)
    assert found["clip_fraction"] > 0
    assert found["kl"] == pytest.approx(metrics["kl"], abs=1e-5)
    for (name, p), q in zip(policy.model.named_parameters(), model.parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5, msg=name)
