"""What each of two processes runs in test_loop, and one alone: a PRM, and GRPO."""

import sys
from itertools import islice

import torch
from bandit import PROBLEMS, run, weights
from bandit import bandit as policy_of
from tiny import TOKENIZER, tiny_model

from workbench.train.learner import Recipe, this_process
from workbench.train.prm import train_prm
from workbench.types import LabelledSolution

PRM = Recipe(rank=0, adam_epsilon=1e-3, epochs=2, batch_tokens=300, micro_tokens=100)


def prm():
    """The weights of a PRM after some updates."""
    texts = [(problem, tuple(problem.solution.split("\n"))) for problem in PROBLEMS]
    rows = [
        LabelledSolution(p, t, (1,) * (len(t) - 1) + (i % 2,)) for i, (p, t) in enumerate(texts)
    ]
    verifier, _ = train_prm(tiny_model(), TOKENIZER, rows, recipe=PRM, seed=0)
    return weights(verifier)


def grpo(checkpoints, rounds=3):
    """Rows, weights and the number of rollouts that this process drew, after some of 3 rounds.

    Three of four problems a round, so that one comes twice in a later round.
    """
    policy, drawn = policy_of(), []
    sample = policy.sample
    policy.sample = lambda prefixes, *a, **o: drawn.extend(prefixes) or sample(prefixes, *a, **o)
    more = {"checkpoints": checkpoints, "evaluations": 3}
    rows = list(islice(run("grpo", policy, rounds=3, problems=3, more=more), rounds))
    return rows, weights(policy), len(drawn)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = sys.argv[1]
    made = {"prm": prm(), "grpo": grpo(f"{folder}/shared", rounds=2)}
    torch.save(made, f"{folder}/made-{this_process()[0]}.pt")
