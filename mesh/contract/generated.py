"""From a generated message class to its event type; a package is read once and whole."""

import importlib
import pkgutil
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

from mesh.contract.declaration import Claims, claim_name, describe
from mesh.contract.event_type import EventType
from mesh.errors import ContractError

_by_domain: dict[str, Claims] = {}


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
        raise _not_declared(message) from None


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
    # Not pkgutil: it does not list packages without an __init__.py.
    versions = {f"{package}.{module.parent.name}" for path in paths for module in Path(path).glob("*/*_pb2.py")}
    return [found for name in (package, *sorted(versions)) for found in _load_package(name).values()]


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
        claim_name(_by_domain.setdefault(found.domain.name, {}), found)
    return types


def _not_declared(message: type[Message]) -> ContractError:
    descriptor = message.DESCRIPTOR
    return ContractError(
        f"{descriptor.full_name} ({descriptor.file.name}) is neither an event, a command nor a state",
        code="not_an_event",
        object=descriptor.full_name,
        cure="write in the message: option (mesh.v1.event) = {};",
    )
