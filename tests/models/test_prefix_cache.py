"""The cache of key-values against a plain dictionary, under bounds so small that it must forget."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from workbench.models.prefix_cache import Context, Entry, PrefixCache


def entry_of(context: Context, length: int) -> Entry:
    """Key-values that tell which tokens they stand for: the tokens themselves."""
    kv = torch.tensor(context.ids[:length]).view(1, length, 1)
    return Entry([(kv, kv)], length)


def test_cache_is_bounded_and_forgets_the_least_recently_used():
    cache = PrefixCache(max_tokens=10)
    a, b, c = Context([[1, 2, 3], [4]]), Context([[5, 6, 7, 8]]), Context([[9, 9, 9, 9]])
    cache.put(a, entry_of(a, 4))
    cache.put(b, entry_of(b, 4))
    assert cache.get(Context([[1, 2, 3], [8, 8]]), 5)[1] == 3  # found by its first segment
    assert cache.get(Context([[1, 2, 3], [8, 8]]), 2)[1] == 2  # the token after them is wanted
    cache.put(c, entry_of(c, 4))
    assert cache.tokens == 8 and cache.get(b, 9) == (None, 0)
    assert cache.get(a, 9)[1] == cache.get(c, 9)[1] == 4
    long = Context([list(range(11))])
    cache.put(long, entry_of(long, 11))  # larger than the whole cache: not kept
    assert cache.tokens == 8


def test_an_entry_goes_when_a_longer_one_takes_over_all_its_borders():
    """Its names have moved: dropping it later, it would take the newer entry's along, or fail."""
    cache = PrefixCache(max_tokens=10)
    context = Context([[1, 2], [3, 4]])
    cache.put(context.cut(1), entry_of(context, 1))  # all but the last
    cache.put(context, entry_of(context, 4))
    assert cache.tokens == 4
    for i in range(5, 9):
        cache.put(Context([[i] * 4]), entry_of(Context([[i] * 4]), 4))
        assert cache.tokens == 8


def test_a_name_that_moved_to_an_entry_dropped_first_is_no_error():
    cache = PrefixCache(max_tokens=7)
    context = Context([[1], [2, 3]])
    cache.put(context, entry_of(context, 2))  # all but the last, under both borders
    cache.put(context, entry_of(context, 3))  # takes over the second border
    cache.get(context.cut(1), 1)  # the first entry is the one used last
    for other in (Context([[8] * 4]), Context([[9] * 6])):
        cache.put(other, entry_of(other, len(other.ids)))
    assert cache.tokens <= 7


TOKENS = st.lists(st.integers(0, 1), max_size=3)
CONTEXTS = st.lists(TOKENS, min_size=1, max_size=4).map(Context).filter(lambda c: len(c.ids) > 0)


class AgainstADictionary(RuleBasedStateMachine):
    """Whatever is found is true; as long as nothing had to go, it is all that was put."""

    @initialize(bound=st.integers(0, 24))
    def begin(self, bound):
        self.cache = PrefixCache(bound)
        self.empty()

    @rule()
    def empty(self):
        self.cache.clear()
        self.put_in: dict[bytes, int] = {}  # how many tokens are known up to a border, at most
        self.total = 0

    @rule(context=CONTEXTS, all_but_last=st.booleans())
    def put(self, context, all_but_last):
        length = len(context.ids) - all_but_last
        self.cache.put(context, entry_of(context, length))
        self.total += length
        for name, border in zip(context.names, context.borders):
            self.put_in[name] = max(self.put_in.get(name, 0), min(border, length))

    @rule(context=CONTEXTS, at_most=st.integers(0, 12))
    def get(self, context, at_most):
        entry, found = self.cache.get(context, at_most)
        ids = entry.layers[0][0].flatten().tolist() if entry else []
        assert found <= min(at_most, len(ids)) and ids[:found] == context.ids[:found]
        places = zip(reversed(context.names), reversed(context.borders))
        known = next((min(b, self.put_in[n]) for n, b in places if n in self.put_in), 0)
        if self.total <= self.cache.max_tokens:
            assert found == min(known, at_most)

    @rule(context=CONTEXTS)
    def holds(self, context):
        length = len(context.ids)
        assert self.cache.holds(context) <= (self.cache.get(context, length)[1] >= length - 1)
        if self.total <= self.cache.max_tokens and context.names[-1] in self.put_in:
            assert self.cache.holds(context)

    @invariant()
    def within_bounds_and_without_dead_entries(self):
        if hasattr(self, "cache"):
            live = {id(entry): entry for entry, _ in self.cache._found.values()}
            assert set(live) == set(self.cache._order)
            assert self.cache.tokens == sum(entry.length for entry in live.values())
            assert self.cache.tokens <= self.cache.max_tokens


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
