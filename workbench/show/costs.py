"""What large runs cost, as a page of Markdown: `analyse.costs` in tables.

Every table is computed from one `Plan`, whose fields it names; `notebooks/scale.md` holds the one
of the defaults, and a test keeps it that way. Taught in `notebooks/scale.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from math import isinf
from typing import Any

from workbench.analyse import costs, roofline
from workbench.analyse.costs import Plan, Workload

BATCHES = (1, 8, 64, 256, 512, 1024)
STEP_COUNTS, DEPTHS, WIDTHS = (8, 16, 32, 64), (8, 16, 32), (4, 16)
PLACE = re.compile(r"(<!--costs-->\n).*?(\n<!--/costs-->)", re.S)  # of the page in a text
CONTEXTS = (0, 250, 500, 1000, 4000)


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """A table with one column per key of the first row; all but the first are numbers.

    >>> print(markdown_table([{"steps": "8", "probes": 3.0}, {"steps": "16", "probes": 1234.5}]))
    | steps | probes |
    |---|--:|
    | 8 | 3 |
    | 16 | 1,230 |
    """
    head = list(rows[0])
    lines = [head, *([_said(row[name]) for name in head] for row in rows)]
    text = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([text[0], f"|---{'|--:' * (len(head) - 1)}|", *text[1:]])


def _said(value: object) -> str:
    """A number with three digits that count, anything else as it is."""
    if not isinstance(value, int | float):
        return str(value)
    if isinf(value):
        return "never"
    exact = float(f"{value:.3g}")
    if exact >= 1e9:
        return f"{exact:.3g}".replace("e+", "e")
    return f"{exact:,.0f}" if exact >= 100 or exact == int(exact) else f"{exact:g}"


def cost_table(plan: Plan) -> str:
    """Millions of tokens, GPU-hours and dollars of every run."""
    rows = []
    for name, what in _sizes(plan.work).items():
        tokens, hours = costs.RUNS[name](plan.work), plan.hours(name)
        counts = {"written": tokens.written, "read": tokens.read, "trained on": tokens.trained}
        millions = {f"{key}, M": count / 1e6 for key, count in counts.items()}
        rows.append({"run": f"{name}: {what}", **millions, "GPU-hours": hours})
        rows[-1]["dollars"] = hours * plan.gpu.dollars
    return markdown_table(rows)


def _sizes(work: Workload) -> dict[str, str]:
    """What of the workload says how large each of `RUNS` is."""
    beams = f"{work.width} beams x {work.expand}"
    return {
        "OmegaPRM labels": f"{work.problems:,} problems, {work.searches} searches each",
        "Math-Shepherd labels": f"{work.problems:,} problems, {work.solutions} solutions each",
        "PRM training": f"{work.labels:,} labels, {work.epochs:g} x",
        "GRPO": f"{work.rounds:,} rounds of {work.questions} x {work.group}",
        "samples with a PRM": f"{work.test} problems x {work.samples}",
        "beam search with a PRM": f"{work.test} problems, {beams}, {work.steps} steps",
    }


def labelling_table(plan: Plan) -> str:
    """By the steps of one solution: prefixes that are completed, thousands of tokens written.

    By halves (one binary search) they grow with the logarithm of the steps, else with the steps.
    """
    rows = []
    for steps in STEP_COUNTS:
        one = replace(plan.work, steps=steps, problems=1, searches=1, solutions=1)
        row: dict[str, object] = {"steps": str(steps), "prefixes, by halves": costs.probes(steps)}
        row |= {"OmegaPRM writes": costs.omegaprm_tokens(one).written / 1000}
        row |= {"prefixes, all": steps - 1}
        rows.append(row | {"Math-Shepherd writes": costs.shepherd_tokens(one).written / 1000})
    return markdown_table(rows)


def search_table(plan: Plan) -> str:
    """By width and depth of a beam search, of one problem: thousands of tokens, steps as long."""
    rows, step = [], plan.work.tokens / plan.work.steps
    for width, depth in product(WIDTHS, DEPTHS):
        one = replace(plan.work, test=1, width=width, steps=depth, tokens=round(depth * step))
        kept, anew = (costs.beam_tokens(one, reuse=reuse).read / 1000 for reuse in (True, False))
        row: dict[str, object] = {"beams x children x steps": f"{width} x {one.expand} x {depth}"}
        row |= {"written": costs.beam_tokens(one).written / 1000}
        row |= {"verifier reads, prefixes kept": kept}
        rows.append(row | {"not kept": anew, "times as much": anew / kept})
    return markdown_table(rows)


def batch_table(plan: Plan) -> str:
    """Tokens a second that the roofline allows, by rows at once and tokens before each."""
    rows: list[dict[str, object]] = []
    for context in CONTEXTS:
        rates = {str(n): roofline.decode_rate(plan.gpu, plan.size, n, context) for n in BATCHES}
        corner = roofline.turning_batch(plan.gpu, plan.size, context)
        row = {"tokens before": f"{context:,}", **rates, "arithmetic binds from": corner}
        row |= {"90 % of the limit with": roofline.enough_rows(plan.gpu, plan.size, context)}
        fit = roofline.rows_that_fit(plan.gpu, plan.size, context) if context else "any"
        rows.append(row | {"rows that fit": fit})
    return markdown_table(rows)


def assumption_list(plan: Plan) -> str:
    """Every assumption by its name, as `-p NAME=VALUE` takes it, with its source."""
    rates = plan.rates
    lines = [f"- **GPU**: {_named(plan.gpu)}. {plan.gpu.source}"]
    lines += [f"- **Model** (the verifier is as large): {_named(plan.size)}. {plan.size.source}"]
    lines += [f"- **Share of the roofline**: {_named(plan.shares)}"]
    lines += [f"    - `{name}`: {source}" for name, source in roofline.SHARE_SOURCES.items()]
    by = f"measured: {', '.join(plan.measured)}" if plan.measured else "by these shares"
    lines += [f"- **Tokens a second and GPU**, {by}: {_named(rates)}"]
    lines += [f"- **Workload**, our choices: {_named(plan.work)}"]
    return "\n".join(lines)


def _named(part: Any) -> str:
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return ", ".join(f"`{name}` {_said(x)}" for name, x in values.items() if name != "source")


def cost_page(plan: Plan | None = None) -> str:
    """All of it: what runs cost, how each grows, where larger batches stop helping."""
    plan = plan or Plan()
    return "\n\n".join([
        "### What runs cost", cost_table(plan),
        "### How labels grow with the steps of a solution",
        "One solution of one problem; tokens in thousands.", labelling_table(plan),
        "### How search grows with width and depth",
        "One problem, steps of equal length; tokens in thousands.", search_table(plan),
        "### Where larger batches stop helping",
        "Tokens a second at most, by rows that are written at once.", batch_table(plan),
        "### What this assumes", assumption_list(plan),
    ])  # fmt: skip


def with_page(text: str) -> str:
    """A text with today's page of the defaults in its place, between two comments.

    >>> with_page("Before\\n<!--costs-->\\nold\\n<!--/costs-->\\nbehind").split("\\n")[:3:2]
    ['Before', '### What runs cost']
    """
    return PLACE.sub(lambda place: f"{place[1]}{cost_page()}{place[2]}", text)
