"""How every figure looks: one colour, marker and dash per method and model, the same everywhere.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; marker and dash tell them
apart in grey, too.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import matplotlib as mpl
from cycler import cycler
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

INK, FAINT = "#222222", "#6b6b6b"
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PINK = "#0072B2", "#D55E00", "#CC79A7"
GREY = "#8a8a8a"


@dataclass(frozen=True)
class Style:
    """Label, colour, marker and dash of one line."""

    label: str
    color: str
    marker: str
    dash: str | tuple = "-"

    def line(self) -> dict[str, object]:
        """Its looks as matplotlib's arguments of a line."""
        look = {"color": self.color, "marker": self.marker, "linestyle": self.dash}
        return look | {"label": self.label}


DASHED, DOTTED, MIXED = (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5))

METHOD_STYLE = {
    "greedy": Style("greedy", GREY, "x", DOTTED),
    "sample": Style("one sample", GREY, "."),
    "pass@k": Style("pass@k", BLACK, "None", DASHED),
    "majority": Style("majority vote", BLUE, "o"),
    "best_of_n": Style("best of n", RED, "s"),
    "prm_min_max": Style("best of n, PRM min", RED, "s"),
    "prm_last_max": Style("best of n, PRM last", RED, "v", DASHED),
    "prm_prod_max": Style("best of n, PRM prod", RED, "<", MIXED),
    "prm_mean_max": Style("best of n, PRM mean", RED, ">", DOTTED),
    "prm_min_vote": Style("weighted vote, PRM min", GREEN, "D"),
    "prm_last_vote": Style("weighted vote, PRM last", GREEN, "d", DASHED),
    "prm_prod_vote": Style("weighted vote, PRM prod", GREEN, "p", MIXED),
    "prm_mean_vote": Style("weighted vote, PRM mean", GREEN, "h", DOTTED),
    "orm_max": Style("best of n, ORM", PINK, "s", DASHED),
    "orm_vote": Style("weighted vote, ORM", PINK, "D", MIXED),
    "beam_search": Style("beam search", ORANGE, "^"),
    "dvts": Style("diverse tree search", PINK, "v", DASHED),
    "lookahead": Style("look-ahead search", ORANGE, "X", DOTTED),
    "mcts": Style("MCTS", SKY, "P"),
    "rstar": Style("rStar", SKY, "H", DASHED),
    "rebase": Style("REBASE", BLACK, "^", DOTTED),
    "particle_filter": Style("particle filter", BLUE, "D", DASHED),
    "stepwise_best_of_n": Style("step-wise best of n", RED, "P", DOTTED),
    "revise": Style("revision", GREY, "v", MIXED),
    "critic_search": Style("critique and rewrite", GREY, "X", DOTTED),
    "adaptive": Style("adaptive vote", BLUE, "<", MIXED),
    # policies and verifiers
    "weak": Style("weak policy", SKY, "o", DOTTED),
    "base": Style("base policy", BLUE, "s", DASHED),
    "strong": Style("strong policy", RED, "^"),
    "prm": Style("PRM", GREEN, "D"),
    "orm": Style("ORM", PINK, "s", DASHED),
    "reward": Style("Bradley–Terry", PINK, "v", MIXED),
    "genrm": Style("generative verifier", BLUE, "P"),
    "ceiling": Style("ceiling", BLACK, "D", DASHED),  # trained on exact step labels
    "position": Style("position only", GREY, "s", DASHED),
    "likelihood": Style("policy's likelihood", ORANGE, "o", DOTTED),
    "host": Style("host's likelihood", SKY, "v", MIXED),  # what the verifier is trained from
    "tokens_only": Style("PRM, label tokens only", RED, "X", DASHED),
    # automatic labels
    "shepherd": Style("Math-Shepherd", BLUE, "s"),
    "shepherd_stop": Style("… stop at zero", SKY, "v", DASHED),
    "omegaprm": Style("OmegaPRM", RED, "P"),
    "mcts_values": Style("MCTS values", GREEN, "X", MIXED),
    "outcome": Style("final answer only", GREY, "v", DOTTED),
    "judge": Style("untrained judge", ORANGE, "D", DOTTED),
    # policies after training
    "sft_more": Style("more SFT", BLUE, "v", DOTTED),
    "rft": Style("RFT", GREEN, "o", DASHED),
    "grpo": Style("GRPO", PINK, "^"),
}

