r"""rStar: a small model explores by five human-like actions, a second one confirms what it found.

Qi et al. 2024, arXiv 2408.06195. No verifier: what a solution is worth is how often others agree.

| action | continues a prefix by |
|---|---|
| `step` | one step |
| `rest` | all remaining steps |
| `ask` | a sub-question and its answer |
| `answer_again` | the sub-question just asked, answered anew: takes the place of that step |
| `rephrase` | the question in other words, from the root alone |

1. Select: from the question go down by the largest
   $$\frac{Q}{N} + 2 \sqrt{\frac{\ln N_p}{N}},$$
   unexplored children first, of several the oldest.
2. Expand: a leaf met for the second time, and the question at once, gets `expand` children by each
   action that is possible there.
3. Roll out: the leaf reached is completed to a solution, unless it is one.
4. Back up: its reward is the share of all other solutions that end in the same answer.
5. Mutual consistency: the model `by` reads each solution cut off after the shares `cuts` of its
   steps, and completes it. A solution is kept if at least `share` of these completions end in its
   own answer. The choice is the most frequent answer of those kept (`selectors.mutual_vote`), and
   of it the solution with the highest score.

`actions` must be named in the templates of the policy (`ACTIONS` says which one an action reads;
models that follow instructions have them: `models.prompts`). The embedded policies were taught
`step`, `rest` and `rephrase`, the default; the other two are left out for them.

Deviations: rewards are counted anew whenever a solution joins, so that early ones don't keep what
they earned among few; all solutions drawn vote, visited or not. Cuts are fixed, the paper's are
random; the second model is asked in one go, and not at all where all answers agree. Rephrased words
stand beside the question, since a small model's leave facts out. Taught in notebook 08.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import inf, log, sqrt
from typing import Any

import numpy as np

from workbench.analyse.metrics import group_by_value, majority_vote
from workbench.analyse.selectors import agreement, mutual_vote, validated
from workbench.problems import answer_of
from workbench.problems.grading import is_equal
from workbench.tree import Node, backup, descend, walk
from workbench.types import Prefix, Problem, Reply, Request, Sample, SearchResult, Step, Stopped

_Texts = tuple[str, ...]  # of a solution's steps
_Answers = list[str | None]

# of each action: the template that it reads, and how far the policy writes
ACTIONS = {
    "step": ("solve", "step"),
    "rest": ("solve", "end"),
    "ask": ("subquestion", "step"),
    "answer_again": ("answer_again", "step"),
    "rephrase": ("rephrase", "end"),
}


def uct(total: float, visits: int, parent_visits: int, *, c: float = 2.0) -> float:
    """Mean reward, and more the seldomer a child was visited; infinite for an unexplored one.

    >>> round(uct(3, 5, 20), 6), uct(0, 0, 20)
    (2.148091, inf)
    """
    return total / visits + c * sqrt(log(parent_visits) / visits) if visits else inf


@dataclass(kw_only=True)
class Thought(Node):
    """A node, the prefix that it stands for, how it came about, and the words to go on with."""

    prefix: Prefix
    action: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass
class ThoughtTree:
    """One problem's search: its tree (`root`, to be drawn) and all solutions drawn."""

    problem: Problem
    actions: Sequence[str] = ("step", "rest", "rephrase")
    expand: int = 2
    c: float = 2.0
    temperature: float | None = None
    root: Thought = field(init=False)
    pool: list[Prefix] = field(default_factory=list)
    answers: _Answers = field(default_factory=list)  # of the pool
    runs: list[tuple[list[Any], Prefix, str | None]] = field(default_factory=list)  # what was met

    def __post_init__(self) -> None:
        self.root = Thought(step=Step(self.problem.question), prefix=Prefix(self.problem))

    def simulate(self) -> Generator[Request, Reply, None]:
        """Stages 1 to 4."""
        path = self.go_down([self.root])
        if len(path) == 1 or (path[-1].visits and not path[-1].prefix.ended):
            yield from self.act(path[-1])
            path = self.go_down(path)
        solution = path[-1].prefix
        if not solution.ended:
            (solution,) = yield self.request(solution, path[-1].words)
            self.join(solution)
        self.runs.append((path, solution, answer_of(solution)))
        rewards = self.rewards
        for *_, node in walk(self.root):
            node.visits, node.total, node.value = 0, 0.0, None
        for path, _, answer in self.runs:
            backup(path, rewards[answer])

    def go_down(self, path: list[Any]) -> list[Any]:
        """Stage 1: the path to a leaf."""

        def worth(parent: Node, child: Node) -> float:
            return uct(child.total, child.visits, parent.visits, c=self.c)

        return path + descend(path[-1], worth, stop=lambda node: False)[1:]

    def act(self, node: Thought) -> Generator[Request, Reply, None]:
        """Stage 2: the node's children by every action that is possible there."""
        possible = {"rephrase": node is self.root, "answer_again": node.action == "ask"}
        for action in self.actions:
            if not possible.get(action, True):
                continue
            start, words = node.prefix, node.words
            if action == "answer_again":
                start = Prefix(self.problem, start.steps[:-1])
                words = {**words, "subquestion": node.step.text.partition("?")[0] + "?"}
            prompt, until = ACTIONS[action]
            drawn = yield self.request(start, words, n=self.expand, prompt=prompt, until=until)
            for prefix in drawn:
                self.add(node, action, prefix, "\n".join(prefix.texts[len(start.steps) :]))

    def request(self, prefix: Prefix, words: Mapping[str, str], **how: Any) -> Sample:
        own = [words] if words else ()
        return Sample([prefix], words=own, temperature=self.temperature, **how)

    def add(self, node: Thought, action: str, prefix: Prefix, text: str) -> None:
        """One more child, unless it is known; a whole solution joins the pool all the same."""
        words = node.words
        if action == "rephrase":
            words = {"question": f"{self.problem.question} {' '.join(prefix.texts)}"}
            prefix = Prefix(self.problem)
        elif prefix.ended:
            self.join(prefix)
        key = text, prefix.stop or words.get("question")
        child = Thought(Step(text), prefix.stop, prefix=prefix, action=action, words=words)
        node.children.setdefault(key, child)

    def join(self, solution: Prefix) -> None:
        self.pool.append(solution)
        self.answers.append(answer_of(solution))

    @property
    def rewards(self) -> dict[str | None, float]:
        """Of each answer in the pool the share of the other solutions that have it, too."""
        _, group = group_by_value(self.answers)
        sizes, others = np.bincount(group[group >= 0]), max(1, len(group) - 1)
        pairs = zip(self.answers, group)
        return {answer: float(sizes[g] - 1) / others if g >= 0 else 0.0 for answer, g in pairs}

    def confirm(
        self, by: str, cuts: Sequence[float]
    ) -> Generator[Request, Reply, dict[_Texts, _Answers]]:
        """Stage 5: of each distinct solution with an answer, the answers of its completions."""
        known = dict.fromkeys(p.texts for p, a in zip(self.pool, self.answers) if a is not None)
        begun = [Prefix.of(self.problem, t[: int(cut * len(t))]) for t in known for cut in cuts]
        drawn = yield Sample(begun, temperature=self.temperature, by=by)
        ends = iter([answer_of(solution) for solution in drawn])
        return {texts: list(islice(ends, len(cuts))) for texts in known}

    def result(self, confirmed: Mapping[_Texts, _Answers], share: float) -> SearchResult:
        """All solutions. Scores: how many others agree, times how many completions do, if asked."""
        if not self.pool:
            leaves: Any = [path[-1] for path in walk(self.root) if not path[-1].children]
            begun = [leaf.prefix for leaf in leaves if leaf.prefix.steps]
            return SearchResult(self.problem, tuple(begun))
        rows = [confirmed.get(solution.texts, []) for solution in self.pool]
        answers = [a if row or not confirmed else None for a, row in zip(self.answers, rows)]
        rewards, winner = self.rewards, majority_vote(answers)
        scores, kept = np.array([rewards[a] for a in self.answers]), np.ones(len(rows), bool)
        if confirmed:
            scores *= agreement(answers, rows)
            kept = validated(answers, rows, share=share)
            winner = mutual_vote(answers, rows, share=share)
        same = [is_equal(str(winner), answer) for answer in answers]
        i = max(range(len(rows)), key=lambda i: (same[i], kept[i], scores[i]))
        best, pool = self.pool[i], tuple(self.pool)
        for node in (n for path, solution, _ in self.runs if solution is best for n in path):
            node.chosen = True
        return SearchResult(self.problem, pool, tuple(scores.tolist()), best)


