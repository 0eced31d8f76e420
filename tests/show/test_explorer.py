"""Views of the explorer: the truth and the choice are in them, hostile text stays text."""

import re

from workbench.problems.quantities import generate
from workbench.show.explorer import (
    columns,
    edited_view,
    judged_tree,
    message,
    outcome,
    question_view,
    search_view,
    simulation_view,
)
from workbench.tree import Node, grow
from workbench.types import Prefix, Problem, SearchResult, Step

EVIL = "<script>alert('x')</script> & <img src=x onerror=alert(1)>"
PROBLEM = generate(1, levels=[2], seed=3, distractors=[0])[0]
GOLD = PROBLEM.solution.split("\n")


def searched():
    root = Node(Step(PROBLEM.question))
    grow(root, [Step(text) for text in GOLD], end="end")[-1].samples = 2
    grow(root, [Step(EVIL)])[-1].kept = False
    return root, SearchResult(PROBLEM, best=Prefix.of(PROBLEM, GOLD, ended=True))


def keeps_the_rules(html):
    tags = set(re.findall(r"</?([a-z]+)", html))
    tags.discard("wbr")  # it has no end
    known = "div dl dd span details summary meter b table thead tbody tr th td"
    assert tags <= set(known.split()), tags
    assert not re.search(r"<svg|<style|var\(|class=|[;\"]color:", html)
    for tag in tags:
        assert len(re.findall(f"<{tag}[ >]", html)) == html.count(f"</{tag}>"), tag


def test_a_search_shows_truth_choice_and_cost():
    root, result = searched()
    running = search_view(PROBLEM, "beam_search", root, EVIL)
    over = search_view(PROBLEM, "beam_search", root, "over", result)
    assert running.count("✓") == len(GOLD) and "✗" in running and "font-weight:bold" not in running
    assert over.count("font-weight:bold") == len(GOLD) + 1 and "✓ right answer" in over
    assert "2 samples" in over and "visit" not in over
    assert "opacity:.5" in over and EVIL not in over and EVIL not in running
    for html in (running, over):
        keeps_the_rules(html)
    assert not any(node.chosen for node in grow(root, [])), "the tree itself is left as it was"
    assert judged_tree(PROBLEM, root, result.best).chosen


def test_outcomes_are_told_apart():
    wrong = Prefix.of(PROBLEM, ["The answer is 0 ."], ended=True)
    assert outcome(SearchResult(PROBLEM)).startswith("no solution")
    assert outcome(SearchResult(PROBLEM, best=wrong, stopped="time")).endswith("stopped: time")
    assert "✗ wrong answer" in outcome(SearchResult(PROBLEM, best=wrong))
    assert outcome(SearchResult(PROBLEM, error="ValueError: no")) == "failed: ValueError: no"


def test_a_simulation_shows_its_forks_and_opens_its_way():
    root, _ = searched()
    grow(root, [Step(text) for text in GOLD], end="end")[-1].visits = 1
    names = ("text", "visits", "value", "prior", "worth", "taken")
    fork = [dict(zip(names, row)) for row in ((GOLD[0], 1, 0.5, 0.7, 1.1, True),
                                              (EVIL, 0, None, 0.3, 0.2, False))]  # fmt: skip
    html = simulation_view(PROBLEM, root, None, "simulation 1", [fork])
    keeps_the_rules(html)
    assert "PUCT" in html and html.count("→") > 1 and EVIL not in html
    assert html.count("font-weight:bold") >= 1  # what has been visited since the question


def test_an_edit_shows_both_solutions_and_where_the_answer_is_lost():
    broken = [GOLD[0].replace(" .", "9 ."), *GOLD[1:]]
    scores = [0.9] * len(GOLD)
    html = edited_view(PROBLEM, (GOLD, scores), ([*broken, EVIL], [*scores, 0.1]))
    keeps_the_rules(html)
    assert "the answer can be reached" in html and "the answer is lost at step 1" in html
    assert html.count("<meter") == 2 * len(GOLD) + 1 and EVIL not in html


def test_small_pieces_are_escaped():
    typed = Problem("typed", "quantities", EVIL, "7")
    for html in (question_view(typed), message(EVIL), columns(message(EVIL), message("b"))):
        keeps_the_rules(html)
        assert "<img" not in html and "&lt;script&gt;" in html
    assert "typed · the answer is 7" in question_view(typed)
