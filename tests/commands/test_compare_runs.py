"""Two runs side by side: what is read, what differs, paired results, the page, what is refused."""

import re

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_notebook
from scripted import Walker

from workbench.__main__ import main
from workbench.analyse.compare import paired
from workbench.commands.per_problem import pair_up, read_results
from workbench.commands.two_runs import differing, in_both, metric_pairs, read_run
from workbench.drive import solve
from workbench.problems import is_right
from workbench.problems.quantities import generate
from workbench.runs import manifest
from workbench.runs.manifest import MEANWHILE
from workbench.search import METHODS

RIGHT = {"A": [1, 0, 0, 0, 0, 1], "B": [1, 1, 1, 1, 1, 0]}  # of problems p0 ... p5


def a_run(folder, *, metrics, name="05_little", event="completed", figures=(), **facts):
    """A folder that looks like the batch of one notebook."""
    folder.mkdir()
    asked = {"event": "batch", "notebooks": [name], "profile": "quick", "given": []}
    manifest.append(folder, asked)
    if event:
        record = {"event": event, "notebook": name, "metrics": metrics, "figures": list(figures)}
        manifest.append(folder, {**record, "error": "no <luck>", **facts})
    for kind in ("files", "figures"):
        (folder / kind / name).mkdir(parents=True)
    return folder


def test_metrics_side_by_side():
    a = {"far": [0.2, 0.1, 0.3], "near": [0.4, 0.3, 0.5], "bare": 1, "same": 2, "gone": 3}
    b = {"far": [0.6, 0.4, 0.8], "near": [0.5, 0.4, 0.6], "bare": 2.5, "same": 2, "new": 0.5}
    rows = {row["metric"]: row for row in metric_pairs(a, b)}
    words = {name: row["in words"] for name, row in rows.items()}
    assert words == {
        "far": "apart", "near": "intervals overlap", "bare": "no intervals", "same": "equal",
        "gone": "only in A", "new": "only in B",
    }  # fmt: skip
    assert rows["far"]["B - A"] == pytest.approx(0.4) and rows["bare"]["B - A"] == 1.5
    far = rows["far"]["B - A low"], rows["far"]["B - A high"]
    assert far == pytest.approx((0.4 - 0.05**0.5, 0.4 + 0.05**0.5))
    assert rows["bare"]["B - A low"] is None
    assert rows["gone"]["B"] is None and rows["new"]["B - A"] is None
    assert [rows["near"][key] for key in ("A low", "B high")] == [0.3, 0.6]


def test_what_differs():
    same = {"hash": "1", "modules": {"workbench/a.py": "x"}, "data": {"data/models/m": "y"}}
    a = {**same, "parameters": {"seed": 0, "rate": 0.5}, "package_version": "0.1", "git": "abc"}
    b = {**same, "parameters": {"seed": 1, "rate": 0.5}, "package_version": "0.1", "hash": "2"}
    b["modules"] = {"workbench/a.py": "z"}
    assert differing(a, a) == []
    unsure = {"modules": {"workbench/x.py": MEANWHILE}}  # which code ran is not known of either
    assert [row["what"] for row in differing(unsure, unsure)] == ["code of workbench/x.py"]
    assert differing(a, b) == [
        {"what": "parameter seed", "A": "0", "B": "1"},
        {"what": "git", "A": "abc", "B": None},
        {"what": "hash of cells, parameters and data", "A": "1", "B": "2"},
        {"what": "code of workbench/a.py", "A": "x", "B": "z"},
    ]


def test_results_are_joined_by_problem_not_by_row(tmp_path):
    ids = [f"p{i}" for i in range(6)]
    for side, order in (("A", [0, 1, 2, 3, 4, 5]), ("B", [5, 3, 1, 0, 2, 4])):
        rows = [{"problem": ids[i], "method": "m", "value": RIGHT[side][i]} for i in order]
        rows.append({"problem": f"only {side}", "method": "m", "value": 1})
        (tmp_path / side).mkdir()
        pd.DataFrame(rows).to_csv(tmp_path / side / "x.csv", index=False)
    (row,) = pair_up(*[read_results([tmp_path / side]) for side in "AB"])
    expected = paired(RIGHT["B"], RIGHT["A"], seed=0)
    assert row["results"] == "x.csv: method=m" and row["problems"] == 6
    assert row["B - A"] == expected.difference == pytest.approx(0.5)
    assert (row["low"], row["high"], row["p"]) == (expected.low, expected.high, expected.p)
    assert (row["B better on"], row["A better on"]) == (4, 1)
    assert (row["only in A"], row["only in B"]) == (1, 1)


def test_p_values_allow_for_the_number_of_series():
    series = {"p": dict.fromkeys("abcdef", 0.0)}, {"p": dict.fromkeys("abcdef", 1.0)}
    a, b = [{f"s{i}": side["p"] for i in range(3)} for side in series]
    rows = pair_up(a, b)
    assert [row["p"] for row in rows] == [2 / 64] * 3
    assert [row["p (Holm)"] for row in rows] == pytest.approx([6 / 64] * 3)
    assert pair_up(a, {}) == [] and pair_up({"s": {"x": 1.0}}, {"s": {"y": 1.0}}) == []


