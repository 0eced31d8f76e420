"""Every benchmark from a file; errors name file and line; counts of the real files."""

import dataclasses
import gzip
import json
from collections import Counter

import pytest

from workbench.problems import benchmarks
from workbench.problems.benchmarks import load
from workbench.types import Problem

GSM8K = {
    "question": "How many clips?",
    "answer": "48/2 = <<48/2=24>>24 in May.\nThat is 1,024 in all.\n#### 1,024",
}
MATH = {
    "problem": "Half?",
    "level": "Level 3",
    "type": "Algebra",
    "solution": r"It is $\boxed{\frac{1}{2}}$.",
}
PROCESS = {
    "id": "math-7",
    "generator": "G",
    "problem": "Q",
    "steps": ["a", "b", "c"],
    "final_answer_correct": False,
}
PRM = {
    "modified_question": "Q",
    "modified_process": ["a", "b"],
    "error_steps": [2, 3],
    "classification": "circular",
}


def write(path, *rows):
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_gsm8k(tmp_path):
    (problem,) = load("gsm8k", path=write(tmp_path / "test.jsonl", GSM8K))
    assert problem == Problem(
        "gsm8k/test/1",
        "math",
        "How many clips?",
        "1024",
        "48/2 = 24 in May.\nThat is 1,024 in all.",
    )


def test_math_takes_the_last_box_where_no_answer_is_given(tmp_path):
    folder = tmp_path
    write(
        folder / "math500.jsonl",
        MATH | {"level": 4, "answer": "x", "unique_id": "u/1", "subject": "Geometry"},
    )
    write(folder / "test.jsonl", MATH, MATH | {"level": "Level ?"})
    first, second = load("math", path=folder)
    assert (first.answer, first.level, first.meta["subject"]) == (r"\frac{1}{2}", 3, "Algebra")
    assert second.level is None
    (problem,) = load("math500", path=folder)
    assert (problem.id, problem.answer, problem.level, problem.meta["subject"]) == (
        "u/1",
        "x",
        4,
        "Geometry",
    )


def test_own_rows_and_round_trip(tmp_path):
    rows = [
        {"problem": "1+1?", "answer": 2, "topic": "sums"},
        {"question": "2+2?", "answer": "4", "level": 1},
    ]
    first, second = load("jsonl", path=write(tmp_path / "own.jsonl", *rows))
    assert (first.question, first.answer, first.meta) == ("1+1?", "2", {"topic": "sums"})
    assert (second.kind, second.level) == ("math", 1)
    asked = [
        first,
        Problem("p", "quantities", "q", "3", "s", 2, {"a": [1]}),
        Problem("r", "math", "q"),
    ]
    assert (
        load("jsonl", path=write(tmp_path / "again.jsonl", *map(dataclasses.asdict, asked)))
        == asked
    )


def test_processbench_labels(tmp_path):
    path = write(
        tmp_path / "math.jsonl",
        PROCESS | {"label": 1},
        PROCESS | {"label": -1},
        PROCESS | {"label": 0},
    )
    one, none, first = load("processbench", path=path)
    assert [r.labels for r in (one, none, first)] == [(1, 0, None), (1, 1, 1), (0, None, None)]
    assert [r.problem.id for r in (one, none, first)] == ["math-7", "math-7#2", "math-7#3"]
    assert one.meta == {"subset": "math", "generator": "G", "final_answer_correct": False}
    with pytest.raises(ValueError, match=r"math\.jsonl:1: .*label 3 for 3 steps"):
        load("processbench", path=write(path, PROCESS | {"label": 3}))


def test_prmbench_index_past_the_end(tmp_path):
    (row,) = load("prmbench", path=write(tmp_path / "p.jsonl.gz", PRM))
    assert (row.labels, row.meta["past_end"], row.meta["classification"]) == (
        (1, 0),
        (2,),
        "circular",
    )
    with pytest.raises(ValueError, match="error_steps"):
        load("prmbench", path=write(tmp_path / "q.jsonl", PRM | {"error_steps": [0]}))


