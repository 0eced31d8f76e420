"""Logits of a batch: only those that somebody looks at."""

import pytest
import torch
from tiny import tiny_model

from workbench.train.rows import logits_from


@pytest.mark.parametrize("first", [0, 3, 6])
def test_logits_are_computed_from_the_first_place_that_is_wanted(first):
    model = tiny_model(dtype=torch.float64)
    ids = torch.randint(10, 20, (2, 7), generator=torch.Generator().manual_seed(0))
    wanted = torch.zeros(2, 7, dtype=torch.bool)
    wanted[1, first] = wanted[0, 6] = True
    logits = logits_from(model, ids, wanted)
    whole = model(input_ids=ids).logits
    torch.testing.assert_close(logits[:, first:], whole[:, first:])
    assert not logits[:, :first].any()
