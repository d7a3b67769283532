"""Reads a stream in order, from a point in the past or from now on, for as long as somebody asks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from mesh.agent.deliver import Start
from mesh.contract.ids import new_id
from mesh.errors import MeshError, NotFound
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection
from mesh.jetstream.delivery import PulledMessage
from mesh.jetstream.pull import PullConsumer
from mesh.runtime.ports import Stored

_CAPACITY = 1000
_MAX_BYTES = 16 << 20
_FORGET_AFTER = 30 * 1_000_000_000


class Reader:
    """Reads with an ephemeral consumer that needs no acknowledgements and is made anew when the server lost it.

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
        self._name = f"read-{new_id()}"
        self._last = 0
        self._queue: asyncio.Queue[tuple[PulledMessage, Callable[[], None]]] = asyncio.Queue()
        self._mending: asyncio.Task[None] | None = None
        self.backlog = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Stored]]:
        """The messages, in the order of the stream. What is published once this is entered is not missed.

        Raises:
            NotFound: There is no such stream.
            Unreachable: JetStream does not answer.
        """
        await self._create()
        pull = PullConsumer(
            self._connection,
            self._stream,
            self._name,
            lambda message, release: self._queue.put_nowait((message, release)),
            capacity=_CAPACITY,
            max_bytes=_MAX_BYTES,
            missing=self._mend,
        )
        await pull.start()
        try:
            yield self._messages()
        finally:
            if self._mending:
                self._mending.cancel()
            await pull.stop()
            await self._delete()

    async def _messages(self) -> AsyncIterator[Stored]:
        while True:
            message, release = await self._queue.get()
            release()
            if message.sequence > self._last:
                self._last = message.sequence
                yield Stored(message.subject, message.data, message.headers, message.sequence, message.published)

    async def _create(self) -> None:
        config: dict[str, Any] = {
            "name": self._name,
            "ack_policy": "none",
            "max_deliver": -1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _FORGET_AFTER,
            "filter_subjects": self._filters,
        }
        if self._last:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1}
        else:
            config["deliver_policy"] = self._start.policy
            if self._start.time:
                config["opt_start_time"] = self._start.time.isoformat().replace("+00:00", "Z")
        body = {"stream_name": self._stream, "config": config, "action": "create"}
        made = await self._api.find(f"CONSUMER.CREATE.{self._stream}.{self._name}", body)
        if made is None:
            raise NotFound(f"there is no stream {self._stream}", object=self._stream, cure="provision it: mesh apply")
        # Where it starts, also when it is made anew before the first message: "new" is counted from the first time.
        self._last = max(self._last, made["delivered"]["stream_seq"])
        self.backlog = made.get("num_pending", 0)

    def _mend(self) -> None:
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._recreate())

    async def _recreate(self) -> None:
        try:
            await self._create()
        except MeshError:
            return  # the next pull reports it missing again

    async def _delete(self) -> None:
        try:
            await self._api.call(f"CONSUMER.DELETE.{self._stream}.{self._name}")
        except MeshError:
            return  # the server forgets it by itself
