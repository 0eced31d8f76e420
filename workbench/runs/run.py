"""What a notebook talks to: `start` opens a run; it shows progress, keeps figures and metrics;
`finish` closes it.

Under the batch runner the output goes to the folder named by WORKBENCH_RUN_DIR; in JupyterLab it
goes to `runs/interactive/<notebook>/` of the repository. Either way: figures/<notebook>/,
metrics/<notebook>.json, files/<notebook>/ and, written last, a record in manifest.jsonl. Taught in
notebook 00.
"""

from __future__ import annotations

import ast
import inspect
import math
import numbers
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import workbench
from workbench.runs import content, environment, manifest, reads
from workbench.runs.track import duration, in_notebook, show, track
from workbench.show import cards

PROFILES = ("quick", "full")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def start(name: str, *, profile: str, seed: int) -> Run:
    """Open the run of a notebook: sets the plot style, registers the views, shows versions, device
    and parameters.

    Call it before anything is loaded: the record names the data read from here on (see
    `workbench.runs.reads`). ValueError for a name that is no notebook name, a profile other than
    quick or full, or a seed that is no integer.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"notebook name {name!r}: use lower-case letters, digits, _ and -, as in 04_grpo"
        )
    if profile not in PROFILES:
        raise ValueError(f"profile {profile!r}: use quick or full")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise ValueError(f"seed {seed!r}: use an integer")
    from workbench.show.plots import use_style

    reads.watch()
    base = content.root()
    use_style()
    _register_views()
    batch = os.environ.get("WORKBENCH_RUN_DIR")
    folder = Path(batch) if batch else base / "runs" / "interactive" / name
    parameters = {"profile": profile, "seed": int(seed), **_notebook_parameters()}
    run = Run(name, profile, int(seed), parameters, folder)
    info = environment.describe(base)
    card = cards.environment_card(info, title=name, parameters=parameters)
    show(card, f"{name}  {_plain(parameters)}\n{_plain(info)}")
    return run


def _plain(values: Mapping[str, object]) -> str:
    return "  ".join(f"{k}={v}" for k, v in values.items())


def _notebook_parameters() -> dict[str, object]:
    """Today's values of the annotated names in the cell that declares `profile`; empty outside of a
    notebook."""
    if not in_notebook():
        return {}
    values = sys.modules["IPython"].get_ipython().user_ns
    for source in values.get("In", []):
        try:
            lines = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
        except SyntaxError:  # a cell with magics
            continue
        names = [node.target.id for node in lines if isinstance(node.target, ast.Name)]
        if "profile" in names:
            return {name: values[name] for name in names if name in values}
    return {}


def _register_views() -> None:
    if not in_notebook():
        return
    from workbench.show.steps import prefix_view, result_view
    from workbench.types import Prefix, SearchResult

    html = sys.modules["IPython"].get_ipython().display_formatter.formatters["text/html"]
    html.for_type(Prefix, prefix_view)
    html.for_type(SearchResult, result_view)


class Run:
    """One run of one notebook: `sizes`, `track`, `log`, `figure`, `path`, `finish`."""

    def __init__(
        self, name: str, profile: str, seed: int, parameters: Mapping[str, object], folder: Path
    ):
        self.name, self.profile, self.seed = name, profile, seed
        self.parameters = dict(parameters)
        self.folder = folder
        self.metrics: dict[str, float | list[float]] = {}
        self.figures: list[str] = []
        self.started = time.monotonic()

    def sizes(self, *, quick: Mapping[str, object], full: Mapping[str, object]) -> SimpleNamespace:
        """Show the sizes of both profiles side by side and return those of this one as attributes.

        ValueError unless both give the same names.
        """
        if set(quick) != set(full):
            odd = ", ".join(sorted(set(quick) ^ set(full)))
            raise ValueError(
                f"sizes: quick and full must give the same names; only one of them gives {odd}"
            )
        active = f"{self.profile} (this run)"
        names = {p: active if p == self.profile else p for p in PROFILES}
        rows = [
            {"size": key, names["quick"]: quick[key], names["full"]: full[key]} for key in quick
        ]
        show(cards.table(rows, mark=active), cards.plain_table(rows))
        return SimpleNamespace(**(quick if self.profile == "quick" else full))

    def track(self, items: Iterable, label: str = "", *, total: int | None = None) -> Iterator:
        """Go through `items` while showing count, rate and remaining time."""
        return track(items, label, total=total)

    def log(self, **metrics: object) -> None:
        """Keep metrics: each a number, or (value, low, high) with its interval. ValueError for all
        else, NaN too."""
        self.metrics |= {name: _metric(name, value) for name, value in metrics.items()}

    def say(self, name: str) -> str:
        """A logged share in words: `41 % (38 to 44)`. KeyError for a metric that was not logged."""
        value = self.metrics[name]
        if not isinstance(value, list):
            return f"{value:.0%}".replace("%", " %")
        return f"{100 * value[0]:.0f} % ({100 * value[1]:.0f} to {100 * value[2]:.0f})"

    def figure(self, fig, name: str, *, data) -> None:
        """Keep a figure as PNG and the data it was drawn from (DataFrame or list of rows) as CSV,
        and display it.

        ValueError for a name that is no file name, or data without rows.
        """
        import pandas as pd

        if not NAME.fullmatch(name):
            raise ValueError(f"figure name {name!r}: use lower-case letters, digits, _ and -")
        frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
        if frame.empty:
            raise ValueError(
                f"figure {name!r}: data has no rows; pass what the figure was drawn from"
            )
        folder = self._subfolder("figures")
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
        fig.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
        if name not in self.figures:
            self.figures.append(name)
        _show_figure(fig, folder / f"{name}.png")

    def path(self, name: str) -> Path:
        """A place for a file in the run's output folder. ValueError if `name` leads out of it."""
        folder = self._subfolder("files")
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
            raise ValueError(f"path {name!r}: must name a file inside the run's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self) -> None:
        """Write the metrics, then the manifest record, and show a summary. Call it in the last
        cell."""
        seconds = round(time.monotonic() - self.started, 1)
        manifest.write_json(self.folder / "metrics" / f"{self.name}.json", self.metrics)
        record = {
            "event": "finished",
            "notebook": self.name,
            "profile": self.profile,
            "parameters": self.parameters,
        }
        record |= {
            "package_version": workbench.__version__,
            "seconds": seconds,
            "metrics": self.metrics,
        }
        record |= {
            "figures": self.figures,
            "modules": content.loaded_modules(),
            "threads": environment.threads(),
        }
        read = reads.data_read(content.home())
        record |= {"read": read, "data": content.data_hashes(content.home(), read)}
        manifest.append(self.folder, record)
        rows = [{"metric": name, **_interval(value)} for name, value in self.metrics.items()]
        figures = ", ".join(self.figures) or "none"
        line = f"{self.name} finished in {duration(seconds)} · figures: {figures}"
        show(
            f"<p>{cards.escape(line)}</p>{cards.table(rows) if rows else ''}",
            f"{line}\n{cards.plain_table(rows)}",
        )

    def _subfolder(self, kind: str) -> Path:
        folder = self.folder / kind / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _number(value: object) -> float | None:
    """A finite number as int or float; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _metric(name: str, value: object) -> float | list[float]:
    number = _number(value)
    if number is not None:
        return number
    triple = [_number(v) for v in value] if isinstance(value, (tuple, list)) else []
    if len(triple) != 3 or None in triple or triple[1] > triple[2]:
        raise ValueError(
            f"metric {name}={value!r}: log a finite number, or (value, low, high) with low <= high"
        )
    return triple


def _interval(value: float | list[float]) -> dict[str, object]:
    value, low, high = value if isinstance(value, list) else (value, None, None)
    return {"value": value, "low": low, "high": high}


def _show_figure(fig, path: Path) -> None:
    import matplotlib.pyplot as plt

    plt.close(fig)  # the inline backend would show it a second time
    if not in_notebook():
        print(f"figure {path}")
        return
    from IPython.display import Image, display

    display(Image(filename=str(path), width=round(fig.get_figwidth() * 100)))


def source(thing) -> None:
    """Show the code of a function, class or module of the package as it is now, so that text about
    it can't drift."""
    code = textwrap.dedent(inspect.getsource(inspect.unwrap(thing))).rstrip()
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    module, name = inspect.getmodule(thing).__name__, getattr(thing, "__qualname__", "")
    show(
        f"{fence}python\n{code}\n{fence}",
        code,
        kind="text/markdown",
        metadata={"workbench_source": f"{module}:{name}"},
    )
