"""The nouns of the workbench: problems, prefixes, solutions, and the two requests of algorithms.

Everything else imports from here and this module imports nothing of ours. An algorithm (a search
method, a labeller, a roll-out collector) is a generator function for **one** problem that yields
`Sample` and `Score` requests; `workbench.drive.solve` answers them for many problems at once.
Taught in notebook 00.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar


@dataclass(frozen=True)
class Problem:
    """A question with a known final answer.

    `kind` names the family that grades it (`quantities`, `programs`, `stories`, `countdown`,
    `math`); `level` is its difficulty; `meta` holds what else its source says (subject, file, ...).
    """

    id: str
    kind: str
    question: str
    answer: str | None = None
    solution: str | None = None
    level: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def blind(self) -> Problem:
        """The problem as a search method may see it: without answer, solution and meta."""
        return replace(self, answer=None, solution=None, meta={})


@dataclass(frozen=True)
class Step:
    """One reasoning step: its text without the separator, and its token ids as sampled."""

    text: str
    ids: tuple[int, ...] = ()  # separator or end token included; empty when the step came as text
    logprobs: tuple[float, ...] = ()  # of each id, at the sampling temperature


@dataclass(frozen=True)
class Prefix:
    """A problem and the first t steps of a solution; `stop` says why it is over, if it is.

    >>> steps = Step("a", (5, 2), (-0.1, 0.0)), Step("b", (6, 2), (-0.5, 0.0))
    >>> p = Prefix(Problem("p1", "quantities", "How many?"), steps)
    >>> p.texts, p.ids, p.ended
    (('a', 'b'), (5, 2, 6, 2), False)
    """

    problem: Problem
    steps: tuple[Step, ...] = ()
    stop: Literal["end", "length"] | None = None  # end-of-sequence token, or out of room
    prompt: str = "solve"  # the template under which the steps were sampled

    @classmethod
    def of(cls, problem: Problem, texts: Sequence[str], *, ended: bool = False) -> Prefix:
        """A prefix from step texts alone (they are tokenised when a model first reads them)."""
        return cls(problem, tuple(Step(t) for t in texts), "end" if ended else None)

    @property
    def ended(self) -> bool:
        return self.stop is not None

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(step.text for step in self.steps)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(i for step in self.steps for i in step.ids)

    @property
    def logprobs(self) -> tuple[float, ...]:
        return tuple(x for step in self.steps for x in step.logprobs)


@dataclass(frozen=True)
class LabelledSolution:
    """A solution with one training target per step.

    `labels[i]` is 1 (right), 0 (wrong) or None (not labelled); `values[i]` estimates P(correct |
    prefix up to step i); `source` names who labelled it.
    """

    problem: Problem
    steps: tuple[str, ...]
    labels: tuple[int | None, ...]
    values: tuple[float | None, ...] | None = None
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, row in (("labels", self.labels), ("values", self.values)):
            if row is not None and len(row) != len(self.steps):
                given = f"{self.problem.id}: {len(row)} {name} for {len(self.steps)} steps"
                raise ValueError(f"{given}, need one per step")

    @property
    def first_error(self) -> int | None:
        """0-based index of the first step labelled wrong, None if there is none."""
        return next((i for i, label in enumerate(self.labels) if label == 0), None)


# -- requests: what an algorithm yields ------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Continue each prefix `n` times, to the next step or the end.

    Reply: the `Prefix`es in one list, all of the first prefix, then all of the second ... Where a
    budget ends, a search method gets the beginning of that list, one at least.
    `words` are the method's own for the template, one mapping a prefix: an attempt, a critique ...
    """

    prefixes: Sequence[Prefix]
    n: int = 1
    until: Literal["step", "end"] = "end"
    temperature: float | None = None  # None: the policy's own; 0: greedy
    prompt: str = "solve"
    by: str = "policy"
    words: Sequence[Mapping[str, str]] = ()
    scored_by: str | None = None  # who will score what comes: a token budget keeps the price back

    def __post_init__(self) -> None:
        if self.words and len(self.words) != len(self.prefixes):
            given = f"words for {len(self.words)} of {len(self.prefixes)} prefixes"
            raise ValueError(f"{given}: need one mapping each, or none")


@dataclass(frozen=True)
class Score:
    """Judge each prefix. Reply: for each a list of scores, one per step (or one for all)."""

    prefixes: Sequence[Prefix]
    by: str = "verifier"


Request = Sample | Score
Reply = list[Any]  # of `Prefix` to a `Sample`, of lists of scores to a `Score`
Scores = list[list[float]]  # of prefixes: for each a list, one per step or the one of the solution


# -- what a run costs and what it brings -----------------------------------------------------------


