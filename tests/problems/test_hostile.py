"""Hostile text through everything that reads or shows text: no hang, no exception but ValueError
with one line, no page that runs anything, no false "equal"."""

import json
import time
import warnings
from html.parser import HTMLParser

import hostile
import psutil
import pytest

from workbench import jsonl
from workbench.models.server_reply import into_steps, said_by
from workbench.problems import KINDS, benchmarks, process_data, programs, quantities, stories
from workbench.problems.grading import extract_answer, is_equal
from workbench.problems.step_marks import cut
from workbench.problems.typed import typed_problem, typed_steps
from workbench.show import cards, explorer, steps, trees
from workbench.types import LabelledSolution, Prefix, Problem, SearchResult

LONGEST_S = 5.0  # of computing, for one text in one function
ROOM = 600 * 2**20  # bytes that all of it may add to this process
PROBLEMS = [kind.generate(1, levels=[2], seed=1)[0] for kind in (quantities, programs, stories)]
COUNTS = pytest.mark.parametrize(
    ("n", "seed"), [(200, 0), pytest.param(10_000, 1, marks=pytest.mark.slow)]
)


@pytest.fixture(autouse=True)
def bounded_memory():
    before = psutil.Process().memory_info().rss
    yield
    assert psutil.Process().memory_info().rss - before < ROOM


def timed(function, *arguments, **options):
    """The function's value, None where it refuses with one line; fails if it takes too long."""
    began = time.process_time()
    try:
        value = function(*arguments, **options)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 500, str(error)[:900]
        value = None
    took = time.process_time() - began
    assert took < LONGEST_S, f"{function.__name__}: {took:.1f} s on {str(arguments)[:60]!r}"
    return value


# -- steps, answers, truth -------------------------------------------------------------------------


def read_all(text):
    """Everything that reads a solution; returns what the two that never refuse brought."""
    for separator in ("\n", "\n\n", "ки", "##"):
        found = timed(into_steps, text, separator)
        assert separator.join(found) in (text, text.removesuffix(separator))
    for function in (typed_steps, typed_problem):
        timed(function, text)
    timed(cut, text, "ки")
    lines = said_by({"text": text}).split("\n")[:2000]
    for problem in PROBLEMS:
        truth = timed(KINDS[problem.kind].explain, problem, lines)
        assert len(truth) == len(lines)
        timed(KINDS[problem.kind].solvable, problem, lines)
    answer = timed(extract_answer, text)
    assert answer is None or isinstance(answer, str)
    return lines, answer


@COUNTS
def test_solutions_are_read(n, seed):
    for text in hostile.texts(n, seed):
        read_all(text)


@pytest.mark.slow
@pytest.mark.parametrize("i", range(len(hostile.MEGABYTE + hostile.NESTED)))
def test_a_megabyte_is_read_and_shown(i):
    text = (hostile.MEGABYTE + hostile.NESTED)[i]
    lines, answer = read_all(text)
    assert is_equal("7919", answer) is False
    shown(lines[:50])


def test_what_is_found_in_deep_boxes_is_the_innermost():
    assert extract_answer(r"\boxed{" * 1000 + "7" + "}" * 1000) == "7"
    assert extract_answer("The answer is 5   I hope it is right") == "5"


# -- equality --------------------------------------------------------------------------------------

GOLD = ["7919", r"\frac{7919}{7907}", r"(3, 7919)", "7919x^2 + 7907", "Zwickau", r"7919\sqrt{7907}"]


def never_equal(answers, timeout_s):
    """None of them holds a number that a gold answer does."""
    for i, answer in enumerate(answers):
        pair = (GOLD[i % len(GOLD)], answer)[:: 1 - 2 * (i % 2)]  # now one first, now the other
        assert not is_equal(*pair, timeout_s=timeout_s), pair


def test_a_few_hostile_answers_equal_no_other():
    never_equal(["9**9**9", "1e999999", r"\frac{1}{0}", "½", "\ud800", "<script>"], timeout_s=1.0)


@pytest.mark.slow
def test_hostile_answers_equal_no_other():
    never_equal([text for text in hostile.NASTY if len(text) < 10], timeout_s=1.0)


