"""CloudEvents 1.0 over NATS, binary mode: the attributes of an event as message headers and back.

Source: the NATS protocol binding of the CloudEvents specification, and its correlation extension.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

MSG_ID: Final = "Nats-Msg-Id"
HOPS: Final = "mesh-hops"
VISITS: Final = "mesh-visits"
REDO: Final = "mesh-redo"
PROTOBUF: Final = "application/protobuf"
JSON: Final = "application/json"
STRUCTURED_JSON: Final = "application/cloudevents+json"
TRACE_HEADERS: Final = ("traceparent", "tracestate", "baggage")
DELETED: Final = {"KV-Operation": "DEL"}
"""Header of a message that says that the state of its subject is no more, as JetStream's key-value stores have it."""
MAX_HOPS: Final = 64
"""Causal depth at which an event is taken for part of a loop."""

_UNSAFE = re.compile(r"[^\x21\x23\x24\x26-\x7e]")
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """The attributes of an event.

    Attributes:
        id: Unique together with `source`.
        source: `/agents/<name>` for an agent, anything for others.
        type: Full Protobuf name of the payload.
        subject: Entity the event is about, `lead/42`.
        correlation_id: Id shared by all that descends from one root event.
        causation_id: Id of the event that caused this one; empty for a root.
        hops: Causal depth, 0 for a root.
        visits: Handlers that its causal chain has passed, see `mesh.contract.visits`.
        time: When the producer made it, by its own clock; for display only.
        content_type: How the payload is written.
        trace: W3C trace context and baggage of the current hop, by header name.
    """

    id: str
    source: str
    type: str
    subject: str
    correlation_id: str
    causation_id: str = ""
    hops: int = 0
    visits: str = ""
    time: datetime | None = None
    content_type: str = PROTOBUF
    trace: Mapping[str, str] = field(default_factory=dict)

    def effect(self, *, id: str, source: str, type: str, subject: str, visits: str = "") -> "CloudEvent":  # noqa: A002
        """An event that this one caused."""
        return CloudEvent(
            id=id,
            source=source,
            type=type,
            subject=subject,
            correlation_id=self.correlation_id,
            causation_id=self.id,
            hops=self.hops + 1,
            visits=visits,
            trace=self.trace,
        )

    def headers(self) -> dict[str, str]:
        """The event as message headers, without `Nats-Msg-Id`."""
        written = {
            "ce-specversion": "1.0",
            "ce-id": _escape(self.id),
            "ce-source": _escape(self.source),
            "ce-type": _escape(self.type),
            "ce-subject": _escape(self.subject),
            "ce-time": (self.time or datetime.now(UTC)).isoformat().replace("+00:00", "Z"),
            "ce-datacontenttype": self.content_type,
            "ce-correlationid": _escape(self.correlation_id),
        }
        if self.causation_id:
            written["ce-causationid"] = _escape(self.causation_id)
        if self.hops:
            written[HOPS] = str(self.hops)
        if self.visits:
            written[VISITS] = self.visits
        written.update(self.trace)
        return written


def read_headers(headers: Mapping[str, str], *, fallback_id: str) -> CloudEvent:
    """Reads the attributes of an event from headers that anybody may have written.

    Header names are read in any case, values that are missing or malformed are replaced by defaults.

    Args:
        headers: Headers of the message as delivered.
        fallback_id: Id of an event that carries none.
    """
    by_name = {name.lower(): value for name, value in headers.items()}

    def attribute(name: str) -> str:
        return unquote(by_name.get(f"ce-{name}", ""))

    event_id = attribute("id") or by_name.get(MSG_ID.lower(), "") or fallback_id
    return CloudEvent(
        id=event_id,
        source=attribute("source"),
        type=attribute("type"),
        subject=attribute("subject"),
        correlation_id=attribute("correlationid") or event_id,
        causation_id=attribute("causationid"),
        hops=read_count(by_name.get(HOPS, "")),
        visits=by_name.get(VISITS, ""),
        time=_time(attribute("time")),
        content_type=_content_type(by_name),
        trace={name: by_name[name] for name in TRACE_HEADERS if name in by_name},
    )


def read_structured(payload: bytes, *, fallback_id: str) -> tuple[CloudEvent, bytes]:
    """Reads an event in structured JSON mode.

    Returns:
        The attributes and the payload as JSON text.

    Raises:
        ValueError: The payload is not a CloudEvent in JSON.
    """
    envelope = json.loads(payload)
    if not isinstance(envelope, dict) or "data" not in envelope:
        raise ValueError("a CloudEvent in JSON is an object with a `data` member")
    names = {name: str(value) for name, value in envelope.items() if name != "data"}
    attributes = {f"ce-{name}": _escape(value) for name, value in names.items()}
    attributes["ce-datacontenttype"] = JSON
    return read_headers(attributes, fallback_id=fallback_id), json.dumps(envelope["data"]).encode()


def message_id(name: str, event_id: str, redo: int = 0) -> str:
    """`Nats-Msg-Id` of an event: its name and id, and the count of its redrives.

    Deduplication spans the whole stream, so the id carries the event's name.
    """
    suffix = f"/redo/{redo}" if redo else ""
    return f"{name}:{_escape(event_id)}{suffix}"


def read_count(value: str) -> int:
    """Reads a count from a header that anybody may have written: 0 for what is none, or absurdly large."""
    return int(value) if value.isdecimal() and len(value) <= _MAX_DIGITS else 0


def _content_type(by_name: Mapping[str, str]) -> str:
    value = by_name.get("ce-datacontenttype") or by_name.get("content-type") or PROTOBUF
    return value.partition(";")[0].strip().lower()


def _escape(value: str) -> str:
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), value)


def _time(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
