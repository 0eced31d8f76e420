"""Pages of the package, read from its source without importing it: no torch, and no surprise.

A page per module: its docstring, then each public class and function with its own. Docstrings are
written in Markdown here, so they are shown as that.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

# What users and notebooks rely on: these names stay importable from these modules.
RELIED_ON = {
    "types": "Problem LabelledSolution Prefix Sample Score SearchResult",
    "problems.quantities": "generate check_steps explain solvable",
    "problems.grading": "extract_answer is_equal",
    "problems.benchmarks": "load",
    "problems.process_data": "read write",
    "problems.environment": "StepEnv",
    "problems.frozen": "load pool",
    "analyse.metrics": "pass_at_k best_of_n_at_k majority_at_k weighted_vote aggregate"
    " processbench_f1 paired_bootstrap wilson",
    "analyse.compare": "paired mcnemar",
    "supervise.omegaprm": "q_value u_value first_error",
    "train.rl": "group_advantages gae clipped_loss kl_k3",
    "train.advantages": "process_advantages step_gae step_ratio",
    "search": "METHODS solve",
    "search.mcts": "puct",
    "search.rebase": "allocate",
    "models": "load_policy load_verifier",
    "runs": "start source",
}
PAPER = re.compile(r"(?<![/\w[])arXiv:? ?(\d{4}\.\d{4,5})")


def write_api(package: Path, folder: Path) -> None:
    """A page per module of the package, and index.md, which lists them."""
    folder.mkdir(parents=True)
    pages = {_name(path, package.parent): path for path in sorted(package.rglob("*.py"))}
    trees = {name: ast.parse(path.read_text("utf-8")) for name, path in pages.items()}
    trees = {name: tree for name, tree in trees.items() if [*public(tree)]}
    for name, tree in trees.items():
        (folder / f"{name}.md").write_text(module_page(name, tree), encoding="utf-8")
    (folder / "index.md").write_text(index_page(trees), encoding="utf-8")


def _name(path: Path, base: Path) -> str:
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def public(tree: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """The public classes and functions that a module, or a class, defines."""
    kinds = ast.ClassDef | ast.FunctionDef
    nodes = (node for node in tree.body if isinstance(node, kinds))
    return (node for node in nodes if not node.name.startswith("_"))


def module_page(name: str, tree: ast.Module) -> str:
    """The page of one module."""
    parts = [f"# `{name}`", f"```{{py:module}} {name}\n```", as_markdown(tree)]
    for node in public(tree):
        parts.append(_class(node) if isinstance(node, ast.ClassDef) else _function(node))
    return "\n\n".join(parts) + "\n"


def _class(node: ast.ClassDef) -> str:
    methods = [_function(inner, "method") for inner in public(node)]
    body = "\n\n".join([as_markdown(node), *methods])
    return f"`````{{py:class}} {node.name}{_fields(node)}\n{body}\n`````"


def _fields(node: ast.ClassDef) -> str:
    """What a dataclass, or else `__init__`, is called with."""
    made = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    if made:
        return f"({ast.unparse(made[0].args).removeprefix('self').removeprefix(', ')})"
    if not any("dataclass" in ast.unparse(mark) for mark in node.decorator_list):
        return ""
    fields = [f for f in node.body if isinstance(f, ast.AnnAssign)]
    kept = [ast.unparse(f) for f in fields if "ClassVar" not in ast.unparse(f.annotation)]
    return f"({', '.join(kept)})"


def _function(node: ast.FunctionDef, kind: str = "function") -> str:
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    arguments = re.sub(r"^(self|cls)(, )?", "", ast.unparse(node.args)) if kind == "method" else ""
    arguments = arguments if kind == "method" else ast.unparse(node.args)
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if "property" in marks or "cached_property" in marks:
        return f"````{{py:property}} {node.name}\n{as_markdown(node)}\n````"
    return f"````{{py:{kind}}} {node.name}({arguments}){returned}\n{as_markdown(node)}\n````"


def as_markdown(node: ast.AST) -> str:
    """A docstring as Markdown: doctests as code; what looks like HTML or a formula stays text."""
    text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
    return "\n\n".join(_block(block) for block in re.split(r"\n[ \t]*\n", text))


def _block(block: str) -> str:
    if block.lstrip().startswith(">>>"):
        return f"```python\n{inspect.cleandoc(block)}\n```"
    if all(line.startswith("    ") for line in block.split("\n")):
        return f"```text\n{inspect.cleandoc(block)}\n```"
    pieces = re.split(r"(`+[^`]+`+)", block)
    pieces[::2] = [re.sub(r"([<$#\\])", r"\\\1", piece) for piece in pieces[::2]]
    return PAPER.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", "".join(pieces))


def index_page(trees: dict[str, ast.Module]) -> str:
    """Which names to rely on, and all modules by folder with their first sentence."""
    homes = {(name, node.name): name for name, tree in trees.items() for node in public(tree)}
    rows = [
        _relied(f"workbench.{module}", names.split(), homes) for module, names in RELIED_ON.items()
    ]
    parts = ["# The package", "## Names to rely on", "They stay where they are.", _table(rows)]
    groups: dict[str, list[list[str]]] = {}
    for name, tree in trees.items():
        first = as_markdown(tree).split("\n\n")[0].replace("\n", " ")
        folder = name.split(".")[1] if name.count(".") > 1 else ""
        groups.setdefault(folder, []).append([f"[`{name}`]({name}.md)", first.replace("|", "\\|")])
    for folder, modules in groups.items():
        parts += [f"## `workbench/{folder}`", _table(modules)]
    names = "\n".join(trees)
    return "\n\n".join([*parts, f"```{{toctree}}\n:hidden:\n\n{names}\n```"]) + "\n"


def _relied(module: str, names: list[str], homes: dict) -> list[str]:
    """A row: the module, and its names with links to where they are defined."""
    links = []
    for name in names:
        near = [home for home, defined in homes if defined == name]
        best = [home for home in near if home == module] or [h for h in near if module in h] or near
        links.append(f"{{py:obj}}`{name} <{best[0]}.{name}>`" if best else f"`{name}`")
    return [f"`{module}`", ", ".join(links)]


def _table(rows: list[list[str]]) -> str:
    return "\n".join(["| module | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])
