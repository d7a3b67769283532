"""Pulls messages of a consumer, never more than there is room for."""

import asyncio
import json
import logging
import random
from collections.abc import Callable
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from mesh.jetstream.connection import Connection
from mesh.jetstream.delivery import PulledMessage

_log = logging.getLogger("mesh.jetstream")

_EXPIRES = 30.0
_HEARTBEAT = 5.0
_SILENCE = 2.5 * _HEARTBEAT
_MISSING_PAUSE = 1.0
_HEARTBEAT_STATUS: Final = "100"
_GONE: Final = ("Consumer Deleted", "Consumer is push based")
_MIN_BYTES = 1 << 20

type Deliver = Callable[[PulledMessage, Callable[[], None]], None]
"""Takes a message, and what to call when it no longer takes room."""


class PullConsumer:
    """Keeps pull requests open on one consumer.

    Args:
        connection: To the server.
        stream: Name of the stream.
        consumer: Name of the consumer.
        deliver: Called for each message.
        capacity: How many messages may be held at the same time.
        max_bytes: How many bytes may be held at the same time, the next message not counted.
        missing: Called when the server does not know the consumer, at most once a second.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        deliver: Deliver,
        *,
        capacity: int,
        max_bytes: int,
        missing: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._deliver = deliver
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._missing = missing
        self._inbox = connection.new_inbox()
        self._pulls: dict[str, int] = {}
        self._next = 0
        self._held = 0
        self._held_bytes = 0
        self._running = False
        self._heard = 0.0
        self._subscription: Subscription | None = None
        self._forget: Callable[[], None] | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self.pending = 0

    async def start(self) -> None:
        """Begins to pull."""
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._receive)
        self._running = True
        self._forget = self._connection.on_reconnect(self._restart)
        self._watchdog = asyncio.create_task(self._watch())
        self._pull()

    async def stop(self) -> None:
        """Ends the deliveries; when this returns, none comes any more.

        The inbox goes first: the server would answer a NAK by delivering into a pull that is still open.
        """
        if not self._running:
            return
        self._running = False
        if self._forget:
            self._forget()
        if self._watchdog:
            self._watchdog.cancel()
        if self._subscription and self._connection.is_connected:
            await self._subscription.unsubscribe()
            await self._connection.flush()

    def _pull(self) -> None:
        open_pulls = sum(self._pulls.values())
        room = self._capacity - self._held - open_pulls
        space = self._max_bytes - self._held_bytes
        if not self._running or room <= 0 or (open_pulls and room < self._capacity // 2):
            return
        if space <= 0 or not self._connection.is_connected:
            return
        self._next += 1
        token = str(self._next)
        self._pulls[token] = room
        body = {
            "batch": room,
            "expires": int(_EXPIRES * 1e9),
            "idle_heartbeat": int(_HEARTBEAT * 1e9),
            "max_bytes": max(space, _MIN_BYTES, self._connection.max_payload),
        }
        self._heard = asyncio.get_running_loop().time()
        self._connection.post(self._subject, json.dumps(body).encode(), f"{self._inbox}.{token}")

    async def _receive(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        status = message.headers.get("Status") if message.headers and not message.reply.startswith("$JS.ACK") else None
        if status is None:
            self._take(PulledMessage(self._connection, message))
        elif status != _HEARTBEAT_STATUS:
            self._end_pull(message, status)

    def _take(self, message: PulledMessage) -> None:
        # Pulls are served in order, so a message counts against the oldest.
        token = next(iter(self._pulls), None)
        if token is not None:
            self._pulls[token] -= 1
            if not self._pulls[token]:
                del self._pulls[token]
        if not self._running:
            message.nak()
            return
        self._held += 1
        self._held_bytes += message.size
        self.pending = message.pending

        def release() -> None:
            self._held -= 1
            self._held_bytes -= message.size
            self._pull()

        self._deliver(message, release)

    def _end_pull(self, message: Msg, status: str) -> None:
        self._pulls.pop(message.subject.rpartition(".")[2], None)
        description = (message.headers or {}).get("Description", "")
        loop = asyncio.get_running_loop()
        if status == "503" or description in _GONE:
            loop.call_later(_MISSING_PAUSE * random.uniform(0.8, 1.2), self._report_missing)  # noqa: S311 - jitter
        elif status in ("404", "408") or description == "Batch Completed":
            self._pull()
        else:
            _log.debug("pull on %s ended: %s %s", self._subject, status, description)
            loop.call_later(random.uniform(0.05, 0.25), self._pull)  # noqa: S311 - jitter

    def _report_missing(self) -> None:
        if self._running and self._connection.is_connected:
            self._missing()
            self._pull()

    def _restart(self) -> None:
        """The server forgot the open pulls with the connection."""
        self._pulls.clear()
        self._pull()

    async def _watch(self) -> None:
        """Opens pulls anew when the server, which sends heartbeats while one is open, has gone silent."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_HEARTBEAT)
            if self._pulls and loop.time() - self._heard > _SILENCE and self._connection.is_connected:
                _log.warning("no sign of life from %s, pulling again", self._subject)
                self._restart()
