r"""What large runs cost: tokens, GPU-hours and dollars, from assumptions that all have a name.

A run is so many tokens written (sampled one by one), read (prompts, prefixes, whatever a verifier
judges) and trained on; `roofline` says how many of each a GPU does in a second. With n rollouts a
prefix, M steps and L tokens a solution, counted per problem:

- **OmegaPRM** (Luo et al. 2024, arXiv 2406.06592): n rollouts of the question; then each search
  probes $\lfloor\log_2(M - 1)\rfloor + 1$ prefixes, half a solution long on average, so that it
  writes n · L/2 tokens a probe. Nodes that searches share are counted anew: an upper bound.
- **Math-Shepherd** (Wang et al. 2023, arXiv 2312.08935): n rollouts from each of M - 1 prefixes.
- **GRPO** (Shao et al. 2024, arXiv 2402.03300): a rollout is written, read by the policy for its
  log-probabilities and by each frozen copy, and trained on once.
- **Search** in M steps of w · e children writes w · e · L. A verifier that keeps key-values of
  prefixes reads as much; one that does not reads $\sum_t t L / M = L (M + 1) / 2$ for each L.

Left out: what is computed on CPUs, loading, failures, and the trials before a run that works. A
published run took two to three times what this says (tests/analyse/test_costs.py). Used by
`python -m workbench costs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from workbench.analyse.roofline import GPU, GPUS, MODEL_SIZES, Rates, Shares, Size, expected_rates


@dataclass(frozen=True)
class Workload:
    """How long things are and how many: our choices, for MATH and settings like the papers'."""

    prompt: int = 200  # tokens of a question with its instructions
    tokens: int = 600  # of a solution
    steps: int = 12  # of a solution
    problems: int = 100_000  # to label
    n: int = 8  # rollouts a prefix
    searches: int = 20  # binary searches a problem; the paper's limit is 100
    solutions: int = 8  # a problem, that Math-Shepherd labels
    labels: int = 500_000  # that a verifier learns from
    epochs: float = 1.0
    rounds: int = 1000  # of GRPO
    questions: int = 128  # of a round
    group: int = 8
    copies: int = 1  # frozen ones that read rollouts too, for the KL term
    # share of a round that GPUs work; a run of NeMo RL, whose rounds take twice what its tokens do:
    # https://github.com/NVIDIA-NeMo/RL/blob/main/docs/about/performance-summary.md
    busy: float = 0.5
    test: int = 500  # problems of MATH-500
    samples: int = 256
    width: int = 16  # beams, each of which gets `expand` children a step
    expand: int = 16


@dataclass(frozen=True)
class Tokens:
    """Of a run: written, read and trained on."""

    written: float = 0.0
    read: float = 0.0
    trained: float = 0.0

    def __mul__(self, times: float) -> Tokens:
        return Tokens(self.written * times, self.read * times, self.trained * times)

    def hours(self, rates: Rates) -> float:
        """Of one GPU that is always busy; eight take an eighth of it, and cost the same.

        >>> Tokens(written=3.6e6, read=3.6e7).hours(Rates(written=1000, read=1e4, trained=5000))
        2.0
        """
        seconds = self.written / rates.written + self.read / rates.read
        return (seconds + self.trained / rates.trained) / 3600


# -- what runs take --------------------------------------------------------------------------------


def probes(steps: int) -> int:
    """Prefixes that a binary search for the first error looks at, at most; the end is known.

    >>> [probes(m) for m in (1, 2, 8, 9, 16, 64)]
    [0, 1, 3, 4, 4, 6]
    """
    return (steps - 1).bit_length()


def omegaprm_tokens(work: Workload) -> Tokens:
    """Labels by binary search, for all problems: grows with log2 of the steps.

    >>> omegaprm_tokens(Workload(0, tokens=100, steps=9, problems=1, n=8, searches=10))
    Tokens(written=16800.0, read=2000.0, trained=0.0)
    """
    met, half = work.searches * probes(work.steps), work.tokens / 2
    written = work.n * (work.tokens + met * half)
    return Tokens(written, work.prompt + met * (work.prompt + half)) * work.problems


