"""The engine against `generate`, the softmax, itself in other batches; its cache and accounts."""

from collections import Counter

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from tiny import FAMILIES, TOKENIZER, tiny_model, tiny_policy

from workbench.models.engine import Engine, Row
from workbench.models.flops import Flops
from workbench.models.policy import HFPolicy
from workbench.models.prefix_cache import Context
from workbench.models.stops import Stops
from workbench.problems import quantities
from workbench.types import Meter, Prefix

PROBLEMS = [p.blind() for p in quantities.generate(6, levels=range(1, 5), seed=3)]


def prefixes(per_problem: int = 1) -> list[Prefix]:
    return [Prefix(p) for p in PROBLEMS for _ in range(per_problem)]


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
    """Chi-square of 20,000 first tokens against the model's distribution."""
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


@pytest.mark.slow
def test_batched_equals_one_by_one_exactly_in_float64():
    policy, alone = tiny_policy(dtype=torch.float64), tiny_policy(dtype=torch.float64)
    rows, keys = prefixes(3), [1000 + i for i in range(18)]
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


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 0.97), (torch.bfloat16, 0.3)])
def test_batched_mostly_equals_one_by_one_in_low_precision(dtype, floor):
    """Rounding differs with the batch shape: the share of identical trajectories is reported, and
    has a floor."""
    policy, alone = tiny_policy(dtype=dtype), tiny_policy(dtype=dtype)
    rows, keys = prefixes(6), [1000 + i for i in range(36)]
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
    """One row: every token is fed once but the last, and meets the body; every drawn one a head."""
    policy, problem = tiny_policy("mistral", batch_tokens=400), PROBLEMS[0]
    layers = policy.model.model.layers.parameters()
    body = 2 * sum(p.numel() for p in layers if p.dim() > 1)
    head = 2 * policy.model.lm_head.weight.numel()
    prompt, meter = len(TOKENIZER(problem.question + "\n").input_ids), Meter()
    (one,) = policy.sample([Prefix(problem)], [0], meters=[meter])
    n = len(one.ids)
    fed = prompt + n - 1
    attention = sum(2 * 4 * 4 * 8 * min(i, 24) for i in range(1, fed + 1))  # layers, heads, size
    assert (meter.samples, meter.generated, meter.prefilled, meter.cached) == (1, n, prompt, 0)
    assert meter.flops == fed * body + n * head + attention


def test_rows_of_one_context_share_its_cost_and_the_first_pays():
    policy = tiny_policy(batch_tokens=10_000)
    meters = [Meter() for _ in range(5)]
    out = policy.sample([Prefix(PROBLEMS[0])] * 5, range(5), meters=meters)
    prompt = len(TOKENIZER(PROBLEMS[0].question + "\n").input_ids)
    cost = Flops(policy.model).cost
    for i, (prefix, meter) in enumerate(zip(out, meters)):
        fed = len(prefix.ids) - 1
        assert meter.prefilled == (0 if i else prompt)
        assert meter.flops == cost(prompt, prompt + fed, fed) + (0 if i else cost(0, prompt, 1))


def test_what_batches_read_anew_is_paid_for():
    policy = tiny_policy(batch_tokens=400)
    meters = {p.id: Meter() for p in PROBLEMS}
    rows = prefixes(5)
    out = policy.sample(rows, range(30), meters=[meters[r.problem.id] for r in rows])
    for problem in PROBLEMS:
        drawn = sum(len(p.ids) for p in out if p.problem.id == problem.id)
        prompt, meter = len(TOKENIZER(problem.question + "\n").input_ids), meters[problem.id]
        assert (meter.samples, meter.generated) == (5, drawn)
        assert meter.prefilled + meter.cached >= prompt and (meter.prefilled - prompt) <= 4


def test_reading_is_paid_by_the_tokens_read_and_the_logits_wanted():
    engine = Engine(tiny_model(), batch_tokens=1024, cache_tokens=1024)
    cost = Flops(engine.model).cost
    short, long = Context([[5] * 6]), Context([[5] * 6, [6] * 9])
    rows = [Row(short, 0, 0, Meter()), Row(long, 0, 0, Meter(), (8, 12, 15))]
    engine.read(rows)
    assert rows[1].meter.flops == cost(0, 15, 3)
    assert rows[0].meter.flops == cost(5, 6, 1)  # the longer one has left all but the last token


