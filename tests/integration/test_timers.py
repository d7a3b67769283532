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


def expecting(within, key=None):
    agent = Agent("patient")

    @agent.on(emits=[OrderRefused], concurrency=300)
    async def handle(event: OrderPlaced, ctx: Context) -> None:
        ctx.expect(OrderAccepted, within=within, otherwise=OrderRefused(order_id=event.order_id), key=key)

    return agent


async def test_what_is_expected_and_comes_makes_the_alternative_void(stage):
    async with stage.running(expecting(1)):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: stage.subjects("shop", "timer.>"))
        await stage.mesh.emit(OrderAccepted(order_id="7"))
        await eventually(lambda: stage.subjects("shop", "due.>"))
        await eventually(lambda: stage.settled("shop", "patient"))

    assert not await stage.subjects("shop", "evt.order_refused.>")


async def test_what_was_there_before_it_was_expected_is_no_answer(stage):
    await stage.mesh.emit(OrderAccepted(order_id="other"))
    async with stage.running(expecting(0.5, key="other")):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await stage.mesh.wait_for(OrderRefused, key="7")


async def test_answers_at_the_very_instant_of_the_deadline_count_or_do_not_and_never_both(stage):
    """The order in the log decides: an answer before the due message voids the alternative, one after it does not."""
    number = 300
    async with stage.running(expecting(2.0)):
        await asyncio.gather(*(stage.mesh.emit(OrderPlaced(order_id=str(n))) for n in range(number)))
        timers = [await _last(stage, f"timer.{subject.rpartition('.')[2]}") for subject in await _timers(stage, number)]
        deadlines = sorted(
            (datetime.fromisoformat(stored.headers["Nats-Schedule"].removeprefix("@at ")), stored.headers["ce-subject"])
            for stored in timers
        )
        # A burst of timers fires up to some hundred milliseconds late.
        around = [timedelta(milliseconds=5 * n - 20) for n in range(number)]
        await asyncio.gather(
            *(_answer_at(stage, at + off, entity) for (at, entity), off in zip(deadlines, around, strict=True))
        )
        await eventually(lambda: _due(stage, number))
        await eventually(lambda: stage.settled("shop", "patient"))

    due = {stored.headers["ce-subject"]: stored.sequence for stored in await stage.messages("shop", "due.>")}
    void = 0
    for n in range(number):
        (answer,) = await stage.messages("shop", f"evt.order_accepted.{n}")
        refused = await stage.messages("shop", f"evt.order_refused.{n}")
        assert len(refused) == (answer.sequence > due[f"order/{n}"])
        void += not refused
    assert 0 < void < number, "the answers were meant to hit the deadline"


async def _last(stage, subject):
    return (await stage.messages("shop", subject))[-1]


async def _timers(stage, number):
    async def all_there():
        found = await stage.subjects("shop", "timer.>")
        return found if len(found) == number else None

    return await eventually(all_there)


async def _due(stage, number):
    return len(await stage.subjects("shop", "due.>")) == number


async def _answer_at(stage, at, entity):
    await asyncio.sleep((at - datetime.now(UTC)).total_seconds())
    await stage.mesh.emit(OrderAccepted(order_id=entity.removeprefix("order/")))
