"""The processes of `mesh run`: one that works, or several and one that keeps them alive."""

import asyncio
import logging
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

from mesh.agent.agent import Agent
from mesh.cli.exit_code import ExitCode
from mesh.cli.processes import on_signal, on_supervisor_death, spawn_run, terminate
from mesh.errors import UsageError
from mesh.health import health_server
from mesh.jetstream.connection import connect
from mesh.settings import Settings
from mesh.worker import Worker

_log = logging.getLogger("mesh.cli")

_FIRST_DELAY = 1.0
_LONGEST_DELAY = 30.0
_LONG_LIFE = 60.0


async def work(
    agents: Sequence[Agent[Any]], settings: Settings, health_port: int | None, *, supervised: bool = False
) -> None:
    """Runs agents in this process until SIGTERM or SIGINT.

    Args:
        agents: The agents.
        settings: Where and how.
        health_port: Port of the health endpoints, 0 for none. None: as the settings say, and none if it is in use.
        supervised: This process was spawned by `spawn_run`, and stops when its parent dies.

    Raises:
        UsageError: `health_port` is in use, or the agents cannot run together.
        Unreachable: NATS cannot be reached at the start, or closed the connection for good.
        Refused: Something that the agents need does not exist and may not, or cannot, be created.
    """
    worker = Worker(agents, settings)
    on_signal(worker.stop)
    if supervised:
        on_supervisor_death(worker.stop)
    async with AsyncExitStack() as stack:
        if port := settings.health_port if health_port is None else health_port:
            try:
                await stack.enter_async_context(health_server(worker, [agent.name for agent in agents], port))
            except UsageError as error:
                if health_port is not None:
                    raise
                _log.warning("%s", error)
        await worker.run()


async def supervise(arguments: Sequence[str], workers: int, settings: Settings, health_port: int | None) -> int:
    """Keeps several processes of `mesh run` alive until SIGTERM or SIGINT.

    Args:
        arguments: Agents and options of each.
        workers: How many.
        settings: Where and how.
        health_port: As for `work`, for the first of them; the others have the ports after it.

    Returns:
        The exit code: the worst of theirs.

    Raises:
        Unreachable: NATS cannot be reached at the start. Later, a process that ends for it is started again.
    """

    def spawn(number: int) -> Coroutine[Any, Any, Process]:
        def own(port: int) -> str:
            return str(port and port + number)

        options = [] if health_port is None else ["--health-port", own(health_port)]
        return spawn_run([*arguments, *options], {"MESH_HEALTH_PORT": own(settings.health_port)})

    await (await connect(settings.nats, "mesh run")).close()
    return await _Supervisor(workers, spawn).run()


class _Supervisor:
    """Keeps child processes alive: `spawn` starts the one with a number."""

    def __init__(self, count: int, spawn: Callable[[int], Coroutine[Any, Any, Process]]) -> None:
        self._count = count
        self._spawn = spawn
        self._children: dict[int, Process] = {}
        self._stop = asyncio.Event()

    async def run(self) -> int:
        on_signal(self._terminate, self._kill)
        return max(await asyncio.gather(*(self._keep(number) for number in range(self._count))))

    async def _keep(self, number: int) -> int:
        delay = _FIRST_DELAY
        while not self._stop.is_set():
            started = time.monotonic()
            child = self._children[number] = await self._spawn(number)
            if self._stop.is_set():
                terminate(child)
            code = await child.wait()
            if self._stop.is_set():
                # SIGTERM itself ends a process that is still importing.
                return ExitCode.OK if code == -signal.SIGTERM else abs(code)
            if code == ExitCode.USAGE:  # it has said why, and would say it again
                self._terminate()
                return code
            if time.monotonic() - started > _LONG_LIFE:
                delay = _FIRST_DELAY
            _log.error(
                "worker %d (pid %d) ended with code %d, starting it again in %g s", number, child.pid, code, delay
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)
            delay = min(2 * delay, _LONGEST_DELAY)
        return ExitCode.OK

    def _terminate(self) -> None:
        self._stop.set()
        for child in self._children.values():
            terminate(child)

    def _kill(self) -> None:
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.kill()
