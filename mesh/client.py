"""The mesh from outside an agent: publish, watch, wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.message import Message

from mesh.agent.deliver import Deliver, Start, parse_deliver
from mesh.contract.catalog import Catalog
from mesh.contract.cloudevents import MSG_ID, CloudEvent, message_id
from mesh.contract.event_type import EventType, Kind
from mesh.contract.generated import event_type
from mesh.contract.ids import new_id
from mesh.contract.namespace import Namespace
from mesh.contract.validation import validate
from mesh.errors import NotFound, Unreachable, UsageError
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection, connect
from mesh.jetstream.log import JetStreamLog
from mesh.jetstream.provision import Provisioner
from mesh.jetstream.reader import Reader
from mesh.jetstream.registry import Registry
from mesh.jetstream.topology import Topology, base_streams, domain_stream
from mesh.query.record import Record, read_record
from mesh.runtime.ports import Tracing, Write
from mesh.settings import Settings
from mesh.telemetry.setup import tracing

__all__ = ["Emitted", "Mesh", "Record"]

_MAX_ID = 512


@dataclass(frozen=True, slots=True)
class Emitted:
    """Outcome of a publish.

    Attributes:
        id: Id of the event.
        seq: Its sequence in the stream.
        duplicate: An event of this type and id was there already; nothing was written now.
    """

    id: str
    seq: int
    duplicate: bool


class Mesh:
    """A connection to the mesh for programs that are not agents. Made by `Mesh.connect`."""

    def __init__(self, connection: Connection, settings: Settings, tracer: Tracing) -> None:
        self._connection = connection
        self._settings = settings
        self._tracing = tracer
        self._namespace = Namespace(settings.namespace)
        self._log = JetStreamLog(connection, self._namespace)
        self._provisioned: set[str] = set()
        self._provisioning = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings | None = None) -> "AsyncIterator[Mesh]":
        """Connects, with settings from the environment when none are given: `async with Mesh.connect() as mesh`.

        Raises:
            Unreachable: NATS does not answer.
            UsageError: A setting is not allowed.
        """
        settings = settings or Settings.load()
        connection = await connect(settings.nats, "mesh client")
        try:
            with tracing("mesh") as tracer:
                yield cls(connection, settings, tracer)
        finally:
            await connection.close()

    @property
    def connection(self) -> Connection:
        """The connection underneath."""
        return self._connection

    @property
    def namespace(self) -> Namespace:
        """Where this client publishes and reads."""
        return self._namespace

    @property
    def settings(self) -> Settings:
        """The settings it was made with."""
        return self._settings

    async def emit(self, event: Message, *, id: str | None = None) -> Emitted:  # noqa: A002 - CloudEvents' word
        """Publishes an event. When this returns, the event is stored.

        Args:
            event: The event; its message is marked `(mesh.v1.event)`.
            id: Idempotency key: an event of the same type and id is stored once within the duplicate window of the
                stream. A new UUIDv7 when not given.

        Raises:
            ContractError: The event violates its constraints, or its key is empty.
            UsageError: The message is not an event.
            Refused: The message is larger than the server takes.
            Unreachable: The server did not acknowledge it, also when asked again. Publishing again with the same id
                is safe.
        """
        return await self.publish(_expect(type(event), Kind.EVENT), event, id=id)

    async def send(self, command: Message, *, id: str | None = None) -> Emitted:  # noqa: A002
        """Sends a command to the one agent that handles it. Like `emit` in all else."""
        return await self.publish(_expect(type(command), Kind.COMMAND), command, id=id)

    async def publish(self, kind: EventType, message: Message, *, id: str | None = None) -> Emitted:  # noqa: A002
        """Publishes an event or a command whose type may be known from the registry only; see `emit`."""
        if id is not None and not 0 < len(id) <= _MAX_ID:
            raise UsageError(
                f"an event id has 1 to {_MAX_ID} characters, this one has {len(id)}",
                code="bad_id",
                object=id[:40],
                cure="use a shorter id, e.g. a hash of it",
            )
        key = kind.key(message)
        validate(message)
        event_id = id or new_id()
        event = CloudEvent(
            id=event_id,
            source=f"/{self._namespace.name}/clients",
            type=kind.full_name,
            subject=f"{kind.entity_type}/{key}",
            correlation_id=event_id,
        )
        await self._provide(kind)
        with self._tracing.publish(kind, event) as trace:
            headers = event.headers() | dict(trace) | {MSG_ID: message_id(kind.name, event_id)}
            write = Write(kind.subject(self._namespace, key), message.SerializeToString(), headers)
            stream = self._namespace.stream(kind.domain.name)
            try:
                done = await self._log.commit(stream, [write])
            except Unreachable:
                await self._require_stream(kind)
                raise
        return Emitted(event_id, done.sequence, done.duplicate)

    async def watch(
        self, event: type[Message], *, key: str | int | None = None, since: Deliver = "new"
    ) -> AsyncIterator[Record]:
        """Follows an event type without being an agent: nothing is acknowledged, nothing is shared.

        Args:
            event: Which event.
            key: Only events with this key.
            since: Where to start: `"new"`, `"all"`, `"since:1h"`, a `datetime` or a `timedelta`.

        Yields:
            Records, in the order of the stream, for ever.

        Raises:
            UsageError: The message is a state.
            Unreachable: NATS does not answer.
        """
        kind = _expect(event, Kind.EVENT, Kind.COMMAND)
        async with self._open(kind, parse_deliver(since), key) as records:
            async for record in records:
                yield record

    async def wait_for(
        self,
        event: type[Message],
        *,
        correlation_id: str | None = None,
        key: str | int | None = None,
        timeout: float = 30.0,
        since: Deliver = timedelta(minutes=5),
    ) -> Record:
        """Waits for the first event of a type that belongs to a correlation, or to an entity.

        Args:
            event: Which event.
            correlation_id: Id of the root event, `Emitted.id`.
            key: Key of the event.
            timeout: Seconds to wait.
            since: How far back to look for one that is there already.

        Raises:
            NotFound: None came in time.
            UsageError: The message is a state.
            Unreachable: NATS does not answer.
        """
        kind = _expect(event, Kind.EVENT, Kind.COMMAND)
        try:
            async with asyncio.timeout(timeout), self._open(kind, parse_deliver(since), key) as records:
                async for record in records:
                    if correlation_id in (None, record.correlation_id):
                        return record
        except TimeoutError:
            pass
        wanted = f"correlation {correlation_id}" if correlation_id else f"key {key}"
        raise NotFound(f"no {kind.full_name} of {wanted} within {timeout:g} s", code="timeout", object=kind.full_name)

    async def get_state[M: Message](self, state: type[M], key: str | int) -> M | None:
        """The current state of an entity, or None when there is none.

        It may have changed by the time it is looked at: what must hold together is read and written by an agent, with
        `ctx.state`.

        Raises:
            UsageError: The message is not a state.
            Unreachable: NATS does not answer.
        """
        kind = _expect(state, Kind.STATE)
        stream, subject = self._namespace.stream(kind.domain.name), kind.subject(self._namespace, str(key))
        stored = await self._log.last(stream, subject)
        return None if stored is None or stored.is_deletion else state.FromString(stored.data)

    async def watch_state(
        self, state: type[Message], *, key: str | int | None = None, since: Deliver = "all"
    ) -> AsyncIterator[Record]:
        """Follows the state of one entity, or of all: the current values first, then every change.

        The log keeps the last value of an entity only: of changes that come faster than they are read, the last one
        is seen. That an entity was deleted is kept for a second: a deletion is not seen by a reader that is
        disconnected, or behind, for longer than that, nor by one that starts later. `get_state` always knows.

        Args:
            state: Which state.
            key: Only the entity with this key.
            since: `"new"` leaves out the current values; a time, those that are older. See `watch`.

        Yields:
            Records, in the order of the stream, for ever. A deleted state is `deleted` and has no `message`.

        Raises:
            UsageError: The message is not a state.
            Unreachable: NATS does not answer.
        """
        kind = _expect(state, Kind.STATE)
        async with self._open(kind, parse_deliver(since), key) as records:
            async for record in records:
                yield record

    @asynccontextmanager
    async def _open(self, kind: EventType, start: Start, key: str | int | None) -> AsyncIterator[AsyncIterator[Record]]:
        await self._provide(kind)
        stream = self._namespace.stream(kind.domain.name)
        every = self._namespace.every(kind.domain.name, kind.kind, kind.name)
        subject = every if key is None else kind.subject(self._namespace, str(key))
        catalog = Catalog([kind])

        async def records() -> AsyncIterator[Record]:
            async for message in messages:
                record = read_record(self._namespace, catalog, stream, message)
                if record is not None and (record.message is not None or record.deleted):
                    yield record

        async with Reader(self._connection, stream, [subject], start).open() as messages:
            yield records()

    async def _provide(self, kind: EventType) -> None:
        """Makes sure that the domain has a stream and its contract is registered."""
        domain = kind.domain.name
        if domain in self._provisioned or not self._settings.auto_provision:
            return
        async with self._provisioning:
            if domain not in self._provisioned:
                await self._provision(kind)
                self._provisioned.add(domain)

    async def _require_stream(self, kind: EventType) -> None:
        """Raises `NotFound` when a domain has no stream; says nothing when that cannot be known."""
        stream = self._namespace.stream(kind.domain.name)
        with suppress(Unreachable):
            if await Api(self._connection).find(f"STREAM.INFO.{stream}") is None:
                cure = "provision it with `mesh apply`, or set MESH_AUTO_PROVISION=true"
                raise NotFound(f"domain {kind.domain.name} has no stream", object=stream, cure=cure)

    async def _provision(self, kind: EventType) -> None:
        streams = [*base_streams(self._namespace, self._settings.stream)]
        streams.append(domain_stream(self._namespace, self._settings.stream, kind.domain))
        provisioner = Provisioner(Api(self._connection), self._settings.stream)
        await provisioner.widen(Topology({config["name"]: config for config in streams}))
        await Registry(self._connection, self._namespace).register_contracts([kind])


_A = {Kind.EVENT: "an event", Kind.COMMAND: "a command", Kind.STATE: "a state"}


_INSTEAD = {
    Kind.EVENT: "use mesh.emit or mesh.watch",
    Kind.COMMAND: "use mesh.send or mesh.watch",
    Kind.STATE: "state is written by agents, with ctx.state.put, and read with mesh.get_state or mesh.watch_state",
}


def _expect(message: type[Message], *kinds: Kind) -> EventType:
    found = event_type(message)
    if found.kind not in kinds:
        raise UsageError(
            f"{found.full_name} is {_A[found.kind]}, not {' or '.join(_A[kind] for kind in kinds)}",
            code="wrong_kind",
            object=found.full_name,
            cure=_INSTEAD[found.kind],
        )
    return found