def shepherd_tokens(work: Workload) -> Tokens:
    """Labels of every step of `solutions` a problem: grows with the steps.

    >>> shepherd_tokens(Workload(0, tokens=100, steps=9, problems=1, n=8, solutions=1))
    Tokens(written=3300.0, read=400.0, trained=0.0)
    """
    met, half = work.solutions * (work.steps - 1), work.tokens / 2
    written = work.solutions * work.tokens + work.n * met * half
    return Tokens(written, work.prompt + met * (work.prompt + half)) * work.problems


def prm_tokens(work: Workload) -> Tokens:
    """A verifier trained whole on solutions with a label at each step.

    >>> prm_tokens(Workload(prompt=20, tokens=80, steps=10, labels=1000, epochs=2)).trained
    20000.0
    """
    return Tokens(trained=work.labels / work.steps * (work.prompt + work.tokens) * work.epochs)


def grpo_tokens(work: Workload) -> Tokens:
    """All rounds: a question is read once for its group, a rollout by policy and copies.

    >>> grpo_tokens(Workload(prompt=20, tokens=80, rounds=1, questions=1, group=2))
    Tokens(written=160, read=420, trained=200)
    """
    whole = work.group * (work.prompt + work.tokens)
    read = work.prompt + (1 + work.copies) * whole
    return Tokens(work.group * work.tokens, read, whole) * (work.rounds * work.questions)


def pool_tokens(work: Workload) -> Tokens:
    """Samples of every test problem, each read once by a verifier that keeps the question.

    >>> pool_tokens(Workload(prompt=20, tokens=80, test=1, samples=4))
    Tokens(written=320, read=360, trained=0.0)
    """
    written = work.samples * work.tokens
    return Tokens(written, written + 2 * work.prompt) * work.test


def beam_tokens(work: Workload, *, reuse: bool = True) -> Tokens:
    """Beam search by a verifier, which with `reuse` keeps the key-values of prefixes.

    >>> beam_tokens(Workload(prompt=0, tokens=80, steps=4, test=1, width=1, expand=2))
    Tokens(written=160, read=160, trained=0.0)
    >>> beam_tokens(Workload(0, tokens=80, steps=4, test=1, width=1, expand=2), reuse=False).read
    400.0
    """
    children = work.width * work.expand  # a step
    read: float = 2 * work.prompt + children * work.tokens
    if not reuse:
        again = work.steps * work.prompt + work.tokens * (work.steps + 1) / 2
        read = work.prompt + children * again
    return Tokens(children * work.tokens, read) * work.test


RUNS: dict[str, Callable[[Workload], Tokens]] = {
    "OmegaPRM labels": omegaprm_tokens,
    "Math-Shepherd labels": shepherd_tokens,
    "PRM training": prm_tokens,
    "GRPO": grpo_tokens,
    "samples with a PRM": pool_tokens,
    "beam search with a PRM": beam_tokens,
}


@dataclass(frozen=True)
class Plan:
    """All assumptions of a cost; `measured` rates stand for those that the roofline expects."""

    gpu: GPU = GPUS["h100"]
    size: Size = MODEL_SIZES["7b"]
    shares: Shares = field(default_factory=Shares)
    work: Workload = field(default_factory=Workload)
    measured: dict[str, float] = field(default_factory=dict)  # written, read, trained

    @property
    def rates(self) -> Rates:
        context = self.work.prompt + self.work.tokens / 2  # on average, while it is written
        return replace(expected_rates(self.gpu, self.size, self.shares, context), **self.measured)

    def hours(self, run: str) -> float:
        """GPU-hours of one of `RUNS`."""
        hours = RUNS[run](self.work).hours(self.rates)
        return hours / self.work.busy if run == "GRPO" else hours
