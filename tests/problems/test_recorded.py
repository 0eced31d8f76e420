"""Recorded samples: what each format becomes, what is refused, and the real files."""

import json
import math

import pytest

from workbench.problems.grading import is_equal
from workbench.problems.recorded import RecordedSamples, read_samples

TRACE = {"text": r"So $\boxed{7}$.", "tokens": 12, "correct": True, "prm_score": 0.25}
LOST = {"text": "I do not know", "tokens": 3, "correct": False, "prm_score": 0.5}
CRUCIBLE = {"problem_id": "m-1", "gold": "7", "traces": [TRACE, LOST]}
GAME24 = {"idx": 900, "puzzle": "4 5 6 10", "samples": ["a\nAnswer: 1 = 24\n", " "]}
GAME24["correct"] = [1, 0]
MATH_RM = {"idx": 3, "gt": "1/2", "pred": ["0.5", ""], "score": [True, False]}
MATH_RM["pred_score"] = [[0.0], [-800.0]]
RANKED = {"predicted_answer": "5", "symbolic_correct": True}
SCORED = {**RANKED, "reward_model_score": 0.5, "num_generated_tokens": 9}


def without(row, field):
    return {key: value for key, value in row.items() if key != field}


@pytest.fixture
def save(tmp_path):
    def save(rows, name="x.jsonl"):
        path = tmp_path / name
        whole = "".join(f"{json.dumps(row)}\n" for row in rows)
        if name.endswith(".json"):
            whole = json.dumps({"meta": {}, "records": rows}, indent=1)
        path.write_text(whole, encoding="utf-8")
        return path

    return save


# -- what each becomes -----------------------------------------------------------------------------


def test_crucible(save):
    (found,) = read_samples(save([CRUCIBLE], "x.json"), format="crucible")
    scores = ((0.25,), (0.5,))
    assert found == RecordedSamples("m-1", "7", ("7", None), (True, False), scores, (12, 3))


def test_game24_answers_are_last_lines(save):
    (found,) = read_samples(save([GAME24]), format="game24")
    assert found == RecordedSamples("game24/900", None, ("Answer: 1 = 24", None), (True, False))


def test_logits_become_probabilities_and_keep_their_order(save):
    (found,) = read_samples(save([MATH_RM]), format="math-rm")
    assert found.id == "math-rm/3" and found.gold == "1/2" and found.answers == ("0.5", "")
    assert found.scores[0] == (0.5,) and 0 <= found.scores[1][0] < 1e-300
    steps = {**MATH_RM, "pred_score": [[0.0, math.log(3)], [700.0]]}
    (found,) = read_samples(save([steps]), format="math-rm")
    assert found.scores == ((0.5, pytest.approx(0.75)), (1.0,))


def test_reward_ranked_has_a_file_a_seed(save):
    files = [
        save(
            [{**SCORED, "predicted_answer": f"{seed}{row}"} for row in "ab"], f"out-rs{seed}.jsonl"
        )
        for seed in (0, 2, 10)
    ]
    save([SCORED], "other-rs1.jsonl")
    for file in files:  # any of them stands for all
        a, b = read_samples(file, format="reward-ranked")
        assert (a.id, a.answers, b.id, b.answers) == (
            "1", ("0a", "2a", "10a"), "2", ("0b", "2b", "10b"),
        )  # fmt: skip
        assert a.scores == ((0.5,),) * 3 and a.tokens == (9,) * 3 and a.gold is None
    alone = {**RANKED, "id": "train/1", "expected_answer": "5.0"}
    (found,) = read_samples(save([alone], "one.jsonl"), format="reward-ranked")
    assert found == RecordedSamples("train/1", "5.0", ("5",), (True,))


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "rows", "message"),
    [
        ("crucible", [CRUCIBLE, without(CRUCIBLE, "gold")], "x.json, record 2: .*no field 'gold'"),
        ("crucible", [{**CRUCIBLE, "traces": [without(TRACE, "prm_score")]}], "field 'prm_score'"),
        ("crucible", [{**CRUCIBLE, "traces": []}], "no samples"),
        ("crucible", [CRUCIBLE, CRUCIBLE], "record 2: .*m-1 stood in .*record 1 before"),
        ("crucible", [], "holds no crucible record"),
        ("game24", [GAME24, without(GAME24, "correct")], "x.jsonl:2: .*no field 'correct'"),
        ("game24", [{**GAME24, "correct": [1]}], "x.jsonl:1: .*1 correct for 2 samples"),
        ("game24", [{**GAME24, "correct": [1, "no"]}], "'no' for right or wrong"),
        ("math-rm", [without(MATH_RM, "pred_score")], "no field 'pred_score'"),
        ("math-rm", [{**MATH_RM, "pred_score": [[0.1]]}], "1 scores for 2 samples"),
        ("math-rm", [{**MATH_RM, "pred_score": [[0.1], []]}], "need finite numbers"),
        ("math-rm", [{**MATH_RM, "pred_score": [[0.1], [math.nan]]}], "need finite numbers"),
        ("math-rm", [{**MATH_RM, "pred": ["1", 2]}], "answer 2, need a text"),
        ("math-rm", [[1, 2]], "x.jsonl:1: not a math-rm record"),
        ("reward-ranked", [RANKED, without(RANKED, "symbolic_correct")], "x.jsonl:2: .*no field"),
    ],
)
def test_unfit_records_are_named_in_one_line(save, format, rows, message):
    path = save(rows, "x.json" if format == "crucible" else "x.jsonl")
    with pytest.raises(ValueError, match=message) as error:
        read_samples(path, format=format)
    assert "\n" not in str(error.value)


