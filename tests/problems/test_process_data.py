"""Step-labelled solutions in public formats: literal examples, odd records, round trips, the hub,
the real samples."""

import json
import math
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.problems.process_data import READERS, WRITERS, read, write
from workbench.types import LabelledSolution, Problem

WRITABLE = tuple(WRITERS)


def pairs(rows):
    """Steps with their labels, for comparison with literal ones."""
    return [tuple(zip(row.steps, row.labels)) for row in rows]


# -- PRM800K ---------------------------------------------------------------------------------------


def rated(*completions, chosen=None, human=None):
    completions = [
        {"text": text, "rating": rating, "flagged": None} for text, rating in completions
    ]
    human = human and {"text": human, "rating": None, "source": "human", "flagged": False}
    return {"completions": completions, "human_completion": human, "chosen_completion": chosen}


def prm800k(*steps, generation=None):
    asked = {"problem": "1+2+3?", "ground_truth_answer": "6", "ground_truth_solution": "Add."}
    label = {"steps": list(steps), "finish_reason": "solution"}
    return {
        "generation": generation,
        "is_quality_control_question": False,
        "question": asked,
        "label": label,
    }


WALK = prm800k(
    rated(("a", 1), ("a-", -1), ("a0", 0), chosen=0),
    rated(("b-", -1), ("b-", -1), human="b"),
    rated(("c", 0), ("c+", 1), ("c", -1), chosen=0),
    rated(("d-", -1), ("d", 1), ("d?", None)),
)


def test_prm800k_each_rated_completion_ends_one_solution_behind_the_walked_steps(tmp_path, save):
    rows = read(save(tmp_path / "p.jsonl", WALK), format="prm800k")
    assert pairs(rows) == [
        (("a-", 0),),
        (("a0", 1),),
        (("a", 1), ("b-", 0)),
        (("a", 1), ("b", 1), ("c+", 1)),
        (("a", 1), ("b", 1), ("c", 1), ("d-", 0)),
        (("a", 1), ("b", 1), ("c", 1), ("d", 1)),
    ]
    assert rows[0].problem == Problem("prm800k/1", "math", "1+2+3?", "6", "Add.")
    meta = {"phase": 1, "finish_reason": "solution", "is_quality_control_question": False}
    assert (rows[0].meta, rows[0].source, rows[0].values) == (meta, "prm800k", None)


def test_prm800k_neutral_counts_bad_but_ends_nothing(tmp_path, save):
    path = save(tmp_path / "p.jsonl", WALK)
    good, bad = read(path, format="prm800k"), read(path, format="prm800k", neutral="bad")
    assert [row.steps for row in good] == [row.steps for row in bad]
    assert [row.labels for row in bad] == [
        (0,),
        (0,),
        (1, 0),
        (1, 1, 1),
        (1, 1, 0, 0),
        (1, 1, 0, 1),
    ]
    with pytest.raises(ValueError, match="neutral='worse': use 'good' or 'bad'"):
        read(path, format="prm800k", neutral="worse")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([rated(("a", 1), chosen=0), rated(("b", 1), chosen=0)], [(("a", 1), ("b", 1))]),
        (
            [rated(("a", 1), chosen=0), rated(("b", -1), chosen=0), rated(("c", 1), chosen=0)],
            [(("a", 1), ("b", 0))],
        ),
        ([rated(("a", 1), chosen=0), rated()], [(("a", 1),)]),
        ([rated(("a", 1), chosen=0), {**rated(), "completions": None}], [(("a", 1),)]),
        (
            [rated(("a", 1), chosen=0), rated(("b", None), ("b+", 1), chosen=0)],
            [(("a", 1), ("b+", 1))],
        ),
        ([rated(("a", None), ("a'", None))], []),
        ([], []),
    ],
)
def test_prm800k_ends_of_a_walk(tmp_path, save, steps, expected):
    assert pairs(read(save(tmp_path / "p.jsonl", prm800k(*steps)), format="prm800k")) == expected