COLOURS = (BLUE, RED, GREEN, ORANGE, PINK, SKY, BLACK)
OTHERS = tuple(zip(COLOURS, "os^DvPX", ("-", DASHED, MIXED, DOTTED) * 2))


def style_of(name: str, index: int | None = None) -> Style:
    """The style of a method or model, of other series the `index`-th; else ValueError."""
    if name in METHOD_STYLE:
        return METHOD_STYLE[name]
    if index is None:
        known = ", ".join(METHOD_STYLE)
        raise ValueError(f"no style for {name!r}: use one of {known}, or add it to METHOD_STYLE")
    return Style(name, *OTHERS[index % len(OTHERS)])


def use_style() -> None:
    """Set matplotlib's defaults: white background, readable text, quiet axes, 150 dpi."""
    looks = {
        "white": ["figure.facecolor", "savefig.facecolor"],
        INK: ["text.color", "axes.labelcolor"],
        FAINT: ["xtick.color", "ytick.color"],
        11: ["font.size", "axes.titlesize", "axes.labelsize"],
        10: ["xtick.labelsize", "ytick.labelsize", "legend.fontsize"],
        False: ["legend.frameon", "axes.spines.top", "axes.spines.right"],
    }
    mpl.rcParams.update({name: look for look, names in looks.items() for name in names})
    mpl.rcParams.update({"figure.dpi": 100, "savefig.dpi": 150, "axes.edgecolor": "#9a9a9a"})
    mpl.rcParams.update({"axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e6e6e6"})
    mpl.rcParams.update({"axes.axisbelow": True, "lines.linewidth": 2.0, "lines.markersize": 6})
    mpl.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)


def headline(fig, title: str, subtitle: str = "", *, left=0.75, right=0.25, above=0.18) -> None:
    """Write the finding and, smaller, how it was measured; axes get the room below (in inches)."""
    width, height = fig.get_size_inches()
    lines = textwrap.wrap(title, int(width * 9.2), break_on_hyphens=False) or [""]
    notes = textwrap.wrap(subtitle, int(width * 12), break_on_hyphens=False)
    x, y = 0.14 / width, 1 - 0.12 / height
    look = {"ha": "left", "va": "top", "linespacing": 1.2}
    fig.text(x, y, "\n".join(lines), fontsize=13, fontweight="bold", **look)
    y -= 0.235 * len(lines) / height
    fig.text(x, y, "\n".join(notes), fontsize=10, color=FAINT, **look)
    top = y - (0.19 * len(notes) + above) / height
    fig.subplots_adjust(left=left / width, right=1 - right / width, bottom=0.7 / height, top=top)


def budget_axis(ax, budgets, unit: str = "samples per problem") -> None:
    """Budgets on log₂ x: ticks at the powers of two, thinned where they would touch."""
    low, high = min(budgets), max(budgets)
    if low <= 0:
        raise ValueError(f"budget {low}: must be positive to stand on a logarithmic axis")
    ax.set_xscale("log", base=2)
    first, last = int(low).bit_length() - 1, max(int(high), 1).bit_length()
    powers = [2**k for k in range(first, last + 1) if low * 0.99 <= 2**k <= high * 1.01]
    ax.xaxis.set_major_locator(FixedLocator(powers[:: 1 + len(powers) // 9]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_number(x)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(f"{unit} (log₂)")


def short_number(x: float) -> str:
    """1024 → 1k, 2097152 → 2M, 3e12 → 3T: short enough for a tick."""
    for size, letter in ((2**40, "T"), (2**30, "G"), (2**20, "M"), (2**10, "k")):
        if x >= size:
            return f"{x / size:.3g}{letter}"
    return f"{x:g}"
