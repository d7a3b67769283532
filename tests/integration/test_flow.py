"""Flows as they are read from the log of a real server."""

from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, Stock
from support import eventually

from mesh import Agent, Context, Reject
from mesh.jetstream.registry import Registry
from mesh.query.flow import read_flows


async def flows(stage, *domains):
    catalog = await Registry(stage.mesh.connection, stage.names).catalog()
    return await read_flows(stage.mesh.connection, stage.names, catalog, domains)


def described(step):
    return step.kind, step.record.type, step.record.agent, [described(effect) for effect in step.effects]


async def test_a_flow_tells_what_every_agent_made_of_an_event(stage):
    clerk, keeper, critic = Agent("clerk"), Agent("keeper"), Agent("critic")

    @clerk.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id)

    @keeper.on
    async def reserve(event: OrderAccepted, ctx: Context) -> None:
        await ctx.state.put(Stock(shelf_id="shelf-1", reserved=1))

    @critic.on
    async def refuse(event: OrderAccepted, ctx: Context) -> None:
        raise Reject("not today")

    async with stage.running(clerk, keeper, critic):
        emitted = await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: stage.settled("shop", "clerk"))
        await eventually(lambda: stage.settled("shop", "keeper"))
        await eventually(lambda: stage.settled("shop", "critic"))

    (flow,) = await flows(stage, "shop")
    assert flow.correlation_id == emitted.id
    ((kind, placed, _, [(_, accepted, _, ends)]),) = map(described, flow.roots)
    assert (kind, placed, accepted) == ("evt", "shop.v1.OrderPlaced", "shop.v1.OrderAccepted")
    assert sorted(ends) == [
        ("dead", "mesh.v1.DeadLetter", "critic", []),
        ("done", "mesh.done", "keeper", []),
    ]


async def test_a_flow_goes_on_in_another_domain(stage):
    agent = Agent("clerk")

    @agent.on
    async def bill(event: OrderPlaced, ctx: Context) -> InvoiceRequested:
        return InvoiceRequested(invoice_number=int(event.order_id))

    async with stage.running(agent):
        await stage.mesh.emit(OrderPlaced(order_id="7"))
        await eventually(lambda: stage.settled("shop", "clerk"))

    (flow,) = await flows(stage, "billing", "shop")
    (root,) = flow.roots
    invoices = [step.record.message for step in root.effects if step.kind == "evt"]
    assert [invoice.invoice_number for invoice in invoices] == [7]


async def test_a_domain_without_a_stream_has_no_flows(stage):
    await stage.mesh.emit(OrderPlaced(order_id="7"))

    assert await flows(stage, "billing") == []
