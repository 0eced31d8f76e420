"""Rates against published measurements, and the corner of the roofline against a search for it."""

from dataclasses import replace
from math import isinf

import numpy as np
import pytest

from workbench.analyse.roofline import (
    GPUS,
    MODEL_SIZES,
    Shares,
    decode_rate,
    enough_rows,
    expected_rates,
    rows_that_fit,
    turning_batch,
)

H100, LLAMA, SEVEN = GPUS["h100"], MODEL_SIZES["llama-8b"], MODEL_SIZES["7b"]


def within(computed, published, factor):
    return published / factor <= computed <= published * factor


@pytest.mark.parametrize(
    ("bandwidth", "measured"),
    [
        # one request, vLLM, an A100 of 40 GB (1.555 TB/s), which its author calls 77 % of the
        # ceiling: https://johnmusgrave.com/p/vllm-throughput-latency-sweep-on
        (1.555e12, 75),
        # one request, vLLM, an H100, 6.48 ms a token:
        # https://yobitelcomm.github.io/bench/recipes/concurrency-sweep/
        (3.35e12, 1000 / 6.48),
    ],
)
def test_one_row_is_written_at_three_quarters_of_what_memory_allows(bandwidth, measured):
    ceiling = decode_rate(replace(H100, bandwidth=bandwidth), LLAMA, 1, 100)
    assert 0.7 < measured / ceiling < 0.8


def test_the_roofline_stands_above_a_tuned_engine():
    """22,714 tokens/s, prompts of 128 and answers of 2,048, weights in 8 bits (TensorRT-LLM, the
    page of `read_share`)."""
    eight_bits = replace(LLAMA, number_bytes=1)
    rows = rows_that_fit(H100, eight_bits, 128 + 2048)
    ceiling = decode_rate(replace(H100, peak=2 * H100.peak), eight_bits, rows, 128 + 1024)
    assert 0.5 < 22_714 / ceiling < 1


def test_the_shares_give_back_what_was_measured():
    """The pages of `SHARE_SOURCES`."""
    rates = expected_rates(H100, LLAMA, Shares(), context=400)
    assert within(rates.written, 8088, 1.15)
    assert within(rates.trained, 5762, 1.3)
    eight_bits = replace(H100, peak=2 * H100.peak)
    assert within(expected_rates(eight_bits, LLAMA, Shares(), 400).read, 58_650, 1.15)


@pytest.mark.parametrize("context", [0, 300, 700])
def test_at_the_turning_batch_both_times_are_equal(context):
    batch = turning_batch(H100, SEVEN, context)
    moved = SEVEN.weights + batch * SEVEN.key_values * context
    operations = 2 * SEVEN.parameters * batch
    assert moved / H100.bandwidth == pytest.approx(operations / H100.peak)
    more = decode_rate(H100, SEVEN, round(4 * batch), context)
    assert more == pytest.approx(H100.peak / 2 / SEVEN.parameters)  # no more to be had


def test_long_rows_never_wait_for_arithmetic():
    assert isinf(turning_batch(H100, SEVEN, 2000))
    rates = [decode_rate(H100, SEVEN, 2**i, 2000) for i in range(20)]
    limit = H100.bandwidth / (SEVEN.key_values * 2000)
    assert np.all(np.diff(rates) > 0) and 0.99 < rates[-1] / limit < 1


@pytest.mark.parametrize("context", [0, 300, 2000])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_enough_rows_are_the_first_that_are(context, share):
    rows = enough_rows(H100, SEVEN, context, share)
    goal = share * decode_rate(H100, SEVEN, 10**9, context)
    before, reached = (decode_rate(H100, SEVEN, n, context) for n in (rows - 1, rows))
    assert before < goal * (1 + 1e-9) and reached >= goal * (1 - 1e-6)


def test_no_row_fits_where_the_weights_do_not():
    assert rows_that_fit(replace(H100, memory=16e9), SEVEN, 100) == 0
