import asyncio
import os
import signal

import pytest
from proxy import Proxy
from shop.v1.events_pb2 import OrderPlaced, Stock
from support import Stage, eventually

from mesh import Unreachable


async def place(stage, number):
    for n in range(number):
        await stage.mesh.emit(OrderPlaced(order_id=str(n), quantity=n % 10), id=str(n))
        await asyncio.sleep(0.003)


async def check(stage, number):
    answered = await stage.subjects("shop", "evt.order_accepted.>")
    stocks = [Stock.FromString(stored.data) for stored in await stage.messages("shop", "state.>")]
    assert set(answered.values()) == {1}
    assert len(answered) == number
    assert {stock.shelf_id: stock.reserved for stock in stocks} == {str(n): number // 10 for n in range(10)}
    assert not await stage.dead_letters("shop")


@pytest.mark.timeout(120)
async def test_answers_of_the_server_that_get_lost_make_nothing_happen_twice(processes, mesh_server, mesh_namespace):
    async with Stage(mesh_server, mesh_namespace).open() as stage, Proxy(mesh_server.port) as proxy:
        with processes(stage, "orders:storekeeper", {"MESH_NATS__URL": proxy.url}) as process:
            await process.ready()
            placing = asyncio.create_task(place(stage, 600))
            for _ in range(8):
                await asyncio.sleep(0.2)
                await proxy.swallow_answers(0.1)
            await placing
            await eventually(lambda: stage.settled("shop", "storekeeper"), within=60)
        await check(stage, 600)


@pytest.mark.timeout(120)
async def test_a_process_that_was_paused_past_its_ack_wait_repeats_nothing_when_it_goes_on(stage, processes):
    with processes(stage, "orders:storekeeper") as zombie:
        await zombie.ready()
        placing = asyncio.create_task(place(stage, 300))
        await eventually(lambda: _some(stage, 50))
        os.kill(zombie.process.pid, signal.SIGSTOP)
        with processes(stage, "orders:storekeeper") as other:
            await other.ready()
            await placing
            await eventually(lambda: stage.settled("shop", "storekeeper"), within=60)
            os.kill(zombie.process.pid, signal.SIGCONT)
            zombie.terminate()
            assert await zombie.exit_code() == 0
            await eventually(lambda: stage.settled("shop", "storekeeper"), within=60)
    await check(stage, 300)


async def _some(stage, number):
    try:
        return len(await stage.subjects("shop", "evt.order_accepted.>")) >= number
    except Unreachable:
        return False
