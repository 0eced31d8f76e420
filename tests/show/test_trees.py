"""Search trees: common steps merge, the chosen path is open, hostile text stays text."""

import re

import pytest

from workbench.problems import explain
from workbench.problems.quantities import generate
from workbench.show.trees import labelled_tree, tree_of, tree_view
from workbench.tree import Node, grow, walk
from workbench.types import Prefix, Problem, Step

EVIL = "<script>alert('x')</script> & 3 < 4 \"><img src=x onerror=alert(1)>"
PROBLEM = Problem("p", "quantities", "How many?", "7")


def prefixes(*solutions: str) -> list[Prefix]:
    """One prefix per word, one step per letter."""
    return [Prefix.of(PROBLEM, list(letters), ended=True) for letters in solutions]


def node(text, *children, **fields):
    below = {(child.step.text, child.end): child for child in children}
    return Node(Step(text), children=below, **fields)


def at(root, text, **end):
    """The node after the steps of `text`, one a letter."""
    return grow(root, [Step(letter) for letter in text], **end)[-1]


def test_common_steps_become_one_node_and_an_end_one_of_its_own():
    root = tree_of([*prefixes("abc", "abd", "xb", "ab", "abc"), Prefix.of(PROBLEM, ["a"])])
    found = {
        "".join(n.step.text for n in path[1:]) + ("." if path[-1].end else ""): path[-1].samples
        for path in walk(root)
    }
    assert root.step.text == "How many?"
    assert found == {"": 6, "a": 5, "ab": 3, "abc.": 2, "abd.": 1, "ab.": 1, "x": 1, "xb.": 1}
    assert at(root, "a").value is None and at(root, "a").right is None
    assert not any(path[-1].chosen for path in walk(root))


def test_scores_reasons_and_the_chosen_path():
    pool = prefixes("abc", "abd", "xb")
    scores = [[0.9, 0.4, 0.3], [0.7, 0.6, 0.1], [0.2, 0.0]]
    reasons = [[None, None, "slip"], [None, None, None], ["lost", "lost"]]
    root = tree_of(pool, scores, reasons, chosen=pool[1])
    a, b, x = (at(root, text) for text in ("a", "ab", "x"))
    c, d, end = (at(root, text, end="end") for text in ("abc", "abd", "xb"))
    assert (a.value, b.value, x.value) == (pytest.approx(0.8), pytest.approx(0.5), 0.2)
    assert [n.right for n in (root, a, c, d, x)] == [None, True, False, True, False]
    assert c.reason == "slip" and a.reason is None
    assert (a.samples, c.samples) == (2, 1) and not a.visits
    assert all(n.chosen for n in (root, a, b, d)) and not any(n.chosen for n in (c, x, end))


def test_view_opens_the_chosen_path_only():
    pool = prefixes("abc", "abd", "xbe")
    html = tree_view(tree_of(pool, chosen=pool[0]))
    # root, a, b; x, its b
    assert html.count("<details open>") == 3 and html.count("<details>") == 2
    assert html.count("<summary") == 5 and html.count("font-weight:bold") == 4
    closed = tree_view(tree_of(pool))
    assert closed.count("<details open>") == 1 and "bold" not in closed
    inner = tree_view(node("q", node("a", node("b", chosen=True))))
    # a chosen step is visible even if its path is not marked
    assert inner.count("<details open>") == 2


def test_view_shows_what_is_known():
    a, b = node("a", value=0.25, right=True, visits=1200), node("b", right=False, reason="a slip")
    html = tree_view(node("q", a, b, samples=1))
    assert 'value="0.250"></meter> 0.25' in html
    assert re.findall(r"[\d,]+ (?:visit|sample)s?", html) == ["1 sample", "1,200 visits"]
    assert html.count("<meter") == 1 and "✓ a" in html and "✗ b" in html and "a slip" in html
    plain = tree_view(node("q"))
    assert not re.search("<meter|visit|sample|✓|✗|<details", plain)


def test_what_a_search_pruned_and_chose_is_seen_without_any_style():
    html = tree_view(node("q", node("a", chosen=True), node("b", node("c"), kept=False)))
    faint = re.findall(r"opacity:\.5[^>]*>(?:<span[^>]*>)?✂ (\w)", html)
    assert faint == ["b"]
    bare = re.sub(r"<[^>]*>", " ", html).split()
    assert bare == ["q", "→", "a", "✂", "b", "c"]


def test_text_is_escaped_and_the_sanitiser_keeps_it_all():
    problem = Problem("p", "math", EVIL)
    pool = [Prefix.of(problem, [EVIL, f"{EVIL} 2"]), Prefix.of(problem, [EVIL, "b"])]
    html = tree_view(
        tree_of(pool, [[0.5, 0.1], [0.5, 1.0]], [[None, EVIL], [None, None]], chosen=pool[0])
    )
    assert "<script" not in html and "<img" not in html and html.count("&lt;script&gt;") == 4
    tags = {"div", "dl", "dd", "span", "details", "summary", "meter"}
    assert set(re.findall(r"</?([a-z]+)", html)) == tags | {"wbr"}
    assert not re.search(r"<svg|<style|var\(|class=|[;\"]color:", html), "text colour is inherited"
    assert not re.search(r"background-color:(?!rgba\([\d,]+,\.15\))", html)
    for tag in tags:
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
        tree_view(node("q", node("a", value=score)))


def test_a_tree_of_values_with_verdicts_opens_what_was_visited_since():
    problem = generate(1, levels=[2], seed=3, distractors=[0])[0]
    first, second, answer = problem.solution.split("\n")
    slip = first.replace(" .", "9 .")

    def tree(visits):
        good = node(first, node(second, node(answer, value=1.0, end=True)), value=0.5)
        good.visits = visits
        bad = node(slip, node(answer, value=0.0, end=True), value=0.0, visits=1)
        return node(problem.question, good, bad, value=0.25, visits=1)

    now = tree(2)
    root = labelled_tree(problem, now, tree(1))
    good, bad = root.children.values()
    assert (root.right, good.right, bad.right) == (None, True, False)
    assert bad.reason == explain(problem, [slip])[0] and good.reason is None
    assert (good.value, good.visits, bad.value) == (0.5, 2, 0.0)
    assert (good.chosen, bad.chosen, root.chosen) == (True, False, False)
    (middle,) = good.children.values()
    assert middle.value is None and all(end.right for end in middle.children.values())
    assert not any(path[-1].chosen for path in walk(labelled_tree(problem, now)))
    assert now == tree(2)  # the tree itself is left as it was
    assert tree_view(root).count("<details open>") == 2  # the question and what was visited
