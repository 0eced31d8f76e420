"""Attention of rows to a context that they share, against attention of each row to its own copy."""

import pytest
import torch
from tiny import FAMILIES, tiny_model, tiny_policy
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, DiffLlamaConfig, NemotronConfig

from workbench.models.engine import Engine
from workbench.models.forks import Forks, attending, blanks, can_fork, forked_attention
from workbench.models.prefix_cache import Entry
from workbench.problems import quantities
from workbench.types import Meter, Prefix

PROBLEMS = [p.blind() for p in quantities.generate(4, levels=range(1, 5), seed=3)]
KV_HEADS, SIZE = 2, 8
DOUBLE = torch.float64


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE)


def entry(length: int) -> Entry:
    return Entry([(numbers(KV_HEADS, length, SIZE), numbers(KV_HEADS, length, SIZE))], length)


@pytest.mark.parametrize("heads", [2, 6])  # as many as key-value heads, and three to each
def test_it_is_the_attention_of_each_row_to_its_own_copy_of_the_context(heads):
    """Contexts of 3, 7 and 5 tokens with 2, 1 and 3 rows, interleaved; own tokens 4, 1, 2 ..."""
    torch.manual_seed(0)
    short, long, middle = entry(3), entry(7), entry(5)
    entries, own = [short, middle, long, middle, short, middle], torch.tensor([4, 1, 2, 4, 3, 1])
    rows, width = len(entries), int(own.max())
    key, value = numbers(rows, KV_HEADS, width, SIZE), numbers(rows, KV_HEADS, width, SIZE)
    query = numbers(rows, heads, 1, SIZE)
    module = torch.nn.Module()
    module.layer_idx = 0
    mask = blanks(width - own, width, key)
    got, _ = forked_attention(
        module, query, key, value, mask, forks=Forks(entries), scaling=SIZE**-0.5
    )
    for b, (context, n) in enumerate(zip(entries, own)):
        whole = [
            torch.cat([before, mine[b, :, width - n :]], 1).repeat_interleave(heads // KV_HEADS, 0)
            for before, mine in zip(context.layers[0], (key, value))
        ]
        expected = scaled_dot_product_attention(query[b], *whole)  # (Hq, 1, D)
        assert torch.allclose(got[b, 0], expected[:, 0], atol=1e-12)


def test_rows_come_back_from_their_contexts_as_they_went():
    first, second = entry(3), entry(4)
    forks = Forks([first, second, first, first])
    x = numbers(4, KV_HEADS, 3, 5)
    assert torch.equal(forks.apart(forks.together(x)), x)
    assert forks.together(x).shape == (2, KV_HEADS, 9, 5)
    assert forks.goes_on_from([first, second, first, first])
    assert not forks.goes_on_from([first, first, second, first])


def test_models_that_attend_otherwise_are_left_alone():
    forking = {family for family in FAMILIES if can_fork(tiny_model(family))}
    assert forking == {
        "llama",
        "qwen2",
        "qwen3",
        "gemma",
        "gpt_neox",
    }  # no windows, no learnt places
    # split what the cache returns, or keep what stands behind to themselves
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    for config in (DiffLlamaConfig(**sizes), NemotronConfig(**sizes)):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        assert not can_fork(model)
    eager = tiny_model()
    eager.set_attn_implementation("eager")
    assert not can_fork(eager)
    assert not can_fork(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("until", ["step", "end"])
def test_forked_rows_write_what_rows_with_copies_write(until, monkeypatch):
    """Rows enter and leave all the time; their key-values in the cache are the same, too."""
    rows = [Prefix(p) for p in PROBLEMS for _ in range(5)]
    forked, copied = (tiny_policy(dtype=DOUBLE, batch_tokens=500) for _ in range(2))
    copied.engine.forking = False
    for _ in range(3):
        meters = [[Meter() for _ in rows] for _ in range(2)]
        ours, theirs = (
            policy.sample(rows, range(len(rows)), until=until, meters=own)
            for policy, own in zip((forked, copied), meters)
        )
        assert [p.ids for p in ours] == [p.ids for p in theirs]
        for one, other in zip(ours, theirs):
            assert torch.allclose(torch.tensor(one.logprobs), torch.tensor(other.logprobs))
        assert meters[0] == meters[1]
        rows = [p for p in ours if not p.ended] or rows
    kept, expected = (p.engine.cache._found for p in (forked, copied))
    assert kept.keys() == expected.keys()
    for name, (mine, n) in kept.items():
        for ours, theirs in zip(mine.layers, expected[name][0].layers):
            assert all(torch.allclose(a[:, :n], b[:, :n]) for a, b in zip(ours, theirs))


def test_half_precision_is_computed_in_single_and_kept_in_half():
    policy = tiny_policy(dtype=torch.bfloat16)
    policy.sample([Prefix(p) for p in PROBLEMS], range(4), until="step")
    kept = [entry for entry, _ in policy.engine.cache._found.values()]
    assert {x.dtype for entry in kept for pair in entry.layers for x in pair} == {torch.bfloat16}


def test_the_model_attends_as_before_after_an_error():
    model = tiny_model()
    with pytest.raises(RuntimeError, match="on purpose"), attending(model.config, "other"):
        assert model.config._attn_implementation == "other"
        raise RuntimeError("on purpose")
    assert model.config._attn_implementation == "sdpa"
    assert Engine(model).forking
