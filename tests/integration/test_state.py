import asyncio

import pytest
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, Stock
from support import eventually

from mesh import Agent, Context, NotFound, UsageError
from mesh.agent.deliver import Start
from mesh.contract.generated import event_type
from mesh.query.decoder import Decoder
from mesh.query.follow import Follower, Selection
from mesh.query.state import read_state, read_states

agent = Agent("storekeeper")


@agent.on(concurrency=1)
async def keep(event: OrderPlaced, ctx: Context) -> OrderAccepted:
    if event.attachment == b"clear":
        await ctx.state.delete(Stock, event.order_id)
    else:
        await ctx.state.put(Stock(shelf_id=event.order_id, reserved=event.quantity))
    return OrderAccepted(order_id=event.order_id)


async def put(stage, shelf, reserved):
    await _handled(stage, OrderPlaced(order_id=shelf, quantity=reserved))


async def delete(stage, shelf):
    await _handled(stage, OrderPlaced(order_id=shelf, attachment=b"clear"))


async def _handled(stage, event):
    emitted = await stage.mesh.emit(event)
    await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)


def values(records):
    return [(record.key, None if record.deleted else record.message.reserved) for record in records]


async def take(records, number):
    """The next records; each is read before another change may replace it."""
    async with asyncio.timeout(20):
        return [await anext(records) for _ in range(number)]


@pytest.fixture
async def shop(stage):
    async with stage.running(agent):
        yield stage


async def test_the_state_of_an_entity_is_read_from_outside_an_agent(shop):
    assert await shop.mesh.get_state(Stock, "7") is None

    await put(shop, "7", 0)
    assert await shop.mesh.get_state(Stock, 7) == Stock(shelf_id="7")

    await delete(shop, "7")
    assert await shop.mesh.get_state(Stock, "7") is None


async def test_watching_shows_the_current_values_then_every_change_and_deletion(shop):
    await put(shop, "old", 1)
    await put(shop, "old", 2)
    await put(shop, "gone", 1)
    await delete(shop, "gone")
    # The deletion itself is kept for a second, so that those who watch learn of it.
    await eventually(lambda: _forgotten(shop, "gone"))
    changes = shop.mesh.watch_state(Stock)

    assert values(await take(changes, 1)) == [("old", 2)]
    await put(shop, "new", 3)
    assert values(await take(changes, 1)) == [("new", 3)]
    await put(shop, "old", 4)
    assert values(await take(changes, 1)) == [("old", 4)]
    await delete(shop, "old")
    (deletion,) = await take(changes, 1)
    assert (deletion.key, deletion.deleted, deletion.message, deletion.type) == ("old", True, None, "shop.v1.Stock")


async def _forgotten(stage, shelf):
    return f"state.stock.{shelf}" not in await stage.subjects("shop", "state.>")


async def test_watching_keeps_to_one_key_and_to_a_start(shop):
    for shelf in ("a", "b"):
        await put(shop, shelf, 1)

    (first,) = await take(shop.mesh.watch_state(Stock, key="b"), 1)
    assert first.key == "b"

    changes = asyncio.create_task(take(shop.mesh.watch_state(Stock, since="new"), 1))
    await eventually(lambda: _watched(shop))
    await put(shop, "a", 2)
    assert values(await changes) == [("a", 2)]


async def _watched(stage):
    return (await stage.api.call(f"STREAM.INFO.{stage.names.stream('shop')}"))["state"]["consumer_count"] > 1


async def test_events_are_no_state_and_state_is_no_event(stage):
    with pytest.raises(UsageError, match=r"OrderPlaced is an event, not a state: use mesh\.emit or mesh\.watch"):
        await stage.mesh.get_state(OrderPlaced, "7")
    with pytest.raises(UsageError, match="OrderPlaced is an event, not a state"):
        await take(stage.mesh.watch_state(OrderPlaced), 1)
    with pytest.raises(UsageError, match=r"Stock is a state, not an event or a command: .* mesh\.watch_state"):
        await take(stage.mesh.watch(Stock), 1)
    with pytest.raises(UsageError, match="Stock is a state"):
        await stage.mesh.wait_for(Stock, key="7")


async def test_states_are_listed_without_their_generated_code_and_without_the_deleted_ones(shop):
    await put(shop, "a", 1)
    await put(shop, "b/ä", 2)
    await put(shop, "c", 3)
    await delete(shop, "c")
    connection, names, decoder = shop.mesh.connection, shop.names, Decoder(shop.mesh.connection, shop.names)

    listed = [r async for r in read_states(connection, names, decoder, Selection(states=True))]

    assert [(r.type, r.key, r.data()["reserved"]) for r in listed] == [
        ("shop.v1.Stock", "a", "1"),
        ("shop.v1.Stock", "b/ä", "2"),
    ]
    one = await read_state(connection, names, decoder.contract(listed[0]), "b/ä")
    assert (one.seq, one.data()) == (listed[1].seq, {"shelf_id": "b/ä", "reserved": "2"})
    with pytest.raises(NotFound, match=r"there is no shop\.stock of shelf/c: see mesh state ls shop\.stock"):
        await read_state(connection, names, decoder.contract(listed[0]), "c")
    with pytest.raises(NotFound, match="there is no domain crm: name one of shop"):
        await anext(read_states(connection, names, decoder, Selection(domain="crm", states=True)))


async def test_following_all_states_leaves_out_what_is_no_state(shop):
    await put(shop, "a", 1)
    follower = Follower(shop.mesh.connection, shop.names, Selection(type=event_type(Stock), states=True), Start("all"))
    every = Follower(shop.mesh.connection, shop.names, Selection(key="a", states=True), Start("all"))

    async with follower.open() as typed, every.open() as keyed:
        assert values(await take(typed, 1) + await take(keyed, 1)) == [("a", 1), ("a", 1)]
        await put(shop, "b", 2)
        await delete(shop, "a")

        assert values(await take(typed, 2)) == [("b", 2), ("a", None)]
        assert values(await take(keyed, 1)) == [("a", None)]
