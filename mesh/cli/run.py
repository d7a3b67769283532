"""`mesh run`: agents in production."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh.cli.loading import AgentsArgument, AppDirOption, load_agents, run_async, user_traceback
from mesh.errors import UsageError

if TYPE_CHECKING:
    from mesh.agent.agent import Agent
    from mesh.settings import Settings

_log = logging.getLogger("mesh.cli")


def run(
    agents: AgentsArgument,
    *,
    app_dir: AppDirOption = Path(),
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of /livez, /readyz and /startupz; 0: none. Of several processes, the first has this port, the"
            " second the next, and so on.  [default: MESH_HEALTH_PORT, which may be in use already]",
        ),
    ] = None,
    tracebacks: Annotated[bool, typer.Option("--traceback", help="Show where a module fails that is imported.")] = False,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Run agents until SIGTERM or Ctrl-C, which let running handlers finish; a second one ends them at once."""
    from mesh.settings import Settings

    settings = Settings.load()
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr
    )
    if workers > 1:
        from mesh.cli.workers import run_workers
        ...
    try:
        loaded = load_agents(agents, app_dir)
    except UsageError as error:
        if tracebacks and error.__cause__:
            typer.echo(user_traceback(error.__cause__), err=True, nl=False)
        raise
    run_async(_work(loaded, settings, health_port, supervised))
