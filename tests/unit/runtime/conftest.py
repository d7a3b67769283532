import asyncio
import hashlib
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from mesh.agent.settlement import RetryPolicy
from mesh.contract.cloudevents import MSG_ID
from mesh.contract.generated import event_type
from mesh.contract.namespace import Namespace
from mesh.errors import Conflict, NotFound
from mesh.runtime.execution import Environment
from mesh.runtime.gate import Gate
from mesh.runtime.ports import Committed, Stored

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


class MemoryLog:
    """Streams in memory, with the rules of the server that the runtime relies on."""

    max_payload = 1 << 20

    def __init__(self):
        self.streams = defaultdict(list)
        self._sequences = defaultdict(int)
        self._blobs = {}

    async def commit(self, stream, writes):
        await asyncio.sleep(0)
        known = {stored.headers[MSG_ID]: stored.sequence for stored in self.streams[stream] if MSG_ID in stored.headers}
        for write in writes:
            if write.headers.get(MSG_ID) in known:
                return Committed(known[write.headers[MSG_ID]], duplicate=True)
        for write in writes:
            last = self._last(stream, write.expect_subject or write.subject)
            if write.expect not in (None, last.sequence if last else 0):
                raise Conflict(f"{write.subject} was written meanwhile", code="conflict", object=write.subject)
        for write in writes:
            self._sequences[stream] += 1
            stored = Stored(write.subject, write.data, write.headers, self._sequences[stream], NOON)
            self.streams[stream].append(stored)
        return Committed(self._sequences[stream])

    async def last(self, stream, subject):
        return self._last(stream, subject)

    async def read(self, stream, subject, start=1):
        for stored in list(self.streams[stream]):
            if stored.sequence >= start and matches(subject, stored.subject):
                yield stored

    async def purge(self, stream, subject):
        self.streams[stream] = [stored for stored in self.streams[stream] if stored.subject != subject]

    async def put_blob(self, data):
        name = hashlib.sha256(data).hexdigest()
        self._blobs[name] = data
        return name

    async def get_blob(self, name):
        if name not in self._blobs:
            raise NotFound(f"there is no blob {name}", object=name)
        return self._blobs[name]

    def _last(self, stream, subject):
        return next((s for s in reversed(self.streams[stream]) if s.subject == subject), None)


def matches(wildcard, subject):
    wanted, tokens = wildcard.split("."), subject.split(".")
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))


@dataclass
class MemoryDelivery:
    """A delivery that keeps how it was settled."""

    subject: str
    data: bytes = b""
    headers: dict = field(default_factory=dict)
    stream: str = "MESH_SHOP"
    sequence: int = 1
    delivered: int = 1
    published: datetime = NOON
    settlements: list = field(default_factory=list)

    def ack(self):
        self.settlements.append("ack")

    def nak(self, delay=0.0):
        self.settlements.append(("nak", delay))

    def term(self, reason):
        self.settlements.append(("term", reason))

    def in_progress(self):
        self.settlements.append("in progress")


class Untraced:
    def process(self, kind, event, agent, attempt):
        return nullcontext()

    def publish(self, kind, event):
        return nullcontext({"traceparent": f"of {kind.label}"})


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def names():
    return Namespace("mesh")


@pytest.fixture
def tracing():
    return Untraced()


@pytest.fixture
def environment(log, names, tracing):
    return Environment(names, log, tracing, RetryPolicy(base=1.0), Gate())


@pytest.fixture
def delivery(names):
    """Makes a delivery of a message; `subject` and `data` may say otherwise."""

    def make(message, *, headers=None, **changes):
        kind = event_type(type(message))
        event = {"ce-id": "e1", "ce-source": "/erp", "ce-type": kind.full_name}
        subject = changes.pop("subject", None) or kind.subject(names, kind.key(message))
        data = changes.pop("data", message.SerializeToString())
        return MemoryDelivery(subject, data, event if headers is None else headers, **changes)

    return make
