"""What GitHub leaves of our views: no style, no meters, and all that they say, in its order.

Its allow-list is that of html-pipeline 3 (`SanitizationFilter`): all of its tags, and of its
attributes those that a view could have. Bleach, which nbconvert brings, does the cutting.
"""

import re
from html.parser import HTMLParser

import bleach
import pytest

from workbench.analyse.compare import Paired
from workbench.problems.quantities import generate
from workbench.show.cards import environment_card, paired_view, progress, table
from workbench.show.explorer import columns, edited_view, search_view, simulation_view
from workbench.show.steps import labelled_view, problem_view, result_view, step_strip
from workbench.show.trees import tree_of, tree_view
from workbench.tree import Node, grow
from workbench.types import LabelledSolution, Meter, Prefix, Problem, SearchResult, Step

TAGS = set(
    "h1 h2 h3 h4 h5 h6 br b i strong em a pre code img tt div ins del sup sub p ol ul table thead"
    " tbody tfoot blockquote dl dt dd kbd q samp var hr ruby rt rp li tr td th s strike summary"
    " details caption figure figcaption abbr bdo cite dfn mark small span time wbr".split()
)
ATTRIBUTES = {"*": ["align", "colspan", "open", "rowspan", "title", "value", "width", "height"]}
BLOCKS = set("table thead tbody tr th td div p details summary dl dd".split())
PROBLEM = generate(1, levels=[2], seed=3, distractors=[0])[0]
GOLD = PROBLEM.solution.split("\n")
SLIP = GOLD[0].replace(" .", "9 .")


def left_by_github(view):
    return bleach.clean(view, tags=TAGS, attributes=ATTRIBUTES, strip=True)


class Page(HTMLParser):
    """What stands in lines and cells of its own, from top to bottom; "> " before what is indented.

    It is the browser's own indentation, of `<dd>`: styles are gone.
    """

    def __init__(self, view):
        super().__init__()
        self.parts, self.depth = [""], 0
        self.feed(left_by_github(view))
        self.parts = [line for part in self.parts if (line := " ".join(part.split())).strip("> ")]

    def handle_starttag(self, tag, attrs):
        self.turn(tag, 1)

    def handle_endtag(self, tag):
        self.turn(tag, -1)

    def turn(self, tag, by):
        self.depth += by * (tag == "dd")
        if tag in BLOCKS:
            self.parts.append("> " * self.depth)

    def handle_data(self, data):
        self.parts[-1] += data


def parts(view):
    return Page(view).parts


def test_the_sanitiser_takes_what_github_takes():
    view = '<td style="x" class="y" onclick="z" width="3">a<meter>b</meter><svg>c</svg></td>'
    left = left_by_github(f"<table><tbody><tr>{view}</tr></tbody></table>")
    assert left == '<table><tbody><tr><td width="3">abc</td></tr></tbody></table>'
    assert parts("<p>a <b>b</b></p><div>c<dl><dd>d</dd></dl></div>") == ["a b", "c", "> d"]


def test_of_a_solution_marks_steps_scores_and_reasons_are_left():
    strip = step_strip(["2 + 3 = 5", "5 < 4"], [None, "it is not"], [0.9, 0.25])
    assert parts(strip) == ["✓", "2 + 3 = 5", "0.90", "✗", "5 < 4", "0.25", "it is not"]
    meter = Meter(samples=3, generated=1200)
    found = SearchResult(PROBLEM, best=Prefix.of(PROBLEM, GOLD, ended=True), meter=meter)
    told = parts(result_view(found))
    assert told[:3] == [PROBLEM.question, "✓", GOLD[0]]
    assert told[-1] == "0 solutions · 3 samples · 1,200 tokens · 0 calls"


def test_of_a_problem_the_question_what_is_known_and_the_solution_are_left():
    known = f"{PROBLEM.id} · quantities · level 2 · the answer is {PROBLEM.answer}"
    steps = [part for step in GOLD for part in ("✓", step)]
    assert parts(problem_view(PROBLEM)) == [PROBLEM.question, known, "solution", *steps]