def test_unknown_format_missing_and_cut_off_files(save, tmp_path):
    with pytest.raises(ValueError, match="unknown format 'aime': use crucible, game24, math-rm"):
        read_samples("x", format="aime")
    with pytest.raises(ValueError, match="gone is no file"):
        read_samples(tmp_path / "gone", format="game24")
    for path, format, place in (
        (save([GAME24, GAME24]), "game24", "x.jsonl:2: corrupt or cut-off"),
        (save([CRUCIBLE], "x.json"), "crucible", "x.json: corrupt or cut-off JSON: .* line"),
    ):
        path.write_text(path.read_text()[:-20])
        with pytest.raises(ValueError, match=place):
            read_samples(path, format=format)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"x\.json: not a crucible file"):
        read_samples(path, format="crucible")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ([RANKED], "out-rs0.jsonl:2: another seed's file ends before"),
        ([RANKED, {**RANKED, "id": "x"}], r"out-rs1.jsonl:2: problem x \(None\), in .*rs0.jsonl:2"),
        ([RANKED, SCORED], "out-rs1.jsonl:2: need scores and tokens as in"),
    ],
)
def test_files_of_seeds_must_fit_together(save, theirs, message):
    path = save([RANKED, RANKED], "out-rs0.jsonl")
    save(theirs, "out-rs1.jsonl")
    with pytest.raises(ValueError, match=message):
        read_samples(path, format="reward-ranked")


# -- real data -------------------------------------------------------------------------------------


def test_real_sizes(real_data):
    folder = real_data / "game24_samples"
    for name, right in (("cot", 403), ("io", 734)):
        puzzles = read_samples(folder / f"{name}_samples_100x100.jsonl", format="game24")
        assert {len(p.answers) for p in puzzles} == {100} and len(puzzles) == 100
        assert sum(sum(p.correct) for p in puzzles) == right
    for file in sorted((real_data / "crucible_cassettes").glob("*.json")):
        problems = read_samples(file, format="crucible")
        assert {len(p.tokens) for p in problems} == {8} and len(problems) == 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "format", "agreed", "of"),
    [
        ("crucible_cassettes/*.json", "crucible", 955, 960),
        ("math_rm_samples_100x8/*.jsonl", "math-rm", 799, 800),
        ("reward_ranked_samples/output-rs0.jsonl", "reward-ranked", 148, 150),
    ],
)
def test_how_often_our_grading_agrees_with_the_files(real_data, files, format, agreed, of):
    # they call wrong: `10000` for `10{,}000`, `1320 km`, polar coordinates set otherwise, a bare 78
    same = [
        ours == theirs
        for file in sorted(real_data.glob(files))
        for record in read_samples(file, format=format)
        for ours, theirs in zip((is_equal(record.gold, a) for a in record.answers), record.correct)
    ]
    assert (sum(same), len(same)) == (agreed, of)
