from datetime import UTC, datetime, timedelta

import pytest
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, PackOrder, Stock

from mesh import Agent, Context, ContractError, Reject, UsageError
from mesh.testing import Harness

agent = Agent("clerk")


async def ask(order: str) -> int:
    raise AssertionError("a scripted step is not called")


@agent.on(emits=[OrderRefused])
async def handle(event: OrderPlaced, ctx: Context[str]) -> OrderAccepted:
    if not event.quantity:
        raise Reject("nothing ordered")
    stock = await ctx.state.get_or_new(Stock, "shelf")
    stock.reserved += event.quantity
    await ctx.state.put(stock)
    price = await ctx.step("price", ask, event.order_id)
    await ctx.decide("discount", f"{price}%", because=ctx.resources)
    ctx.emit(OrderRefused(order_id=event.order_id, reason="too late"), delay=timedelta(hours=1))
    return OrderAccepted(order_id=event.order_id, quantity=stock.reserved)


@pytest.fixture
def harness():
    return Harness(agent, state=[Stock(shelf_id="shelf", reserved=10)], steps={"price": 15}, resources="told to")


async def test_a_handling_gives_everything_that_it_committed(harness):
    result = await harness.handle(OrderPlaced(order_id="7", quantity=2))

    assert result.emitted == [OrderAccepted(order_id="7", quantity=12)]
    assert result.emitted_of(OrderAccepted) == result.emitted
    assert result.emitted_of(OrderRefused) == []
    ((late, at),) = result.scheduled
    assert late.reason == "too late"
    assert at > datetime.now(UTC) + timedelta(minutes=59)
    ((decision),) = result.decisions
    assert (decision.choice, decision.because, decision.entity) == ("15%", "told to", "order/7")
    assert result.state == [Stock(shelf_id="shelf", reserved=12)]
    assert result.steps == ["price"]


async def test_state_and_decisions_last_from_one_handling_to_the_next(harness):
    await harness.handle(OrderPlaced(order_id="7", quantity=2))
    second = await harness.handle(OrderPlaced(order_id="7", quantity=3))

    assert harness.state(Stock, "shelf") == Stock(shelf_id="shelf", reserved=15)
    assert second.decisions[0].overrides
    assert harness.state(Stock, "another") is None


async def test_the_same_id_handled_twice_changes_nothing_the_second_time(harness):
    await harness.handle(OrderPlaced(order_id="7", quantity=2), id="once")
    again = await harness.handle(OrderPlaced(order_id="7", quantity=2), id="once")

    assert (again.emitted, again.state, again.decisions) == ([], [], [])
    assert harness.state(Stock, "shelf") == Stock(shelf_id="shelf", reserved=12)


async def test_the_exception_of_a_handler_reaches_the_test(harness):
    with pytest.raises(Reject, match="nothing ordered"):
        await harness.handle(OrderPlaced(order_id="7"))


async def test_what_the_agent_does_not_handle_is_refused(harness):
    with pytest.raises(UsageError, match=r"clerk has no handler for shop\.v1\.PackOrder"):
        await harness.handle(PackOrder(order_id="7"))


async def test_an_event_that_violates_its_constraints_is_refused_as_it_would_be_by_the_runtime(harness):
    with pytest.raises(ContractError, match="quantity"):
        await harness.handle(OrderPlaced(order_id="7", quantity=-1))
