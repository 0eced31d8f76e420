"""What a notebook talks to, used outside of IPython (the notebooks of test_batch use it inside)."""

import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from workbench.analyse.compare import Paired
from workbench.runs import Run, environment, manifest, source, start
from workbench.show.progress import duration, track
from workbench.types import Prefix, Problem


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_RUN_DIR", str(tmp_path))
    return start("05_grpo", profile="quick", seed=1)


def test_start_says_where_it_runs(run, capsys, tmp_path):
    start("05_grpo", profile="full", seed=np.int64(2))
    text = capsys.readouterr().out
    assert (
        "05_grpo" in text
        and "profile=full" in text
        and "seed=2" in text
        and "python=" in text
        and "git=" in text
    )
    assert run.folder == tmp_path


@pytest.mark.parametrize(
    ("name", "profile", "seed"),
    [
        ("04 grpo", "quick", 0),
        ("../x", "quick", 0),
        ("05_grpo", "fast", 0),
        ("05_grpo", "quick", 0.5),
        ("a", "full", True),
    ],
)
def test_start_refuses(name, profile, seed):
    with pytest.raises(ValueError, match="use"):
        start(name, profile=profile, seed=seed)


def test_interactive_output_goes_below_the_repository(monkeypatch):
    monkeypatch.delenv("WORKBENCH_RUN_DIR", raising=False)
    folder = start("05_grpo", profile="quick", seed=0).folder
    assert (
        folder.parts[-3:] == ("runs", "interactive", "05_grpo")
        and (folder.parents[2] / "pyproject.toml").is_file()
    )


def test_two_kernels_at_one_notebook_write_to_two_folders(monkeypatch, tmp_path):
    monkeypatch.delenv("WORKBENCH_RUN_DIR", raising=False)
    monkeypatch.setattr(environment, "root", lambda: tmp_path)
    code = f"""
from workbench.runs import environment, start
from pathlib import Path
environment.root = lambda: Path({str(tmp_path)!r})
print(start("05_grpo", profile="quick", seed=1).folder.name, flush=True)
input()
"""
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        lines = iter(other.stdout.readline, "")
        assert any(line.strip() == "05_grpo" for line in lines)
        own = [start("05_grpo", profile="quick", seed=0).folder.name for _ in range(2)]
        other.communicate("\n")
    assert own == ["05_grpo-2", "05_grpo-2"]


def test_sizes(run, capsys):
    assert run.sizes(quick={"n": 2, "m": 3}, full={"n": 4, "m": 9}).m == 3
    assert "quick (this run)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="only one has k, m"):
        run.sizes(quick={"n": 2, "m": 3}, full={"n": 4, "k": 9})


def test_log_takes_numbers_and_intervals(run):
    run.log(a=1, b=np.float32(0.5), **{"eval/accuracy": (0.41, 0.38, np.float64(0.44))})
    assert run.metrics == {"a": 1, "b": 0.5, "eval/accuracy": [0.41, 0.38, 0.44]}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "0.5",
        True,
        float("nan"),
        float("inf"),
        (1, 2),
        (1, 3, 2),
        (1, None, 2),
        [0.1, 0.2, 0.3, 0.4],
        {},
    ],
)
def test_log_refuses_what_is_no_number(run, value):
    with pytest.raises(ValueError, match="metric a="):
        run.log(a=value)
    assert run.metrics == {}


def test_figure_keeps_png_and_csv(run, tmp_path):
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots()
    ax.plot([1, 2])
    run.figure(fig, "line", data=[{"x": 1, "y": 2.0}])
    assert (tmp_path / "figures/05_grpo/line.png").read_bytes()[:4] == b"\x89PNG"
    assert pd.read_csv(tmp_path / "figures/05_grpo/line.csv").to_dict("records") == [
        {"x": 1, "y": 2.0}
    ]
    assert not plt.fignum_exists(fig.number)
    for name, data in (("Line 1", [{"x": 1}]), ("line", []), ("line", pd.DataFrame({"x": []}))):
        with pytest.raises(ValueError, match="figure"):
            run.figure(fig, name, data=data)


def test_path_stays_inside(run, tmp_path):
    assert run.path("a/pool.jsonl") == tmp_path / "files/05_grpo/a/pool.jsonl"
    assert (tmp_path / "files/05_grpo/a").is_dir()
    for name in ("../x", "/etc/x", "", "."):
        with pytest.raises(ValueError, match="inside"):
            run.path(name)


