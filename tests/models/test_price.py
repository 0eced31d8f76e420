"""Prices of real models: never less than what is then computed, and rooms are kept to the token."""

from tiny import TOKENIZER, tiny_model, tiny_policy

from workbench.models.policy import HFPolicy
from workbench.models.verifier import StepVerifier, untrained
from workbench.problems import quantities
from workbench.types import Meter, Prefix

PROBLEMS = [p.blind() for p in quantities.generate(6, levels=range(1, 6), seed=4)]


def read_by(policy, prefixes, n=3):
    """What a call names as its price, what it then reads, and the rows."""
    rows = [p for p in prefixes for _ in range(n)]
    price, meters = policy.price(rows), [Meter() for _ in rows]
    out = policy.sample(rows, range(len(rows)), until="step", meters=meters)
    return price, sum(m.prefilled for m in meters), out


def test_a_policy_reads_no_more_than_its_price():
    policy = tiny_policy(separator="a")  # short steps: many a token of a tiny model holds one
    cold, read, out = read_by(policy, [Prefix(p) for p in PROBLEMS])
    prompts = sum(len(policy.prompt_ids(p)) for p in PROBLEMS)
    assert prompts <= read <= cold <= 1.1 * prompts + len(PROBLEMS)
    for _ in range(2):  # the prompts are in the cache now, and what was written
        going_on = [p for p in out if not p.ended][::3]
        price, read, out = read_by(policy, going_on)
        assert 0 < read <= price <= 3 * len(going_on)
    mixed = [Prefix.of(PROBLEMS[0], ["1 + 1 = 2 .", "2 + 2 = 4 ."]), *going_on]
    price, read, _ = read_by(policy, mixed)
    assert read <= price


def test_a_policy_keeps_to_the_room():
    policy, start = tiny_policy(), Prefix(PROBLEMS[0])
    rooms = [1, 2, 5, 9, 500]
    free = policy.sample([start] * 5, range(5))
    out = policy.sample([start] * 5, range(5), room=rooms)
    for room, p, whole in zip(rooms, out, free):
        assert p.ids == whole.ids[:room]
        assert p.stop == (whole.stop if len(whole.ids) <= room else "length")


def test_words_count_in_the_price():
    policy = HFPolicy(tiny_model(), TOKENIZER, templates={"ask": "{question}\n{said}\n"})
    short, long = (
        policy.price([Prefix(PROBLEMS[0])], prompt="ask", words=[{"said": "the answer " * n}])
        for n in (1, 10)
    )
    assert long >= short + 18


def verified_by(verifier, prefixes):
    price, meters = verifier.price(prefixes), [Meter() for _ in prefixes]
    verifier.score(prefixes, meters=meters)
    return price, sum(m.verifier for m in meters)


def test_a_verifier_computes_no_more_than_its_price():
    texts = [line for p in PROBLEMS for line in ("1 + 2 = 3 .", f"The answer is {len(p.id)} .")]
    verifiers = [
        StepVerifier(tiny_model(), TOKENIZER),
        StepVerifier(tiny_model(), TOKENIZER, per="solution"),
        untrained(tiny_policy()),
    ]
    for verifier in verifiers:
        for t in range(1, 5):  # solutions that grow, two of each problem, one of them twice
            grown = [Prefix.of(p, texts[k : k + t]) for p in PROBLEMS for k in (0, 3, 3)]
            price, paid = verified_by(verifier, grown)
            distinct = 2 * len(PROBLEMS)
            assert 0 < paid <= price
            if t > 1:  # the step alone, not the solution again
                assert price <= 1.1 * 16 * distinct
        assert verified_by(verifier, grown) == (0, 0)
        starts = [Prefix(p) for p in PROBLEMS]  # known as beginnings of what was read
        assert verifier.price(starts) <= len(starts)
