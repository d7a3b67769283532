"""A message of the log, decoded as far as its contract is known."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from mesh.contract.catalog import Catalog
from mesh.contract.cloudevents import CloudEvent, read_headers
from mesh.contract.namespace import Address, Namespace
from mesh.contract.pii import masked
from mesh.runtime.ports import Stored
from mesh.v1.log_pb2 import DeadLetter


@dataclass(frozen=True, slots=True)
class Record:
    """One message of the log.

    Attributes:
        message: The payload; None when its contract is not known, or it does not decode.
        id: `ce-id`.
        key: Key of the event.
        type: Full Protobuf name; what the sender claims when the contract is not known.
        agent: Who emitted it; empty when it came from outside the mesh.
        seq: Sequence in the stream.
        time: When the stream stored it.
        correlation_id: Id shared by all that descends from one root.
        causation_id: Id of the event that caused it; empty for a root.
        stream: Name of the stream.
        subject: Its subject.
        size: Bytes of the payload.
    """

    message: Message | None
    id: str
    key: str
    type: str
    agent: str
    seq: int
    time: datetime
    correlation_id: str
    causation_id: str
    stream: str
    subject: str
    size: int

    def as_json(self, *, show_pii: bool = False) -> dict[str, Any]:
        """The record as JSON values; personal data is masked unless `show_pii`."""
        return {
            "id": self.id,
            "type": self.type,
            "key": self.key,
            "agent": self.agent,
            "stream": self.stream,
            "seq": self.seq,
            "time": self.time.isoformat(),
            "subject": self.subject,
            "correlation_id": self.correlation_id,
            "causation_id": self.causation_id,
            "data": self.data(show_pii=show_pii),
        }

    def data(self, *, show_pii: bool = False) -> dict[str, Any] | None:
        """The payload as JSON values, field names as in the `.proto`; None when it is not decoded.

        A dead letter comes without the payload it keeps: nothing in there is masked.
        """
        if self.message is None:
            return None
        shown = self.message if show_pii else masked(self.message)
        values = json_format.MessageToDict(shown, preserving_proto_field_name=True)
        if isinstance(self.message, DeadLetter):
            values.pop("data", None)
        return values


def read_record(namespace: Namespace, catalog: Catalog, stream: str, stored: Stored) -> Record | None:
    """Decodes a message of a domain's stream; None for a subject that is not one of the mesh."""
    address = namespace.parse(stored.subject)
    if address is None:
        return None
    event = read_headers(stored.headers, fallback_id=f"{stream}:{stored.sequence}")
    type_name, message = _decode(catalog, address, event, stored.data)
    return Record(
        message=message,
        id=event.id,
        key=address.key,
        type=type_name,
        agent=event.source.removeprefix("/agents/") if event.source.startswith("/agents/") else "",
        seq=stored.sequence,
        time=stored.time,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        stream=stream,
        subject=stored.subject,
        size=len(stored.data),
    )


def _decode(catalog: Catalog, address: Address, event: CloudEvent, data: bytes) -> tuple[str, Message | None]:
    cls: type[Message]
    if address.kind == "dead":
        found, cls = DeadLetter.DESCRIPTOR.full_name, DeadLetter
    else:
        kind = catalog.at(address.domain, address.kind, address.name) or catalog.get(event.type)
        if kind is None:
            return event.type, None
        found, cls = kind.full_name, kind.message
    try:
        return found, cls.FromString(data)
    except DecodeError:
        return found, None
