"""Views and long runs in a real JupyterLab: hostile text, themes, widths, the stop button."""

import nbformat
import pytest
from browser.pages import MINUTE, chromium, look, marks, serving

from workbench.problems import quantities
from workbench.show.steps import step_strip
from workbench.show.trees import tree_of, tree_view
from workbench.types import Prefix

pytestmark = marks("jupyterlab", "ipywidgets")

EVIL = [
    "<script>document.title='x'</script>",
    "<img src=x onerror=\"document.title='x'\">",
    "<a href=\"javascript:document.title='x'\">click</a>",
    "<style>body{display:none}</style>",
    "</td></tr></table><iframe src=x>",
    "half \ud800 a letter",
    "\x1b[31mred\x1b[0m \u202eright to left\u202c",
]
# cells of the notebook under test, whose views come from this process: JupyterLab did not see them
# being made, so it does not trust them
LONG = """
from workbench.drive import solve
from workbench.models import load_policy
from workbench.problems.quantities import generate
from workbench.search import METHODS

policy = load_policy("base")
problems = generate(1000, levels=[4], seed=0, split="test")
print("begun")
results = solve(problems, METHODS["sample"], policy=policy, seed=0, n=2, save="{file}")
print("came back with", sum(not r.stopped for r in results), "of", len(results))
"""


def _views():
    problem = quantities.generate(1, levels=[3], seed=5)[0]
    right = problem.solution.split("\n")
    reasons = [None] * len(right) + ["not what the problem says"] * len(EVIL)
    steps = [*right, *EVIL]
    scores = [round(0.1 + 0.8 * i / len(steps), 2) for i in range(len(steps))]
    prefixes = [Prefix.of(problem, right), Prefix.of(problem, [right[0], *EVIL])]
    marks_of = [[None] * len(right), [None, *(["wrong"] * len(EVIL))]]
    values = [[0.9] * len(right), [0.4] * (1 + len(EVIL))]
    tree = tree_of(prefixes, values, marks_of, prefixes[0])
    long = step_strip(["m" * 1_000_000], [None], [0.5])
    return {"strip": step_strip(steps, reasons, scores), "tree": tree_view(tree), "long": long}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a notebook of views, and one of a long run."""
    folder, cell = tmp_path_factory.mktemp("lab"), nbformat.v4.new_code_cell
    shown = []
    for name, html in _views().items():
        output = nbformat.v4.new_output("display_data", {"text/html": html, "text/plain": name})
        shown.append(cell(f"{name} = 'shown'", outputs=[output], execution_count=1))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    long = LONG.format(file=folder / "results.jsonl")
    for name, cells in (("views", shown), ("long", [cell(long)])):
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb"
        )
    return folder


@pytest.fixture(scope="module")
def lab(place):
    """The page of a JupyterLab in that folder, with settings of its own."""
    own = {"JUPYTER_CONFIG_DIR": str(place / "config"), "JUPYTER_DATA_DIR": str(place / "data")}
    options = [
        "--no-browser", "--allow-root", "--ServerApp.port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={place}", "--expose-app-in-browser",
        "--LabApp.news_url=", "--ServerApp.log_level=ERROR",
    ]  # fmt: skip
    with serving("jupyterlab", *options, cwd=place, **own) as address, chromium() as page:
        page.address = address
        yield page


def _opened(page, name):
    page.goto(f"{page.address}lab/tree/{name}.ipynb?reset", wait_until="domcontentloaded")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=5 * MINUTE)
    if page.locator("#jp-left-stack:visible").count():
        _command(page, "application:toggle-left-area")
    return page.locator(".jp-Notebook").first


def _command(page, name, **arguments):
    """Start one of JupyterLab's commands, without waiting for its end."""
    run = "([name, a]) => { window.jupyterapp.commands.execute(name, a); }"
    page.evaluate(run, [name, arguments])


@pytest.fixture
def views(lab):
    notebook = _opened(lab, "views")
    lab.get_by_text("right to left").first.wait_for()
    return notebook


