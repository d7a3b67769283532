"""Reads the options in a `.proto` file and holds its author to the rules."""

import re
from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from mesh.contract.event_type import DEFAULT_MAX_AGE, Domain, EventType, Kind
from mesh.errors import ContractError
from mesh.v1 import options_pb2

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
# The stubs give each extension a type of its own; here only the common `name` matters.
_OPTIONS: dict[Kind, Any] = {
    Kind.EVENT: options_pb2.event,
    Kind.COMMAND: options_pb2.command,
    Kind.STATE: options_pb2.state,
}


type Claims = dict[tuple[bool, str], Descriptor]
"""Who owns a name within one domain. State has names of its own; events and commands share theirs, because redrives
and durable consumers are called by the name alone."""


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
    claimed: Claims = {}
    for descriptor, kind in declared:
        found = EventType(descriptor, kind, domain, _name(descriptor, kind), _key_field(descriptor), files)
        claim_name(claimed, found)
        types[found.full_name] = found
    return types


def claim_name(claimed: Claims, found: EventType) -> None:
    """Records that a type owns its name within one domain.

    Raises:
        ContractError: Another message owns it already.
    """
    other = claimed.setdefault((found.kind is Kind.STATE, found.name), found.descriptor)
    if other.full_name != found.full_name:
        raise ContractError(
            f"{found.full_name} ({found.descriptor.file.name}) claims the name {found.label}, "
            f"which belongs to {other.full_name} ({other.file.name})",
            code="name_claimed_twice",
            object=found.full_name,
            cure=f'name one of them: option (mesh.v1.{found.kind.name.lower()}) = {{ name: "{found.name}_v2" }};',
        )


def _kind(descriptor: Descriptor) -> Kind | None:
    options = descriptor.GetOptions()
    kinds = [kind for kind, extension in _OPTIONS.items() if options.HasExtension(extension)]
    if len(kinds) > 1:
        marks = " and ".join(kind.name.lower() for kind in kinds)
        raise ContractError(
            f"{descriptor.full_name} ({descriptor.file.name}) is marked as {marks}",
            code="several_kinds",
            object=descriptor.full_name,
            cure="keep one of the options",
        )
    return kinds[0] if kinds else None


def _name(descriptor: Descriptor, kind: Kind) -> str:
    explicit: str = descriptor.GetOptions().Extensions[_OPTIONS[kind]].name
    name = explicit or snake_case(descriptor.name)
    if not _NAME.fullmatch(name):
        raise ContractError(
            f"{descriptor.full_name} ({descriptor.file.name}) is called {name!r}, which does not fit a subject token",
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
    if not options.HasField("max_age"):
        return Domain(options.name, DEFAULT_MAX_AGE)
    if options.max_age.seconds < 1:
        raise ContractError(
            f"{declaring[0].name} keeps the events of the domain {options.name} for no time at all",
            code="bad_max_age",
            object=declaring[0].name,
            cure="set max_age to at least one second, or leave it out",
        )
    return Domain(options.name, options.max_age.ToTimedelta())
