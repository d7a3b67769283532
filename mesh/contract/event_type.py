"""From a Protobuf message to its place in the mesh: domain, subject, key, personal fields."""

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesh.contract.namespace import Namespace, encode_token
from mesh.errors import ContractError
from mesh.v1 import options_pb2

DEFAULT_MAX_AGE: Final = timedelta(days=30)
"""How long a domain keeps its events unless its `.proto` says otherwise."""

_DOMAIN = re.compile(r"[a-z][a-z0-9_]*")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED_DOMAINS = frozenset({"journal"})
_KEY_TYPES = frozenset(
    {
        FieldDescriptor.CPPTYPE_STRING,
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)


class Kind(StrEnum):
    """What a message is; the value is its token in the subject."""

    EVENT = "evt"
    COMMAND = "cmd"
    STATE = "state"


_OPTIONS = {Kind.EVENT: options_pb2.event, Kind.COMMAND: options_pb2.command, Kind.STATE: options_pb2.state}


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


def event_type(message: type[Message]) -> EventType:
    """The event, command or state type that a generated message class declares.

    Raises:
        ContractError: The message, or another one of its package, breaks the contract. The error names file,
            message and cure.
    """
    types = _package_of(message)
    try:
        return types[message.DESCRIPTOR.full_name]
    except KeyError:
        raise _not_declared(message.DESCRIPTOR) from None


def importable_types(package: str) -> list[EventType]:
    """The types whose generated code can be imported from a Python package or from its versions (`<package>.v1`, …).

    Args:
        package: Dotted name of a Python package; one that does not exist has no types.

    Raises:
        ContractError: A file or a message breaks the contract.
    """
    try:
        paths = importlib.import_module(package).__path__
    except (ImportError, AttributeError):
        return []
    versions = [f"{package}.{m.name}" for m in pkgutil.iter_modules(paths) if m.ispkg]
    return [found for name in (package, *versions) for found in _load_package(name).values()]


def describe(files: Iterable[FileDescriptor]) -> dict[str, EventType]:
    """All event, command and state types that the files of one Protobuf package declare, by full name.

    Raises:
        ContractError: A file or a message breaks the contract.
    """
    files = tuple(files)
    declared = [(d, kind) for file in files for d in file.message_types_by_name.values() if (kind := _kind(d))]
    if not declared:
        return {}
    domain = _domain(files)
    types: dict[str, EventType] = {}
    claimed: dict[tuple[Kind, str], Descriptor] = {}
    for descriptor, kind in declared:
        found = EventType(descriptor, kind, domain, _name(descriptor, kind), _key_field(descriptor), files)
        claim_subject(claimed, found)
        types[found.full_name] = found
    return types


def claim_subject(claimed: dict[tuple[Kind, str], Descriptor], found: EventType) -> None:
    """Records that a type owns its subject within one domain.

    Raises:
        ContractError: Another message owns it already.
    """
    other = claimed.setdefault((found.kind, found.name), found.descriptor)
    if other.full_name != found.full_name:
        raise ContractError(
            f"{found.full_name} ({found.descriptor.file.name}) claims the subject "
            f"{found.domain.name}.{found.kind}.{found.name}, which belongs to {other.full_name} ({other.file.name})",
            code="subject_claimed_twice",
            object=found.full_name,
            cure=f'name one of them: option (mesh.v1.{found.kind.name.lower()}) = {{ name: "{found.name}_v2" }};',
        )


_by_domain: dict[str, dict[tuple[Kind, str], Descriptor]] = {}


def _package_of(message: type[Message]) -> dict[str, EventType]:
    package = message.__module__.rpartition(".")[0]
    return _load_package(package) if package else _load_module(message.__module__)


@cache
def _load_package(package: str) -> dict[str, EventType]:
    paths = importlib.import_module(package).__path__
    modules = [f"{package}.{m.name}" for m in pkgutil.iter_modules(paths) if m.name.endswith("_pb2")]
    return _registered(importlib.import_module(name).DESCRIPTOR for name in modules)


@cache
def _load_module(module: str) -> dict[str, EventType]:
    return _registered([sys.modules[module].DESCRIPTOR])


def _registered(files: Iterable[FileDescriptor]) -> dict[str, EventType]:
    types = describe(files)
    for found in types.values():
        claim_subject(_by_domain.setdefault(found.domain.name, {}), found)
    return types


def _kind(descriptor: Descriptor) -> Kind | None:
    options = descriptor.GetOptions()
    kinds = [kind for kind, extension in _OPTIONS.items() if options.HasExtension(extension)]
    if len(kinds) > 1:
        raise ContractError(
            f"{descriptor.full_name} ({descriptor.file.name}) is marked as {' and '.join(k.name.lower() for k in kinds)}",
            code="several_kinds",
            object=descriptor.full_name,
            cure="keep one of the options",
        )
    return kinds[0] if kinds else None


def _name(descriptor: Descriptor, kind: Kind) -> str:
    explicit = descriptor.GetOptions().Extensions[_OPTIONS[kind]].name
    name = explicit or snake_case(descriptor.name)
    if not _NAME.fullmatch(name):
        raise ContractError(
            f"{descriptor.full_name} ({descriptor.file.name}) has the name {name!r}, which does not fit a subject token",
            code="bad_event_name",
            object=descriptor.full_name,
            cure="use a lower-case letter followed by letters, digits or underscores",
        )
    return name


def snake_case(name: str) -> str:
    """`LeadScored` as `lead_scored`, `HTTPCall2` as `http_call2`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _key_field(descriptor: Descriptor) -> str:
    keys = [f for f in descriptor.fields if f.GetOptions().Extensions[options_pb2.key]]
    where = f"{descriptor.full_name} ({descriptor.file.name})"
    if len(keys) != 1:
        found = f"marks {' and '.join(f.name for f in keys)}" if keys else "has none"
        raise ContractError(
            f"{where} needs exactly one key field and {found}",
            code="key_field",
            object=descriptor.full_name,
            cure="mark the one field that says what it is about: string lead_id = 1 [(mesh.v1.key) = true];",
        )
    key = keys[0]
    if key.is_repeated or key.type == FieldDescriptor.TYPE_BYTES or key.cpp_type not in _KEY_TYPES:
        raise ContractError(
            f"{where} has the key field {key.name}, which is neither a string nor an integer",
            code="key_field",
            object=f"{descriptor.full_name}.{key.name}",
            cure="use a string or an integer as key",
        )
    return str(key.name)


def _domain(files: tuple[FileDescriptor, ...]) -> Domain:
    package = files[0].package
    declaring = [file for file in files if file.GetOptions().HasExtension(options_pb2.domain)]
    if len(declaring) != 1:
        found = f"{' and '.join(f.name for f in declaring)} do" if declaring else "none of its files does"
        raise ContractError(
            f"package {package} needs exactly one file that declares its domain, and {found}",
            code="domain",
            object=package,
            cure=f'write in one file: option (mesh.v1.domain) = {{ name: "{package.split(".")[0] or "shop"}" }};',
        )
    options = declaring[0].GetOptions().Extensions[options_pb2.domain]
    if not _DOMAIN.fullmatch(options.name) or options.name in _RESERVED_DOMAINS:
        raise ContractError(
            f"{declaring[0].name} declares the domain {options.name!r}, which is not a legal name",
            code="bad_domain_name",
            object=declaring[0].name,
            cure=f"use a lower-case letter followed by letters, digits or underscores, "
            f"and none of: {', '.join(sorted(_RESERVED_DOMAINS))}",
        )
    max_age = options.max_age.ToTimedelta() if options.HasField("max_age") else DEFAULT_MAX_AGE
    return Domain(options.name, max_age)


def _not_declared(descriptor: Descriptor) -> ContractError:
    return ContractError(
        f"{descriptor.full_name} ({descriptor.file.name}) is neither an event, a command nor a state",
        code="not_an_event",
        object=descriptor.full_name,
        cure="write in the message: option (mesh.v1.event) = {};",
    )
