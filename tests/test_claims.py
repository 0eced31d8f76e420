"""Numbers in texts come from the record, and a number that differs, or that no record holds, is
found."""

import json
import re
from pathlib import Path

import pytest
from little_repository import Repository, well_formed
from nbformat.v4 import new_output

from workbench.__main__ import main
from workbench.claims import CLAIM, TEXTS, check, fill_in, recorded
from workbench.runs.notebook import content_hash
from workbench.runs.record import Findings
from workbench.show.numbers import stated

ROOT = Path(__file__).parents[1]
SHOWN = [path for name in TEXTS for path in sorted(ROOT.glob(name))]
METRICS = {"eval/accuracy": [0.4, 0.3, 0.5], "gain@64": [0.031, -0.031, 0.098], "labels": 31379}
SIZES = "size   quick  full (this run)\nn      2      1,500\nsizes  (2, 3)  (4, 5)"
TABLE = """# Results
| way | right |
|---|---|
| vote | <!--m:00_good/eval/accuracy:.0% interval--><!--/m--> |
| gain | **<!--m:00_good/gain@64:+.1p interval-->+9.9<!--/m--> points** |
on <!--m:00_good/sizes/n:,.0f--><!--/m--> in <!--m:00_good/seconds:time--><!--/m-->
"""
FILLED = """# Results
| way | right |
|---|---|
| vote | 40 % (30–50) |
| gain | **+3.1 (−3.1 to +9.8) points** |
on 1,500 in 2 min 05 s
"""


@pytest.fixture
def base(tmp_path):
    """A repository with one record, nothing stale, and a README that makes claims about it."""
    Repository(tmp_path).write("00_good", recorded_notebook())
    (tmp_path / "figures/00_good").mkdir(parents=True)
    (tmp_path / "figures/00_good/metrics.json").write_text("{}")
    (tmp_path / "README.md").write_text(TABLE)
    return tmp_path


def recorded_notebook():
    """A notebook that says it was run, with these metrics and sizes."""
    notebook = well_formed("00_good")
    notebook.cells[3].outputs = [new_output("display_data", {"text/plain": SIZES})]
    facts = {"metrics": METRICS, "seconds": 125.0, "figures": [], "parameters": {}, "data": {}}
    facts |= {"hash": content_hash(notebook, {}, {}), "package_version": "0", "modules": {}}
    notebook.metadata["workbench"] = facts
    return notebook


def shown(text):
    """What readers of the page see."""
    return re.sub("<!--.*?-->", "", text)


@pytest.mark.parametrize(
    ("value", "form", "said"),
    [
        ([0.8733, 0.82, 0.92], ".0% interval", "87 % (82–92)"),
        ([0.8733, 0.82, 0.92], ".2f interval", "0.87 (0.82–0.92)"),
        ([0.8733, 0.82, 0.92], ".0%", "87 %"),
        ([0.031, -0.031, 0.098], "+.0p interval", "+3 (−3 to +10)"),
        ([0.031, -0.031, 0.098], ".3f interval", "0.031 (−0.031 to 0.098)"),
        ([-0.031, -0.04, -0.02], "+.0%", "−3 %"),
        (0.0176, ".3f", "0.018"),
        (31379, ",.0f", "31,379"),
        (64, "d", "64"),
        (2920.5, "time", "48 min 40 s"),
    ],
)
def test_forms(value, form, said):
    assert stated(value, form) == said


def test_filling_in_and_filling_in_again(base, capsys):
    assert main(["record"], base) == 0
    assert capsys.readouterr().out == "filled in README.md\n"
    text = (base / "README.md").read_text()
    assert shown(text) == FILLED and fill_in(base) == [] and main(["check"], base) == 0
    capsys.readouterr()
    assert main(["record"], base) == 0 and capsys.readouterr().out == ""
    assert (base / "README.md").read_text() == text
    assert check(base) == {"README.md": Findings()}


def test_check_finds_what_differs(base, capsys):
    fill_in(base)
    text = (base / "README.md").read_text()
    (base / "README.md").write_text(text.replace("40 %", "41 %"))
    assert main(["check"], base) == 1
    says = "00_good/eval/accuracy is 40 % (30–50), the text says 41 % (30–50)"
    assert f"✗ README.md\n    ✗ README.md:4: {says}\n" in capsys.readouterr().out


def test_a_new_record_makes_texts_stale_until_they_are_filled_in(base):
    fill_in(base)
    path = base / "notebooks/00_good.ipynb"
    path.write_text(path.read_text().replace("0.3,", "0.2,"))
    (error,) = check(base)["README.md"].errors
    assert "is 40 % (20–50), the text says 40 % (30–50)" in error
    assert fill_in(base) == ["README.md"] and check(base) == {"README.md": Findings()}