def test_prm800k_alternatives_add_up_and_do_not_multiply(tmp_path, save):
    step = rated(("good", 1), ("bad", -1), ("so so", 0), chosen=0)
    (*others, walked) = read(
        save(tmp_path / "p.jsonl", prm800k(*[step] * 5, generation=3)), format="prm800k"
    )
    assert len(others) == 2 * 5 and walked.steps == ("good",) * 5 and walked.meta["phase"] == 2
    assert all(row.steps[:-1] == ("good",) * (len(row.steps) - 1) for row in others)


# -- Math-Shepherd ---------------------------------------------------------------------------------

SHEPHERD = {
    "input": "How many? Step 1: 3 + 4 = 7 ки\nStep 2: 7 - 1 = 5. The answer is: 5 ки",
    "label": "How many? Step 1: 3 + 4 = 7 +\nStep 2: 7 - 1 = 5. The answer is: 5 -",
    "task": "GSM8K",
}


def test_math_shepherd(tmp_path, save):
    (row,) = read(save(tmp_path / "s.jsonl", SHEPHERD), format="math-shepherd")
    steps = ("Step 1: 3 + 4 = 7", "Step 2: 7 - 1 = 5. The answer is: 5")
    problem = Problem("math-shepherd/1", "math", "How many?")
    assert row == LabelledSolution(problem, steps, (1, 0), None, "math-shepherd", {"task": "GSM8K"})


def test_math_shepherd_stray_tag_in_the_question_labels_no_step(tmp_path, save):
    stray = {"input": "Who ки asks? step 1: x ки", "label": "Who + asks? step 1: x -"}
    (row,) = read(save(tmp_path / "s.jsonl", stray), format="math-shepherd")
    assert (row.problem.question, row.steps, row.labels) == ("Who  asks?", ("step 1: x",), (0,))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"input": "How many? 3 + 4 = 7 ки"}, "no 'Step 1:'"),
        ({"input": SHEPHERD["input"] + "\nStep 3: and so"}, "no step tag after"),
        ({"label": SHEPHERD["label"][:-1]}, "out of range"),
        ({"label": SHEPHERD["label"].replace("+", "?")}, r"'\?' is neither a label"),
        ({"label": None}, "no field 'label'"),
    ],
)
def test_math_shepherd_unfit_records_are_left_out(tmp_path, save, change, reason):
    with pytest.warns(UserWarning, match=rf"s\.jsonl:1: .*{reason}"):
        (row,) = read(
            save(tmp_path / "s.jsonl", SHEPHERD | change, SHEPHERD), format="math-shepherd"
        )
    assert row.labels == (1, 0)


# -- stepwise --------------------------------------------------------------------------------------

OWN = [
    LabelledSolution(
        Problem("p1", "quantities", "How many coins — één?", "5", level=2),
        ("a", "b «ü» 数"),
        (1, 0),
    ),
    LabelledSolution(
        Problem("p2", "math", "Half?", None, meta={"s": [1]}),
        ("c",),
        (1,),
        (0.25,),
        "shepherd",
        {"n": 8},
    ),
]


def test_stepwise_lines_are_what_trl_reads(tmp_path):
    write(OWN, tmp_path / "s.jsonl", format="stepwise")
    lines = (tmp_path / "s.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == (
        '{"prompt": "How many coins — één?", "completions": ["a", "b «ü» 数"], '
        '"labels": [true, false]}'
    )
    rows = read(tmp_path / "s.jsonl", format="stepwise")
    assert rows[0] == LabelledSolution(
        Problem("stepwise/1", "math", "How many coins — één?"), *pick(OWN[0])
    )
    assert pairs(rows) == pairs(OWN)


def pick(row):
    return row.steps, row.labels, None, "stepwise"


def test_stepwise_takes_floats_as_values(tmp_path, save):
    line = {"prompt": "Q?", "completions": ["a", "b"], "labels": [0.75, 0.5]}
    (row,) = read(save(tmp_path / "s.jsonl", line), format="stepwise", threshold=0.5)
    assert (row.labels, row.values) == ((1, 0), (0.75, 0.5))


