"""Signals, and `mesh run` as a child process."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from mesh.cli.exit_code import ExitCode


def on_signal(stop: Callable[[], object], kill: Callable[[], object] = lambda: None) -> None:
    """Calls `stop` on the first SIGTERM or SIGINT; the second one calls `kill` and ends this process with 130.

    `stop` is called in the event loop; the end comes even when a handler blocks the loop.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def receive(number: int, _: object) -> None:
        received.append(number)
        if len(received) > 1:
            kill()
            os._exit(ExitCode.INTERRUPTED)
        loop.call_soon_threadsafe(stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, receive)


def on_supervisor_death(stop: Callable[[], object]) -> None:
    """Calls `stop` when the process that spawned this one with `spawn_run` has died, however it died."""
    loop = asyncio.get_running_loop()

    def at_end_of_file() -> None:
        loop.remove_reader(sys.stdin)
        stop()

    loop.add_reader(sys.stdin, at_end_of_file)  # nobody writes there


async def spawn_run(arguments: Sequence[str], env: Mapping[str, str]) -> Process:
    """Starts `mesh run` in a process and session of its own: Ctrl-C is for the parent, which passes it on.

    Args:
        arguments: Agents and options.
        env: Variables in addition to those of this process.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh", "run", "--supervised", *arguments),
        stdin=asyncio.subprocess.PIPE,
        env=os.environ | env,
        start_new_session=True,
    )


def terminate(child: Process) -> None:
    """Asks a child to stop; does nothing when it has ended."""
    with suppress(ProcessLookupError):
        child.terminate()
