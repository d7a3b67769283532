import inspect

import pytest
from billing.v1.events_pb2 import InvoiceRequested
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused, PackOrder

from mesh import Context
from mesh.contract.cloudevents import CloudEvent
from mesh.errors import ContractError, UsageError


@pytest.fixture
def context(handler_of):
    """Makes the context of a handling of OrderPlaced by a handler that emits the given types."""

    def handle(event: OrderPlaced, ctx: Context):
        pass

    def make(*emits):
        event = CloudEvent("e1", "/erp", "shop.v1.OrderPlaced", "order/7", "root", "cause")
        untouched = dict.fromkeys(inspect.signature(Context).parameters)
        made = {"agent": "seller", "handler": handler_of(handle, emits=emits), "event": event, "key": "7", "attempt": 1}
        return Context(**untouched | made)

    return make


def emitted(ctx):
    return [message for _, message, *_ in ctx.outputs]


def test_a_context_tells_where_the_event_belongs(context):
    ctx = context()

    assert (ctx.key, ctx.entity, ctx.agent, ctx.attempt) == ("7", "order/7", "seller", 1)
    assert (ctx.event_id, ctx.correlation_id, ctx.causation_id) == ("e1", "root", "cause")


def test_its_log_records_carry_agent_event_and_correlation(context, caplog):
    context().log.warning("checked %s", "twice")

    [record] = caplog.records
    assert (record.name, record.getMessage()) == ("mesh.agents.seller", "checked twice")
    assert (record.agent, record.event_id, record.correlation_id) == ("seller", "e1", "root")


def test_declared_outputs_are_collected_in_order(context):
    ctx = context(OrderAccepted, PackOrder, InvoiceRequested)

    ctx.emit(OrderAccepted(order_id="7"))
    ctx.emit_all([PackOrder(order_id="7"), InvoiceRequested(invoice_number=1)])
    ctx.emit_all(PackOrder(order_id="8"))
    ctx.emit_all(None)

    assert emitted(ctx) == [
        OrderAccepted(order_id="7"),
        PackOrder(order_id="7"),
        InvoiceRequested(invoice_number=1),
        PackOrder(order_id="8"),
    ]


def test_an_output_is_what_it_was_when_it_was_emitted(context):
    ctx = context(OrderAccepted)
    message = OrderAccepted(order_id="7", quantity=1)

    ctx.emit(message)
    message.quantity = 2
    ctx.emit(message)

    assert [output.quantity for output in emitted(ctx)] == [1, 2]


def test_an_output_that_is_not_declared_is_refused(context):
    ctx = context(OrderAccepted)

    with pytest.raises(UsageError, match=r"emits shop\.v1\.OrderRefused and declares shop\.v1\.Ord") as refused:
        ctx.emit(OrderRefused(order_id="7"))

    assert (refused.value.code, refused.value.object) == ("undeclared_output", "shop.v1.OrderRefused")
    assert "@agent.on(emits=[OrderRefused])" in refused.value.cure
    assert ctx.outputs == []


def test_an_output_that_violates_its_constraints_is_refused(context):
    ctx = context(OrderPlaced)

    with pytest.raises(ContractError, match="quantity"):
        ctx.emit(OrderPlaced(order_id="7", quantity=-1))

    assert ctx.outputs == []


def test_an_output_without_a_key_is_refused(context):
    ctx = context(OrderAccepted)

    with pytest.raises(ContractError, match=r"shop\.v1\.OrderAccepted\.order_id is empty"):
        ctx.emit_all(OrderAccepted())

    assert ctx.outputs == []


@pytest.mark.parametrize("returned", ["text", 7, True, [None], {"a": 1}, [[OrderAccepted(order_id="7")]], object()])
def test_what_is_no_message_cannot_be_returned(context, returned):
    ctx = context(OrderAccepted)

    with pytest.raises(UsageError, match=r"handler of shop\.v1\.OrderPlaced in agent seller returned") as refused:
        ctx.emit_all(returned)

    assert refused.value.code == "bad_output"
