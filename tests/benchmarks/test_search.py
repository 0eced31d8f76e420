"""The benchmark of searches on two problems; its_hub takes part where it is installed."""

import runpy
import sys
from pathlib import Path

import pytest

from workbench.drive import solve
from workbench.models import load_policy, load_verifier
from workbench.problems import frozen, is_right
from workbench.search import METHODS

PARTS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "search.py"))


def rows_of(out):
    """{contender: {head: number}} of one search's table."""
    rows = {}
    for name in ("together", "one by one", "its_hub"):
        found = [row for row in out.splitlines() if row.startswith(f"{name:14}")]
        cells = [cell.rstrip("%") for cell in found[0][14:].split()] if found else []
        if len(cells) == len(PARTS["HEADS"]):
            rows[name] = dict(zip(PARTS["HEADS"], map(float, cells)))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS["SEARCHES"])
def test_rows_are_what_a_plain_run_costs_and_brings(name, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "its_hub", None)
    PARTS["main"](["--problems", "2", "--only", name])
    out = capsys.readouterr().out
    rows = rows_of(out)
    assert list(rows) == ["together", "one by one"]
    left_out = [row for row in out.splitlines() if row.startswith("its_hub")]
    assert len(left_out) == (name == "beam_search")
    assert all("left out: " in row and "; pip install its_hub" in row for row in left_out)

    models = {"policy": load_policy("base"), "verifier": load_verifier("prm_base")}
    options = {**PARTS["SEARCHES"][name], "max_steps": PARTS["MAX_STEPS"]}
    results = solve(frozen.load("validation")[:2], METHODS[name], **models, seed=0, **options)
    meters, row = [result.meter for result in results], rows["together"]
    assert row["tokens"] == sum(m.generated for m in meters)
    assert row["right"] == 50 * sum(is_right(r.problem, r.best) for r in results)
    assert row["verifier"] == round(sum(m.verifier for m in meters) / row["tokens"], 2)
    for row in rows.values():
        assert 0 < row["verifier"] <= 1.1 and 0 < row["search"] < 20
        assert row["tokens/s"] == pytest.approx(row["tokens"] / row["seconds"], rel=0.2)


@pytest.mark.slow
def test_its_hub_searches_through_its_own_interfaces(capsys):
    pytest.importorskip("its_hub", reason="its_hub is not installed: pip install its_hub")
    PARTS["main"](["--problems", "2", "--only", "beam_search"])
    out = capsys.readouterr().out
    row = rows_of(out)["its_hub"]
    assert row["tokens"] > 0 and 0 < row["verifier"] <= 1.1
    assert "together - its_hub: " in out and "same choice in " in out


def test_a_text_is_read_as_the_steps_that_were_told():
    problem = frozen.load("validation")[0]
    for text, steps, ended in (
        ("a\nb\n", ("a", "b"), False),  # as it tells its policy
        ("a\nb", ("a", "b"), False),  # and its verifier
        ("a\nb<end>", ("a", "b"), True),
    ):
        prefix = PARTS["read"](problem, text, "<end>")
        assert (prefix.texts, prefix.ended) == (steps, ended)
