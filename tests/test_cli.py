"""The command line: bad input is one clear line and exit code 2, before anything is written."""

import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from workbench.__main__ import main
from workbench.runs.batch import select

PARAMETERS = 'profile: str = "quick"\nseed: int = 0\nrate: float = 0.5\nloud: bool = False'


@pytest.fixture
def base(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name, extra in (("00_start_here", ""), ("06_scaling", "\nwidth: int = 4")):
        cells = [new_code_cell(PARAMETERS + extra, metadata={"tags": ["parameters"]})]
        nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("run 07", "07: no such notebook among 00_start_here, 06_scaling"),
        ("run start", "start: no such notebook"),
        ("run 00 -p speed=1", "-p speed: unknown parameter; known are loud, rate, seed"),
        ("run 00 -p width=1", "-p width: unknown parameter"),
        ("run -p seed=x", "-p seed=x: must be int"),
        ("run -p seed=1.5", "-p seed=1.5: must be int"),
        ("run -p rate=fast", "-p rate=fast: must be float"),
        ("run -p loud=maybe", "-p loud=maybe: must be true or false"),
        ("run -p width=", "-p width=: must be int"),
        ("run -p seed", "-p seed: write -p name=value"),
        ("run -p profile=full", "-p profile=full: use --profile full"),
        ("run --resume gone", "--resume gone: no batch"),
        ("run --output notebooks", "is not empty"),
        ("run --jobs 0", "argument --jobs: 0: must be a whole number, 1 or more"),
        ("run --jobs=-1", "argument --jobs: -1: must be"),
        ("run --jobs 1.5", "argument --jobs: 1.5: must be"),
        ("run --profile fast", "invalid choice: 'fast'"),
        ("run --resume a --output b", "not allowed with argument"),
        ("record gone", "gone is no batch"),
        ("check --against gone", "gone holds no completed notebooks"),
        ("fly", "invalid choice: 'fly'"),
        ("", "required"),
    ],
)
def test_bad_input_is_one_line(base, words, complaint, capsys, monkeypatch):
    monkeypatch.chdir(base)
    before = sorted(base.rglob("*"))
    try:
        code = main(words.split(), base)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert (
        code == 2
        and complaint in error
        and error.count("\n") == 1
        and error.startswith("workbench: ")
    )
    assert sorted(base.rglob("*")) == before


def test_output_that_is_a_file(base, capsys):
    (base / "file").write_text("")
    assert main(["run", "--output", str(base / "file")], base) == 2
    assert "File exists" in capsys.readouterr().err


def test_notebooks_that_can_not_run(base, capsys):
    (base / "notebooks/06_scaling.ipynb").write_text("{")
    assert main(["run"], base) == 2
    assert "06_scaling.ipynb can't be read as a notebook" in capsys.readouterr().err
    nbformat.write(new_notebook(), base / "notebooks/06_scaling.ipynb")
    assert main(["run"], base) == 2
    assert "06_scaling: its parameters cell lacks profile and seed" in capsys.readouterr().err


def test_names_of_notebooks(base):
    names = {
        w: [p.stem for p in select(base, w.split())]
        for w in ("", "all", "0", "00 6", "06_scaling", "6 06 06_scaling")
    }
    assert names[""] == names["all"] == names["00 6"] == ["00_start_here", "06_scaling"]
    assert names["0"] == ["00_start_here"] and names["06_scaling"] == names["6 06 06_scaling"] == [
        "06_scaling"
    ]


def test_what_needs_the_real_model_is_left_out_of_all_where_it_is_not(base, capsys, monkeypatch):
    (base / "notebooks/06_scaling.ipynb").rename(base / "notebooks/10_real_model.ipynb")
    everything = ["00_start_here", "10_real_model"]
    for here, left in ((True, everything), (False, everything[:1])):
        monkeypatch.setattr("workbench.models.smollm2.is_here", lambda here=here: here)
        assert [path.stem for path in select(base, ["all"], to_run=True)] == left
    assert "10_real_model" in (told := capsys.readouterr().out) and "pip install" in told
    assert [path.stem for path in select(base, ["10"], to_run=True)] == ["10_real_model"]
    assert [path.stem for path in select(base, ["all"])] == everything  # to clear, to record ...


def test_a_resumed_batch_takes_no_other_wishes(base, capsys):
    from workbench.runs import manifest

    manifest.append(
        base, {"event": "batch", "notebooks": ["00_start_here"], "profile": "quick", "given": []}
    )
    for wish in (["0"], ["-p", "seed=1"], ["--profile", "full"]):
        assert main(["run", *wish, "--resume", str(base)], base) == 2
        assert "as it was asked for" in capsys.readouterr().err


def test_help_is_quick():
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "--resume" in done.stdout and time.monotonic() - started < 2
