"""Figures: they say what they must, nothing overlaps, and methods keep their looks."""

import itertools

import matplotlib
import pandas as pd
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from workbench.show import plots
from workbench.show.style import METHOD_STYLE, short_number, style_of, use_style

METHODS = ("majority", "best_of_n", "prm_min_vote", "beam_search", "mcts")


def curves(levels=(1,), close=0.001):
    rows = [
        {
            "level": level,
            "method": m,
            "budget": 2**k,
            "value": 0.4 + 0.05 * k + close * i,
            "low": 0.35,
            "high": 0.85,
        }
        for level in levels
        for i, m in enumerate(METHODS)
        for k in range(8)
    ]
    return pd.DataFrame(rows)


def training(runs=("std", "none"), metrics=("train/loss", "train/kl"), updates=40):
    keys = itertools.product(runs, metrics, range(updates))
    return pd.DataFrame(
        [{"run": r, "metric": m, "update": u, "value": 1 / (u + 1)} for r, m, u in keys]
    )


@pytest.fixture(autouse=True)
def close_figures():
    use_style()
    yield
    plt.close("all")


def boxes(fig):
    """Where all visible texts of a figure lie."""
    fig.canvas.draw()
    texts = [
        t for t in fig.findobj(matplotlib.text.Text) if t.get_visible() and t.get_text().strip()
    ]
    outside = {id(label) for ax in fig.axes for label in _unseen(ax)}
    return [
        (t.get_text(), matplotlib.text.Text.get_window_extent(t))
        for t in texts
        if id(t) not in outside
    ]


def _unseen(ax):
    """Texts of hidden axes, and tick labels beyond the ends of an axis."""
    if not ax.get_visible():
        return ax.findobj(matplotlib.text.Text)
    return [
        tick.label1
        for axis in (ax.xaxis, ax.yaxis)
        for tick in axis.get_major_ticks()
        if not sorted(axis.get_view_interval())[0]
        <= tick.get_loc()
        <= sorted(axis.get_view_interval())[1]
    ]


def assert_readable(fig):
    width, height = fig.canvas.get_width_height()
    found = boxes(fig)
    for text, box in found:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, (
            f"{text!r} is cut off"
        )
    for (a, box), (b, other) in itertools.combinations(found, 2):
        apart = (
            box.x1 <= other.x0
            or other.x1 <= box.x0
            or box.y1 <= other.y0 + 1
            or other.y1 <= box.y0 + 1
        )
        assert apart, f"{a!r} overlaps {b!r}"


LONG = (
    "A finding that needs more than one line because it says what was found, where, and by how "
    "much it was found"
)


@pytest.mark.parametrize("title", ["Short", LONG])
@pytest.mark.parametrize("ceiling", [None, 0.9, {1: 0.4, 128: 0.75}])
def test_scaling_plot(title, ceiling):
    data = curves()
    fig = plots.scaling_plot(
        data, title=title, subtitle="n = 200, seeds 0–2, base", ceiling=ceiling, floor=0.38
    )
    assert_readable(fig)
    ax = fig.axes[0]
    labels = [text for text, _ in boxes(fig)]
    assert ax.get_xscale() == "log" and ax.get_xaxis().get_transform().base == 2
    assert {"majority vote", "beam search", "greedy", "accuracy"} <= set(labels) and (
        "pass@N" in labels
    ) == bool(ceiling)
    assert [line.get_color() for line in ax.get_lines()[:5]] == [
        METHOD_STYLE[m].color for m in METHODS
    ]


@pytest.mark.parametrize("levels", [(1,), (1, 2), (2, 3, 4, 5), (2, 3, 4, 5, 6), range(8)])
def test_scaling_by_level(levels):
    fig = plots.scaling_by_level(
        curves(levels), title=LONG, subtitle="n = 40 per level, seed 0, base"
    )
    assert_readable(fig)
    assert [text for text, _ in boxes(fig) if text.startswith("level")] == [
        f"level {level}" for level in levels
    ]


@pytest.mark.parametrize("runs", [("std",), ("std", "none", "leave_one_out")])
@pytest.mark.parametrize(
    "metrics", [("train/loss",), ("train/loss", "train/reward", "train/kl", "train/entropy", "a")]
)
def test_training_curve(runs, metrics):
    fig = plots.training_curve(training(runs, metrics), title="Down", subtitle="seed 0", smooth=5)
    assert_readable(fig)
    assert (fig.legends != []) == (len(runs) > 1)


def test_a_run_looks_the_same_in_all_panels_and_all_runs_are_named():
    data = training(("a", "b", "c"), ("train/reward", "train/kl"), updates=5)
    data = data[(data["metric"] == "train/reward") | (data["run"] != "a")]  # no KL of its own
    data = data[(data["metric"] == "train/kl") | (data["run"] != "c")]
    fig, looks = plots.training_curve(data, title="Down", subtitle="seed 0"), {}
    for line in (line for ax in fig.axes for line in ax.get_lines()):
        looks.setdefault(line.get_label(), set()).add(line.get_color())
    assert all(len(own) == 1 for own in looks.values()) and len(set(map(min, looks.values()))) == 3
    assert {text.get_text() for text in fig.legends[0].get_texts()} == {"a", "b", "c"}


def test_single_run_without_a_run_column():
    data = training(("std",), ("train/loss",), updates=5).drop(columns="run")
    assert_readable(plots.training_curve(data, title="Down", subtitle="seed 0"))


def test_refusals():
    words = {"title": "t", "subtitle": "s"}
    with pytest.raises(ValueError, match="columns value are missing"):
        plots.scaling_plot(curves().drop(columns="value"), **words)
    with pytest.raises(ValueError, match="no rows"):
        plots.scaling_plot(curves().head(0), **words)
    with pytest.raises(ValueError, match="no style for 'magic'"):
        plots.scaling_plot(curves().replace({"method": {"mcts": "magic"}}), **words)
    with pytest.raises(ValueError, match="budget 0"):
        plots.scaling_plot(curves().replace({"budget": {1: 0}}), **words)
    with pytest.raises(ValueError, match="metrics x are not in the data"):
        plots.training_curve(training(), metrics=["x"], **words)


def test_looks_are_distinct_and_stable():
    looks = {name: (s.color, s.marker, str(s.dash)) for name, s in METHOD_STYLE.items()}
    aliases = {name for name, look in looks.items() if list(looks.values()).count(look) > 1}
    assert aliases <= {"best_of_n", "prm_min_max", "prm_min_vote", "prm", "orm", "orm_max"}
    assert style_of("strong") is METHOD_STYLE["strong"] and style_of("x", 0) != style_of("x", 1)


def test_short_numbers():
    shown = [short_number(x) for x in (1, 0.5, 512, 1024, 1536, 2**21, 2**33)]
    assert shown == ["1", "0.5", "512", "1k", "1.5k", "2M", "8G"]


def test_labels_move_no_further_than_needed():
    assert plots.spread([0.5, 0.1, 0.52], 0.1) == [0.46, 0.1, 0.56]
    assert plots.spread([], 0.1) == []
