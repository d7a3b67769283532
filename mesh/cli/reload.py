"""The loop of `mesh dev`."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import typer
from watchfiles import PythonFilter, awatch

from mesh.cli.processes import on_signal, spawn_run, terminate


async def run_and_reload(agents: Sequence[str], app_dir: Path, env: Mapping[str, str]) -> None:
    """Runs agents in a child process until SIGTERM or SIGINT; starts them again when a .py file changes.

    Args:
        agents: As for `mesh run`.
        app_dir: Folder to import from and to watch, with all below it.
        env: Environment of the child, in addition to ours.
    """
    stop = asyncio.Event()
    running = _Agents(partial(spawn_run, [*agents, "--app-dir", str(app_dir), "--traceback"], env))
    on_signal(stop.set, running.kill)
    await running.start()
    try:
        async for changes in awatch(
            app_dir, watch_filter=PythonFilter(), stop_event=stop, ignore_permission_denied=True
        ):
            files = ", ".join(sorted({Path(path).name for _, path in changes}))
            typer.secho(f"{files} changed, starting again", fg="cyan", err=True)
            await running.stop()
            await running.start()
    finally:
        await running.stop()


class _Agents:
    """The agents in a process of their own."""

    def __init__(self, spawn: Callable[[], Coroutine[Any, Any, Process]]) -> None:
        self._spawn = spawn
        self._child: Process | None = None
        self._report: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._child = await self._spawn()
        self._report = asyncio.create_task(self._say_when_ended(self._child))

    async def stop(self) -> None:
        if self._child and self._report:
            self._report.cancel()
            terminate(self._child)
            await self._child.wait()

    def kill(self) -> None:
        if self._child:
            with suppress(ProcessLookupError):
                self._child.kill()

    async def _say_when_ended(self, child: Process) -> None:
        code = await child.wait()
        typer.secho(f"the agents ended with code {code}; waiting for a change", fg="cyan", err=True)
