"""One round of GRPO: ours beside TRL's GRPOTrainer, and where our time goes.

    python benchmarks/grpo.py [--policy base] [--problems 16] [--group 8] [--rounds 4]

Same model, problems, lengths, dtype, learning rate and number of updates, one after the other in
one process; the first round of each is not counted. Rewards are right answers, graded by the same
function. Times on a shared machine are noisy: read the ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from workbench.models import load_policy
from workbench.problems import quantities
from workbench.train import grpo as ours
from workbench.train import rounds
from workbench.train.grpo import GRPO, RECIPE
from workbench.train.rewards import answer


@contextmanager
def stopwatch(spent: Counter, name: str, place, attribute: str) -> Iterator[None]:
    """Add to `spent[name]` the seconds that a function of a module takes."""
    whole = getattr(place, attribute)

    def timed(*args, **options):
        began = time.perf_counter()
        try:
            return whole(*args, **options)
        finally:
            spent[name] += time.perf_counter() - began

    setattr(place, attribute, timed)
    try:
        yield
    finally:
        setattr(place, attribute, whole)


def by_us(policy, problems, options: argparse.Namespace) -> tuple[list[float], Counter]:
    """Seconds of each round but the first, and what they went to."""
    settings = GRPO(group=options.group, problems=options.problems, beta=0.0)
    spent, seconds = Counter(), []
    with (
        stopwatch(spent, "rollouts", rounds, "sampled"),
        stopwatch(spent, "rewards", rounds, "earned_by"),
        stopwatch(spent, "update", ours, "several"),
    ):
        began = time.perf_counter()
        for _ in ours.grpo(
            policy, problems, settings=settings, recipe=RECIPE, seed=0, rounds=options.rounds + 1
        ):
            seconds.append(time.perf_counter() - began)
            if len(seconds) == 1:
                spent.clear()
            began = time.perf_counter()
    return seconds[1:], spent


def by_trl(policy, problems, options: argparse.Namespace) -> list[float]:
    """Seconds of each round but the first."""
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from workbench.train.scale import as_trl, dataset_of

    seconds, began = [], [0.0]

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            began[0] = time.perf_counter()

        def on_step_end(self, args, state, control, **_):
            seconds.append(time.perf_counter() - began[0])

    rows = options.problems * options.group
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            output_dir=folder, max_steps=options.rounds + 1, per_device_train_batch_size=rows,
            num_generations=options.group, max_completion_length=policy.max_tokens, beta=0.0,
            learning_rate=RECIPE.learning_rate, temperature=1.0, use_cpu=True, bf16=False,
            report_to=[], logging_strategy="no", save_strategy="no", disable_tqdm=True, seed=0,
            gradient_checkpointing=False, loss_type="grpo",
        )  # fmt: skip
        GRPOTrainer(
            model=policy.model, processing_class=policy.tokenizer, args=args,
            train_dataset=dataset_of(policy, problems), callbacks=[Watch()],
            reward_funcs=[as_trl(answer, policy, problems)],
        ).train()  # fmt: skip
    return seconds[1:]


def main(words: list[str] | None = None) -> None:
    """Run both, print as they come."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--policy", default="base")
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args(words)
    count = options.problems * (options.rounds + 1)
    problems = quantities.generate(count, levels=range(3, 7), seed=1, split="train")
    seconds, spent = by_us(load_policy(options.policy), problems, options)
    mine = float(np.median(seconds))
    print(f"ours: {mine:.2f} s a round", flush=True)
    for name, part in spent.most_common():
        print(f"  {name:10} {part / sum(seconds):.0%}", flush=True)
    theirs = float(np.median(by_trl(load_policy(options.policy), problems, options)))
    print(f"TRL:  {theirs:.2f} s a round, {theirs / mine:.1f} times as long", flush=True)


if __name__ == "__main__":
    main()
