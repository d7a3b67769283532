"""The contracts known to a reader: found by name or by subject, also without their generated code."""

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from mesh.contract.declaration import describe
from mesh.contract.event_type import EventType
from mesh.errors import NotFound


class Catalog:
    """Event, command and state types by name and by place in the subject.

    Iterating yields all types, in the order of their full names.
    """

    def __init__(self, types: Iterable[EventType] = ()) -> None:
        self._types: dict[str, EventType] = {}
        self._places: dict[tuple[str, str, str], EventType] = {}
        self.add(types)

    def __iter__(self) -> Iterator[EventType]:
        """All types, by full name."""
        return iter(sorted(self._types.values(), key=lambda found: found.full_name))

    def add(self, types: Iterable[EventType]) -> None:
        """Adds types; one that is known by its full name already is replaced."""
        for found in types:
            self._types[found.full_name] = found
            self._places[found.domain.name, found.kind, found.name] = found

    def at(self, domain: str, kind: str, name: str) -> EventType | None:
        """The type whose messages lie under `<ns>.<domain>.<kind>.<name>.*`."""
        return self._places.get((domain, kind, name))

    def get(self, full_name: str) -> EventType | None:
        """The type of this full Protobuf name."""
        return self._types.get(full_name)

    def find(self, text: str) -> EventType:
        """The type a person means by `revops.v1.LeadScored`, `revops.lead_scored` or `LeadScored`.

        Raises:
            NotFound: No type, or more than one, goes by this name.
        """
        if found := self._types.get(text):
            return found
        matches = [t for t in self if text in (t.label, t.descriptor.name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            cure = f"write one of {', '.join(t.full_name for t in matches)}"
            raise NotFound(f"several types are called {text}", object=text, cure=cure)
        known = ", ".join(t.full_name for t in self)
        cure = (
            f"write one of {known}"
            if known
            else "start an agent that handles it, or run where its code can be imported"
        )
        raise NotFound(f"no event, command or state is called {text}", object=text, cure=cure)


def pack(found: EventType) -> FileDescriptorSet:
    """The files of the package of a type with all that they import, dependencies first."""
    files: dict[str, FileDescriptor] = {}
    for file in found.files:
        _collect(file, files)
    packed = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(packed.file.add())
    return packed


def unpack(packed: FileDescriptorSet, package: str) -> list[EventType]:
    """The types of a package from its files alone; their generated code is not needed.

    Raises:
        ContractError: A file or a message breaks the contract.
    """
    pool = DescriptorPool()
    for file in packed.file:
        pool.Add(file)
    return list(describe(pool.FindFileByName(f.name) for f in packed.file if f.package == package).values())


def covers(newer: FileDescriptorSet, older: FileDescriptorSet) -> bool:
    """Whether every message and field number of `older` is known to `newer` too."""
    return _fields(older) <= _fields(newer)


def _collect(file: FileDescriptor, into: dict[str, FileDescriptor]) -> None:
    if file.name not in into:
        for dependency in file.dependencies:
            _collect(dependency, into)
        into[file.name] = file


def _fields(packed: FileDescriptorSet) -> set[tuple[str, int]]:
    messages = [(f"{file.package}.{m.name}", m) for file in packed.file for m in file.message_type]
    found: set[tuple[str, int]] = set()
    while messages:
        name, message = messages.pop()
        found |= {(name, 0), *((name, field.number) for field in message.field)}
        messages += [(f"{name}.{nested.name}", nested) for nested in message.nested_type]
    return found
