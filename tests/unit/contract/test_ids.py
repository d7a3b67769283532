import time
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.contract.ids import new_id, output_id

INPUTS = st.tuples(st.text(), st.text(), st.from_regex(r"[a-z][a-z0-9-]{0,40}", fullmatch=True), st.integers(0, 10**6))


def parts(text):
    parsed = UUID(text)
    return str(parsed) == text, parsed.variant, parsed.version


@given(INPUTS)
def test_the_same_handling_gives_the_same_id_which_is_a_uuid8(of):
    assert output_id(*of) == output_id(*of)
    assert parts(output_id(*of)) == (True, RFC_4122, 8)


@given(st.sets(INPUTS, min_size=2))
def test_different_handlings_give_different_ids(inputs):
    assert len({output_id(*of) for of in inputs}) == len(inputs)


def test_a_new_id_is_a_uuid7_and_never_comes_twice():
    ids = [new_id() for _ in range(1000)]

    assert {parts(text) for text in ids} == {(True, RFC_4122, 7)}
    assert len(set(ids)) == 1000


@pytest.mark.parametrize(
    "moments", [[0, 1_000_000], [1_700_000_000_000_000_000, 1_700_000_000_001_000_000, 4_000_000_000_000_000_000]]
)
def test_new_ids_sort_by_the_time_they_were_made(moments, monkeypatch):
    def made_at(moment):
        monkeypatch.setattr(time, "time_ns", lambda: moment)
        return new_id()

    ids = [made_at(moment) for moment in moments]

    assert ids == sorted(ids)
    assert [int(UUID(text)) >> 80 for text in ids] == [moment // 1_000_000 for moment in moments]
