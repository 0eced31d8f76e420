"""Costs against published runs, and what they count against the labellers and searches here."""

from dataclasses import replace

import numpy as np
import pytest

from workbench.analyse.costs import (
    RUNS,
    Plan,
    Tokens,
    Workload,
    beam_tokens,
    omegaprm_tokens,
    probes,
    shepherd_tokens,
)
from workbench.analyse.roofline import MODEL_SIZES, Rates
from workbench.supervise.omegaprm import bisection


def test_a_round_of_grpo_as_nemo_rl_measured_it():
    """97.7 s: 2,048 rollouts of Llama 3.1 8B, 1,060 tokens with their prompts, on 16 H100 (the page
    named at `busy`, which was chosen by it; how long the prompts are it does not say)."""
    one = Workload(prompt=100, tokens=960, rounds=1, questions=64, group=32)
    seconds = Plan(size=MODEL_SIZES["llama-8b"], work=one).hours("GRPO") * 3600 / 16
    assert 97.7 / 1.3 < seconds < 97.7 * 1.3


def test_grpo_as_simple_rl_zoo_ran_it():
    """About 100 rounds of 1,024 questions x 8 rollouts with a 7B in 15 hours of 16 H100
    (https://github.com/hkust-nlp/simpleRL-reason); lengths are not given: ours. Within three."""
    work = Workload(rounds=100, questions=1024, group=8)
    assert 240 / 3 < Plan(work=work).hours("GRPO") < 240


def test_labels_as_omegaprm_collected_them():
    """1.5 million annotations (arXiv 2406.06592) on the 12,000 training problems of MATH (as arXiv
    2305.20050 splits it), 100 searches each at most. Prefixes met twice make ours an upper bound.
    """
    work = Workload(problems=12_000, searches=100)
    met = work.problems * work.searches * probes(work.steps)
    assert 1.5e6 < met < 4 * 1.5e6


# No GPU-hours were found published for labelling, for training a PRM, or for best of 256.


@pytest.mark.parametrize("steps", range(1, 70))
def test_probes_are_those_of_the_labeller_at_worst(steps):
    """The whole solution is known to be wrong, so that steps - 1 prefixes are searched."""
    counts = []
    for first in range(steps):
        search, value, count = bisection(steps - 1), None, 0
        while True:
            try:
                value = float(search.send(value) < first)
            except StopIteration:
                break
            count += 1
        counts.append(count)
    assert max(counts) == probes(steps)


def test_labels_grow_with_the_logarithm_of_the_steps_or_with_the_steps():
    by_steps = [replace(Workload(), steps=2**i + 1) for i in (2, 4, 6)]
    written = np.array(
        [[f(w).written for f in (omegaprm_tokens, shepherd_tokens)] for w in by_steps]
    )
    omega, shepherd = np.diff(written, axis=0).T
    assert omega[0] == pytest.approx(omega[1])  # two doublings, two probes more
    assert shepherd[1] == pytest.approx(4 * shepherd[0])


def test_every_step_of_shepherd_is_completed_to_the_end():
    work = Workload(prompt=7, tokens=100, steps=10, problems=3, n=4, solutions=2)
    rest = sum(100 - 10 * t for t in range(1, 10))  # tokens behind each prefix
    read = sum(7 + 10 * t for t in range(1, 10))
    expected = Tokens(written=2 * (100 + 4 * rest), read=7 + 2 * read) * 3
    assert shepherd_tokens(work) == expected


def test_a_verifier_without_reuse_reads_every_prefix_anew():
    work = Workload(prompt=7, tokens=120, steps=4, test=2, width=3, expand=2)
    policy = 7
    anew = sum(6 * (7 + 30 * t) for t in range(1, 5))
    assert beam_tokens(work, reuse=False).read == 2 * (policy + anew)
    assert beam_tokens(work).read == 2 * (policy + 7 + 6 * 120)


def test_rates_of_ones_own_replace_those_of_the_roofline():
    slow = Plan(measured={"written": 100.0})
    assert slow.rates == replace(Plan().rates, written=100.0)
    assert all(slow.hours(run) >= Plan().hours(run) for run in RUNS)


def test_as_many_gpu_hours_as_the_parts():
    tokens, rates = Tokens(7200, 7200, 7200), Rates(1, 2, 4)
    assert tokens.hours(rates) == pytest.approx(2 + 1 + 0.5)
