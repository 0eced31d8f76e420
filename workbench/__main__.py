"""Run notebooks and sweep over parameters, compare runs, record one, check what is committed."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from pkgutil import resolve_name

from workbench.commands.parser import parser


def run(arguments: argparse.Namespace, base: Path) -> int:
    """Execute notebooks: 0 if all completed, 1 if one failed, 130 if interrupted."""
    from workbench.files import alone
    from workbench.runs import batch, manifest
    from workbench.runs.notebook import parse_assignments

    if arguments.resume:
        _take_over(arguments)
    profile, given = arguments.profile or "quick", parse_assignments(arguments.given)
    notebooks = batch.select(base, arguments.notebooks, to_run=True)
    jobs = batch.plan(notebooks, profile=profile, given=given)
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
    with alone(folder / manifest.NAME):
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
        never = "no batch of `python -m workbench run` was started there"
        raise ValueError(f"--resume {folder}: {never}")
    if arguments.notebooks or arguments.given or arguments.profile not in (None, asked["profile"]):
        wishes = "give no notebooks, -p or --profile"
        raise ValueError(f"--resume continues {folder} as it was asked for: {wishes}")
    arguments.notebooks, arguments.given = asked["notebooks"], asked["given"]
    arguments.profile = asked["profile"]


def _report(results: list[dict], folder: Path, resume: str) -> int:
    from workbench.show.cards import plain_table
    from workbench.show.progress import duration

    rows = [
        {"notebook": r["notebook"], "status": r["status"], "time": duration(r["seconds"])}
        for r in results
    ]
    print(f"\n{plain_table(rows)}\n\nreport: {folder / 'report.html'}")
    failed = [r["notebook"] for r in results if r["status"] == "failed"]
    if failed:
        print(f"failed: {', '.join(failed)}; repair, then: {resume}")
    return 1 if failed else 0


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


COMMANDS = {"run": run, "record": record, "check": check, "doctor": doctor}
ELSEWHERE = {  # in `workbench.commands`, loaded when they are asked for
    "sweep": "sweep:sweep", "compare": "compare_runs:compare_runs", "clear": "clear:clear",
    "verdicts": "verdicts:print_verdicts", "costs": "costs:costs", "recipe": "recipe:recipe",
}  # fmt: skip


def main(words: list[str] | None = None, base: Path | None = None) -> int:
    """Run a command on the repository at `base` (default: this one); bad input: exit code 2."""
    arguments = parser().parse_args(words)
    _heed_ctrl_c()
    try:
        if base is None:
            from workbench.runs.environment import root

            base = root()
        if name := ELSEWHERE.get(arguments.command):
            return resolve_name(f"workbench.commands.{name}")(arguments, base)
        return COMMANDS[arguments.command](arguments, base)
    except (ValueError, OSError) as error:  # OSError: a full disk, a folder that can't be written
        print(f"workbench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
