"""Pictures of verifiers: the worst exploits come first, and text is text."""

import re

import pytest

from workbench.show.verifiers import exploit_gallery
from workbench.types import Problem

EVIL = "<script>alert('x')</script> & 3 < 4"


def test_gallery_shows_the_highest_scored_wrong_solutions_first():
    problems = [Problem(f"p{i}", "math", f"Question {i}", answer="4", level=2) for i in range(5)]
    scored = zip(problems, ([0.9, 0.2], [0.8, 0.7], [0.99, 0.98], [0.6, 0.6], [0.5, 0.5]))
    pool = [(p, ["a", "b"], scores, p.id == "p2") for p, scores in scored]
    html = exploit_gallery(pool, limit=3)
    assert re.findall(r"Question (\d)", html) == ["1", "3", "4"]  # p2 is right
    assert html.count("<details open>") == 1 and html.count("<details>") == 2
    assert "min score 0.70 · p1 · level 2 · right answer 4" in html and html.count("<meter") == 6
    assert exploit_gallery(pool * 3, limit=3) == html  # a text sampled three times is one exploit
    assert exploit_gallery(pool[2:3]) == "<p>(no wrong solutions)</p>"
    with pytest.raises(ValueError, match="1 scores for 2 steps"):
        exploit_gallery([(problems[0], ["a", "b"], [0.5], False)])


def test_gallery_escapes_text():
    html = exploit_gallery([(Problem(EVIL, "math", EVIL, answer=EVIL), [EVIL], [0.9], False)])
    assert "<script" not in html and html.count("&lt;script&gt;") == 4
    assert not re.search(r"<svg|<style|var\(|class=|[;\"]color:", html)
    assert not re.search(r"background-color:(?!rgba\([\d,]+,\.15\))", html)
