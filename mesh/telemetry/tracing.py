"""Spans around handlings and outputs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mesh.contract.cloudevents import CloudEvent
from mesh.contract.event_type import EventType
from mesh.telemetry import names

_PROPAGATOR = TraceContextTextMapPropagator()


class OtelTracing:
    """One PRODUCER span per output and one CONSUMER span per run of a handler, each a child of what caused it.

    See `mesh.runtime.ports.Tracing`.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("mesh")

    @contextmanager
    def process(self, kind: EventType, event: CloudEvent, agent: str, attempt: int) -> Iterator[None]:
        """Span of one run of a handler; current inside the block."""
        attributes = _attributes(kind, event, "process") | {
            names.MESH_AGENT: agent,
            names.MESH_ATTEMPT: attempt,
            names.MESSAGING_CONSUMER_GROUP: agent,
        }
        parent = _PROPAGATOR.extract(event.trace)
        with self._tracer.start_as_current_span(
            f"process {kind.label}", context=parent, kind=SpanKind.CONSUMER, attributes=attributes
        ):
            yield

    @contextmanager
    def publish(self, kind: EventType, event: CloudEvent) -> Iterator[Mapping[str, str]]:
        """Span of one output until its commit; yields the trace headers of the message."""
        # Not made current: several outputs of one commit are siblings.
        span = self._tracer.start_span(
            f"publish {kind.label}", kind=SpanKind.PRODUCER, attributes=_attributes(kind, event, "publish")
        )
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, context=trace.set_span_in_context(span))
        try:
            yield headers
        except Exception as error:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            span.end()


def _attributes(kind: EventType, event: CloudEvent, operation: str) -> dict[str, str | int]:
    return {
        names.MESSAGING_SYSTEM: names.SYSTEM,
        names.MESSAGING_OPERATION_NAME: operation,
        names.MESSAGING_OPERATION_TYPE: "send" if operation == "publish" else operation,
        names.MESSAGING_DESTINATION_NAME: kind.label,
        names.MESSAGING_MESSAGE_ID: event.id,
        names.MESSAGING_CONVERSATION_ID: event.correlation_id,
        names.CLOUDEVENTS_EVENT_ID: event.id,
        names.CLOUDEVENTS_EVENT_SOURCE: event.source,
        names.CLOUDEVENTS_EVENT_TYPE: event.type,
        names.CLOUDEVENTS_EVENT_SUBJECT: event.subject,
        names.MESH_CORRELATION_ID: event.correlation_id,
    }
