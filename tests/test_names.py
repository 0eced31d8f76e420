"""One word has one meaning: what is public in the package is defined once under its name."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "workbench"
ONE_PER_KIND = set(
    # of problems: the same questions asked of each family, which `workbench.problems` passes on
    "generate problem_at read_question read_step check_steps explain solvable LARGEST"
    # of labellers, and of what is kept on disk: said with its module, as in `manifest.read`
    " label load read FILE"
    # of tree searches, by a labeller who knows the answer and without: said with its module
    " mcts puct"
    # of trainings: said with its module, as in `prm.collate`, `sft.encode` and `grpo.RECIPE`
    " collate encode RECIPE"
    # of colours: a line's, and the tint of it behind text
    " BLUE GREEN RED GREY"
    # of commands: the name on the command line, and the function that does it
    " main record check"
    # of models: offered by `workbench.models`, which imports torch only when they are called
    " load_policy load_verifier".split()
)


def defined(path):
    """Names of the public classes, functions and constants that a module defines."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (x.id for t in node.targets for x in ast.walk(t) if isinstance(x, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_no_public_name_stands_twice():
    places = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in defined(path):
            if not name.startswith("_") and name not in ONE_PER_KIND:
                places[name].add(path.relative_to(PACKAGE).as_posix())
    twice = {name: sorted(files) for name, files in places.items() if len(files) > 1}
    assert not twice, "\n".join(f"{name}: {', '.join(files)}" for name, files in twice.items())
