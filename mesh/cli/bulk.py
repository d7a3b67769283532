"""Publishes many messages at once, as fast as they are acknowledged."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.cli.rows import Rejected, Row
from mesh.errors import ContractError, Refused, UsageError

if TYPE_CHECKING:
    from mesh.client import Mesh
    from mesh.contract.event_type import EventType

_IN_FLIGHT = 256
_AHEAD = 1024


@dataclass(slots=True)
class Totals:
    """What became of the rows.

    Attributes:
        sent: Stored, and acknowledged.
        duplicates: There already, under the same id.
        rejected: Rows that do not fit.
    """

    sent: int = 0
    duplicates: int = 0
    rejected: int = 0


class Publisher:
    """Publishes rows in their order, most of them without waiting for the one before.

    The order is kept as long as nothing has to be sent twice.

    Args:
        mesh: Where to.
        kind: What the rows hold.
        totals: Is kept up to date, so that it is right also when publishing fails.
        reject: Called for each row that does not fit.
    """

    def __init__(self, mesh: "Mesh", kind: "EventType", totals: Totals, reject: Callable[[Rejected], None]) -> None:
        self._mesh = mesh
        self._kind = kind
        self._totals = totals
        self._reject = reject
        self._slots = asyncio.Semaphore(_IN_FLIGHT)

    async def publish(self, rows: Iterator[Row | Rejected]) -> None:
        """Publishes all rows. They are read in a thread, so a slow source holds up nothing.

        Raises:
            MeshError: The first error that is not the fault of a row; nothing more was sent after it.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                async for row in _in_thread(rows):
                    await self._slots.acquire()
                    task = tasks.create_task(self._publish(row))
                    if not (self._totals.sent or self._totals.duplicates):
                        await task  # the first one creates the stream, and would be overtaken meanwhile
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _publish(self, row: Row | Rejected) -> None:
        try:
            if isinstance(row, Rejected):
                self._count_rejected(row)
            else:
                emitted = await self._mesh.publish(self._kind, row.message, id=row.id)
                self._totals.duplicates += emitted.duplicate
                self._totals.sent += not emitted.duplicate
        except (ContractError, UsageError, Refused) as error:
            if isinstance(error, Refused) and error.code != "too_large":
                raise
            self._count_rejected(Rejected(row.line, str(error)))
        finally:
            self._slots.release()

    def _count_rejected(self, row: Rejected) -> None:
        self._totals.rejected += 1
        self._reject(row)


async def _in_thread[T](items: Iterator[T]) -> AsyncIterator[T]:
    """Iterates in a thread that ends with the process, were it blocked for ever."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[T | Exception | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    def read() -> None:
        end: Exception | None = None
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            try:
                for item in items:
                    room.acquire()
                    loop.call_soon_threadsafe(arrived.put_nowait, item)
            except Exception as error:  # noqa: BLE001 - raised again where the items are awaited
                end = error
            loop.call_soon_threadsafe(arrived.put_nowait, end)

    threading.Thread(target=read, name="rows", daemon=True).start()
    while (item := await arrived.get()) is not None:
        if isinstance(item, Exception):
            raise item
        room.release()
        yield item
