"""Search trees: common steps merge, the chosen path is open, hostile text stays text."""

import re

import pytest

from workbench.problems import explain
from workbench.problems.quantities import generate
from workbench.show.trees import Node, labelled_tree, tree_of, tree_view
from workbench.supervise.step_tree import TreeNode
from workbench.types import Prefix, Problem

EVIL = "<script>alert('x')</script> & 3 < 4 \"><img src=x onerror=alert(1)>"
PROBLEM = Problem("p", "quantities", "How many?", "7")


def prefixes(*solutions: str) -> list[Prefix]:
    """One prefix per word, one step per letter."""
    return [Prefix.of(PROBLEM, list(letters), ended=True) for letters in solutions]


def shape(node: Node):
    """The tree as nested {text: children}."""
    return {child.text: shape(child) for child in node.children}


def test_common_steps_become_one_node():
    root = tree_of(prefixes("abc", "abd", "xb", "ab", "abc"))
    assert root.text == "How many?" and root.visits == 5
    assert shape(root) == {"a": {"b": {"c": {}, "d": {}}}, "x": {"b": {}}}
    a, x = root.children
    assert (a.visits, a.children[0].visits, a.children[0].children[0].visits, x.visits) == (
        4,
        4,
        2,
        1,
    )
    assert a.score is None and a.right is None and not root.chosen


def test_scores_reasons_and_the_chosen_path():
    pool = prefixes("abc", "abd", "xb")
    scores = [[0.9, 0.4, 0.3], [0.7, 0.6, 0.1], [0.2, 0.0]]
    reasons = [[None, None, "slip"], [None, None, None], ["lost", "lost"]]
    root = tree_of(pool, scores, reasons, chosen=pool[1])
    a, x = root.children
    b = a.children[0]
    assert (a.score, b.score, x.score) == (pytest.approx(0.8), pytest.approx(0.5), 0.2)
    assert (a.right, b.children[0].right, b.children[0].reason, x.right) == (
        True,
        False,
        "slip",
        False,
    )
    assert [node.chosen for node in (root, a, b, *b.children, x, x.children[0])] == [True] * 3 + [
        False,
        True,
    ] + [False] * 2


def test_view_opens_the_chosen_path_only():
    pool = prefixes("abc", "abd", "xbe")
    html = tree_view(tree_of(pool, chosen=pool[0]))
    # root, a, b; x, its b
    assert html.count("<details open>") == 3 and html.count("<details>") == 2
    assert html.count("<summary") == 5 and html.count("font-weight:bold") == 4
    closed = tree_view(tree_of(pool))
    assert closed.count("<details open>") == 1 and "bold" not in closed
    inner = tree_view(Node("q", children=(Node("a", children=(Node("b", chosen=True),)),)))
    # a chosen step is visible even if its path is not marked
    assert inner.count("<details open>") == 2


def test_view_shows_what_is_known():
    html = tree_view(
        Node("q", children=(Node("a", 0.25, True, 1200), Node("b", None, False, reason="a slip")))
    )
    assert '<meter min="0" max="1" value="0.250"></meter> 0.25' in html and "1,200×" in html
    assert html.count("<meter") == 1 and "✓ a" in html and "✗ b" in html and "a slip" in html
    plain = tree_view(Node("q"))
    assert not re.search("<meter|×|✓|✗|<details", plain)


def test_text_is_escaped_and_the_sanitiser_keeps_it_all():
    problem = Problem("p", "math", EVIL)
    pool = [Prefix.of(problem, [EVIL, f"{EVIL} 2"]), Prefix.of(problem, [EVIL, "b"])]
    html = tree_view(
        tree_of(pool, [[0.5, 0.1], [0.5, 1.0]], [[None, EVIL], [None, None]], chosen=pool[0])
    )
    assert "<script" not in html and "<img" not in html and html.count("&lt;script&gt;") == 4
    assert set(re.findall(r"</?([a-z]+)", html)) == {"div", "span", "details", "summary", "meter"}
    assert not re.search(r"<svg|<style|var\(|class=|[;\"]color:", html), "text colour is inherited"
    assert not re.search(r"background-color:(?!rgba\([\d,]+,\.15\))", html)
    for tag in ("div", "span", "details", "summary", "meter"):
        assert len(re.findall(f"<{tag}[ >]", html)) == html.count(f"</{tag}>")


def test_tree_of_real_solutions():
    (problem,) = generate(1, levels=[3], seed=1)
    gold = problem.solution.split("\n")
    pool = [
        Prefix.of(problem, gold, ended=True),
        Prefix.of(problem, [*gold[:-1], "The answer is 0 ."], ended=True),
    ]
    reasons = [explain(problem, list(p.texts)) for p in pool]
    html = tree_view(tree_of(pool, reasons=reasons, chosen=pool[0]))
    assert html.count("✓") == len(gold) and html.count("✗") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prefixes": []}, "0 problems"),
        (
            {"prefixes": [*prefixes("a"), Prefix.of(Problem("q", "quantities", "Who?"), ["a"])]},
            "2 problems",
        ),
        ({"scores": [[0.5]]}, "scores for prefixes"),
        ({"scores": [[0.5], [0.5]]}, "scores for prefixes"),
        ({"reasons": [[None], [None, None, None]]}, "reasons for prefixes"),
        ({"chosen": prefixes("zz")[0]}, "not among"),
    ],
)
def test_tree_of_refuses_what_does_not_fit(change, words):
    with pytest.raises(ValueError, match=words):
        tree_of(**{"prefixes": prefixes("ab", "ac"), **change})


@pytest.mark.parametrize("score", [1.2, -0.1, float("nan")])
def test_view_refuses_scores_that_are_none(score):
    with pytest.raises(ValueError, match="must lie in"):
        tree_view(Node("q", children=(Node("a", score),)))


def test_a_tree_of_values_with_verdicts_opens_what_was_visited_since():
    problem = generate(1, levels=[2], seed=3, distractors=[0])[0]
    first, second, answer = problem.solution.split("\n")
    slip = first.replace(" .", "9 .")

    def tree(visits):
        leaf = TreeNode(answer, 1.0, None, 1)
        good = TreeNode(first, 0.5, visits, 1, (TreeNode(second, None, None, 1, (leaf,)),))
        return TreeNode(problem.question, 0.25, 1, None, (good, TreeNode(slip, 0.0, 1, 0, (leaf,))))

    root = labelled_tree(problem, tree(2), tree(1))
    good, bad = root.children
    assert (root.right, good.right, bad.right) == (None, True, False)
    assert bad.reason == explain(problem, [slip])[0] and good.reason is None
    assert (good.score, good.visits, bad.score) == (0.5, 2, 0.0)
    assert (good.chosen, bad.chosen, root.chosen) == (True, False, False)
    assert good.children[0].score is None and good.children[0].children[0].right
    assert not any(
        node.chosen
        for node in (labelled_tree(problem, tree(2)), *labelled_tree(problem, tree(2)).children)
    )
    assert tree_view(root).count("<details open>") == 2  # the question and what was visited
