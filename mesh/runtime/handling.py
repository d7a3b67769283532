"""One event from delivery to settlement: admitted, executed, acknowledged – or tried again, or given up."""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from mesh.agent.agent import Agent
from mesh.agent.handler import Handler
from mesh.agent.settlement import GiveUp, settle
from mesh.contract import visits
from mesh.contract.namespace import Address
from mesh.errors import Conflict, MeshError
from mesh.runtime.dead_letter import dead_letter, legible, trace
from mesh.runtime.execution import Environment, Execution, persist
from mesh.runtime.flight import Flight
from mesh.runtime.incoming import Incoming, Router, Undeliverable, attributes, decode
from mesh.runtime.journal import Journal
from mesh.runtime.timer import fired, is_answered
from mesh.v1.log_pb2 import JournalEntry

_log = logging.getLogger("mesh.runtime")

MAX_VISITS = 8
"""How often one handler may see the same key in one causal chain; once more is taken for a loop."""
_UNKNOWN_DELAY = 1.0
_MAX_UNKNOWN_DELAY = 15.0
"""Seconds that an event waits for a version of the agent that handles it: at first, and at most."""


@dataclass(slots=True)
class Counters:
    """Totals of an agent in this process.

    Attributes:
        handled: Committed handlings.
        failed: Failed attempts.
        dead_lettered: Events given up.
    """

    handled: int = 0
    failed: int = 0
    dead_lettered: int = 0


