import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused
from support import Stage, eventually

from mesh import Agent, Context
from mesh.jetstream.server import LocalServer


def patient(*, isolated=False, **when):
    agent = Agent("patient")

    @agent.on(isolated=isolated, emits=[OrderRefused])
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        ctx.emit(OrderRefused(order_id=event.order_id, reason="too late"), **when)
        return OrderAccepted(order_id=event.order_id)

    return agent


@pytest.mark.parametrize("isolated", [False, True])
async def test_a_delayed_output_becomes_visible_after_its_delay(stage, isolated):
    async with stage.running(patient(isolated=isolated, delay=1.5)):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)
        assert not await stage.subjects("shop", "evt.order_refused.>")
        late = await stage.mesh.wait_for(OrderRefused, correlation_id=emitted.id)

    (accepted,) = await stage.messages("shop", "evt.order_accepted.7")
    assert late.time - accepted.time > timedelta(seconds=1.4)
    assert (late.agent, late.causation_id, late.message.reason) == ("patient", emitted.id, "too late")
    (stored,) = await stage.messages("shop", "evt.order_refused.7")
    assert stored.headers["Nats-Msg-Id"] == f"order_refused:{late.id}"
    assert not {"Nats-Schedule", "Nats-Scheduler", "mesh-target"} & stored.headers.keys()


async def test_an_output_at_a_time_that_has_passed_becomes_visible_at_once(stage):
    async with stage.running(patient(at=datetime.now(UTC) - timedelta(hours=1))):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderRefused, correlation_id=emitted.id)


async def test_a_delayed_output_may_go_into_another_domain(stage):
    agent = Agent("patient")

    @agent.on(emits=[InvoiceRequested])
    async def handle(event: OrderPlaced, ctx: Context) -> None:
        ctx.emit(InvoiceRequested(invoice_number=7), delay=timedelta(seconds=1))

    async with stage.running(agent):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(InvoiceRequested, correlation_id=emitted.id)


async def test_a_timer_survives_restarts_of_agent_and_server(mesh_namespace, tmp_path):
    with LocalServer(store_dir=tmp_path) as server:
        async with Stage(server, mesh_namespace).open() as stage:
            async with stage.running(patient(delay=2)):
                emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
                await stage.mesh.wait_for(OrderAccepted, correlation_id=emitted.id)
            server.kill()
            server.start()
            await eventually(lambda: stage.mesh.connection.is_connected)
            async with stage.running(patient(delay=2)):
                await stage.mesh.wait_for(OrderRefused, correlation_id=emitted.id)
                await eventually(lambda: stage.settled("shop", "patient"))
            counts = await stage.counts("shop")

    assert counts["evt.order_refused"] == 1


async def test_many_timers_fire_once_each_also_when_the_handling_is_repeated(stage):
    async with stage.running(patient(delay=1)), stage.running(patient(delay=1)):
        await asyncio.gather(*(stage.mesh.emit(OrderPlaced(order_id=str(n))) for n in range(200)))
        await eventually(lambda: _all_refused(stage, 200), within=30)
        await eventually(lambda: stage.settled("shop", "patient"))

    assert set((await stage.subjects("shop", "evt.order_refused.>")).values()) == {1}
    assert not await stage.subjects("shop", "timer.>")


async def _all_refused(stage, number):
    return len(await stage.subjects("shop", "evt.order_refused.>")) == number
