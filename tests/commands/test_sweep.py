"""A sweep: its grid, its workers, what it refuses, how it is resumed, what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from little_repository import Repository

from workbench.__main__ import main
from workbench.analyse.compare import paired
from workbench.commands import sweep as sweeping
from workbench.commands.grid import grid, swept
from workbench.commands.sweep_page import sweep_figure, write_sweep
from workbench.commands.sweep_table import curves, headlines, over_seeds, tidy
from workbench.runs import manifest

RIGHT = [1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0]  # of problems p0 ... p5, by seed
WORK = f"""import os
right = {RIGHT}[seed]
ids = [f"p{{i}}" for i in range(6)]
results = pd.DataFrame({{"problem": ids, "method": "<i>", "right": right}})
results.sample(frac=1, random_state=seed).to_csv(run.path("results.csv"), index=False)
import matplotlib.pyplot as plt
run.figure(plt.figure(), "empty", data=[dict(x=1)])
assert seed != 1 or rate != 0.5 or os.path.exists("../repaired"), "no <luck>"
low, threads = rate + seed - 0.1, int(os.environ["OMP_NUM_THREADS"])
run.log(n=S.n, right=(rate + seed, low, rate + seed + 0.1), threads=threads)"""
WAIT = """import os, time
while seed == 1 and not os.path.exists("../repaired"):
    time.sleep(0.1)