@pytest.mark.slow
def test_extracted_answers_equal_no_other():
    found = {extract_answer(text) for text in hostile.texts(10_000, seed=2)}
    assert len(found) > 1000
    never_equal(sorted(filter(None, found)), timeout_s=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("tower", ["9**9**9", "9^{9^{9}}", "1e999999", "99999999!", "2^{10^{10}}"])
def test_a_tower_of_powers_ends_in_time_and_equals_nothing(tower):
    began = time.monotonic()
    for other in ("7919", f"7{tower}", f"{tower} + 1"):
        assert is_equal(tower, other, timeout_s=1.0) is False
    assert time.monotonic() - began < 60
    assert is_equal(r"\frac{1}{2}", "x - x + 0.5") is True  # a new grader works


def test_values_below_ten_decimals_are_told_apart():
    for power in (12, 30, 400):
        small = rf"\cdot 10^{{-{power}}}"
        assert not is_equal(rf"\sqrt{{2}}{small}", rf"\sqrt{{3}}{small}")
        assert not is_equal(rf"\sqrt{{2}}{small}", "0")
        assert is_equal(rf"\sqrt{{8}}{small}", rf"2\sqrt{{2}}{small}")


def test_one_digit_makes_another_number():
    for gold in ("7919", "-0.5", "1,234,567", r"\frac{3}{7}", "12.500", "1e3", "3 1/2"):
        for at, letter in enumerate(gold):
            if letter.isdigit():
                other = gold[:at] + str((int(letter) + 1) % 10) + gold[at + 1 :]
                assert not is_equal(gold, other), (gold, other)
        assert not is_equal(gold, f"-{gold}".replace("--", ""))


# -- files -----------------------------------------------------------------------------------------

ROWS = {
    "prm800k": {
        "question": {"problem": "1+1?", "ground_truth_answer": "2"},
        "label": {
            "steps": [
                {
                    "completions": [{"text": "a", "rating": 1}, {"text": "b", "rating": -1}],
                    "chosen_completion": 0, "human_completion": None,
                }
            ],
            "finish_reason": "solution",
        },
    },
    "math-shepherd": {
        "input": "1+1? Step 1: a ки\nStep 2: b ки",
        "label": "1+1? Step 1: a +\nStep 2: b -",
        "task": "GSM8K",
    },
    "math-aps": {
        "question": "1+1?", "reasoning_steps": [{"solution_prefix": "1+1? a", "mc_value": 0.5}],
    },
    "math-aps-tree": {
        "question": "1+1?",
        "reasoning_steps": {
            "text": "1+1?", "mc_value": 0.5,
            "children": [{"text": "a", "mc_value": 0.5, "children": []}],
        },
    },
    "stepwise": {"prompt": "1+1?", "completions": ["a", "b"], "labels": [True, False]},
}  # fmt: skip
BENCHMARKS = {
    "gsm8k": {"question": "1+1?", "answer": "a <<1+1=2>>\n#### 2"},
    "math": {"problem": "1+1?", "solution": r"so \boxed{2}", "level": "Level 3", "type": "x"},
    "jsonl": {"question": "1+1?", "answer": "2", "id": "x", "meta": {"a": 1}},
    "competition": {"problem": "1+1?", "answer": 2.0, "url": "x"},
    "svamp": {
        "Body": "Each 1.0", "Question": "How many?", "Equation": "( 8.0 - 3.0 )", "Answer": 5.0,
        "Type": "Subtraction", "ID": "x",
    },
    "processbench": {"id": "gsm8k-1", "problem": "1+1?", "steps": ["a", "b"], "label": 1},
    "prmbench": {
        "modified_question": "1+1?", "modified_process": ["a", "b"], "error_steps": [2],
        "classification": "x", "idx": "x1",
    },
}  # fmt: skip


@COUNTS
@pytest.mark.parametrize("format", ROWS)
def test_lines_of_step_labels_are_read_or_refused(format, n, seed, tmp_path):
    file = tmp_path / "rows.jsonl"
    lines = list(hostile.rows(ROWS[format], n // 10, seed))
    file.write_bytes(b"\n".join([json.dumps(ROWS[format]).encode(), *lines]) + b"\n")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = timed(process_data.read, file, format=format)
    assert found and told and all("\n" not in str(one.message) for one in told)
    for i, line in enumerate(lines[:40]):  # a file that begins with it may be a JSON array
        alone = tmp_path / f"{i}.jsonl"
        alone.write_bytes(line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            timed(process_data.read, alone, format=format)
    alone.write_bytes(b"[" * 200_000)
    assert timed(process_data.read, alone, format=format) is None


@COUNTS
@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_of_benchmarks_are_read_or_refused(name, n, seed, tmp_path):
    read = 0
    for i, line in enumerate(hostile.rows(BENCHMARKS[name], n // 10, seed)):
        file = tmp_path / ("x.json" if i % 3 == 0 else "x.jsonl")
        file.write_bytes(b"[" + line + b"]" if i % 6 == 0 else line)
        read += timed(benchmarks.load, name, path=file) is not None
    assert read > 0


def test_an_id_that_is_no_text_is_refused_and_a_number_is_one(tmp_path):
    file = tmp_path / "own.jsonl"
    for id in ([1], {"a": 1}, None):
        file.write_text(json.dumps(BENCHMARKS["jsonl"] | {"id": id}))
        with pytest.raises(ValueError, match=r"own\.jsonl:1: not a jsonl record: id .* a text"):
            benchmarks.load("jsonl", path=file)
    file.write_text(json.dumps(BENCHMARKS["jsonl"] | {"id": 7}))
    assert benchmarks.load("jsonl", path=file)[0].id == "7"


def test_what_is_no_text_in_utf8_is_refused_or_comes_back_equal(tmp_path):
    for i, text in enumerate(hostile.texts(60, seed=3)):
        row = LabelledSolution(
            Problem("p", "math", "1?", "2"), (text.strip() or "a",), (1,), (1.0,)
        )
        for format in process_data.WRITERS:
            path = tmp_path / f"{i}.jsonl"
            wrote = timed(_write, [row], path, format)
            if wrote:
                (back,) = process_data.read(path, format=format)
                assert back.steps == row.steps
        result = SearchResult(row.problem, (Prefix.of(row.problem, [text]),))
        jsonl.ResultFile(tmp_path / f"{i}.r", {}).append(result, 0)
        assert jsonl.ResultFile(tmp_path / f"{i}.r", {}).get("p", 0) == result


def _write(rows, path, format):
    process_data.write(rows, path, format=format)
    return True


# -- pages -----------------------------------------------------------------------------------------


TAGS = "div span b i p table thead tbody tr th td details summary meter progress wbr dl dd".split()
ATTRIBUTES = {"style", "open", "min", "max", "low", "high", "value"}


class Page(HTMLParser):
    """Fails on a tag, or an attribute, that no view of ours writes."""

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS, self.get_starttag_text()
        assert {name for name, _ in attributes} <= ATTRIBUTES

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data[:60]}")

    handle_decl = handle_pi = unknown_decl = handle_comment


def shown(lines):
    """All views of a solution with these steps; returns the pages."""
    question = lines[0] if lines else ""
    problem = Problem(question[:50], "quantities", question, question, level=1)
    prefix = Prefix.of(problem, lines, ended=True)
    result = SearchResult(problem, (prefix,), best=prefix, error=question, stopped=question)
    half = [0.5] * len(lines)
    row = {question or "x": question, "y": 1.5}
    return [
        steps.step_strip(lines, [*lines], half),
        steps.solution_strip(problem, lines, half),
        steps.result_view(result),
        trees.tree_view(trees.tree_of([prefix], [half], [[*lines]], prefix)),
        explorer.question_view(problem),
        explorer.message(question),
        cards.table([row]),
        cards.environment_card(row, title=question, parameters=row),
        cards.progress(question, 1, 2),
    ]


@COUNTS
def test_pages_show_text_and_run_nothing(n, seed):
    for text in hostile.texts(n // 4, seed + 10):
        lines = text.split("\n")[:40]
        for page in timed(shown, lines):
            Page().feed(page)
            page.encode()
            assert not set(map(ord, page)) & (cards.UNSEEN.keys() - {9, 10, 13})
        cards.plain_table([{"a": text}]).encode()


def test_a_solution_of_many_steps_is_shown_as_a_tree():
    problem = Problem("p", "math", "1+1?")
    prefixes = [Prefix.of(problem, [str(i) for i in range(2000)] + [end]) for end in "ab"]
    page = timed(lambda: trees.tree_view(trees.tree_of(prefixes, chosen=prefixes[0])))
    assert page.count("<details open>") == 2001 and page.count("</details>") == 2001
    assert trees.labelled_tree(
        PROBLEMS[0], trees.tree_of(prefixes[:0] or [Prefix.of(PROBLEMS[0], ["a"] * 400)])
    ).children