def test_finish_writes_metrics_then_the_record(run, tmp_path, capsys):
    run.log(sizes=3)
    run.finish()
    assert json.loads((tmp_path / "figures/05_grpo/metrics.json").read_text()) == {"sizes": 3}
    (record,) = manifest.read(tmp_path)
    assert (
        record["event"] == "finished"
        and record["metrics"] == {"sizes": 3}
        and record["parameters"]["seed"] == 1
    )
    assert "workbench/runs/run.py" in record["modules"]
    assert "05_grpo finished" in capsys.readouterr().out


def test_track_prints_lines(capsys):
    assert list(track(range(3), "sampling")) == [0, 1, 2]
    assert capsys.readouterr().out.startswith("sampling 3/3")
    assert list(track((c for c in "ab"), "letters", every=0)) == ["a", "b"]
    assert [line.split(" · ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "letters 1",
        "letters 2",
        "letters 2",
    ]
    for _ in track([1, 2, 3], "stopped"):
        break
    assert capsys.readouterr().out.startswith("stopped 0/3")
    assert list(track([], "none")) == [] and capsys.readouterr().out.startswith("none 0/0")


def test_track_takes_no_rate_from_items_read_back(capsys):
    def resumed():
        time.sleep(0.02)  # reading the file
        yield from range(900)  # at once
        for i in range(3):
            time.sleep(0.15)
            yield i

    for _ in track(resumed(), "labels", total=1000, every=0.14):
        pass
    lines = [line for line in capsys.readouterr().out.splitlines() if " left" in line]
    each = [float(line.split(" · ")[2].split()[0]) for line in lines]
    # 97 to 99 items of 0.15 s
    assert len(lines) == 3 and all(12 < left < 25 for left in each), lines


def test_track_says_rate_and_what_is_left(capsys):
    for _ in track(range(2), "slow", every=0):
        time.sleep(0.06)
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("slow 1/2") and first.endswith("left")
    assert "/s" in second and "left" not in last


def test_duration():
    assert [duration(s) for s in (0.04, 9.96, 59.4, 59.7, 61, 3725)] == [
        "0.0 s",
        "10.0 s",
        "59 s",
        "1 min 00 s",
        "1 min 01 s",
        "1 h 02 min",
    ]


def test_source_shows_the_code_of_today(capsys):
    source(Run.log)
    assert capsys.readouterr().out.startswith("def log(self, **metrics: object) -> None:")


def test_views_are_registered_in_ipython(tmp_path, monkeypatch):
    shell = InteractiveShell.instance()
    monkeypatch.setenv("WORKBENCH_RUN_DIR", str(tmp_path))
    try:
        shell.user_ns["In"] = ['profile: str = "quick"\nrate: float = 0.5', "%matplotlib inline"]
        shell.user_ns["rate"] = 0.25
        run = start("05_grpo", profile="quick", seed=0)
        assert run.parameters == {"profile": "quick", "seed": 0, "rate": 0.25}
        prefix = Prefix.of(Problem("p", "math", "<b>?"), ["1 < 2"])
        html = shell.display_formatter.format(prefix)[0]["text/html"]
        assert "1 &lt; 2" in html and "&lt;b&gt;?" in html
        for thing, shown in (
            (prefix.problem, ("&lt;b&gt;?", "Problem(id='p'")),
            (Paired(0.1, 0.0, 0.2, 0.04, 3, 1), ("+0.100", "Paired(difference=0.1")),
            (run, ("rate=0.25", "05_grpo · profile=quick")),
        ):
            view = shell.display_formatter.format(thing)[0]
            for kind, words in zip(("text/html", "text/plain"), shown):
                assert words in view[kind]
    finally:
        InteractiveShell.clear_instance()


def test_a_run_shows_what_it_holds_so_far(tmp_path):
    run = Run("00_x", "quick", 0, {"name": "<b>\x1b[1m"}, tmp_path)
    assert repr(run) == "00_x · name=<b>\ufffd[1m · figures: none\n(no rows)"
    assert run._repr_html_() == "<p>00_x · name=&lt;b&gt;\ufffd[1m · figures: none</p>"
    run.log(accuracy=(0.5, 0.25, 0.75))
    run.figures.append("line")
    line, *table = repr(run).splitlines()
    assert line.endswith("figures: line")
    assert table == ["metric    value  low   high", "accuracy  0.5    0.25  0.75"]
    assert "0.75</td>" in run._repr_html_()


def test_say_puts_a_logged_share_into_words(tmp_path):
    run = Run("00_x", "quick", 0, {}, tmp_path)
    run.log(accuracy=(0.413, 0.377, 0.44), share=0.5, gain=(0.0742, 0.046, 0.104))
    assert run.say("accuracy") == "41 % (38–44)" and run.say("share") == "50 %"
    assert run.say("gain", "+.1p") == "+7.4 (+4.6 to +10.4)"
    with pytest.raises(KeyError):
        run.say("nothing")
