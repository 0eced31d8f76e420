"""The explorer as a page: from a cold start of the server to a solved problem, in Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
NEEDS = {name: find_spec(name) is not None for name in ("playwright", "voila", "ipywidgets")}
NEEDS["Chromium"] = CHROMIUM is not None
MISSING = ", ".join(name for name, there in NEEDS.items() if not there)
MINUTE = 60_000  # ms

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}"),
]
TYPED = "How many shells does Ava have? Max has 5 shells. Ava has 4 more than Max."


@pytest.fixture(scope="module")
def address():
    """The address of a server of the notebook, which is stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--Voila.port={port}", "--VoilaExecutor.timeout=900"]
    command = [sys.executable, "-m", "voila", "notebooks/11_explorer.ipynb", *options]
    environment = {k: v for k, v in os.environ.items() if k != "WORKBENCH_RUN_DIR"}
    paths = filter(None, [str(ROOT), environment.get("PYTHONPATH")])
    environment |= {
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(port, server):
    for _ in range(600):
        with socket.socket() as door:
            if door.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, "the server ended before it could be reached"
        time.sleep(0.5)
    raise TimeoutError("the server can't be reached")


@pytest.fixture(scope="module")
def page(address):
    """The page with all its cells run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(2 * MINUTE)
        page.goto(address, timeout=15 * MINUTE, wait_until="domcontentloaded")
        # the widgets of the last panel
        page.get_by_role("button", name="judge").wait_for(timeout=15 * MINUTE)
        yield page
        browser.close()


def _done(page, name, text):
    """Wait until a button can be pressed again and its view says `text`."""
    button = page.get_by_role("button", name=name, exact=True).first
    button.wait_for(timeout=10 * MINUTE)
    view = button.locator("xpath=ancestor::*[contains(@class,'widget-vbox')][1]")
    view.get_by_text(text).first.wait_for(timeout=10 * MINUTE)
    return view


def _look(page, name):
    """Keep a picture where one is wanted."""
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_a_typed_problem_is_solved(page):
    _look(page, "cold")
    page.locator("textarea").first.fill(TYPED)
    page.get_by_role("button", name="search", exact=True).first.click()
    view = _done(page, "search", "typed · the answer is 9")
    view.get_by_text("✓ right answer").first.wait_for(timeout=10 * MINUTE)
    _look(page, "solved")
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
    _look(page, "narrow")
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert wide <= 40
