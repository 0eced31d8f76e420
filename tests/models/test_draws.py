"""Random draws against the reference generator, and at the edges of a distribution."""

import numpy as np
import pytest
import torch

from workbench.models.draws import draw, uniforms


def test_uniforms_are_splitmix64():
    """Against the reference sequence of the generator for seed 1234567."""
    expected = np.array([6457827717110365317, 3203168211198807973, 9817491932198370423], np.uint64)
    got = uniforms(np.array([1234567], np.uint64), np.array([0], np.uint64), 3)[0]
    assert np.array_equal((got * 2**53).astype(np.uint64), expected >> np.uint64(11))
    later = uniforms(np.array([1234567], np.uint64), np.array([2], np.uint64), 1)[0]
    assert later[0] == got[2]


@pytest.mark.parametrize(("u", "token"), [(0.0, 1), (0.49, 1), (0.51, 2), (1 - 2**-53, 2)])
def test_a_draw_inverts_the_distribution_and_never_gives_what_is_impossible(u, token):
    logits = torch.tensor([[-1e9, 0.0, 0.0, -1e9]])
    drawn, logprob = draw(logits, 1.0, np.array([u]))
    assert drawn.item() == token and logprob.item() == pytest.approx(np.log(0.5))


def test_greedy_takes_the_first_of_the_most_likely_at_temperature_one():
    drawn, logprob = draw(torch.tensor([[0.0, 2.0, 2.0]]), 0.0, np.array([0.9]))
    assert drawn.item() == 1
    assert logprob.item() == pytest.approx(2 - np.log(1 + 2 * np.exp(2)))
