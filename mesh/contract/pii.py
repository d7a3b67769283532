"""Personal data: which fields are marked, and messages without them."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mesh.v1 import options_pb2

MASK = "***"
"""What stands in the place of personal text."""


def masked[M: Message](message: M) -> M:
    """A copy of the message without personal data: texts become `***`, all else is cleared."""
    copy = type(message)()
    copy.CopyFrom(message)
    _mask(copy)
    return copy


def _mask(message: Message) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[options_pb2.pii]:
            message.ClearField(field.name)
            if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
                setattr(message, field.name, MASK)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for nested in _nested(field, value):
                _mask(nested)


def _nested(field: FieldDescriptor, value: Any) -> list[Message]:
    if not field.is_repeated:
        return [value]
    values = value.values() if isinstance(value, Mapping) else value
    return [item for item in values if isinstance(item, Message)]
