"""A delivery between its arrival and its settlement."""

import asyncio
from dataclasses import dataclass

from mesh.runtime.ports import Delivery


@dataclass(slots=True)
class Flight:
    """A delivery that a process works on.

    Attributes:
        delivery: The newest delivery of the message: the one to settle.
        seen_before: This process had the message before and lives, so the message did not kill it.
        started: Its handling has begun; before that, it is handed back at shutdown.
        settled: It was acknowledged or terminated.
        task: Works on it.
    """

    delivery: Delivery
    seen_before: bool = False
    started: bool = False
    settled: bool = False
    task: asyncio.Task[None] | None = None

    def ack(self) -> None:
        """Settles it as done."""
        self.settled = True
        self.delivery.ack()

    def term(self, reason: str) -> None:
        """Settles it as given up."""
        self.settled = True
        self.delivery.term(reason)
