"""Dead letters: found, shown, given another try, or discarded."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from google.protobuf.message import DecodeError

from mesh.contract.cloudevents import MSG_ID, REDO, message_id
from mesh.contract.event_type import Kind
from mesh.contract.namespace import Address, Namespace
from mesh.contract.validation import validate
from mesh.errors import ContractError, NotFound, Refused
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection
from mesh.jetstream.log import JetStreamLog
from mesh.jetstream.registry import Registry
from mesh.jetstream.scan import scan
from mesh.query.decoder import Decoder
from mesh.query.domains import domain_streams
from mesh.query.payload import parse_object, to_message
from mesh.query.record import Record
from mesh.runtime.ports import Committed, Stored, Write
from mesh.v1.log_pb2 import DeadLetter

_DELETED: Final = 10043


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """An event that an agent gave up on.

    Attributes:
        letter: What was kept of it, and why.
        address: Where the event was delivered, taken apart.
        stream: Stream of the dead letter.
        seq: Its sequence.
        time: When it was stored.
    """

    letter: DeadLetter
    address: Address
    stream: str
    seq: int
    time: datetime

    @property
    def label(self) -> str:
        """`<domain>.<name>` of the event."""
        return f"{self.address.domain}.{self.address.name}"

    @property
    def error(self) -> str:
        """The code, and for a handler that failed the type of its exception."""
        letter = self.letter
        return f"{letter.code} {letter.error_type}" if letter.code == "handler_failed" else letter.code


class DeadLetters:
    """The dead letters of a namespace."""

    def __init__(self, connection: Connection, namespace: Namespace) -> None:
        self._connection = connection
        self._namespace = namespace
        self._api = Api(connection)
        self._log = JetStreamLog(connection, namespace)
        self._decoder = Decoder(connection, namespace)

    async def all(self, agent: str | None = None) -> AsyncIterator[DeadEvent]:
        """The dead letters of an agent, or of all, by domain and age, oldest first.

        Raises:
            Unreachable: NATS does not answer.
        """
        for domain, stream in (await domain_streams(self._connection, self._namespace)).items():
            async with scan(self._connection, stream, [self._namespace.every_dead(domain, agent or "*")]) as messages:
                async for stored in messages:
                    if dead := read_dead(self._namespace, stream, stored):
                        yield dead

    async def find(self, event_ids: Collection[str], agent: str | None = None) -> list[DeadEvent]:
        """The dead letters of events, by their ids.

        Raises:
            NotFound: There is none for one of the ids, or several agents have one and `agent` does not say which.
            Unreachable: NATS does not answer.
        """
        found = [dead async for dead in self.all(agent) if dead.letter.event_id in event_ids]
        for event_id in event_ids:
            agents = sorted({dead.letter.agent for dead in found if dead.letter.event_id == event_id})
            if not agents:
                whose = f"{agent} has" if agent else "there is"
                raise NotFound(f"{whose} no dead letter of event {event_id}", object=event_id, cure="see mesh dlq ls")
            if len(agents) > 1:
                raise NotFound(
                    f"several agents gave up event {event_id}: {', '.join(agents)}",
                    code="ambiguous",
                    object=event_id,
                    cure="name one with --agent",
                )
        return found

    async def event(self, dead: DeadEvent) -> Record | None:
        """The event that was given up, decoded; None where its payload is found nowhere any more.

        Raises:
            Unreachable: NATS does not answer.
        """
        letter = dead.letter
        if letter.data_omitted:
            stored = await self._api.message(letter.stream, seq=letter.stream_sequence)
        else:
            published = letter.published.ToDatetime(UTC)
            stored = Stored(letter.subject, letter.data, dict(letter.headers), letter.stream_sequence, published)
        record = await self._decoder.decode(letter.stream, stored) if stored else None
        return replace(record, id=letter.event_id) if record else None

    async def corrected(self, dead: DeadEvent, text: str) -> bytes:
        """Another payload for a dead event.

        Args:
            dead: Which one.
            text: The payload in JSON.

        Raises:
            UsageError: The text is no JSON object.
            NotFound: The contract of the event is not registered.
            ContractError: The payload does not fit the contract, or has another key than the event.
            Unreachable: NATS does not answer.
        """
        address, catalog = dead.address, await Registry(self._connection, self._namespace).catalog()
        kind = next(
            filter(None, (catalog.at(address.domain, k, address.name) for k in (Kind.EVENT, Kind.COMMAND))), None
        )
        kind = kind or catalog.find(dead.letter.type)
        message = to_message(kind, parse_object(text))
        validate(message)
        if kind.key(message) != address.key:
            raise ContractError(
                f"the payload is about {kind.entity_type}/{kind.key(message)}, the event about {address.key}",
                code="other_key",
                object=f"{kind.full_name}.{kind.key_field}",
                cure="keep the key, or emit a new event",
            )
        return message.SerializeToString()

    async def redrive(self, dead: DeadEvent, payload: bytes | None = None) -> Committed:
        """Gives an event to its agent, and to no other, once more, then removes the dead letter.

        The event keeps its id, so what the agent emits keeps its ids too. When this is interrupted in between and
        repeated within the duplicate window of the stream, nothing is sent again and the outcome is a duplicate.

        Args:
            dead: Which one.
            payload: What `corrected` made; the payload that was given up when None.

        Raises:
            NotFound: The payload was too large for the dead letter and has left the stream since.
            Unreachable: NATS does not answer. Redriving again is safe.
        """
        letter, address = dead.letter, dead.address
        data = await self._payload(letter) if payload is None else payload
        headers = _redo_headers(letter, address.name, edited=payload is not None)
        subject = self._namespace.redo(address.domain, letter.agent, address.name, address.key)
        committed = await self._log.commit(dead.stream, [Write(subject, data, headers)])
        await self.discard(dead)
        return committed

    async def discard(self, dead: DeadEvent) -> None:
        """Removes a dead letter, unless it is gone already.

        Raises:
            Unreachable: NATS does not answer.
        """
        try:
            await self._api.call(f"STREAM.MSG.DELETE.{dead.stream}", {"seq": dead.seq})
        except Refused as error:
            if error.server_code != _DELETED:
                raise

    async def _payload(self, letter: DeadLetter) -> bytes:
        if not letter.data_omitted:
            return letter.data
        stored = await self._api.message(letter.stream, seq=letter.stream_sequence)
        if stored is None:
            raise NotFound(
                f"the payload of {letter.event_id} did not fit into the dead letter and has left {letter.stream}",
                code="payload_gone",
                object=letter.event_id,
                cure="give it with --payload, or discard the dead letter",
            )
        return stored.data


def read_dead(namespace: Namespace, stream: str, stored: Stored) -> DeadEvent | None:
    """Reads a dead letter; None for a message that is none."""
    address = namespace.parse(stored.subject)
    try:
        letter = DeadLetter.FromString(stored.data)
    except DecodeError:
        return None
    return DeadEvent(letter, address, stream, stored.sequence, stored.time) if address else None


def _redo_headers(letter: DeadLetter, name: str, *, edited: bool) -> dict[str, str]:
    """The headers of the event, without what they told the server, and with the count of redrives."""
    dropped = ("content-type", "ce-datacontenttype") if edited else ()
    headers = {
        header: value
        for header, value in letter.headers.items()
        if not header.lower().startswith("nats-") and header.lower() not in dropped
    }
    if "ce-id" not in map(str.lower, headers):
        headers["ce-id"] = quote(letter.event_id, safe="")
    count = letter.redrives + 1
    # The name of the agent: the same event may be dead, and redriven, for several agents of one stream.
    return headers | {REDO: str(count), MSG_ID: message_id(f"{letter.agent}/{name}", letter.event_id, count)}
