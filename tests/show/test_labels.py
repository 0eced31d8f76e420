"""The figure of label errors shows what it is given, on the law it names."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from workbench.show.labels import label_errors

MISSES = pd.DataFrame(
    [{"method": m, "p": p, "value": v, "low": v / 2, "high": min(1, 2 * v)}
     for m, p, v in (("weak", 0.1, 0.4), ("weak", 0.5, 0.01), ("strong", 0.9, 0.0))]
)  # fmt: skip
PASSES = pd.DataFrame(
    [{"group": g, "name": n, "n": 1200, "value": v, "low": 0.1, "high": 0.9}
     for g, n, v in (("kind of fault", "slip", 0.2), ("kind of fault", "restated", 0.8),
                     ("level", "3", 0.5))]
)  # fmt: skip


def test_points_law_and_blocks():
    fig = label_errors(MISSES, PASSES, rollouts=8, title="t", subtitle="s")
    left, right = fig.axes
    law = left.get_lines()[0]
    np.testing.assert_allclose(law.get_ydata(), (1 - law.get_xdata()) ** 8)
    points = [tuple(np.round(xy, 3)) for line in left.get_lines()[1:] for xy in line.get_xydata()]
    assert {(0.1, 0.4), (0.5, 0.01), (0.9, 0.0)} <= set(points)
    names = [label.get_text() for label in right.get_yticklabels()]
    assert names == ["kind of fault", "slip (1,200)", "restated (1,200)", "level", "3 (1,200)"]
    dots = [line.get_xdata()[0] for line in right.get_lines() if len(line.get_xdata()) == 1]
    assert dots == [0.2, 0.8, 0.5]
    assert (
        len({tuple(line.get_ydata()) for line in right.get_lines() if len(line.get_xdata()) == 1})
        == 3
    )
    plt.close(fig)


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match="columns p are missing"):
        label_errors(MISSES.drop(columns="p"), PASSES, rollouts=8, title="t", subtitle="s")
