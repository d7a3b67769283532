from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop.v1.events_pb2 import OrderPlaced, PackOrder

from mesh import Agent, Context, UsageError
from mesh.agent.deliver import Start, parse_deliver, parse_since


async def handle(event: OrderPlaced, ctx: Context) -> None: ...


def test_the_decorated_function_is_returned_unchanged(agent):
    assert agent.on(handle) is handle
    assert Agent("other").on(concurrency=1)(handle) is handle
    assert Agent("third").on(OrderPlaced)(handle) is handle


def test_an_agent_handles_an_event_once(agent):
    agent.on(handle)

    with pytest.raises(UsageError, match=r"agent seller has two handlers for shop\.v1\.OrderPlaced") as refused:
        agent.on(handle)

    assert (refused.value.code, refused.value.object) == ("handler_twice", "seller")
    assert len(agent.handlers) == 1


def test_handlers_keep_the_order_of_their_declaration(agent):
    agent.on(PackOrder)(handle)
    agent.on(OrderPlaced)(handle)

    assert [handler.event.name for handler in agent.handlers] == ["pack_order", "order_placed"]
    assert repr(agent) == "Agent('seller', handles=['shop.pack_order', 'shop.order_placed'])"


@given(st.from_regex(r"[a-z]([a-z0-9]|-(?!-)){0,40}", fullmatch=True))
def test_a_name_of_letters_digits_and_single_dashes_is_legal(name):
    assert Agent(name).name == name


@pytest.mark.parametrize("name", ["", "Seller", "1st", "-a", "a--b", "a_b", "a.b", "a b", "a\n", "é", "a" * 42])
def test_a_name_that_fits_no_durable_is_refused(name):
    with pytest.raises(UsageError, match="is not legal: use a lower-case letter") as refused:
        Agent(name)

    assert (refused.value.code, refused.value.object) == ("bad_agent_name", name)


@pytest.mark.parametrize(
    ("deliver", "start"),
    [
        ("all", Start("all")),
        ("new", Start("new")),
        ("since:2026-11-01T00:00:00Z", Start("by_start_time", datetime(2026, 11, 1, tzinfo=UTC))),
        ("since:2026-11-01T01:00:00+01:00", Start("by_start_time", datetime(2026, 11, 1, tzinfo=UTC))),
        (datetime(2026, 11, 1, tzinfo=UTC), Start("by_start_time", datetime(2026, 11, 1, tzinfo=UTC))),
    ],
)
def test_an_agent_says_where_it_starts_to_read(deliver, start):
    assert Agent("seller", deliver=deliver).start == start


@pytest.mark.parametrize(
    ("deliver", "age"),
    [
        (timedelta(hours=3), timedelta(hours=3)),
        ("since:90s", timedelta(seconds=90)),
        ("since:15m", timedelta(minutes=15)),
        ("since:24h", timedelta(days=1)),
        ("since:7d", timedelta(days=7)),
    ],
)
def test_a_start_may_be_an_age(deliver, age):
    before = datetime.now(UTC)
    start = parse_deliver(deliver)

    assert start.policy == "by_start_time"
    assert before <= start.time + age <= datetime.now(UTC)


@pytest.mark.parametrize(
    "deliver",
    [
        "", "old", "since", "since:", "since:soon", "since:1w", "since:-1h", "since:2026-13-01", "since:99999999999d",
        7, None,
    ],
)  # fmt: skip
def test_a_start_that_is_none_is_refused(deliver):
    with pytest.raises(UsageError, match="24h"):
        parse_deliver(deliver)


@given(st.text())
def test_any_text_is_a_time_or_refused(text):
    with suppress(UsageError):
        assert parse_since(text).tzinfo is UTC
