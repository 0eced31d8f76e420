"""The explorer as a page: from a cold start of the server to a solved problem, in Chromium."""

import pytest
from browser.pages import MINUTE, chromium, look, marks, serving

pytestmark = marks("voila", "ipywidgets")
TYPED = "How many shells does Ava have? Max has 5 shells. Ava has 4 more than Max."


@pytest.fixture(scope="module")
def page():
    """The page with all its cells run."""
    options = ["--no-browser", "--Voila.port={port}", "--VoilaExecutor.timeout=900"]
    with serving("voila", "notebooks/11_explorer.ipynb", *options) as address, chromium() as page:
        page.goto(address, timeout=15 * MINUTE, wait_until="domcontentloaded")
        # the widgets of the last panel
        page.get_by_role("button", name="judge").wait_for(timeout=15 * MINUTE)
        yield page


def _done(page, name, text):
    """Wait until a button can be pressed again and its view says `text`."""
    button = page.get_by_role("button", name=name, exact=True).first
    button.wait_for(timeout=10 * MINUTE)
    view = button.locator("xpath=ancestor::*[contains(@class,'widget-vbox')][1]")
    view.get_by_text(text).first.wait_for(timeout=10 * MINUTE)
    return view


def test_a_typed_problem_is_solved(page):
    look(page, "cold")
    page.locator("textarea").first.fill(TYPED)
    page.get_by_role("button", name="search", exact=True).first.click()
    view = _done(page, "search", "typed · the answer is 9")
    view.get_by_text("✓ right answer").first.wait_for(timeout=10 * MINUTE)
    look(page, "solved")
    assert view.locator("details").count() >= 1 and view.locator("meter").count() >= 2


def test_hostile_text_is_refused_and_stays_text(page):
    evil = "<script>document.title='x'</script><img src=x onerror=\"document.title='x'\">"
    page.locator("textarea").first.fill(evil)
    page.get_by_role("button", name="search", exact=True).first.click()
    _done(page, "search", "not a quantities question")
    steps = page.locator("textarea").last
    steps.fill(f"{evil}\n{steps.input_value()}")
    page.get_by_role("button", name="judge").click()
    _done(page, "judge", "onerror")
    assert page.title() != "x" and page.locator("img[src=x]").count() == 0


def test_nothing_is_wider_than_a_narrow_page(page):
    page.set_viewport_size({"width": 420, "height": 900})
    look(page, "narrow")
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert wide <= 40
