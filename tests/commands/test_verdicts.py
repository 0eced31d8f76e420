"""`workbench verdicts`: the table in words, the CSV, and one line for what can't be read."""

import json

import pandas as pd
import pytest

from workbench.__main__ import main


@pytest.fixture
def file(tmp_path):
    traces = [
        {"text": f"It is {answer}", "tokens": 5, "correct": answer == 7, "prm_score": score}
        for answer, score in ((7, 0.9), (8, 0.1), (8, 0.2), (7, 0.8))
    ]
    records = [{"problem_id": f"p{i}", "gold": "7", "traces": traces} for i in range(12)]
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"records": records}))
    return path


def test_table_and_csv(file, tmp_path, capsys):
    out = tmp_path / "out.csv"
    words = ["verdicts", str(file), str(file), "--format", "crucible", "--to", str(out)]
    assert main(words, tmp_path) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "12 problems, 24 pools of 4 samples; %, 95 % intervals"
    (line,) = (line for line in printed if line.startswith("4  orm_max"))
    for words_of in ("100.0 (100.0 to 100.0)", "+50.0 (50.0 to 50.0)", "12   0     ahead"):
        assert words_of in line
    assert next(text for text in printed if text.startswith("4  majority")).endswith("50.0)")
    table = pd.read_csv(out)
    assert table.n.tolist() == [1] * 4 + [2] * 4 + [4] * 4
    assert table.difference.count() == 4 and table.won.max() == 12
    assert main([*words[:5], "--first"], tmp_path) == 0
    first = capsys.readouterr().out.splitlines()
    assert next(line for line in first if line.startswith("1  majority")).endswith("100.0)")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("gone --format crucible", "gone is no file"),
        ("run.json --format tables", "unknown format 'tables': use crucible, game24"),
        ("run.json --format game24", "run.json: not a JSON array, but a dict"),
        ("run.json", "the following arguments are required: --format"),
        ("--format game24", "the following arguments are required: FILE"),
        ("run.json --format crucible --to gone/x.csv", "--to gone/x.csv: Cannot save file"),
    ],
)
def test_bad_input_is_one_line(file, tmp_path, monkeypatch, capsys, words, complaint):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["verdicts", *words.split()], tmp_path)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and complaint in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
