"""Finds one event, and what it caused."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

from mesh.agent.deliver import Start
from mesh.contract.cloudevents import CloudEvent, read_headers
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
                async with aclosing(self._search(domain, stream, lambda e: e.id == event_id, start)) as found:
                    async for stored in found:
                        return stream, stored
        raise NotFound(f"there is no event {event_id}", object=event_id, cure="take an id from mesh tail --since all")

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
                domain,
                other,
                lambda event: event.causation_id == event_id,
                Start("by_start_time", cause.time - _CLOCK_SKEW),
                after=cause.sequence if home else 0,
                limit=EFFECT_HORIZON,
            )
            effects += [(other, stored) async for stored in found]
        return sorted(effects, key=lambda effect: effect[1].time)

    async def _search(
        self,
        domain: str,
        stream: str,
        wanted: Callable[[CloudEvent], bool],
        start: Start,
        *,
        after: int = 0,
        limit: int | None = None,
    ) -> AsyncGenerator[Stored]:
        filters = [self._namespace.every(domain, kind, "*") for kind in ("evt", "cmd")]
        filters.append(self._namespace.every_dead(domain))
        searched = 0
        async with scan(self._connection, stream, filters, start, after=after, headers_only=True) as heads:
            async for head in heads:
                if wanted(read_headers(head.headers, fallback_id=f"{stream}:{head.sequence}")):
                    stored = await self._api.message(stream, seq=head.sequence)
                    if stored:
                        yield stored
                searched += 1
                if searched == limit:
                    return


def _first_guess(event_id: str) -> Start:
    """Where an event is likely to lie."""
    made = _UUID7.fullmatch(event_id)
    if made is None:
        return Start("by_start_time", datetime.now(UTC) - _RECENT)
    return Start("by_start_time", datetime.fromtimestamp(int(made[1] + made[2], 16) / 1000, UTC) - _CLOCK_SKEW)
