"""A server in the background and a page of it in Chromium, for the tests of this folder."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
MINUTE = 60_000  # ms


def marks(*packages):
    """The marks of a file of tests that need a browser and these packages."""
    there = {name: find_spec(name) is not None for name in ("playwright", *packages)}
    there["Chromium"] = CHROMIUM is not None
    missing = ", ".join(name for name in there if not there[name])
    return [
        pytest.mark.browser,
        pytest.mark.slow,
        pytest.mark.timeout(1800),
        pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}"),
    ]


@contextmanager
def serving(module, *options, cwd=ROOT, **environment):
    """Run `python -m module`, where `{port}` in its options is a free one; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", module, *(option.format(port=port) for option in options)]
    known = {name: value for name, value in os.environ.items() if name != "WORKBENCH_RUN_DIR"}
    paths = os.pathsep.join(filter(None, [str(ROOT), known.get("PYTHONPATH")]))
    known |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": paths}
    server = subprocess.Popen(command, cwd=cwd, env=known | environment, stdin=subprocess.DEVNULL)
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


@contextmanager
def chromium():
    """A page, before it has gone anywhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(2 * MINUTE)
        yield page
        browser.close()


def look(page, name):
    """Keep a picture where one is wanted."""
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
