"""Shared fixtures, and how the tests are shared out among processes (`pytest -n 2`)."""

import os
import signal
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each process computes with its share of two cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in `nohup make test &`
    signal.signal(signal.SIGINT, signal.default_int_handler)
LONG = ["timeout", "slow"]  # what has a limit of its own takes longest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A file stays in one process, whose fixtures it shares; so do all users of one batch.

    Only solutions of notebooks, which take long and share nothing, go wherever there is room.
    What takes minutes begins first, and what takes a moment last: so both processes end together.
    """
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in LONG])
    for item in items:
        group = item.path.as_posix()
        if "batch" in getattr(item, "fixturenames", ()):
            group = "batch"
        elif item.path.name == "test_solutions.py":
            group = item.nodeid
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real public data; tests that need it skip where it is absent."""
    folder = os.environ.get("WORKBENCH_REAL_DATA")
    if not folder:
        pytest.skip("WORKBENCH_REAL_DATA is not set: real public data not available")
    return Path(folder)


@pytest.fixture
def one_thread():
    """Sums in one order, so that equal runs are equal to the last bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
