"""What the runtime needs from the world around it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from mesh.contract.cloudevents import DELETED, CloudEvent
from mesh.contract.event_type import EventType


class Delivery(Protocol):
    """One delivery of a message by a durable consumer.

    Settling is idempotent towards the stream and fire-and-forget: a settlement that gets lost leads to a redelivery.

    Attributes:
        subject: Subject as delivered.
        headers: Headers as delivered.
        data: Payload.
        stream: Name of the stream.
        sequence: Sequence of the message in the stream.
        delivered: How often the message was delivered, this time included.
        published: When the stream stored the message.
    """

    subject: str
    headers: Mapping[str, str]
    data: bytes
    stream: str
    sequence: int
    delivered: int
    published: datetime

    def ack(self) -> None:
        """It is done."""

    def nak(self, delay: float = 0.0) -> None:
        """Deliver it again, after `delay` seconds."""

    def term(self, reason: str) -> None:
        """Never deliver it again."""

    def in_progress(self) -> None:
        """It takes longer: start the ack wait anew."""


@dataclass(frozen=True, slots=True)
class Write:
    """One message of a commit.

    Attributes:
        subject: Where it goes.
        data: Payload.
        headers: Headers, `Nats-Msg-Id` included.
        expect: Sequence that the last message of `expect_subject` must have (0: there must be none); None for no
            condition.
        expect_subject: Subject of the condition; the message's own when None.
    """

    subject: str
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    expect: int | None = None
    expect_subject: str | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """Outcome of a commit.

    Attributes:
        sequence: Sequence of its last message; 0 when it had been committed before and the server does not say where.
        duplicate: It had been committed before; nothing was written now.
    """

    sequence: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream holds it."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    sequence: int
    time: datetime

    @property
    def is_deletion(self) -> bool:
        """It says that what its subject held is no more. An empty payload alone is a legal state."""
        return DELETED.items() <= self.headers.items()


class Log(Protocol):
    """The streams of the mesh."""

    async def commit(self, stream: str, writes: Sequence[Write]) -> Committed:
        """Makes all messages visible together, or none.

        Messages with a `Nats-Msg-Id` come first. Lost acknowledgements are resolved, so that a commit that was
        stored is reported as committed.

        Raises:
            Conflict: A condition does not hold; nothing was written.
            Refused: The server refuses the messages; nothing was written.
            Unreachable: NATS does not answer. Committing the same messages again is safe.
        """
        ...

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message of a subject, as the leader of the stream has it.

        Raises:
            Unreachable: NATS does not answer.
        """
        ...

    def read(self, stream: str, subject: str, start: int = 1) -> AsyncIterator[Stored]:
        """The messages of a subject from a sequence on, oldest first, as the leader of the stream has them.

        The subject may be a filter with wildcards.

        Raises:
            Unreachable: NATS does not answer.
        """
        ...

    async def purge(self, stream: str, subject: str) -> None:
        """Removes all messages of a subject.

        Raises:
            Unreachable: NATS does not answer.
        """
        ...

    async def put_blob(self, data: bytes) -> str:
        """Stores bytes once, under the hash of their content, which is returned.

        Raises:
            Unreachable: NATS does not answer.
        """
        ...

    async def get_blob(self, name: str) -> bytes:
        """Bytes that were stored under their hash.

        Raises:
            NotFound: They are gone.
            Unreachable: NATS does not answer.
        """
        ...

    @property
    def max_payload(self) -> int:
        """Largest message the server takes: headers and payload, in bytes."""
        ...


class Tracing(Protocol):
    """Spans around handlings and outputs."""

    def process(self, kind: EventType, event: CloudEvent, agent: str, attempt: int) -> AbstractContextManager[None]:
        """Span of one run of a handler; current inside the block."""
        ...

    def publish(self, kind: EventType, event: CloudEvent) -> AbstractContextManager[Mapping[str, str]]:
        """Span of one output until its commit; yields the trace headers of the message."""
        ...
