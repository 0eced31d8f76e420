"""The explorer's widgets: each panel shows a view and, where somebody is watching, its controls.

A panel is a function that is given what the parameters ask for. Run by papermill or any other
runner without a front end it displays that view as plain HTML; in JupyterLab and Voilà the same
view stands below its controls. So no widget carries a parameter, and nothing is lost in a batch.
Errors are said in the view, without a traceback. Taught in notebook 11.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import ipywidgets as w
from IPython.display import display

from workbench.explore.explorer import (
    BUDGETS,
    OFFERED,
    SOLVERS,
    VERIFIERS,
    Explorer,
    Seen,
    as_typed,
    moment_view,
    pair_view,
    problem_of,
    whole_view,
)
from workbench.problems.typed import LONGEST_QUESTION, typed_steps
from workbench.search.watched import Moment
from workbench.show import explorer as views
from workbench.show.progress import in_notebook, show
from workbench.types import Problem

BROAD = {"width": "auto", "max_width": "760px"}
LABEL = {"description_width": "90px"}


def is_live() -> bool:
    """Is there a front end that draws widgets? Voilà says so, nbclient's runners take no input."""
    if not in_notebook() or "WORKBENCH_RUN_DIR" in os.environ:
        return False
    if os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
        return True
    kernel = getattr(sys.modules["IPython"].get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


# -- panels ----------------------------------------------------------------------------------------


def growing(explorer: Explorer, seen: Seen, **models: Any) -> None:
    """Pick or type a problem, and watch a search of it grow; `seen` is what stands there first."""
    html = whole_view(seen)
    if not is_live():
        return show(html, views.outcome(seen.result))
    problem = _problem_box(seen.problem)
    method, picks = _pick("method", OFFERED, seen.method), _models(models)
    button, view = _button("search"), _view(html)

    def search() -> None:
        chosen = problem_of(problem.value)
        head = views.question_view(chosen)

        def tell(moment: Moment) -> None:
            view.value = head + views.search_view(chosen, method.value, moment.root, moment.said)

        found = explorer.search(chosen, method.value, tell=tell, **_limited(explorer, picks))
        view.value = whole_view(found)

    _on_click(button, view, search)
    _display(problem, _row(method, *picks.values()), button, view)


def stepping(explorer: Explorer, seen: Seen, **models: Any) -> None:
    """Step through the simulations of an MCTS by a slider; the last one stands there first."""
    state = {"seen": seen}
    number = len(seen.moments)
    html = views.question_view(seen.problem) + moment_view(seen, number)
    if not is_live():
        return show(html, f"simulation {number} of {number}")
    problem = _problem_box(seen.problem)
    picks, button, view = _models(models), _button("search"), _view(html)
    slider = w.IntSlider(number, 1, number, description="simulation", style=LABEL, layout=BROAD)

    def look(_: Any = None) -> None:
        at = min(slider.value, len(state["seen"].moments))
        question = views.question_view(state["seen"].problem)
        view.value = question + moment_view(state["seen"], at)

    def search() -> None:
        found = explorer.search(problem_of(problem.value), "mcts", **_limited(explorer, picks))
        if not found.moments:
            raise ValueError(f"no simulation came to its end: {views.outcome(found.result)}")
        state["seen"], slider.max = found, len(found.moments)
        slider.value = slider.max
        look()

    slider.observe(look, "value")
    _on_click(button, view, search)
    _display(problem, _row(*picks.values()), button, slider, view)


def comparing(explorer: Explorer, first: Seen, second: Seen, **models: Any) -> None:
    """Two methods on one problem, side by side."""
    html = pair_view(first, second)
    if not is_live():
        return show(html, "\n".join(views.outcome(seen.result) for seen in (first, second)))
    problem = _problem_box(first.problem)
    left = _pick("method", OFFERED, first.method)
    right = _pick("and", OFFERED, second.method)
    picks, button, view = _models(models), _button("compare"), _view(html)

    def search() -> None:
        both, how = problem_of(problem.value), _limited(explorer, picks)
        found = [explorer.search(both, pick.value, **how) for pick in (left, right)]
        view.value = pair_view(*found)

    _on_click(button, view, search)
    _display(problem, _row(left, right, *picks.values()), button, view)


def editing(
    explorer: Explorer, problem: Problem, steps: list[str], edited: list[str], *, verifier: str
) -> None:
    """Edit the steps of a solution: how do scores and exact truth change?"""

    def view_of(lines: list[str], judge: str) -> str:
        pair = [(own, explorer.scores(problem, own, judge)) for own in (steps, lines)]
        return views.question_view(problem) + views.edited_view(problem, *pair)

    html = view_of(edited, verifier)
    if not is_live():
        return show(html, "\n".join(edited))
    box = w.Textarea("\n".join(edited), rows=len(steps) + 1, description="steps", style=LABEL)
    box.layout = BROAD
    judge, button, view = _pick("verifier", VERIFIERS, verifier), _button("judge"), _view(html)

    def again() -> None:
        view.value = view_of(typed_steps(box.value), judge.value)

    _on_click(button, view, again)
    _display(box, judge, button, view)


# -- pieces ----------------------------------------------------------------------------------------


def _problem_box(problem: Problem) -> Any:
    """A number or a question to type."""
    hint = f"0 to 199, or a question of at most {LONGEST_QUESTION} characters"
    looks = {"description": "problem", "placeholder": hint, "style": LABEL, "layout": BROAD}
    return w.Textarea(as_typed(problem), rows=3, **looks)


def _pick(what: str, names: Any, value: Any) -> Any:
    looks = {"description": what, "style": LABEL, "layout": {"width": "250px"}}
    return w.Dropdown(options=list(names), value=value, **looks)


def _models(models: dict[str, Any]) -> dict[str, Any]:
    """The choices of policy, verifier and budget, by the names that `Explorer.search` uses."""
    known = {"policy": SOLVERS, "verifier": VERIFIERS, "budget": BUDGETS}
    given = {"policy": "base", "verifier": "prm_base", "budget": BUDGETS[-1]} | models
    all_of = {name: sorted({*known[name], given[name]}) for name in known}
    return {name: _pick(name, all_of[name], given[name]) for name in known}


def _limited(explorer: Explorer, picks: dict[str, Any]) -> dict[str, Any]:
    """What was picked, as arguments of a search that ends in time."""
    return {name: pick.value for name, pick in picks.items()} | {"seconds": explorer.seconds}


def _button(text: str) -> Any:
    return w.Button(description=text, button_style="primary", layout={"margin": "4px 0 8px 98px"})


def _view(html: str) -> Any:
    return w.HTML(html, layout={"width": "100%", "overflow": "auto"})


def _row(*widgets: Any) -> Any:
    return w.HBox(widgets, layout={"flex_flow": "row wrap"})


def _display(*widgets: Any) -> None:
    display(w.VBox(widgets))


def _on_click(button: Any, view: Any, work: Callable[[], None]) -> None:
    """Do the work once at a time; what it cannot take is said where its view would be."""

    def clicked(_: Any) -> None:
        button.disabled, said = True, button.description
        button.description = "working …"
        try:
            work()
        except ValueError as error:
            view.value = views.message(str(error))
        except Exception as error:  # a fault of ours, named: what it says may tell of this machine
            view.value = views.message(f"that did not work ({type(error).__name__})")
        finally:
            button.disabled, button.description = False, said

    button.on_click(clicked)
