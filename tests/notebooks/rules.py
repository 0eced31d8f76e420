"""The rules that every committed notebook keeps: order of its cells, and what its sources and
outputs may hold.

Title → parameters → set-up → sizes → sections → what we learned → exercises → `run.finish()`. Each
rule is a function that yields what is wrong, in words that say what to do.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

from workbench.runs.notebook import code_cells, read_parameters

MOST_KNOBS, MOST_LINES, MOST_COLUMNS = 5, 15, 88
PATH = re.compile(
    r"(?<![\w.:/<~-])/(?:home|root|Users|work|tmp|mnt|opt|usr|var|private|srv|data|content)/"
    r"|\b[A-Z]:\\"
)
REMOTE_IMAGE = re.compile(r"!\[[^\]]*\]\(\s*https?:|<img[^>]+src\s*=\s*[\"']?https?:")
INSTALL = re.compile(
    r"(?:[!%]\s*|-m\s+)(?:pip|conda|mamba)\b|\bpip install\b|\b(?:notebook_)?login\("
)
WIDGET = "application/vnd.jupyter.widget-view+json"
INTRODUCTION = ("you will", "time", "needs", "makes")


def structure_problems(notebook, name: str) -> list[str]:
    """What is wrong with an executed notebook, in the order of its cells; empty if nothing is."""
    if len(notebook.cells) < 4 or not code_cells(notebook):
        return ["too short: needs a title, parameters, set-up, sizes, sections, run.finish()"]
    rules = (_title, _parameters, _setup, _sizes, _sections, _ending, _sources, _outputs)
    return [problem for rule in rules for problem in rule(notebook, name)]


def _title(notebook, name: str) -> Iterator[str]:
    first = notebook.cells[0]
    lines = [line for line in first.source.splitlines() if line.strip()]
    if first.cell_type != "markdown" or not lines or not lines[0].startswith("# "):
        yield "cell 1 must be text that begins with '# title'"
        return
    if len(lines) < 2 or lines[1].startswith(("#", "-", "*   ", "* ")):
        yield "cell 1 needs a one-line subtitle below the title"
    for word in INTRODUCTION:
        if word not in first.source.lower():
            yield f"cell 1 must say {word!r} (you will …, time and hardware, needs, makes)"
    if "](glossary.md)" not in first.source:
        yield "cell 1 must link to the [glossary](glossary.md)"


def _parameters(notebook, name: str) -> Iterator[str]:
    cell = notebook.cells[1]
    if cell.cell_type != "code" or "parameters" not in cell.metadata.get("tags", []):
        yield "cell 2 must be the code cell tagged 'parameters'"
        return
    try:
        knobs = read_parameters(notebook)
    except (ValueError, SyntaxError) as error:
        yield str(error)
        return
    if list(knobs)[:2] != ["profile", "seed"] or len(knobs) > 2 + MOST_KNOBS:
        yield f"parameters: profile, then seed, then at most {MOST_KNOBS} knobs"
    elif knobs["profile"] != "quick":
        yield "parameters: profile must be 'quick' by default"
    for line in cell.source.splitlines():
        if line.strip() and "#" not in line:
            yield f"parameters: {line.strip()!r} needs its help after #"


def _setup(notebook, name: str) -> Iterator[str]:
    cell = notebook.cells[2]
    wanted = f'run = start("{name}", profile=profile, seed=seed)'
    lines = [ast.unparse(node) for node in _tree(cell.source).body]
    if cell.cell_type != "code" or ast.unparse(ast.parse(wanted)) not in lines:
        yield f"cell 3 must be the set-up: imports and {wanted}"


def _sizes(notebook, name: str) -> Iterator[str]:
    cells = code_cells(notebook)
    if len(cells) < 3 or "run.sizes(" not in cells[2].source:
        yield "the code cell after the set-up must call run.sizes(quick=…, full=…)"


def _sections(notebook, name: str) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook)[2:], start=3):
        lines = sum(bool(line.strip()) for line in cell.source.splitlines())
        if lines > MOST_LINES:
            yield f"code cell [{number}] has {lines} lines, at most {MOST_LINES}"
        if not lines:
            yield f"code cell [{number}] is empty"
    if not any(
        isinstance(n, ast.Assert) for c in code_cells(notebook) for n in ast.walk(_tree(c.source))
    ):
        yield "there is no visible assert"


def _ending(notebook, name: str) -> Iterator[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").lower()
    headings = ("what we learned", "exercises")
    learned, exercises = [re.search(rf"^#+ .*{words}", text, re.M) for words in headings]
    if not learned or not exercises or learned.start() > exercises.start():
        yield "needs the headings 'What we learned' and then 'Exercises'"
    elif "★" not in text[exercises.start() :]:
        yield "exercises need their ★ to ★★★"
    last = notebook.cells[-1]
    if last.cell_type != "code" or last.source.strip().splitlines()[-1:] != ["run.finish()"]:
        yield "the last cell must end with run.finish()"


def _sources(notebook, name: str) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, start=1):
        if PATH.search(cell.source):
            yield f"cell {number} holds an absolute path"
        if REMOTE_IMAGE.search(cell.source):
            yield f"cell {number} shows a remote image"
        if cell.cell_type == "code" and INSTALL.search(cell.source):
            yield f"cell {number} installs something or logs in"


def _outputs(notebook, name: str) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != number:
            yield f"code cell [{number}] was not executed in order: {cell.execution_count}"
        for output in cell.outputs:
            text = output_text(output)
            if output.output_type == "error":
                yield f"code cell [{number}] failed: {output.ename}: {output.evalue}"
            elif found := PATH.search(text):
                path = text[found.start() :][:60].splitlines()[0]
                yield f"output of code cell [{number}] holds an absolute path: {path!r}"
            if WIDGET in output.get("data", {}):
                yield f"output of code cell [{number}] is a widget: nothing when reopened"


def output_text(output) -> str:
    """All text of one output: streams, and every text/* form."""
    texts = [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join("".join(text) for text in [output.get("text", ""), *texts])


def long_lines(notebook) -> list[str]:
    """The code lines that are too wide."""
    lines = [line for cell in code_cells(notebook) for line in cell.source.splitlines()]
    return [line for line in lines if len(line) > MOST_COLUMNS]


def _tree(source: str) -> ast.Module:
    """The cell's syntax tree; empty for a cell with magics."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def missing_names(notebook) -> list[str]:
    """What a notebook takes from the package and is not there: it would only be seen by a run."""
    cells = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    nodes = [*ast.walk(ast.parse("\n".join(cells)))]
    modules, missing = {}, []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workbench"):
            source = importlib.import_module(node.module)
            for name in node.names:
                with suppress(ImportError):  # a module of a package that nothing has loaded yet
                    importlib.import_module(f"{node.module}.{name.name}")
                found = getattr(source, name.name, None)
                if found is None:
                    missing.append(f"{node.module}.{name.name}")
                if isinstance(found, ModuleType):
                    modules[name.asname or name.name] = found
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    taken = (n for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name))
    for node in taken:
        name = node.value.id
        if name in modules and name not in stored and not hasattr(modules[name], node.attr):
            missing.append(f"{modules[name].__name__}.{node.attr}")
    return missing
