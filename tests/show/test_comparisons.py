"""Comparison figures: what they are given is what they show, nothing overlaps, missing columns are
named."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from show.test_plots import LONG, assert_readable

from workbench.show.comparisons import bar_plot, dot_plot, level_plot, token_curve
from workbench.show.style import use_style

LEVELS = pd.DataFrame(
    [
        {
            "method": m,
            "level": level,
            "value": 1 / (level + i),
            "low": 0.5 / (level + i),
            "high": 1.0,
        }
        for i, m in enumerate(("strong", "base", "weak"))
        for level in range(1, 9)
    ]
)


@pytest.fixture(autouse=True)
def style():
    use_style()
    yield
    plt.close("all")


def test_level_plot_draws_every_method_with_its_values():
    (ax,) = level_plot(LEVELS, title="A finding", subtitle="n = 3").axes
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    assert set(lines) == {"strong policy", "base policy", "weak policy"}
    assert list(lines["weak policy"]) == list(LEVELS[LEVELS.method == "weak"].value)


def test_token_curve_orders_levels_from_light_to_dark():
    df = LEVELS[LEVELS.method == "base"].assign(tokens=1_000_000)
    df = pd.concat([df, df.assign(tokens=4_000_000)])
    (ax,) = token_curve(df, title="A finding", subtitle="n = 3").axes
    brightness = [sum(to_rgb(line.get_color())) for line in ax.get_lines()]
    assert len(brightness) == 8 and brightness == sorted(brightness, reverse=True)


def test_bar_plot_puts_the_largest_group_on_top_and_misses_none():
    df = pd.DataFrame(
        {
            "method": ["weak", "weak", "strong"],
            "fault": ["slip", "lost", "slip"],
            "share": [0.5, 0.2, 0.1],
        }
    )
    (ax,) = bar_plot(df, x="share", y="fault", title="A finding", subtitle="n = 3").axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["lost", "slip"]
    assert sorted(bar.get_width() for bar in ax.patches) == [0, 0.1, 0.2, 0.5]
    said = ax.xaxis.get_major_formatter()
    # as the axis has them
    assert [said(x) for x in (0, 0.025, 0.05, 0.125)] == ["0%", "2.5%", "5%", "12.5%"]


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match="columns level are missing"):
        level_plot(LEVELS.drop(columns="level"), title="", subtitle="")
    with pytest.raises(ValueError, match="columns tokens are missing"):
        token_curve(LEVELS, title="", subtitle="")


AUCS = pd.DataFrame(
    [
        {"group": g, "method": m, "value": v, "low": v - 0.02, "high": v + 0.02}
        for g in ("all steps", "same position", "same problem")
        for m, v in (("ceiling", 0.97), ("prm", 0.9), ("likelihood", 0.7), ("position", 0.45))
    ]
)


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_dots_stand_in_blocks_in_the_order_given(groups):
    df = AUCS.head(4 * groups) if groups else AUCS.head(4).drop(columns="group")
    fig = dot_plot(df, title=LONG, subtitle="n = 200 problems, seed 0", xlabel="AUC")
    assert_readable(fig)
    (ax,) = fig.axes
    block = ["ceiling", "PRM", "policy's likelihood", "position only"]
    headed = [label for name in AUCS["group"].unique()[:groups] for label in [name, *block]]
    assert [label.get_text() for label in ax.get_yticklabels()] == (headed or block)
    dots = [line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert dots == df["value"].tolist()
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is on top"
    assert ax.get_xlim()[0] < 0.43 and ax.get_xlim()[1] > 0.99


def test_dots_name_what_is_missing():
    with pytest.raises(ValueError, match="columns low are missing"):
        dot_plot(AUCS.drop(columns="low"), title="", subtitle="", xlabel="")
    with pytest.raises(ValueError, match="no style for 'magic'"):
        dot_plot(AUCS.replace({"method": {"prm": "magic"}}), title="", subtitle="", xlabel="")
