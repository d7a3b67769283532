"""From JSON to the message of an event type."""

import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from mesh.contract.event_type import EventType
from mesh.errors import ContractError, UsageError


def parse_object(text: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        UsageError: The text is none.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"this is not JSON: {error}", code="bad_json", object=text[:40], cure='write an object: {"field": value}'
        ) from None
    if not isinstance(values, dict):
        raise UsageError(
            f"a payload is a JSON object, not a {type(values).__name__}",
            code="bad_json",
            object=text[:40],
            cure='write an object: {"field": value}',
        )
    return values


def to_message(kind: EventType, values: dict[str, Any]) -> Message:
    """Builds the message of a type from JSON values; constraints are not checked.

    Raises:
        ContractError: A field does not exist, or does not take its value. The error names the field.
    """
    fields = kind.descriptor.fields
    unknown = sorted(values.keys() - {field.name for field in fields} - {field.json_name for field in fields})
    if unknown:
        raise ContractError(
            f"{kind.full_name} has no field {unknown[0]}",
            code="unknown_field",
            object=f"{kind.full_name}.{unknown[0]}",
            cure=f"its fields are {', '.join(field.name for field in fields)}",
        )
    try:
        return json_format.ParseDict(values, kind.message())
    except (json_format.ParseError, UnicodeEncodeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ContractError(
            f"{kind.full_name} does not take these values: {reason}", code="bad_value", object=kind.full_name
        ) from None
