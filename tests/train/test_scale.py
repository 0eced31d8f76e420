"""Our rewards inside TRL's trainer: what it is given, an advantage a token, two processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bandit import PROBLEMS, bandit, even, even_steps
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.models.policy import HFPolicy
from workbench.train import rewards
from workbench.train.advantages import ends_of, process_advantages
from workbench.types import Problem

scale = pytest.importorskip("workbench.train.scale", reason="needs trl")
WORDS = ["<s>", "</s>", "How", "many", "?"]
LAUNCHED = Path(__file__).with_name("two_processes.py")


def arguments(folder, **options):
    from trl import GRPOConfig

    sizes = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 8}
    quiet = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True}
    return GRPOConfig(
        output_dir=str(folder), bf16=False, beta=0.0, seed=0, **sizes, **quiet, **options
    )


def test_trl_is_given_our_prompts_and_what_our_rewards_say():
    policy = bandit()
    data = scale.dataset_of(policy, PROBLEMS)
    assert data["number"][:] == [0, 1, 2, 3]
    ids = policy.tokenizer(data["prompt"][2]).input_ids
    assert ids == policy.prompt_ids(PROBLEMS[2])
    (own,) = policy.sample([rewards.Prefix(PROBLEMS[2])], [1])
    again = policy.written(PROBLEMS[2], own.ids)
    assert (again.texts, again.ids, again.stop) == (own.texts, own.ids, own.stop)
    asked = {"completion_ids": [list(own.ids)], "number": [2], "prompts": data["prompt"][2:3]}
    assert scale.as_trl(even, policy, PROBLEMS)(**asked) == [even(PROBLEMS[2], own)]
    in_all = scale.as_trl(even_steps, policy, PROBLEMS)(**asked)
    assert in_all == [pytest.approx(sum(even_steps(PROBLEMS[2], own)))]


def test_every_token_has_the_advantage_of_process_supervision(tmp_path):
    policy, seen = bandit(), []

    class Watched(scale.StepTrainer):
        def _generate_and_score_completions(self, inputs):
            out = super()._generate_and_score_completions(inputs)
            seen.append((inputs, out))
            return out

    before = policy.model.get_input_embeddings().weight.clone()
    args = arguments(tmp_path, max_steps=2, learning_rate=1e-3)
    Watched(policy, PROBLEMS, even_steps, args=args).train()
    assert not torch.equal(policy.model.get_input_embeddings().weight, before)
    inputs, out = seen[0]
    for start in (0, 4):
        rows, group = range(start, start + 4), []
        for i in rows:
            ids = out["completion_ids"][i][out["completion_mask"][i].bool()].tolist()
            group.append(policy.written(PROBLEMS[inputs[i]["number"]], ids))
        expected = process_advantages(
            [even_steps(r.problem, r) for r in group],
            list(map(ends_of, group)),
            [len(r.ids) for r in group],
        )
        for i, own in zip(rows, expected):
            given = out["advantages"][i]
            assert torch.allclose(given[: len(own)], own.to(given)) and not given[len(own) :].any()


def test_a_reward_a_rollout_is_refused(tmp_path):
    trainer = scale.StepTrainer(bandit(), PROBLEMS, even, args=arguments(tmp_path, max_steps=1))
    with pytest.raises(ValueError, match="needs a reward a step"):
        trainer.train()


@pytest.mark.slow
def test_two_processes_learn_together(tmp_path):
    """Half of the ids are even at first; both processes end with the same, better policy."""
    # `accelerate launch` starts several processes on CPUs by MPI alone; torchrun's are the same
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", str(LAUNCHED), str(tmp_path)]
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests.parent), str(tests)])
    where = {"env": os.environ | {"PYTHONPATH": path}, "timeout": 600, "text": True}
    done = subprocess.run(command, capture_output=True, check=False, **where)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [(tmp_path / f"process_{number}").read_text().split() for number in (0, 1)]
    (before, after, digest), (*_, other) = said
    assert float(after) > float(before) + 0.15 and digest == other


def test_trl_reads_one_beginning_of_text():
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["<s>", "</s>"])
    core.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    sizes = dict.fromkeys(("hidden_size", "intermediate_size"), 16)
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": len(WORDS)}
    model = LlamaForCausalLM(LlamaConfig(**sizes, bos_token_id=0, eos_token_id=1))
    policy = HFPolicy(model, tokenizer, templates={"solve": "<s>{question}"})  # as Llama 3's chat
    problem = Problem("p", "math", "How many ?", "1")
    (text,) = scale.dataset_of(policy, [problem])["prompt"]
    assert tokenizer(text).input_ids == policy.prompt_ids(problem) == [0, 2, 3, 4]
