import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, PackOrder
from support import eventually

from mesh import Agent, Context
from mesh.jetstream.provision import Provisioner
from mesh.jetstream.topology import topology


def recorder(name="clerk", *, deliver="all", **options):
    """An agent that notes the orders it saw."""
    agent = Agent(name, deliver=deliver)
    seen = []

    @agent.on(**options)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        await asyncio.sleep(0.005)
        seen.append(event.order_id)
        return OrderAccepted(order_id=event.order_id)

    return agent, seen


async def place(stage, *numbers):
    await asyncio.gather(*(stage.mesh.emit(OrderPlaced(order_id=str(n))) for n in numbers))


async def test_two_replicas_share_the_work(stage):
    left, by_left = recorder(concurrency=4)
    right, by_right = recorder(concurrency=4)

    async with stage.running(left), stage.running(right):
        await place(stage, *range(200))
        await eventually(lambda: stage.settled("shop", "clerk"))

    assert sorted(by_left + by_right) == sorted(str(n) for n in range(200))
    assert by_left
    assert by_right


async def test_two_agents_both_see_every_event(stage):
    clerk, by_clerk = recorder("clerk")
    auditor, by_auditor = recorder("auditor")

    async with stage.running(clerk, auditor):
        await place(stage, *range(50))
        await eventually(lambda: stage.settled("shop", "clerk"))
        await eventually(lambda: stage.settled("shop", "auditor"))

    assert sorted(by_clerk) == sorted(by_auditor) == sorted(str(n) for n in range(50))


async def test_an_agent_that_comes_later_receives_the_past(stage):
    await place(stage, *range(20))
    late, seen = recorder("late", deliver="all")

    async with stage.running(late):
        await eventually(lambda: len(seen) == 20)


async def test_an_agent_that_asks_for_new_events_receives_no_past(stage):
    await place(stage, *range(20))
    late, seen = recorder("late", deliver="new")

    async with stage.running(late):
        await place(stage, "fresh")
        await eventually(lambda: stage.settled("shop", "late"))

    assert seen == ["fresh"]


@pytest.mark.parametrize("form", ["datetime", "timedelta", "text"])
async def test_an_agent_that_asks_for_events_since_a_time_receives_those(stage, form):
    await place(stage, *range(5))
    await asyncio.sleep(1.1)  # the server keeps times; this is what lies between the two
    moment = datetime.now(UTC)
    await place(stage, "a", "b")
    since = {
        "datetime": moment,
        "timedelta": datetime.now(UTC) - moment + timedelta(milliseconds=500),
        "text": f"since:{moment.isoformat()}",
    }[form]
    late, seen = recorder("late", deliver=since)

    async with stage.running(late):
        await eventually(lambda: stage.settled("shop", "late"))

    assert sorted(seen) == ["a", "b"]


async def test_a_failed_agent_replays_what_it_missed(stage):
    agent, seen = recorder()
    async with stage.running(agent):
        await place(stage, "before")
        await eventually(lambda: seen == ["before"])
    await place(stage, "meanwhile")
    async with stage.running(agent):
        await eventually(lambda: seen == ["before", "meanwhile"])


async def test_a_handler_with_its_own_start_has_its_own_durable(stage):
    await place(stage, "past")
    agent = Agent("clerk", deliver="all")
    orders, commands = [], []

    @agent.on(deliver="new")
    async def accept(event: OrderPlaced, ctx: Context) -> None:
        orders.append(event.order_id)

    @agent.on
    async def pack(command: PackOrder, ctx: Context) -> None:
        commands.append(command.order_id)

    async with stage.running(agent):
        await place(stage, "fresh")
        await stage.mesh.send(PackOrder(order_id="1"))
        await eventually(lambda: orders == ["fresh"] and commands == ["1"])
        info = await stage.consumer("shop", "clerk--order_placed")

    assert info["config"]["deliver_policy"] == "new"


async def test_a_slow_handler_does_not_hold_up_an_isolated_one(stage):
    agent = Agent("clerk")
    released = asyncio.Event()
    packed = []

    @agent.on(concurrency=2)
    async def accept(event: OrderPlaced, ctx: Context) -> None:
        await released.wait()

    @agent.on(isolated=True)
    async def pack(command: PackOrder, ctx: Context) -> None:
        packed.append(command.order_id)

    async with stage.running(agent):
        await place(stage, *range(100))
        await stage.mesh.send(PackOrder(order_id="1"))
        await eventually(lambda: packed == ["1"])
        released.set()
        await eventually(lambda: stage.settled("shop", "clerk"))