class Handling:
    """Handles the events of one agent.

    Args:
        env: What all agents of the process share.
        agent: The agent.
        resources: What the agent's lifespan yielded.
        counters: Totals of the agent.
    """

    def __init__(self, env: Environment, agent: Agent[Any], resources: object, counters: Counters) -> None:
        self._env = env
        self._agent = agent
        self._counters = counters
        self._router = Router(env.namespace, agent.name, agent.handlers)
        self._execution = Execution(env, agent, resources)
        self._slots = {h.event: asyncio.Semaphore(h.concurrency) for h in agent.handlers}

    def close(self) -> None:
        """Lets go of the threads of synchronous handlers."""
        self._execution.close()

    async def handle(self, flight: Flight) -> None:
        """Takes a delivery to its settlement. Cancelling hands the event back to the agent's other replicas."""
        delivery = flight.delivery
        address = self._router.address(delivery.subject)
        if address is None:
            _log.warning("agent %s was sent %s, which it does not read", self._agent.name, delivery.subject)
            flight.term("this subject is not one that the agent reads")
            return
        journal = self._journal(flight)
        try:
            if address.kind == "due":
                flight.started = True
                await self._publish_due(flight)
                return
            handler = self._router.handler(address)
            if handler is None:
                await self._postpone(flight, journal, address)
                return
            await self._admit(flight, journal, address, handler)
        except asyncio.CancelledError:
            await self._hand_back(flight, journal, "shutdown")

    async def _admit(self, flight: Flight, journal: Journal, address: Address, handler: Handler) -> None:
        """Decodes an event and finds out whether it may run, and beside what."""
        delivery = flight.delivery
        try:
            incoming = decode(delivery, address, handler)
        except Undeliverable as error:
            await self._give_up(flight, journal, address, error.code, error)
            return
        if loop := self._loop(incoming):
            await self._give_up(flight, journal, address, loop.code, loop)
            return
        if delivery.delivered > 1:
            await persist(journal.load)
        suspect = journal.is_suspect(delivery.delivered) and not flight.seen_before
        if suspect and journal.died_alone() >= handler.max_attempts:
            killed = MeshError(
                f"the process of agent {self._agent.name} died {journal.died_alone()} times while it handled "
                f"{handler.event.full_name} {address.key} with nothing beside it",
                code="killed_process",
            )
            await self._give_up(flight, journal, address, killed.code, killed)
            return
        async with self._env.gate.alone() if suspect else self._env.gate.shared(), self._slots[handler.event]:
            flight.started = True
            if suspect and not await self._announce_alone(flight, journal):
                return
            await self._attempt(flight, journal, address, incoming)

    def _loop(self, incoming: Incoming) -> MeshError | None:
        """Why an event is taken for part of a loop; a human who redrives it knows better."""
        path, event = incoming.event.visits, incoming.handler.event
        visited = visits.place(self._agent.name, event.name, incoming.key)
        times = visits.count(path, visited)
        if times < MAX_VISITS or incoming.redo:
            return None
        return MeshError(
            f"agent {self._agent.name} has handled {event.label} {incoming.key} {times} times in this causal chain: "
            f"{' -> '.join(visits.cycle(path, visited))}",
            code="loop",
            object=visited,
        )

    async def _announce_alone(self, flight: Flight, journal: Journal) -> bool:
        """Writes down that the event runs alone; False when another process that has it was quicker."""
        alone = JournalEntry.Alone(process=f"{socket.gethostname()}/{os.getpid()}")
        try:
            await persist(partial(journal.append, JournalEntry(alone=alone, delivery=flight.delivery.delivered)))
        except Conflict:
            flight.delivery.nak(self._env.retry.base)
            return False
        return True

    async def _attempt(self, flight: Flight, journal: Journal, address: Address, incoming: Incoming) -> None:
        """One attempt of the handler, and its consequences."""
        handler, attempt = incoming.handler, journal.attempts + 1
        try:
            await self._execution.execute(flight.delivery, address, incoming, journal)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            settlement = settle(error, attempt=attempt, max_attempts=handler.max_attempts, policy=self._env.retry)
            if isinstance(settlement, GiveUp):
                self._counters.failed += 1
                await self._give_up(flight, journal, address, settlement.code, error)
                return
            self._counters.failed += settlement.counted
            level = logging.WARNING if settlement.counted else logging.INFO
            _log.log(
                level,
                "agent %s, %s %s, attempt %d: %s; again in %.1f s",
                *(self._agent.name, handler.event.label, address.key, attempt, _sentence(error), settlement.delay),
            )
            await self._record_failure(flight, journal, error, counted=settlement.counted)
            flight.delivery.nak(settlement.delay)
        else:
            flight.ack()
            self._counters.handled += 1
            with suppress(MeshError):
                await journal.purge()

    async def _publish_due(self, flight: Flight) -> None:
        """Publishes an output of this agent whose time has come."""
        due = fired(self._env.namespace, flight.delivery)
        if due is None:
            _log.error("%s is no output of a timer", flight.delivery.subject)
            flight.term("not an output of a timer")
            return
        if not await persist(partial(is_answered, self._env.log, due, flight.delivery)):
            await self._execution.publish_once(due.stream, due.write, again=flight.delivery.delivered > 1)
        flight.ack()

    async def _postpone(self, flight: Flight, journal: Journal, address: Address) -> None:
        """A newer version of the agent reads this event: leave it to that, or to a later version of this process."""
        _log.info("agent %s has no handler for %s.%s in this version", self._agent.name, address.domain, address.name)
        delay = min(_UNKNOWN_DELAY * 1.5 ** min(flight.delivery.delivered - 1, 20), _MAX_UNKNOWN_DELAY)
        await self._hand_back(flight, journal, "no handler in this version", delay)

    async def _hand_back(self, flight: Flight, journal: Journal, reason: str, delay: float = 0.0) -> None:
        entry = JournalEntry(hand_back=JournalEntry.HandBack(reason=reason), delivery=flight.delivery.delivered)
        with suppress(MeshError):
            await journal.append(entry)
        flight.delivery.nak(delay)

    async def _record_failure(self, flight: Flight, journal: Journal, error: Exception, *, counted: bool) -> None:
        failure = JournalEntry.Failure(
            error_type=type(error).__qualname__, reason=_sentence(error), traceback=trace(error), uncounted=not counted
        )
        entry = JournalEntry(failure=failure, delivery=flight.delivery.delivered)
        with suppress(Conflict):
            await persist(partial(journal.append, entry))

    async def _give_up(self, flight: Flight, journal: Journal, address: Address, code: str, error: Exception) -> None:
        """Keeps the event as a dead letter, then ends its deliveries."""
        counted = code not in ("undecodable", "invalid", "too_many_hops", "loop", "killed_process")
        write = dead_letter(
            self._env.namespace,
            self._agent.name,
            address,
            flight.delivery,
            attributes(flight.delivery),
            code=code,
            error=error,
            attempts=journal.attempts + counted,
            max_payload=self._env.log.max_payload,
        )
        await persist(partial(self._env.log.commit, flight.delivery.stream, [write]))
        self._counters.dead_lettered += 1
        _log.error("agent %s gave up %s %s: %s", self._agent.name, address.name, address.key, _sentence(error))
        flight.term(f"{code}: {_sentence(error)}"[:256])
        with suppress(MeshError):
            await journal.purge()

    def _journal(self, flight: Flight) -> Journal:
        event = attributes(flight.delivery)
        redo = flight.delivery.headers.get("mesh-redo")
        event_id = f"{event.id}/redo/{redo}" if redo else event.id
        is_new = flight.delivery.delivered == 1
        return Journal(self._env.log, self._env.namespace, self._agent.name, event_id, is_new=is_new)


def _sentence(error: BaseException) -> str:
    return legible(str(error) if isinstance(error, MeshError) else f"{type(error).__qualname__}: {error}")
