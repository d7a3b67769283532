"""Finds one event, and what it caused."""

import re
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

from mesh.agent.deliver import Start
from mesh.contract.cloudevents import CloudEvent, read_headers
from mesh.contract.event_type import Kind
from mesh.contract.namespace import Namespace
from mesh.errors import NotFound
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection
from mesh.jetstream.scan import EVERYTHING, scan
from mesh.query.domains import domain_streams
from mesh.runtime.ports import Stored

EFFECT_HORIZON: Final = 100_000
"""How many messages of a stream are searched for the effects of an event."""

_POSITION = re.compile(r"([A-Z0-9_]+):(\d+)")
_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_CLOCK_SKEW = timedelta(minutes=1)
_RECENT = timedelta(hours=1)


class Finder:
    """Searches all domains of a namespace.

    JetStream has no index of ids and causes, so the headers of messages are read, some 60 000 in a second.
    """

    def __init__(self, connection: Connection, namespace: Namespace) -> None:
        self._connection = connection
        self._namespace = namespace
        self._api = Api(connection)

    async def event(self, event_id: str) -> tuple[str, Stored]:
        """Finds an event, a command or a dead letter.

        A position costs one request. For an id the search begins a minute before a UUIDv7 was made, and an hour ago
        for any other id; what is not found there is looked for in all that the streams hold.

        Args:
            event_id: `ce-id`, or `<STREAM>:<sequence>`. An id is unique within its source only; of several events with
                the same id, the first one in the log is found.

        Returns:
            The stream, and the message.

        Raises:
            NotFound: There is no such event.
            Unreachable: NATS does not answer.
        """
        streams = await domain_streams(self._connection, self._namespace)
        position = _POSITION.fullmatch(event_id)
        if position and position[1] in streams.values():
            stored = await self._api.message(position[1], seq=int(position[2]))
            if stored:
                return position[1], stored
        for start in (_first_guess(event_id), EVERYTHING):
            for domain, stream in streams.items():
                filters = self._everything(domain)
                async with aclosing(self._search(stream, filters, lambda e: e.id == event_id, start)) as found:
                    async for stored in found:
                        return stream, stored
        raise NotFound(f"there is no event {event_id}", object=event_id, cure="take an id from mesh tail --since all")

    async def events(self, event_ids: Collection[str], *, key: str, until: datetime) -> dict[str, tuple[str, Stored]]:
        """Finds events and commands of the past, as far as the streams hold them.

        Those with the key cost little. For others everything is read that was stored before `until`, from a minute
        before the oldest UUIDv7 was made, or from the first message on where an id does not tell its time.

        Args:
            event_ids: `ce-id` of each; see `event`.
            key: The key that most of them have.
            until: When the last of them was stored, at the latest.

        Returns:
            The stream and the message of each event that was found, by id.

        Raises:
            Unreachable: NATS does not answer.
        """
        found = await self._named(set(event_ids), key, EVERYTHING, until)
        if missing := set(event_ids) - found.keys():
            found |= await self._named(missing, None, _oldest(missing), until)
        return found

    async def effects(self, event_id: str, stream: str, cause: Stored) -> list[tuple[str, Stored]]:
        """What the handlings of an event emitted, with the streams it lies in, by time.

        In each stream `EFFECT_HORIZON` messages are searched from the event on; what was caused later is not found.

        Args:
            event_id: `ce-id` of the event.
            stream: Stream of the event.
            cause: The event.

        Raises:
            Unreachable: NATS does not answer.
        """
        effects = []
        for domain, other in (await domain_streams(self._connection, self._namespace)).items():
            home = other == stream
            found = self._search(
                other,
                self._everything(domain),
                lambda event: event.causation_id == event_id,
                Start("by_start_time", cause.time - _CLOCK_SKEW),
                after=cause.sequence if home else 0,
                limit=EFFECT_HORIZON,
            )
            effects += [(other, stored) async for stored in found]
        return sorted(effects, key=lambda effect: effect[1].time)

    async def _named(
        self, event_ids: set[str], key: str | None, start: Start, until: datetime
    ) -> dict[str, tuple[str, Stored]]:
        """The first event of each id, among those with the key or among all."""
        found: dict[str, tuple[str, Stored]] = {}
        for domain, stream in (await domain_streams(self._connection, self._namespace)).items():
            filters = [
                self._namespace.every(domain, kind, "*")
                if key is None
                else self._namespace.message(domain, kind, "*", key)
                for kind in (Kind.EVENT, Kind.COMMAND)
            ]
            search = self._search(
                stream, filters, lambda e: e.id in event_ids - found.keys(), start, until=until + _CLOCK_SKEW
            )
            async with aclosing(search) as matches:
                async for stored in matches:
                    found[read_headers(stored.headers, fallback_id=f"{stream}:{stored.sequence}").id] = (stream, stored)
                    if len(found) == len(event_ids):
                        return found
        return found

    def _everything(self, domain: str) -> list[str]:
        """Filters for all that has an id of its own."""
        every = [self._namespace.every(domain, kind, "*") for kind in (Kind.EVENT, Kind.COMMAND)]
        return [*every, self._namespace.every_dead(domain)]

    async def _search(
        self,
        stream: str,
        filters: Iterable[str],
        wanted: Callable[[CloudEvent], bool],
        start: Start,
        *,
        after: int = 0,
        limit: int | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[Stored]:
        searched = 0
        async with scan(self._connection, stream, filters, start, after=after, headers_only=True) as heads:
            async for head in heads:
                if until and head.time > until:
                    return
                if wanted(read_headers(head.headers, fallback_id=f"{stream}:{head.sequence}")):
                    stored = await self._api.message(stream, seq=head.sequence)
                    if stored:
                        yield stored
                searched += 1
                if searched == limit:
                    return


def _first_guess(event_id: str) -> Start:
    """Where an event is likely to lie."""
    made = made_at(event_id)
    return Start("by_start_time", made - _CLOCK_SKEW if made else datetime.now(UTC) - _RECENT)


def _oldest(event_ids: Iterable[str]) -> Start:
    """Where the first of some events is likely to lie."""
    made = [made_at(event_id) for event_id in event_ids]
    times = [time for time in made if time]
    return Start("by_start_time", min(times) - _CLOCK_SKEW) if len(times) == len(made) else EVERYTHING


def made_at(event_id: str) -> datetime | None:
    """When a UUIDv7 was made, by the clock of its maker; None for any other id."""
    uuid = _UUID7.fullmatch(event_id)
    if uuid is None:
        return None
    try:
        return datetime.fromtimestamp(int(uuid[1] + uuid[2], 16) / 1000, UTC)
    except ValueError:  # beyond the year 9999
        return None