@dataclass
class Meter:
    """What one problem has cost so far, with all that was thrown away. The models add to it."""

    samples: int = 0  # continuations drawn from a policy
    generated: int = 0  # tokens sampled
    prefilled: int = 0  # prompt and prefix tokens computed by a policy
    cached: int = 0  # prefix tokens taken from a cache instead
    verifier: int = 0  # tokens computed by a verifier
    calls: int = 0  # requests answered
    flops: float = 0.0  # of policy and verifier
    seconds: float = 0.0  # this problem's share of the time spent in model calls

    @property
    def tokens(self) -> int:
        """All tokens computed: generated + prefilled + verifier."""
        return self.generated + self.prefilled + self.verifier


@dataclass(frozen=True)
class Budget:
    """Allowed compute per problem in `samples`, `tokens` (policy + verifier) or `flops`.

    What that means to the row: `workbench.allowance`.
    """

    amount: float
    unit: Literal["samples", "tokens", "flops"]

    def __post_init__(self) -> None:
        if self.unit not in ("samples", "tokens", "flops"):
            raise ValueError(f"budget unit {self.unit!r}: use samples, tokens or flops")
        if not 0 <= self.amount < float("inf"):
            raise ValueError(
                f"budget of {self.amount} {self.unit}: need a finite number, 0 or more"
            )

    def left(self, meter: Meter) -> float:
        """What remains of it; below 0 if it was overrun."""
        return float(self.amount - getattr(meter, self.unit))


class Stopped(Exception):
    """Thrown into a method at its `yield`, whose request is not answered: return what there is.

    `reason` is "budget" or "interrupt". What was sampled has been paid for: a method gives it back.
    Of a budget that has ended it may still ask for one `Score`, answered if it can be paid.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Unreadable(ValueError):
    """A solution that a verifier cannot read: too long for it, or of a problem it was not given."""


class RowsFailed(ConnectionError):
    """Some rows of a call to `model` got no answer over a connection, the others got theirs.

    `replies`: one a row, or the error in its place: it fails for its own problem alone.
    """

    def __init__(self, model: Any, replies: Sequence[Any]):
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        super().__init__(f"{len(errors)} of {len(replies)} rows failed, the first: {errors[0]}")
        self.model, self.replies = model, replies


@dataclass(frozen=True)
class SearchResult:
    """What a method brings back for one problem; the driver adds `meter`, `error` and `stopped`.

    `rollouts` are the whole solutions found (of a method that was stopped perhaps unfinished ones,
    too), `scores` (if any) one number each and `step_scores` one per step of each; `best` is the
    method's choice; labellers put their rows into `labelled`.
    """

    problem: Problem
    rollouts: tuple[Prefix, ...] = ()
    scores: tuple[float, ...] | None = None
    best: Prefix | None = None
    labelled: tuple[LabelledSolution, ...] = ()
    step_scores: tuple[tuple[float, ...], ...] | None = None
    meter: Meter = field(default_factory=Meter)
    error: str | None = None
    stopped: str | None = None


# -- who answers: models arrive at the driver as arguments -----------------------------------------


class Policy(Protocol):
    """A model that writes."""

    def sample(
        self,
        prefixes: Sequence[Prefix],
        keys: Sequence[int],
        *,
        until: str,
        temperature: float | None,
        prompt: str,
        meters: Sequence[Meter] | None,
        words: Sequence[Mapping[str, str]] | None = None,
        room: Sequence[int] | None = None,
    ) -> list[Prefix]:
        """One continuation per row; row i draws from the stream `keys[i]` and pays `meters[i]`.

        `words`, for the template, come only from requests that bring some: one mapping a row.
        `room`, the tokens that each row may write at most, comes only to a policy that has a method
        `price(prefixes, *, prompt, words) -> int`: the tokens that it would have to read for these
        at most, each prefix counted once. Raises `RowsFailed` where only some rows have no reply.
        """
        ...


class Verifier(Protocol):
    """A model that judges; `per` says whether it scores each step or the whole solution."""

    per: Literal["step", "solution"]

    def score(self, prefixes: Sequence[Prefix], *, meters: Sequence[Meter] | None = None) -> Scores:
        """For each prefix a list of scores in [0, 1]: one per step, or the one of the solution.

        The score of a step says how likely the step is good. It may depend on the question and the
        steps up to it, neither on what follows nor on the other prefixes: searches score a solution
        as it grows, in whatever batch the driver makes. What has to be computed for row i is added
        to `meters[i]` (`verifier` tokens and `flops`; nothing for what is remembered). Raises
        `Unreadable` for a solution that can't be judged: it fails for its own problem alone.

        A verifier may have a method `price(prefixes) -> int`: the tokens that it would compute for
        these at most. Without it a budget of tokens can't be kept to the token. And `forget()`, if
        it remembers what it has read: training asks for that each round, so that it can go on.
        """
        ...


# -- what is run -----------------------------------------------------------------------------------

# A method is a generator function for one problem: method(problem, **options).
Method = Callable[..., Generator[Request, Reply, SearchResult | list[LabelledSolution]]]
M = TypeVar("M", bound=Method)


def sees_answer(method: M) -> M:
    """Mark a method as a labeller: it receives problems with answer and solution."""
    method.sees_answer = True  # type: ignore[attr-defined]
    return method
