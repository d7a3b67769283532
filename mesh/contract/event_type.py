"""What a message is in the mesh: its kind, domain, name and key."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesh.contract.namespace import Namespace, encode_token

DEFAULT_MAX_AGE: Final = timedelta(days=30)
"""How long a domain keeps its events unless its `.proto` says otherwise."""


class Kind(StrEnum):
    """What a message is; the value is its token in the subject."""

    EVENT = "evt"
    COMMAND = "cmd"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Domain:
    """A bounded context: one Protobuf package (or several versions of it), one stream.

    Attributes:
        name: `[a-z][a-z0-9_]*`.
        max_age: How long its events are kept.
    """

    name: str
    max_age: timedelta = DEFAULT_MAX_AGE


@dataclass(frozen=True, slots=True, eq=False)
class EventType:
    """One event, command or state type, as its `.proto` declares it.

    Attributes:
        descriptor: Protobuf descriptor of the message.
        kind: Event, command or state.
        domain: The domain of its package.
        name: Token in the subject, e.g. `lead_scored`.
        key_field: Name of the key field.
        files: All files of its Protobuf package.
    """

    descriptor: Descriptor
    kind: Kind
    domain: Domain
    name: str
    key_field: str
    files: tuple[FileDescriptor, ...] = field(repr=False)

    @property
    def message(self) -> type[Message]:
        """The message class; the generated one where the generated code is imported."""
        return GetMessageClass(self.descriptor)

    @property
    def full_name(self) -> str:
        """Full Protobuf name, which is also the `ce-type`."""
        return str(self.descriptor.full_name)

    @property
    def label(self) -> str:
        """`<domain>.<name>`, e.g. `revops.lead_scored`."""
        return f"{self.domain.name}.{self.name}"

    @property
    def entity_type(self) -> str:
        """What its messages are about: the key field's name without `_id`."""
        return self.key_field.removesuffix("_id")

    def key(self, message: Message) -> str:
        """Value of the key field as text.

        Raises:
            ContractError: The key is empty, or too long for a subject.
        """
        key = str(getattr(message, self.key_field))
        encode_token(key, object=f"{self.full_name}.{self.key_field}")
        return key

    def subject(self, namespace: Namespace, key: str) -> str:
        """Subject of a message of this type with this key."""
        return namespace.message(self.domain.name, self.kind, self.name, key)
