"""Lay out the sources of the site: copies of what the repository holds, in the same folders.

    python docs/pages.py build/site-source

Nothing is written twice: README.md becomes the first page, and every link between files works as it
does in the repository. Only the pages of the package (docs/api.py) are generated.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from html import escape
from pathlib import Path

from api import write_api

ROOT = Path(__file__).parents[1]
COPIED = (
    "RESULTS.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "notebooks/*.ipynb",
    "notebooks/*.md",
    "notebooks/solutions/*.ipynb",
    "data/README.md",
    "data/*/*/README.md",
    "figures/*/*.png",
)
# the table of contents: heading, pages
PARTS = {
    "Notebooks": ("notebooks/[0-9]*.ipynb",),
    "Words and lessons": ("notebooks/glossary.md", "notebooks/teaching.md", "notebooks/scale.md"),
    "Solutions of the exercises": ("notebooks/solutions/*.ipynb",),
    "Results and data": ("RESULTS.md", "data/README.md", "data/*/*/README.md"),
    "The package": ("CONTRIBUTING.md", "api/index.md", "CHANGELOG.md"),
}
CLAIM = re.compile(r"<!--/?m[^>]*-->")  # where a number was filled in (workbench/claims.py)
FLOWCHART = re.compile(r"```mermaid\nflowchart LR\n(.*?)```", re.S)
NODE = re.compile(r'(\w+)\["([^"]+)"\]')


def lay_out(folder: Path) -> None:
    """Write all sources of the site into `folder`, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    for pattern in COPIED:
        for path in sorted(ROOT.glob(pattern)):
            _copy(path, folder / path.relative_to(ROOT))
    shutil.copytree(ROOT / "docs" / "_static", folder / "_static")
    write_api(ROOT / "workbench", folder / "api")
    (folder / "index.md").write_text(first_page(folder), encoding="utf-8")


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".md":
        target.write_text(text_of(path), encoding="utf-8")
    else:
        shutil.copyfile(path, target)


def text_of(path: Path) -> str:
    """A text as the site shows it: without the comments around numbers, flowcharts as lists."""
    text = CLAIM.sub("", path.read_text(encoding="utf-8"))
    return FLOWCHART.sub(lambda found: arrows(found[1]), text)


def arrows(chart: str) -> str:
    """A flowchart of Mermaid, which needs a script to be drawn, as a list of its arrows.

    >>> print(arrows('a["One"] --> b["Two"]\\na -- why? --> a'))
    <ol class="flow">
    <li><b>One</b> → <b>Two</b></li>
    <li><b>One</b> → <i>why?</i> → <b>One</b></li>
    </ol>
    """
    names = {name: label.replace("<br>", " ") for name, label in NODE.findall(chart)}
    rows = []
    for line in filter(None, map(str.strip, NODE.sub(r"\1", chart).split("\n"))):
        start, *words, end = re.split(r"\s*-[-.]>?\s*|\s*\.->\s*|\s*-->\s*", line)
        ends = [f"<b>{escape(names[name])}</b>" for name in (start, end)]
        said = [f"<i>{escape(word)}</i>" for word in words if word]
        rows.append(f"<li>{' → '.join([ends[0], *said, ends[1]])}</li>")
    return "\n".join(['<ol class="flow">', *rows, "</ol>"])


def first_page(folder: Path) -> str:
    """README.md with the table of contents, which stands at the side of every page."""
    text = text_of(ROOT / "README.md")
    for heading, patterns in PARTS.items():
        paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        names = "\n".join(_entry(path, folder) for path in paths)
        text += f"\n```{{toctree}}\n:caption: {heading}\n:hidden:\n\n{names}\n```\n"
    return text


def _entry(path: Path, folder: Path) -> str:
    """A line of the table of contents; a notebook's begins with its number."""
    name = path.relative_to(folder).as_posix()
    if path.suffix != ".ipynb":
        return name
    title = json.loads(path.read_text("utf-8"))["cells"][0]["source"]
    first = "".join(title).split("\n")[0].removeprefix("# ").removesuffix(": solutions")
    return f"{path.name[:2]} {first} <{name}>"


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