def test_a_problem_that_stands_twice_counts_once(tmp_path):
    (tmp_path / "x.csv").write_text("problem,correct\n007,True\n007,False\n8,True\n9,\n")
    (tmp_path / "y.csv").write_text("problem,value,low\na,0.25,0\nb,,0\n")
    (tmp_path / "counts.csv").write_text("problem,value\na,1\nb,3\n")  # no shares: left out whole
    long = "problem,metric,value\na,right,1\na,tokens,1\nb,right,0\nb,tokens,90\n"
    (tmp_path / "z.csv").write_text(long)
    (tmp_path / "curve.csv").write_text("problems,value\n200,0.5\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "broken.jsonl").write_text("no json\n")
    found = read_results([tmp_path, tmp_path / "gone"])
    right = {"z.csv: metric=right": {"a": 1.0, "b": 0.0}}
    assert found == {"x.csv": {"007": 0.5, "8": 1.0}, "y.csv": {"a": 0.25}} | right


def test_result_files_are_graded(tmp_path):
    problems = generate(8, levels=[2, 3], seed=0, split="test")
    expected = {}
    for method, options in (("best_of_n", {"n": 3}), ("sample", {"n": 4})):
        path = tmp_path / f"{method}.jsonl"
        models = {"policy": Walker(problems), "verifier": Length()}
        results = solve(problems, METHODS[method], **models, seed=0, save=path, **options)
        graded = [[is_right(r.problem, x) for x in r.rollouts] for r in results]
        expected[method] = dict(zip([p.id for p in problems], graded)), results
    found = read_results([tmp_path])
    for name, series in found.items():
        graded, results = expected[name.split(".")[0]]
        if name.endswith("right rollouts"):
            assert series == {id: sum(right) / len(right) for id, right in graded.items()}
        else:
            assert series == {r.problem.id: float(is_right(r.problem, r.best)) for r in results}
    assert "best_of_n.jsonl: chosen answer" in found and len(found) == 2


class Length:
    """A verifier that likes every step."""

    per = "step"

    def score(self, prefixes, *, meters=None):
        return [[0.5] * len(prefix.steps) for prefix in prefixes]


def test_the_page_is_one_file_with_escaped_text(tmp_path, capsys):
    figure = plt.figure(figsize=(1, 1))
    folders = []
    for side in "AB":
        facts = {"parameters": {"word": f"<script>{side}"}, "figures": ["line"]}
        folder = a_run(tmp_path / f"run <{side}>", metrics={"<i>m": [0.5, 0.4, 0.6]}, **facts)
        figure.savefig(folder / "figures/05_little/line.png")
        (folder / "files/05_little/<u>.csv").write_text("problem,right\np,1\n")
        folders.append(folder)
    plt.close(figure)
    out = tmp_path / "page.html"
    assert main(["compare", *map(str, folders), "--out", str(out)], tmp_path) == 0
    page = out.read_text()
    assert not re.search("<script|<i>|<u>|<A>|<B>", page)
    assert "&lt;script&gt;A" in page and "&lt;i&gt;m" in page and "&lt;u&gt;.csv" in page
    sources = re.findall(r'src="([^"]*)', page)
    assert len(sources) == 2 and all(s.startswith("data:image/png;base64,") for s in sources)
    printed = capsys.readouterr().out
    assert "metrics in both: 1, apart: 0; settings that differ: 1" in printed
    assert "intervals overlap" in printed and str(out) in printed


def test_the_page_lies_in_the_current_folder(tmp_path, monkeypatch):
    for side in "ab":
        a_run(tmp_path / side, metrics={"m": 1})
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "a", "b"], tmp_path) == 0
    assert "Nothing: parameters, code and data agree" in (tmp_path / "compare.html").read_text()


def test_recorded_notebooks_are_a_run(tmp_path):
    (tmp_path / "notebooks").mkdir()
    facts = {"metrics": {"m": 1}, "figures": [], "parameters": {"seed": 0}}
    notebook = new_notebook(metadata={"workbench": facts})
    nbformat.write(notebook, tmp_path / "notebooks/05_little.ipynb")
    nbformat.write(new_notebook(), tmp_path / "notebooks/06_never.ipynb")
    recorded, run = read_run(tmp_path / "notebooks"), a_run(tmp_path / "b", metrics={"m": 2})
    assert recorded.figures == tmp_path / "figures"
    assert in_both(recorded, read_run(run)) == ["05_little"]
    assert recorded.get("05_little")["metrics"] == {"m": 1}


@pytest.mark.parametrize(
    ("b", "complaint"),
    [
        ("gone", "gone: there is no such folder"),
        ("empty", "empty holds no run: neither a manifest nor recorded notebooks"),
        ("failed", "failed: 05_little failed: no <luck>; finish it with"),
        ("stopped", "stopped: 05_little has not run to its end; finish it with"),
        ("other", "no notebook is in both: a has 05_little; other has 06_other"),
        ("sweep", "sweep is a sweep of many runs"),
        ("a --out gone/page.html", "--out gone/page.html: No such file"),
    ],
)
def test_what_can_not_be_compared_is_one_line(tmp_path, monkeypatch, capsys, b, complaint):
    a_run(tmp_path / "a", metrics={"m": 1})
    a_run(tmp_path / "failed", metrics={}, event="failed")
    a_run(tmp_path / "stopped", metrics={}, event=None)
    a_run(tmp_path / "other", metrics={"m": 1}, name="06_other")
    for name in ("empty", "sweep"):
        (tmp_path / name).mkdir()
    manifest.append(tmp_path / "sweep", {"event": "sweep", "notebook": "05_little"})
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "a", *b.split()], tmp_path) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1 and not list(tmp_path.glob("*.html"))
