"""Reads what a stream holds now, once and to its end."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from nats.aio.msg import Msg

from mesh.agent.deliver import Start
from mesh.contract.ids import new_id
from mesh.errors import MeshError, Unreachable
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection
from mesh.jetstream.delivery import PulledMessage
from mesh.runtime.ports import Stored

EVERYTHING: Final = Start("all")

_BATCH = 500
_MAX_BYTES = 16 << 20
_PATIENCE = 10.0
_FORGET_AFTER = 30 * 1_000_000_000
_NO_MESSAGES: Final = "404"
_FULL: Final = ("Message Size Exceeds MaxBytes", "Batch Completed")


@asynccontextmanager
async def scan(
    connection: Connection,
    stream: str,
    filters: Iterable[str],
    start: Start = EVERYTHING,
    *,
    after: int = 0,
    headers_only: bool = False,
) -> AsyncIterator[AsyncIterator[Stored]]:
    """The messages of a stream, in its order, up to the last one it held when this was entered.

    Args:
        connection: To the server.
        stream: Name of the stream.
        filters: Subjects to read; none of them may overlap.
        start: Where to start.
        after: Sequence to start behind; when given, `start` does not count.
        headers_only: Leave the payloads on the server; `data` is then empty.

    Raises:
        Refused: There is no such stream.
        Unreachable: JetStream does not answer, or stopped to answer in between.
    """
    name = f"scan-{new_id()}"
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(f"{inbox}.*", arrived.put)
    try:
        config = _config(name, filters, start, after) | {"headers_only": headers_only}
        body = {"stream_name": stream, "config": config, "action": "create"}
        made = await Api(connection).call(f"CONSUMER.CREATE.{stream}.{name}", body)
        yield _messages(connection, f"{stream}.{name}", inbox, arrived, made.get("num_pending", 0))
    finally:
        if connection.is_connected:
            with suppress(MeshError):  # the server forgets it by itself
                await subscription.unsubscribe()
                await Api(connection).call(f"CONSUMER.DELETE.{stream}.{name}")


def _config(name: str, filters: Iterable[str], start: Start, after: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": name,
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": _FORGET_AFTER,
        "filter_subjects": sorted(filters),
    }
    if after:
        return config | {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
    if start.time:
        config["opt_start_time"] = start.time.isoformat().replace("+00:00", "Z")
    return config | {"deliver_policy": start.policy}


async def _messages(
    connection: Connection, consumer: str, inbox: str, arrived: asyncio.Queue[Msg], left: int
) -> AsyncIterator[Stored]:
    if not left:
        return
    request = {"batch": _BATCH, "no_wait": True, "max_bytes": max(_MAX_BYTES, 2 * connection.max_payload)}
    for pull in itertools.count():
        connection.post(f"$JS.API.CONSUMER.MSG.NEXT.{consumer}", json.dumps(request).encode(), f"{inbox}.{pull}")
        room = _BATCH
        while room:
            message = await _next(arrived, consumer)
            if message.reply.startswith("$JS.ACK"):
                pulled = PulledMessage(connection, message)
                yield Stored(pulled.subject, pulled.data, pulled.headers, pulled.sequence, pulled.published)
                left = min(left - 1, pulled.pending)
                if not left:
                    return
                room -= 1
            elif message.subject == f"{inbox}.{pull}":  # an earlier pull may be reported completed late
                if not _is_full(message, consumer):
                    return
                break


async def _next(arrived: asyncio.Queue[Msg], consumer: str) -> Msg:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await arrived.get()
    except TimeoutError:
        raise Unreachable(f"the server stopped to answer while {consumer} was read", object=consumer) from None


def _is_full(message: Msg, consumer: str) -> bool:
    """Whether a pull ended because it holds what it may; otherwise the stream has no more messages."""
    headers = message.headers or {}
    status, description = headers.get("Status", ""), headers.get("Description", "")
    if status == _NO_MESSAGES:
        return False
    if description in _FULL:
        return True
    raise Unreachable(f"the server ended the reading: {status} {description}".rstrip(), object=consumer)
