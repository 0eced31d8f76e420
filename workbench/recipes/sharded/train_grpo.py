"""GRPO of a policy, all its weights, spread over GPUs: TRL's trainer, our rewards and problems.

    accelerate launch --config_file workbench/recipes/sharded/fsdp.yaml \\
        workbench/recipes/sharded/train_grpo.py --policy Qwen/Qwen2.5-7B-Instruct \\
        --problems problems.jsonl --verifier Qwen/Qwen2.5-Math-PRM-7B \\
        --output_dir runs/grpo7b --use_vllm --num_generations 8

All options of TRL's `GRPOConfig` work; with `--use_vllm` rollouts are written by vLLM on the same
GPUs (`pip install 'trl[vllm]'`). Without a verifier the reward is the right answer; with one it is
the score of every step (`train.scale`), and each GPU holds a whole copy of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import HfArgumentParser
from trl import GRPOConfig, GRPOTrainer

from workbench.models import load_policy, load_verifier
from workbench.problems import benchmarks
from workbench.train.rewards import answer, by_verifier
from workbench.train.scale import StepTrainer, as_trl, dataset_of


@dataclass
class GRPOAsked:
    """Which policy learns on which problems (a file for `benchmarks.load`), judged by whom."""

    policy: str
    problems: str
    verifier: str | None = None
    format: str = "jsonl"


def main(words: list[str] | None = None) -> None:
    """Train, and write a folder that `load_policy` reads."""
    asked, args = HfArgumentParser((GRPOAsked, GRPOConfig)).parse_args_into_dataclasses(words)
    device = str(args.device)  # of this process
    length = args.max_completion_length
    policy = load_policy(asked.policy, device=device, max_tokens=length)
    problems = benchmarks.load(asked.format, path=asked.problems)
    if asked.verifier:
        reward = by_verifier(load_verifier(asked.verifier, device=device), aggregate="steps")
        trainer = StepTrainer(policy, problems, reward, args=args)
    else:
        options = {"model": policy.model, "processing_class": policy.tokenizer, "args": args}
        rewards = [as_trl(answer, policy, problems)]
        data = dataset_of(policy, problems)
        trainer = GRPOTrainer(**options, reward_funcs=rewards, train_dataset=data)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()


if __name__ == "__main__":
    main()
