"""A cluster of Ray that is not there is named at once, by whoever asks for it."""

import socket
import time

import pytest

pytest.importorskip("ray")

from workbench.commands.sweep_ray import ray_for
from workbench.scale import cluster
from workbench.scale.ray_engine import RayEngine


@pytest.fixture
def nobody():
    """host:port where nobody listens: it was free a moment ago, and is held but not listened at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nobody_at_an_address(nobody, scheme):
    before = time.perf_counter()
    with pytest.raises(ConnectionError, match=f"no cluster of Ray answers at {scheme}{nobody}"):
        cluster.start_ray(scheme + nobody)
    assert time.perf_counter() - before < cluster.ANSWER_S


def test_nobody_at_the_address_of_the_environment(nobody, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    with pytest.raises(ConnectionError, match=nobody):
        cluster.start_ray()


def test_who_asks_says_so_in_a_line(nobody):
    with pytest.raises(ConnectionError, match=nobody):
        RayEngine(policy="base", address=nobody).start()
    with pytest.raises(ValueError, match=f"^--ray {nobody}: no cluster of Ray .*refused") as told:
        ray_for(nobody, 1)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("address", ["", "auto", "local", "ray://name/path"])
def test_other_addresses_are_left_to_ray(address):
    assert cluster._check_answers(address) is None


def test_a_port_that_is_none():
    with pytest.raises(ConnectionError, match="at here:99999999"):
        cluster._check_answers("here:99999999")