async def test_no_more_events_are_fetched_than_there_are_free_slots(stage):
    agent = Agent("clerk")
    released = asyncio.Event()
    running = []

    @agent.on(concurrency=3)
    async def accept(event: OrderPlaced, ctx: Context) -> None:
        running.append(event.order_id)
        await released.wait()

    async with stage.running(agent):
        await place(stage, *range(10))
        await eventually(lambda: len(running) == 3)
        info = await stage.consumer("shop", "clerk")
        released.set()
        await eventually(lambda: stage.settled("shop", "clerk"))

    assert (info["num_ack_pending"], info["num_pending"]) == (3, 7)
    assert sorted(running) == [str(n) for n in range(10)]


def version_1():
    agent, _ = recorder()
    return agent


def version_2(packed):
    agent = Agent("clerk", version="2")

    @agent.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id)

    @agent.on
    async def refuse(command: PackOrder, ctx: Context) -> OrderRefused:
        packed.append(command.order_id)
        return OrderRefused(order_id=command.order_id)

    return agent


@pytest.mark.timeout(200)
async def test_a_new_version_adds_a_handler_while_the_old_one_still_runs_and_nothing_is_lost(stage):
    packed = []
    async with stage.running(version_1()):
        async with stage.running(version_2(packed)):
            await asyncio.gather(*(stage.mesh.send(PackOrder(order_id=str(n))) for n in range(30)))
            await place(stage, *range(30))
            await eventually(lambda: stage.settled("shop", "clerk"), within=90)
        # Rolled back: only version 1 runs, and what it does not know waits.
        await stage.mesh.send(PackOrder(order_id="while rolled back"))
        await place(stage, "while rolled back")
        await eventually(lambda: _accepted(stage, 31))
    # And forward again.
    async with stage.running(version_2(packed)):
        await eventually(lambda: stage.settled("shop", "clerk"), within=90)

    assert sorted(packed) == sorted([*(str(n) for n in range(30)), "while rolled back"])
    counts = await stage.counts("shop")
    assert (counts["evt.order_accepted"], counts["evt.order_refused"]) == (31, 31)
    assert not await stage.dead_letters("shop")


async def _accepted(stage, number):
    return (await stage.counts("shop")).get("evt.order_accepted") == number


async def test_filters_only_grow_until_they_are_pruned(stage):
    steps = []
    provisioner = Provisioner(stage.api, stage.settings.stream)
    await provisioner.widen(topology(stage.names, stage.settings.stream, [version_2([])]))
    await provisioner.widen(topology(stage.names, stage.settings.stream, [version_1()]))
    assert len((await stage.consumer("shop", "clerk"))["config"]["filter_subjects"]) == 5

    await stage.mesh.send(PackOrder(order_id="1"))
    pruner = Provisioner(stage.api, stage.settings.stream, prune=True)
    for step in await pruner.plan(topology(stage.names, stage.settings.stream, [version_1()])):
        steps += step.changes
        await step.run()

    prefix = stage.names.name
    assert steps == [
        f"no longer reads {prefix}.shop.cmd.pack_order.* (1 pending)",
        f"no longer reads {prefix}.shop.redo.clerk.pack_order.* (0 pending)",
    ]
    assert len((await stage.consumer("shop", "clerk"))["config"]["filter_subjects"]) == 3


async def test_a_drain_finishes_what_runs_and_hands_the_rest_to_others_at_once(stage):
    agent = Agent("clerk")
    started, finished, released = [], [], asyncio.Event()

    @agent.on(concurrency=50)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        started.append(event.order_id)
        await released.wait()
        finished.append(event.order_id)
        return OrderAccepted(order_id=event.order_id)

    other, by_other = recorder()
    async with stage.running(agent) as worker:
        await place(stage, *range(80))
        await eventually(lambda: len(started) == 50)
        worker.stop()
        async with stage.running(other):
            await eventually(lambda: len(by_other) == 30)
            assert not finished
            released.set()
            await eventually(lambda: len(finished) == 50)
            await eventually(lambda: stage.settled("shop", "clerk"))

    assert sorted(finished + by_other) == sorted(str(n) for n in range(80))
    assert (await stage.counts("shop"))["evt.order_accepted"] == 80


async def test_a_handler_that_outlasts_the_grace_period_is_handed_back_without_an_attempt_counted(stage):
    agent = Agent("clerk")
    attempts = []

    @agent.on(max_attempts=1)
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            await asyncio.sleep(60)
        return OrderAccepted(order_id=event.order_id)

    hasty = stage.settings.model_copy(update={"shutdown_grace": 0.2})
    async with stage.running(agent, settings=hasty):
        await place(stage, "7")
        await eventually(lambda: attempts)
    async with stage.running(agent):
        await eventually(lambda: stage.settled("shop", "clerk"))

    assert attempts == [1, 1]
    assert not await stage.dead_letters("shop")
