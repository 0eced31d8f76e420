"""What the command line takes: one parser, whose complaints are one line."""

from __future__ import annotations

import argparse
from pathlib import Path

ABOUT = "Run notebooks, sweep over parameters, compare runs, record one, check what is committed."
EXAMPLES = """examples:
  python -m workbench run                          all notebooks, quick sizes
  python -m workbench run 09 --profile full        one notebook, full sizes
  python -m workbench run --profile full --jobs 2  all notebooks, full sizes, two at once
  python -m workbench run 04 -p seed=1             another value for a parameter
  python -m workbench run --resume runs/DIR        go on where a batch stopped
  python -m workbench sweep 05 -p seed=0,1 -p lr=1e-3,3e-3   each combination, a run of its own
  python -m workbench compare runs/A runs/B        two runs side by side, in compare.html
  python -m workbench clear 00 03                  without outputs, for class, into class/
  python -m workbench verdicts FILE --format crucible   who wins on samples others recorded
"""
ASSIGNMENTS = {"action": "append", "default": [], "dest": "given"}  # of -p
JOBS = """notebooks at once (default 1), each with its share of the cores as threads;
sums of floats depend on the number of threads in their last digits"""


class Parser(argparse.ArgumentParser):
    """argparse, with its complaint as one line."""

    def parse_known_args(self, args=None, namespace=None):
        """As usual, but a command complains itself of what it does not know."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            of_notebooks = self.prog.endswith((" run", " sweep"))
            hint = "; a notebook's parameter: -p NAME=VALUE" if of_notebooks else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def error(self, message: str):
        self.exit(2, f"workbench: {message} (help: {self.prog} --help)\n")


def parser() -> Parser:
    """The parser of all commands."""
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": EXAMPLES}
    top = Parser(prog="python -m workbench", description=ABOUT, **layout)
    names = "run|sweep|compare|verdicts|costs|clear|record|check|doctor|recipe"
    commands = top.add_subparsers(dest="command", required=True, metavar=names)
    run = commands.add_parser("run", help="execute notebooks into a folder under runs/")
    names = "numbers (06) or names; none or `all`: every one"
    run.add_argument("notebooks", nargs="*", metavar="NN", help=names)
    run.add_argument("--profile", choices=("quick", "full"), help="sizes: quick (default) or full")
    run.add_argument("-p", metavar="NAME=VALUE", help="set a parameter", **ASSIGNMENTS)
    run.add_argument("--jobs", type=_count, default=1, metavar="N", help=JOBS)
    where = run.add_mutually_exclusive_group()
    where.add_argument("--resume", type=Path, metavar="DIR", help="go on with a batch as it was")
    where.add_argument("--output", type=Path, metavar="DIR", help="folder of the results")
    _add_sweep(commands)
    _add_compare(commands)
    _add_clear(commands)
    _add_verdicts(commands)
    _add_costs(commands)
    record = commands.add_parser("record", help="make a finished batch the recorded run")
    only = "without it: only fill in the numbers of README.md, RESULTS.md and model cards"
    record.add_argument("folder", type=Path, nargs="?", metavar="DIR", help=only)
    check = commands.add_parser("check", help="do the committed outputs belong to today's code?")
    against = "also compare the metrics of the batch in DIR"
    check.add_argument("--against", type=Path, metavar="DIR", help=against)
    commands.add_parser("doctor", help="is everything installed and in place?")
    arm = "hours of work behind what is shipped, one arm a call"
    recipe = commands.add_parser("recipe", help=arm)
    recipe.add_argument("name", nargs="?", metavar="NAME", help="none: say which there are")
    return top


def _add_sweep(commands) -> None:
    sweep = commands.add_parser("sweep", help="run one notebook at each point of a grid")
    sweep.add_argument("notebook", nargs="?", metavar="NN", help="number (05) or name")
    sizes = "sizes: quick (default) or full"
    sweep.add_argument("--profile", choices=("quick", "full"), help=sizes)
    values = "values to try; a comma always separates two, so that none can hold one"
    sweep.add_argument("-p", metavar="NAME=A,B", help=values, **ASSIGNMENTS)
    workers = "points at once (default: as many as cores, and 2 GiB of free memory each, allow)"
    sweep.add_argument("--workers", type=_count, metavar="N", help=workers)
    ray = "on Ray: the cluster at ADDRESS (auto: the one here), else of this machine alone"
    sweep.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help=ray)
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--resume", type=Path, metavar="DIR", help="run what is missing of a sweep")
    where.add_argument("--output", type=Path, metavar="DIR", help="folder of the results")


def _add_compare(commands) -> None:
    compare = commands.add_parser("compare", help="hold two runs side by side in one HTML file")
    runs = "folder of a run, or one with recorded notebooks (notebooks/)"
    compare.add_argument("a", type=Path, metavar="RUN_A", help=runs)
    compare.add_argument("b", type=Path, metavar="RUN_B", help="likewise; differences are B - A")
    page = {"type": Path, "default": Path("compare.html"), "metavar": "FILE"}
    compare.add_argument("--out", **page, help="the page to write (default: compare.html)")


def _add_clear(commands) -> None:
    clear = commands.add_parser("clear", help="notebooks without outputs, for class")
    clear.add_argument("notebooks", nargs="*", metavar="NN", help="as for run")
    where = clear.add_mutually_exclusive_group()
    where.add_argument("--output", type=Path, metavar="DIR", help="a new folder (default: class)")
    where.add_argument("--in-place", action="store_true", help="the recorded notebooks themselves")


def _add_verdicts(commands) -> None:
    verdicts = commands.add_parser("verdicts", help="who wins on samples that others recorded")
    seeds = "files of one format; several seeds of the same problems are taken together"
    verdicts.add_argument("files", nargs="+", type=Path, metavar="FILE", help=seeds)
    formats = "crucible, game24, math-rm or reward-ranked"
    verdicts.add_argument("--format", required=True, metavar="NAME", help=formats)
    verdicts.add_argument("--seed", type=int, default=0, help="of intervals and p (default 0)")
    few = "n samples are the first n, as often published; without it: any n, the mean over all"
    verdicts.add_argument("--first", action="store_true", help=few)
    verdicts.add_argument("--to", type=Path, metavar="OUT.CSV", help="write the table there, too")


def _add_costs(commands) -> None:
    costs = commands.add_parser("costs", help="what large runs cost on a GPU, as Markdown")
    assumed = "gpu=a100, model=1.5b, dollars=2, rounds=500 ...: the page lists all"
    costs.add_argument("-p", metavar="NAME=VALUE", help=assumed, **ASSIGNMENTS)
    costs.add_argument("--fill", action="store_true", help="renew the page in notebooks/scale.md")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, 1 or more")
    return int(text)