def test_hostile_text_stays_text_and_an_untrusted_view_is_whole(lab, views):
    look(lab, "views-light")
    shown = lab.evaluate("getComputedStyle(document.body).display")
    assert lab.title() != "x" and shown != "none"
    for bad in ("img[src=x]", "iframe[src=x]", "a[href^='javascript:']", "script:text('title')"):
        assert views.locator(bad).count() == 0, bad
    for text in EVIL[:-2]:
        assert views.get_by_text(text, exact=False).count() >= 2, text  # in the strip, in the tree
    assert views.locator("meter").count() > 2 * len(EVIL)  # scores of the strip, values of the tree
    shown = views.inner_text()
    assert shown.count("✗") > len(EVIL) and "✓" in shown and "\x1b" not in shown
    assert not set("\u202e\u202c\ud800") & set(shown) and "half \ufffd a letter" in shown
    assert "980,000 more characters" in shown and len(shown) < 100_000
    assert views.locator("details").count() >= 2


# darkest against lightest of a text and what stands behind it, by the rules of WCAG 2
CONTRAST = """() => {
  const part = c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number);
                         return n.length == 3 ? [...n, 1] : n; };
  const over = (top, below) => below.map((b, i) => i < 3 ? top[i] * top[3] + b * (1 - top[3]) : 1);
  const light = c => .2126 * part(c[0] / 255) + .7152 * part(c[1] / 255) + .0722 * part(c[2] / 255);
  const behind = node => {
    const above = [];
    for (let n = node; n; n = n.parentElement)
      above.push(rgba(getComputedStyle(n).backgroundColor));
    return above.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = [];
  for (const node of document.querySelectorAll('.jp-RenderedHTML td, .jp-RenderedHTML span')) {
    if (!node.innerText.trim()) continue;
    const back = behind(node), ink = over(rgba(getComputedStyle(node).color), back);
    const [a, b] = [light(back), light(ink)];
    found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), node.innerText.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_text_stands_out_in_both_themes(lab, views, theme):
    _command(lab, "apputils:change-theme", theme=theme)
    light = str(theme.endswith("Light")).lower()
    lab.locator(f"body[data-jp-theme-light='{light}']").wait_for(state="attached")
    lab.wait_for_timeout(1000)
    look(lab, f"views-{theme.split()[-1].lower()}")
    found = lab.evaluate(CONTRAST)
    assert len(found) > 30 and found[0][0] >= 4.5, found[:3]


def test_a_narrow_window_needs_no_scrolling_of_the_page(lab, views):
    lab.set_viewport_size({"width": 560, "height": 900})
    lab.wait_for_timeout(1000)
    look(lab, "views-narrow")
    wide = "nodes => nodes.map(n => n.scrollWidth - n.clientWidth)"
    over = views.locator(".jp-OutputArea-output").evaluate_all(wide)
    lab.set_viewport_size({"width": 1280, "height": 900})
    assert over and max(over) <= 40, over


def test_the_stop_button_gives_back_what_is_there(lab, place):
    _opened(lab, "long")
    lab.get_by_text("| Idle").first.wait_for(timeout=5 * MINUTE)
    _command(lab, "notebook:run-all-cells")
    output = lab.locator(".jp-OutputArea-output")
    output.get_by_text("begun").wait_for(timeout=5 * MINUTE)
    file = place / "results.jsonl"
    while not file.exists() or len(file.read_text().splitlines()) < 5:
        lab.wait_for_timeout(500)
    lab.get_by_role("button", name="Interrupt the kernel").first.click()
    said = output.get_by_text("came back with")
    said.wait_for(timeout=5 * MINUTE)
    look(lab, "stopped")
    done = int(said.inner_text().split("came back with ")[1].split()[0])
    kept = len(file.read_text().splitlines())
    assert 0 < done < 1000 and kept >= done
    assert output.get_by_text("Traceback").count() == 0
