"""What tests ask of a policy behind the protocol server."""

from workbench.models.server import ServerPolicy
from workbench.types import Meter, Prefix, Problem, Sample, SearchResult

PROBLEMS = [Problem(f"p{i}", "math", f"How many are {i} ?", answer="3") for i in range(6)]
FAST = {"backoff": 0.01, "retries": 3}


def policy_at(about, **options):
    return ServerPolicy(about.url, "scripted", **{**FAST, **options})


def by_steps(problem, *, most=8):
    """A solution that is asked for step by step."""
    (prefix,) = [Prefix(problem)]
    while not prefix.ended and len(prefix.steps) < most:
        (prefix,) = yield Sample([prefix], until="step", temperature=0)
    return SearchResult(problem, (prefix,), best=prefix)


def one_line(line):
    assert line and "\n" not in line and len(line) < 500
    return line


def asks(policy, n=1, **how):
    """What one problem gets, and the meter."""
    meter = Meter()
    prefix = Prefix(PROBLEMS[0])
    return policy.sample([prefix] * n, range(n), meters=[meter] * n, **how), meter