WRONG = [
    (
        "<!--m:00_goods/eval/acuracy:.0%-->x<!--/m-->",
        "00_goods/eval/acuracy: no such metric is recorded; the nearest is 00_good/eval/accuracy",
    ),
    ("<!--m:00_good/labels:.0q--><!--/m-->", "00_good/labels: "),
    ("<!--m:00_good/labels:d interval--><!--/m-->", "00_good/labels: form 'd interval'"),
    ("<!--m:00_good/gain@64:+.0p wide--><!--/m-->", "00_good/gain@64: form '+.0p wide'"),
    ("<!--m:00_good/labels:d-->31379", "write NOTEBOOK/METRIC:FORM-->…<!--/m-->"),
    ("<!--m:00_good/labels:d-->\n<!--/m-->", "all on one line"),
    ("<!--m:00_good/labels--><!--/m-->", "write NOTEBOOK/METRIC:FORM"),
]


@pytest.mark.parametrize(("claim", "complaint"), WRONG)
def test_a_claim_that_nothing_bears_out_is_one_line(base, claim, complaint, capsys):
    (base / "RESULTS.md").write_text(f"one\ntwo: {claim}\n")
    assert main(["record"], base) == 2
    error = capsys.readouterr().err
    assert error.startswith("workbench: RESULTS.md:2: ") and error.count("\n") == 1
    assert complaint in error and (base / "README.md").read_text() == TABLE
    assert main(["check"], base) == 1
    assert f"✗ {error.removeprefix('workbench: ')}" in capsys.readouterr().out


def test_what_can_be_claimed(base):
    folder = base / "data/models/one"
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"tokens": 12}))
    facts = recorded(base)
    assert facts["data/models/one/tokens"] == 12 and facts["00_good/seconds"] == 125.0
    assert facts["00_good/gain@64"] == METRICS["gain@64"]
    assert {name: v for name, v in facts.items() if "sizes" in name} == {"00_good/sizes/n": 1500}
    (folder / "README.md").write_text("<!--m:data/models/one/tokens:d--><!--/m--> tokens")
    assert fill_in(base) == ["README.md", "data/models/one/README.md"]
    assert shown((folder / "README.md").read_text()) == "12 tokens"


# -- the texts of this repository -----------------------------------------------------------------


def test_texts_agree_with_the_records():
    found = check(ROOT)
    assert {"README.md", "RESULTS.md"} <= set(found)
    assert not [error for findings in found.values() for error in findings.errors]


def test_the_front_door_is_two_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_line_starts_with_a_claim(path):
    """Markdown reads such a line as HTML: the paragraph before it ends, and `**` stays as it is."""
    starts = re.compile(r"\s*(([-*+>]|\d+\.)\s+)*<!--")
    assert not [line for line in path.read_text().splitlines() if starts.match(line)]


@pytest.mark.parametrize("name", ["README.md", "RESULTS.md"])
def test_no_measured_number_is_written_by_hand(name):
    text = CLAIM.sub("", (ROOT / name).read_text())
    text = re.sub(r"```.*?```|`[^`]*`|\]\(.*?\)", "", text, flags=re.S)
    text = re.sub(r"95 % intervals|Python 3\.\d+|λ = 0\.8|0\.5 is chance|Apache-2\.0", "", text)
    assert re.findall(r"\d+(?:\.\d+)? ?%|\d*\.\d+", text) == []
    rows = [line for line in text.splitlines() if line[:1] == "|"]
    cells = [cell for row in rows for cell in row.split("|")[2:]]
    assert not [cell for cell in cells if re.fullmatch(r"\W*\d[\W\d]*", cell)]


@pytest.mark.parametrize("card", sorted(ROOT.glob("data/models/*/README.md")))
def test_what_a_card_says_of_quality_is_filled_in(card):
    _, _, told = card.read_text().partition("## How good")
    told = CLAIM.sub("", told).replace("95 % intervals", "")
    assert re.findall(r"\d+(?:\.\d+)? ?%|\d*\.\d+", told) == []


@pytest.mark.parametrize("name", ["README.md", "RESULTS.md", "CONTRIBUTING.md", "data/README.md"])
def test_links_and_pictures_are_there(name):
    links = re.findall(r"\]\(([^)#\s]+)\)", (ROOT / name).read_text())
    here = [link for link in links if "://" not in link]
    assert not [link for link in here if not ((ROOT / name).parent / link).exists()]