def test_json_array_and_limit(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([GSM8K] * 5))
    assert [p.id for p in load("gsm8k", path=tmp_path / "a.json", limit=2)] == [
        "gsm8k/test/1",
        "gsm8k/test/2",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"question": "a", "answer": "#### 1"}\n{"question": "b", "ans',
            r"bad\.jsonl:2: corrupt or cut-off",
        ),
        ('{"question": "a", "answer": "1"}\n', r"bad\.jsonl:1: not a gsm8k record: no '####'"),
        ('\n{"answer": "#### 1"}\n', r"bad\.jsonl:2: not a gsm8k record: no field 'question'"),
        ("17\n", r"bad\.jsonl:1: not a gsm8k record"),
        ('{"question": "\udcff"}', r"bad\.jsonl:0: corrupt"),
    ],
)
def test_errors_name_file_and_line_in_one_line(tmp_path, text, message):
    (tmp_path / "bad.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as error:
        load("gsm8k", path=tmp_path / "bad.jsonl")
    assert "\n" not in str(error.value)


def test_cut_off_gz(tmp_path):
    path = write(tmp_path / "p.jsonl.gz", *[PRM | {"idx": str(i)} for i in range(2000)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"p\.jsonl\.gz:\d+: corrupt or cut-off"):
        load("prmbench", path=path)


def test_names_and_paths(tmp_path):
    with pytest.raises(ValueError, match="unknown benchmark 'gsm9k': use gsm8k, math500"):
        load("gsm9k")
    with pytest.raises(ValueError, match="does not exist"):
        load("gsm8k", path=tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="holds no gsm8k_test or gsm8k or test"):
        load("gsm8k", path=tmp_path)
    with pytest.raises(ValueError, match="needs path"):
        load("jsonl")


def test_hub(monkeypatch):
    import datasets

    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, part, split: [GSM8K] if part == "main" else 1 / 0
    )
    assert load("gsm8k", split="train")[0].id == "gsm8k/train/1"
    with pytest.raises(ValueError, match=r"no HuggingFaceH4/MATH-500 .* give path=\.\.\."):
        load("math500")


# -- real data -------------------------------------------------------------------------------------


def unique_ids(records):
    return len({getattr(r, "problem", r).id for r in records}) == len(records)


def test_real_gsm8k(real_data):
    test, train = (
        load("gsm8k", path=real_data / "gsm8k", split=split) for split in ("test", "train")
    )
    assert (len(test), len(train)) == (1319, 7473)
    assert not any("<<" in p.solution or "," in p.answer for p in test + train) and unique_ids(
        test + train
    )


def test_real_math(real_data):
    m500 = load("math500", path=real_data / "math")
    harness = load("math500", path=real_data / "math" / "math_oai_test_harness.jsonl")
    assert [(p.answer, p.level) for p in m500] == [(p.answer, p.level) for p in harness] and len(
        m500
    ) == 500
    assert Counter(p.meta["subject"] for p in m500)["Algebra"] == 124 and unique_ids(m500)
    test = load("math", path=real_data / "math" / "math_test_5000.jsonl")
    assert Counter(p.level for p in test) == {1: 437, 2: 894, 3: 1131, 4: 1214, 5: 1324}
    assert all(p.answer for p in test) and {p.question for p in m500} <= {p.question for p in test}
    train = load("math", path=real_data / "math" / "math_train_rllm.json", split="train")
    assert len(train) == 7474 and not {p.question for p in train} & {p.question for p in test}
    assert (
        len(load("math", path=real_data / "math" / "openr_extracted_problems_and_answers.json"))
        == 7500
    )


def test_real_processbench(real_data):
    counts = {}
    for row in (rows := load("processbench", path=real_data / "processbench")):
        counts.setdefault(row.meta["subset"], Counter())[row.first_error is None] += 1
    assert {name: (c[False], c[True]) for name, c in counts.items()} == {
        "gsm8k": (207, 193),
        "math": (594, 406),
        "olympiadbench": (661, 339),
        "omnimath": (759, 241),
    }
    assert list(counts) == list(benchmarks.SUBSETS) and unique_ids(rows)
    assert len(load("processbench", path=real_data / "processbench", split="gsm8k", limit=10)) == 10


def test_real_prmbench(real_data):
    rows = load("prmbench", path=real_data / "prmbench" / "prmbench_all.jsonl.gz")
    assert (len(rows), sum(len(r.labels) for r in rows)) == (6216, 83456) and unique_ids(rows)
    assert sum(bool(r.meta["past_end"]) for r in rows) == 100
    assert len(Counter(r.meta["classification"] for r in rows)) == 9
    assert len(load("prmbench", path=real_data / "prmbench" / "prmbench_subset400.jsonl")) == 394
