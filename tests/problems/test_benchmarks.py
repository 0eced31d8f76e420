"""Every benchmark from a file; errors name file and line; counts of the real files."""

import dataclasses
import gzip
import json
import re
from collections import Counter

import pytest

from workbench.problems import benchmarks, check_steps
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

MAWPS = {
    "id": 7,
    "original_text": "Ann had $ 22 , lost 14 and gave the rest to 4 boys . How much did each get ?",
    "equation": "X=((22.0-14.0)/4.0)",
    "ans": 2.0,
}
SVAMP = {
    "ID": "chal-1",
    "Body": "A pack costs 76 dollars",
    "Question": "How much is it with 25 dollars off?",
    "Equation": "( 76.0 - 25.0 )",
    "Answer": 51.0,
    "Type": "Subtraction",
}
SYMBOLIC = {
    "question": "Ann has 3 bags of 4 nuts and eats 5. How many are left?",
    "answer": "3*4=<<3*4=12>>12\n12-5=<<12-5=7>>7\n#### 7",
    "id_orig": 1,
    "id_shuffled": 2,
    "question_annotated": "{name,Ann} has {n,3} bags of {k,4} nuts and eats {e,5}. "
    "How many are left?\n\n#init:\n- name = sample(names)\n- $n = range(20, 30)\n"
    "- $k = range(40, 80, 5)\n"
    "- $e = range(2, 2000)\n\n#conditions:\n- e < n*k\n- divides(e, 3)\n\n#answer: n*k-e",
    "answer_annotated": "First {n}*{k}=<<{n}*{k}={n*k}>>{n*k} nuts.\n"
    "{name} has {n*k} - {e} = <<{n*k}-{e}={n*k-e}>>{n*k-e} left.\n#### {n*k-e}",
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


def test_a_number_given_as_answer_is_its_text_also_if_it_is_zero(tmp_path):
    rows = [{"problem": "1 - 1?", "answer": n} for n in (0, 2, "", None)]
    file = tmp_path / "math.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert [problem.answer for problem in load("math", path=file)] == ["0", "2", None, None]


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
    nameless = {k: x for k, x in PROCESS.items() if k != "id"} | {"label": 1}
    bare = write(tmp_path / "bare.jsonl", *[nameless] * 2)
    rows = load("processbench", path=bare, split="gsm8k")
    assert [row.meta["subset"] for row in rows] == ["gsm8k"] * 2
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


def test_mawps_and_svamp_become_stories_with_one_operation_a_line(tmp_path):
    (tmp_path / "trainset.json").write_text(json.dumps([MAWPS]))
    (problem,) = load("mawps", path=tmp_path, split="train")
    assert (problem.id, problem.kind, problem.answer, problem.level) == (
        "mawps/train/1", "stories", "2", 2,
    )  # fmt: skip
    assert problem.question.startswith("Ann had $22, lost 14 and gave the rest to 4 boys. How")
    assert problem.solution == "22 - 14 = 8\n8 / 4 = 2\nThe answer is 2"
    assert check_steps(problem, ["(22 - 14) / 4 = 2", "The answer is 2"]) == [True, True]
    assert check_steps(problem, ["22 - 14 = 8", "8 / 4 = 3"]) == [True, False]
    (tmp_path / "SVAMP.json").write_text(json.dumps([SVAMP]))
    (problem,) = load("svamp", path=tmp_path)
    assert problem.question == "A pack costs 76 dollars. How much is it with 25 dollars off?"
    assert (problem.kind, problem.solution) == ("stories", "76 - 25 = 51\nThe answer is 51")


@pytest.mark.parametrize(
    ("equation", "answer"),
    [("(6.0+x)*(x-6.0)=189.0", -15.0), ("x=40/7", "5"), ("x=1/0", 1), ("", 3), ("X=2+", 2)],
)
def test_an_equation_that_gives_no_steps_leaves_a_plain_problem(tmp_path, equation, answer):
    (tmp_path / "m.json").write_text(json.dumps([MAWPS | {"equation": equation, "ans": answer}]))
    (problem,) = load("mawps", path=tmp_path / "m.json")
    assert (problem.kind, problem.solution, problem.level) == ("math", None, None)
    assert problem.answer == str(int(float(answer)))


def test_gsm_symbolic_draws_numbers_that_fulfil_the_conditions(tmp_path):
    folder = tmp_path / "symbolic"
    folder.mkdir()
    (folder / "0000.json").write_text(json.dumps(SYMBOLIC))
    (problem,) = load("gsm_symbolic", path=tmp_path, split="symbolic")
    n, k, e = map(int, re.findall(r"[0-9]+", problem.question))
    assert n in range(20, 30) and k in range(40, 80, 5) and e % 3 == 0 and e < n * k
    assert problem.kind == "stories" and problem.meta["fulfilled"]
    assert problem.solution == (
        f"{n} * {k} = {n * k}\n{n * k} - {e} = {n * k - e}\nThe answer is {n * k - e}"
    )
    assert load("gsm_symbolic", path=tmp_path, split="symbolic") == [problem]
    with pytest.raises(ValueError, match=r"holds no p1/\*\.json"):
        load("gsm_symbolic", path=tmp_path, split="p1")


@pytest.mark.parametrize(
    "condition",
    ["__import__('os').getcwd() == e", "e.__class__ == n", "[x for x in (1,)] == e", "2**99 > e"],
)
def test_what_a_template_may_not_say_is_not_run(tmp_path, condition):
    row = json.loads(json.dumps(SYMBOLIC).replace("divides(e, 3)", condition))
    (tmp_path / "0000.json").write_text(json.dumps(row))
    (problem,) = load("gsm_symbolic", path=tmp_path, split="symbolic")
    assert problem.question == SYMBOLIC["question"] and problem.answer == "7"
    assert not problem.meta["fulfilled"]


def test_competition_answers_are_whole_numbers(tmp_path):
    write(tmp_path / "amc23.jsonl", {"question": "Q", "answer": 27.0, "url": "u"})
    (problem,) = load("competition", path=tmp_path, split="amc23")
    assert problem == Problem("competition/amc23/1", "math", "Q", "27", meta={"url": "u"})


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


def test_cut_off_and_corrupt_gz(tmp_path):
    path = write(tmp_path / "p.jsonl.gz", *[PRM | {"idx": str(i)} for i in range(2000)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(ValueError, match=r"p\.jsonl\.gz:\d+: corrupt or cut-off"):
        load("prmbench", path=path)
    for at in range(20, len(whole) - 20, len(whole) // 60):  # a bit turned anywhere
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"p\.jsonl\.gz:\d+: "):
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


@pytest.mark.slow
def test_real_mawps_and_svamp(real_data):
    sizes = {"train": 1898, "valid": 237, "test": 238}
    rows = [p for s in sizes for p in load("mawps", path=real_data / "mawps", split=s)]
    assert Counter(p.id.split("/")[1] for p in rows) == sizes and unique_ids(rows)
    svamp = load("svamp", path=real_data / "svamp")
    assert len(svamp) == 1000 and unique_ids(svamp)
    # steps are known but for unknowns within an equation, and endless decimals
    for problems, share in ((rows, 0.92), (svamp, 0.99)):
        told = [p for p in problems if p.kind == "stories"]
        assert len(told) > share * len(problems)
        assert all(all(check_steps(p, p.solution.split("\n"))) for p in told)


@pytest.mark.slow
def test_real_gsm_symbolic(real_data):
    rows = load("gsm_symbolic", path=real_data / "gsm_symbolic" / "templates")
    parts = Counter(p.id.split("/")[1] for p in rows)
    assert parts == {"symbolic": 100, "p1": 100, "p2": 50} and unique_ids(rows)
    told = [p for p in rows if p.kind == "stories"]
    assert len(told) > 170 and sum(p.meta["fulfilled"] for p in told) > 150
    for problem in told:
        *steps, last = problem.solution.split("\n")
        assert all(check_steps(problem, [*steps, last]))
        assert check_steps(problem, ["907 + 911 = 1818"]) == [False]


def test_real_competition(real_data):
    rows = load("competition", path=real_data / "competition")
    assert Counter(p.id.split("/")[1] for p in rows) == {"aime24": 30, "amc23": 40}
    assert unique_ids(rows) and all(p.answer and "." not in p.answer for p in rows)


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
