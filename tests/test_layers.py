"""Who may import whom, and that `import workbench` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "workbench"
ALLOWED = {
    "types": set(),
    "fingerprint": set(),  # what a run or a model is
    "files": set(),  # locks, and files that are whole
    "problems": {"types", "files"},
    "analyse": {"types", "problems"},
    "jsonl": {"types", "files"},  # records on disk, for the driver and for training
    "allowance": {"types"},  # what a budget still pays for
    "workers": {"types"},  # what the driver and an engine that runs problems elsewhere exchange
    "task": {"types", "jsonl", "allowance", "workers"},  # one problem on its way
    "replies": {"types", "task"},  # what models say to many of them
    "drive": {"types", "files", "jsonl", "fingerprint", "workers", "task", "replies"},
    "tree": {"types", "jsonl"},
    "supervise": {"types", "fingerprint", "problems", "analyse", "tree"},
    "search": {"types", "problems", "analyse", "tree"},
    "models": {"types", "fingerprint", "problems"},
    "show": {"types", "problems", "analyse", "tree"},
}
ALLOWED["train"] = {*ALLOWED} - {"show"}
# may import everything
TOP = {*"runs scale explore commands claims recipes doctor __main__ __init__".split()}
LIGHT = {*ALLOWED} - {"models", "train"}
HEAVY = {"torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "ray"}


def imports(path: Path) -> list[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports in full, not relative"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_layers(path):
    here = layer(path)
    assert here in {*ALLOWED, *TOP}, f"{here} has no place among the layers of tests/test_layers.py"
    for name in imports(path):
        parts = name.split(".")
        if (
            parts[0] == "workbench"
            and len(parts) > 1
            and here not in TOP
            and parts[1] != "__version__"
        ):
            assert parts[1] in ALLOWED[here] | {here}, f"{here} may not import {name}"
        if here in LIGHT:
            assert parts[0] not in HEAVY, f"{here} may not import {name}"


def test_importing_the_package_is_light():
    code = """
import sys, time
before = time.perf_counter()
import workbench, workbench.__main__, workbench.types
assert time.perf_counter() - before < 0.5
heavy = {"torch", "transformers", "pandas", "matplotlib", "papermill", "numpy", "ray"}
assert not heavy & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
