"""Pictures of verifiers: they show what they are given, nothing overlaps, the worst exploits come
first."""

import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from show.test_plots import LONG, assert_readable

from workbench.analyse.verifiers import reliability
from workbench.show.style import METHOD_STYLE, use_style
from workbench.show.verifiers import auc_bars, exploit_gallery, reliability_plot
from workbench.types import Problem

EVIL = "<script>alert('x')</script> & 3 < 4"
AUCS = pd.DataFrame(
    [
        {"group": g, "method": m, "value": v, "low": v - 0.02, "high": v + 0.02}
        for g in ("all steps", "same position", "same problem")
        for m, v in (("ceiling", 0.97), ("prm", 0.9), ("likelihood", 0.7), ("position", 0.45))
    ]
)


def rows(power=1.0, n=3000):
    scores = np.random.default_rng(0).random(n)
    return reliability(scores, np.random.default_rng(1).random(n) < scores**power)


@pytest.fixture(autouse=True)
def style():
    use_style()
    yield
    plt.close("all")


@pytest.mark.parametrize("title", ["Short", LONG])
def test_reliability_plot(title):
    fig = reliability_plot(rows(), title=title, subtitle="n = 200 problems, 3,000 steps, seed 0")
    assert_readable(fig)
    ax, below = fig.axes
    points = ax.containers[0].lines[0]
    np.testing.assert_allclose(
        points.get_ydata().astype(float), [row["share_right"] for row in rows()]
    )
    np.testing.assert_allclose(
        points.get_xdata().astype(float), [row["mean_score"] for row in rows()]
    )
    ends = [segment[:, 1].astype(float) for segment in ax.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[row["low"], row["high"]] for row in rows()])
    assert [bar.get_height() for bar in below.patches] == [row["n"] for row in rows()]
    assert points.get_color() == METHOD_STYLE["prm"].color


def test_reliability_plot_of_two_methods_with_empty_bins():
    both = pd.concat(
        [pd.DataFrame(rows()).assign(method="prm"), pd.DataFrame(rows(3)[6:]).assign(method="orm")]
    )
    fig = reliability_plot(both, title="A finding", subtitle="n = 3")
    assert_readable(fig)
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == [
        "score = share right",
        "PRM",
        "ORM",
    ]
    assert len(fig.axes[1].patches) == 14


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_auc_bars(groups):
    df = AUCS.head(4 * groups) if groups else AUCS.head(4).drop(columns="group")
    fig = auc_bars(df, title=LONG, subtitle="n = 200 problems, seed 0")
    assert_readable(fig)
    (ax,) = fig.axes
    block = ["ceiling", "PRM", "policy's likelihood", "position only"]
    expected = (
        [label for name in df["group"].unique() for label in [name, *block]] if groups else block
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == expected
    dots = [line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert dots == df["value"].tolist()
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is on top"
    assert ax.get_xlim()[0] < 0.43 and ax.get_xlim()[1] > 0.99


def test_figures_name_what_is_missing():
    with pytest.raises(ValueError, match="columns low are missing"):
        auc_bars(AUCS.drop(columns="low"), title="", subtitle="")
    with pytest.raises(ValueError, match="no style for 'magic'"):
        auc_bars(AUCS.replace({"method": {"prm": "magic"}}), title="", subtitle="")
    with pytest.raises(ValueError, match="columns share_right are missing"):
        reliability_plot(pd.DataFrame(rows()).drop(columns="share_right"), title="", subtitle="")


def test_gallery_shows_the_highest_scored_wrong_solutions_first():
    problems = [Problem(f"p{i}", "math", f"Question {i}", answer="4", level=2) for i in range(5)]
    scored = zip(problems, ([0.9, 0.2], [0.8, 0.7], [0.99, 0.98], [0.6, 0.6], [0.5, 0.5]))
    pool = [(p, ["a", "b"], scores, p.id == "p2") for p, scores in scored]
    html = exploit_gallery(pool, limit=3)
    assert re.findall(r"Question (\d)", html) == ["1", "3", "4"]  # p2 is right
    assert html.count("<details open>") == 1 and html.count("<details>") == 2
    assert "min score 0.70 · p1 · level 2 · right answer 4" in html and html.count("<meter") == 6
    assert re.findall(r"Question (\d)", exploit_gallery(pool, how="mean", limit=1)) == ["1"]
    assert exploit_gallery(pool * 3, limit=3) == html  # a text sampled three times is one exploit
    assert exploit_gallery(pool[2:3]) == "<p>(no wrong solutions)</p>"
    with pytest.raises(ValueError, match="1 scores for 2 steps"):
        exploit_gallery([(problems[0], ["a", "b"], [0.5], False)])


def test_gallery_escapes_text():
    html = exploit_gallery([(Problem(EVIL, "math", EVIL, answer=EVIL), [EVIL], [0.9], False)])
    assert "<script" not in html and html.count("&lt;script&gt;") == 4
    assert not re.search(r"<svg|<style|var\(|class=|[;\"]color:", html)
    assert not re.search(r"background-color:(?!rgba\([\d,]+,\.15\))", html)
