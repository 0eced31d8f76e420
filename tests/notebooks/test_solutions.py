"""The solutions of the exercises run, each from a fresh kernel's state, and their asserts hold."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from notebooks.solutions import one_thread, run
from workbench.runs.environment import root

PATHS = sorted((root() / "notebooks" / "solutions").glob("*.ipynb"))
# the longest begin, so that two processes end together
LONGEST = ("01", "05", "06", "02", "03")


@pytest.fixture(scope="module")
def printed(request):
    """What each solution prints, as futures: two processes with one thread each work on them."""
    wanted = [
        i.callspec.params["path"] for i in request.session.items if "printed" in i.fixturenames
    ]
    order = sorted(wanted, key=lambda path: (*LONGEST, path.stem[:2]).index(path.stem[:2]))
    with ProcessPoolExecutor(2, get_context("spawn"), one_thread) as pool:
        yield {path: pool.submit(run, path) for path in order}
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in PATHS])
def test_solution_runs(path, printed):
    assert printed[path].result()  # each says what it found
