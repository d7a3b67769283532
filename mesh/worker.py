"""A process that runs agents: provision, pull, handle, drain."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from mesh.agent.agent import Agent
from mesh.agent.settlement import RetryPolicy
from mesh.contract.ids import new_id
from mesh.contract.namespace import Namespace
from mesh.errors import MeshError, Unreachable, UsageError
from mesh.jetstream.api import Api
from mesh.jetstream.connection import Connection, connect, without_password
from mesh.jetstream.log import JetStreamLog
from mesh.jetstream.presence import PresenceBoard
from mesh.jetstream.provision import Provisioner
from mesh.jetstream.pull import PullConsumer
from mesh.jetstream.registry import Registry
from mesh.jetstream.topology import durables, topology
from mesh.runtime.dispatcher import Dispatcher
from mesh.runtime.execution import Environment
from mesh.runtime.gate import Gate
from mesh.runtime.handling import Counters, Handling
from mesh.settings import Settings
from mesh.telemetry.setup import tracing
from mesh.v1.registry_pb2 import Presence

_log = logging.getLogger("mesh.worker")

_PRESENCE_INTERVAL = 10.0
_TIMER_CONCURRENCY = 32
"""Messages held by a durable that has no handler of its own and reads timers only."""


class Worker:
    """Runs agents in this process until it is told to stop.

    Args:
        agents: The agents. They share the connection and the event loop, and nothing else.
        settings: Where and how.

    Raises:
        UsageError: There is no agent, one has no handler, or two have the same name.
    """

    def __init__(self, agents: Sequence[Agent[Any]], settings: Settings) -> None:
        _check(agents)
        self._agents = agents
        self._settings = settings
        self._namespace = Namespace(settings.namespace)
        self._gate = Gate()
        self._stop = asyncio.Event()
        self._running: list[_RunningAgent] = []
        self._repair: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Connected, every consumer bound, and not stopping."""
        return self.is_started and not self._stop.is_set() and all(r.is_connected for r in self._running)

    @property
    def is_started(self) -> bool:
        """Every agent has begun to pull."""
        return len(self._running) == len(self._agents)

    def stop(self) -> None:
        """Asks the worker to drain and to return from `run`."""
        self._stop.set()

    async def run(self) -> None:
        """Runs the agents until `stop` is called.

        Raises:
            Unreachable: NATS cannot be reached at the start, or closed the connection for good.
            Refused: Something that the agents need does not exist and may not, or cannot, be created.
        """
        names = ", ".join(agent.name for agent in self._agents)
        connection = await connect(self._settings.nats, names)
        try:
            await self._provision(connection)
            async with AsyncExitStack() as stack:
                for agent in self._agents:
                    self._running.append(await stack.enter_async_context(self._agent(agent, connection)))
                _log.info("running %s", names)
                await self._wait(connection)
                await self._drain(0.0 if connection.closed.is_set() else self._settings.shutdown_grace)
        finally:
            await connection.close()
        if not self._stop.is_set():
            raise Unreachable(
                f"NATS closed the connection for good: {connection.reason}",
                object=without_password(self._settings.nats.url),
                cure="mend the cause and start again",
            )

    @asynccontextmanager
    async def _agent(self, agent: Agent[Any], connection: Connection) -> "AsyncIterator[_RunningAgent]":
        async with AsyncExitStack() as stack:
            resources = await stack.enter_async_context(agent.lifespan(agent)) if agent.lifespan else None
            env = Environment(
                namespace=self._namespace,
                log=JetStreamLog(connection, self._namespace),
                tracing=stack.enter_context(tracing(agent.name)),
                retry=RetryPolicy(self._settings.retry.base, self._settings.retry.maximum),
                gate=self._gate,
            )

            def missing() -> None:
                self._consumer_missing(connection)

            running = _RunningAgent(
                agent, env, resources=resources, connection=connection, settings=self._settings, missing=missing
            )
            await running.start()
            yield running

    async def _provision(self, connection: Connection) -> None:
        if self._settings.auto_provision:
            provisioner = Provisioner(Api(connection), self._settings.stream)
            await provisioner.widen(topology(self._namespace, self._settings.stream, self._agents))
        registry = Registry(connection, self._namespace)
        for agent in self._agents:
            await registry.register(agent)

    def _consumer_missing(self, connection: Connection) -> None:
        """A consumer, or its stream, is gone: bring it back, if that is ours to do."""
        if self._repair is None or self._repair.done():
            self._repair = asyncio.create_task(self._repair_topology(connection))

    async def _repair_topology(self, connection: Connection) -> None:
        _log.warning("a consumer of %s does not exist", ", ".join(agent.name for agent in self._agents))
        try:
            await self._provision(connection)
        except MeshError as error:
            _log.warning("%s", error)

    async def _wait(self, connection: Connection) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._stop, connection.closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _drain(self, grace: float) -> None:
        if self._repair:
            self._repair.cancel()
        _log.info("stopping: %d in flight", sum(running.in_flight for running in self._running))
        await asyncio.gather(*(running.stop(grace) for running in self._running))


