"""What each of two processes runs in test_scale: a tiny policy learns to write even ids."""

import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from bandit import PROBLEMS, bandit, even, even_steps
from trl import GRPOConfig

from workbench.drive import solve
from workbench.search import METHODS
from workbench.train.scale import StepTrainer


def judged(policy):
    policy.engine.cache.clear()
    results = solve(PROBLEMS, METHODS["sample"], policy=policy, n=16, seed=5)
    return np.mean([even(result.problem, r) for result in results for r in result.rollouts])


def main(folder):
    torch.set_num_threads(1)
    policy = bandit()
    before = judged(policy)
    args = GRPOConfig(
        output_dir=folder,
        max_steps=40,
        learning_rate=1e-2,
        per_device_train_batch_size=16,
        num_generations=8,
        max_completion_length=8,
        beta=0.0,
        seed=0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        ddp_backend="gloo",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    StepTrainer(policy, PROBLEMS, even_steps, args=args).train()
    policy.model.eval()
    weights = torch.cat([p.detach().flatten() for p in policy.model.parameters()])
    digest = sha256(weights.numpy().tobytes()).hexdigest()[:12]
    number = PartialState().process_index
    # a file each: lines that two processes print at once may run into one another
    Path(folder, f"process_{number}").write_text(f"{before:.3f} {judged(policy):.3f} {digest}")


if __name__ == "__main__":
    main(sys.argv[1])
