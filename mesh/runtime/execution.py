"""From a decoded event to its commit: run the handler, write what it did, run it again when its reads went stale."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from mesh.agent.agent import Agent
from mesh.agent.claims import Claims
from mesh.agent.context import Context
from mesh.agent.decisions import Decisions
from mesh.agent.settlement import RetryPolicy
from mesh.agent.state import State
from mesh.agent.steps import Steps
from mesh.contract.event_type import Domain, EventType
from mesh.contract.namespace import Address, Namespace
from mesh.errors import Conflict, Retry, Unreachable
from mesh.runtime.claim_store import StreamClaims
from mesh.runtime.gate import Gate
from mesh.runtime.incoming import Incoming, decode
from mesh.runtime.journal import Journal
from mesh.runtime.ports import Delivery, Log, Tracing, Write
from mesh.runtime.proof import Proofs
from mesh.runtime.run import compose, run
from mesh.runtime.transaction import Transaction, build
from mesh.v1.decision_pb2 import Decision

_log = logging.getLogger("mesh.runtime")

_MAX_RUNS = 10
"""Runs of a handler in one attempt, while others keep changing what it reads."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What all agents of a process share.

    Attributes:
        namespace: Where the agents live.
        log: The streams.
        tracing: Makes spans.
        retry: How long failed events wait.
        gate: Lets suspects run alone.
    """

    namespace: Namespace
    log: Log
    tracing: Tracing
    retry: RetryPolicy
    gate: Gate


class Execution:
    """Runs the handlers of one agent.

    Args:
        env: What all agents of the process share.
        agent: The agent.
        resources: What the agent's lifespan yielded.
    """

    def __init__(self, env: Environment, agent: Agent[Any], resources: object) -> None:
        self._env = env
        self._agent = agent
        self._resources = resources
        self._proofs = Proofs(env.log, env.namespace, agent.name)
        self._threads = ThreadPoolExecutor(max(h.concurrency for h in agent.handlers), f"{agent.name}-handler")
        self._calls = {h.event: compose(h, agent.middlewares, self._threads) for h in agent.handlers}

    def close(self) -> None:
        """Lets go of the threads of synchronous handlers; one that is stuck ends with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def execute(self, delivery: Delivery, address: Address, incoming: Incoming, journal: Journal) -> None:
        """Runs the handler of an event until its commit meets no conflict. When this returns, it is committed.

        Raises:
            Retry: Others kept changing the state it reads.
            Exception: Whatever the handler raised; nothing was committed.
        """
        again = delivery.delivered > 1 or incoming.redo > 0
        # A redriven event was published before its present delivery, and so may its commit have been.
        start = 1 if incoming.redo else delivery.sequence
        for number in range(_MAX_RUNS):
            if (again or number) and await persist(partial(self._proofs.is_committed, incoming, start)):
                await self._forward_committed(incoming, start)
                return
            if number:
                incoming = decode(delivery, address, incoming.handler)
            try:
                await self._run(incoming, journal, start)
            except Conflict:
                await asyncio.sleep(random.uniform(0, 0.02))  # noqa: S311 - jitter, not a secret
            else:
                return
        raise Retry("others keep changing the state it depends on", after=random.uniform(0.1, 1.0))  # noqa: S311

    async def _run(self, incoming: Incoming, journal: Journal, start: int) -> None:
        handler, tracing = incoming.handler, self._env.tracing
        ctx = self._context(incoming, journal)
        with tracing.process(handler.event, incoming.event, self._agent.name, ctx.attempt), ExitStack() as spans:
            await run(self._calls[handler.event], handler, incoming.message, ctx)
            transaction = build(self._env.namespace, incoming, ctx, tracing, spans)
            await self._commit(incoming, transaction, start)

    async def _commit(self, incoming: Incoming, transaction: Transaction, start: int) -> None:
        if not transaction.writes:
            return
        log = self._env.log
        home = self._env.namespace.stream(incoming.handler.event.domain.name)
        committed = await persist(partial(log.commit, home, transaction.writes))
        if committed.duplicate:
            await self._forward_committed(incoming, start)
            return
        for forward in transaction.forwards:
            await self.publish_once(forward.stream, forward.write, again=False)

    async def _forward_committed(self, incoming: Incoming, start: int) -> None:
        """Sends on what an earlier run committed for other domains and did not forward."""
        for forward in await persist(partial(self._proofs.forwards, incoming, start)):
            await self.publish_once(forward.stream, forward.write, again=True)

    async def publish_once(self, stream: str, write: Write, *, again: bool) -> None:
        """Publishes an event that is committed already elsewhere in the log.

        Args:
            stream: Where to.
            write: The event.
            again: It may have been published before, longer ago than the server remembers.
        """
        if not (again and await persist(partial(self._proofs.is_published, stream, write))):
            await persist(partial(self._env.log.commit, stream, [write]))

    def _context(self, incoming: Incoming, journal: Journal) -> Context[Any]:
        handler, agent, event = incoming.handler, self._agent.name, incoming.event
        entity = f"{handler.event.entity_type}/{incoming.key}"
        return Context(
            agent=agent,
            handler=handler,
            event=event,
            key=incoming.key,
            attempt=journal.attempts + 1,
            deadline=datetime.now(UTC) + timedelta(seconds=handler.timeout),
            resources=self._resources,
            state=State(handler.event.domain, self._read_state),
            decisions=Decisions(agent, event, entity, partial(self._read_decisions, handler.event.domain)),
            claims=Claims(StreamClaims(self._env.log, self._env.namespace, handler.event.domain, agent, event.id)),
            steps=Steps(journal, f"{agent}/{event.source}/{event.id}"),
        )

    async def _read_state(self, kind: EventType, key: str) -> tuple[bytes | None, int]:
        stream, subject = self._env.namespace.stream(kind.domain.name), kind.subject(self._env.namespace, key)
        stored = await self._env.log.last(stream, subject)
        if stored is None:
            return None, 0
        return None if stored.is_deletion else stored.data, stored.sequence

    async def _read_decisions(self, domain: Domain, question: str, entity: str) -> tuple[list[Decision], int]:
        namespace = self._env.namespace
        subject = namespace.decision(domain.name, question, entity)
        stored = [message async for message in self._env.log.read(namespace.stream(domain.name), subject)]
        return [Decision.FromString(message.data) for message in stored], stored[-1].sequence if stored else 0


async def persist[T](operation: Callable[[], Awaitable[T]]) -> T:
    """Repeats an operation on the log until NATS answers."""
    delay = 0.1
    while True:
        try:
            return await operation()
        except Unreachable as error:
            _log.warning("%s; trying again", error)
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
            delay = min(delay * 2, 5.0)
