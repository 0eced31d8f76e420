"""The command on a small ProcessBench and PRMBench of our own making, which the shipped PRM can
read."""

import json
import runpy
from pathlib import Path

import pandas as pd
import pytest

from workbench.analyse.process_bench import ASPECTS
from workbench.problems import quantities
from workbench.problems.benchmarks import SUBSETS

main = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "process_bench.py"))["main"]
EACH = 8


def spoilt(problem, i):
    """Its solution, a wrong result in its first step or none, and the 0-based wrong steps."""
    steps = problem.solution.split("\n")
    return ([steps[0].replace(" .", "1 ."), *steps[1:]], [0]) if i % 2 else (steps, [])


def write(file, rows):
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """EACH solutions of every subset and class, every other one with an error; one of gsm8k is too
    long to read."""
    folder = tmp_path_factory.mktemp("data")
    problems = quantities.generate(EACH, levels=[2, 3], seed=8)
    made = [(problem.question, *spoilt(problem, i)) for i, problem in enumerate(problems)]
    for subset in SUBSETS:
        rows = [
            {
                "id": f"{subset}-{i}",
                "problem": question,
                "steps": steps,
                "label": wrong[0] if wrong else -1,
            }
            for i, (question, steps, wrong) in enumerate(made)
        ]
        if subset == "gsm8k":
            rows[0]["steps"] = rows[0]["steps"] * 60
        write(folder / "processbench" / f"{subset}.jsonl", rows)
    rows = [
        {
            "idx": f"p{i}",
            "classification": name,
            "modified_question": question,
            "modified_process": steps,
        }
        | {"error_steps": [t + 1 for t in wrong]}
        for name in ASPECTS
        for i, (question, steps, wrong) in enumerate(made)
    ]
    write(folder / "prmbench" / "prmbench.jsonl", rows)
    return folder


def test_the_shipped_prm_reads_its_own_problems_and_tells_what_it_could_not_read(
    data, tmp_path, capsys
):
    main(["--verifier", "prm", "--data", str(data), "--csv", str(tmp_path / "prm.csv")])
    out = capsys.readouterr().out
    assert (
        "32 solutions, " in out
        and "1 not read: gsm8k-0: " in out
        and "the verifier reads 512 (the first one)" in out
    )
    assert (
        "unknown words" not in out
        and "best on gsm8k" in out
        and "threshold 0.5, as published" in out
    )
    process = pd.read_csv(tmp_path / "prm-processbench.csv").set_index("subset")
    assert process.index.tolist() == [*SUBSETS, "average", "held out"]
    assert process["unread"].tolist() == [1 / EACH, 0, 0, 0, 1 / 32, 0]
    # the unread one is missed
    assert process.loc["gsm8k", ["error", "correct"]].tolist() == [1.0, 0.75]
    assert process.loc["held out", "f1"] == 1
    lines = [line.split() for line in out.splitlines()]
    assert ["subset", "n", "unread", "error", "correct", "f1"] in lines
    assert next(line for line in lines if line[:1] == ["gsm8k"])[:4] == [
        "gsm8k",
        "8",
        "12%",
        "100.0",
    ]
    classes = pd.read_csv(tmp_path / "prm-prmbench.csv").set_index("class")
    assert classes.index.tolist() == [*ASPECTS, "overall"] and classes.loc["overall", "score"] > 0.9


