"""The page of costs: as it stands in the text, by other assumptions, and what is refused."""

from pathlib import Path

import pytest

from workbench.__main__ import main
from workbench.commands.costs import SCALE_PAGE, plan_of
from workbench.show.costs import with_page

ROOT = Path(__file__).parents[2]


def test_the_page_in_the_text_is_todays():
    text = (ROOT / SCALE_PAGE).read_text(encoding="utf-8")
    assert text == with_page(text), "python -m workbench costs --fill"
    assert text.count("### What runs cost") == 1


def test_fill_writes_it(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / SCALE_PAGE).write_text("Costs\n<!--costs-->\n\n<!--/costs-->\nend\n")
    assert main(["costs", "--fill"], tmp_path) == 0
    text = (tmp_path / SCALE_PAGE).read_text(encoding="utf-8")
    assert text.startswith("Costs\n<!--costs-->\n### What runs cost") and text.endswith(
        "-->\nend\n"
    )


def test_other_assumptions_give_other_numbers(capsys, tmp_path):
    given = {"gpu": "a100", "model": "1.5b", "dollars": "2", "rounds": "500", "written": "6000"}
    plan = plan_of(given)
    assert (plan.gpu.dollars, plan.gpu.peak, plan.size.layers) == (2, 312e12, 28)
    assert (plan.work.rounds, plan.rates.written) == (500, 6000)
    words = [word for pair in given.items() for word in ("-p", "=".join(pair))]
    assert main(["costs", *words], tmp_path) == 0
    said = capsys.readouterr().out
    assert "GRPO: 500 rounds" in said and "`written` 6,000" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("-p gpu=x", "-p gpu=x: use one of a100, h100, h200"),
        ("-p model=x", "-p model=x: use one of 0.5b"),
        ("-p speed=1", "-p speed: unknown assumption"),
        ("-p source=me", "-p source: unknown assumption"),
        ("-p steps=0", "-p steps=0: must be above 0"),
        ("-p copies=-3", "-p copies=-3: must be 0 or more"),
        ("-p steps=1.5", "-p steps=1.5: must be int"),
        ("--fill -p steps=4", "--fill writes the page of the defaults"),
    ],
)
def test_what_is_refused(words, complaint, capsys, tmp_path):
    assert main(["costs", *words.split()], tmp_path) == 2
    assert complaint in capsys.readouterr().err