# -- the Hugging Face hub, and `datasets` as a reader ----------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of files that `datasets` itself reads: name -> {split: file}."""
    import datasets

    data, load = {}, datasets.load_dataset

    def load_dataset(name, part, split):
        files = {key: str(path) for key, path in data[name].items()}
        return load("json", data_files=files, split=split, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return data


def test_a_data_set_on_the_hub_is_read_like_its_file(tmp_path, save, hub):
    rows = [SHEPHERD, SHEPHERD | {"input": "no step"}, SHEPHERD | {"task": "één"}]
    hub["some.one/data-v1.5"] = {
        "train": save(tmp_path / "a.jsonl", *rows),
        "test": save(tmp_path / "b.jsonl", rows[2]),
    }
    with pytest.warns(UserWarning, match=r"some.one/data-v1.5, row 2: no 'Step 1:'"):
        train = read("some.one/data-v1.5", format="math-shepherd")
    assert [(row.problem.id, row.meta["task"]) for row in train] == [
        ("math-shepherd/1", t) for t in ("GSM8K", "één")
    ]
    assert read("some.one/data-v1.5", format="math-shepherd", limit=1) == train[:1]
    assert read("some.one/data-v1.5", format="math-shepherd", split="test") == train[1:]
    with pytest.raises(ValueError, match=r"no math-shepherd record in some\.one/data-v1\.5: need"):
        read("some.one/data-v1.5", format="math-shepherd", split="train[1:2]")


def test_limit_counts_the_records_of_a_file(tmp_path, save):
    path = save(tmp_path / "p.jsonl", WALK, "broken", WALK)
    assert (
        len(read(path, format="prm800k", limit=1)) == 6
        and read(path, format="prm800k", limit=0) == []
    )
    with pytest.warns(UserWarning, match=r"p.jsonl:2: "):
        assert len(read(path, format="prm800k", limit=2)) == 6


def test_columns_that_a_row_does_not_have_are_null_and_count_as_missing(tmp_path, save, hub):
    write(OWN, tmp_path / "own.jsonl", format="math-aps")
    own = [
        json.loads(line)
        for line in (tmp_path / "own.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    tagged = {"process": "a ки b ки"}
    mixed = [
        {"q": "Q?", "labels": [1, 0], **tagged},
        {"question": "R?", "label": ["+", "-"], **tagged},
        *own,
    ]
    columns = {key: None for row in mixed for key in row}
    hub["a/b"] = {"train": save(tmp_path / "x.jsonl", *mixed)}
    rows = read(tmp_path / "x.jsonl", format="math-aps")
    assert [row.problem.question for row in rows[:2]] == ["Q?", "R?"] and rows[2:] == OWN
    assert read("a/b", format="math-aps") == rows
    assert (
        read(save(tmp_path / "y.jsonl", *[columns | row for row in mixed]), format="math-aps")
        == rows
    )


def test_what_is_neither_file_nor_on_the_hub_is_one_clear_line(tmp_path, monkeypatch):
    for switch in ("datasets.config.HF_HUB_OFFLINE", "huggingface_hub.constants.HF_HUB_OFFLINE"):
        monkeypatch.setattr(switch, True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"^a/b is no file, and no a/b \(split 'test'\) from the hub \(Conn.* path=\.\.\.$",
    ):
        read("a/b", format="stepwise", split="test")
    (tmp_path / "a" / "b").mkdir(parents=True)
    for path in ("a/b", "a/c.jsonl", "a/c.json.gz", "./c", "c", "a/b/c", tmp_path / "c"):
        with pytest.raises(ValueError, match="is no file: give one of JSON lines"):
            read(path, format="stepwise")
    (tmp_path / "a" / "c").write_text(json.dumps(STEPWISE))
    assert len(read("a/c", format="stepwise")) == 1
    with pytest.raises(
        ValueError, match="split='test': only a data set on the hub has splits, and a/c is not"
    ):
        read("a/c", format="stepwise", split="test")


@pytest.mark.parametrize("format", ["stepwise", "math-aps"])
def test_written_files_open_with_datasets_alone_and_by_a_data_card(tmp_path, format):
    from datasets import load_dataset

    folder, cache = tmp_path / "data", str(tmp_path / "cache")
    write(OWN, folder / "own.jsonl", format=format)
    write(OWN[::-1], folder / "turned.jsonl", format=format)
    configs = "".join(
        f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("own", "turned")
    )
    (folder / "README.md").write_text(
        f"---\nlicense: apache-2.0\nconfigs:\n{configs}---\n# Één\n", encoding="utf-8"
    )
    for name in ("own", "turned"):
        lines = [
            json.loads(line)
            for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        assert len(lines) == len(OWN) and any("één" in str(line) for line in lines)
        assert list(load_dataset(str(folder), name, split="train", cache_dir=cache)) == lines
        files = str(folder / f"{name}.jsonl")
        assert list(load_dataset("json", data_files=files, split="train", cache_dir=cache)) == lines


# -- files: damage, shapes, names ------------------------------------------------------------------

STEPWISE = {"prompt": "Q?", "completions": ["a", "b"], "labels": [True, False]}


@pytest.mark.parametrize(
    "bad",
    [
        '{"prompt": "Q?", "completions": ["a", "b"], "la',
        '{"prompt": "Q?", "completions": ["a", "b"], "labels": [true]}',
        '{"prompt": "Q?", "completions": "ab", "labels": [true, true]}',
        '{"prompt": "Q?", "completions": ["a", 2], "labels": [true, true]}',
        '{"prompt": "Q?", "completions": ["a", "b"], "labels": [true, null]}',
        '{"prompt": "Q?", "completions": ["a", "b"], "labels": [NaN, 2]}',
        '{"prompt": 5, "completions": ["a"], "labels": [true]}',
        '{"prompt": "Q?", "labels": []}',
        "17",
        "[" * 100_000,
        "\udcff",
    ],
    ids=lambda bad: bad[:60],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path, bad):
    path, good = tmp_path / "s.jsonl", json.dumps(STEPWISE).encode()
    path.write_bytes(good + b"\n\n" + bad.encode("utf-8", "surrogateescape") + b"\n" + good)
    with pytest.warns(UserWarning, match=r"s\.jsonl:3: ") as caught:
        assert pairs(read(path, format="stepwise")) == [(("a", 1), ("b", 0))] * 2
    assert (
        len(caught) == 1 and "\n" not in str(caught[0].message) and caught[0].filename == __file__
    )


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize(
    "text", ['{"some": "object"}\n' * 3, "version https://git-lfs\noid sha256\n", '{"question']
)
def test_a_file_without_a_fit_line_is_one_error_in_one_line(tmp_path, recwarn, format, text):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(
        ValueError, match=rf"^no {format} record in .*x\.jsonl: need .* \(.*x\.jsonl:1: "
    ) as error:
        read(tmp_path / "x.jsonl", format=format)
    assert "\n" not in str(error.value) and not recwarn


def test_cut_off_gz_keeps_what_came_before(tmp_path, save):
    rows = [STEPWISE | {"prompt": os.urandom(40).hex()} for _ in range(2000)]
    path = save(tmp_path / "s.jsonl.gz", *rows)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.warns(UserWarning, match=r"s\.jsonl\.gz:\d+ \(Compressed file ended"):
        kept = read(path, format="stepwise")
    assert [row.problem.question for row in kept] == [row["prompt"] for row in rows[: len(kept)]]
    assert 1500 < len(kept) < 2000
    path.write_bytes(b"no gzip at all")
    with pytest.raises(ValueError, match="no stepwise record"):
        read(path, format="stepwise")


@pytest.mark.parametrize("name", ["s.json", "s.json.gz", "s.jsonl", "s.jsonl.gz"])
def test_arrays_and_lines_plain_and_packed(tmp_path, save, name):
    rows = [STEPWISE, STEPWISE | {"prompt": "R?"}]
    expected = read(save(tmp_path / name, *rows), format="stepwise")
    assert [row.problem.id for row in expected] == ["stepwise/1", "stepwise/2"]
    assert read(save(tmp_path / name, json.dumps(rows, indent=2)), format="stepwise") == expected
    with pytest.warns(UserWarning, match=rf"{name}, row 2: "):
        assert (
            read(save(tmp_path / name, json.dumps([rows[0], 5, rows[1]])), format="stepwise")
            == expected
        )
    with pytest.raises(ValueError, match="cut-off JSON array"):
        read(save(tmp_path / name, json.dumps(rows)[:-9]), format="stepwise")


def test_names(tmp_path):
    accepted = "use prm800k, math-shepherd, math-aps, math-aps-tree, stepwise"
    with pytest.raises(ValueError, match=f"format 'prm' can't be read: {accepted}"):
        read(tmp_path, format="prm")
    with pytest.raises(
        ValueError, match="format 'prm800k' can't be written: use math-aps, math-aps-tree, stepwise"
    ):
        write([], tmp_path / "x", format="prm800k")
    with pytest.raises(ValueError, match="is no file"):
        read(tmp_path / "none.jsonl", format="stepwise")


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", WRITABLE)
def test_write_is_whole_or_not_at_all(tmp_path, format):
    path = tmp_path / "deep" / "er" / "x.jsonl"
    write(OWN, path, format=format)
    before = path.read_bytes()
    unlabelled = replace(OWN[0], labels=(1, None))
    with pytest.raises(ValueError, match="p1: step 2 has label None"):
        write([OWN[1], unlabelled], path, format=format)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        write([replace(OWN[0], steps=("a", "\ud800"))], path, format=format)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["x.jsonl"]
    write([], path, format=format)
    assert read(path, format=format) == []


def test_a_file_read_and_written_again_is_the_same_data(tmp_path, save):
    for source, line in (("prm800k", WALK), ("math-shepherd", SHEPHERD), ("stepwise", STEPWISE)):
        rows = read(save(tmp_path / "x.jsonl", line), format=source)
        for format in ("math-aps", "math-aps-tree"):
            write(rows, tmp_path / "y.jsonl", format=format)
            assert read(tmp_path / "y.jsonl", format=format) == rows
        write(rows, tmp_path / "y.jsonl", format="stepwise")
        assert pairs(read(tmp_path / "y.jsonl", format="stepwise")) == pairs(rows)


texts = st.one_of(st.sampled_from(["a", "a\n\nb", "b", "ки", "x ", ""]), st.text())
problems = st.builds(
    Problem,
    id=st.sampled_from(["p1", "p2"]),
    kind=st.sampled_from(["math", "quantities"]),
    question=texts,
    answer=st.none() | texts,
    level=st.none() | st.integers(1, 9),
    meta=st.dictionaries(texts, st.integers()),
)


@st.composite
def solutions(draw, stripped):
    step = st.sampled_from(["a", "b", "a\n\nb"]) | texts
    steps = draw(
        st.lists(step.map(str.strip).filter(bool) if stripped else step, min_size=1, max_size=4)
    )

    def each(strategy):
        return tuple(draw(st.tuples(*[strategy] * len(steps))))

    values = each(st.floats(0, 1)) if draw(st.booleans()) else None
    labels = (
        each(st.integers(0, 1)) if values is None else tuple(int(value > 0) for value in values)
    )
    meta = draw(st.dictionaries(texts, texts, max_size=1))
    return LabelledSolution(draw(problems), tuple(steps), labels, values, draw(texts), meta)


@pytest.mark.parametrize("format", WRITABLE)
@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_round_trip_of_own_rows(tmp_path, format, data):
    rows = data.draw(st.lists(solutions(stripped=format == "math-aps"), max_size=5))
    path = tmp_path / data.draw(st.sampled_from(["x.jsonl", "x.json", "x.jsonl.gz"]))
    write(rows, path, format=format)
    back = read(path, format=format)
    if format == "stepwise":
        assert [(r.problem.question, r.steps, r.labels) for r in back] == [
            (r.problem.question, r.steps, r.labels) for r in rows
        ]
        write(back, path, format=format)
        assert read(path, format=format) == back
    else:
        assert back == rows


# -- real data -------------------------------------------------------------------------------------


def prefixes(rows):
    return {
        (row.problem.id, row.steps[:end]) for row in rows for end in range(1, len(row.steps) + 1)
    }


@pytest.mark.parametrize(
    ("name", "counts", "bad_if_neutral_is"),
    [
        ("samples_prm800k", (6, 34, 73), (15, 21)),
        ("prm800k-phase1-train-example", (3, 123, 161), (67, 111)),
        ("prm800k-phase1-test-example", (1, 10, 15), (5, 6)),
        ("prm800k-phase2-train-example", (1, 4, 10), (1, 5)),
        ("prm800k-phase2-test-example", (1, 4, 10), (1, 5)),
    ],
)
def test_real_prm800k(samples, name, counts, bad_if_neutral_is):
    path = samples / f"{name}.jsonl"
    rows = read(path, format="prm800k")
    assert (len({r.problem.id for r in rows}), len(rows), len(prefixes(rows))) == counts
    assert len({(r.problem.id, r.steps) for r in rows}) == len(rows)
    assert all(0 not in r.labels[:-1] and r.problem.question not in r.steps for r in rows)
    bad = read(path, format="prm800k", neutral="bad")
    assert tuple(sum(r.labels.count(0) for r in some) for some in (rows, bad)) == bad_if_neutral_is
    steps = [
        step
        for line in path.read_text().splitlines()
        for step in json.loads(line)["label"]["steps"]
    ]
    worst = {
        c["text"].strip() for step in steps for c in step["completions"] or () if c["rating"] == -1
    }
    assert {row.steps[-1] for row in rows if row.labels[-1] == 0} == worst  # no rating is left out


def test_real_math_shepherd(samples):
    rows = read(samples / "samples_math-shepherd.jsonl", format="math-shepherd")
    assert [row.labels for row in rows] == [
        (1, 1, 1, 1, 0), (0, 0, 0), (0, 0), (0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 0), (0, 0, 0)
    ]  # fmt: skip
    assert all(
        row.steps[0].startswith("Step 1:") and "ки" not in "".join(row.steps) for row in rows
    )
    assert rows[0].problem.question.endswith("in a year?") and rows[0].steps[-1].endswith(
        "The answer is: 13520"
    )


def test_real_rows_come_back(samples, tmp_path):
    for name, source in (
        ("math-aps", "math-aps"),
        ("math-aps-tree", "math-aps-tree"),
        ("prm800k", "prm800k"),
    ):
        rows = read(samples / f"samples_{name}.jsonl", format=source)
        for format in ("math-aps", "math-aps-tree"):
            write(rows, tmp_path / "x.jsonl.gz", format=format)
            assert read(tmp_path / "x.jsonl.gz", format=format) == rows


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("samples_prm800k.jsonl", "prm800k"),
        ("prm800k-phase1-train-example.jsonl", "prm800k"),
        ("prm800k-phase2-test-example.jsonl", "prm800k"),
        ("samples_math-shepherd.jsonl", "math-shepherd"),
        ("samples_math-aps.jsonl", "math-aps"),
        ("prm_code_test.json", "math-aps"),
        ("samples_math-aps-tree.jsonl", "math-aps-tree"),
    ],
)
def test_real_files_through_datasets_are_the_same_solutions(samples, hub, tmp_path, name, format):
    rows = read(samples / name, format=format)
    hub["a/b"] = {"train": samples / name}
    assert read("a/b", format=format) == rows
    for written in WRITABLE:
        write(rows, tmp_path / f"{written}.jsonl", format=written)
        hub["a/b"] = {"train": tmp_path / f"{written}.jsonl"}
        assert read("a/b", format=written) == read(tmp_path / f"{written}.jsonl", format=written)


def test_real_prm_score_is_the_chance_that_no_step_is_bad(samples):
    row = json.loads((samples / "RM-scored-example.jsonl").read_text())
    assert math.prod(1 - step["-1"] for step in row["rating_probs"]) == pytest.approx(
        row["prm_score"], abs=1e-12
    )
    assert len(row["rating_probs"]) == len(row["steps"])