class _RunningAgent:
    """One agent of the process with its consumers."""

    def __init__(
        self,
        agent: Agent[Any],
        env: Environment,
        *,
        resources: object,
        connection: Connection,
        settings: Settings,
        missing: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._counters = Counters()
        self._handling = Handling(env, agent, resources, self._counters)
        self._dispatchers: list[Dispatcher] = []
        self._pulls: list[PullConsumer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._board = PresenceBoard(connection, env.namespace)
        self._presence = Presence(
            agent=agent.name, instance=new_id(), version=agent.version, host=socket.gethostname(), pid=os.getpid()
        )
        self._presence.started.FromDatetime(datetime.now(UTC))
        for durable in durables(env.namespace, agent):
            dispatcher = Dispatcher(self._handling.handle)
            self._dispatchers.append(dispatcher)
            self._pulls.append(
                PullConsumer(
                    connection,
                    durable.stream,
                    durable.name,
                    dispatcher.deliver,
                    capacity=sum(handler.concurrency for handler in durable.handlers) or _TIMER_CONCURRENCY,
                    max_bytes=settings.max_inflight_bytes,
                    missing=missing,
                )
            )

    @property
    def is_connected(self) -> bool:
        """Whether NATS is there at this moment."""
        return self._connection.is_connected

    @property
    def in_flight(self) -> int:
        """How many messages are delivered and not settled."""
        return sum(dispatcher.in_flight for dispatcher in self._dispatchers)

    async def start(self) -> None:
        """Begins to pull and to show signs of life."""
        for pull in self._pulls:
            await pull.start()
        self._tasks = [
            asyncio.create_task(_repeat(self._settings.stream.ack_wait / 3, self._extend)),
            asyncio.create_task(_repeat(_PRESENCE_INTERVAL, self._announce)),
        ]

    async def stop(self, grace: float) -> None:
        """Stops to pull, lets handlers finish for `grace` seconds, hands the rest back."""
        for pull in self._pulls:
            with suppress(MeshError):
                await pull.stop()
        await asyncio.gather(*(dispatcher.drain(grace) for dispatcher in self._dispatchers))
        for task in self._tasks:
            task.cancel()
        self._handling.close()
        with suppress(MeshError):
            await self._board.withdraw(self._presence)

    async def _extend(self) -> None:
        for dispatcher in self._dispatchers:
            dispatcher.extend()

    async def _announce(self) -> None:
        self._presence.in_flight = self.in_flight
        self._presence.handled = self._counters.handled
        self._presence.failed = self._counters.failed
        self._presence.dead_lettered = self._counters.dead_lettered
        await self._board.announce(self._presence)


async def _repeat(interval: float, action: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await action()
        except MeshError as error:
            _log.debug("%s", error)
        await asyncio.sleep(interval)


def _check(agents: Sequence[Agent[Any]]) -> None:
    if not agents:
        raise UsageError("there is no agent to run", object="mesh run", cure="name one: mesh run module:agent")
    names = [agent.name for agent in agents]
    for agent in agents:
        if not agent.handlers:
            raise UsageError(
                f"agent {agent.name} has no handler",
                code="no_handler",
                object=agent.name,
                cure="decorate a function with @agent.on",
            )
        if names.count(agent.name) > 1:
            raise UsageError(
                f"two agents are called {agent.name}", code="agent_twice", object=agent.name, cure="rename one of them"
            )
