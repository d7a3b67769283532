"""Lets many handlings run side by side, or one that may kill its process run alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Shared by all agents of a process. Whoever asks to be alone goes before those who came later."""

    def __init__(self) -> None:
        self._running = 0
        self._alone_wanted = 0
        self._alone = False
        self._waiters: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Waits while anybody is alone or wants to be."""
        while self._alone_wanted:
            await self._change()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._wake()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Waits until nothing else runs; nothing starts before the block ends."""
        self._alone_wanted += 1
        try:
            while self._alone or self._running:
                await self._change()
            self._alone = True
            try:
                yield
            finally:
                self._alone = False
        finally:
            self._alone_wanted -= 1
            self._wake()

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
