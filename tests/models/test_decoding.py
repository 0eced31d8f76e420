"""The sampling engine against `generate`, against the softmax, against itself in other batches, and
its accounts."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tiny import FAMILIES, TOKENIZER, tiny_model, tiny_policy

from workbench.models.draws import draw, uniforms
from workbench.models.prefix_cache import Context, Entry, PrefixCache
from workbench.problems import quantities
from workbench.types import Meter, Prefix

PROBLEMS = [p.blind() for p in quantities.generate(6, levels=range(1, 5), seed=3)]


def prefixes(per_problem: int = 1) -> list[Prefix]:
    return [Prefix(p) for p in PROBLEMS for _ in range(per_problem)]


def test_uniforms_are_splitmix64():
    """Against the reference sequence of the generator for seed 1234567."""
    expected = np.array([6457827717110365317, 3203168211198807973, 9817491932198370423], np.uint64)
    got = uniforms(np.array([1234567], np.uint64), np.array([0], np.uint64), 3)[0]
    assert np.array_equal((got * 2**53).astype(np.uint64), expected >> np.uint64(11))
    later = uniforms(np.array([1234567], np.uint64), np.array([2], np.uint64), 1)[0]
    assert later[0] == got[2]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_generate_token_for_token(family):
    policy = tiny_policy(family)
    out = policy.sample(prefixes(), range(len(PROBLEMS)), temperature=0)
    for prefix, problem in zip(out, PROBLEMS):
        prompt = TOKENIZER(problem.question + "\n", return_tensors="pt")
        whole = policy.model.generate(**prompt, max_new_tokens=40, do_sample=False)[
            0, prompt.input_ids.shape[1] :
        ]
        assert list(prefix.ids) == whole.tolist()
        assert prefix.stop == ("end" if whole[-1] == 1 else "length")


@pytest.mark.parametrize("family", FAMILIES)
def test_step_by_step_equals_in_one_go(family):
    """Continuing from the cache, at step borders, in shrinking batches: the same greedy tokens as
    from the question."""
    policy = tiny_policy(family)
    whole = policy.sample(prefixes(), range(len(PROBLEMS)), temperature=0)
    live = dict(enumerate(prefixes()))
    done = {}
    while live:
        out = policy.sample(list(live.values()), range(len(live)), until="step", temperature=0)
        grown = dict(zip(live, out))
        done |= {i: p for i, p in grown.items() if p.ended}
        live = {i: p for i, p in grown.items() if not p.ended}
    assert [done[i].ids for i in range(len(PROBLEMS))] == [p.ids for p in whole]


def test_log_probabilities_are_those_of_the_model_at_the_sampling_temperature():
    policy = tiny_policy(dtype=torch.float64)
    for temperature in (1.0, 0.7):
        prefix = policy.sample([Prefix(PROBLEMS[0])], [7], temperature=temperature)[0]
        prompt = TOKENIZER(PROBLEMS[0].question + "\n").input_ids
        logits = policy.model(torch.tensor([prompt + list(prefix.ids)])).logits[
            0, len(prompt) - 1 : -1
        ]
        expected = torch.log_softmax(logits / temperature, -1)[
            range(len(prefix.ids)), list(prefix.ids)
        ]
        assert np.allclose(prefix.logprobs, expected.detach(), atol=1e-10)


def test_sampled_tokens_follow_the_softmax():
    """chi-square of 20,000 first tokens against the model's distribution, and of the draw itself at
    the edges."""
    policy = tiny_policy(batch_tokens=100_000, max_tokens=1)
    n = 20_000
    out = policy.sample(
        [Prefix(PROBLEMS[0])] * n, [hash((5, i)) % 2**64 for i in range(n)], temperature=1.5
    )
    prompt = TOKENIZER(PROBLEMS[0].question + "\n", return_tensors="pt").input_ids
    p = torch.softmax(policy.model(prompt).logits[0, -1].double() / 1.5, -1).detach().numpy()
    observed = np.bincount([prefix.ids[0] for prefix in out], minlength=len(p))
    common = p * n >= 5
    f_obs = np.append(observed[common], observed[~common].sum())
    f_exp = np.append(p[common], p[~common].sum()) * n
    assert chisquare(f_obs, f_exp * f_obs.sum() / f_exp.sum()).pvalue > 1e-3
    logits = torch.tensor([[-1e9, 0.0, 0.0, -1e9]])
    for u, token in ((0.0, 1), (0.49, 1), (0.51, 2), (1 - 2**-53, 2)):
        assert draw(logits, 1.0, np.array([u]))[0].item() == token


def test_batched_equals_one_by_one_exactly_in_float64():
    policy, alone = tiny_policy(dtype=torch.float64), tiny_policy(dtype=torch.float64)
    rows, keys = prefixes(8), [1000 + i for i in range(48)]
    together = policy.sample(rows, keys)
    one_by_one = [alone.sample([row], [key])[0] for row, key in zip(rows, keys)]
    assert [p.ids for p in together] == [p.ids for p in one_by_one]
    assert np.allclose(
        sum((p.logprobs for p in together), ()),
        sum((p.logprobs for p in one_by_one), ()),
        atol=1e-9,
    )
    small = tiny_policy(dtype=torch.float64, batch_tokens=300)  # rows enter and leave all the time
    assert [p.ids for p in small.sample(rows, keys)] == [p.ids for p in together]


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 0.97), (torch.bfloat16, 0.3)])
def test_batched_mostly_equals_one_by_one_in_low_precision(dtype, floor):
    """Rounding differs with the batch shape: the share of identical trajectories is reported, and
    has a floor."""
    policy, alone = tiny_policy(dtype=dtype), tiny_policy(dtype=dtype)
    rows, keys = prefixes(16), [1000 + i for i in range(96)]
    together = policy.sample(rows, keys)
    same = np.mean(
        [alone.sample([row], [key])[0].ids == p.ids for row, key, p in zip(rows, keys, together)]
    )
    print(f"\nidentical trajectories in {dtype}: {same:.0%}")
    assert same >= floor


def test_cached_equals_cold():
    warm = tiny_policy(dtype=torch.float64)
    half = warm.sample(prefixes(4), range(24), until="step")
    going_on = [p for p in half if not p.ended]
    meters = [Meter() for _ in going_on]
    continued = warm.sample(going_on, range(len(going_on)), meters=meters)
    cold = tiny_policy(dtype=torch.float64).sample(going_on, range(len(going_on)))
    assert [p.ids for p in continued] == [p.ids for p in cold]
    distinct = {(p.problem.id, p.ids) for p in going_on}
    assert sum(m.prefilled for m in meters) == len(distinct)  # one token each: the newest
    assert sum(m.cached for m in meters) > 50 * len(distinct) / 2


def test_a_context_that_another_begins_with_costs_one_token():
    policy = tiny_policy(dtype=torch.float64, max_tokens=120)
    problem = quantities.generate(1, levels=[4], seed=1)[0]
    steps = problem.solution.split("\n")
    nested = [Prefix.of(problem, steps[:t]) for t in range(5)]
    meters = [Meter() for _ in nested]
    out = policy.sample(nested, range(5), meters=meters, temperature=0)
    longest = len(TOKENIZER(problem.question + "\n" + "\n".join(steps[:4]) + "\n").input_ids)
    assert [m.prefilled for m in meters] == [1, 1, 1, 1, longest]
    colds = [tiny_policy(dtype=torch.float64, max_tokens=120) for _ in nested]
    cold = [policy.sample([p], [0], temperature=0)[0] for policy, p in zip(colds, nested)]
    assert [p.ids for p in out] == [p.ids for p in cold]


def test_meter_equals_an_independent_count():
    policy = tiny_policy(batch_tokens=400)
    rows = prefixes(5)
    meters = {p.id: Meter() for p in PROBLEMS}
    out = policy.sample(rows, range(30), meters=[meters[r.problem.id] for r in rows])
    n_weights = sum(
        p.numel() for name, p in policy.model.named_parameters() if "embed_tokens" not in name
    )
    for problem in PROBLEMS:
        own = [p for p in out if p.problem.id == problem.id]
        prompt = len(TOKENIZER(problem.question + "\n").input_ids)
        meter = meters[problem.id]
        assert (meter.samples, meter.generated) == (5, sum(len(p.ids) for p in own))
        # re-read when split up
        assert meter.prefilled + meter.cached >= prompt and (meter.prefilled - prompt) <= 4
        attention = sum(4 * 2 * 32 * (prompt + i) for p in own for i in range(len(p.ids)))
        assert meter.flops == 2 * n_weights * (meter.generated + meter.prefilled) + attention


def test_work_shrinks_as_rows_end():
    """Columns computed stay close to tokens needed: finished rows are dropped, not padded along."""
    policy = tiny_policy(batch_tokens=10_000)
    meters = [Meter() for _ in range(96)]
    policy.sample(prefixes(16), range(96), meters=meters)
    computed, needed = policy.engine.positions, sum(m.generated + m.prefilled for m in meters)
    assert computed < 1.3 * needed, (computed, needed)


def test_ids_are_cut_into_steps_and_never_lost():
    policy = tiny_policy()
    for prefix in policy.sample(prefixes(8), range(48)):
        for step in prefix.steps[:-1]:
            assert step.ids[-1] == TOKENIZER.convert_tokens_to_ids("\n") and "\n" not in step.text
        assert len(prefix.logprobs) == len(prefix.ids) <= 40
        assert prefix.stop == ("end" if prefix.ids[-1] == 1 else "length")
        assert 1 not in prefix.ids[:-1]


def test_cache_is_bounded_and_forgets_the_least_recently_used():
    cache = PrefixCache(max_tokens=10)
    entry = lambda n: Entry([(torch.zeros(1, n, 2), torch.zeros(1, n, 2))], n)  # noqa: E731
    a, b, c = Context([[1, 2, 3], [4]]), Context([[5, 6, 7, 8]]), Context([[9, 9, 9, 9]])
    cache.put(a, entry(4))
    cache.put(b, entry(4))
    assert cache.get(Context([[1, 2, 3], [8, 8]]), 5)[1] == 3  # found by its first segment
    assert cache.get(Context([[1, 2, 3], [8, 8]]), 2)[1] == 2  # the token after them is wanted
    cache.put(c, entry(4))
    assert (
        cache.tokens == 8
        and cache.get(b, 9) == (None, 0)
        and cache.get(a, 9)[1] == cache.get(c, 9)[1] == 4
    )
    cache.put(Context([list(range(11))]), entry(11))  # larger than the whole cache: not kept
    assert cache.tokens == 8


def test_new_weights_empty_the_cache():
    policy = tiny_policy(dtype=torch.float64)
    policy.sample(prefixes(), range(6), temperature=0)
    with torch.no_grad():
        for p in policy.model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    after = policy.sample(prefixes(), range(6), temperature=0)
    fresh = tiny_policy(dtype=torch.float64)
    fresh.model.load_state_dict(policy.model.state_dict())
    assert [p.ids for p in after] == [
        p.ids for p in fresh.sample(prefixes(), range(6), temperature=0)
    ]


def test_bad_requests_are_named():
    policy = tiny_policy()
    ended = Prefix.of(PROBLEMS[0], ["The answer is 3 ."], ended=True)
    with pytest.raises(ValueError, match="nothing to continue"):
        policy.sample([ended], [0])
    with pytest.raises(ValueError, match="until='word'"):
        policy.sample(prefixes(), range(6), until="word")
    with pytest.raises(ValueError, match="prompt 'poem'"):
        policy.sample(prefixes(), range(6), prompt="poem")
    with pytest.raises(ValueError, match="comes without it"):
        policy.sample(prefixes(), range(6), prompt="hint")
    with pytest.raises(ValueError, match="temperature -1"):
        policy.sample(prefixes(), range(6), temperature=-1)
    with pytest.raises(ValueError, match="2 keys for 6 prefixes"):
        policy.sample(prefixes(), range(2))
    with pytest.raises(ValueError, match="leave no room"):
        policy.sample([Prefix.of(PROBLEMS[0], ["many " * 50])], [0])


def test_same_problem_twice_draws_by_its_keys():
    out = tiny_policy().sample([Prefix(PROBLEMS[0])] * 60, [3] * 30 + [4] * 30)
    assert len(Counter(p.ids for p in out[:30])) == len(Counter(p.ids for p in out[30:])) == 1
    assert out[0].ids != out[-1].ids


def test_model_without_pad_token_works():
    model = tiny_model()
    model.config.pad_token_id = model.generation_config.pad_token_id = None
    from workbench.models.policy import HFPolicy

    assert len(HFPolicy(model, TOKENIZER, max_tokens=5).sample(prefixes(), range(6))) == 6
