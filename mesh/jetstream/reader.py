"""Reads a stream in order, from a point in the past or from now on, for as long as somebody asks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from mesh.agent.deliver import Start
from mesh.contract.ids import new_id
from mesh.errors import MeshError, NotFound, Unreachable
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection
from mesh.jetstream.delivery import PulledMessage
from mesh.jetstream.pull import PullConsumer
from mesh.runtime.ports import Stored

_CAPACITY = 1000
_MAX_BYTES = 16 << 20
_FORGET_AFTER = 30 * 1_000_000_000
_RETRY = 0.5


class Reader:
    """Reads with an ephemeral consumer that needs no acknowledgements.

    The server never repeats what it sent to such a consumer, so a new one takes over behind the last message that
    came whenever the connection breaks, a message is missing in between, or the server has lost the consumer.

    Args:
        connection: To the server.
        stream: Name of the stream.
        filters: Subjects to read; none of them may overlap.
        start: Where to start.
    """

    def __init__(self, connection: Connection, stream: str, filters: Iterable[str], start: Start) -> None:
        self._connection = connection
        self._api = Api(connection)
        self._stream = stream
        self._filters = sorted(filters)
        self._start = start
        self._name = ""
        self._pull: PullConsumer | None = None
        self._received = 0
        self._next = 1
        self._queue: asyncio.Queue[tuple[PulledMessage, Callable[[], None]]] = asyncio.Queue()
        self._mending: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Stored]]:
        """The messages, in the order of the stream. What is published once this is entered is not missed.

        Raises:
            NotFound: There is no such stream.
            Unreachable: JetStream does not answer.
        """
        await self._begin()
        forget = self._connection.on_reconnect(self._mend)
        try:
            yield self._messages()
        finally:
            forget()
            if self._mending:
                self._mending.cancel()
            await self._end()

    async def _messages(self) -> AsyncIterator[Stored]:
        while True:
            message, release = await self._queue.get()
            release()
            yield Stored(message.subject, message.data, message.headers, message.sequence, message.published)

    async def _begin(self) -> None:
        """Creates a consumer behind what was received and pulls from it."""
        self._name, self._next = f"read-{new_id()}", 1
        config: dict[str, Any] = {
            "name": self._name,
            "ack_policy": "none",
            "max_deliver": -1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _FORGET_AFTER,
            "filter_subjects": self._filters,
        }
        if self._received:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": self._received + 1}
        else:
            config["deliver_policy"] = self._start.policy
            if self._start.time:
                config["opt_start_time"] = self._start.time.isoformat().replace("+00:00", "Z")
        body = {"stream_name": self._stream, "config": config, "action": "create"}
        made = await self._api.find(f"CONSUMER.CREATE.{self._stream}.{self._name}", body)
        if made is None:
            raise NotFound(f"there is no stream {self._stream}", object=self._stream, cure="provision it: mesh apply")
        # Where it starts, also when it is made anew before the first message: "new" is counted from the first time.
        self._received = max(self._received, made["delivered"]["stream_seq"])
        self._pull = PullConsumer(
            self._connection,
            self._stream,
            self._name,
            self._take,
            capacity=_CAPACITY,
            max_bytes=_MAX_BYTES,
            missing=self._mend,
        )
        await self._pull.start()

    def _take(self, message: PulledMessage, release: Callable[[], None]) -> None:
        if message.consumer_sequence == self._next:
            self._next += 1
            self._received = message.sequence
            self._queue.put_nowait((message, release))
        else:
            release()
            self._mend()

    def _mend(self) -> None:
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._begin_again())

    async def _begin_again(self) -> None:
        while True:
            await self._end()
            try:
                await self._begin()
            except MeshError:
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _end(self) -> None:
        if self._pull:
            with suppress(Unreachable):
                await self._pull.stop()
        with suppress(MeshError):  # the server forgets it by itself
            await self._api.call(f"CONSUMER.DELETE.{self._stream}.{self._name}")
