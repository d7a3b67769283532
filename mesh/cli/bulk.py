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


async def publish_all(
    mesh: "Mesh",
    kind: "EventType",
    rows: Iterator[Row | Rejected],
    totals: Totals,
    reject: Callable[[Rejected], None],
) -> None:
    """Publishes rows in their order, without waiting for one before sending the next.

    Args:
        mesh: Where to.
        kind: What the rows hold.
        rows: The rows; they are read in a thread, so a slow source holds up nothing.
        totals: Is kept up to date, so that it is right also when this raises.
        reject: Called for each row that does not fit.

    Raises:
        MeshError: The first error that is not the fault of a row; nothing more was sent after it.
    """
    slots = asyncio.Semaphore(_IN_FLIGHT)

    def count_rejected(row: Rejected) -> None:
        totals.rejected += 1
        reject(row)

    async def publish(row: Row) -> None:
        try:
            emitted = await mesh.publish(kind, row.message, id=row.id)
        except (ContractError, UsageError) as error:
            count_rejected(Rejected(row.line, str(error)))
        except Refused as error:
            if error.code != "too_large":
                raise
            count_rejected(Rejected(row.line, str(error)))
        else:
            totals.duplicates += emitted.duplicate
            totals.sent += not emitted.duplicate
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as tasks:
            async for row in _in_thread(rows):
                if isinstance(row, Rejected):
                    count_rejected(row)
                    continue
                await slots.acquire()
                tasks.create_task(publish(row))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


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
