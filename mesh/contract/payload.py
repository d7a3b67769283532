"""From the bytes of a message to the event in them: Protobuf, JSON, or a CloudEvent in structured JSON mode."""

from collections.abc import Mapping

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from mesh.contract import cloudevents
from mesh.contract.cloudevents import CloudEvent, read_headers, read_structured

_PROTOBUF = (cloudevents.PROTOBUF, "application/x-protobuf", "application/octet-stream")


def unwrap(headers: Mapping[str, str], data: bytes, *, fallback_id: str) -> tuple[CloudEvent, bytes]:
    """The attributes of an event and its payload, whichever mode it came in.

    What claims to be structured and is not comes back as its headers say, with its bytes as they are.
    """
    event = read_headers(headers, fallback_id=fallback_id)
    if event.content_type == cloudevents.STRUCTURED_JSON:
        try:
            return read_structured(data, fallback_id=event.id)
        except (ValueError, RecursionError):
            return event, data
    return event, data


def parse(message: type[Message], content_type: str, data: bytes) -> Message:
    """A payload as a message.

    Raises:
        ValueError: It is not one, or is written in another way than Protobuf or JSON. The text never quotes a value.
    """
    name = message.DESCRIPTOR.full_name
    try:
        if content_type == cloudevents.JSON:
            return json_format.Parse(data, message(), ignore_unknown_fields=True)
        if content_type in _PROTOBUF:
            return message.FromString(data)
    except (json_format.ParseError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not a {name} in JSON") from error
    except DecodeError as error:
        raise ValueError(f"it is not a {name} in Protobuf") from error
    if content_type == cloudevents.STRUCTURED_JSON:
        raise ValueError("it is not a CloudEvent in JSON")
    raise ValueError(f"its content type is {content_type}")