def test_of_a_labelled_solution_labels_and_what_the_truth_says_are_left():
    labels = (0, *[None] * (len(GOLD) - 1))
    told = parts(labelled_view(LabelledSolution(PROBLEM, tuple(GOLD), labels, source="omegaprm")))
    assert told[:4] == [PROBLEM.question, "✗", GOLD[0], "in truth right"]
    assert told[4:6] == ["–", GOLD[1]] and told[-1] == "labels by omegaprm"


def test_of_a_tree_choice_truth_numbers_and_depth_are_left():
    problem = Problem("p", "math", "How many?")
    pool = [Prefix.of(problem, texts) for texts in (["a", "b"], ["a", "c"], ["d"])]
    scores, reasons = [[0.5, 1.0], [0.5, 0.25], [0.0]], [[None, None], [None, "slip"], ["lost"]]
    root = tree_of(pool, scores, reasons, chosen=pool[0])
    root.children["d", None].kept = False
    assert parts(tree_view(root)) == [
        "→ How many? 3 samples",
        "> → ✓ a 0.50 2 samples",
        "> > → ✓ b 1.00 1 sample",
        "> > ✗ c 0.25 1 sample slip",
        "> ✂ ✗ d 0.00 1 sample lost",
    ]
    assert parts(tree_view(Node(Step("q"), visits=2))) == ["q 2 visits"]


def test_of_tables_cards_and_comparisons_each_cell_is_left():
    rows = [{"size": "n", "quick (this run)": 3, "full": None}]
    assert parts(table(rows, mark="quick (this run)")) == [*rows[0], "n", "3", "–"]
    card = environment_card({"python": "3.11"}, title="05_grpo", parameters={"seed": 1, "lr": 0.1})
    assert parts(card) == ["05_grpo", "seed 1 · lr 0.1", "python 3.11"]
    names = ["a - b", "95 % interval", "p", "problems where a is better", "where b is better"]
    numbers = ["+0.100", "-0.020 to +0.210", "0.0625", "12", "3"]
    assert parts(paired_view(Paired(0.1, -0.02, 0.21, 0.0625, 12, 3))) == [*names, *numbers]
    assert parts(progress("labels 3/4 · 2 s left", 3, 4)) == ["labels 3/4 · 2 s left"]


def test_of_the_explorer_everything_is_left_in_its_order():
    root = Node(Step(PROBLEM.question))
    grow(root, [Step(text) for text in GOLD], end="end")
    result = SearchResult(PROBLEM, best=Prefix.of(PROBLEM, GOLD, ended=True))
    searches = columns(search_view(PROBLEM, "mcts", root, "1 scored"),
                       search_view(PROBLEM, "beam_search", root, "over", result))  # fmt: skip
    told = parts(searches)
    half = len(told) // 2
    assert told[:2] == ["mcts · 1 scored", "question"] and told[half + 1] == "→ question"
    assert told[half].startswith("beam_search · ✓ right answer · 0 samples · 0 tokens")
    assert [line.strip("> →✓") for line in told[2:half]] == GOLD
    names = ("text", "visits", "value", "prior", "worth", "taken")
    fork = [dict(zip(names, (GOLD[0], 1, 0.5, 0.75, 1.25, True)))]
    told = parts(simulation_view(PROBLEM, root, None, "simulation 1", [fork]))
    numbers = ["visits N", "value V", "prior P", "PUCT", "→", GOLD[0], "1", "0.5", "0.75", "1.25"]
    assert told[2:13] == ["fork 1: next step", *numbers]
    scores = [0.5] * len(GOLD)
    told = parts(edited_view(PROBLEM, (GOLD, scores), ([SLIP, *GOLD[1:]], scores)))
    assert told[:4] == ["as it was · the answer can be reached", "✓", GOLD[0], "0.50"]
    assert "as edited · the answer is lost at step 1" in told and told.count("✗") >= 1


EVIL = "<script>alert('x')</script> <b>bold</b> <img src=x onerror=alert(1)> </td></table> & 3 < 4"


@pytest.mark.parametrize(
    "view",
    [
        step_strip([EVIL]),
        problem_view(Problem("p", "math", EVIL, EVIL, EVIL)),
        tree_view(Node(Step(EVIL))),
        table([{"x": EVIL}]),
    ],
)
def test_hostile_text_is_left_as_text(view):
    assert any(EVIL in part for part in parts(view))
    assert not re.search("<(script|b|img)[ >]", left_by_github(view))