def rstar(
    problem: Problem,
    *,
    simulations: int = 16,
    actions: Sequence[str] = ("step", "rest", "rephrase"),
    expand: int = 2,
    c: float = 2.0,
    by: str | None = "helper",
    cuts: Sequence[float] = (0.25, 0.5),
    share: float = 0.5,
    temperature: float | None = None,
) -> Generator[Request, Reply, SearchResult]:
    """Explore by `simulations`, let the model `by` confirm (None: nobody), choose by vote.

    Returns all solutions drawn. When the budget ends: those so far, with the most frequent answer
    chosen where nobody was asked yet. ValueError for options that cannot be.
    """
    if min(simulations, expand) < 1 or not 0 <= c < inf or not 0 < share <= 1:
        given = f"simulations={simulations}, expand={expand}, c={c}, share={share}"
        need = "simulations and expand of at least 1, a finite c >= 0 and 0 < share <= 1"
        raise ValueError(f"{given}: need {need}")
    if not set(actions) <= set(ACTIONS) or not {"step", "rest", "ask"} & set(actions):
        some = f"use some of {', '.join(ACTIONS)}, step, rest or ask among them"
        raise ValueError(f"actions={actions!r}: {some}")
    if not cuts or not all(0 <= cut < 1 for cut in cuts):
        raise ValueError(f"cuts={cuts!r}: need at least one share of a solution, 0 <= cut < 1")
    tree = ThoughtTree(problem, tuple(actions), expand, c, temperature)
    confirmed: dict[_Texts, _Answers] = {}
    with suppress(Stopped):  # the driver notes its reason; what is known so far is the result
        for _ in range(simulations):
            yield from tree.simulate()
        values, _ = group_by_value(tree.answers)
        if by is not None and len(values) > 1:
            confirmed = yield from tree.confirm(by, cuts)
    return tree.result(confirmed, share)