def test_one_context_may_be_read_at_different_places_in_one_call():
    engine = Engine(tiny_model(dtype=torch.float64), batch_tokens=1024, cache_tokens=1024)
    ids = [5, 6, 7, 8, 9]
    wanted = [(5,), (2, 4), (4, 2)]
    rows = [Row(Context([ids]), 0, 0, Meter(), where) for where in wanted]
    expected = engine.model(torch.tensor([ids])).logits[0].detach()
    for found, where in zip(engine.read(rows), wanted):
        assert torch.allclose(found, expected[[n - 1 for n in where]])


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


# -- adapters --------------------------------------------------------------------------------------


def adapted_policy():
    """Two adapters on a tiny model, with weights that matter."""
    policy = tiny_policy(dtype=torch.float64)
    model = get_peft_model(policy.model, LoraConfig(r=2, init_lora_weights=False))
    model.add_adapter("other", LoraConfig(r=2, init_lora_weights=False))
    return HFPolicy(model.eval(), TOKENIZER, max_tokens=40), model


def strengthen(model):
    for layer in model.modules():
        if hasattr(layer, "set_scale"):
            layer.set_scale("default", 3.0)


SWITCHES = {
    "disabled": lambda model: model.base_model.disable_adapter_layers(),
    "another": lambda model: model.set_adapter("other"),
    "both": lambda model: model.base_model.set_adapter(["default", "other"]),
    "stronger": strengthen,
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_other_adapters_in_use_empty_the_cache(switch):
    policy, model = adapted_policy()
    context = Context([[5, 6, 7, 8], [9, 10]])
    before = policy.sample(prefixes(), range(6), until="step", temperature=0)
    (read,) = policy.engine.read([Row(context, 0, 0, Meter())])
    SWITCHES[switch](model)
    (other,) = policy.engine.read([Row(context, 0, 0, Meter())])
    assert not torch.allclose(read, other)
    assert torch.allclose(other[0], model(torch.tensor([context.ids])).logits[0, -1])
    fresh = HFPolicy(model, TOKENIZER, max_tokens=40)
    going_on = [p for p in before if not p.ended]
    keys = range(len(going_on))
    assert [p.ids for p in policy.sample(going_on, keys, temperature=0)] == [
        p.ids for p in fresh.sample(going_on, keys, temperature=0)
    ]


def test_inside_and_outside_of_disable_adapter_is_like_a_fresh_engine():
    policy, model = adapted_policy()

    def equals_a_fresh_one():
        fresh = HFPolicy(model, TOKENIZER, max_tokens=40)
        both = [
            p.sample(prefixes(), range(6), until="step", temperature=0) for p in (policy, fresh)
        ]
        assert [p.logprobs for p in both[0]] == [p.logprobs for p in both[1]]
        return both[0]

    outside = equals_a_fresh_one()
    with model.disable_adapter():
        assert [p.logprobs for p in equals_a_fresh_one()] != [p.logprobs for p in outside]
    assert [p.logprobs for p in equals_a_fresh_one()] == [p.logprobs for p in outside]


# -- any host --------------------------------------------------------------------------------------


def test_rows_that_are_done_may_stand_beside_others_at_the_end_of_the_window():
    """A table of learnt positions has no entry for what a finished row would read next."""
    policy = tiny_policy("gpt2", dtype=torch.float64, batch_tokens=10_000)
    window = policy.engine.window
    contexts = [Context([[5 + i] * n]) for i, n in enumerate([window - 6] + [window - 36] * 15)]
    rows = [Row(c, window - len(c.ids), 0, Meter()) for c in contexts]
    stops = Stops(np.zeros(len(TOKENIZER), bool))
    policy.engine.run(rows, stops=stops, temperature=0, keep=False)
    for row in (rows[0], rows[1]):
        ids = torch.tensor([row.context.ids])
        whole = policy.model.generate(ids, max_length=window, do_sample=False, eos_token_id=None)
        assert row.ids == whole[0, ids.shape[1] :].tolist()
