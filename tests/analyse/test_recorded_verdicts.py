"""The table of verdicts: by hand, against `values_at`, and figures published for recorded runs."""

import numpy as np
import pytest

from workbench.analyse.compare import holm, paired
from workbench.analyse.recorded_verdicts import recorded_verdicts
from workbench.analyse.scaling import SELECTIONS, values_at
from workbench.problems.recorded import RecordedSamples, read_samples


def record(id, answers, correct, scores=(), gold="1"):
    scores = tuple(s if isinstance(s, tuple) else (s,) for s in scores)
    return RecordedSamples(id, gold, tuple(answers), tuple(map(bool, correct)), scores)


A = record("a", ["1", "1.0", "2"], [1, 1, 0], [0.1, 0.2, 0.9])
B = record("b", ["1", "4", "4"], [1, 0, 0], [0.9, 0.1, 0.1])


def cell(table, n, method, column="value"):
    (found,) = table[(table.n == n) & (table.method == method)][column]
    return found


def test_by_hand():
    table = recorded_verdicts([A, B], seed=0)
    assert table.n.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert table.method.tolist() == ["pass@k", "majority", "orm_max", "orm_vote"] * 3
    # of three: 1, 1, 2 is voted right, 1, 4, 4 wrong; scores prefer 2 (0.9 to 0.3), and 1
    assert [cell(table, 3, name) for name in table.method[:4]] == [1, 0.5, 0.5, 0.5]
    row = table.iloc[-1]
    assert (row.difference, row.p, row.p_holm, row.won, row.lost) == (0, 1, 1, 1, 1)
    assert (row.difference_low, row.difference_high) == (-1, 1)
    assert row.verdict == "no difference shown"


def test_only_methods_with_scores_are_compared_and_only_where_there_is_a_choice():
    table = recorded_verdicts([A, B], seed=0)
    compared = table[table.verdict != ""]
    assert set(zip(compared.n, compared.method)) == {
        (n, name) for n in (2, 3) for name in ("orm_max", "orm_vote")
    }
    assert compared.notna().all(axis=None)
    blank = table.loc[table.verdict == "", "difference":"lost"]
    assert blank.isna().all(axis=None)
    plain = [record("a", ["1", "2"], [1, 0]), record("b", ["2", "2"], [0, 0])]
    bare = recorded_verdicts(plain, seed=0)
    assert bare.method.tolist() == ["pass@k", "majority"] * 2
    assert (bare.verdict == "").all() and [*bare.columns] == [*table.columns]


def test_step_scores_are_compared_by_every_aggregate():
    steps = record("a", ["1", "2"], [1, 0], [(0.9, 0.2), (0.5, 0.5)])
    table = recorded_verdicts([steps], seed=0, budgets=[2])
    assert table.method.tolist() == ["pass@k", "majority", *SELECTIONS]
    assert cell(table, 2, "prm_min_max") == 0 and cell(table, 2, "prm_mean_max") == 1


def pool(seed, problems=30, n=6):
    rng = np.random.default_rng(seed)
    answers = rng.choice(["1", "2", "3"], (problems, n), p=[0.5, 0.3, 0.2])
    scores = np.where(answers == "1", 0.3, 0) + rng.random((problems, n)) / 2
    return answers.tolist(), answers == "1", scores.tolist()


def test_values_pairs_and_p_values_are_those_of_scaling_and_compare():
    answers, correct, scores = pool(0)
    rows = zip(answers, correct, scores)
    records = [record(f"p{i}", a, c, s) for i, (a, c, s) in enumerate(rows)]
    table = recorded_verdicts(records, seed=3, budgets=[2, 6])
    golds = ["1"] * len(answers)
    for n in (2, 6):
        found = {
            name: values_at(name, n, answers, correct, golds, scores, seed=3)
            for name in ("pass@k", "majority", "orm_max", "orm_vote")
        }
        for name, values in found.items():
            assert cell(table, n, name) == pytest.approx(values.mean())
        against = paired(found["orm_max"], found["majority"], seed=3)
        names = ("difference", "difference_low", "difference_high", "p", "won", "lost")
        assert [cell(table, n, "orm_max", name) for name in names] == pytest.approx(against)
    ps = table.p.dropna()
    assert len(ps) == 4 and table.p_holm.dropna().tolist() == holm(ps.tolist())
    assert cell(table, 6, "orm_max", "verdict") == "ahead"


def test_the_first_n_are_those_recorded_first():
    table = recorded_verdicts([A, B], seed=0, first=True)
    assert cell(table, 1, "majority") == 1 and cell(table, 2, "majority") == 0.75  # 1, 4: a tie
    assert cell(table, 2, "orm_max") == 1 and cell(table, 2, "orm_max", "difference") == 0.25


def test_several_records_of_a_problem_are_one_problem():
    again = record("a", ["2", "2", "1"], [0, 0, 1], [0.1, 0.2, 0.9])
    table = recorded_verdicts([A, B, again], seed=0, budgets=[3])
    assert cell(table, 3, "majority") == 0.25  # a: half, b: 0
    assert (cell(table, 3, "orm_max", "won"), cell(table, 3, "orm_max", "lost")) == (1, 0)
    one = recorded_verdicts([A, again], seed=0, budgets=[3])
    assert cell(one, 3, "majority", "low") == cell(one, 3, "majority", "high") == 0.5


