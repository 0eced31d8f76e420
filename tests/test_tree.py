"""The search tree: paths, ends, walks, choices and backing up, by hand and against plain lists."""

import random

import pytest

from workbench.tree import Node, backup, descend, grow, walk
from workbench.types import Step


def letters(text):
    return [Step(letter) for letter in text]


def grown(*lines):
    """A tree of solutions, one step a letter; what ends with `+` or `-` is over so."""
    root = Node(Step("?"))
    for line in lines:
        steps, end = (line[:-1], line[-1]) if line[-1] in "+-" else (line, None)
        grow(root, letters(steps), end=end)
    return root


def text_of(path):
    return "".join(node.step.text + (node.end or "") for node in path[1:])


def test_common_steps_are_one_node_and_a_path_leads_to_each():
    root = grown("abc", "abd", "xb", "ab")
    assert [text_of(path) for path in walk(root)] == ["", "a", "ab", "abc", "abd", "x", "xb"]
    path = grow(root, letters("abd"))
    assert path[0] is root and text_of(path) == "abd"
    assert len(list(walk(root))) == 7  # known: nothing grew
    assert grow(root, []) == [root]


def test_an_end_is_a_node_of_its_own_for_each_outcome():
    root = grown("ab+", "abc", "ab-", "ab+")
    assert [text_of(path) for path in walk(root)] == ["", "a", "ab+", "ab", "abc", "ab-"]
    assert [path[-1].end for path in walk(root)] == [None, None, "+", None, None, "-"]
    right, wrong = (grow(root, letters("ab"), end=end)[-1] for end in (True, False))
    assert right is not wrong and (right.end, wrong.end) == (True, False)


def test_what_is_not_known_is_none():
    node = Node(Step("a"))
    assert (node.value, node.prior, node.right, node.reason, node.end) == (None,) * 5
    assert node.visits == 0 and node.kept and not node.chosen and not node.children
    assert Node(Step("b")).children is not node.children


def test_values_are_mean_rewards_of_what_went_through():
    rng, root, drawn = random.Random(0), Node(Step("?")), []
    for _ in range(50):
        text, reward = "".join(rng.choices("ab", k=rng.randint(1, 4))), rng.random()
        drawn.append((text, reward))
        backup(grow(root, letters(text)), reward)
    for path in walk(root):
        through = [reward for text, reward in drawn if text.startswith(text_of(path))]
        assert path[-1].visits == len(through)
        assert path[-1].value == pytest.approx(sum(through) / len(through))


def test_a_value_may_be_written_instead_of_earned():
    node = Node(Step("a"), value=0.5, visits=3)
    assert (node.value, node.visits) == (0.5, 3)


def test_the_descent_takes_the_largest_score_and_of_equals_the_oldest():
    root = grown("ax", "ay", "bz")
    asked = []

    def score(parent, child):
        asked.append((parent.step.text, child.step.text))
        return {"b": 1.0, "a": 1.0, "y": 2.0}.get(child.step.text, 0.0)

    assert text_of(descend(root, score, stop=lambda node: False)) == "ay"  # to a leaf
    assert asked == [("?", "a"), ("?", "b"), ("a", "x"), ("a", "y")]
    assert text_of(descend(root, score, stop=lambda node: node.step.text == "a")) == "a"
    assert descend(root, score, stop=lambda node: True) == [root]


def test_a_deep_tree_does_not_meet_the_recursion_limit():
    root = Node(Step("?"))
    backup(grow(root, letters("a" * 5000)), 1.0)
    assert sum(path[-1].visits for path in walk(root)) == 5001