@pytest.mark.parametrize("name", ["random", "position"])
def test_baselines_read_everything(data, name, capsys):
    main(["--verifier", name, "--data", str(data), "--limit", "6", "--choose-on", "math"])
    out = capsys.readouterr().out
    assert "24 solutions, 0 tokens read" in out and "54 solutions" in out and "best on math" in out
    assert " not read" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--verifier", "random", "--dtype", "float32"], "^random: a baseline takes no dtype$"),
        (["--verifier", "nobody"], "^nobody: no verifier 'nobody': need a folder with verifier"),
        (
            ["--verifier", "random", "--data", "nowhere"],
            "^random: nowhere/processbench.* does not exist",
        ),
        (["--verifier", "random", "--limit", "0"], "^random: 0 solutions, 0 tokens read"),
        (
            ["--verifier", "random", "--only", "programs"],
            "^random: --only programs: with these data use processbench or prmbench$",
        ),
        (
            ["--verifier", "random", "--data", "embedded", "--only", "prmbench"],
            "^random: --only prmbench: with these data use quantities or programs$",
        ),
        (
            ["--verifier", "random", "--data", "embedded", "--samples", "0", "--limit", "1"],
            "^random: n=0 samples of base on validation: there are 64, and 256 of base",
        ),
    ],
)
def test_mistakes_are_one_line(data, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(["--data", str(data), *arguments])


def test_a_verifier_of_whole_solutions_is_refused(data, tmp_path):
    from tiny import TOKENIZER, tiny_model

    from workbench.models.verifier import StepVerifier, save

    save(StepVerifier(tiny_model(), TOKENIZER, per="solution"), tmp_path / "orm")
    with pytest.raises(SystemExit, match="a verifier per solution, batch=64: need one per step"):
        main(["--verifier", str(tmp_path / "orm"), "--data", str(data)])


def test_generative_verifiers_are_taken_by_their_folder(data, tmp_path, capsys):
    from tiny import TOKENIZER, tiny_model

    from workbench.models.generative import GenerativeVerifier
    from workbench.models.verifier import save

    save(GenerativeVerifier(tiny_model(), TOKENIZER), tmp_path / "genrm")
    main(
        [
            "--verifier",
            str(tmp_path / "genrm"),
            "--data",
            str(data),
            "--limit",
            "4",
            "--only",
            "prmbench",
        ]
    )
    assert "36 solutions" in capsys.readouterr().out


@pytest.mark.slow
def test_the_trial_on_embedded_problems(tmp_path, capsys):
    options = ["--data", "embedded", "--limit", "6", "--samples", "4"]
    main(["--verifier", "prm", *options, "--csv", str(tmp_path / "prm.csv")])
    out = capsys.readouterr().out
    assert "quantities, prm: 4 samples by base of each of 6 problems" in out
    assert "programs, prm: 4 samples by base of each of 6 problems" in out
    assert "of 6 other problems" in out and "left out: largest gap in a batch" not in out
    for kind in ("quantities", "programs"):
        table = pd.read_csv(tmp_path / f"prm-{kind}.csv").set_index(["measure", "at"])
        assert list(table.columns) == ["n", "value", "low", "high"]
        assert table.loc[("first-error F1", "exact"), "n"] == 6 * 4
        assert table.loc[("tokens read per solution", "all"), "value"] > 0
        gaps = table.loc["largest gap in a batch", "value"]
        assert list(gaps.index) == ["float32, 2"]  # six are too few for batches of 8
        assert 0 <= gaps.item() < 1e-4


@pytest.mark.slow
def test_the_trial_takes_verifiers_of_whole_solutions(tmp_path, capsys):
    from tiny import TOKENIZER, tiny_model

    from workbench.models.verifier import StepVerifier, save

    save(StepVerifier(tiny_model(), TOKENIZER, per="solution"), tmp_path / "orm")
    options = ["--data", "embedded", "--only", "quantities", "--limit", "4", "--samples", "4"]
    main(["--verifier", str(tmp_path / "orm"), *options])
    out = capsys.readouterr().out
    assert "solution AUC" in out and "step AUC" not in out and "programs" not in out
    assert "float32, 2" in out
    assert "left out: first-error F1, hit rate, all: the verifier scores whole solutions" in out


def test_the_real_files(real_data, capsys):
    main(["--verifier", "random", "--data", str(real_data), "--limit", "20"])
    out = capsys.readouterr().out
    assert "80 solutions" in out and "180 solutions" in out
