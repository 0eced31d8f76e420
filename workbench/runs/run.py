"""What a notebook talks to: `start` opens a run that keeps figures and metrics, `finish` closes it.

Under the batch runner the output goes to the folder named by WORKBENCH_RUN_DIR; in JupyterLab to
`runs/interactive/<notebook>/`, or `<notebook>-2` while another kernel is at work there. Either way:
figures/<notebook>/ with metrics.json, files/<notebook>/ and, written last, a record in
manifest.jsonl. Taught in notebook 00.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import numbers
import os
import pkgutil
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import workbench
from workbench.files import alone, write_whole
from workbench.runs import environment, manifest
from workbench.show import cards
from workbench.show.numbers import stated
from workbench.show.page import metric_rows
from workbench.show.progress import duration, in_notebook, show, track
from workbench.show.saved import show_figure, shrink
from workbench.show.steps import labelled_view, prefix_view, problem_view, result_view
from workbench.types import LabelledSolution, Prefix, Problem, SearchResult

PROFILES = ("quick", "full")
_HELD: dict[Path, ExitStack] = {}  # folders that this kernel writes to
SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def start(name: str, *, profile: str, seed: int) -> Run:
    """Open the run of a notebook: plot style, views of results, a card of versions and parameters.

    Call it before anything is loaded: the record names the data read from here on. ValueError for
    a name that is no notebook name, a profile other than quick or full, a seed that is no integer.
    """
    _check_name("notebook", name)
    if profile not in PROFILES:
        raise ValueError(f"profile {profile!r}: use quick or full")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise ValueError(f"seed {seed!r}: use an integer")
    from workbench.show.style import use_style

    manifest.watch()
    use_style()
    _register_views()
    batch = os.environ.get("WORKBENCH_RUN_DIR")
    base = environment.root()
    folder = Path(batch) if batch else _own_folder(base / "runs" / "interactive" / name)
    parameters = {"profile": profile, "seed": int(seed), **_notebook_parameters()}
    info = environment.describe(base)
    card = cards.environment_card(info, title=name, parameters=parameters)
    plain = ["  ".join(f"{k}={v}" for k, v in facts.items()) for facts in (parameters, info)]
    show(card, f"{name}  {plain[0]}\n{plain[1]}")
    return Run(name, profile, int(seed), parameters, folder)


def _own_folder(place: Path) -> Path:
    """`place`, or `place-2` ... where another kernel writes; held until this one ends."""
    for number in count(1):
        folder = place if number == 1 else place.with_name(f"{place.name}-{number}")
        if folder in _HELD:
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        held = ExitStack()
        with suppress(ValueError):
            held.enter_context(alone(folder))
            _HELD[folder] = held
            break
    return folder


def _check_name(kind: str, name: str) -> None:
    if not SAFE_NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name!r}: use lower-case letters, digits, _ and -")


def _notebook_parameters() -> dict[str, object]:
    """The values of the names in the cell that declares `profile`; none outside of a notebook."""
    values = sys.modules["IPython"].get_ipython().user_ns if in_notebook() else {}
    for code in values.get("In", []):
        with suppress(SyntaxError):  # a cell with magics
            lines = [node for node in ast.parse(code).body if isinstance(node, ast.AnnAssign)]
            names = [ast.unparse(node.target) for node in lines]
            if "profile" in names:
                return {name: values[name] for name in names if name in values}
    return {}


def _register_views() -> None:
    if not in_notebook():
        return
    html = sys.modules["IPython"].get_ipython().display_formatter.formatters["text/html"]
    html.for_type(Problem, problem_view)
    html.for_type(LabelledSolution, labelled_view)
    html.for_type(Prefix, prefix_view)
    html.for_type(SearchResult, result_view)
    # by name: nothing is loaded for it
    html.for_type_by_name("workbench.analyse.compare", "Paired", cards.paired_view)


class Run:
    """One run of one notebook: `sizes`, `track`, `log`, `figure`, `path`, `finish`."""

    def __init__(
        self, name: str, profile: str, seed: int, parameters: Mapping[str, object], folder: Path
    ):
        self.name, self.profile, self.seed = name, profile, seed
        self.parameters, self.folder = dict(parameters), folder
        self.metrics: dict[str, float | list[float]] = {}
        self.figures: list[str] = []
        self.started = time.monotonic()

    def sizes(self, *, quick: Mapping[str, object], full: Mapping[str, object]) -> SimpleNamespace:
        """Show the sizes of both profiles, return this one's; ValueError if names differ."""
        if set(quick) != set(full):
            odd = ", ".join(sorted(set(quick) ^ set(full)))
            raise ValueError(f"sizes: quick and full must have the same names; only one has {odd}")
        active = f"{self.profile} (this run)"
        left, right = [active if p == self.profile else p for p in PROFILES]
        rows = [{"size": key, left: quick[key], right: full[key]} for key in quick]
        show(cards.table(rows, mark=active), cards.plain_table(rows))
        return SimpleNamespace(**(quick if self.profile == "quick" else full))

    def track(self, items: Iterable, label: str = "", *, total: int | None = None) -> Iterator:
        """Go through `items` while showing count, rate and remaining time."""
        return track(items, label, total=total)

    def log(self, **metrics: object) -> None:
        """Keep metrics: each a number, or (value, low, high); ValueError for all else, NaN too."""
        self.metrics |= {name: _metric(name, value) for name, value in metrics.items()}

    def say(self, name: str, form: str = ".0%") -> str:
        """A metric that was logged, else KeyError, by a form of `stated`; `+.1p` says points."""
        value = self.metrics[name]
        return stated(value, f"{form.split()[0]} interval" if isinstance(value, list) else form)

    def figure(self, fig, name: str, *, data) -> None:
        """Keep a figure as PNG, with the data it was drawn from as CSV, and display it.

        `data`: a DataFrame or a list of rows. ValueError for a bad name, or data without rows.
        """
        import pandas as pd

        _check_name("figure", name)
        frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
        if frame.empty:
            raise ValueError(f"figure {name!r}: data without rows; pass what it was drawn from")
        folder = self._subfolder("figures")
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
        fig.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
        shrink(folder / f"{name}.png")
        if name not in self.figures:
            self.figures.append(name)
        show_figure(fig, folder / f"{name}.png")

    def path(self, name: str) -> Path:
        """A place for a file in the run's output folder. ValueError if `name` leads out of it."""
        folder = self._subfolder("files")
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
            raise ValueError(f"path {name!r}: must name a file inside the run's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self) -> None:
        """Write the metrics, then the manifest record, and show a summary: in the last cell."""
        seconds = round(time.monotonic() - self.started, 1)
        path = self._subfolder("figures") / "metrics.json"
        text = json.dumps(self.metrics, indent=1) + "\n"
        write_whole(path, lambda part: part.write_text(text))
        read = manifest.data_read(environment.home())
        record = {"event": "finished", "notebook": self.name, "seconds": seconds}
        record |= {"profile": self.profile, "parameters": self.parameters}
        record |= {"metrics": self.metrics, "figures": self.figures}
        record |= {"package_version": workbench.__version__, "threads": environment.threads()}
        record |= {"git": environment.git_state(environment.root())}
        record |= {"modules": manifest.loaded_modules(), "read": read}
        record["data"] = manifest.data_hashes(environment.home(), read)
        manifest.append(self.folder, record)
        show(*self._views(f" finished in {duration(seconds)}"))

    def __repr__(self) -> str:
        return self._views(self._asked())[1]

    def _repr_html_(self) -> str:
        return self._views(self._asked())[0]

    def _asked(self) -> str:
        return "".join(f" · {name}={value}" for name, value in self.parameters.items())

    def _views(self, said: str) -> tuple[str, str]:
        """The run's name and what is `said` of it, its figures and metrics: as HTML, as text."""
        rows, figures = metric_rows(self.metrics), ", ".join(self.figures) or "none"
        line = f"{self.name}{said} · figures: {figures}"
        html = f"<p>{cards.escape(line)}</p>{cards.table(rows) if rows else ''}"
        return html, f"{cards.readable(line)}\n{cards.plain_table(rows)}"

    def _subfolder(self, kind: str) -> Path:
        folder = self.folder / kind / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _metric(name: str, value: object) -> float | list[float]:
    """A finite number, or three of them, as Python's own; ValueError for everything else."""
    many = isinstance(value, (tuple, list))
    parts = list(value) if many else [value]
    if all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in parts):
        parts = [int(v) if isinstance(v, numbers.Integral) else float(v) for v in parts]
        if not many and math.isfinite(parts[0]):
            return parts[0]
        if len(parts) == 3 and all(map(math.isfinite, parts)) and parts[1] <= parts[2]:
            return parts
    raise ValueError(f"metric {name}={value!r}: log a finite number or (value, low, high)")


def source(thing) -> None:
    """Show the code of a function, class or module of the package, so that text can't drift."""
    name = f"{inspect.getmodule(thing).__name__}:{getattr(thing, '__qualname__', '')}"
    code = source_text(name)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    show(f"{fence}python\n{code}\n{fence}", code, kind="text/markdown", workbench_source=name)


def source_text(name: str) -> str | None:
    """Today's code of what stands at `module:qualified.name`; None if nothing does."""
    try:
        thing = pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return None
    return textwrap.dedent(inspect.getsource(inspect.unwrap(thing))).rstrip()
