import asyncio

import pytest
from proxy import Proxy
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, PackOrder, Stock
from support import eventually

from mesh import ContractError, Mesh, NotFound, Settings, Unreachable, UsageError
from mesh.jetstream.api import Api
from mesh.jetstream.server import LocalServer
from mesh.settings import NatsSettings


@pytest.fixture
def server(tmp_path):
    with LocalServer(store_dir=tmp_path) as server:
        yield server


def settings(server, **changes):
    return Settings(nats=NatsSettings(url=server.url, request_timeout=0.3), health_port=0, **changes)


async def test_a_publish_that_is_not_acknowledged_is_raised_and_not_swallowed(server):
    async with Mesh.connect(settings(server)) as mesh:
        await mesh.emit(OrderPlaced(order_id="1"))
        server.kill()

        with pytest.raises(Unreachable, match="was not acknowledged") as caught:
            await mesh.emit(OrderPlaced(order_id="2"))

        assert caught.value.object.endswith(".order_placed.2")


async def test_a_publish_is_tried_again_with_the_same_id_while_the_server_restarts(server):
    async with Mesh.connect(settings(server)) as mesh:
        await mesh.emit(OrderPlaced(order_id="0"))
        server.kill()
        emitting = [asyncio.create_task(mesh.emit(OrderPlaced(order_id="1"), id=str(n))) for n in range(20)]
        await asyncio.sleep(0.1)
        server.start()
        emitted = await asyncio.gather(*emitting)
        info = await Api(mesh.connection).call("STREAM.INFO.MESH_SHOP")

    assert len({e.seq for e in emitted}) == 20
    assert info["state"]["messages"] == 21


async def test_a_wrong_message_is_refused_before_it_is_sent(mesh):
    with pytest.raises(ContractError, match="quantity must be greater than or equal to 0"):
        await mesh.emit(OrderPlaced(order_id="1", quantity=-1))
    with pytest.raises(ContractError, match=r"shop\.v1\.OrderPlaced\.order_id is empty"):
        await mesh.emit(OrderPlaced())
    with pytest.raises(UsageError, match=r"is a command, not an event: use mesh\.send"):
        await mesh.emit(PackOrder(order_id="1"))
    with pytest.raises(UsageError, match="state is written by agents"):
        await mesh.emit(Stock(shelf_id="1"))
    with pytest.raises(UsageError, match="1 to 512 characters"):
        await mesh.emit(OrderPlaced(order_id="1"), id="")


async def test_without_provisioning_a_domain_that_has_no_stream_is_named(server):
    async with Mesh.connect(settings(server, auto_provision=False)) as mesh:
        with pytest.raises(NotFound, match="domain shop has no stream: provision it with `mesh apply`"):
            await mesh.emit(OrderPlaced(order_id="1"))


async def test_watching_follows_one_type_from_now_on(mesh):
    await mesh.emit(OrderPlaced(order_id="before"))
    seen = []
    watching = asyncio.create_task(_collect(mesh.watch(OrderPlaced), seen, 2))
    await _until_watched(mesh)
    await mesh.emit(OrderAccepted(order_id="another type"))
    for order in ("a", "b"):
        await mesh.emit(OrderPlaced(order_id=order))
    await watching

    assert [record.message.order_id for record in seen] == ["a", "b"]
    assert (seen[0].type, seen[0].key, seen[0].agent) == ("shop.v1.OrderPlaced", "a", "")


async def _collect(records, into, number):
    async for record in records:
        into.append(record)
        if len(into) == number:
            return


async def _until_watched(mesh):
    api, stream = Api(mesh.connection), mesh.namespace.stream("shop")

    async def consumers():
        return (await api.call(f"STREAM.INFO.{stream}"))["state"]["consumer_count"]

    await eventually(consumers)


async def test_watching_can_start_in_the_past_and_keep_to_one_key(mesh):
    for order in ("a", "b", "a"):
        await mesh.emit(OrderPlaced(order_id=order))
    seen = []
    await _collect(mesh.watch(OrderPlaced, key="a", since="all"), seen, 2)

    assert [record.seq for record in seen] == [1, 3]


async def test_watching_goes_on_when_the_server_comes_back_and_misses_nothing(server):
    async with Mesh.connect(settings(server)) as mesh:
        seen = []
        await mesh.emit(OrderPlaced(order_id="0"))
        watching = asyncio.create_task(_collect(mesh.watch(OrderPlaced, since="all"), seen, 3))
        await eventually(lambda: seen)
        server.kill()
        server.start()
        await eventually(lambda: mesh.connection.is_connected)
        for order in ("1", "2"):
            await mesh.emit(OrderPlaced(order_id=order))
        async with asyncio.timeout(40):
            await watching

    assert [record.key for record in seen] == ["0", "1", "2"]


async def test_waiting_for_what_does_not_come_says_what_was_waited_for(mesh):
    with pytest.raises(NotFound, match=r"no shop\.v1\.OrderPlaced of correlation nobody within 0\.2 s"):
        await mesh.wait_for(OrderPlaced, correlation_id="nobody", timeout=0.2)


async def test_watching_misses_nothing_when_messages_get_lost_with_the_connection(mesh, mesh_server, mesh_settings):
    orders = [str(n) for n in range(300)]
    seen = []
    async with Proxy(mesh_server.port) as proxy:
        line = mesh_settings.nats.model_copy(update={"url": proxy.url})
        async with Mesh.connect(mesh_settings.model_copy(update={"nats": line})) as watcher:
            watching = asyncio.create_task(_collect(watcher.watch(OrderPlaced, since="all"), seen, len(orders)))
            breaks = []
            for number, order in enumerate(orders):
                if number in (100, 200, 298):
                    breaks.append(asyncio.create_task(proxy.swallow_answers(0.05)))
                    await asyncio.sleep(0)
                await mesh.emit(OrderPlaced(order_id=order))
            await asyncio.gather(*breaks)
            async with asyncio.timeout(30):
                await watching

    assert [record.key for record in seen] == orders
