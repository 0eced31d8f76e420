"""Where questions come from, how steps are split and judged, how answers are graded.

`check_steps`, `explain` and `solvable` work on a problem of any embedded kind; `is_right` grades
the final answer of any problem at all.
"""

from collections.abc import Sequence

from workbench.problems import countdown, programs, quantities, stories, story_truth
from workbench.problems.grading import extract_answer, is_equal, value_of
from workbench.problems.truth import ANSWER
from workbench.types import Prefix, Problem

# the kinds with exact truth of their steps
KINDS = {"quantities": quantities, "programs": programs, "stories": stories, "countdown": countdown}


def _kind(problem: Problem):
    if problem.kind not in KINDS:
        given = f"no exact truth for kind {problem.kind!r} ({problem.id})"
        raise ValueError(f"{given}: only for {', '.join(KINDS)}")
    return KINDS[problem.kind]


def check_steps(problem: Problem, steps: Sequence[str]) -> list[bool]:
    """Exact truth: for each step (the answer line is one), is it right?"""
    return [reason is None for reason in explain(problem, steps)]


def explain(problem: Problem, steps: Sequence[str]) -> list[str | None]:
    """For each step None if it is right, else its fault in words."""
    return _kind(problem).explain(problem, steps)


def solvable(problem: Problem, steps: Sequence[str]) -> bool:
    """Can the answer still be reached from here?"""
    return _kind(problem).solvable(problem, steps)


def answer_of(prefix: Prefix) -> str | None:
    """The final answer of a solution; None if it says none, ran out of room or is not over."""
    if prefix.stop != "end" or not prefix.steps:
        return None
    if prefix.problem.kind == "countdown":  # whoever reads the question can state the target
        return countdown.answer_reached(prefix.problem, prefix.texts)
    if prefix.problem.kind not in KINDS:
        return extract_answer(prefix.text)
    texts = prefix.texts
    if prefix.problem.kind == "stories":  # chat models end some with a blank line
        texts = [text for text in texts if text.strip()] or [""]
    return extract_answer(texts[-1])


def worked(problem: Problem) -> str | None:
    r"""The given solution, with an answer line at its end if it states no answer (GSM8K's do not).

    >>> worked(Problem("p", "math", "What is 2 + 3?", "5", "2 + 3 = 5"))
    '2 + 3 = 5\nThe answer is 5'
    """
    if problem.solution is None or problem.answer is None or problem.kind in KINDS:
        return problem.solution
    if states_answer(problem, problem.solution):
        stated, value = extract_answer(problem.solution) or "", value_of(problem.answer)
        if stated == problem.answer or (value is not None and value_of(stated) == value):
            return problem.solution
    return f"{problem.solution}\nThe answer is {problem.answer}"


def states_answer(problem: Problem, step: str) -> bool:
    r"""Is this step an answer line, after which a solution is over?

    Of embedded problems it is `The answer is <number> .`; elsewhere whatever `extract_answer` finds
    but for its last resort, the last number.

    >>> sums = Problem("p", "math", "What is 2 + 3?")
    >>> [states_answer(sums, step) for step in ("2 + 3 = 5", r"It is \boxed{5}.", "#### 5")]
    [False, True, True]
    """
    if problem.kind == "stories":  # money, decimals and percent signs are answers there
        return story_truth.read_answer(step) is not None
    if problem.kind in KINDS:
        return ANSWER.fullmatch(step.strip()) is not None
    # a stated answer stays the same whatever number follows; a last number does not
    return extract_answer(f"{step}\n0") == extract_answer(f"{step}\n1")


def is_right(problem: Problem, prefix: Prefix | None) -> bool:
    """Is a solution's final answer the problem's? No solution is not right.

    ValueError if the problem holds no answer.
    """
    if problem.answer is None:
        missing = f"{problem.id} has no answer to grade against (a blind copy?)"
        raise ValueError(f"{missing}: grade with the original problem")
    return prefix is not None and is_equal(problem.answer, answer_of(prefix))