def test_what_the_file_calls_right_is_right():
    odd = record("a", ["1", "1", "2"], [0, 0, 1])  # its gold answer is 1
    assert cell(recorded_verdicts([odd], seed=0, budgets=[3]), 3, "majority") == 0
    mixed = record("a", ["1", "1.0", "1"], [1, 0, 1])  # most of a value's samples are right
    table = recorded_verdicts([mixed], seed=0, budgets=[1, 3])
    assert cell(table, 3, "majority") == 1 and cell(table, 1, "pass@k") == pytest.approx(2 / 3)


def test_without_a_gold_answer_texts_are_voted_on_and_several_may_be_right():
    formulas = record("a", ["3*8", "8*3", "1", "1", "1.0"], [1, 1, 0, 0, 0], gold=None)
    table = recorded_verdicts([formulas], seed=0, budgets=[1, 5])
    assert cell(table, 1, "majority") == pytest.approx(0.4) and cell(table, 5, "majority") == 0
    tied = record("a", ["3*8", "8*3", "1", None], [1, 1, 0, 0], gold=None)
    assert cell(recorded_verdicts([tied], seed=0), 4, "majority") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], r"pools of \[\] samples"),
        ([A, record("b", ["1"], [1], [0.1])], r"pools of \[1, 3\] samples"),
        ([A, record("b", ["1"] * 3, [1] * 3)], "b has no scores, others have"),
        ([record("a", ["1", None], [1, 1])], "problem a: sample 2 without an answer is marked"),
        (
            [A, record("a", ["7"] * 3, [1] * 3, [0.1] * 3, gold="7")],
            "problem a has the answers '1' and '7': judge each file by itself",
        ),
    ],
)
def test_what_does_not_fit_is_named(records, message):
    with pytest.raises(ValueError, match=message) as error:
        recorded_verdicts(records, seed=0)
    assert "\n" not in str(error.value)


# -- real data: figures published for recorded samples, or re-derived from them --------------------


def percent(table, n, method, *columns):
    return [round(100 * cell(table, n, method, column), 2) for column in columns or ("value",)]


@pytest.mark.slow
def test_a_process_reward_model_on_math(real_data):
    files = sorted((real_data / "crucible_cassettes").glob("*.json"))
    records = [r for file in files for r in read_samples(file, format="crucible")]
    table = recorded_verdicts(records, seed=0, first=True, budgets=[4, 8])
    names = ("difference", "difference_low", "difference_high")
    # as published, +8.3 (3.3 to 13.3) and +2.5 (-4.2 to 9.2), answers are texts and of tied ones
    # the first wins (test_compare.py); by value, ties shared, the vote is better by a point or two
    assert percent(table, 4, "orm_max", *names) == pytest.approx([7.1, 2.9, 11.9], abs=0.3)
    assert percent(table, 8, "orm_max", *names) == pytest.approx([0.3, -6.3, 7.1], abs=0.3)
    assert cell(table, 4, "orm_max", "verdict") == "ahead"
    assert cell(table, 8, "orm_max", "verdict") == "no difference shown"
    assert percent(table, 8, "pass@k") == [70.0] and percent(table, 8, "orm_max") == [55.0]


@pytest.mark.slow
def test_a_reward_model_on_math(real_data):
    file = real_data / "math_rm_samples_100x8" / "math_cot_100.jsonl"
    table = recorded_verdicts(read_samples(file, format="math-rm"), seed=0)
    passed = [percent(table, n, "pass@k")[0] for n in (1, 2, 4, 8)]
    assert passed == [91.0, 93.29, 95.1, 96.0]
    assert percent(table, 8, "majority") == [92.5]  # 93 where ties go to the first
    assert percent(table, 8, "orm_max") == percent(table, 8, "orm_vote") == [94.0]
    assert set(table[table.n > 2].verdict) == {"", "no difference shown"}


def test_reward_ranked_samples(real_data):
    folder = real_data / "reward_ranked_samples" / "eval_results"
    file = folder / "hendrycks_math__output-rs0.jsonl-test"
    table = recorded_verdicts(read_samples(file, format="reward-ranked"), seed=0)
    assert [percent(table, n, "pass@k") for n in (2, 3)] == [[80.95], [85.71]]
    assert percent(table, 3, "orm_max") == [57.14] and percent(table, 3, "orm_vote") == [71.43]
    assert percent(table, 3, "majority") == [76.19]  # as published: ties share


@pytest.mark.slow
@pytest.mark.parametrize(("name", "one", "all"), [("cot", 4.03, 49.0), ("io", 7.34, 33.0)])
def test_game_of_24(real_data, name, one, all):
    file = real_data / "game24_samples" / f"{name}_samples_100x100.jsonl"
    records = read_samples(file, format="game24")
    table = recorded_verdicts(records, seed=0, budgets=[1, 100])
    assert [percent(table, n, "pass@k")[0] for n in (1, 100)] == [one, all]
    assert percent(table, 1, "majority") == [one]
    assert percent(table, 100, "majority") == pytest.approx([9.0], abs=1)  # ties share
