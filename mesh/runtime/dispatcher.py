"""The flights of one durable consumer: admitted, extended while they last, drained at the end."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime

from mesh.runtime.flight import Flight
from mesh.runtime.ports import Delivery

_log = logging.getLogger("mesh.runtime")

_REMEMBERED = 10_000
"""Messages that a process remembers having had, per consumer."""

type _Place = tuple[int, datetime]
"""Sequence and time of a message: a stream that was deleted and made again counts from 1 again."""


class Dispatcher:
    """Starts a task for each delivery and knows what is in flight.

    Args:
        handle: Takes a flight to its settlement. Cancelling it hands the event back.
    """

    def __init__(self, handle: Callable[[Flight], Awaitable[None]]) -> None:
        self._handle = handle
        self._flights: dict[_Place, Flight] = {}
        self._remembered: OrderedDict[_Place, bool] = OrderedDict()

    @property
    def in_flight(self) -> int:
        """How many messages are delivered and not settled."""
        return len(self._flights)

    def deliver(self, delivery: Delivery, release: Callable[[], None]) -> None:
        """Starts the handling of a delivery.

        Args:
            delivery: The message.
            release: Called when the delivery no longer takes a slot.
        """
        place = (delivery.sequence, delivery.published)
        if flight := self._flights.get(place):
            flight.delivery = delivery
            release()
        elif self._remembered.get(place):
            delivery.ack()
            release()
        else:
            flight = self._flights[place] = Flight(delivery, seen_before=place in self._remembered)
            flight.task = asyncio.create_task(self._fly(place, flight, release))

    def extend(self) -> None:
        """Tells the server that everything in flight is still being worked on."""
        for flight in self._flights.values():
            flight.delivery.in_progress()

    async def drain(self, grace: float) -> None:
        """Hands back what has not started and lets the rest finish, for at most `grace` seconds.

        Deliveries must have ended before.
        """
        flights = list(self._flights.values())
        tasks = [flight.task for flight in flights if flight.task]
        if not tasks:
            return
        # A task that is cancelled before its first step never runs, so it could not hand its event back.
        await asyncio.wait(tasks, timeout=0)
        for flight in flights:
            if flight.task and not flight.started:
                flight.task.cancel()
        _, late = await asyncio.wait(tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fly(self, place: _Place, flight: Flight, release: Callable[[], None]) -> None:
        try:
            await self._handle(flight)
        except Exception:  # noqa: BLE001 - one broken handling must not end the others
            _log.exception("the handling of message %d in %s broke", place[0], flight.delivery.stream)
            flight.delivery.nak(1.0)
        finally:
            del self._flights[place]
            self._remembered[place] = flight.settled
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
            release()
