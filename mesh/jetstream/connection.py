"""The connection to NATS: kept for ever, closed with a reason."""

import asyncio
import itertools
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from mesh.errors import Refused, Unreachable
from mesh.settings import NatsSettings

_log = logging.getLogger("mesh.jetstream")

CONNECTION_LOST: Final = "connection_lost"
"""Code of the error of a request whose answer was lost with the connection, which is there again."""

_PING_INTERVAL = 15
_PENDING_BYTES = 64 << 20
_RECONNECT_WAIT = 0.25
_MAX_HEADERS = 64 << 10
"""Bytes of headers from which on the server itself refuses a message, without closing the connection."""

type Callback = Callable[[], None]


class Connection:
    """One connection to NATS, shared by everything in a process.

    Attributes:
        closed: Set when the connection is closed for good; `reason` says why.
        reason: Why the connection was closed; empty while it is not, or when we closed it.
    """

    def __init__(self, settings: NatsSettings, name: str) -> None:
        self.closed = asyncio.Event()
        self.reason = ""
        self._settings = settings
        self._name = name
        self._client = Client()
        self._inbox = f"_INBOX.{self._client.new_inbox().rpartition('.')[2]}"
        self._tokens = itertools.count(1)
        self._replies: dict[str, asyncio.Future[Msg]] = {}
        self._posts: asyncio.Queue[tuple[str, bytes, str]] = asyncio.Queue()
        self._poster: asyncio.Task[None] | None = None
        self._on_reconnect: list[Callback] = []
        self._last_error = ""
        self._violation = ""

    @property
    def is_connected(self) -> bool:
        """Whether the server is there at this moment."""
        return self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Largest message the server takes: headers and payload, in bytes."""
        return self._client.max_payload

    @property
    def request_timeout(self) -> float:
        """Seconds to wait for one answer."""
        return self._settings.request_timeout

    @property
    def server_version(self) -> str:
        """Version of the connected server, e.g. `2.15.0`."""
        version = self._client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    @property
    def client(self) -> Client:
        """The nats-py client, for what is not on the path of messages."""
        return self._client

    async def open(self) -> None:
        """Connects.

        Raises:
            Unreachable: No server answered in time, or it refused the credentials.
        """
        settings = self._settings
        options: dict[str, Any] = {
            "servers": [url.strip() for url in settings.url.split(",")],
            "name": self._name,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": _RECONNECT_WAIT,
            "ping_interval": _PING_INTERVAL,
            "pending_size": _PENDING_BYTES,
            "user": settings.user,
            "password": settings.password.get_secret_value() if settings.password else None,
            "token": settings.token.get_secret_value() if settings.token else None,
            "user_credentials": str(settings.credentials) if settings.credentials else None,
            "nkeys_seed": str(settings.nkey_seed) if settings.nkey_seed else None,
            "tls": self._tls(),
            "error_cb": self._error,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._closed,
        }
        try:
            await asyncio.wait_for(self._client.connect(**options), settings.connect_timeout)
        except (TimeoutError, OSError, ValueError, nats.errors.Error) as error:
            with suppress(Exception):
                await self._client.close()
            detail = self._last_error or str(error) or "no answer"
            url = without_password(settings.url)
            raise Unreachable(
                f"NATS at {url} cannot be reached: {detail}",
                object=url,
                cure="start it with `mesh server`, or set MESH_NATS__URL",
            ) from None
        await self._client.subscribe(f"{self._inbox}.*", cb=self._reply)
        self._poster = asyncio.create_task(self._post())

    async def close(self) -> None:
        """Sends what is waiting and closes."""
        if not self.closed.is_set():
            with suppress(Exception):
                await self.flush()
        if self._poster:
            self._poster.cancel()
        with suppress(Exception):
            await self._client.close()

    def on_reconnect(self, callback: Callback) -> Callback:
        """Calls back after every reconnect, until the returned function is called."""
        self._on_reconnect.append(callback)
        return lambda: self._on_reconnect.remove(callback)

    async def request(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Msg:
        """Sends a message and waits for the answer.

        Raises:
            Unreachable: No answer in time, nobody listens on the subject, or the connection was lost meanwhile.
            Refused: The message is larger than the server takes.
        """
        seconds = timeout or self._settings.request_timeout
        _, future = token = await self.send(subject, data, headers)
        try:
            async with asyncio.timeout(seconds):
                answer = await future
        except TimeoutError:
            detail = f"; the server said: {self._violation}" if self._violation else ""
            raise Unreachable(f"no answer on {subject} within {seconds:g} s{detail}", object=subject) from None
        finally:
            self._replies.pop(token[0], None)
        if answer.headers and answer.headers.get("Status") == "503":
            raise Unreachable(f"nothing listens on {subject}", code="no_responders", object=subject)
        return answer

    async def send(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[str, asyncio.Future[Msg]]:
        """Sends a message and gives the future of its answer, with the token that names it.

        Raises:
            Unreachable: The connection is closed, or too much is waiting to be sent.
            Refused: The message is larger than the server takes.
        """
        self.check_size(subject, data, headers)
        token = str(next(self._tokens))
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._replies[token] = future
        try:
            await self._publish(subject, data, f"{self._inbox}.{token}", headers)
        except BaseException:
            del self._replies[token]
            raise
        return token, future

    def forget(self, token: str) -> None:
        """Stops waiting for an answer."""
        self._replies.pop(token, None)

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Sends a message without waiting for anything.

        Raises:
            Unreachable: The connection is closed, or too much is waiting to be sent.
            Refused: The message is larger than the server takes.
        """
        self.check_size(subject, data, headers)
        await self._publish(subject, data, "", headers)

    def post(self, subject: str, data: bytes, reply: str = "") -> None:
        """Sends a small message soon, from code that cannot wait. It may get lost with the connection."""
        self._posts.put_nowait((subject, data, reply))

    async def flush(self) -> None:
        """Waits until the server has seen everything that was sent.

        Raises:
            Unreachable: It has not within a few seconds.
        """
        await self._posts.join()
        try:
            await self._client.flush(timeout=int(self._settings.request_timeout) or 1)
        except (TimeoutError, nats.errors.Error) as error:
            raise Unreachable(f"NATS does not answer: {error}") from None

    async def subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Subscribes to a core subject, without limits on what is pending."""
        return await self._client.subscribe(subject, cb=callback, pending_msgs_limit=-1, pending_bytes_limit=-1)

    def new_inbox(self) -> str:
        """A subject of our own for answers."""
        return f"{self._inbox}-{next(self._tokens)}"

    def check_size(self, subject: str, data: bytes, headers: Mapping[str, str] | None) -> None:
        """Refuses what the server would answer by closing the connection.

        Raises:
            Refused: Headers and payload together are larger than the server takes.
        """
        size = len(data)
        if size + _MAX_HEADERS <= self.max_payload:
            return
        size += sum(len(name) + len(value.encode()) + 4 for name, value in (headers or {}).items()) + 12
        if size > self.max_payload:
            raise Refused(
                f"the message for {subject} takes {size} bytes, the server accepts {self.max_payload}",
                code="too_large",
                object=subject,
                cure="put the large part elsewhere and send a reference, or raise max_payload of the server",
            )

    async def _publish(self, subject: str, data: bytes, reply: str, headers: Mapping[str, str] | None) -> None:
        try:
            await self._client.publish(subject, data, reply, headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            raise Unreachable(
                f"{subject} could not be sent: {str(error) or type(error).__name__}", object=subject
            ) from error

    async def _reply(self, message: Msg) -> None:
        future = self._replies.pop(message.subject.rpartition(".")[2], None)
        if future and not future.done():
            future.set_result(message)

    async def _post(self) -> None:
        while True:
            subject, data, reply = await self._posts.get()
            try:
                await self._publish(subject, data, reply, None)
            except Unreachable as error:
                _log.debug("%s", error)
            finally:
                self._posts.task_done()

    async def _error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if "permissions violation" in text.lower():
            self._violation = text
            _log.error("NATS refuses: %s", text)
        elif text != self._last_error:
            _log.log(logging.WARNING if self._client.is_connected else logging.INFO, "NATS: %s", text)
        self._last_error = text

    async def _disconnected(self) -> None:
        if not self._client.is_closed:
            _log.warning("connection to NATS lost, reconnecting")

    async def _reconnected(self) -> None:
        _log.warning("connected to NATS again")
        # What was sent before the break may have been stored or lost: whoever waits asks again.
        lost, self._replies = self._replies, {}
        for future in lost.values():
            if not future.done():
                future.set_exception(
                    Unreachable("the connection to NATS was lost before the answer", code=CONNECTION_LOST)
                )
        for callback in list(self._on_reconnect):
            callback()

    async def _closed(self) -> None:
        self.reason = self._last_error
        self.closed.set()

    def _tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        if not (settings.tls_ca or settings.tls_cert):
            return None
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_cert:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
        return context


def without_password(url: str) -> str:
    """A server URL, or several, without the credentials in them."""
    return re.sub(r"//[^/@,]*@", "//", url)


async def connect(settings: NatsSettings, name: str) -> Connection:
    """Connects to NATS under a name that shows in its monitoring.

    Raises:
        Unreachable: No server answered in time, or it refused the credentials.
    """
    connection = Connection(settings, name)
    await connection.open()
    return connection