run.log(right=seed)"""


@pytest.fixture
def repository(tmp_path) -> Repository:
    repository = Repository(tmp_path)
    repository.add("05_little", WORK)
    return repository


def points_of(repository, *given):
    path = repository.base / "notebooks/05_little.ipynb"
    return grid(path, profile="quick", given=list(given))


def test_the_last_parameter_changes_fastest(repository):
    points = points_of(repository, "seed=2,0", "rate=1,0.5", "loud=true")
    assert [tuple(point.values.values()) for point in points] == [
        (2, 1.0, True), (2, 0.5, True), (0, 1.0, True), (0, 0.5, True),
    ]  # fmt: skip
    assert [p.name for p in points][:2] == [
        "001_seed=2_rate=1.0_loud=True", "002_seed=2_rate=0.5_loud=True",
    ]  # fmt: skip
    assert points[1].job.parameters == {"profile": "quick", "seed": 2, "rate": 0.5, "loud": True}
    assert swept(points) == {"seed": [0, 2], "rate": [0.5, 1.0]}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("05 -p speed=1,2", "-p speed: unknown parameter; known are loud, rate, seed"),
        ("05 -p seed=0,x", "-p seed=x: must be int"),
        ("05 -p seed=0,,1", "-p seed=: must be int"),
        ("05 -p rate=0.5,fast", "-p rate=fast: must be float"),
        ("05 -p rate=0,1,0.0", "-p rate=0,1,0.0: 0.0 is given twice"),
        ("05 -p seed=0,1 -p seed=2", "-p seed=2: seed is given twice"),
        ("05 -p profile=quick,full", "use --profile"),
        ("05 -p value=0", "-p value: sweep.csv has a column"),
        ("05", "a sweep needs values"),
        ("06 -p seed=0,1", "06: no such notebook"),
        ("all -p seed=0,1", "a sweep runs one notebook"),
        ("-p seed=0,1", "a sweep runs one notebook"),
        ("05 -p seed=0,1 --workers 0", "argument --workers: 0: must be"),
        ("05 -p seed=0,1 --workers 5", "--workers 5: 4 cores allow 4 at most"),
        ("05 -p seed=0,1 --ray --workers 2", "leave out --workers"),
        ("05 -p seed=0,1 --ray", "--ray: Ray is not here: pip install -e '.[scale]'"),
        ("--resume gone", "--resume gone: no sweep was started there"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(
    repository, words, complaint, capsys, monkeypatch
):
    repository.add("07_other")
    monkeypatch.chdir(repository.base)
    monkeypatch.setattr("workbench.runs.environment.cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    before = sorted(repository.base.rglob("*"))
    try:
        code = main(["sweep", *words.split()], repository.base)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and complaint in error and error.count("\n") == 1
    assert sorted(repository.base.rglob("*")) == before


@pytest.mark.parametrize(
    ("points", "workers", "threads", "gib", "expected"),
    [
        (9, None, None, 64, (8, 1)),
        (2, None, None, 64, (2, 4)),  # few points: the cores are shared out
        (9, None, 4, 64, (2, 4)),
        (9, None, None, 7, (3, 2)),  # 2 GiB each
        (9, None, None, 1, (1, 8)),
        (9, 3, None, 1, (3, 2)),  # memory is an estimate: who says a number gets it
        (9, 1, 2, 64, (1, 2)),
    ],
)
def test_workers_respect_cores_and_memory(monkeypatch, points, workers, threads, gib, expected):
    monkeypatch.setattr("workbench.runs.environment.cores", lambda: 8)
    memory = SimpleNamespace(available=gib * 2**30)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    assert sweeping.share(points, workers, threads) == expected


def test_more_workers_than_cores_are_refused(monkeypatch):
    monkeypatch.setattr("workbench.runs.environment.cores", lambda: 8)
    with pytest.raises(ValueError, match="--workers 3: 8 cores for 4 threads each allow 2"):
        sweeping.share(9, 3, 4)


def ended(points, metrics, failed=()):
    """Records of points as if they had run: the metrics of each from its values."""
    ends = ["failed" if i in failed else "completed" for i in range(len(points))]
    results = [{"status": end, "seconds": 2.0, "error": None} for end in ends]
    for point, result in zip(points, results):
        result |= {"metrics": metrics(**point.values)}
        result |= {"error": "no <luck>"} if result["status"] == "failed" else {}
    return results


def test_one_tidy_table(repository):
    points = points_of(repository, "seed=0,1", "rate=0.5,2")
    results = ended(points, lambda seed, rate: {"n": 2, "a": [rate + seed, 0.0, 9.0]}, {3})
    table = tidy(points, results)
    assert list(table) == ["seed", "rate", "metric", "value", "low", "high"]
    assert table[table["metric"] == "a"].values.tolist() == [
        [0, 0.5, "a", 0.5, 0.0, 9.0], [0, 2.0, "a", 2.0, 0.0, 9.0], [1, 0.5, "a", 1.5, 0.0, 9.0],
    ]  # fmt: skip
    assert len(table) == 6 and table[table["metric"] == "n"]["low"].isna().all()
    assert headlines(table) == ["a"] and headlines(table[table["metric"] == "n"]) == ["n"]


def test_mean_and_spread_over_seeds(repository):
    points = points_of(repository, "seed=0,1,2", "rate=0.5,2", "loud=true,false")
    table = tidy(points, ended(points, lambda seed, rate, loud: {"a": rate * (seed + 1) - loud}))
    found = over_seeds(table, ["a"])
    row = found[(found["rate"] == 2) & found["loud"]].iloc[0]
    assert len(found) == 4 and row["seeds"] == 3
    assert (row["mean"], row["spread"], row["lowest"], row["highest"]) == (3, 2, 1, 5)
    drawn, x, places = curves(table, points, ["a"])
    assert (x, places, set(drawn["run"])) == ("rate", [0.5, 2.0], {"loud=True", "loud=False"})
    line = drawn[drawn["run"] == "loud=True"].sort_values("place")
    found = line[["place", "value", "low", "high"]].values.tolist()
    assert found == [[0, 0, -0.5, 0.5], [1, 3, 1, 5]]


def test_only_seeds_are_the_axis_and_keep_their_intervals(repository):
    points = points_of(repository, "rate=1", "seed=1,0")
    table = tidy(points, ended(points, lambda seed, rate: {"a": [seed, seed - 1, seed + 1]}))
    drawn, x, places = curves(table, points, ["a"])
    assert (x, places) == ("seed", [0, 1]) and "run" not in drawn
    assert drawn[["place", "value", "low"]].values.tolist() == [[1, 1, 0], [0, 0, -1]]


def test_the_figure_has_a_panel_a_metric_and_a_line_a_value(repository):
    points = points_of(repository, "rate=0,0.04,1", "seed=0,1", "loud=true,false")
    names = [f"m{i}" for i in range(9)]
    results = ended(points, lambda rate, seed, loud: {n: rate + seed * loud for n in names})
    table = tidy(points, results)
    fig = sweep_figure(table, points, headlines(table), "Sweep")
    panels = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title("left") for ax in panels] == names[:6]
    for ax in panels:
        assert [text.get_text() for text in ax.get_xticklabels()] == ["0.0", "0.04", "1.0"]
        assert {line.get_label() for line in ax.get_lines()} == {"loud=True", "loud=False"}


def test_the_page_escapes_all_text(repository, tmp_path):
    points = points_of(repository, "seed=0,1")
    points = [replace(p, values={"seed": p.values["seed"], "word": "<b>&"}) for p in points]
    results = ended(points, lambda seed, word: {"<i>a": seed}, {1})
    page = write_sweep(tmp_path, points, results, "quick").read_text()
    assert "<b>" not in page and "<i>" not in page and "<luck>" not in page
    assert "&lt;b&gt;&amp;" in page and "&lt;i&gt;a" in page and "no &lt;luck&gt;" in page
    assert (tmp_path / "sweep.png").is_file()


def test_nothing_completed_leaves_a_page_without_a_figure(repository, tmp_path):
    points = points_of(repository, "seed=0,1")
    results = ended(points, lambda seed: {"a": 1}, {0, 1})
    page = write_sweep(tmp_path, points, results, "quick").read_text()
    assert "<img" not in page and page.count("no &lt;luck&gt;") == 2
    assert (tmp_path / "sweep.csv").read_text() == "seed,metric,value,low,high\n"


@pytest.mark.slow
def test_a_failed_point_stops_no_other_and_resume_runs_it_alone(repository, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    base, folder = repository.base, repository.base / "out"
    words = ["sweep", "5", "-p", "seed=1,0", "-p", "rate=0.5", "--workers", "1"]
    assert main([*words, "--output", str(folder)], base) == 1
    out = capsys.readouterr().out
    again = f"python -m workbench sweep --resume {folder}"
    assert f"failed: 001_seed=1_rate=0.5; repair, then: {again}" in out
    table = pd.read_csv(folder / "sweep.csv")
    rows = table[table["metric"] == "right"]
    assert rows[["seed", "rate", "value"]].values.tolist() == [[0, 0.5, 0.5]]
    assert set(table[table["metric"] == "threads"]["value"]) == {1}
    assert "no &lt;luck&gt;" in (folder / "sweep.html").read_text()
    # 2. with other wishes it is refused, with the same or none it goes on
    for wish in (["4"], ["5", "-p", "seed=1"], ["--profile", "full"]):
        assert main(["sweep", *wish, "--resume", str(folder)], base) == 2
    (base / "repaired").write_text("")
    capsys.readouterr()
    assert main([*words, "--resume", str(folder)], base) == 0
    assert capsys.readouterr().out.count("skipped, completed before") == 1
    table = pd.read_csv(folder / "sweep.csv")
    assert len(table) == 6 and not table.duplicated(["seed", "rate", "metric"]).any()
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    assert names == {"001_seed=1_rate=0.5", "002_seed=0_rate=0.5"}
    assert json.loads((folder / "002_seed=0_rate=0.5/manifest.jsonl").open().readlines()[-1])["git"]
    compared(folder / "002_seed=0_rate=0.5", folder / "001_seed=1_rate=0.5", base, capsys)


def compared(a, b, base, capsys):
    """Two points of a sweep are two runs to `compare`."""
    capsys.readouterr()
    assert main(["compare", str(a), str(b), "--out", str(base / "page.html")], base) == 0
    printed, page = capsys.readouterr().out, (base / "page.html").read_text()
    assert "metrics in both: 3, apart: 1; settings that differ: 2" in printed
    assert "parameter seed" in page and page.count("data:image/png") == 2
    assert "results.csv: method=&lt;i&gt;" in page
    (row,) = [line.split() for line in printed.splitlines() if line.startswith("results.csv")]
    assert row[2:6] == ["6", "0.333", "0.833", "0.5"]
    assert float(row[8]) == pytest.approx(paired(*RIGHT[::-1], seed=0).p, abs=1e-3)


@pytest.mark.slow
def test_a_killed_sweep_loses_and_doubles_no_point(repository, capsys):
    """SIGKILL amid the second of two points; meanwhile the folder is taken."""
    base, folder = repository.base, repository.base / "out"
    repository.add("05_little", WAIT)
    words = ["sweep", "5", "-p", "seed=0,1", "--workers", "1", "--output", str(folder)]
    code = "import sys; from pathlib import Path; from workbench.__main__ import main; "
    code += f"sys.exit(main({words!r}, Path({str(base)!r})))"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        done = folder / "001_seed=0"
        while not (folder / "002_seed=1/05_little.ipynb").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        assert main(["sweep", "--resume", str(folder)], base) == 2
        assert "another run is writing there now" in capsys.readouterr().err
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    records = manifest.read(done)
    assert list(manifest.outcomes(records)) == ["05_little"] and not (folder / "sweep.csv").exists()
    (base / "repaired").write_text("")
    assert main(["sweep", "--resume", str(folder)], base) == 0
    assert capsys.readouterr().out.count("skipped, completed before") == 1
    assert manifest.read(done) == records  # not touched again
    table = pd.read_csv(folder / "sweep.csv")
    assert table[["seed", "value"]].values.tolist() == [[0, 0], [1, 1]]
    ends = [json.loads(line)["event"] for line in (folder / "002_seed=1/manifest.jsonl").open()]
    assert ends.count("completed") == 1 and ends.count("batch") == 1
