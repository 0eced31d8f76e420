"""Run notebooks and sweep over parameters, compare runs, record one, check what is committed."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

EXAMPLES = """examples:
  python -m workbench run                          all notebooks, quick sizes
  python -m workbench run 09 --profile full        one notebook, full sizes
  python -m workbench run --profile full --jobs 2  all notebooks, full sizes, two at once
  python -m workbench run 04 -p seed=1             another value for a parameter
  python -m workbench run --resume runs/DIR        go on where a batch stopped
  python -m workbench sweep 05 -p seed=0,1 -p lr=1e-3,3e-3   each combination, a run of its own
  python -m workbench compare runs/A runs/B        two runs side by side, in compare.html
"""
JOBS = """notebooks at once (default 1), each with its share of the cores as threads;
sums of floats depend on the number of threads in their last digits"""


class Parser(argparse.ArgumentParser):
    """argparse, with its complaint as one line."""

    def error(self, message: str):
        self.exit(2, f"workbench: {message} (help: {self.prog} --help)\n")


def parser() -> Parser:
    """The parser of all commands."""
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": EXAMPLES}
    top = Parser(prog="python -m workbench", description=__doc__, **layout)
    commands = top.add_subparsers(
        dest="command", required=True, metavar="run|sweep|compare|record|check|doctor|recipe|costs"
    )
    run = commands.add_parser("run", help="execute notebooks into a folder under runs/")
    names = "numbers (06) or names; none or `all`: every one"
    run.add_argument("notebooks", nargs="*", metavar="NN", help=names)
    run.add_argument("--profile", choices=("quick", "full"), help="sizes: quick (default) or full")
    given = {"action": "append", "default": [], "dest": "given", "metavar": "NAME=VALUE"}
    run.add_argument("-p", help="set a parameter", **given)
    run.add_argument("--jobs", type=_count, default=1, metavar="N", help=JOBS)
    where = run.add_mutually_exclusive_group()
    where.add_argument("--resume", type=Path, metavar="DIR", help="go on with a batch as it was")
    where.add_argument("--output", type=Path, metavar="DIR", help="folder of the results")
    _add_sweep(commands)
    _add_compare(commands)
    record = commands.add_parser("record", help="make a finished batch the recorded run")
    only = "without it: only fill in the numbers of README.md, RESULTS.md and model cards"
    record.add_argument("folder", type=Path, nargs="?", metavar="DIR", help=only)
    check = commands.add_parser("check", help="do the committed outputs belong to today's code?")
    against = "also compare the metrics of the batch in DIR"
    check.add_argument("--against", type=Path, metavar="DIR", help=against)
    commands.add_parser("doctor", help="is everything installed and in place?")
    arm = "hours of work behind what is shipped, one arm a call"
    recipe = commands.add_parser("recipe", help=arm)
    recipe.add_argument("name", metavar="NAME", help="pools, labels-base, prm-base ...")
    _add_costs(commands)
    return top


def _add_sweep(commands) -> None:
    sweep = commands.add_parser("sweep", help="run one notebook at each point of a grid")
    sweep.add_argument("notebook", nargs="?", metavar="NN", help="number (05) or name")
    sweep.add_argument(
        "--profile", choices=("quick", "full"), help="sizes: quick (default) or full"
    )
    values = "values to try; a comma always separates two, so that none can hold one"
    given = {"action": "append", "default": [], "dest": "given", "metavar": "NAME=A,B"}
    sweep.add_argument("-p", help=values, **given)
    workers = "points at once (default: as many as cores, and 2 GiB of free memory each, allow)"
    sweep.add_argument("--workers", type=_count, metavar="N", help=workers)
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


def _add_costs(commands) -> None:
    costs = commands.add_parser("costs", help="what large runs cost on a GPU, as Markdown")
    assumed = "gpu=a100, model=1.5b, dollars=2, rounds=500 ...: the page lists all"
    given = {"action": "append", "default": [], "dest": "given", "metavar": "NAME=VALUE"}
    costs.add_argument("-p", help=assumed, **given)
    costs.add_argument("--fill", action="store_true", help="renew the page in notebooks/scale.md")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, 1 or more")
    return int(text)


def run(arguments: argparse.Namespace, base: Path) -> int:
    """Execute notebooks: 0 if all completed, 1 if one failed, 130 if interrupted."""
    from workbench.runs import batch, manifest
    from workbench.runs.notebook import parse_assignments

    _heed_ctrl_c()
    if arguments.resume:
        _take_over(arguments)
    profile, given = arguments.profile or "quick", parse_assignments(arguments.given)
    jobs = batch.plan(batch.select(base, arguments.notebooks), profile=profile, given=given)
    folder = arguments.resume or batch.open_folder(base, arguments.output, profile)
    if not arguments.resume:
        names = [job.name for job in jobs]
        asked = {"notebooks": names, "profile": profile, "given": arguments.given}
        manifest.append(folder, {"event": "batch", **asked})
    at_once = f", {arguments.jobs} at once" if arguments.jobs > 1 else ""
    count = f"{len(jobs)} notebook{'s' * (len(jobs) > 1)}"
    print(f"{count}, {profile} profile{at_once}, results in {folder}", flush=True)
    jobs_again = f" --jobs {arguments.jobs}" if at_once else ""
    resume = f"python -m workbench run --resume {folder}{jobs_again}"
    try:
        results = batch.run_batch(jobs, folder, base, profile=profile, at_once=arguments.jobs)
    except KeyboardInterrupt:
        print(f"\nstopped; go on with: {resume}", file=sys.stderr)
        return 130
    return _report(results, folder, resume)


def _heed_ctrl_c() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in `nohup make run &`
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _take_over(arguments: argparse.Namespace) -> None:
    """Let a batch that is resumed say what to run; ValueError if other things are asked for."""
    from workbench.runs import manifest

    folder, asked = arguments.resume, manifest.header(manifest.read(arguments.resume))
    if asked is None:
        raise ValueError(
            f"--resume {folder}: no batch of `python -m workbench run` was started there"
        )
    if arguments.notebooks or arguments.given or arguments.profile not in (None, asked["profile"]):
        wishes = "give no notebooks, -p or --profile"
        raise ValueError(f"--resume continues {folder} as it was asked for: {wishes}")
    arguments.notebooks, arguments.given = asked["notebooks"], asked["given"]
    arguments.profile = asked["profile"]


def _report(results: list[dict], folder: Path, resume: str) -> int:
    from workbench.runs.progress import duration
    from workbench.show.cards import plain_table

    rows = [
        {"notebook": r["notebook"], "status": r["status"], "time": duration(r["seconds"])}
        for r in results
    ]
    print(f"\n{plain_table(rows)}\n\nreport: {folder / 'report.html'}")
    failed = [r["notebook"] for r in results if r["status"] == "failed"]
    if failed:
        print(f"failed: {', '.join(failed)}; repair, then: {resume}")
    return 1 if failed else 0


def _sweep(arguments: argparse.Namespace, base: Path) -> int:
    from workbench.commands.sweep import sweep

    _heed_ctrl_c()
    return sweep(arguments, base)


def _compare(arguments: argparse.Namespace, base: Path) -> int:
    from workbench.commands.compare_runs import compare_runs

    return compare_runs(arguments.a, arguments.b, arguments.out)


def _costs(arguments: argparse.Namespace, base: Path) -> int:
    from workbench.commands.costs import costs

    return costs(arguments.given, base, fill=arguments.fill)


def record(arguments: argparse.Namespace, base: Path) -> int:
    """Copy a finished batch into notebooks/ and figures/, and fill its numbers into the texts."""
    from workbench.claims import fill_in
    from workbench.runs.record import record

    if arguments.folder:
        print(f"recorded {', '.join(record(arguments.folder, base))}")
    if texts := fill_in(base):
        print(f"filled in {', '.join(texts)}")
    return 0


def check(arguments: argparse.Namespace, base: Path) -> int:
    """Say what is stale: 0 if nothing is, 1 otherwise; notes alone are no reason."""
    from workbench import claims
    from workbench.runs.record import check, compare

    found = check(base) | claims.check(base)
    apart = compare(base, arguments.against) if arguments.against else {}
    errors = {name: [*found[name].errors, *apart.get(name, [])] for name in found}
    for name in found:
        print(f"{'✗' if errors[name] else '✓'} {name}")
        for sign, lines in (("✗", errors[name]), ("·", found[name].notes)):
            print("".join(f"    {sign} {line}\n" for line in lines), end="")
    return 1 if any(errors.values()) else 0


def doctor(arguments: argparse.Namespace, base: Path) -> int:
    """Say what is there and what is missing: 0 if all is well, 1 otherwise."""
    from workbench.doctor import examine

    well = True
    for right, line in examine(base):
        print(f"{'✓' if right else '✗'} {line}", flush=True)
        well = well and right
    return 0 if well else 1


def recipe(arguments: argparse.Namespace, base: Path) -> int:
    """Make one thing that is shipped, or go on with it; ValueError for an unknown one."""
    from workbench.recipes import RECIPES

    if arguments.name not in RECIPES:
        raise ValueError(f"recipe {arguments.name!r}: use one of {', '.join(RECIPES)}")
    folder = base / "runs" / "recipes"
    folder.mkdir(parents=True, exist_ok=True)
    print(RECIPES[arguments.name](folder))
    return 0


COMMANDS = {"run": run, "sweep": _sweep, "compare": _compare, "record": record}
COMMANDS |= {"check": check, "doctor": doctor, "recipe": recipe, "costs": _costs}


def main(words: list[str] | None = None, base: Path | None = None) -> int:
    """Run a command on the repository at `base` (default: this one); bad input: exit code 2."""
    arguments = parser().parse_args(words)
    try:
        if base is None:
            from workbench.runs.environment import root

            base = root()
        return COMMANDS[arguments.command](arguments, base)
    except ValueError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
