"""`ctx.claim`: one holder in the domain, renewed while it is needed, released by the commit."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from mesh.errors import Conflict, Retry, Unreachable, UsageError

_POLL = 0.1


class AlreadyClaimed(Retry):
    """Somebody else holds the claim. A handler that does not catch this is called again when the claim ends.

    Attributes:
        by: Name of the agent that holds it.
        until: When it ends unless it is renewed, by the clock of the holder.
    """

    def __init__(self, key: str, by: str, until: datetime) -> None:
        remaining = max((until - datetime.now(UTC)).total_seconds(), _POLL)
        super().__init__(f"{key} is claimed by agent {by} until {until.isoformat(timespec='seconds')}", after=remaining)
        self.object = key
        self.by = by
        self.until = until


class ClaimOrderError(UsageError):
    """Claims of one handling were asked for out of order; two handlings could wait for each other for ever."""


@dataclass(slots=True)
class Claim:
    """A claim that is held.

    Attributes:
        key: What is claimed.
        sequence: Sequence of its record; the commit holds only while it is current.
    """

    key: str
    sequence: int


class ClaimStore(Protocol):
    """Where claims are kept."""

    async def acquire(self, key: str, ttl: int) -> int:
        """Takes a claim for `ttl` seconds and returns the sequence of its record.

        Raises:
            AlreadyClaimed: Somebody else has it.
        """
        ...

    async def renew(self, key: str, sequence: int, ttl: int) -> int:
        """Extends a claim and returns the sequence of its new record.

        Raises:
            Conflict: It was lost.
        """
        ...


class Claims:
    """The claims of one run of a handler."""

    def __init__(self, store: ClaimStore) -> None:
        self._store = store
        self.held: list[Claim] = []

    @asynccontextmanager
    async def claim(self, keys: Sequence[str], ttl: float, wait: float) -> AsyncIterator[None]:
        """See `mesh.agent.context.Context.claim`."""
        seconds = round(ttl)
        if seconds < 1 or not keys:
            raise UsageError("a claim needs a key and a ttl of at least a second", object="claim", cure="pass both")
        taken = []
        for key in sorted(set(keys)):
            if self.held and key <= self.held[-1].key:
                raise ClaimOrderError(
                    f"{key} is claimed after {self.held[-1].key}",
                    code="claim_order",
                    object=key,
                    cure="claim them together, ctx.claim(a, b), or in sorted order",
                )
            taken.append(Claim(key, await self._acquire(key, seconds, time.monotonic() + wait)))
            self.held.append(taken[-1])
        leaving = asyncio.Event()
        renewal = asyncio.create_task(self._renew(taken, seconds, leaving))
        try:
            yield
        finally:
            # A renewal on its way is awaited: the commit must know its sequence.
            leaving.set()
            await renewal

    async def _acquire(self, key: str, ttl: int, deadline: float) -> int:
        while True:
            try:
                return await self._store.acquire(key, ttl)
            except AlreadyClaimed as error:
                if time.monotonic() + _POLL > deadline:
                    raise
                await asyncio.sleep(min(error.after, _POLL))

    async def _renew(self, claims: list[Claim], ttl: int, leaving: asyncio.Event) -> None:
        while not leaving.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(leaving.wait(), ttl / 3)
                return
            for claim in claims:
                # A claim that was lost fails the commit; there is nothing to do about it here.
                with suppress(Conflict, Unreachable):
                    claim.sequence = await self._store.renew(claim.key, claim.sequence, ttl)
