import asyncio

import pytest
from shop.v1.events_pb2 import OrderPlaced
from support import Stage, eventually

from mesh import Refused, Unreachable
from mesh.jetstream.server import LocalServer


async def place(stage, orders, pause=0.0):
    for order in orders:
        await stage.mesh.emit(OrderPlaced(order_id=order), id=order)
        await asyncio.sleep(pause)


async def outputs(stage, kind):
    """How often each order was answered."""
    found = await stage.subjects("shop", f"evt.{kind}.>")
    return {subject.rpartition(".")[2]: count for subject, count in found.items()}


@pytest.mark.timeout(240)
async def test_an_event_that_kills_its_process_is_dead_lettered_and_its_neighbours_are_not_blamed(stage, processes):
    innocent = {f"innocent-{n}" for n in range(31)}
    await place(stage, ["killer", *innocent])

    with processes(stage, "orders:deadly") as process:
        supervisor = asyncio.create_task(process.supervise())
        try:
            await eventually(lambda: stage.dead_letters("shop"), within=180, every=0.2)
            await eventually(lambda: stage.settled("shop", "deadly"), within=180, every=0.2)
        finally:
            supervisor.cancel()

    (letter,) = await stage.dead_letters("shop")
    assert (letter.event_id, letter.code) == ("killer", "killed_process")
    assert "died 3 times while it handled shop.v1.OrderPlaced killer with nothing beside it" in letter.reason
    assert process.starts == 1 + 1 + 3
    assert await outputs(stage, "order_accepted") == dict.fromkeys(innocent, 1)


@pytest.mark.timeout(120)
async def test_five_rolling_restarts_under_load_dead_letter_nothing(stage, processes):
    orders = [str(n) for n in range(1500)]
    placing = asyncio.create_task(place(stage, orders, pause=0.005))

    with processes(stage, "orders:agent") as left, processes(stage, "orders:agent") as right:
        for _ in range(5):
            for process in (left, right):
                await process.ready()
                process.terminate()
                assert await process.exit_code() == 0
                process.start()
        await placing
        await eventually(lambda: stage.settled("shop", "clerk"), within=60)

    assert await outputs(stage, "order_accepted") == dict.fromkeys(orders, 1)
    assert not await stage.dead_letters("shop")


@pytest.mark.timeout(120)
async def test_a_process_that_is_killed_again_and_again_loses_and_repeats_nothing(stage, processes):
    orders = [str(n) for n in range(300)]
    placing = asyncio.create_task(place(stage, orders, pause=0.01))

    with processes(stage, "orders:storekeeper") as process:
        for _ in range(3):
            before = len(await outputs(stage, "order_accepted"))
            await eventually(lambda before=before: _more(stage, before + 20), within=30)
            process.kill()
            process.start()
        await placing
        await eventually(lambda: stage.settled("shop", "storekeeper"), within=60)

    assert await outputs(stage, "order_accepted") == dict.fromkeys(orders, 1)
    assert not await stage.dead_letters("shop")


async def _more(stage, number):
    return len(await outputs(stage, "order_accepted")) >= number


@pytest.mark.timeout(120)
async def test_a_server_that_restarts_under_load_costs_nothing(processes, mesh_namespace, tmp_path):
    orders = [str(n) for n in range(400)]
    with LocalServer(store_dir=tmp_path / "js") as server:
        async with Stage(server, mesh_namespace).open() as stage:

            async def place_for_sure(order):
                while True:
                    try:
                        return await stage.mesh.emit(OrderPlaced(order_id=order), id=order)
                    except Unreachable:
                        await asyncio.sleep(0.2)

            async def place_all():
                for order in orders:
                    await place_for_sure(order)
                    await asyncio.sleep(0.005)

            with processes(stage, "orders:agent"):
                placing = asyncio.create_task(place_all())
                await eventually(lambda: _more_safely(stage, 50))
                server.restart()
                await eventually(lambda: _more_safely(stage, 200), within=30)
                server.kill()
                await asyncio.sleep(1.0)
                server.start()
                await placing
                await eventually(lambda: stage.settled("shop", "clerk"), within=60)
            counts = await outputs(stage, "order_accepted")
            dead = await stage.dead_letters("shop")

    assert counts == dict.fromkeys(orders, 1)
    assert not dead


async def _more_safely(stage, number):
    try:
        return await _more(stage, number)
    except Unreachable:
        return False


async def test_sigterm_lets_running_handlers_finish_and_exits_with_0(stage, processes):
    orders = [f"innocent-{n}" for n in range(32)]
    await place(stage, orders)

    with processes(stage, "orders:deadly") as process:
        await eventually(lambda: _in_flight(stage, "deadly", 32))
        process.terminate()
        assert await process.exit_code() == 0

    assert await outputs(stage, "order_accepted") == dict.fromkeys(orders, 1)
    assert await stage.settled("shop", "deadly")


async def _in_flight(stage, durable, number):
    try:
        return (await stage.consumer("shop", durable))["num_ack_pending"] == number
    except Refused:
        return False
