"""Decodes what is read from the log, with no generated code at hand."""

import time

from mesh.contract.catalog import Catalog
from mesh.contract.event_type import EventType
from mesh.contract.namespace import Namespace
from mesh.jetstream.connection import Connection
from mesh.jetstream.registry import Registry
from mesh.query.record import Record, read_record
from mesh.runtime.ports import Stored

_PAUSE = 5.0


class Decoder:
    """Decodes messages with the contracts of the registry.

    They are read when the first message needs them, and again, at most every five seconds, when one does not decode:
    a new agent may have registered its contract in between.
    """

    def __init__(self, connection: Connection, namespace: Namespace) -> None:
        self._registry = Registry(connection, namespace)
        self._namespace = namespace
        self._catalog = Catalog()
        self._read_at = -_PAUSE

    async def decode(self, stream: str, stored: Stored) -> Record | None:
        """Decodes a message of a domain's stream; None for a subject that is not one of the mesh.

        Raises:
            Unreachable: NATS does not answer.
        """
        record = read_record(self._namespace, self._catalog, stream, stored)
        if record is None or record.message is not None or time.monotonic() - self._read_at < _PAUSE:
            return record
        self._catalog = await self._registry.catalog()
        self._read_at = time.monotonic()
        return read_record(self._namespace, self._catalog, stream, stored)

    def contract(self, record: Record) -> EventType | None:
        """The type of a record that this decoder decoded; None when its contract is not known."""
        return self._catalog.get(record.type)
