"""What the explorer does for those who click and for those who don't: the same views, in limits."""

import pytest
from scripted import Walker, oracle

from workbench.explore import controls
from workbench.explore.explorer import (
    OFFERED,
    Explorer,
    as_typed,
    moment_view,
    pair_view,
    problem_of,
    slip,
    whole_view,
)
from workbench.problems import frozen
from workbench.problems.quantities import explain

PROBLEM = frozen.load("validation")[8]


@pytest.fixture
def explorer():
    models = {"base": Walker([PROBLEM]), "prm_base": oracle([PROBLEM])}
    return Explorer(seed=1, simulations=4, models=models)


@pytest.mark.parametrize("method", [m for m in OFFERED if m != "rstar"])  # Walker can't rephrase
def test_every_method_can_be_watched(explorer, method):
    heard = []
    seen = explorer.search(PROBLEM, method, tell=heard.append)
    assert seen.result.error is None and tuple(heard) == seen.moments != ()
    assert "<details" in whole_view(seen)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "sample"}, "method 'sample': use one of"),
        ({"policy": "../base"}, "model '../base': use one of"),
        ({"verifier": "genrm_strong"}, "use one of prm_base"),
        ({"budget": 0}, "use 1 to 8,000"),
        ({"budget": 10**9}, "use 1 to 8,000"),
    ],
)
def test_what_is_not_offered_is_refused(explorer, change, words):
    with pytest.raises(ValueError, match=words):
        explorer.search(PROBLEM, **{"method": "greedy", **change})


def test_problems_by_number_and_in_words():
    assert problem_of(" 8 ") == PROBLEM and problem_of(as_typed(PROBLEM)) == PROBLEM
    typed = problem_of(PROBLEM.question)
    assert (typed.answer, as_typed(typed)) == (PROBLEM.answer, PROBLEM.question)
    for text in ("200", "9" * 5000):
        with pytest.raises(ValueError, match="there are 0 to 199"):
            problem_of(text)


def test_a_slip_is_a_slip():
    gold = PROBLEM.solution.split("\n")
    assert explain(PROBLEM, slip(gold, 1))[0].startswith("arithmetic slip")
    with pytest.raises(ValueError, match="no number"):
        slip(["none"], 1)
    with pytest.raises(ValueError, match="step 2 of 1"):
        slip(gold[:1], 2)


def test_simulations_are_looked_at_one_by_one(explorer):
    seen = explorer.search(PROBLEM, "mcts")
    assert "simulation 4" in moment_view(seen, 4) and "PUCT" in moment_view(seen, 4)
    for number in (0, 5):
        with pytest.raises(ValueError, match="there were 4"):
            moment_view(seen, number)


def panels(explorer):
    """Every panel, and the view that it shows first."""
    first, tree = (explorer.search(PROBLEM, name) for name in ("beam_search", "mcts"))
    steps = list(first.result.best.texts)
    yield controls.growing, (explorer, first), {}, whole_view(first)
    yield controls.stepping, (explorer, tree), {}, moment_view(tree, 4)
    yield controls.comparing, (explorer, first, tree), {}, pair_view(first, tree)
    edit = (explorer, PROBLEM, steps, slip(steps, 1))
    yield controls.editing, edit, {"verifier": "prm_base"}, "the answer is lost at step 1"


def test_without_a_front_end_the_views_are_plain_html(explorer, monkeypatch):
    shown = []
    monkeypatch.setattr(controls, "show", lambda html, text: shown.append(html))
    for panel, arguments, options, html in panels(explorer):
        panel(*arguments, **options)
        assert html in shown[-1]


def test_with_one_the_same_views_stand_below_controls_that_work(explorer, monkeypatch):
    pytest.importorskip("ipywidgets")
    shown = []
    monkeypatch.setattr(controls, "is_live", lambda: True)
    monkeypatch.setattr(controls, "_display", lambda *widgets: shown.append(widgets))
    for panel, arguments, options, html in panels(explorer):
        panel(*arguments, **options)
        view, (button,) = shown[-1][-1], [w for w in shown[-1] if hasattr(w, "click")]
        assert html in view.value
        before, view.value = view.value, ""
        button.click()
        assert view.value.replace("0.0 s", "") and not button.disabled
        assert view.value.count("<details") == before.count("<details")


def test_what_was_typed_wrongly_is_said_and_a_fault_of_ours_is_named_alone(explorer, monkeypatch):
    pytest.importorskip("ipywidgets")
    shown = []
    monkeypatch.setattr(controls, "is_live", lambda: True)
    monkeypatch.setattr(controls, "_display", lambda *widgets: shown.append(widgets))
    controls.growing(explorer, explorer.search(PROBLEM, "greedy"))
    problem, _, button, view = shown[0]
    problem.value = "<b>Who?</b>"
    button.click()
    assert "&lt;b&gt;Who?" in view.value and "need" in view.value
    monkeypatch.setattr(controls, "problem_of", lambda text: 1 / 0)
    button.click()
    assert "(ZeroDivisionError)" in view.value and "by zero" not in view.value
    assert not button.disabled


def test_a_runner_without_a_front_end_is_known(monkeypatch):
    assert not controls.is_live()
    monkeypatch.setattr(controls, "in_notebook", lambda: True)
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    monkeypatch.delenv("WORKBENCH_RUN_DIR", raising=False)
    assert controls.is_live()
    monkeypatch.setenv("WORKBENCH_RUN_DIR", "somewhere")
    assert not controls.is_live()
