"""Follows what is published in all domains of a namespace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from mesh.agent.deliver import Start
from mesh.contract.event_type import EventType, Kind
from mesh.contract.namespace import Address, Namespace
from mesh.errors import MeshError
from mesh.jetstream.connection import Connection
from mesh.jetstream.reader import Reader
from mesh.query.decoder import Decoder
from mesh.query.domains import domain_streams
from mesh.query.record import Record
from mesh.runtime.ports import Stored

_CAPACITY = 1000
_LOOK_AGAIN = 2.0
_EVENTS: Final = (Kind.EVENT, Kind.COMMAND)
_STATES: Final = (Kind.STATE,)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events, commands and dead letters are meant, or which states; what is None excludes nothing.

    Attributes:
        domain: Of this domain.
        type: Of this type; dead letters of such messages are among them.
        key: With this key.
        agent: Emitted, or given up, by this agent.
        correlation_id: Part of this correlation.
        states: States are meant, and nothing else.
    """

    domain: str | None = None
    type: EventType | None = None
    key: str | None = None
    agent: str | None = None
    correlation_id: str | None = None
    states: bool = False

    def filters(self, namespace: Namespace, domain: str) -> list[str]:
        """Subjects of a domain in which everything that is selected lies, and more; none for another domain."""
        if domain != (self.domain or domain) or (self.type and self.type.domain.name != domain):
            return []
        kinds, name = ([self.type.kind], self.type.name) if self.type else (_STATES if self.states else _EVENTS, "*")
        every = [
            namespace.every(domain, kind, name) if self.key is None else namespace.message(domain, kind, name, self.key)
            for kind in kinds
        ]
        return every if self.states else [*every, namespace.every_dead(domain, self.agent or "*")]

    def includes(self, address: Address, record: Record) -> bool:
        """Whether a record is meant that was found in a subject of `filters`."""
        return (
            (self.type is None or self.type.name == address.name)
            and (self.key is None or self.key == address.key)
            and (self.agent is None or self.agent == record.agent)
            and (self.correlation_id is None or self.correlation_id == record.correlation_id)
        )


class Follower:
    """Reads all domains side by side.

    Args:
        connection: To the server.
        namespace: Whose domains.
        selection: What to read.
        start: Where to start.
    """

    def __init__(self, connection: Connection, namespace: Namespace, selection: Selection, start: Start) -> None:
        self.decoder = Decoder(connection, namespace)
        self._connection = connection
        self._namespace = namespace
        self._selection = selection
        self._start = start
        self._arrived: asyncio.Queue[tuple[str, Stored]] = asyncio.Queue(_CAPACITY)
        self._followed: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Record]]:
        """Records as they are stored, for ever; what is published once this is entered is not missed.

        Each stream keeps its order. A domain that comes into being meanwhile is read from its first message.

        Raises:
            Unreachable: NATS does not answer.
        """
        async with AsyncExitStack() as readers:
            await self._discover(readers, self._start)
            self._tasks.append(asyncio.create_task(self._keep_discovering(readers)))
            try:
                yield self._records()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _records(self) -> AsyncIterator[Record]:
        while True:
            record = await self.decoder.decode(*await self._arrived.get())
            address = self._namespace.parse(record.subject) if record else None
            if record and address and self._selection.includes(address, record):
                yield record

    async def _discover(self, readers: AsyncExitStack, start: Start) -> None:
        for domain, stream in (await domain_streams(self._connection, self._namespace)).items():
            filters = self._selection.filters(self._namespace, domain)
            if filters and domain not in self._followed:
                reader = Reader(self._connection, stream, filters, start)
                messages = await readers.enter_async_context(reader.open())
                self._tasks.append(asyncio.create_task(self._read(stream, messages)))
                self._followed.add(domain)

    async def _keep_discovering(self, readers: AsyncExitStack) -> None:
        while True:
            await asyncio.sleep(_LOOK_AGAIN)
            with suppress(MeshError):  # NATS is away just now
                await self._discover(readers, Start("all"))

    async def _read(self, stream: str, messages: AsyncIterator[Stored]) -> None:
        async for message in messages:
            await self._arrived.put((stream, message))
