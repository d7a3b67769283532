"""Streams and deliveries in memory, with the rules of the server that the runtime relies on.

For tests of single agents. What depends on redelivery, on time or on several processes is tested on a real server.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mesh.contract.cloudevents import MSG_ID
from mesh.errors import Conflict, NotFound
from mesh.runtime.ports import Committed, Stored, Write

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
"""When everything in memory happens, so that tests are repeatable."""

_SUFFIX = ">"


class MemoryLog:
    """Streams in memory; see `mesh.runtime.ports.Log`. Message ids are never forgotten, and nothing expires.

    Attributes:
        streams: The messages of each stream, oldest first.
        max_payload: Largest message, which is not enforced.
    """

    def __init__(self) -> None:
        self.streams: defaultdict[str, list[Stored]] = defaultdict(list)
        self.max_payload = 1 << 20
        self._sequences: defaultdict[str, int] = defaultdict(int)
        self._blobs: dict[str, bytes] = {}

    async def commit(self, stream: str, writes: Sequence[Write]) -> Committed:
        """Makes all messages visible together, or none."""
        await asyncio.sleep(0)
        known = {s.headers[MSG_ID]: s.sequence for s in self.streams[stream] if MSG_ID in s.headers}
        for write in writes:
            if (message_id := write.headers.get(MSG_ID)) in known:
                return Committed(known[str(message_id)], duplicate=True)
        for write in writes:
            last = self._last(stream, write.expect_subject or write.subject)
            if write.expect not in (None, last.sequence if last else 0):
                raise Conflict(f"{write.subject} was written meanwhile", code="conflict", object=write.subject)
        for write in writes:
            self._sequences[stream] += 1
            if write.headers.get("Nats-Rollup") == "sub":
                self._remove(stream, write.subject)
            sequence = self._sequences[stream]
            self.streams[stream].append(Stored(write.subject, write.data, write.headers, sequence, NOON))
        return Committed(self._sequences[stream])

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message of a subject."""
        return self._last(stream, subject)

    async def read(self, stream: str, subject: str, start: int = 1) -> AsyncIterator[Stored]:
        """The messages of a subject, or of a filter, from a sequence on, oldest first."""
        for stored in list(self.streams[stream]):
            if stored.sequence >= start and matches(subject, stored.subject):
                yield stored

    async def purge(self, stream: str, subject: str) -> None:
        """Removes all messages of a subject."""
        self._remove(stream, subject)

    async def put_blob(self, data: bytes) -> str:
        """Stores bytes under the hash of their content."""
        name = hashlib.sha256(data).hexdigest()
        self._blobs[name] = data
        return name

    async def get_blob(self, name: str) -> bytes:
        """Bytes that were stored under their hash."""
        if name not in self._blobs:
            raise NotFound(f"there is no blob {name}", object=name)
        return self._blobs[name]

    def _last(self, stream: str, subject: str) -> Stored | None:
        return next((stored for stored in reversed(self.streams[stream]) if stored.subject == subject), None)

    def _remove(self, stream: str, subject: str) -> None:
        self.streams[stream] = [stored for stored in self.streams[stream] if stored.subject != subject]


def matches(wildcard: str, subject: str) -> bool:
    """Whether a subject is one of a filter's: `*` stands for one token, a last `>` for all that follow."""
    wanted, tokens = wildcard.split("."), subject.split(".")
    if wanted[-1] == _SUFFIX:
        wanted = wanted[:-1]
        tokens = tokens[: len(wanted)] if len(tokens) > len(wanted) else []
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))


@dataclass
class MemoryDelivery:
    """A delivery that keeps how it was settled; see `mesh.runtime.ports.Delivery`.

    Attributes:
        settlements: `ack`, `in progress`, `("nak", delay)` or `("term", reason)`, in order.
    """

    subject: str
    data: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: str = "MESH_SHOP"
    sequence: int = 1
    delivered: int = 1
    published: datetime = NOON
    settlements: list[object] = field(default_factory=list)

    def ack(self) -> None:
        """It is done."""
        self.settlements.append("ack")

    def nak(self, delay: float = 0.0) -> None:
        """Deliver it again."""
        self.settlements.append(("nak", delay))

    def term(self, reason: str) -> None:
        """Never deliver it again."""
        self.settlements.append(("term", reason))

    def in_progress(self) -> None:
        """It takes longer."""
        self.settlements.append("in progress")
