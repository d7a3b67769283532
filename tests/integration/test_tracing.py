from contextlib import contextmanager

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from shop.v1.events_pb2 import OrderAccepted, OrderPlaced, OrderRefused
from support import eventually

import mesh.client
import mesh.worker
from mesh import Agent, Context, Mesh
from mesh.telemetry.tracing import OtelTracing


@pytest.fixture
def spans(monkeypatch):
    """All spans that clients and agents of this process end."""
    exporter = InMemorySpanExporter()

    @contextmanager
    def traced(service):
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        yield OtelTracing(provider)

    monkeypatch.setattr(mesh.client, "tracing", traced)
    monkeypatch.setattr(mesh.worker, "tracing", traced)
    return exporter


def chain():
    clerk, auditor = Agent("clerk"), Agent("auditor")

    @clerk.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        if ctx.attempt == 1:
            raise RuntimeError("once")
        return OrderAccepted(order_id=event.order_id)

    @auditor.on
    async def audit(event: OrderAccepted, ctx: Context) -> OrderRefused:
        return OrderRefused(order_id=event.order_id)

    return clerk, auditor


async def test_every_hop_is_a_child_of_what_caused_it_in_one_trace(stage, spans):
    async with stage.running(*chain()), Mesh.connect(stage.settings) as client:
        emitted = await client.emit(OrderPlaced(order_id="7", email="ann@example.org"))
        await client.wait_for(OrderRefused, correlation_id=emitted.id)
        await eventually(lambda: len(spans.get_finished_spans()) == 6)

    found = spans.get_finished_spans()
    by_id = {span.context.span_id: span for span in found}

    def line(span):
        above = by_id.get(span.parent.span_id) if span.parent else None
        return [*(line(above) if above else []), f"{span.resource.attributes['service.name']}: {span.name}"]

    assert len({span.context.trace_id for span in found}) == 1
    lines = sorted(line(span) for span in found)
    root, clerk = ["mesh: publish shop.order_placed"], "clerk: process shop.order_placed"
    accepted = [*root, clerk, "clerk: publish shop.order_accepted"]
    audited = [*accepted, "auditor: process shop.order_accepted"]
    assert lines == sorted(
        [root, [*root, clerk], [*root, clerk], accepted, audited, [*audited, "auditor: publish shop.order_refused"]]
    )
    process = sorted((s for s in found if s.name == "process shop.order_placed"), key=lambda s: s.start_time)
    assert [span.attributes["mesh.attempt"] for span in process] == [1, 2]
    assert [span.status.is_ok for span in process] == [False, True]
    assert {span.kind for span in process} == {SpanKind.CONSUMER}
    assert {span.attributes["mesh.correlation_id"] for span in found} == {emitted.id}
    assert "ann@example.org" not in "".join(span.to_json() for span in found)


async def test_without_tracing_the_trace_context_of_the_cause_passes_on(stage):
    clerk = Agent("clerk")

    @clerk.on
    async def accept(event: OrderPlaced, ctx: Context) -> OrderAccepted:
        return OrderAccepted(order_id=event.order_id)

    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1", "baggage": "tenant=7"}
    async with stage.running(clerk):
        subject = stage.names.message("shop", "evt", "order_placed", "7")
        await stage.mesh.connection.request(subject, OrderPlaced(order_id="7").SerializeToString(), trace)
        await stage.mesh.wait_for(OrderAccepted, key="7")

    (stored,) = await stage.messages("shop", "evt.order_accepted.7")
    assert trace.items() <= stored.headers.items()
