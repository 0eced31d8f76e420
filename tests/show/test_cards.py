"""HTML pieces: right marks, everything escaped, nothing that JupyterLab's sanitiser strips."""

import re

import pytest

from workbench.analyse.compare import Paired
from workbench.problems.quantities import generate
from workbench.show import cards
from workbench.show.cards import (
    cell_text,
    environment_card,
    paired_view,
    plain_table,
    progress,
    table,
)
from workbench.show.steps import (
    labelled_view,
    prefix_view,
    problem_view,
    result_view,
    solution_strip,
    step_strip,
)
from workbench.types import LabelledSolution, Meter, Prefix, Problem, SearchResult

EVIL = "<script>alert('x')</script> & 3 < 4"
PROBLEM = Problem("p", "math", f"How many {EVIL}?", "4")


def views():
    rows = [{EVIL: EVIL, "n": 3}]
    result = SearchResult(
        PROBLEM, best=Prefix.of(PROBLEM, [EVIL]), meter=Meter(samples=3, generated=1200), error=EVIL
    )
    return {
        "table": table(rows, mark="n"),
        "card": environment_card({EVIL: EVIL}, title=EVIL, parameters={"seed": EVIL}),
        "strip": step_strip([EVIL, "b"], [None, EVIL], [0.1, 1.0]),
        "solution": solution_strip(PROBLEM, [EVIL]),
        "problem": problem_view(Problem(EVIL, EVIL, EVIL, EVIL, f"{EVIL}\nb")),
        "labelled": labelled_view(LabelledSolution(PROBLEM, (EVIL,), (None,), source=EVIL)),
        "prefix": prefix_view(Prefix.of(PROBLEM, [EVIL])),
        "result": result_view(result),
        "progress": progress(EVIL, 1, 2),
    }


@pytest.mark.parametrize("name", views())
def test_text_is_escaped_and_the_sanitiser_keeps_it_all(name):
    html = views()[name]
    assert "<script" not in html and "&lt;script&gt;" in html and "& 3" not in html
    assert not re.search(r"<svg|<style|var\(|class=|onclick", html)
    allowed = {"div", "span", "table", "thead", "tbody", "tr", "th", "td", "meter", "progress", "p"}
    allowed |= {"details", "summary"}
    allowed.add("wbr")  # where a long word may break; it has no end
    assert set(re.findall(r"</?([a-z]+)", html)) <= allowed
    assert not re.search(r"[;\"]color:", html), "text colour is inherited"
    assert not re.search(r"background-color:(?!rgba\([\d,]+,\.15\))", html)
    for tag in ("div", "table", "tr", "td", "span", "meter", "progress", "details"):
        assert len(re.findall(f"<{tag}[ >]", html)) == html.count(f"</{tag}>")


def test_step_strip_marks_right_and_wrong():
    html = step_strip(["a", "b", "c"], [None, "5 is not 2 + 2", None], [0.9, 0.25, 0.5])
    assert html.count("✓") == 2 and html.count("✗") == 1 and "5 is not 2 + 2" in html
    assert html.count("<meter") == 3 and 'value="0.250"></meter> 0.25' in html
    neutral = step_strip(["a", "b"])
    assert "✓" not in neutral and "✗" not in neutral and "<meter" not in neutral
    assert "<tr" not in step_strip([])


@pytest.mark.parametrize(
    ("reasons", "scores"),
    [
        ([None], None),
        (None, [0.5]),
        ([None] * 3, None),
        (None, [0.5, 1.2]),
        (None, [0.5, float("nan")]),
    ],
)
def test_step_strip_refuses_what_does_not_fit(reasons, scores):
    with pytest.raises(ValueError):
        step_strip(["a", "b"], reasons, scores)


def test_problem_view_says_what_is_known():
    html = problem_view(Problem("p1", "math", "2 + 3?", "5", "2 + 3 = 5\n\nIt is 5.", level=4))
    assert "p1 · math · level 4 · the answer is 5" in html and html.count("<tr") == 2
    unknown = problem_view(Problem("p1", "math", "2 + 3?"))
    assert "p1 · math<" in unknown and "<details" not in unknown
    (known,) = generate(1, levels=[2], seed=3)
    assert problem_view(known).count("✓") == len(known.solution.split("\n"))


def test_labelled_view_says_where_labels_and_truth_differ():
    (known,) = generate(1, levels=[2], seed=3, distractors=[0])
    gold = known.solution.split("\n")
    steps = (*gold[:1], gold[1].replace(" .", "9 ."), *gold[2:])
    labels = (0, 1, *[None] * (len(steps) - 2))
    html = labelled_view(LabelledSolution(known, steps, labels, source="shepherd"))
    assert "labels by shepherd" in html and "<meter" not in html
    rows = [re.sub("<[^>]*>", "|", row) for row in html.split("<tr")[1:]]
    assert "✗" in rows[0] and "in truth right" in rows[0]
    assert "✓" in rows[1] and "in truth wrong: " in rows[1]
    assert all("–" in row and "in truth" not in row for row in rows[2:])
    values = (None, *[0.25] * (len(gold) - 1))
    html = labelled_view(LabelledSolution(known, tuple(gold), (1,) * len(gold), values))
    assert "in truth" not in html and html.count('value="0.250"') == len(gold) - 1
    cells = [row.count("<td") for row in html.split("<tr")[1:]]
    assert set(cells) == {4}  # of a step without a value an empty one
    unknown = labelled_view(LabelledSolution(PROBLEM, ("a", "b"), (1, 0)))
    assert "✓" in unknown and "✗" in unknown and "in truth" not in unknown


def test_paired_view_shows_direction_interval_and_who_is_better_where():
    html = paired_view(Paired(-0.125, -0.25, 0.0, 0.04, 3, 12_000))
    cells = re.findall("<t[dh] [^>]*>([^<]*)", html)
    assert dict(zip(cells[:5], cells[5:])) == {
        "a - b": "-0.125",
        "95 % interval": "-0.250 to +0.000",
        "p": "0.04",
        "problems where a is better": "3",
        "where b is better": "12,000",
    }


def test_result_view_says_what_it_cost():
    html = result_view(
        SearchResult(
            PROBLEM, meter=Meter(samples=3, generated=1200, prefilled=30), stopped="budget"
        )
    )
    assert "3 samples · 1,230 tokens" in html and "stopped: budget" in html


def test_numbers_as_a_table_shows_them():
    shown = [cell_text(v) for v in (None, 0.123456, 1234.5, 12345, 123, True, "x", 1e-5, 999.6)]
    assert shown == ["–", "0.123", "1,234", "12,345", "123", "True", "x", "1e-05", "1,000"]
    assert plain_table([{"a": 1, "bb": "x"}, {"a": 100, "bb": None}]) == "a    bb\n1    x\n100  –"
    assert table([]) == "<p>(no rows)</p>" and plain_table([]) == "(no rows)"
    assert "<progress" not in progress("x", 1, None)


@pytest.mark.parametrize("shown", [cards.escape, cards.breakable])
def test_of_a_very_long_text_the_rest_is_counted(shown):
    text = shown("<" * 1_000_000).replace("<wbr>", "")
    assert text == "&lt;" * 20_000 + " … 980,000 more characters"
    assert "more" not in shown("<" * 20_000)
