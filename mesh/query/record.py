"""A message of the log, decoded as far as its contract is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from mesh.contract.catalog import Catalog
from mesh.contract.cloudevents import CloudEvent
from mesh.contract.event_type import Kind
from mesh.contract.namespace import Address, Namespace
from mesh.contract.payload import parse, unwrap
from mesh.contract.pii import masked
from mesh.runtime.ports import Stored
from mesh.v1.decision_pb2 import Decision
from mesh.v1.log_pb2 import DeadLetter

_OWN: Final[Mapping[str, type[Message]]] = {"dead": DeadLetter, "dec": Decision}
"""What mesh itself writes, by kind of subject."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message of the log.

    Attributes:
        message: The payload; None when its contract is not known, it does not decode, or the state is deleted.
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
        deleted: It says that the state of its subject is no more.
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
    deleted: bool = False

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
    event, data = unwrap(stored.headers, stored.data, fallback_id=f"{stream}:{stored.sequence}")
    type_name, message = _decode(catalog, address, event, data)
    deleted = address.kind == Kind.STATE and stored.is_deletion
    return Record(
        message=None if deleted else message,
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
        deleted=deleted,
    )


def _decode(catalog: Catalog, address: Address, event: CloudEvent, data: bytes) -> tuple[str, Message | None]:
    cls = _OWN.get(address.kind)
    if cls is None:
        kind = catalog.at(address.domain, address.kind, address.name) or catalog.get(event.type)
        if kind is None:
            return event.type, None
        cls = kind.message
    found = cls.DESCRIPTOR.full_name
    try:
        return found, parse(cls, event.content_type, data)
    except ValueError:
        return found, None
