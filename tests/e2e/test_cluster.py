import asyncio

import pytest
from shop.v1.events_pb2 import OrderPlaced, Stock
from support import Stage, eventually

from mesh import Refused, Unreachable
from mesh.jetstream.server_cluster import LocalCluster


async def place(stage, orders):
    for n in range(orders):
        while True:
            try:
                await stage.mesh.emit(OrderPlaced(order_id=str(n), quantity=n % 10), id=str(n))
                break
            except (Refused, Unreachable):
                await asyncio.sleep(0.2)
        await asyncio.sleep(0.005)


async def answered(stage):
    try:
        return len(await stage.subjects("shop", "evt.order_accepted.>"))
    except (Refused, Unreachable):
        return 0


@pytest.mark.timeout(180)
async def test_the_leader_of_three_servers_may_die_under_load_and_the_counts_are_the_same(processes, mesh_namespace):
    orders = 500
    with LocalCluster() as cluster:
        async with Stage(cluster, mesh_namespace, replicas=3).open() as stage:
            with processes(stage, "orders:storekeeper") as process:
                await process.ready()
                placing = asyncio.create_task(place(stage, orders))
                for number in (50, 200):
                    await eventually(lambda number=number: _at_least(stage, number), within=60)
                    leader = await eventually(lambda: _leader(stage, cluster))
                    leader.kill()
                    await asyncio.sleep(1.0)
                    leader.start()
                await placing
                await eventually(lambda: _settled(stage), within=60)
            # The last server to come back may still be electing.
            await eventually(lambda: _leader(stage, cluster))
            counts = await stage.subjects("shop", "evt.order_accepted.>")
            stocks = [Stock.FromString(stored.data) for stored in await stage.messages("shop", "state.>")]
            dead = await stage.dead_letters("shop")

    assert len(counts) == orders
    assert set(counts.values()) == {1}
    assert {stock.shelf_id: stock.reserved for stock in stocks} == {str(n): orders // 10 for n in range(10)}
    assert not dead


async def _at_least(stage, number):
    return await answered(stage) >= number


async def _leader(stage, cluster):
    try:
        info = await stage.api.call(f"STREAM.INFO.{stage.names.stream('shop')}")
    except (Refused, Unreachable):
        return None
    return next((server for server in cluster.servers if server.name == info["cluster"].get("leader")), None)


async def _settled(stage):
    try:
        return await stage.settled("shop", "storekeeper")
    except (Refused, Unreachable):
        return False
