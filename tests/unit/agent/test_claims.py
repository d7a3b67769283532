from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.agent.claims import AlreadyClaimed, ClaimOrderError, Claims
from mesh.errors import Conflict, UsageError


class MemoryStore:
    """Claims by key; those in `taken` belong to somebody else."""

    def __init__(self, *taken):
        self.taken = set(taken)
        self.asked = []

    async def acquire(self, key, ttl):
        self.asked.append(key)
        if key in self.taken:
            raise AlreadyClaimed(key, "rival", datetime.now(UTC) + timedelta(seconds=ttl))
        return len(self.asked)

    async def renew(self, key, sequence, ttl):
        raise Conflict("lost")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
async def test_several_claims_are_taken_in_order_and_none_twice(keys):
    store = MemoryStore()
    claims = Claims(store)

    async with claims.claim(keys, 30, 0):
        pass

    assert store.asked == sorted(set(keys))
    assert [(claim.key, claim.sequence) for claim in claims.held] == [(k, n) for n, k in enumerate(store.asked, 1)]


async def test_a_claim_after_a_later_one_is_refused_before_anything_is_taken():
    store = MemoryStore()
    claims = Claims(store)

    async with claims.claim(["b"], 30, 0):
        with pytest.raises(ClaimOrderError, match="a is claimed after b: claim them together") as refused:
            async with claims.claim(["a"], 30, 0):
                raise AssertionError

    assert (refused.value.code, store.asked) == ("claim_order", ["b"])


async def test_a_claim_of_somebody_else_says_whose_and_for_how_long():
    with pytest.raises(AlreadyClaimed, match="a is claimed by agent rival until") as refused:
        async with Claims(MemoryStore("a")).claim(["a"], 30, 0):
            raise AssertionError

    assert (refused.value.by, refused.value.object) == ("rival", "a")
    assert 0 < refused.value.after <= 30


async def test_a_claim_may_be_waited_for():
    store = MemoryStore("a")
    claims = Claims(store)
    first = store.acquire

    async def acquire(key, ttl):
        try:
            return await first(key, ttl)
        finally:
            store.taken.clear()

    store.acquire = acquire
    async with claims.claim(["a"], 30, 30):
        pass

    assert store.asked == ["a", "a"]


@pytest.mark.parametrize(("keys", "ttl"), [([], 30), (["a"], 0), (["a"], 0.4), (["a"], -1)])
async def test_a_claim_needs_a_key_and_a_second(keys, ttl):
    with pytest.raises(UsageError, match="needs a key and a ttl of at least a second"):
        async with Claims(MemoryStore()).claim(keys, ttl, 0):
            raise AssertionError
