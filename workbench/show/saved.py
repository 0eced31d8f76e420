"""Figures as files: made small, and shown from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.show.progress import in_notebook

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shrink(path: Path) -> None:
    """Keep 256 colours of a PNG, a third of its size: a figure has few, but for smooth edges."""
    from PIL import Image

    with Image.open(path) as image:
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def show_figure(fig: Figure, path: Path) -> None:
    """Display a figure from its file, once, at the size it was made for; elsewhere print where."""
    import matplotlib.pyplot as plt

    plt.close(fig)  # the inline backend would show it a second time
    if not in_notebook():
        print(f"figure {path}")
        return
    from IPython.display import Image, display

    display(Image(filename=str(path), width=round(fig.get_figwidth() * 100)))
