"""A commit whose acknowledgement was lost, found again after the server has forgotten its message ids."""

import asyncio

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, Stock
from support import Stage, eventually

from mesh import Agent, Context
from mesh.jetstream.delivery import PulledMessage
from mesh.jetstream.log import JetStreamLog

WINDOW = 0.5


@pytest.fixture
async def stage(mesh_server, mesh_namespace):
    async with Stage(mesh_server, mesh_namespace, ack_wait=1.0, duplicate_window=WINDOW).open() as stage:
        yield stage


@pytest.fixture
def lost_acks(monkeypatch):
    """The first acknowledgement of each message gets lost."""
    lost = set()
    ack = PulledMessage.ack

    def lose(self):
        if self.sequence in lost:
            ack(self)
        lost.add(self.sequence)

    monkeypatch.setattr(PulledMessage, "ack", lose)
    return lost


def same_output(agent, run):
    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id, quantity=run)


def output_under_another_key(agent, run):
    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=f"order-of-run-{run}")


def output_of_another_type(agent, run):
    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted | OrderRefused:
        return OrderAccepted(order_id=event.order_id) if run == 1 else OrderRefused(order_id=event.order_id)


def more_outputs(agent, run):
    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> list[OrderAccepted]:
        return [OrderAccepted(order_id=f"{n}-of-run-{run}") for n in range(run)]


def state_only(agent, run):
    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> None:
        stock = await ctx.state.get_or_new(Stock, "shelf")
        stock.reserved += 1
        await ctx.state.put(stock)


def output_and_state(agent, run):
    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> OrderAccepted | None:
        stock = await ctx.state.get_or_new(Stock, "shelf")
        stock.reserved += 1
        await ctx.state.put(stock)
        return OrderAccepted(order_id=event.order_id) if run == 1 else None


def output_into_another_domain(agent, run):
    @agent.on
    async def handle(event: OrderPlaced, ctx: Context) -> InvoiceRequested:
        return InvoiceRequested(invoice_number=run)


@pytest.mark.parametrize(
    "author",
    [
        same_output,
        output_under_another_key,
        output_of_another_type,
        more_outputs,
        state_only,
        output_and_state,
        output_into_another_domain,
    ],
)
async def test_a_commit_is_recognised_after_the_window_also_when_the_handler_would_answer_differently(
    stage, lost_acks, author
):
    first, second = Agent("clerk"), Agent("clerk")
    author(first, 1)
    author(second, 2)

    async with stage.running(first):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: lost_acks)
    before = await _everything(stage)
    await asyncio.sleep(2 * WINDOW)  # the server forgets the message ids
    assert not await stage.settled("shop", "clerk")
    async with stage.running(second):
        await eventually(lambda: stage.settled("shop", "clerk"))

    assert await _everything(stage) == before
    assert emitted.seq


async def _everything(stage):
    """Every message of both domains with its payload."""
    log = JetStreamLog(stage.mesh.connection, stage.names)
    found = []
    for domain in ("shop", "billing"):
        if await stage.api.find(f"STREAM.INFO.{stage.names.stream(domain)}"):
            stored = log.read(stage.names.stream(domain), stage.names.domain(domain))
            found += [(message.subject, message.data) async for message in stored]
    return found


async def test_a_forward_that_was_lost_is_made_up_with_what_was_committed(stage, lost_acks, monkeypatch):
    def author(agent, run):
        @agent.on
        async def bill(event: OrderPlaced, ctx: Context) -> InvoiceRequested:
            return InvoiceRequested(invoice_number=run)

    first, second = Agent("clerk"), Agent("clerk")
    author(first, 1)
    author(second, 2)
    commit = JetStreamLog.commit

    async def commit_at_home_only(self, stream, writes):
        if stream == stage.names.stream("billing"):
            await asyncio.sleep(60)
        return await commit(self, stream, writes)

    with monkeypatch.context() as patch:
        patch.setattr(JetStreamLog, "commit", commit_at_home_only)
        hasty = stage.settings.model_copy(update={"shutdown_grace": 0.1})
        async with stage.running(first, settings=hasty):
            await stage.mesh.emit(OrderPlaced(order_id="7"))
            await eventually(lambda: stage.messages("shop", "out.>"))
    async with stage.running(second):
        await eventually(lambda: stage.messages("billing", "evt.>"))

    assert await stage.subjects("billing") == {"evt.invoice_requested.1": 1}
