"""Tracing as the standard `OTEL_*` variables ask for it; off, and free of cost, when they name no endpoint."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from mesh.contract.cloudevents import CloudEvent
from mesh.contract.event_type import EventType
from mesh.runtime.ports import Tracing

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class NoTracing:
    """Makes no spans; the trace of the cause passes on to its effects unchanged."""

    def process(self, kind: EventType, event: CloudEvent, agent: str, attempt: int) -> nullcontext[None]:  # noqa: ARG002
        """No span."""
        return nullcontext()

    def publish(self, kind: EventType, event: CloudEvent) -> nullcontext[Mapping[str, str]]:  # noqa: ARG002
        """No span, no headers."""
        return nullcontext({})


@contextmanager
def tracing(service: str) -> Iterator[Tracing]:
    """Tracing of one service until the block ends; what is not exported yet is exported then.

    Args:
        service: `service.name`, unless `OTEL_SERVICE_NAME` says otherwise.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(os.environ.get(e) for e in _ENDPOINTS):
        yield NoTracing()
        return
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - the SDK costs start-up time only where it is used
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter  # noqa: PLC0415

    from mesh.telemetry.tracing import OtelTracing  # noqa: PLC0415

    exporter: SpanExporter
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        exporter = OTLPSpanExporter()
    else:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as GrpcExporter,
        )

        exporter = GrpcExporter()
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", service)})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield OtelTracing(provider)
    finally:
        provider.shutdown()
